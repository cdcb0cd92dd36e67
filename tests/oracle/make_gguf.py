#!/usr/bin/env python3
"""Writes tests/fixtures/gguf: a PEFT adapter, and the GGUF file that the gguf package makes of it.

    OMP_NUM_THREADS=1 VENV/bin/python make_gguf.py [--out DIR]

The adapter lies on the model of the case llama and is what PEFT itself saves, with a rank and an alpha of its own for some
modules and a rank-stabilised scale. The GGUF file is made as llama.cpp's converter does it: its rule for the order of rows,
its names, one alpha. Before anything is kept, the file is read back and applied to the model's matrices in llama.cpp's
order (check_export.py): the logits must be PEFT's.
"""
import argparse
import json
import math
import pathlib
import sys

import gguf
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers.utils import logging

from check_export import MODULES, apply_gguf, llama_cpp_order
from training import load_base, load_sequences, sequence_logits

HERE = pathlib.Path(__file__).resolve().parent
RANK, ALPHA = 3, 7
RANK_PATTERN, ALPHA_PATTERN = {"k_proj": 2, "layers.1.mlp.down_proj": 5}, {"k_proj": 4, "o_proj": 1.5}


def make_adapter(folder, model_folder):
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, rank_pattern=RANK_PATTERN, alpha_pattern=ALPHA_PATTERN,
                        use_rslora=True, target_modules=[name.split(".")[1] for name in MODULES.values()],
                        task_type="CAUSAL_LM")
    model = get_peft_model(load_base(model_folder), config)
    g = torch.Generator().manual_seed(4242)
    for module in model.modules():
        if hasattr(module, "lora_A") and "default" in module.lora_A:
            for factor in (module.lora_A, module.lora_B):
                weight = factor["default"].weight
                weight.data.copy_(torch.randn(weight.shape, generator=g) / weight.shape[1] ** 0.5 / 2)
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / "adapter_config.json"
    written = json.loads(path.read_text())
    written["base_model_name_or_path"] = None  # PEFT writes the path of the machine
    written["target_modules"] = sorted(written["target_modules"])  # a set: its order changes from run to run
    path.write_text(json.dumps(written, indent=2, sort_keys=True) + "\n")
    return model.eval()


def alpha_of(module, rank):
    """The alpha whose alpha / rank is the module's scale, which PEFT says itself."""
    return module.scaling["default"] * rank


def make_gguf(path, model, folder):
    """The most common alpha is the file's; where a module has another the ratio goes into its B."""
    factors = load_file(folder / "adapter_model.safetensors")
    layers = {name.removeprefix("base_model.model."): m for name, m in model.named_modules() if hasattr(m, "lora_A")}
    config = model.config
    alphas = [alpha_of(m, m.r["default"]) for m in layers.values()]
    common = max(alphas, key=lambda alpha: sum(math.isclose(alpha, other) for other in alphas))
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, common)
    for number in range(config.num_hidden_layers):
        for part, module in MODULES.items():
            name = f"model.layers.{number}.{module}"
            a = factors[f"base_model.model.{name}.lora_A.weight"]
            b = factors[f"base_model.model.{name}.lora_B.weight"]
            heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(part)
            b = llama_cpp_order(b, heads) if heads else b
            ratio = alpha_of(layers[name], len(a)) / common
            b = b if math.isclose(ratio, 1) else (ratio * b.double()).float()
            writer.add_tensor(f"blk.{number}.{part}.weight.lora_a", a.numpy())
            writer.add_tensor(f"blk.{number}.{part}.weight.lora_b", b.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def logits(model, sequences):
    with torch.no_grad():
        return torch.cat([sequence_logits(model, ids) for ids, _ in sequences])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=HERE.parent / "fixtures" / "gguf")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    folder, case = arguments.out, HERE / "fixtures" / "llama"
    folder.mkdir(parents=True, exist_ok=True)
    model = make_adapter(folder / "adapter", case / "model")
    make_gguf(folder / "adapter.gguf", model, folder / "adapter")
    sequences = load_sequences(case / "data.safetensors")
    expected, base = logits(model, sequences), load_base(case / "model")
    modules = apply_gguf(base, folder / "adapter.gguf")
    difference = float((logits(base, sequences) - expected).abs().max() / expected.abs().max())
    bytes_ = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    print(f"gguf: {modules} modules, {bytes_ / 1024:.0f} KiB, relative difference of logits {difference:.1e}")
    if not difference < 1e-5:
        sys.exit("the GGUF file is not the adapter")


if __name__ == "__main__":
    main()
