"""Tiny model folders and token files, made so that what is compared with them is well conditioned."""
import json
import math

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

# Output rms of each linear for an input of rms 1: attention is far from uniform, logits far from flat.
GAINS = {"q_proj": 1.6, "k_proj": 1.6, "v_proj": 1.0, "o_proj": 0.8, "gate_proj": 1.2, "up_proj": 1.2,
         "down_proj": 0.8, "lm_head": 2.5}

# Successive singular values differ by 10 %, so that the top-r singular space of every matrix is unambiguous.
DECAY = 0.9


def spectral_matrix(rows, columns, gain, generator):
    """U diag(DECAY^i) V^T with random orthogonal U and V, scaled to the output rms `gain`; fp64."""
    n = min(rows, columns)
    u = torch.linalg.qr(torch.randn(rows, n, generator=generator, dtype=torch.float64)).Q
    v = torch.linalg.qr(torch.randn(columns, n, generator=generator, dtype=torch.float64)).Q
    sigma = DECAY ** torch.arange(n, dtype=torch.float64)
    return u @ torch.diag(sigma * gain * math.sqrt(rows) / sigma.norm()) @ v.T


def fill(model, seed):
    """Replaces every parameter; tied ones appear once under the name of the embedding."""
    g = torch.Generator().manual_seed(seed)
    head_is_tied = model.config.tie_word_embeddings
    stored = 0 if model.config.model_type.startswith("gemma") else 1  # Gemma's norms multiply by 1 + w
    with torch.no_grad():
        for name, p in model.named_parameters():
            owner = name.split(".")[-2]
            if name.endswith(".bias"):
                value = 0.3 * torch.randn(p.shape, generator=g, dtype=torch.float64)
            elif p.dim() == 1:
                value = stored + 0.1 * torch.randn(p.shape, generator=g, dtype=torch.float64)
            elif owner == "embed_tokens":
                # A tied embedding is the head as well: smaller rows keep the logits moderate.
                scale = 2.5 / math.sqrt(p.shape[1]) if head_is_tied else 1.0
                value = scale * torch.randn(p.shape, generator=g, dtype=torch.float64)
            else:
                value = spectral_matrix(*p.shape, GAINS[owner], g)
            p.copy_(value)


def rewrite_gemma_as_transformers4(config):
    """What Gemma's files had, or did not have, before layer types and one RoPE for each of them were written."""
    config.pop("tie_word_embeddings", None)
    config.pop("layer_types", None)
    config.pop("use_bidirectional_attention", None)
    if config["model_type"] == "gemma":
        config["hidden_act"], config["hidden_activation"] = "gelu", None
    if config["model_type"] == "gemma3_text":
        config.pop("_sliding_window_pattern", None)
        config["rope_local_base_freq"] = config["rope_parameters"]["sliding_attention"]["rope_theta"]
        config["rope_parameters"] = config["rope_parameters"]["full_attention"]


def rewrite_as_transformers4(folder, legacy_type_key=False, **changes):
    """Turns the config.json of Transformers 5 into the keys that version 4 wrote."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    if config["model_type"].startswith("gemma"):
        rewrite_gemma_as_transformers4(config)
    config.update(changes)
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    if rope.get("rope_type", "default") == "default":
        config["rope_scaling"] = None
    else:
        if legacy_type_key:
            rope["type"] = rope.pop("rope_type")
        config["rope_scaling"] = rope
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.44.2"
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def make_model(folder, spec):
    """Writes the model folder of one case and returns nothing: the oracle reads it back as a user would."""
    options = dict(spec)
    family = options.pop("family", "llama")
    seed = options.pop("seed")
    dtype = getattr(torch, options.pop("dtype", "float32"))
    shard = options.pop("max_shard_size", None)
    transformers4 = options.pop("transformers4", None)
    options.setdefault("max_position_embeddings", 64)
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(family, bos_token_id=1, eos_token_id=2, **options))
    fill(model, seed)
    model.to(dtype)
    model.config.dtype = dtype
    model.save_pretrained(folder, **({"max_shard_size": shard} if shard else {}))
    (folder / "generation_config.json").unlink(missing_ok=True)
    if transformers4:
        kept = {k: options[k] for k in ("sliding_window_pattern",) if k in options}
        rewrite_as_transformers4(folder, legacy_type_key=transformers4 == "legacy", **kept)


def make_data(path, vocabulary, seed, lengths=(14, 23, 9, 5, 17, 12, 21, 7)):
    """Eight ragged sequences with every kind of mask that a data file can hold.

    Sequence 1 is supervised from its first token on, 2 has two answers with a gap, 3 nothing at all,
    6 only its last token; the others a prompt and an answer. One label of sequence 0 differs from its
    token: targets are labels, not tokens.
    """
    g = torch.Generator().manual_seed(seed)
    ids, labels, offsets = [], [], [0]
    for i, n in enumerate(lengths):
        x = torch.randint(3, vocabulary, (n,), generator=g, dtype=torch.int32)
        y = x.clone()
        if i == 2:
            y[:2] = y[4:6] = -100
        elif i == 3:
            y[:] = -100
        elif i == 6:
            y[:-1] = -100
        elif i != 1:
            y[:n // 2] = -100
        if i == 0:
            y[n // 2 + 1] = (y[n // 2 + 1] + 1 - 3) % (vocabulary - 3) + 3
        ids.append(x)
        labels.append(y)
        offsets.append(offsets[-1] + n)
    save_file({"input_ids": torch.cat(ids), "labels": torch.cat(labels),
               "offsets": torch.tensor(offsets, dtype=torch.int64)}, path)
