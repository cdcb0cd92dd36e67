#!/usr/bin/env python3
"""Writes the oracle fixtures: what PyTorch, Transformers and PEFT make of tiny models, step by step.

    python3 -m venv VENV && VENV/bin/pip install -r requirements.txt
    OMP_NUM_THREADS=1 VENV/bin/python make.py [--out DIR] [CASE ...]

See README.md for what a fixture holds. Every case is also trained in fp64; the distance between the two runs is
stored beside the expected values: it is the rounding noise that a tolerance must leave room for.
"""
import argparse
import json
import pathlib
import sys
import warnings

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers.utils import logging

import training
from cases import CASES, DEFAULTS
from models import PROJECTIONS, make_data, make_model

HERE = pathlib.Path(__file__).resolve().parent
TERMS = ("task", "consistency", "diversity", "svd", "loss", "grad_norm")


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n")


def scale_magnitudes(module, generator):
    """DoRA on its way: every magnitude some per cent off the norm of its row."""
    weight = module.base_layer.weight + module.get_delta_weight("default")
    noise = 1 + 0.05 * torch.randn(len(weight), generator=generator)
    module.lora_magnitude_vector["default"].weight.data.copy_(weight.norm(dim=1) * noise)


def fill_factors(model, everywhere, fresh):
    """A random; B zero except in one module, or `everywhere` small, or in none where the adapter is `fresh`.
    What is trained as it is moves a little."""
    g = torch.Generator().manual_seed(99)
    for name, module in model.named_modules():
        if hasattr(module, "lora_A") and "default" in module.lora_A:
            a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
            a.data.copy_(torch.randn(a.shape, generator=g) / a.shape[1] ** 0.5)
            b.data.zero_()
            if everywhere or (name.endswith("layers.0.self_attn.o_proj") and not fresh):
                b.data.copy_(0.02 * torch.randn(b.shape, generator=g))
            if everywhere and module.lora_magnitude_vector:
                scale_magnitudes(module, g)
    for name, p in training.trained_tensors(model):
        p.data.add_(0.05 * torch.randn(p.shape, generator=g))


def make_initial_adapter(folder, model_folder, case, keys):
    """A LoRA adapter saved by PEFT. `keys` are LoraConfig's, and `fresh`; None: a plain one on every projection."""
    keys, plain = dict(keys or {}), keys is None
    fresh = keys.pop("fresh", False)
    options = dict(r=case["rank"], lora_alpha=case["alpha"], lora_dropout=0.0, use_rslora=case["use_rslora"],
                   target_modules=PROJECTIONS, task_type="CAUSAL_LM")
    model = get_peft_model(training.load_base(model_folder), LoraConfig(**{**options, **keys}))
    fill_factors(model, not plain and not fresh, fresh)
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    config["base_model_name_or_path"] = None  # PEFT writes the path of the machine
    for key in ("target_modules", "exclude_modules"):  # sets: their order changes from run to run
        if isinstance(config[key], list):
            config[key] = sorted(config[key])
    if keys and keys.get("target_modules") == "all-linear":  # PEFT writes the names that it found
        config["target_modules"] = "all-linear"
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def prepare(name, root):
    """Writes what the case reads and returns its options with the paths relative to its folder."""
    spec, folder = CASES[name], root / name
    folder.mkdir(parents=True, exist_ok=True)
    case = {**DEFAULTS, **spec.get("options", {})}
    owner = spec["model"] if isinstance(spec["model"], str) else None
    prefix = f"../{owner}/" if owner else ""
    case = {"model": prefix + "model", "data": prefix + "data.safetensors", **case}
    if not owner:
        make_model(folder / "model", spec["model"])
        make_data(folder / "data.safetensors", spec["model"]["vocab_size"], 1000 + spec["model"]["seed"])
    adapter = spec.get("adapter")
    if adapter:
        borrowed = isinstance(adapter, str)
        case["adapter"] = f"../{adapter}/initial_adapter" if borrowed else "initial_adapter"
        if not borrowed:
            make_initial_adapter(folder / "initial_adapter", folder / case["model"], case,
                                 adapter if isinstance(adapter, dict) else None)
    write_json(folder / "case.json", case)
    return folder, case


def start(folder, case, dtype):
    model = folder / case["model"]
    if case["method"] == "full":
        return training.Full(model, dtype)
    return training.Adapted(model, case, dtype, folder / case["adapter"] if "adapter" in case else None)


def base_logits(folder, case, sequences):
    base = training.load_base(folder / case["model"])
    with torch.no_grad():
        return torch.cat([training.sequence_logits(base, ids) for ids, _ in sequences[:3]]).contiguous()


def deviation(steps, reference, result, exact, start_result):
    """Largest distance between the fp32 run and the fp64 one: terms per step, what training changed at the end."""
    def relative(a, b):
        return abs(a - b) / max(abs(b), 1e-8)
    terms = [max(relative(a[k], b[k]) for k in TERMS if k != "consistency") for a, b in zip(steps, reference)]
    consistency = [abs(a["consistency"] - b["consistency"]) for a, b in zip(steps, reference)]
    change = {k: (exact[k] - start_result[k]).norm() for k in exact}
    # A weight that training did not move has no relative error.
    worst = max(float((result[k] - exact[k]).norm() / change[k]) if change[k] > 0 else 0.0 for k in exact)
    return {"terms_relative": terms, "consistency_absolute": consistency, "result_relative": worst}


def check(name, case, steps, noise):
    """A fixture that is not what it claims to be must not be written."""
    problems = []
    if "adapter" not in case and abs(steps[0]["consistency"]) > 1e-6:
        problems.append(f"consistency at step 1 is {steps[0]['consistency']:.3g}: the student is not the teacher")
    if max(noise["terms_relative"]) > 1e-4:
        problems.append(f"terms differ from the fp64 run by {max(noise['terms_relative']):.3g}")
    if noise["result_relative"] > 2e-3:
        problems.append(f"result differs from the fp64 run by {noise['result_relative']:.3g}")
    if problems:
        sys.exit(f"{name}: " + "; ".join(problems))


def make_case(name, root):
    folder, case = prepare(name, root)
    sequences = training.load_sequences(folder / case["data"])
    run, exact = start(folder, case, torch.float32), start(folder, case, torch.float64)
    start_result = exact.result()
    steps, reference = training.train(run, case, sequences), training.train(exact, case, sequences)
    noise = deviation(steps, reference, run.result(), exact.result(), start_result)
    check(name, case, steps, noise)
    initial, final, drift = training.evaluate(run, sequences)
    expected = {"proves": CASES[name]["proves"], "steps": steps, "initial_loss": initial, "final_loss": final,
                "final_drift": drift, "fp64_deviation": noise}
    trained = sorted(k for k in run.result() if case["method"] != "full" and not k.endswith((".delta", "magnitude")))
    if trained:
        expected["trained_tensors"] = trained
    if CASES[name].get("torch_bf16"):
        expected["terms_torch_bf16"] = training.train(start(folder, case, torch.bfloat16), case, sequences)
    write_json(folder / "expected.json", expected)
    save_file({"logits": base_logits(folder, case, sequences), **run.result()}, folder / "expected.safetensors")
    return steps, noise


def size_of(folder):
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help="default: all")
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "fixtures")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.cases if name not in CASES]
    if unknown:
        parser.error(f"unknown case {unknown[0]}; there are {', '.join(CASES)}")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    warnings.filterwarnings("ignore")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    print(f"{'case':24}{'KiB':>6}  {'loss':>17}  {'terms':>8} {'result':>8}  against fp64")
    for name in arguments.cases or CASES:
        steps, noise = make_case(name, arguments.out)
        print(f"{name:24}{size_of(arguments.out / name) / 1024:6.0f}  {steps[0]['loss']:8.4f} {steps[-1]['loss']:8.4f}"
              f"  {max(noise['terms_relative']):8.1e} {noise['result_relative']:8.1e}", flush=True)
    print(f"{'total':24}{size_of(arguments.out) / 1024:6.0f}")


if __name__ == "__main__":
    main()
