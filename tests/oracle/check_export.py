#!/usr/bin/env python3
"""Loads an exported adapter with the programs that it was made for and compares their logits with those that libbalora
computed from the adapter itself.

    balora eval --model MODEL --adapter ADAPTER --data DATA.safetensors --logits LOGITS.safetensors
    balora convert --adapter ADAPTER --to FORM --out EXPORTED
    python check_export.py FORM EXPORTED MODEL LOGITS.safetensors DATA.safetensors

FORM is peft, pissa or gguf. Exit status: 0 they agree, 1 they differ by more than --tolerance (largest difference
over largest logit), 77 a package is not installed (what a test harness counts as skipped).
"""
import argparse
import pathlib
import sys


def llama_cpp_order(weight, heads):
    """Rows of q and k as llama.cpp's converter lays them out for the interleaved rotation of LLaMA's class."""
    import torch
    rows = torch.arange(weight.shape[0]).reshape(heads, 2, weight.shape[0] // heads // 2).swapaxes(1, 2).reshape(-1)
    return weight[rows]


def hugging_face_order(weight, heads):
    """The way back."""
    import torch
    rows = torch.arange(weight.shape[0]).reshape(heads, 2, weight.shape[0] // heads // 2).swapaxes(1, 2).reshape(-1)
    out = torch.empty_like(weight)
    out[rows] = weight
    return out


MODULES = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
           "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
           "ffn_down": "mlp.down_proj"}


def read_gguf(path):
    """Architecture, alpha and tensors of a file, as the gguf package reads it."""
    import gguf
    import torch
    reader = gguf.GGUFReader(path)
    value = lambda key: reader.get_field(key).contents()
    assert value("general.type") == "adapter" and value("adapter.type") == "lora"
    assert reader.get_field("adapter.lora.alpha").types == [gguf.GGUFValueType.FLOAT32]
    tensors = {}
    for t in reader.tensors:
        data = gguf.quants.dequantize(t.data, t.tensor_type)
        # the shape of the file has the innermost dimension first
        tensors[t.name] = torch.from_numpy(data.copy()).reshape(*reversed([int(n) for n in t.shape]))
    return value("general.architecture"), value("adapter.lora.alpha"), tensors


def apply_gguf(model, path):
    """What llama.cpp does with the adapter, to the matrices that its converter makes of the model: W + alpha / r B A."""
    architecture, alpha, tensors = read_gguf(path)
    config, names = model.config, {n: p for n, p in model.named_parameters()}
    expected = {"mistral": "llama", "gemma3_text": "gemma3"}.get(config.model_type, config.model_type)
    assert architecture == expected, f"architecture {architecture}, expected {expected}"
    stems = {name.rsplit(".", 1)[0] for name in tensors}
    assert len(tensors) == 2 * len(stems), "every matrix needs lora_a and lora_b"
    for stem in stems:
        block, number, part, suffix = stem.split(".")
        assert block == "blk" and suffix == "weight" and len(stem) + 7 < 64, stem
        weight = names[f"model.layers.{number}.{MODULES[part]}.weight"]
        a, b = tensors[stem + ".lora_a"], tensors[stem + ".lora_b"]
        assert a.shape[0] == b.shape[1] and (b.shape[0], a.shape[1]) == weight.shape, stem
        heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(part)
        permuted = architecture == "llama" and heads is not None
        whole = llama_cpp_order(weight.data, heads) if permuted else weight.data
        whole = whole + (alpha / b.shape[1] * b.double() @ a.double()).to(weight.dtype)
        weight.data = hugging_face_order(whole, heads) if permuted else whole
    return len(stems)


def load_exported(form, path, model_folder):
    from peft import PeftModel
    from training import load_base
    if form == "peft":
        model = PeftModel.from_pretrained(load_base(model_folder), path)
    elif form == "pissa":
        model = PeftModel.from_pretrained(load_base(path), path, subfolder="pissa_init")
    else:
        model = load_base(model_folder)
        return model, apply_gguf(model, path)
    return model.eval(), sum(".lora_A." in name for name, _ in model.named_parameters())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("form", choices=("peft", "pissa", "gguf"))
    for name in ("exported", "model", "logits", "data"):
        parser.add_argument(name, type=pathlib.Path)
    parser.add_argument("--tolerance", type=float, default=1e-4)
    arguments = parser.parse_args()
    try:
        import gguf  # noqa: F401
        import peft  # noqa: F401
        import torch
        from safetensors.torch import load_file
        import transformers
    except ImportError as error:
        print(f"skipped: {error.name} is not installed")
        return 77
    from training import load_base, load_sequences, sequence_logits
    transformers.utils.logging.disable_progress_bar()

    model, modules = load_exported(arguments.form, arguments.exported, arguments.model)
    base = load_base(arguments.model)
    sequences = [ids for ids, _ in load_sequences(arguments.data)]
    with torch.no_grad():
        ours = load_file(arguments.logits)["logits"]
        theirs = torch.cat([sequence_logits(model, ids) for ids in sequences])
        untouched = torch.cat([sequence_logits(base, ids) for ids in sequences])
    if ours.shape != theirs.shape:
        print(f"{arguments.logits}: logits are {list(ours.shape)}, expected {list(theirs.shape)}")
        return 1
    largest = float(theirs.abs().max())
    relative = float((ours - theirs).abs().max()) / largest
    effect = float((theirs - untouched).abs().max()) / largest
    print(f"{arguments.form}: {modules} modules, {len(theirs)} tokens: relative difference {relative:.3e}; the adapter "
          f"moves a logit by up to {effect:.3e}")
    # An adapter without an effect would prove nothing. NaN must fail too, hence the negation.
    return 0 if relative <= arguments.tolerance and effect > 10 * arguments.tolerance else 1


if __name__ == "__main__":
    sys.exit(main())
