#!/usr/bin/env python3
"""Loads an adapter with PEFT on the untouched base and compares its logits with those that libbalora wrote.

    balora eval --model MODEL_DIR --adapter ADAPTER_DIR --data DATA.safetensors --logits LOGITS.safetensors
    python check_peft.py ADAPTER_DIR MODEL_DIR LOGITS.safetensors DATA.safetensors

Exit status: 0 they agree, 1 they differ by more than --tolerance (largest difference over largest logit),
77 PEFT, Transformers or torch is not installed (what a test harness counts as skipped).
"""
import argparse
import pathlib
import sys


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("adapter", "model", "logits", "data"):
        parser.add_argument(name, type=pathlib.Path)
    parser.add_argument("--tolerance", type=float, default=1e-4)
    arguments = parser.parse_args()
    try:
        import torch
        from peft import PeftModel
        from safetensors.torch import load_file
        import transformers
    except ImportError as error:
        print(f"skipped: {error.name} is not installed")
        return 77
    from training import load_base, load_sequences, sequence_logits
    transformers.utils.logging.disable_progress_bar()

    model = PeftModel.from_pretrained(load_base(arguments.model), arguments.adapter).eval()
    base_model = load_base(arguments.model)  # biases that an adapter brings stay when it is disabled
    factors = [name for name, _ in model.named_parameters() if ".lora_A." in name]
    with torch.no_grad():
        ours = load_file(arguments.logits)["logits"]
        sequences = [ids for ids, _ in load_sequences(arguments.data)]
        theirs = torch.cat([sequence_logits(model, ids) for ids in sequences])
        base = torch.cat([sequence_logits(base_model, ids) for ids in sequences])
    if ours.shape != theirs.shape:
        print(f"{arguments.logits}: logits are {list(ours.shape)}, PEFT's are {list(theirs.shape)}")
        return 1
    absolute = float((ours - theirs).abs().max())
    relative = absolute / float(theirs.abs().max())
    effect = float((theirs - base).abs().max())
    print(f"{len(factors)} adapted modules, {len(theirs)} tokens: max |difference| {absolute:.3e}, "
          f"relative {relative:.3e}; the adapter moves a logit by up to {effect:.3e}")
    # NaN must fail too, hence the negation.
    return 0 if relative <= arguments.tolerance else 1


if __name__ == "__main__":
    sys.exit(main())
