/*
 * JSON Lines with a tokenizer that is always there: a byte that chooses the tokenizer and the length that is kept,
 * the names of fields (none: found in each row), the lines.
 */
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>

#include "data/jsonl.h"

#define VOCABULARY 104

/* Every printable ASCII character is a token, and what each form of conversations needs is added. */
static void write_tokenizer(unsigned chat) {
    static const char *const added[3][4] = {
        {"<|endoftext|>"},
        {"<|endoftext|>", "<|im_start|>", "<|im_end|>"},
        {"<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|begin_of_text|>"}};
    char text[8192];
    size_t used = (size_t)snprintf(text, sizeof text, "{\"added_tokens\":[");
    for (int i = 0; i < 4 && added[chat][i] != NULL; i++)
        used += (size_t)snprintf(text + used, sizeof text - used,
                                 "%s{\"id\":%d,\"content\":\"%s\",\"special\":true,\"single_word\":false,"
                                 "\"lstrip\":false,\"rstrip\":false,\"normalized\":false}",
                                 i > 0 ? "," : "", 97 + i, added[chat][i]);
    used += (size_t)snprintf(text + used, sizeof text - used,
                             "],\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\","
                             "\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true},"
                             "\"post_processor\":null,\"decoder\":{\"type\":\"ByteLevel\"},"
                             "\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,"
                             "\"merges\":[\": #\"],\"vocab\":{");
    for (int c = '!'; c <= '~'; c++)
        used += (size_t)snprintf(text + used, sizeof text - used, "\"%s%c\":%d,",
                                 c == '"' || c == '\\' ? "\\" : "", c, c - '!');
    snprintf(text + used, sizeof text - used, "\"\xC4\x8A\":94,\"\xC4\xA0\":95,\":#\":96}}}");
    fuzz_write_text("tokenizer.json", text);
    fuzz_write_text("tokenizer_config.json",
                    chat == 2 ? "{\"eos_token\": \"<|eot_id|>\"}" : "{\"eos_token\": \"<|endoftext|>\"}");
}

void fuzz_one(fuzz_part input) {
    static unsigned written = UINT32_MAX;
    unsigned form = fuzz_take_byte(&input);
    if (written != form % 3)
        write_tokenizer(written = form % 3);
    char *fields = fuzz_text(fuzz_next_part(&input));
    fuzz_write("rows.jsonl", input);
    const jsonl_options options = {.folder = fuzz_folder(),
                                   .fields = fields[0] != '\0' ? fields : NULL,
                                   .vocabulary = form & 128 ? 90 : VOCABULARY,
                                   .max_length = form & 64 ? 8 : 512};
    dataset set;
    balora_status status = jsonl_read(&set, fuzz_memory(), fuzz_path("rows.jsonl"), &options);
    fuzz_expect_message(status, status == BALORA_ERROR_ARGUMENT ? "fields" : "rows.jsonl");
    fuzz_require(status != BALORA_OK || (set.sequences > 0 && set.offsets[set.sequences] == set.tokens));
    dataset_free(&set);
    free(fields);
}
