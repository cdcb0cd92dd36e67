/* Fine-tune a model folder on a data file with BA-LoRA:  train MODEL DATA OUT */
#include <balora/balora.h>
#include <stdio.h>

int main(int count, char **words) {
    balora_context *context; balora_model *model; balora_adapter *adapter; balora_data *data; balora_trainer *trainer;
    balora_step_metrics metrics = BALORA_STEP_METRICS_INIT;
    balora_adapter_options lora = BALORA_ADAPTER_OPTIONS_INIT; /* BA-LoRA: PiSSA and the paper's lambdas */
    lora.rank = 4;
    if (count != 4 || balora_context_create(&context, NULL) || balora_model_open(&model, context, words[1], NULL) ||
        balora_adapter_create(&adapter, model, &lora) || balora_data_open(&data, model, words[2], NULL) ||
        balora_trainer_create(&trainer, adapter, data, NULL))
        return fprintf(stderr, "train MODEL DATA OUT: %s\n", balora_error_message()), 1;

    balora_status status;
    while ((status = balora_trainer_step(trainer, &metrics)) == BALORA_OK)
        printf("%5lld  loss %.4f  consistency %.6f\n", (long long)metrics.step, metrics.loss, metrics.consistency);
    if (status != BALORA_DONE || balora_adapter_save(adapter, words[3], NULL))
        return fprintf(stderr, "%s\n", balora_error_message()), 1;
    balora_trainer_free(trainer), balora_data_free(data), balora_adapter_free(adapter), balora_model_free(model);
    balora_context_free(context);
    return 0;
}
