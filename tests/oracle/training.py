"""Training with BA-LoRA in the plainest PyTorch: sequences one by one, full logits, autograd for every gradient.

Nothing here is shared with, or shaped like, the library: no packing, no Gram matrix, no chunks, no analytic
gradient. The model is Transformers' own, the low-rank layers are PEFT's own, AdamW, clipping and the
learning-rate schedule are torch's and Transformers' own.
"""
import copy
import json
import math

import torch
import torch.nn.functional as F
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, get_scheduler

from masks import Dropout
from models import PROJECTIONS


def load_base(folder, dtype=torch.float32):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager")
    model.config.use_cache = False
    # Gemma multiplies embeddings by sqrt(hidden) rounded to the dtype of the weights. That is part of the model, and
    # stays what it was in training when the weights are widened.
    stored = json.loads((folder / "config.json").read_text())
    stored = getattr(torch, stored.get("dtype") or stored["torch_dtype"])
    embeddings = model.get_input_embeddings()
    if hasattr(embeddings, "embed_scale"):
        embeddings.embed_scale = embeddings.embed_scale.to(stored).to(dtype)
    return model.eval()


def load_sequences(path):
    """A token file as a list of (input_ids, labels)."""
    d = load_file(path)
    ids, labels, offsets = d["input_ids"].long(), d["labels"].long(), d["offsets"].tolist()
    return [(ids[a:b], labels[a:b]) for a, b in zip(offsets, offsets[1:])]


def rotary_of(model):
    """The module that keeps a state of dynamic RoPE; None where each layer type has frequencies of its own."""
    return next((m for m in model.modules() if hasattr(m, "original_inv_freq")), None)


def sequence_logits(model, ids):
    """Logits [n, V] of one sequence alone, positions from 0.

    Transformers keeps the largest length seen in the state of dynamic RoPE; a sequence must not depend on what
    was run before it, so that state is reset: its own length decides.
    """
    rotary = rotary_of(model)
    if rotary is not None:
        rotary.inv_freq = rotary.original_inv_freq.clone()
        rotary.max_seq_len_cached = rotary.original_max_seq_len
    return model(input_ids=ids[None]).logits[0]


# ---- the student and the teacher -----------------------------------------------------------------------------

def trained_tensors(model):
    """What PEFT trains as it is, modules_to_save and biases, by the names that checkpoints have."""
    for name, p in model.named_parameters():
        if p.requires_grad and ".lora_" not in name:
            for part in ("base_model.model.", ".modules_to_save.default", ".base_layer"):
                name = name.replace(part, "", 1)
            yield name, p


class Adapted:
    """A PEFT model whose teacher is the base with every adapter disabled."""

    def __init__(self, folder, case, dtype, adapter_folder):
        base = load_base(folder, dtype)
        self.pissa = adapter_folder is None
        self.frozen = None
        self.initial = {}
        self.at, self.seed = None, 0
        if self.pissa and case.get("use_dora"):
            self.frozen = load_base(folder, dtype).requires_grad_(False)
            self.model = get_peft_model(base, LoraConfig(
                r=case["rank"], lora_alpha=case["alpha"], use_dora=True, init_lora_weights="gaussian",
                target_modules=case["target_modules"].split(","), task_type="CAUSAL_LM"),
                autocast_adapter_dtype=dtype != torch.float64)
            if dtype == torch.float64:
                self.model.double()
            self.initialise_on_residual()
        elif self.pissa:
            names = case["target_modules"]
            config = lambda: LoraConfig(r=case["rank"], lora_alpha=case["alpha"], lora_dropout=0.0,
                                        use_rslora=case["use_rslora"], init_lora_weights="gaussian",
                                        target_modules=PROJECTIONS if names == "all-linear" else names.split(","),
                                        task_type="CAUSAL_LM")
            self.model = get_peft_model(base, config(), autocast_adapter_dtype=dtype != torch.float64)
            self.model.add_adapter("initial", config(), autocast_adapter_dtype=dtype != torch.float64)
            self.initialise()
            self.model.base_model.set_adapter(["default", "initial"])
        else:
            self.model = PeftModel.from_pretrained(base, adapter_folder, is_trainable=True,
                                                   autocast_adapter_dtype=dtype != torch.float64)
        # Biases are trained in their places: disabling the adapter does not bring the old ones back.
        if any(True for _ in trained_tensors(self.model)):
            self.frozen = load_base(folder, dtype).requires_grad_(False)
        if dtype == torch.float64:
            self.model.double()
        for name, p in self.model.named_parameters():
            p.requires_grad_(".default." in name or (p.requires_grad and name.endswith(".bias")))
        self.mask_dropout()
        self.first_magnitudes = {name: m.clone() for name, m in self.magnitudes()}

    def mask_dropout(self):
        """PEFT's own layers in training mode, their random masks replaced by computed ones."""
        for name, layer in self.layers():
            dropout = layer.lora_dropout["default"]
            if not isinstance(dropout, torch.nn.Dropout):
                continue
            _, _, number, *path = name.split(".")
            site = int(number) * len(PROJECTIONS) + PROJECTIONS.index(path[-1])
            layer.lora_dropout["default"] = Dropout(self, site, dropout.p)
            layer.train()

    def magnitudes(self):
        for name, layer in self.layers():
            if layer.lora_magnitude_vector:
                yield name, layer.lora_magnitude_vector["default"].weight.detach()

    def layers(self):
        for name, module in self.model.named_modules():
            if hasattr(module, "lora_A") and "default" in module.lora_A:
                yield name.removeprefix("base_model.model."), module

    def initialise(self):
        """PiSSA from a full SVD in fp64; the frozen copy has a negative B, so that nothing changes at step 0."""
        for _, layer in self.layers():
            scale, rank = layer.scaling["default"], layer.r["default"]
            u, s, vt = torch.linalg.svd(layer.base_layer.weight.detach().double(), full_matrices=False)
            root = (s[:rank] / scale).sqrt()
            a, b = (root[:, None] * vt[:rank]).float(), (u[:, :rank] * root).float()
            for name, sign in (("default", 1.0), ("initial", -1.0)):
                layer.lora_A[name].weight.data.copy_(a)
                layer.lora_B[name].weight.data.copy_(sign * b)

    def initialise_on_residual(self):
        """The same for DoRA, whose norm is of one adapter's weight: PEFT's layers on W - s B0 A0, as its own "pissa" does,
        and beside them the frozen model, which the base is no longer."""
        for name, layer in self.layers():
            scale, rank, weight = layer.scaling["default"], layer.r["default"], layer.base_layer.weight.detach()
            u, s, vt = torch.linalg.svd(weight.double(), full_matrices=False)
            root = (s[:rank] / scale).sqrt()
            a, b = (root[:, None] * vt[:rank]).float(), (u[:, :rank] * root).float()
            self.initial[name] = a.double(), b.double()
            norms = weight.double().norm(dim=1)
            layer.base_layer.weight.data.copy_(weight.double() - scale * b.double() @ a.double())
            layer.lora_A["default"].weight.data.copy_(a)
            layer.lora_B["default"].weight.data.copy_(b)
            layer.lora_magnitude_vector["default"].weight.data.copy_(norms)

    def student(self, ids):
        return sequence_logits(self.model, ids)

    def teacher(self, ids):
        if self.frozen is not None:
            with torch.no_grad():
                return sequence_logits(self.frozen, ids)
        with torch.no_grad(), self.model.disable_adapter():
            return sequence_logits(self.model, ids)

    def parameters(self):
        return [p for p in self.model.parameters() if p.requires_grad]

    def result(self):
        """s(BA - B0 A0) of every adapted module, from the factors in fp64, and what is trained as it is; with DoRA the magnitudes,
        before and after."""
        out = {name: p.detach().float().contiguous() for name, p in trained_tensors(self.model)}
        for name, layer in self.layers():
            delta = sum(layer.lora_B[k].weight.double() @ layer.lora_A[k].weight.double() for k in layer.lora_A)
            if name in self.initial:
                a, b = self.initial[name]
                delta = delta - b @ a
            out[name + ".delta"] = (layer.scaling["default"] * delta).detach().float().contiguous()
        for name, magnitude in self.magnitudes():
            out[name + ".magnitude"] = magnitude.float().contiguous()
            out[name + ".first_magnitude"] = self.first_magnitudes[name].float().contiguous()
        return out


class Full:
    """Every parameter trained; the teacher is a frozen copy."""

    def __init__(self, folder, dtype):
        self.model = load_base(folder, dtype)
        self.frozen = copy.deepcopy(self.model).requires_grad_(False)

    def student(self, ids):
        return sequence_logits(self.model, ids)

    def teacher(self, ids):
        return sequence_logits(self.frozen, ids)

    def parameters(self):
        return list(self.model.parameters())

    def result(self):
        return {name: p.detach().float().contiguous() for name, p in self.model.named_parameters()}


# ---- the objective -------------------------------------------------------------------------------------------

def entropy(z):
    logq = F.log_softmax(z, -1)
    return -(logq.exp() * logq).sum(-1)


def spectral_term(z, case):
    if len(z) < 2:
        return None
    sigma = torch.linalg.svdvals(z)
    norm = sigma.sum() if case["svd_norm"] == "nuclear" else sigma.square().sum().sqrt()
    if norm <= 1e-8:
        return None
    return -sigma[:case["svd_k"]].sum() / norm


def micro_batch(run, case, sequences, step, first_slot):
    """Sums of the token terms with their counts, and the spectral term, of one micro-batch. Its sequences are those of the
    step from `first_slot` on."""
    task, supervised, student, teacher = 0.0, 0, [], []
    for slot, (ids, labels) in enumerate(sequences, first_slot):
        run.at = step, slot
        # The model's arithmetic is what is tested: its logits are widened so that the terms add no rounding.
        zf, zp = run.student(ids).double(), run.teacher(ids).double()
        task = task + F.cross_entropy(zf[:-1], labels[1:], ignore_index=-100, reduction="sum")
        supervised += int((labels[1:] != -100).sum())
        if case["positions"] == "predict":
            valid = F.pad(labels[1:], (0, 1), value=-100) != -100
        else:
            valid = labels != -100
        student.append(zf[valid])
        teacher.append(zp[valid])
    run.at = None
    zf, zp, t = torch.cat(student), torch.cat(teacher), case["temperature"]
    kl = F.kl_div(F.log_softmax(zf / t, -1), F.log_softmax(zp / t, -1), reduction="sum", log_target=True)
    k = case["top_k"]
    top = torch.topk(zf, min(k, zf.shape[-1]), -1).values if k else zf
    return {"task": task, "supervised": supervised, "valid": len(zf), "consistency": t * t * kl,
            "diversity": -entropy(top).sum(), "svd": spectral_term(zf, case),
            "teacher_entropy": entropy(zp / t).sum(), "vocabulary": zf.shape[-1]}


def reduce(parts, case):
    """The four terms of one optimizer step from those of its micro-batches."""
    zero = torch.zeros((), dtype=torch.float64)
    if case["loss_reduction"] == "mean_of_means":
        n = len(parts)
        terms = {"task": sum(p["task"] / p["supervised"] for p in parts) / n}
        for key in ("consistency", "diversity"):
            terms[key] = sum(p[key] / p["valid"] for p in parts) / n
        terms["svd"] = sum((zero if p["svd"] is None else p["svd"]) for p in parts) / n
        return terms
    valid = sum(p["valid"] for p in parts)
    terms = {"task": sum(p["task"] for p in parts) / sum(p["supervised"] for p in parts)}
    for key in ("consistency", "diversity"):
        terms[key] = sum(p[key] for p in parts) / valid
    terms["svd"] = sum((zero if p["svd"] is None else p["svd"]) * (p["valid"] / valid) for p in parts)
    return terms


# ---- schedules -----------------------------------------------------------------------------------------------

def consistency_weight(case, t, total, parts):
    weight, kind = case["lambda_consistency"], case["consistency_schedule"]
    if kind == "cosine":
        return 0.1 * weight + 0.9 * weight * 0.5 * (1 + math.cos(math.pi * t / total))
    if kind == "adaptive":
        mean = float(sum(p["teacher_entropy"] for p in parts)) / sum(p["valid"] for p in parts)
        low = 0.1 * weight
        return low + (weight - low) * (1 - min(max(mean / math.log(parts[0]["vocabulary"]), 0.0), 1.0))
    return weight


def focus(case, t, total):
    """Factor of the diversity and spectral weights."""
    kind, warm = case["focus_schedule"], math.floor(case["focus_warmup_ratio"] * total)
    if kind == "constant":
        return 1.0
    if kind == "two_phase":
        ramp = max(math.floor(case["focus_ramp_ratio"] * total), 1)
        return min(max((t - warm) / ramp, 0.0), 1.0)
    return min(t / warm, 1.0) ** (2 if kind == "quadratic_warmup" else 1) if warm else 1.0


def learning_rate_schedule(optimizer, case, total):
    name = {"constant": "constant_with_warmup"}.get(case["lr_schedule"], case["lr_schedule"])
    return get_scheduler(name, optimizer, num_warmup_steps=math.ceil(case["warmup_ratio"] * total),
                         num_training_steps=total)


# ---- the loop ------------------------------------------------------------------------------------------------

def train(run, case, sequences):
    """Trains in file order, wrapping round, and returns the metrics of each optimizer step."""
    parameters = run.parameters()
    optimizer = torch.optim.AdamW(parameters, lr=case["learning_rate"], betas=(0.9, 0.999), eps=1e-8,
                                  weight_decay=case["weight_decay"])
    total = case["max_steps"]
    schedule = learning_rate_schedule(optimizer, case, total)
    steps, at = [], 0
    for t in range(total):
        parts, tokens, start = [], 0, at
        for _ in range(case["gradient_accumulation"]):
            chosen = [sequences[(at + i) % len(sequences)] for i in range(case["batch_size"])]
            at += case["batch_size"]
            tokens += sum(len(ids) for ids, _ in chosen)
            parts.append(micro_batch(run, case, chosen, t, at - case["batch_size"] - start))
        terms = reduce(parts, case)
        factor = focus(case, t, total)
        weights = {"consistency": consistency_weight(case, t, total, parts),
                   "diversity": case["lambda_diversity"] * factor, "svd": case["lambda_svd"] * factor}
        loss = terms["task"] + sum(weights[k] * terms[k] for k in weights)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, case["max_grad_norm"])
        steps.append({**{k: float(v.detach()) for k, v in terms.items()}, "loss": float(loss.detach()),
                      "grad_norm": float(norm), **{"lambda_" + k: v for k, v in weights.items()},
                      "learning_rate": schedule.get_last_lr()[0], "tokens": tokens,
                      "supervised_tokens": sum(p["supervised"] for p in parts)})
        optimizer.step()
        schedule.step()
    return steps


def evaluate(run, sequences):
    """Mean over the supervised next tokens of the whole file: cross entropy of the base and of the student, and the
    drift KL(base || student)."""
    base = student = drift = count = 0.0
    with torch.no_grad():
        for ids, labels in sequences:
            zf, zp, target = run.student(ids)[:-1].double(), run.teacher(ids)[:-1].double(), labels[1:]
            keep = target != -100
            base += float(F.cross_entropy(zp[keep], target[keep], reduction="sum"))
            student += float(F.cross_entropy(zf[keep], target[keep], reduction="sum"))
            drift += float(F.kl_div(F.log_softmax(zf[keep], -1), F.log_softmax(zp[keep], -1), reduction="sum",
                                    log_target=True))
            count += int(keep.sum())
    return base / count, student / count, drift / count
