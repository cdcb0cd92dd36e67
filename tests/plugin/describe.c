/* Prints balora_context_describe: a program that has the library linked into it. */
#include <stdio.h>

#include <balora/balora.h>

int main(void) {
    balora_context *context;
    char *text;
    if (balora_context_create(&context, NULL) != BALORA_OK ||
        balora_context_describe(&text, context) != BALORA_OK) {
        fprintf(stderr, "%s\n", balora_error_message());
        return 1;
    }
    printf("%s\n", text);
    balora_string_free(context, text);
    balora_context_free(context);
    return 0;
}
