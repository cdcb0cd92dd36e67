/* config.json of a model folder, and the rotary frequencies that follow from it. */
#include "fuzz.h"

#include <math.h>

#include "model/rope.h"

#define FREQUENCIES 512

void fuzz_one(fuzz_part input) {
    model_config config;
    fuzz_write("config.json", input);
    balora_status status = model_config_read(&config, fuzz_memory(), fuzz_folder());
    fuzz_expect_message(status, "config.json");
    if (status != BALORA_OK)
        return;
    fuzz_require(config.layers > 0 && config.hidden > 0 && config.vocabulary > 0 && config.head_dim > 0);
    fuzz_require(config.heads % config.key_heads == 0);
    fuzz_require(isfinite(config.attention_scale) && config.norm_epsilon >= 0);
    if (config.head_dim / 2 <= FREQUENCIES) {
        float frequencies[FREQUENCIES];
        rope_frequencies(&config, &config.rope, 1, frequencies);
        rope_frequencies(&config, &config.rope, config.positions + 1, frequencies);
        if (config.two_ropes)
            rope_frequencies(&config, &config.local_rope, config.positions + 1, frequencies);
    }
}
