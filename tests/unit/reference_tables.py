#!/usr/bin/env python3
"""Prints what Transformers computes: learning rates (schedule_table.h) and rotary frequencies (rope_table.h).

    python3 -m venv VENV && VENV/bin/pip install -r tests/oracle/requirements.txt
    VENV/bin/python tests/unit/reference_tables.py schedule | clang-format > tests/unit/schedule_table.h
    VENV/bin/python tests/unit/reference_tables.py rope | clang-format > tests/unit/rope_table.h
"""
import json
import math
import sys

import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.optimization import get_scheduler

# warmup_ratio, total steps, steps to look at
RUNS = [
    (0.0, 1, (0,)), (1.0, 1, (0,)), (0.5, 1, (0,)), (0.0, 7, (0, 1, 3, 6)), (0.03, 100, (0, 1, 2, 3, 4, 50, 99)),
    # 0.07 * 100 is 7.000000000000001: eight steps of warm-up
    (0.07, 100, (6, 7, 8, 9, 99)), (0.29, 10, (0, 2, 3, 9)), (1.0, 10, (0, 1, 9)), (0.95, 10, (8, 9)),
]

# head_dim 16 unless said otherwise; lengths of a sequence to look at
MODELS = [
    ("default", dict(rope_type="default", rope_theta=10000.0), {}, (1,)),
    ("a large base", dict(rope_type="default", rope_theta=1e6), dict(head_dim=6), (1,)),
    ("linear", dict(rope_type="linear", rope_theta=10000.0, factor=2.5), {}, (1,)),
    ("dynamic", dict(rope_type="dynamic", rope_theta=10000.0, factor=2.0), dict(max_position_embeddings=64),
     (1, 64, 65, 100, 1000)),
    ("dynamic, small factor", dict(rope_type="dynamic", rope_theta=50000.0, factor=1.5),
     dict(max_position_embeddings=64, head_dim=10), (128,)),
    ("llama3 of LLaMA 3.1", dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0,
                                 high_freq_factor=4.0, original_max_position_embeddings=8192),
     dict(max_position_embeddings=131072, head_dim=32), (1,)),
    ("llama3 of LLaMA 3.2", dict(rope_type="llama3", rope_theta=500000.0, factor=32.0, low_freq_factor=1.0,
                                 high_freq_factor=4.0, original_max_position_embeddings=8192),
     dict(max_position_embeddings=131072, head_dim=20), (1,)),
    ("yarn", dict(rope_type="yarn", rope_theta=10000.0, factor=8.0, original_max_position_embeddings=2048),
     dict(max_position_embeddings=16384, head_dim=32), (1,)),
    ("yarn, dimensions not rounded", dict(rope_type="yarn", rope_theta=10000.0, factor=8.0, truncate=False,
                                          original_max_position_embeddings=2048),
     dict(max_position_embeddings=16384, head_dim=32), (1,)),
    ("yarn, betas and mscale", dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, beta_fast=4.0, beta_slow=1.0,
                                    mscale=0.8, mscale_all_dim=0.5, original_max_position_embeddings=64),
     dict(max_position_embeddings=256), (1,)),
    ("yarn, given attention factor", dict(rope_type="yarn", rope_theta=10000.0, factor=16.0, attention_factor=1.25,
                                          original_max_position_embeddings=4096),
     dict(max_position_embeddings=65536), (1,)),
    ("yarn, correction range of one dimension", dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, beta_fast=1.0,
                                                     beta_slow=1.0, truncate=False,
                                                     original_max_position_embeddings=64),
     dict(max_position_embeddings=256), (1,)),
]


# What all the models have in common; test_rope.c writes it as well.
COMMON = {"model_type": "llama", "vocab_size": 50, "intermediate_size": 8, "num_hidden_layers": 1,
          "num_attention_heads": 2}


def learning_rates():
    print("/* get_scheduler of transformers.optimization with a peak of 1 and ceil(ratio * total) steps of warm-up. */")
    print("static const struct {int32_t schedule; double warmup_ratio; int64_t total, step; double expected;}"
          " learning_rates[] = {")
    for name in ("cosine", "linear", "constant"):
        for ratio, total, steps in RUNS:
            parameter = torch.nn.Parameter(torch.zeros(()))
            scheduler = get_scheduler(name, torch.optim.SGD([parameter], lr=1.0), math.ceil(ratio * total), total)
            for step in steps if name != "constant" else steps[:1]:
                value = scheduler.lr_lambdas[0](step)
                print(f"    {{BALORA_LR_{name.upper()}, {ratio}, {total}, {step}, {value!r}}},")
    print("};\n")


def frequencies():
    print("/* ROPE_INIT_FUNCTIONS of transformers.modeling_rope_utils, in F32. `config` completes config.json. */")
    print("static const struct {const char *name; const char *config; int64_t length, count; double attention_factor;"
          " double expected[16];} rope_frequency_table[] = {")
    for name, rope, sizes, lengths in MODELS:
        own = {"hidden_size": 2 * sizes.get("head_dim", 16), "max_position_embeddings": 2048, **sizes,
               "rope_parameters": rope}
        config = LlamaConfig(**json.loads(json.dumps({**COMMON, **own})))
        function = ROPE_INIT_FUNCTIONS.get(rope["rope_type"], LlamaRotaryEmbedding.compute_default_rope_parameters)
        text = json.dumps(own)[1:-1].replace('"', '\\"')
        for length in lengths:
            values, factor = function(config, device="cpu", seq_len=length)
            row = ", ".join(format(v, ".9g") for v in values.tolist())
            print(f'{{"{name}", "{text}", {length}, {len(values)}, {float(factor)!r}, {{{row}}}}},')
    print("};\n")


def main():
    name, table = {"schedule": ("SCHEDULE", learning_rates), "rope": ("ROPE", frequencies)}[sys.argv[1]]
    print("/* Written by reference_tables.py. */")
    print(f"#ifndef TESTS_{name}_TABLE_H\n#define TESTS_{name}_TABLE_H\n")
    print('#include <stdint.h>\n\n#include "balora/types.h"\n' if name == "SCHEDULE" else "#include <stdint.h>\n")
    table()
    print("#endif")


if __name__ == "__main__":
    main()
