/* A tokenizer's folder and a text: tokenizer.json, tokenizer_config.json, the text. */
#include "fuzz.h"

#include "text/tokenizer.h"

static void use(const tokenizer *self, fuzz_part text) {
    const char *bytes = text.count > 0 ? (const char *)text.bytes : "";
    for (int special = 0; special < 2; special++) {
        token_buffer ids = {.memory = fuzz_memory()};
        balora_status status = tokenizer_encode(self, bytes, text.count, special, &ids);
        fuzz_expect_message(status, NULL);
        for (size_t i = 0; i < ids.count; i++)
            fuzz_require(ids.ids[i] >= 0 && ids.ids[i] < tokenizer_size(self));
        char *decoded = NULL;
        size_t decoded_bytes;
        status = tokenizer_decode(self, ids.ids, ids.count, special, &decoded, &decoded_bytes, fuzz_memory());
        fuzz_expect_message(status, NULL);
        fuzz_require(status != BALORA_OK || decoded[decoded_bytes] == '\0');
        memory_free(fuzz_memory(), decoded);
        token_buffer_free(&ids);
    }
    fuzz_require(tokenizer_bos(self) < tokenizer_size(self) && tokenizer_eos(self) < tokenizer_size(self));
    tokenizer_chat_format(self);
}

void fuzz_one(fuzz_part input) {
    fuzz_write("tokenizer.json", fuzz_next_part(&input));
    fuzz_part config = fuzz_next_part(&input);
    fuzz_remove("tokenizer_config.json");
    if (config.count > 0)
        fuzz_write("tokenizer_config.json", config);
    tokenizer *self = NULL;
    balora_status status = tokenizer_open(&self, fuzz_memory(), fuzz_folder());
    fuzz_expect_message(status, "tokenizer");
    fuzz_require((status == BALORA_OK) == (self != NULL));
    if (status == BALORA_OK)
        use(self, input);
    tokenizer_free(self);
}
