/* Checkpoints: the same bytes after a resume, damage that is found, other runs that are refused, disks that are full. */
#include "survival.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

static void save_at(rig *self, int step, int64_t keep) {
    balora_trainer_information plan = BALORA_TRAINER_INFORMATION_INIT;
    expect_done(balora_trainer_describe(self->trainer, &plan));
    assert_true(step <= plan.total_steps);
    rig_step(self, step);
    expect_done(balora_trainer_save_checkpoint(self->trainer, self->checkpoints, keep));
}

/* Two lives with a checkpoint between them end as one life does. */
static void two_lives_equal_one(rig *self, const run_setting *setting) {
    size_t bytes;
    char *expected = undisturbed(self, setting, &bytes);
    rig_open(self, setting);
    save_at(self, 2, 2);
    rig_step(self, 1); /* lost */
    rig_close(self);
    rig_open(self, setting);
    balora_resume_information found = BALORA_RESUME_INFORMATION_INIT;
    expect_done(balora_trainer_resume(self->trainer, self->checkpoints, &found));
    assert_int_equal(found.step, 2);
    assert_int_equal(found.skipped_checkpoints, 0);
    assert_string_equal(found.skipped, "");
    assert_non_null(strstr(found.path, "step-00000002"));
    balora_step_metrics metrics = BALORA_STEP_METRICS_INIT;
    expect_done(balora_trainer_step(self->trainer, &metrics));
    assert_int_equal(metrics.step, 3);
    rig_step(self, STEPS - 3);
    assert_int_equal(balora_trainer_step(self->trainer, NULL), BALORA_DONE);
    expect_result(self, expected, bytes);
    free(expected);
    rig_close(self);
}

static void a_resumed_run_gives_the_same_bytes(void **state) {
    static const int32_t methods[] = {BALORA_METHOD_BA_LORA, BALORA_METHOD_LORA, BALORA_METHOD_FULL};
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        run_setting setting = default_setting(methods[i]);
        two_lives_equal_one(*state, &setting);
    }
}

static void so_does_every_optimizer(void **state) {
    static const int32_t kinds[] = {BALORA_OPTIMIZER_LION, BALORA_OPTIMIZER_ADAMW_8BIT};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        run_setting setting = default_setting(BALORA_METHOD_PISSA);
        setting.optimizer.optimizer = kinds[i];
        setting.optimizer.lora_plus_ratio = 4;
        two_lives_equal_one(*state, &setting);
    }
}

/* Even in the trainer that went on meanwhile. */
static void a_trainer_goes_back(void **state) {
    rig *self = *state;
    run_setting setting = default_setting(BALORA_METHOD_BA_LORA);
    size_t bytes;
    char *expected = undisturbed(self, &setting, &bytes);
    rig_open(self, &setting);
    save_at(self, 3, 2);
    rig_step(self, STEPS - 3);
    expect_done(balora_trainer_resume(self->trainer, self->checkpoints, NULL));
    rig_step(self, STEPS - 3);
    expect_result(self, expected, bytes);
    free(expected);
}

static void the_newest_stay(void **state) {
    rig *self = *state;
    run_setting setting = default_setting(BALORA_METHOD_LORA);
    rig_open(self, &setting);
    for (int i = 0; i < STEPS; i++)
        save_at(self, 1, i < 4 ? 3 : 2);
    assert_string_equal(names_in(self->checkpoints), "step-00000005 step-00000006");
    assert_string_equal(names_in(rig_path(self, "checkpoints/step-00000006")),
                        "adapter.safetensors manifest.json optimizer.safetensors trainer.json");
    expect_failure(balora_trainer_save_checkpoint(self->trainer, self->checkpoints, 1), BALORA_ERROR_ARGUMENT,
                   "keep is 1; expected at least 2");
    /* Again at the same step: in the place of the first. */
    expect_done(balora_trainer_save_checkpoint(self->trainer, self->checkpoints, 2));
    assert_string_equal(names_in(self->checkpoints), "step-00000005 step-00000006");
}

static void nothing_to_save_or_resume(void **state) {
    rig *self = *state;
    run_setting setting = default_setting(BALORA_METHOD_LORA);
    rig_open(self, &setting);
    expect_failure(balora_trainer_save_checkpoint(self->trainer, self->checkpoints, 2), BALORA_ERROR_STATE,
                   "no step is done yet");
    expect_failure(balora_trainer_resume(self->trainer, self->checkpoints, NULL), BALORA_ERROR_NOT_FOUND,
                   self->checkpoints);
    assert_int_equal(mkdir(self->checkpoints, 0777), 0);
    expect_failure(balora_trainer_resume(self->trainer, self->checkpoints, NULL), BALORA_ERROR_NOT_FOUND,
                   "holds no checkpoint");
    rig_step(self, 1);
}

/* --- damage --- */

typedef struct damage {
    const char *file;                         /* of the newest checkpoint */
    void (*apply)(char *text, size_t *bytes); /* to its contents; NULL: the file is removed */
    const char *told;                         /* a part of what is said of it */
} damage;

static void cut_half(char *text, size_t *bytes) {
    (void)text;
    *bytes /= 2;
}

static void cut_last(char *text, size_t *bytes) {
    (void)text;
    --*bytes;
}

static void cut_all(char *text, size_t *bytes) {
    (void)text;
    *bytes = 0;
}

static void flip_first(char *text, size_t *bytes) {
    (void)bytes;
    text[0] ^= 1;
}

static void flip_middle(char *text, size_t *bytes) {
    text[*bytes / 2] ^= 16;
}

static void flip_last(char *text, size_t *bytes) {
    text[*bytes - 1] ^= 4;
}

/* Put `to`, which is not longer, in the place of `from`. */
static void replace(char *text, const char *from, const char *to) {
    char *place = strstr(text, from);
    assert_non_null(place);
    assert_true(strlen(to) <= strlen(from));
    memset(place, ' ', strlen(from));
    memcpy(place, to, strlen(to));
}

static void other_format(char *text, size_t *bytes) {
    (void)bytes;
    replace(text, "\"libbalora checkpoint\"", "\"another checkpoint\"");
}

static void no_version(char *text, size_t *bytes) {
    (void)bytes;
    replace(text, "\"version\"", "\"visions\"");
}

static void text_version(char *text, size_t *bytes) {
    (void)bytes;
    replace(text, "\"version\": 1", "\"version\":[]");
}

static void other_step(char *text, size_t *bytes) {
    (void)bytes;
    replace(text, "\"step\": 4", "\"step\": 3");
}

static void other_file(char *text, size_t *bytes) {
    (void)bytes;
    replace(text, "\"trainer.json\"", "\"../../x.json\"");
}

static void no_files(char *text, size_t *bytes) {
    (void)bytes;
    replace(text, "\"files\"", "\"filed\"");
}

static void negative_bytes(char *text, size_t *bytes) {
    (void)bytes;
    replace(text, "\"bytes\": ", "\"bytes\":-");
}

static void wrong_checksum(char *text, size_t *bytes) {
    (void)bytes;
    char *place = strstr(text, "\"crc32\": \"") + 10;
    *place = *place == '0' ? '1' : '0';
}

static void no_checksum(char *text, size_t *bytes) {
    (void)bytes;
    char *place = strstr(text, "\"crc32\": \"") + 10;
    *place = 'x';
}

static void deep(char *text, size_t *bytes) {
    memset(text, '[', *bytes);
}

static const damage damages[] = {
    {"adapter.safetensors", NULL, "adapter.safetensors: cannot open"},
    {"adapter.safetensors", cut_half, "the manifest says"},
    {"adapter.safetensors", cut_last, "the manifest says"},
    {"adapter.safetensors", cut_all, "adapter.safetensors: 0 bytes"},
    {"adapter.safetensors", flip_first, "CRC-32"},
    {"adapter.safetensors", flip_middle, "CRC-32"},
    {"adapter.safetensors", flip_last, "adapter.safetensors: its CRC-32"},
    {"optimizer.safetensors", NULL, "optimizer.safetensors: cannot open"},
    {"optimizer.safetensors", cut_half, "the manifest says"},
    {"optimizer.safetensors", cut_all, "optimizer.safetensors: 0 bytes"},
    {"optimizer.safetensors", flip_first, "CRC-32"},
    {"optimizer.safetensors", flip_middle, "CRC-32"},
    {"optimizer.safetensors", flip_last, "optimizer.safetensors: its CRC-32"},
    {"trainer.json", NULL, "trainer.json: cannot open"},
    {"trainer.json", cut_half, "trainer.json: "},
    {"trainer.json", cut_all, "trainer.json: 0 bytes"},
    {"trainer.json", flip_middle, "trainer.json: its CRC-32"},
    {"manifest.json", NULL, "manifest.json: cannot open"},
    {"manifest.json", cut_half, "not valid JSON"},
    {"manifest.json", cut_all, "not valid JSON"},
    {"manifest.json", flip_first, "not valid JSON"},
    {"manifest.json", deep, "nested deeper"},
    {"manifest.json", other_format, "\"format\" is \"another checkpoint\""},
    {"manifest.json", no_version, "\"version\" is missing"},
    {"manifest.json", text_version, "\"version\": expected an integer"},
    {"manifest.json", other_step, "\"step\" is 3; its folder is of step 4"},
    {"manifest.json", other_file, "\"trainer.json\" is missing"},
    {"manifest.json", no_files, "\"files\": expected an object of 3 files"},
    {"manifest.json", negative_bytes, "\"bytes\" is -"},
    {"manifest.json", wrong_checksum, "the manifest says"},
    {"manifest.json", no_checksum, "expected 8 hexadecimal digits"},
};
enum { DAMAGES = sizeof damages / sizeof damages[0] };

/* The contents as they were; free. */
static char *do_damage(const char *path, const damage *one, size_t *bytes) {
    char *kept = read_file(path, bytes), *text = calloc(*bytes + 1, 1);
    size_t changed = *bytes;
    assert_non_null(text);
    memcpy(text, kept, *bytes);
    if (one->apply != NULL) {
        one->apply(text, &changed);
        write_file(path, text, changed);
    } else
        assert_int_equal(unlink(path), 0);
    free(text);
    return kept;
}

static void a_damaged_one_is_skipped_and_told(void **state) {
    rig *self = *state;
    run_setting setting = default_setting(BALORA_METHOD_BA_LORA);
    size_t bytes, kept_bytes;
    rig_open(self, &setting);
    save_at(self, 2, 2);
    save_at(self, 2, 2);
    char *expected = rig_result(self, &bytes);
    expect_done(balora_trainer_resume(self->trainer, self->checkpoints, NULL));
    expect_result(self, expected, bytes);
    for (size_t i = 0; i < DAMAGES; i++) {
        char path[256];
        snprintf(path, sizeof path, "%s/step-00000004/%s", self->checkpoints, damages[i].file);
        char *kept = do_damage(path, &damages[i], &kept_bytes);
        balora_resume_information found = BALORA_RESUME_INFORMATION_INIT;
        self->messages[0] = '\0';
        expect_done(balora_trainer_resume(self->trainer, self->checkpoints, &found));
        if (found.step != 2 || found.skipped_checkpoints != 1 ||
            strstr(found.skipped, damages[i].told) == NULL ||
            strstr(found.skipped, "step-00000004") == NULL || strstr(self->messages, damages[i].told) == NULL)
            fail_msg("%zu, %s: step %lld, \"%s\", expected \"%s\"", i, damages[i].file, (long long)found.step,
                     found.skipped, damages[i].told);
        rig_step(self, 2);
        expect_result(self, expected, bytes);
        write_file(path, kept, kept_bytes);
        free(kept);
    }
    free(expected);
}

/* None is whole: the trainer stays as it was. */
static void nothing_whole_is_no_start(void **state) {
    rig *self = *state;
    run_setting setting = default_setting(BALORA_METHOD_BA_LORA);
    size_t bytes, kept_bytes;
    char *expected = undisturbed(self, &setting, &bytes);
    rig_open(self, &setting);
    save_at(self, 1, 2);
    save_at(self, 1, 2);
    free(do_damage(rig_path(self, "checkpoints/step-00000001/trainer.json"), &damages[13], &kept_bytes));
    free(do_damage(rig_path(self, "checkpoints/step-00000002/trainer.json"), &damages[13], &kept_bytes));
    expect_failure(balora_trainer_resume(self->trainer, self->checkpoints, NULL), BALORA_ERROR_FORMAT,
                   "none of its 2 checkpoints is whole");
    balora_run_options run = BALORA_RUN_OPTIONS_INIT;
    run.checkpoint_folder = self->checkpoints;
    run.resume = 1;
    expect_failure(balora_trainer_run(self->trainer, &run, NULL), BALORA_ERROR_FORMAT,
                   "step-00000002/trainer.json");
    rig_step(self, STEPS - 2);
    expect_result(self, expected, bytes);
    free(expected);
}

static void a_later_form_is_refused(void **state) {
    rig *self = *state;
    run_setting setting = default_setting(BALORA_METHOD_LORA);
    size_t bytes;
    rig_open(self, &setting);
    save_at(self, 1, 2);
    save_at(self, 1, 2);
    const char *path = rig_path(self, "checkpoints/step-00000002/manifest.json");
    char *text = read_file(path, &bytes);
    replace(text, "\"version\": 1", "\"version\": 2");
    write_file(path, text, bytes);
    free(text);
    expect_failure(balora_trainer_resume(self->trainer, self->checkpoints, NULL), BALORA_ERROR_UNSUPPORTED,
                   "\"version\" is 2; this library reads 1");
}

static void what_a_dead_process_left_goes(void **state) {
    rig *self = *state;
    run_setting setting = default_setting(BALORA_METHOD_LORA);
    rig_open(self, &setting);
    save_at(self, 1, 2);
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    char dead[128], alive[128], file[160];
    snprintf(dead, sizeof dead, "%s/step-00000009.tmp-%ld", self->checkpoints, (long)child);
    snprintf(alive, sizeof alive, "%s/step-00000009.tmp-%ld", self->checkpoints, (long)getppid());
    snprintf(file, sizeof file, "%s/adapter.safetensors.tmp-%ld", dead, (long)child);
    assert_int_equal(mkdir(dead, 0777), 0);
    assert_int_equal(mkdir(alive, 0777), 0);
    write_file(file, "half", 4);
    write_file(rig_path(self, "checkpoints/step-x"), "", 0);
    expect_done(balora_trainer_resume(self->trainer, self->checkpoints, NULL));
    assert_int_equal(access(dead, F_OK), -1);
    assert_int_equal(access(alive, F_OK), 0);
    assert_int_equal(access(rig_path(self, "checkpoints/step-x"), F_OK), 0);
    /* Of a result as well, when it is written again. */
    size_t bytes;
    free(rig_result(self, &bytes));
    snprintf(file, sizeof file, "%s/result/adapter_model.safetensors.tmp-%ld", self->folder, (long)child);
    write_file(file, "half", 4);
    free(rig_result(self, &bytes));
    assert_string_equal(names_in(rig_path(self, "result")), "adapter_config.json adapter_model.safetensors");
}

/* --- another run --- */

typedef struct change {
    const char *told;
    void (*apply)(run_setting *setting);
} change;

static void other_rate(run_setting *setting) {
    setting->train.learning_rate = 2e-3;
}

static void other_seed(run_setting *setting) {
    setting->train.seed = 7;
}

static void other_length(run_setting *setting) {
    setting->train.max_steps = STEPS + 2;
}

static void other_batch(run_setting *setting) {
    setting->train.batch_size = 3;
}

static void other_temperature(run_setting *setting) {
    setting->regularizer.temperature = 3;
}

static void other_decay(run_setting *setting) {
    setting->optimizer.weight_decay = 0.1;
}

static void other_groups(run_setting *setting) {
    setting->optimizer.parameter_groups = "q_proj=0.5";
}

static void other_alpha(run_setting *setting) {
    setting->adapter.alpha = 8;
}

static void other_layers(run_setting *setting) {
    setting->adapter.target_modules = "q_proj";
}

static void other_method(run_setting *setting) {
    setting->adapter.method = BALORA_METHOD_PISSA;
}

static const change changes[] = {
    {"train.learning_rate was 0.001, is now 0.002", other_rate},
    {"train.seed was 0, is now 7", other_seed},
    {"train.steps was 6, is now 8", other_length},
    {"train.batch_size was 2, is now 3", other_batch},
    {"regularizer.temperature was 2, is now 3", other_temperature},
    {"optimizer.weight_decay was 0, is now 0.1", other_decay},
    {"optimizer.groups was ", other_groups},
    {"adapter.alpha was 16, is now 8", other_alpha},
    {"adapter.layers was 14, is now 2", other_layers},
    {"adapter.method was ba-lora, is now pissa", other_method},
};

static void another_run_is_refused_by_name(void **state) {
    rig *self = *state;
    run_setting first = default_setting(BALORA_METHOD_BA_LORA);
    rig_open(self, &first);
    save_at(self, 2, 2);
    rig_close(self);
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        run_setting other = first;
        changes[i].apply(&other);
        rig_open(self, &other);
        expect_failure(balora_trainer_resume(self->trainer, self->checkpoints, NULL), BALORA_ERROR_MISMATCH,
                       changes[i].told);
        rig_step(self, 1);
        rig_close(self);
    }
    /* What does not change a step may change. */
    first.train.max_skipped_steps = 3;
    rig_open(self, &first);
    expect_done(balora_trainer_resume(self->trainer, self->checkpoints, NULL));
}

static void other_data_are_refused(void **state) {
    rig *self = *state;
    static const int32_t tokens[] = {3, 5, 7, 9, 11, 4, 6, 8}, others[] = {3, 5, 7, 9, 11, 4, 6, 2};
    static const int64_t offsets[] = {0, 5, 8};
    run_setting setting = default_setting(BALORA_METHOD_LORA);
    rig_open_model(self);
    expect_done(balora_data_from_tokens(&self->data, self->model, tokens, NULL, offsets, 2));
    rig_open_trainer(self, &setting);
    save_at(self, 1, 2);
    rig_close(self);
    rig_open_model(self);
    expect_done(balora_data_from_tokens(&self->data, self->model, others, NULL, offsets, 2));
    rig_open_trainer(self, &setting);
    expect_failure(balora_trainer_resume(self->trainer, self->checkpoints, NULL), BALORA_ERROR_MISMATCH,
                   "data.contents was ");
}

/* Where no schedule looks at the end, a longer run begins as a shorter one does. */
static void a_constant_run_may_grow(void **state) {
    rig *self = *state;
    size_t bytes;
    run_setting setting = default_setting(BALORA_METHOD_BA_LORA);
    setting.train.lr_schedule = BALORA_LR_CONSTANT;
    setting.regularizer.consistency_schedule = BALORA_CONSISTENCY_CONSTANT;
    setting.regularizer.focus_schedule = BALORA_FOCUS_CONSTANT;
    char *expected = undisturbed(self, &setting, &bytes);
    setting.train.max_steps = 2;
    rig_open(self, &setting);
    save_at(self, 2, 2);
    rig_close(self);
    setting.train.max_steps = STEPS;
    rig_open(self, &setting);
    expect_done(balora_trainer_resume(self->trainer, self->checkpoints, NULL));
    rig_step(self, STEPS - 2);
    expect_result(self, expected, bytes);
    rig_close(self);
    setting.train.max_steps = 1;
    rig_open(self, &setting);
    expect_failure(balora_trainer_resume(self->trainer, self->checkpoints, NULL), BALORA_ERROR_MISMATCH,
                   "2 steps are done; this run has only 1");
    free(expected);
}

static void other_threads_are_a_warning(void **state) {
    rig *self = *state;
    run_setting setting = default_setting(BALORA_METHOD_LORA);
    balora_context_options options = BALORA_CONTEXT_OPTIONS_INIT;
    rig_open(self, &setting);
    save_at(self, 1, 2);
    rig_close(self);
    options.threads = 2;
    options.log = keep_message;
    options.log_user = self;
    expect_done(balora_context_create(&self->context, &options));
    expect_done(balora_model_open(&self->model, self->context, fixture("llama/model"), NULL));
    expect_done(balora_data_open(&self->data, self->model, fixture("llama/data.safetensors"), NULL));
    rig_open_trainer(self, &setting);
    expect_done(balora_trainer_resume(self->trainer, self->checkpoints, NULL));
    assert_non_null(strstr(self->messages, "threads was 1, is now 2"));
}

/* --- no room --- */

/* A file of this process may not be longer than so many bytes, as on a full disk. */
static void limit_files(rlim_t bytes) {
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void a_full_disk_costs_nothing(void **state) {
    rig *self = *state;
    run_setting setting = default_setting(BALORA_METHOD_BA_LORA);
    size_t bytes;
    char *expected = undisturbed(self, &setting, &bytes);
    signal(SIGXFSZ, SIG_IGN);
    rig_open(self, &setting);
    save_at(self, 1, 2);
    rig_step(self, 1);
    /* In the header, in the adapter's arrays, and in the optimizer's, whose file is a few bytes longer. */
    static const rlim_t limits[] = {0, 100, 20000, 46268};
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        limit_files(limits[i]);
        balora_status found = balora_trainer_save_checkpoint(self->trainer, self->checkpoints, 2);
        limit_files(RLIM_INFINITY);
        expect_failure(found, BALORA_ERROR_IO, "File too large");
        assert_string_equal(names_in(self->checkpoints), "step-00000001");
    }
    expect_done(balora_trainer_save_checkpoint(self->trainer, self->checkpoints, 2));
    assert_string_equal(names_in(self->checkpoints), "step-00000001 step-00000002");
    rig_step(self, STEPS - 2);
    expect_result(self, expected, bytes);
    free(expected);
}

static void folders_that_cannot_be_written(void **state) {
    rig *self = *state;
    run_setting setting = default_setting(BALORA_METHOD_LORA);
    rig_open(self, &setting);
    rig_step(self, 1);
    write_file(rig_path(self, "file"), "x", 1);
    expect_failure(balora_trainer_save_checkpoint(self->trainer, rig_path(self, "file"), 2), BALORA_ERROR_IO,
                   "/file: expected a folder");
    expect_failure(balora_trainer_save_checkpoint(self->trainer, rig_path(self, "file/below"), 2),
                   BALORA_ERROR_IO, "file/below: cannot make the folder");
    expect_done(balora_trainer_save_checkpoint(self->trainer, rig_path(self, "new/below"), 2));
}

static void a_cancelled_context_saves_nothing(void **state) {
    rig *self = *state;
    run_setting setting = default_setting(BALORA_METHOD_LORA);
    rig_open(self, &setting);
    save_at(self, 1, 2);
    rig_step(self, 1);
    balora_context_cancel(self->context);
    expect_failure(balora_trainer_save_checkpoint(self->trainer, self->checkpoints, 2),
                   BALORA_ERROR_CANCELLED, "");
    expect_failure(balora_trainer_resume(self->trainer, self->checkpoints, NULL), BALORA_ERROR_CANCELLED, "");
    assert_string_equal(names_in(self->checkpoints), "step-00000001");
    balora_context_resume(self->context);
    expect_done(balora_trainer_save_checkpoint(self->trainer, self->checkpoints, 2));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        RIG_TEST(a_resumed_run_gives_the_same_bytes),
        RIG_TEST(so_does_every_optimizer),
        RIG_TEST(a_trainer_goes_back),
        RIG_TEST(the_newest_stay),
        RIG_TEST(nothing_to_save_or_resume),
        RIG_TEST(a_damaged_one_is_skipped_and_told),
        RIG_TEST(nothing_whole_is_no_start),
        RIG_TEST(a_later_form_is_refused),
        RIG_TEST(what_a_dead_process_left_goes),
        RIG_TEST(another_run_is_refused_by_name),
        RIG_TEST(other_data_are_refused),
        RIG_TEST(a_constant_run_may_grow),
        RIG_TEST(other_threads_are_a_warning),
        RIG_TEST(a_full_disk_costs_nothing),
        RIG_TEST(folders_that_cannot_be_written),
        RIG_TEST(a_cancelled_context_saves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
