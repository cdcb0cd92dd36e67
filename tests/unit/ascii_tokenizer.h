/* A model folder's tokenizer that a test can predict. */
#ifndef TESTS_ASCII_TOKENIZER_H
#define TESTS_ASCII_TOKENIZER_H

#include "scratch.h"

enum { ID_NEWLINE = 94, ID_SPACE = 95, ID_COLON_HASH = 96, ID_END = 97, ID_START = 98, VOCABULARY = 100 };

/* Every printable ASCII character is a token of its own, and ":#" is one too. */
static inline void write_tokenizer(scratch *self, const char *config) {
    char text[8192];
    size_t used =
        (size_t)snprintf(text, sizeof text,
                         "{\"version\":\"1.0\",\"added_tokens\":["
                         "{\"id\":97,\"content\":\"<|im_end|>\",\"special\":true,\"single_word\":false,"
                         "\"lstrip\":false,\"rstrip\":false,\"normalized\":false},"
                         "{\"id\":98,\"content\":\"<|im_start|>\",\"special\":true,\"single_word\":false,"
                         "\"lstrip\":false,\"rstrip\":false,\"normalized\":false}],"
                         "\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\","
                         "\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true},"
                         "\"post_processor\":null,\"decoder\":{\"type\":\"ByteLevel\"},"
                         "\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,"
                         "\"merges\":[\": #\"],\"vocab\":{");
    for (int c = '!'; c <= '~'; c++)
        used += (size_t)snprintf(text + used, sizeof text - used, "\"%s%c\":%d,",
                                 c == '"' || c == '\\' ? "\\" : "", c, c - '!');
    snprintf(text + used, sizeof text - used, "\"\xC4\x8A\":%d,\"\xC4\xA0\":%d,\":#\":%d}}}", ID_NEWLINE,
             ID_SPACE, ID_COLON_HASH);
    scratch_text(self, "tokenizer.json", text);
    scratch_text(self, "tokenizer_config.json", config);
}

#endif
