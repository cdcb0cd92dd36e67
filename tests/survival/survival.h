/* For tests of runs that survive: the handles of a small run, its result as bytes, folders of its own. */
#ifndef TESTS_SURVIVAL_H
#define TESTS_SURVIVAL_H

#include "../api/api.h"

#include <dirent.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STEPS = 6, MESSAGES = 4096 };

typedef struct run_setting {
    balora_adapter_options adapter;
    balora_regularizer_options regularizer;
    balora_optimizer_options optimizer;
    balora_train_options train;
} run_setting;

/* A run, and what it says. */
typedef struct rig {
    char folder[32];         /* of this test, below the working directory */
    char checkpoints[64];    /* in it */
    char messages[MESSAGES]; /* of the log, a line each */
    int stop_at_message;     /* the log callback stops at this one, from 1; 0: never */
    int message_count;
    balora_context *context;
    balora_model *model;
    balora_data *data;
    balora_adapter *adapter;
    balora_regularizers *regularizers;
    balora_optimizer *optimizer;
    balora_trainer *trainer;
} rig;

static inline run_setting default_setting(int32_t method) {
    run_setting self = {BALORA_ADAPTER_OPTIONS_INIT, BALORA_REGULARIZER_OPTIONS_INIT,
                        BALORA_OPTIMIZER_OPTIONS_INIT, BALORA_TRAIN_OPTIONS_INIT};
    self.adapter.method = method;
    self.adapter.rank = 4;
    self.train.max_steps = STEPS;
    self.train.batch_size = 2;
    self.train.learning_rate = 1e-3;
    return self;
}

static int keep_message(int32_t level, const char *message, void *user) {
    rig *self = user;
    size_t used = strlen(self->messages);
    snprintf(self->messages + used, sizeof self->messages - used, "%d %s\n", level, message);
    return ++self->message_count == self->stop_at_message;
}

static inline int rig_setup(void **state) {
    rig *self = calloc(1, sizeof *self);
    if (self == NULL)
        return -1;
    strcpy(self->folder, "survival-XXXXXX");
    if (mkdtemp(self->folder) == NULL)
        return -1;
    snprintf(self->checkpoints, sizeof self->checkpoints, "%s/checkpoints", self->folder);
    *state = self;
    return 0;
}

/* Free what a life of the run had; the folder stays. */
static inline void rig_close(rig *self) {
    balora_trainer_free(self->trainer);
    balora_optimizer_free(self->optimizer);
    balora_regularizers_free(self->regularizers);
    balora_adapter_free(self->adapter);
    balora_data_free(self->data);
    balora_model_free(self->model);
    balora_context_free(self->context);
    self->trainer = NULL;
    self->optimizer = NULL;
    self->regularizers = NULL;
    self->adapter = NULL;
    self->data = NULL;
    self->model = NULL;
    self->context = NULL;
}

static inline int rig_teardown(void **state) {
    rig *self = *state;
    char words[64];
    rig_close(self);
    snprintf(words, sizeof words, "rm -r %s", self->folder);
    int failed = system(words);
    free(self);
    return failed;
}

#define RIG_TEST(function) cmocka_unit_test_setup_teardown(function, rig_setup, rig_teardown)

/* Context, model and data; `tokens` NULL: the fixture's. */
static inline void rig_open_model(rig *self) {
    balora_context_options options = BALORA_CONTEXT_OPTIONS_INIT;
    options.threads = 1;
    options.log = keep_message;
    options.log_user = self;
    self->messages[0] = '\0';
    self->message_count = 0;
    expect_done(balora_context_create(&self->context, &options));
    expect_done(balora_model_open(&self->model, self->context, fixture("llama/model"), NULL));
}

static inline void rig_open_trainer(rig *self, const run_setting *setting) {
    balora_train_options train = setting->train;
    expect_done(balora_adapter_create(&self->adapter, self->model, &setting->adapter));
    expect_done(balora_regularizers_create(&self->regularizers, self->context, &setting->regularizer));
    expect_done(balora_optimizer_create(&self->optimizer, self->adapter, &setting->optimizer));
    train.regularizers = self->regularizers;
    train.optimizer = self->optimizer;
    expect_done(balora_trainer_create(&self->trainer, self->adapter, self->data, &train));
}

static inline void rig_open(rig *self, const run_setting *setting) {
    rig_open_model(self);
    expect_done(balora_data_open(&self->data, self->model, fixture("llama/data.safetensors"), NULL));
    rig_open_trainer(self, setting);
}

static inline void rig_step(rig *self, int count) {
    for (int i = 0; i < count; i++)
        expect_done(balora_trainer_step(self->trainer, NULL));
}

static inline const char *rig_path(const rig *self, const char *name) {
    static char paths[4][256];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", self->folder, name);
    return path;
}

/* A whole file, with a NUL behind it; free. */
static inline char *read_file(const char *path, size_t *bytes) {
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        fail_msg("%s cannot be opened", path);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    *bytes = (size_t)ftell(file);
    rewind(file);
    char *text = calloc(*bytes + 1, 1);
    assert_non_null(text);
    assert_int_equal(fread(text, 1, *bytes, file), *bytes);
    fclose(file);
    return text;
}

static inline void write_file(const char *path, const char *text, size_t bytes) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}

/* What was trained, as bytes; free. */
static inline char *rig_result(const rig *self, size_t *bytes) {
    balora_adapter_information adapter = BALORA_ADAPTER_INFORMATION_INIT;
    const char *folder = rig_path(self, "result");
    expect_done(balora_adapter_describe(self->adapter, &adapter));
    if (adapter.method == BALORA_METHOD_FULL) {
        expect_done(balora_adapter_merge(self->adapter, folder));
        return read_file(rig_path(self, "result/model.safetensors"), bytes);
    }
    expect_done(balora_adapter_save(self->adapter, folder, NULL));
    return read_file(rig_path(self, "result/adapter_model.safetensors"), bytes);
}

/* The result of a run that nothing disturbs; free. */
static inline char *undisturbed(rig *self, const run_setting *setting, size_t *bytes) {
    rig_open(self, setting);
    while (balora_trainer_step(self->trainer, NULL) == BALORA_OK)
        continue;
    char *result = rig_result(self, bytes);
    rig_close(self);
    return result;
}

static inline void expect_result(const rig *self, const char *expected, size_t bytes) {
    size_t found_bytes;
    char *found = rig_result(self, &found_bytes);
    assert_int_equal(found_bytes, bytes);
    assert_memory_equal(found, expected, bytes);
    free(found);
}

/* Names in the checkpoints' folder, sorted, with blanks between; static. */
static inline const char *names_in(const char *path) {
    static char text[1024];
    struct dirent **names;
    int count = scandir(path, &names, NULL, alphasort);
    text[0] = '\0';
    for (int i = 0; i < count; i++) {
        size_t used = strlen(text);
        if (names[i]->d_name[0] != '.')
            snprintf(text + used, sizeof text - used, "%s%s", used > 0 ? " " : "", names[i]->d_name);
        free(names[i]);
    }
    if (count >= 0)
        free(names);
    return text;
}

#endif
