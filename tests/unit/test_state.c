/* Places in an adapter's flat arrays: found where they are, and named as PEFT and the model's files name them. */
#include "adapters.h"

/* Spoil one number of the gradients; it is found and named, and mended again. */
static void expect_named(balora_adapter *adapter, matrix_view gradient, int64_t place, const char *module,
                         const char *part) {
    char expected[160], found[160];
    int64_t element;
    float *host = download(adapter, gradient), kept = host[place];
    host[place] = place % 2 == 0 ? NAN : -INFINITY;
    expect_ok(adapter_upload(adapter, gradient, host));
    expect_ok(adapter_find_non_finite(adapter, adapter->queue, adapter_gradients(adapter), &element));
    assert_true(element >= 0);
    adapter_locate(adapter, element, found, sizeof found);
    snprintf(expected, sizeof expected, "%s%s[%d, %d]", module, part, (int)(place / gradient.cols),
             (int)(place % gradient.cols));
    assert_string_equal(found, expected);
    host[place] = kept;
    expect_ok(adapter_upload(adapter, gradient, host));
    expect_ok(adapter_find_non_finite(adapter, adapter->queue, adapter_gradients(adapter), &element));
    assert_int_equal(element, -1);
    free(host);
}

static void factors_are_found_and_named(void **state) {
    workshop *self = *state;
    open_fixture(self, "llama/model");
    balora_adapter *adapter = make_adapter(self, BALORA_METHOD_PISSA, 4, 16, 0, NULL);
    expect_ok(adapter_prepare_training(adapter));
    for (int64_t i = 0; i < adapter->module_count; i++) {
        const adapter_module *module = &adapter->modules[i];
        expect_named(adapter, module->gradient_a, 3 * i, module->name, ".lora_A");
        expect_named(adapter, module->gradient_b, module->gradient_b.rows * 4 - 1, module->name, ".lora_B");
    }
    adapter_release(adapter);
}

static void whole_tensors_are_as_well(void **state) {
    workshop *self = *state;
    open_fixture(self, "llama/model");
    balora_adapter_options options = BALORA_ADAPTER_OPTIONS_INIT;
    balora_adapter *adapter;
    options.method = BALORA_METHOD_FULL;
    expect_ok(adapter_create(&adapter, self->model, &options));
    expect_ok(adapter_prepare_training(adapter));
    assert_true(adapter->trained_count > 10);
    for (int64_t i = 0; i < adapter->trained_count; i++) {
        const trained_tensor *trained = &adapter->trained[i];
        expect_named(adapter, trained->gradient, i, trained->tensor->name, "");
    }
    adapter_release(adapter);
}

/* A checkpoint keeps all of what is trained and how it started. */
static void the_state_is_everything(void **state) {
    workshop *self = *state;
    named_view arrays[ADAPTER_STATE_LIMIT];
    open_fixture(self, "llama/model");
    balora_adapter *adapter = make_adapter(self, BALORA_METHOD_PISSA, 4, 16, 0, "q_proj,v_proj");
    assert_int_equal(adapter_state(adapter, arrays), 2);
    assert_string_equal(arrays[0].name, "parameters");
    assert_string_equal(arrays[1].name, "initial");
    assert_true(view_bytes(arrays[0].view) == adapter->parameters.bytes);
    assert_true(view_bytes(arrays[1].view) == adapter->initial.bytes);
    adapter_release(adapter);
    adapter = make_adapter(self, BALORA_METHOD_LORA, 4, 16, 0, "q_proj");
    assert_int_equal(adapter_state(adapter, arrays), 1);
    adapter_release(adapter);
}

int main(void) {
    const struct CMUnitTest tests[] = {WORKSHOP_TEST(factors_are_found_and_named),
                                       WORKSHOP_TEST(whole_tensors_are_as_well),
                                       WORKSHOP_TEST(the_state_is_everything)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
