#include "data/data.h"

#include "facade.h"
#include "model/model.h"
#include "options.h"

balora_status balora_data_open(balora_data **out, balora_model *model, const char *path,
                               const balora_data_options *options) {
    FACADE_OUT(out);
    FACADE_REQUIRE(model);
    FACADE_REQUIRE(path);
    balora_data_options complete;
    STATUS_TRY(options_import(BALORA_OPTIONS_DATA, &complete, options));
    facade_call call;
    STATUS_TRY(facade_enter(&call, model->context));
    return facade_leave(&call, data_open(out, model, path, &complete));
}

balora_status balora_data_from_tokens(balora_data **out, balora_model *model, const int32_t *input_ids,
                                      const int32_t *labels, const int64_t *offsets, int64_t sequences) {
    FACADE_OUT(out);
    FACADE_REQUIRE(model);
    FACADE_REQUIRE(input_ids);
    FACADE_REQUIRE(offsets);
    if (sequences < 1)
        return status_fail(BALORA_ERROR_ARGUMENT,
                           "balora_data_from_tokens: sequences is %lld; expected at least 1",
                           (long long)sequences);
    facade_call call;
    STATUS_TRY(facade_enter(&call, model->context));
    return facade_leave(&call, data_from_tokens(out, model, input_ids, labels, offsets, sequences));
}

void balora_data_free(balora_data *data) {
    data_release(data);
}

balora_status balora_data_describe(const balora_data *data, balora_data_information *out) {
    FACADE_REQUIRE(data);
    FACADE_REQUIRE(out);
    STATUS_TRY(options_check_size(out, "balora_data_information"));
    balora_data_information information = BALORA_DATA_INFORMATION_INIT;
    data_describe(data, &information);
    options_export(out, &information, sizeof information);
    return BALORA_OK;
}

balora_status balora_data_sequence(const balora_data *data, int64_t index, const int32_t **input_ids,
                                   const int32_t **labels, int64_t *length) {
    FACADE_REQUIRE(data);
    FACADE_OUT(input_ids);
    FACADE_OUT(labels);
    FACADE_REQUIRE(length);
    *length = 0;
    return data_sequence(data, index, input_ids, labels, length);
}
