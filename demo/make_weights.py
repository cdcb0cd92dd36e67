#!/usr/bin/env python3
"""Makes the untrained base model, and stores the trained one in half the bytes. Python's standard library only.

    make_weights.py new  --model DIR       config.json and seeded random fp32 weights, beside the tokenizer.json of DIR
    make_weights.py bf16 --model IN --out OUT    the weights of IN rounded to bf16 (to nearest, ties to even)
"""
import argparse
import array
import json
import os
import random
import shutil
import struct
import sys

HIDDEN, LAYERS, HEADS, KEY_HEADS, FEED_FORWARD, SEED = 128, 4, 4, 2, 352, 1
DEVIATION = 0.02


def config(vocabulary, dtype):
    return {"architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 0,
            "eos_token_id": 0, "head_dim": HIDDEN // HEADS, "hidden_act": "silu", "hidden_size": HIDDEN,
            "initializer_range": DEVIATION, "intermediate_size": FEED_FORWARD, "max_position_embeddings": 512, "mlp_bias": False,
            "model_type": "llama", "num_attention_heads": HEADS, "num_hidden_layers": LAYERS, "num_key_value_heads": KEY_HEADS,
            "rms_norm_eps": 1e-05, "rope_scaling": None, "rope_theta": 10000.0, "tie_word_embeddings": True,
            "torch_dtype": dtype, "use_cache": True, "vocab_size": vocabulary}


def shapes(vocabulary):
    """Name and shape of every tensor; a norm has one dimension."""
    yield "model.embed_tokens.weight", (vocabulary, HIDDEN)
    key_width = HIDDEN // HEADS * KEY_HEADS
    for layer in range(LAYERS):
        block = f"model.layers.{layer}."
        yield block + "input_layernorm.weight", (HIDDEN,)
        yield block + "self_attn.q_proj.weight", (HIDDEN, HIDDEN)
        yield block + "self_attn.k_proj.weight", (key_width, HIDDEN)
        yield block + "self_attn.v_proj.weight", (key_width, HIDDEN)
        yield block + "self_attn.o_proj.weight", (HIDDEN, HIDDEN)
        yield block + "post_attention_layernorm.weight", (HIDDEN,)
        yield block + "mlp.gate_proj.weight", (FEED_FORWARD, HIDDEN)
        yield block + "mlp.up_proj.weight", (FEED_FORWARD, HIDDEN)
        yield block + "mlp.down_proj.weight", (HIDDEN, FEED_FORWARD)
    yield "model.norm.weight", (HIDDEN,)


def random_values(source, name, shape):
    if len(shape) == 1:
        return array.array("f", [1.0]) * shape[0]
    # The two matrices that write into the residual stream start smaller, as in GPT-2.
    scale = DEVIATION / (2 * LAYERS) ** 0.5 if name.endswith(("o_proj.weight", "down_proj.weight")) else DEVIATION
    return array.array("f", (source.gauss(0.0, scale) for _ in range(shape[0] * shape[1])))


def write_safetensors(path, tensors):
    """tensors: [(name, dtype, shape, bytes)] in file order."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, dtype, shape, data in tensors:
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, _, _, data in tensors:
            file.write(data)


def read_safetensors(path):
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = file.read()
    header.pop("__metadata__", None)
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        yield name, entry["dtype"], entry["shape"], data[slice(*entry["data_offsets"])]


def write_json(path, value):
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        json.dump(value, file, indent=2, sort_keys=True)
        file.write("\n")


def make_new(folder):
    with open(os.path.join(folder, "tokenizer.json"), encoding="utf-8") as file:
        vocabulary = len(json.load(file)["model"]["vocab"])
    source = random.Random(SEED)
    tensors = [(name, "F32", shape, random_values(source, name, shape).tobytes()) for name, shape in shapes(vocabulary)]
    write_safetensors(os.path.join(folder, "model.safetensors"), tensors)
    write_json(os.path.join(folder, "config.json"), config(vocabulary, "float32"))


def round_to_bf16(data):
    words = array.array("I", data)
    return array.array("H", ((word + 0x7FFF + (word >> 16 & 1)) >> 16 for word in words)).tobytes()


def make_bf16(folder, out):
    os.makedirs(out, exist_ok=True)
    tensors = []
    for name, dtype, shape, data in read_safetensors(os.path.join(folder, "model.safetensors")):
        if dtype != "F32":
            sys.exit(f"{folder}: {name} is {dtype}; expected F32")
        tensors.append((name, "BF16", shape, round_to_bf16(data)))
    write_safetensors(os.path.join(out, "model.safetensors"), tensors)
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
        vocabulary = json.load(file)["vocab_size"]
    write_json(os.path.join(out, "config.json"), config(vocabulary, "bfloat16"))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(os.path.join(folder, name), os.path.join(out, name))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["new", "bf16"])
    parser.add_argument("--model", required=True)
    parser.add_argument("--out")
    options = parser.parse_args()
    if options.verb == "new":
        make_new(options.model)
    elif options.out is None:
        parser.error("bf16 needs --out")
    else:
        make_bf16(options.model, options.out)


if __name__ == "__main__":
    main()
