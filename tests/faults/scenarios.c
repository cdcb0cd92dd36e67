#include "scenarios.h"

#include "inject.h"

static balora_status open_model(stage *self) {
    balora_model *model;
    balora_status status = balora_model_open(&model, self->context, scratch_path(self->files, "model"), NULL);
    balora_model_free(model);
    return status;
}

static balora_status open_shards(stage *self) {
    balora_model *model;
    balora_status status =
        balora_model_open(&model, self->context, scratch_path(self->files, "shards"), NULL);
    balora_model_free(model);
    return status;
}

static balora_status open_tokenizer(stage *self) {
    balora_tokenizer *tokenizer;
    balora_status status =
        balora_tokenizer_open(&tokenizer, self->context, scratch_path(self->files, "model"));
    balora_tokenizer_free(tokenizer);
    return status;
}

static balora_status open_data(stage *self, const char *name) {
    balora_data *data;
    balora_status status = balora_data_open(&data, self->model, scratch_path(self->files, name), NULL);
    balora_data_free(data);
    return status;
}

static balora_status open_rows(stage *self) {
    return open_data(self, "rows.jsonl");
}

static balora_status open_tokens(stage *self) {
    return open_data(self, "tokens.safetensors");
}

static balora_status open_adapter(stage *self) {
    balora_adapter *adapter;
    balora_status status = balora_adapter_open(&adapter, self->model, scratch_path(self->files, "adapter"));
    balora_adapter_free(adapter);
    return status;
}

static balora_status create_adapter(stage *self, int32_t method) {
    balora_adapter_options options = BALORA_ADAPTER_OPTIONS_INIT;
    balora_adapter *adapter;
    options.method = method;
    options.rank = 1;
    balora_status status = balora_adapter_create(&adapter, self->model, &options);
    balora_adapter_free(adapter);
    return status;
}

static balora_status create_pissa(stage *self) {
    return create_adapter(self, BALORA_METHOD_PISSA);
}

static balora_status create_lora(stage *self) {
    return create_adapter(self, BALORA_METHOD_LORA);
}

static balora_status make_trainer(stage *self, balora_trainer **out) {
    balora_train_options options = BALORA_TRAIN_OPTIONS_INIT;
    options.max_steps = 1000;
    options.batch_size = 2;
    return balora_trainer_create(out, self->adapter, self->data, &options);
}

static balora_status create_trainer(stage *self) {
    balora_trainer *trainer;
    balora_status status = make_trainer(self, &trainer);
    balora_trainer_free(trainer);
    return status;
}

static balora_status step(stage *self) {
    return balora_trainer_step(self->trainer, NULL);
}

static balora_status evaluate(stage *self) {
    balora_evaluation out = BALORA_EVALUATION_INIT;
    return balora_evaluate(&out, self->model, self->adapter, self->data, NULL, NULL);
}

static balora_status save(stage *self) {
    return balora_adapter_save(self->adapter, scratch_path(self->files, "out"), "base");
}

static balora_status save_anew(stage *self) {
    return balora_adapter_save(self->adapter, scratch_path(self->files, "out/new/adapter"), NULL);
}

static balora_status merge(stage *self) {
    return balora_adapter_merge(self->adapter, scratch_path(self->files, "out"));
}

static balora_status merge_anew(stage *self) {
    return balora_adapter_merge(self->adapter, scratch_path(self->files, "out/merged"));
}

static balora_status save_checkpoint(stage *self) {
    return balora_trainer_save_checkpoint(self->trainer, scratch_path(self->files, "out/checkpoints"), 2);
}

/* From the checkpoint of step 2, so that the trainer is at step 2 behind it. */
static balora_status resume(stage *self) {
    return balora_trainer_resume(self->trainer, scratch_path(self->files, "out/checkpoints"), NULL);
}

/* The checkpoint of the same step is there already, and is written anew. */
static balora_status resume_and_save(stage *self) {
    balora_status status = resume(self);
    return status == BALORA_OK ? save_checkpoint(self) : status;
}

const scenario scenarios[] = {
    {"open a model", 0, open_model, false, false},
    {"open a sharded model", 0, open_shards, false, false},
    {"open a tokenizer", 0, open_tokenizer, false, false},
    {"open rows", NEEDS_MODEL, open_rows, false, false},
    {"open a token file", NEEDS_MODEL, open_tokens, false, false},
    {"open an adapter", NEEDS_MODEL, open_adapter, false, false},
    {"create an adapter (PiSSA)", NEEDS_MODEL, create_pissa, false, false},
    {"create an adapter (LoRA)", NEEDS_MODEL, create_lora, false, false},
    {"create a trainer", NEEDS_ADAPTER | NEEDS_DATA, create_trainer, false, false},
    {"step", NEEDS_TRAINER, step, false, false},
    {"evaluate", NEEDS_ADAPTER | NEEDS_DATA, evaluate, false, false},
    {"save an adapter over another", NEEDS_ADAPTER, save, true, false},
    {"save an adapter into a new folder", NEEDS_ADAPTER, save_anew, true, false},
    {"merge into a folder", NEEDS_ADAPTER, merge, true, false},
    {"merge into a new folder", NEEDS_ADAPTER, merge_anew, true, false},
    {"save the first checkpoint", NEEDS_TRAINER, save_checkpoint, true, false},
    {"save a checkpoint beside others", NEEDS_CHECKPOINTS, save_checkpoint, true, true},
    {"resume", NEEDS_CHECKPOINTS, resume, true, true},
    {"resume and save the step again", NEEDS_CHECKPOINTS, resume_and_save, true, true},
};

const size_t scenario_count = sizeof scenarios / sizeof *scenarios;

void stage_open(stage *out, scratch *files, unsigned needs) {
    balora_context_options options = BALORA_CONTEXT_OPTIONS_INIT;
    *out = (stage){.files = files};
    options.threads = 1;
    options.allocate = inject_allocate;
    options.release = inject_release;
    expect_ok(balora_context_create(&out->context, &options));
    if (needs != 0)
        expect_ok(balora_model_open(&out->model, out->context, scratch_path(files, "model"), NULL));
    if ((needs & (NEEDS_ADAPTER | NEEDS_TRAINER | NEEDS_CHECKPOINTS)) != 0)
        expect_ok(balora_adapter_open(&out->adapter, out->model, scratch_path(files, "adapter")));
    if ((needs & (NEEDS_DATA | NEEDS_TRAINER | NEEDS_CHECKPOINTS)) != 0)
        expect_ok(balora_data_open(&out->data, out->model, scratch_path(files, "tokens.safetensors"), NULL));
    if ((needs & (NEEDS_TRAINER | NEEDS_CHECKPOINTS)) == 0)
        return;
    expect_ok(make_trainer(out, &out->trainer));
    expect_ok(balora_trainer_step(out->trainer, NULL));
    for (int i = 0; i < 2 && (needs & NEEDS_CHECKPOINTS) != 0; i++) {
        expect_ok(save_checkpoint(out));
        expect_ok(balora_trainer_step(out->trainer, NULL));
    }
}

void stage_close(stage *self) {
    balora_trainer_free(self->trainer);
    balora_data_free(self->data);
    balora_adapter_free(self->adapter);
    balora_model_free(self->model);
    balora_context_free(self->context);
    *self = (stage){0};
}
