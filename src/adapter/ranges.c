/* Where each trained tensor lies in the flat array of parameters. */
#include <stdio.h>

#include "adapter/adapter.h"

static void fill(trained_range *out, const char *name, const char *ending, matrix_view view) {
    snprintf(out->name, sizeof out->name, "%s%s", name, ending);
    out->first = view.offset / (int64_t)sizeof(float);
    out->count = view.rows * view.cols;
}

bool adapter_trained_range(const balora_adapter *adapter, int64_t index, trained_range *out) {
    int64_t each = adapter->use_dora ? 3 : 2, factors = each * adapter->module_count;
    if (index >= factors + adapter->trained_count)
        return false;
    if (index >= factors) {
        const trained_tensor *trained = &adapter->trained[index - factors];
        fill(out, trained->tensor->name, "", trained->value);
        return true;
    }
    const adapter_module *module = &adapter->modules[index / each];
    if (index % each == 0)
        fill(out, module->name, ".lora_A.weight", module->a);
    else if (index % each == 1)
        fill(out, module->name, ".lora_B.weight", module->b);
    else
        fill(out, module->name, ".lora_magnitude_vector", module->magnitude);
    return true;
}
