/* A sharded folder: the index, then the headers of the shards a, b and c.safetensors. */
#include "fuzz.h"

#include "format/tensor_files.h"

static const char *const shards[] = {"a.safetensors", "b.safetensors", "c.safetensors"};

void fuzz_one(fuzz_part input) {
    fuzz_write("model.safetensors.index.json", fuzz_next_part(&input));
    for (size_t i = 0; i < sizeof shards / sizeof *shards; i++) {
        fuzz_part header = fuzz_next_part(&input);
        fuzz_remove(shards[i]);
        if (header.count > 0)
            fuzz_write_safetensors(shards[i], header, (fuzz_part){0});
    }
    tensor_files files;
    balora_status status = tensor_files_open(&files, fuzz_memory(), fuzz_folder(), "model");
    fuzz_expect_message(status, ".safetensors");
    for (int64_t i = 0; status == BALORA_OK && i < files.count; i++) {
        const safetensors_entry *entry = files.places[i].entry;
        tensor_place place;
        fuzz_require(tensor_files_find(&files, entry->name, &place) && place.entry == entry);
        fuzz_expect_message(tensor_files_expect(&files, entry->name, entry->rank, entry->shape, &place),
                            NULL);
    }
    tensor_files_close(&files);
}
