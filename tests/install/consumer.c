/*
 * A program that knows libbalora only as installed. It has functions with names that the library also uses
 * inside: they must neither clash nor be called by it.
 */
#include <balora/balora.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int status_fail(void);
int memory_new(void);
int json_parse(void);
int model_open(void);

static int stolen;

int status_fail(void) {
    return ++stolen;
}
int memory_new(void) {
    return ++stolen;
}
int json_parse(void) {
    return ++stolen;
}
int model_open(void) {
    return ++stolen;
}

static int fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, balora_error_message());
    return 1;
}

int main(int count, char **words) {
    balora_context *context;
    balora_model *model;
    balora_model_information information = BALORA_MODEL_INFORMATION_INIT;
    if (count != 2 || balora_abi_version() != BALORA_ABI_VERSION)
        return fail("consumer MODEL");
    if (balora_context_create(&context, NULL) != BALORA_OK)
        return fail("context");
    if (balora_model_open(&model, context, "no such folder", NULL) != BALORA_ERROR_NOT_FOUND)
        return fail("a missing folder was opened");
    if (balora_model_open(&model, context, words[1], NULL) != BALORA_OK ||
        balora_model_describe(model, &information) != BALORA_OK)
        return fail("model");
    printf("libbalora %s: %s, %lld parameters\n", balora_version(), information.family,
           (long long)information.parameters);
    balora_model_free(model);
    balora_context_free(context);
    return stolen == 0 ? 0 : fail("the library called the program's functions");
}
