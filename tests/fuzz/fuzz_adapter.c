/* A PEFT folder on a model that is always there: adapter_config.json, the header of adapter_model.safetensors,
 * its data. */
#include "fuzz.h"

#include "tiny_model.h"

static balora_model *open_model(void) {
    const char header[] = TINY_HEADER;
    balora_model *model = NULL;
    fuzz_write_text("config.json", TINY_CONFIG);
    fuzz_write_safetensors("model.safetensors", (fuzz_part){(const uint8_t *)header, sizeof header - 1},
                           (fuzz_part){0});
    fuzz_require(balora_model_open(&model, fuzz_context(), fuzz_folder(), NULL) == BALORA_OK);
    return model;
}

void fuzz_one(fuzz_part input) {
    static balora_model *model;
    if (model == NULL)
        model = open_model();
    balora_adapter_information information = BALORA_ADAPTER_INFORMATION_INIT;
    balora_adapter *adapter = NULL;
    fuzz_write("adapter_config.json", fuzz_next_part(&input));
    fuzz_part header = fuzz_next_part(&input);
    fuzz_write_safetensors("adapter_model.safetensors", header, input);
    balora_status status = balora_adapter_open(&adapter, model, fuzz_folder());
    fuzz_expect_message(status, "adapter_");
    fuzz_require((status == BALORA_OK) == (adapter != NULL));
    if (status == BALORA_OK) {
        fuzz_require(balora_adapter_describe(adapter, &information) == BALORA_OK && information.modules > 0);
        /* What was read can be written (over the input: the folder is the target's own), or says why not. */
        fuzz_expect_message(balora_adapter_save(adapter, fuzz_folder(), "base"), NULL);
    }
    balora_adapter_free(adapter);
}
