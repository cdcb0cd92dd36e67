/* The calls that a row can make. */
#include "hostile.h"

/* A handle that a failed call must have replaced by NULL. */
#define NOT_NULL(type) ((type *)(void *)self)

static balora_status open_model(scratch *self, balora_context *context, const char *folder, int32_t dtype,
                                balora_model **out) {
    balora_model_options options = BALORA_MODEL_OPTIONS_INIT;
    options.dtype = dtype;
    *out = NOT_NULL(balora_model);
    balora_status status = balora_model_open(out, context, scratch_path(self, folder), &options);
    assert_true(status == BALORA_OK || *out == NULL);
    return status;
}

static balora_status open_tokenizer(scratch *self, balora_context *context) {
    balora_tokenizer *tokenizer = NOT_NULL(balora_tokenizer);
    balora_status status = balora_tokenizer_open(&tokenizer, context, scratch_path(self, "model"));
    assert_true(status == BALORA_OK || tokenizer == NULL);
    balora_tokenizer_free(tokenizer);
    return status;
}

static balora_status open_data(scratch *self, balora_model *model, const char *name, const char *fields,
                               balora_data **out) {
    balora_data_options options = BALORA_DATA_OPTIONS_INIT;
    options.fields = fields;
    *out = NOT_NULL(balora_data);
    balora_status status = balora_data_open(out, model, scratch_path(self, name), &options);
    assert_true(status == BALORA_OK || *out == NULL);
    return status;
}

static balora_status open_adapter(scratch *self, balora_model *model, balora_adapter **out) {
    *out = NOT_NULL(balora_adapter);
    balora_status status = balora_adapter_open(out, model, scratch_path(self, "adapter"));
    assert_true(status == BALORA_OK || *out == NULL);
    return status;
}

static balora_status train(balora_adapter *adapter, balora_data *data) {
    balora_train_options options = BALORA_TRAIN_OPTIONS_INIT;
    balora_trainer *trainer;
    options.max_steps = 1;
    options.learning_rate = 1e-3;
    balora_status status = balora_trainer_create(&trainer, adapter, data, &options);
    if (status == BALORA_OK)
        status = balora_trainer_step(trainer, NULL);
    balora_trainer_free(trainer);
    return status;
}

static balora_status with_adapter(scratch *self, balora_model *model, call_kind call) {
    balora_adapter *adapter;
    balora_data *data = NULL;
    balora_evaluation evaluation = BALORA_EVALUATION_INIT;
    balora_status status = open_adapter(self, model, &adapter);
    if (status == BALORA_OK && (call == TRAIN || call == EVALUATE))
        status = open_data(self, model, "tokens.safetensors", NULL, &data);
    if (status == BALORA_OK && call == SAVE)
        status = balora_adapter_save(adapter, scratch_path(self, "out"), NULL);
    if (status == BALORA_OK && call == MERGE)
        status = balora_adapter_merge(adapter, scratch_path(self, "out"));
    if (status == BALORA_OK && call == TRAIN)
        status = train(adapter, data);
    if (status == BALORA_OK && call == EVALUATE)
        status = balora_evaluate(&evaluation, model, adapter, data, NULL, NULL);
    balora_data_free(data);
    balora_adapter_free(adapter);
    return status;
}

balora_status make_call(scratch *self, balora_context *context, const bad_input *row) {
    balora_model *model;
    balora_data *data = NULL;
    if (row->call == OPEN_TOKENIZER)
        return open_tokenizer(self, context);
    balora_status status = open_model(self, context, row->call == OPEN_SHARDS ? "shards" : "model",
                                      row->call == OPEN_MODEL_F32 ? BALORA_F32 : BALORA_DTYPE_AUTO, &model);
    if (status != BALORA_OK)
        return status;
    if (row->call == OPEN_ROWS || row->call == OPEN_ROWS_FIELDS)
        status = open_data(self, model, "rows.jsonl", row->call == OPEN_ROWS ? NULL : "ask,say", &data);
    else if (row->call == OPEN_TOKENS)
        status = open_data(self, model, "tokens.safetensors", NULL, &data);
    else if (row->call >= OPEN_ADAPTER)
        status = with_adapter(self, model, row->call);
    balora_data_free(data);
    balora_model_free(model);
    return status;
}
