/* Token files: two bytes for the vocabulary and the length that is kept, the header, the tensors' bytes. */
#include "fuzz.h"

#include "data/token_file.h"

void fuzz_one(fuzz_part input) {
    int64_t vocabulary = 1 + fuzz_take_byte(&input), max_length = fuzz_take_byte(&input) % 8;
    fuzz_part header = fuzz_next_part(&input);
    fuzz_write_safetensors("tokens.safetensors", header, input);
    dataset set;
    balora_status status =
        token_file_read(&set, fuzz_memory(), fuzz_path("tokens.safetensors"), vocabulary, max_length);
    fuzz_expect_message(status, "tokens.safetensors");
    if (status == BALORA_OK) {
        fuzz_require(set.sequences > 0 && set.offsets[set.sequences] == set.tokens);
        for (int64_t i = 0; i < set.tokens; i++)
            fuzz_require(set.ids[i] >= 0 && set.ids[i] < vocabulary && set.labels[i] < vocabulary);
        for (int64_t i = 0; i < set.sequences; i++)
            fuzz_require(dataset_length(&set, i) > 0 &&
                         (max_length == 0 || dataset_length(&set, i) <= max_length));
    }
    dataset_free(&set);
}
