/* A whole model folder: config.json, then the header of model.safetensors. */
#include "fuzz.h"

void fuzz_one(fuzz_part input) {
    balora_model_options options = BALORA_MODEL_OPTIONS_INIT;
    balora_model_information information = BALORA_MODEL_INFORMATION_INIT;
    balora_model *model = NULL;
    unsigned form = fuzz_take_byte(&input);
    fuzz_write("config.json", fuzz_next_part(&input));
    fuzz_part header = fuzz_next_part(&input);
    fuzz_write_safetensors("model.safetensors", header, input);
    options.dtype = form % 3 == 0 ? BALORA_DTYPE_AUTO : form % 3 == 1 ? BALORA_F32 : BALORA_BF16;
    balora_status status = balora_model_open(&model, fuzz_context(), fuzz_folder(), &options);
    fuzz_expect_message(status, fuzz_folder());
    fuzz_require((status == BALORA_OK) == (model != NULL));
    if (status == BALORA_OK)
        fuzz_require(balora_model_describe(model, &information) == BALORA_OK && information.parameters > 0);
    balora_model_free(model);
}
