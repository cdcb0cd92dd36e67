/* safetensors: one byte that says how the file is made, then a whole file, or a header and data. */
#include "fuzz.h"

#include "format/safetensors.h"

enum { WHOLE_FILE = 1 };

static void read_everything(const safetensors_file *file) {
    static uint8_t block[1 << 16];
    uint64_t end = file->count > 0 ? file->entries[0].offset : file->file.bytes;
    for (int64_t i = 0; i < file->count; i++) {
        const safetensors_entry *entry = &file->entries[i];
        fuzz_require(entry->offset == end); /* neither hole nor overlap */
        end += entry->bytes;
        fuzz_require(safetensors_find(file, entry->name) == entry);
        fuzz_require(entry->bytes > sizeof block || safetensors_read(file, entry, block) == BALORA_OK);
        fuzz_require(safetensors_read_part(file, entry, entry->bytes, 1, block) != BALORA_OK);
        char text[SAFETENSORS_SHAPE_TEXT];
        safetensors_shape_text(text, entry->rank, entry->shape);
    }
    fuzz_require(end == file->file.bytes);
    fuzz_require(safetensors_find(file, "no such tensor") == NULL);
}

void fuzz_one(fuzz_part input) {
    unsigned form = fuzz_take_byte(&input);
    if (form & WHOLE_FILE) {
        fuzz_write("one.safetensors", input);
    } else {
        fuzz_part header = fuzz_next_part(&input);
        fuzz_write_safetensors("one.safetensors", header, input);
    }
    safetensors_file file;
    balora_status status = safetensors_open(&file, fuzz_memory(), fuzz_path("one.safetensors"));
    fuzz_expect_message(status, "one.safetensors");
    if (status == BALORA_OK)
        read_everything(&file);
    safetensors_close(&file);
}
