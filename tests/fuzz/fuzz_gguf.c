/*
 * GGUF: a byte of form, then a whole file; or two bytes of counts and what follows the counts in a file. Behind it
 * come up to 63 * 32 bytes of data, as the form says.
 */
#include "fuzz.h"

#include <string.h>

#include "format/gguf.h"

#define FILE_BYTES 16384

enum { WHOLE_FILE = 1, OLD_VERSION = 2 };

static void use_values(const gguf_file *file) {
    for (int64_t i = 0; i < file->value_count; i++) {
        const gguf_value *value = &file->values[i];
        fuzz_require(gguf_find_value(file, value->key) == value);
        int64_t integer = 0;
        double number;
        bool flag;
        const char *text = NULL;
        const gguf_value *array = NULL;
        fuzz_expect_message(gguf_integer(file, value->key, true, -5, 1000000, &integer), value->key);
        fuzz_require(integer >= -5 && integer <= 1000000);
        fuzz_expect_message(gguf_number(file, value->key, true, &number), value->key);
        fuzz_expect_message(gguf_flag(file, value->key, true, &flag), value->key);
        fuzz_expect_message(gguf_text(file, value->key, true, &text), value->key);
        fuzz_require(text == NULL || strlen(text) == value->count);
        fuzz_expect_message(gguf_array(file, value->key, true, GGUF_TEXT, &array), value->key);
        const unsigned char *at = array != NULL ? array->data : NULL;
        unsigned sum = 0;
        for (uint64_t n = 0; array != NULL && n < array->count; n++) {
            uint64_t length;
            const char *piece = gguf_next_text(&at, &length);
            for (uint64_t c = 0; c < length; c++)
                sum += (unsigned char)piece[c];
        }
        fuzz_require(sum != 1);
    }
}

static void use_tensors(const gguf_file *file) {
    static uint8_t block[FILE_BYTES];
    uint64_t end = 0;
    for (int64_t i = 0; i < file->tensor_count; i++) {
        const gguf_tensor *tensor = &file->tensors[i];
        fuzz_require(tensor->offset >= end && tensor->bytes <= file->file.bytes - tensor->offset);
        end = tensor->offset + tensor->bytes;
        fuzz_require(gguf_find_tensor(file, tensor->name) == tensor);
        fuzz_require(tensor->bytes > sizeof block || gguf_read(file, tensor, block) == BALORA_OK);
        fuzz_require(gguf_read_part(file, tensor, tensor->bytes, 1, block) != BALORA_OK);
    }
}

void fuzz_one(fuzz_part input) {
    static uint8_t bytes[FILE_BYTES];
    unsigned form = fuzz_take_byte(&input);
    size_t used = 0, tail = form / 4 * 32;
    if ((form & WHOLE_FILE) == 0) {
        memset(bytes, 0, 24);
        memcpy(bytes, "GGUF", 4);
        bytes[4] = form & OLD_VERSION ? 2 : 3;
        bytes[8] = (uint8_t)fuzz_take_byte(&input);
        bytes[16] = (uint8_t)fuzz_take_byte(&input);
        used = 24;
    }
    fuzz_part body = fuzz_take(&input, sizeof bytes - used - tail);
    if (body.count > 0)
        memcpy(bytes + used, body.bytes, body.count);
    used += body.count;
    memset(bytes + used, 0x3c, tail);
    fuzz_write("one.gguf", (fuzz_part){bytes, used + tail});
    gguf_file file;
    balora_status status = gguf_open(&file, fuzz_memory(), fuzz_path("one.gguf"));
    fuzz_expect_message(status, "one.gguf");
    if (status == BALORA_OK) {
        use_values(&file);
        use_tensors(&file);
    }
    gguf_close(&file);
}
