"""The fixtures by name: what each one proves, its model and the options that differ from DEFAULTS."""

# Option names are those of the command line with underscores. The weights of the regularizers are larger than a
# user would choose, so that every term has a share in every gradient.
DEFAULTS = {
    "method": "ba-lora", "rank": 4, "alpha": 8, "use_rslora": False, "target_modules": "all-linear",
    "learning_rate": 1e-3, "weight_decay": 0.0, "max_grad_norm": 1.0, "lr_schedule": "cosine", "warmup_ratio": 0.0,
    "max_steps": 6, "batch_size": 4, "gradient_accumulation": 1, "no_shuffle": True,
    "lambda_consistency": 0.5, "lambda_diversity": 0.3, "lambda_svd": 0.3, "temperature": 2.0, "top_k": 20,
    "svd_k": 10, "svd_norm": "frobenius", "positions": "label", "loss_reduction": "global",
    "consistency_schedule": "constant", "focus_schedule": "constant", "focus_warmup_ratio": 0.2,
    "focus_ramp_ratio": 0.05,
}

LLAMA = dict(vocab_size=160, hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, rms_norm_eps=1e-5)
SMALL = dict(vocab_size=97, hidden_size=32, intermediate_size=52, num_hidden_layers=2, num_attention_heads=2,
             num_key_value_heads=1, rms_norm_eps=1e-6)
# Families other than LLaMA: head_dim is not hidden_size / heads.
FAMILY = dict(vocab_size=71, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=2,
              num_key_value_heads=1, head_dim=16, rms_norm_eps=1e-6)
NO_TERMS = dict(lambda_consistency=0.0, lambda_diversity=0.0, lambda_svd=0.0)


def small(seed, **changes):
    return {**SMALL, "seed": seed, **changes}


def family(name, seed, **changes):
    return {**FAMILY, "family": name, "seed": seed, **changes}


def rope(kind, theta=10000.0, **parameters):
    return {"rope_type": kind, "rope_theta": theta, **parameters}


TWO_ROPES = {"full_attention": rope("linear", 1000.0, factor=3.0), "sliding_attention": rope("default", 20.0)}

CASES = {
    # --- families and configurations; `model` is a specification or the case that owns the folder
    "llama": dict(
        proves="every default schedule over ten steps; grouped-query attention, untied head",
        model={**LLAMA, "seed": 1},
        options=dict(max_steps=10, warmup_ratio=0.03, consistency_schedule="cosine", focus_schedule="two_phase")),
    "llama-biases": dict(
        proves="attention_bias and mlp_bias; odd sizes",
        model=dict(vocab_size=157, hidden_size=48, intermediate_size=77, num_hidden_layers=2, num_attention_heads=6,
                   num_key_value_heads=2, rms_norm_eps=1e-5, attention_bias=True, mlp_bias=True, seed=2)),
    "llama-tied": dict(
        proves="tied head; explicit head_dim 14 that is not hidden_size / heads",
        model=dict(vocab_size=131, hidden_size=44, intermediate_size=75, num_hidden_layers=2, num_attention_heads=4,
                   num_key_value_heads=2, head_dim=14, tie_word_embeddings=True, rms_norm_eps=1e-5, seed=3)),
    "llama-rope-linear": dict(
        proves="rope_type linear; as many key/value heads as heads",
        model=small(4, num_key_value_heads=2, rope_parameters=rope("linear", factor=2.5))),
    "llama-rope-dynamic": dict(
        proves="rope_type dynamic: sequences below, at and above max_position_embeddings, each by its own length",
        model=small(5, max_position_embeddings=12, rope_parameters=rope("dynamic", factor=2.0))),
    "llama-rope-llama3": dict(
        proves="rope_type llama3 with unchanged, blended and divided frequencies; multi-query attention",
        model=small(6, max_position_embeddings=4096,
                    rope_parameters=rope("llama3", 500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                         original_max_position_embeddings=512))),
    "llama-rope-yarn": dict(
        proves="rope_type yarn with the default betas and the attention factor inferred from factor",
        model=small(7, max_position_embeddings=16384,
                    rope_parameters=rope("yarn", factor=8.0, original_max_position_embeddings=2048))),
    "llama-rope-yarn-mscale": dict(
        proves="rope_type yarn with mscale, mscale_all_dim and other betas",
        model=small(8, max_position_embeddings=256,
                    rope_parameters=rope("yarn", factor=4.0, original_max_position_embeddings=64, beta_fast=4.0,
                                         beta_slow=1.0, mscale=0.8, mscale_all_dim=0.5)),
        options=dict(target_modules="q_proj,k_proj")),
    "mistral-window": dict(
        proves="sliding_window 4, shorter than the sequences, over three layers",
        model=small(9, family="mistral", num_hidden_layers=3, sliding_window=4)),
    "mistral-null-window": dict(
        proves="sliding_window null",
        model=small(10, family="mistral", sliding_window=None)),
    "qwen2": dict(
        proves="biases of q, k and v but not of o; multi-query attention; use_sliding_window with max_window_layers 1 "
               "of 3, window 4 shorter than the sequences",
        model=family("qwen2", 21, num_hidden_layers=3, use_sliding_window=True, sliding_window=4,
                     max_window_layers=1),
        options=dict(target_modules="q_proj,k_proj,v_proj")),
    "qwen3": dict(
        proves="norms of q and k before they are rotated; head_dim 16 that is not hidden_size / heads; layer_types",
        model=family("qwen3", 22, use_sliding_window=True, sliding_window=5,
                     layer_types=["sliding_attention", "full_attention"])),
    "qwen3-full": dict(
        proves="every parameter trained, norms of q and k too, with every regularizer",
        model="qwen3", options=dict(method="full", max_steps=4)),
    "gemma": dict(
        proves="norms of 1 + w, scaled embeddings, tanh GELU; config.json as Transformers 4 wrote it: hidden_act gelu "
               "that means its tanh form, and nothing about the head, which is tied",
        model=family("gemma", 23, hidden_act="gelu_pytorch_tanh", transformers4="rope_type")),
    "gemma-full": dict(
        proves="every parameter trained: embedding and head are one matrix, scaled as the embedding only",
        model="gemma", options=dict(method="full", max_steps=4)),
    "gemma2": dict(
        proves="soft-caps of attention and logits small enough to matter, the SVD term under a soft-cap, four norms a "
               "block, local and full layers in turn, window 4 shorter than the sequences",
        model=family("gemma2", 26, sliding_window=4, attn_logit_softcapping=2.0, final_logit_softcapping=3.0,
                     query_pre_attn_scalar=24)),
    "gemma2-nuclear": dict(
        proves="the SVD term under a soft-cap by the nuclear norm, two micro-batches, adaptive consistency, diversity "
               "over the whole vocabulary",
        model="gemma2", options=dict(svd_norm="nuclear", batch_size=2, gradient_accumulation=2, top_k=0,
                                     consistency_schedule="adaptive", target_modules="q_proj,o_proj")),
    "gemma2-full": dict(
        proves="every parameter trained under soft-caps, embedding and head being one matrix, with every regularizer",
        model="gemma2", options=dict(method="full", max_steps=4)),
    "gemma2-bf16": dict(
        proves="weights stored in bfloat16, sqrt(hidden) rounded as they are; config.json as Transformers 4 wrote it",
        model=family("gemma2", 27, dtype="bfloat16", transformers4="rope_type", hidden_size=44, intermediate_size=56,
                     sliding_window=4, attn_logit_softcapping=5.0, final_logit_softcapping=8.0,
                     query_pre_attn_scalar=16),
        options=dict(max_steps=4, target_modules="q_proj,v_proj,down_proj"),
        torch_bf16=True),
    "gemma3": dict(
        proves="four norms a block, norms of q and k, local and full layers with a RoPE of their own, window 4 shorter "
               "than the sequences, query_pre_attn_scalar that is not head_dim",
        model=family("gemma3_text", 24, sliding_window=4, layer_types=["sliding_attention", "full_attention"],
                     query_pre_attn_scalar=24, attention_bias=True, rope_parameters=TWO_ROPES)),
    "gemma3-full": dict(
        proves="every parameter trained, all six norms of a block too, with every regularizer",
        model="gemma3", options=dict(method="full", max_steps=4)),
    "gemma3-config4": dict(
        proves="config.json as Transformers 4 wrote it: rope_local_base_freq, rope_scaling of the full layers alone, "
               "sliding_window_pattern",
        model=family("gemma3_text", 25, transformers4="rope_type", num_hidden_layers=3, sliding_window=5,
                     sliding_window_pattern=2, query_pre_attn_scalar=16, rope_parameters=TWO_ROPES),
        options=dict(target_modules="q_proj,k_proj")),
    # --- the objective and the loop, on the model of `llama`
    "accumulation": dict(
        proves="two micro-batches of two ragged sequences, reduction global",
        model="llama", options=dict(batch_size=2, gradient_accumulation=2, loss_reduction="global")),
    "mean-of-means": dict(
        proves="the same micro-batches, reduction mean_of_means",
        model="llama", options=dict(batch_size=2, gradient_accumulation=2, loss_reduction="mean_of_means")),
    "topk-all": dict(
        proves="diversity over the whole vocabulary; svd_k 5; consistency at temperature 1",
        model="llama", options=dict(top_k=0, svd_k=5, temperature=1.0)),
    "nuclear": dict(
        proves="spectral term divided by the nuclear norm; temperature 3; a gradient norm that is not clipped",
        model="llama", options=dict(svd_norm="nuclear", temperature=3.0, max_grad_norm=20.0)),
    "positions-predict": dict(
        proves="regularizers at the positions of the task loss; batch of three that wraps round the file",
        model="llama", options=dict(positions="predict", batch_size=3)),
    "schedules": dict(
        proves="adaptive consistency weight, quadratic_warmup focus",
        model="llama", options=dict(consistency_schedule="adaptive", focus_schedule="quadratic_warmup",
                                    focus_warmup_ratio=0.5, lr_schedule="constant")),
    "linear-warmup": dict(
        proves="linear learning rate with warm-up, linear_warmup focus, weight decay",
        model="llama", options=dict(lr_schedule="linear", warmup_ratio=0.3, focus_schedule="linear_warmup",
                                    focus_warmup_ratio=0.5, weight_decay=0.1)),
    "rslora": dict(
        proves="rank-stabilised scale at rank 3, two target modules, two_phase focus with a ramp of three steps",
        model="llama", options=dict(use_rslora=True, rank=3, target_modules="q_proj,v_proj",
                                    focus_schedule="two_phase", focus_ramp_ratio=0.5,
                                    consistency_schedule="cosine")),
    # --- other methods
    "lora": dict(
        proves="plain LoRA from a PEFT adapter: task loss alone, B zero but in one module",
        model="llama", adapter={}, options=dict(method="lora", **NO_TERMS)),
    "lora-ba": dict(
        proves="the same start with every regularizer: teacher and student differ from step 1 on",
        model="llama", adapter="lora", options=dict(method="ba-lora", target_modules="all-linear")),
    "peft-patterns": dict(
        proves="target_modules as a regular expression, ranks and alphas by patterns, rank-stabilised scales",
        model="llama-rope-linear", options=dict(use_rslora=True, rank=3),
        adapter=dict(target_modules=r"model\.layers\.\d+\.(self_attn\.[qv]|mlp\.(?:down))_proj",
                     rank_pattern={"down_proj": 2, r"layers\.1\..*q_proj": 5}, alpha_pattern={r"self_attn\..*": 5})),
    "peft-layers": dict(
        proves="layers_to_transform with layers_pattern, exclude_modules as a list: nothing below layer 1 is trained",
        model="mistral-window",
        adapter=dict(target_modules=["q_proj", "k_proj", "up_proj"], layers_to_transform=[1, 2],
                     layers_pattern="layers", exclude_modules=["layers.2.mlp.up_proj", "k_proj"])),
    "peft-all-linear": dict(
        proves="all-linear without what a regular expression excludes; bias all",
        model="llama-biases", options=dict(rank=2),
        adapter=dict(target_modules="all-linear", exclude_modules=r".*\.(mlp|layers\.0)\..*|.*o_proj", bias="all")),
    "peft-bias": dict(
        proves="bias lora_only: the biases of q and v are trained, that of k between them is not",
        model="llama-biases", options=dict(rank=2),
        adapter=dict(target_modules=["q_proj", "v_proj"], bias="lora_only")),
    "peft-saved": dict(
        proves="modules_to_save: head, norms and a whole projection; the SVD term with a trained head",
        model="mistral-null-window", options=dict(rank=2),
        adapter=dict(target_modules=["q_proj", "o_proj"],
                     modules_to_save=["lm_head", "norm", "k_proj"])),
    "peft-untied": dict(
        proves="modules_to_save with one of two tied matrices: PEFT trains a copy, and the embedding stays as it was",
        model="llama-tied", options=dict(rank=2),
        adapter=dict(target_modules=["v_proj"], modules_to_save=["lm_head"])),
    "peft-tied": dict(
        proves="modules_to_save with ensure_weight_tying: embedding and head stay one matrix",
        model="llama-tied", options=dict(rank=2),
        adapter=dict(target_modules=["v_proj"], modules_to_save=["embed_tokens"], ensure_weight_tying=True)),
    "dora": dict(
        proves="DoRA from its start, task loss alone: B zero, magnitudes the norms of the weights' rows",
        model="llama-rope-linear", adapter=dict(use_dora=True, fresh=True),
        options=dict(method="dora", **NO_TERMS)),
    "dora-ba": dict(
        proves="DoRA on its way with every regularizer: biases outside the magnitudes, groups that are adapted in part, "
               "weight decay, two micro-batches",
        model="llama-biases", adapter=dict(use_dora=True, target_modules=["q_proj", "k_proj", "o_proj"]),
        options=dict(rank=2, weight_decay=0.1, batch_size=2, gradient_accumulation=2)),
    "dora-pissa": dict(
        proves="magnitudes beside principal factors, with every regularizer",
        model="llama-rope-linear", options=dict(use_dora=True, rank=3, target_modules="v_proj,o_proj,up_proj")),
    "dropout": dict(
        proves="dropout on the input of the low-rank path, a mask of its own for every module; the teacher has none",
        model="llama-rope-linear", adapter=dict(lora_dropout=0.3, target_modules=["q_proj", "v_proj", "down_proj"]),
        options=dict(rank=2, batch_size=2, gradient_accumulation=2)),
    "dora-dropout": dict(
        proves="dropout with DoRA: the magnitude acts on what was dropped, the frozen weight on all, as PEFT has it",
        model="llama-biases", adapter=dict(use_dora=True, lora_dropout=0.3, target_modules=["q_proj", "k_proj"]),
        options=dict(method="dora", rank=2, **NO_TERMS)),
    "full": dict(
        proves="every parameter trained: embeddings, projections, norms, head",
        model="llama", options=dict(method="full", **NO_TERMS)),
    "full-ba": dict(
        proves="every parameter trained, biases too, with every regularizer against the frozen start",
        model="llama-biases", options=dict(method="full")),
    "full-tied": dict(
        proves="every parameter trained, embedding and head being one matrix",
        model="llama-tied", options=dict(method="full", **NO_TERMS)),
    # --- storage
    "bf16": dict(
        proves="weights stored in bfloat16, arithmetic in fp32 on the widened weights",
        model={**LLAMA, "seed": 11, "dtype": "bfloat16"}, torch_bf16=True),
    "f16": dict(
        proves="weights stored in float16, arithmetic in fp32 on the widened weights",
        model=small(12, dtype="float16")),
    "sharded": dict(
        proves="model.safetensors.index.json with several shards",
        model=small(13, max_shard_size="40KB"), options=dict(target_modules="o_proj,up_proj")),
    "config4": dict(
        proves="config.json as Transformers 4 wrote it: rope_theta, rope_scaling with rope_type, torch_dtype",
        model=small(14, transformers4="rope_type", max_position_embeddings=4096,
                    rope_parameters=rope("llama3", 20000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                         original_max_position_embeddings=512)),
        options=dict(target_modules="q_proj,k_proj")),
    "config4-type": dict(
        proves="the older rope_scaling key `type`; yarn with an explicit attention_factor",
        model=small(15, transformers4="legacy", max_position_embeddings=16384,
                    rope_parameters=rope("yarn", factor=8.0, original_max_position_embeddings=2048,
                                         attention_factor=1.1)),
        options=dict(target_modules="q_proj,k_proj")),
}
