/* The device that a test of the upper rooms runs on: the CPU, or what BALORA_TEST_DEVICE names ("cuda:0"). */
#ifndef TESTS_DEVICE_H
#define TESTS_DEVICE_H

#include <stdlib.h>

#include "balora/model.h"

static inline const char *test_device(void) {
    const char *name = getenv("BALORA_TEST_DEVICE");
    return name != NULL && *name != '\0' ? name : "cpu";
}

static inline balora_model_options test_model_options(void) {
    balora_model_options options = BALORA_MODEL_OPTIONS_INIT;
    options.device = test_device();
    return options;
}

#endif
