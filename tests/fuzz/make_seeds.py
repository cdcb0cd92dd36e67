#!/usr/bin/env python3
"""Writes the seeds of the fuzz targets, tests/fuzz/seeds/TARGET/NAME: small valid inputs of every form, many of them cut
out of the fixtures; parts of an input are joined by the byte 0xFF (fuzz.h). And their dictionaries,
tests/fuzz/dictionaries/TARGET.dict: the strings that the parsers' sources compare with.

    python3 tests/fuzz/make_seeds.py
"""
import json
import pathlib
import re
import shutil
import struct

HERE = pathlib.Path(__file__).resolve().parent
TESTS = HERE.parent
ORACLE = TESTS / "oracle" / "fixtures"
CUT = b"\xff"
LIMIT = 150_000  # bytes of all seeds


def compact(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def header(tensors, metadata=None):
    """The header of tensors [(name, dtype, shape)] that lie behind each other, and the bytes they take."""
    sizes = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "U8": 1, "BOOL": 1}
    out, place = {}, 0
    if metadata is not None:
        out["__metadata__"] = metadata
    for name, dtype, shape in tensors:
        size = sizes[dtype]
        for side in shape:
            size *= side
        out[name] = {"dtype": dtype, "shape": shape, "data_offsets": [place, place + size]}
        place += size
    return compact(out), place


def safetensors():
    one, _ = header([("a", "F32", [2, 3]), ("b.weight", "BF16", [4]), ("c", "I64", [])], {"format": "pt"})
    empty, _ = header([("none", "F32", [0, 5]), ("bytes", "U8", [3])])
    several, size = header([(f"layers.{i}.w", "F16", [2, 2]) for i in range(6)])
    whole = struct.pack("<Q", len(several)) + several + bytes(size)
    yield "three", b"\0" + one
    yield "zero-sized", b"\0" + empty
    yield "whole", b"\1" + whole
    yield "no-tensors", b"\0{}"
    yield "unknown-type", b"\0" + compact({"x": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}})


def index():
    a, _ = header([("one", "F32", [2]), ("two", "F32", [1, 2])])
    b, _ = header([("three", "F32", [3])])
    weight_map = {"one": "a.safetensors", "two": "a.safetensors", "three": "b.safetensors"}
    yield "two-shards", CUT.join([compact({"metadata": {"total_size": 28}, "weight_map": weight_map}), a, b])
    yield "one-shard", CUT.join([compact({"weight_map": {"three": "c.safetensors"}}), b"", b"", b])
    yield "traversal", compact({"weight_map": {"one": "../a.safetensors"}})


def configs():
    """The fixtures' configurations, without what no reader looks at, each form once."""
    ignored = {"architectures", "attention_dropout", "initializer_range", "transformers_version", "use_cache",
               "pretraining_tp", "pad_token_id", "bos_token_id", "eos_token_id"}
    seen = set()
    for path in sorted(ORACLE.glob("*/model/config.json")):
        config = {k: v for k, v in json.loads(path.read_text()).items() if k not in ignored}
        text = compact(config)
        if text not in seen:
            seen.add(text)
            yield path.parent.parent.name, text


def config():
    yield from configs()
    old = {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 8, "intermediate_size": 16,
           "num_attention_heads": 2, "vocab_size": 9, "torch_dtype": "float16", "rope_theta": 500000.0,
           "rope_scaling": {"type": "linear", "factor": 2.0}}
    yield "transformers-4", compact(old)
    yield "text-config", compact({"model_type": "gemma3", "text_config": dict(old, model_type="gemma3_text")})


def small_tokenizer(path, texts):
    """tokenizer.json with the tokens and merges that a few texts need."""
    whole = json.loads(path.read_text())
    vocabulary = whole["model"]["vocab"]
    merges = whole["model"]["merges"][:24]
    kept = {token for token in vocabulary if len(token) == 1}
    for merge in merges:
        left, right = merge if isinstance(merge, list) else merge.split(" ")
        kept |= {left, right, left + right}
    bytes_needed = {c for text in texts for c in text} | {"\u0120", "\u010a", "\u2581"}
    kept = {token for token in kept if len(token) > 1 or token in bytes_needed
            or any(token in (m if isinstance(m, list) else m.split(" ")) for m in merges)}
    kept |= {whole["model"].get("unk_token"), "<s>", "</s>", "<bos>", "<eos>"} & vocabulary.keys()
    kept |= {f"<0x{byte:02X}>" for byte in "\0 🙂§".encode()} & vocabulary.keys()
    whole["model"]["vocab"] = {token: i for token, i in vocabulary.items() if token in kept}
    whole["model"]["merges"] = merges
    whole["added_tokens"] = whole["added_tokens"][:4]
    return compact(whole)


def tokenizer():
    texts = ["Hello, wörld! 123 ", "<|im_start|>user\n\u0041\u030a<|im_end|>", "  two\r\n\n lines\u3000"]
    texts += ["  Hello,  🙂§\0 \u2581 world<s>\n"]
    for i, name in enumerate(["gpt2", "llama3", "qwen", "smollm2", "edge_prefix", "edge_unknown",
                              "gemma", "llama2", "metaspace", "edge_spaces", "edge_fused"]):
        folder = TESTS / "fixtures" / "tokenizer" / name
        text = texts[i % 3] if i < 6 else texts[3]
        yield name, CUT.join([small_tokenizer(folder / "tokenizer.json", texts),
                              (folder / "tokenizer_config.json").read_bytes(), text.encode()])


def jsonl():
    rows = {
        "instruction": (b"\0", [{"instruction": "Add 1 and 2.", "response": "3"}, {"question": "q?", "answer": "a"}]),
        "completion": (b"\0", [{"prompt": "a: #", "completion": " b"}, {"text": "free text"}]),
        "chatml": (b"\1", [{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]}]),
        "llama3": (b"\2", [{"messages": [{"role": "system", "content": " x "}, {"role": "assistant", "content": "y"}]}]),
        "short": (b"\x40", [{"text": "longer than eight tokens"}]),
        "small-vocabulary": (b"\x80", [{"text": "~~~~"}]),
    }
    for name, (form, lines) in rows.items():
        yield name, form + CUT + b"\n".join(compact(line) for line in lines) + b"\n"
    yield "fields", b"\0ask,say" + CUT + b'\xef\xbb\xbf{"ask":"1","say":"2"}\r\n\r\n {"ask":"3","say":"4"}'
    yield "one-field", b"\0body" + CUT + b'{"body":"a\\u00e9\\ud83d\\ude00 b"}'


def tokens():
    def one(ids, labels, offsets, width="<i", kind="I32"):
        tensors = [("input_ids", kind, [len(ids)]), ("offsets", "I64", [len(offsets)])]
        data = b"".join(struct.pack(width, i) for i in ids) + b"".join(struct.pack("<q", o) for o in offsets)
        if labels is not None:
            tensors.insert(1, ("labels", kind, [len(labels)]))
            data = (b"".join(struct.pack(width, i) for i in ids + labels)
                    + b"".join(struct.pack("<q", o) for o in offsets))
        return header(tensors)[0] + CUT + data
    yield "labels", b"\x20\0" + one([1, 2, 3, 4], [-100, 2, -100, 4], [0, 2, 4])
    yield "no-labels", b"\x20\2" + one([1, 2, 3, 4, 5], None, [0, 1, 1, 5])
    yield "wide", b"\x20\0" + one([1, 2, 3], [1, 2, 3], [0, 3], "<q", "I64")


def tiny_modules():
    return {"self_attn.q_proj": (4, 4), "self_attn.k_proj": (2, 4), "self_attn.v_proj": (2, 4),
            "self_attn.o_proj": (4, 4), "mlp.gate_proj": (6, 4), "mlp.up_proj": (6, 4), "mlp.down_proj": (4, 6)}


def adapter():
    def one(modules, rank, ranks=None, extra=(), **keys):
        tensors = []
        for module in modules:
            out, width = tiny_modules()[module]
            r = (ranks or {}).get(module, rank)
            name = f"base_model.model.model.layers.0.{module}."
            tensors += [(name + "lora_A.weight", "F32", [r, width]), (name + "lora_B.weight", "F32", [out, r])]
        tensors += list(extra)
        settings = {"peft_type": "LORA", "r": rank, "lora_alpha": 4, "bias": "none", "task_type": "CAUSAL_LM",
                    "target_modules": sorted({m.split(".")[-1] for m in modules})}
        settings.update(keys)
        return compact(settings) + CUT + header(sorted(tensors))[0]
    q, down = "self_attn.q_proj", "mlp.down_proj"
    magnitude = ("base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector", "F32", [4])
    head = ("base_model.model.lm_head.weight", "F32", [5, 4])
    yield "all", one(tiny_modules(), 1)
    yield "q", one([q], 2, use_rslora=True, lora_dropout=0.1)
    yield "regex", one([q, down], 1, target_modules=r".*\.(q_proj|down_proj)", layers_to_transform=[0])
    yield "patterns", one([q, down], 1, ranks={down: 2}, rank_pattern={"down_proj": 2},
                          alpha_pattern={r"mlp\.down_proj": 8})
    yield "dora", one([q], 1, extra=[magnitude], use_dora=True)
    yield "saved-head", one([q], 1, extra=[head], modules_to_save=["lm_head"])
    yield "full-names", one([q], 1, target_modules=["model.layers.0.self_attn.q_proj"], exclude_modules=["v_proj"],
                            init_lora_weights="gaussian", layers_pattern="layers")


def model():
    settings = {"model_type": "llama", "num_hidden_layers": 1, "hidden_size": 4, "intermediate_size": 6,
                "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 5, "head_dim": 2,
                "max_position_embeddings": 16}

    def one(kind, dtype="F32", tied=True, bias=False, **keys):
        tensors = [("model.embed_tokens.weight", dtype, [5, 4]), ("model.norm.weight", dtype, [4])]
        for norm in ["input_layernorm", "post_attention_layernorm"]:
            tensors.append((f"model.layers.0.{norm}.weight", dtype, [4]))
        for module, (out, width) in tiny_modules().items():
            tensors.append((f"model.layers.0.{module}.weight", dtype, [out, width]))
            if bias:
                tensors.append((f"model.layers.0.{module}.bias", dtype, [out]))
        if not tied:
            tensors.append(("lm_head.weight", dtype, [5, 4]))
        return kind + compact(dict(settings, tie_word_embeddings=tied, **keys)) + CUT + header(tensors)[0]
    yield "tied", one(b"\0")
    yield "untied-bf16", one(b"\1", "BF16", False)
    yield "biases", one(b"\2", "F16", attention_bias=True, mlp_bias=True, bias=True)
    yield "mistral", one(b"\0", model_type="mistral", sliding_window=3)


# Where a target's keys and values are read.
SOURCES = {
    "adapter": ["adapter/*.c", "format/safetensors*.c", "format/tensor_files.c"],
    "checkpoint": ["train/checkpoint*.c", "train/identity.c", "format/safetensors*.c"],
    "config": ["model/config*.c"],
    "gguf": ["format/gguf*.c", "adapter/*gguf*.c"],
    "index": ["format/tensor_files.c", "format/safetensors*.c"],
    "jsonl": ["data/row.c", "data/jsonl.c", "text/prompt.c"],
    "model": ["model/config*.c", "model/weights*.c", "format/safetensors*.c"],
    "safetensors": ["format/safetensors*.c"],
    "tokenizer": ["text/*.c"],
    "tokens": ["data/token_file.c", "format/safetensors*.c"],
}
PUNCTUATION = ["{", "}", "[", "]", ":", ",", '"', "null", "true", "false", "-1", "0", "1e30", "1e-5", "9223372036854775807",
               "18446744073709551616", "\\u0000", "\\ud800", "\n", "\\xff"]


def dictionary(target):
    words = set()
    for pattern in SOURCES[target]:
        for path in sorted((TESTS.parent / "src").glob(pattern)):
            code = re.sub(r"/\*.*?\*/|#include[^\n]*", "", path.read_text(), flags=re.S)
            words |= set(re.findall(r'"([A-Za-z0-9_.<|>]{1,40})"', code))
    quoted = sorted(words) + PUNCTUATION
    return "".join('"%s"\n' % (w if w == "\\xff" else w.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\x0a"))
                   for w in quoted)


def gguf():
    def text(value):
        raw = value.encode()
        return struct.pack("<Q", len(raw)) + raw

    def value(key, kind, raw):
        return text(key) + struct.pack("<I", kind) + raw

    def tensor(name, shape, kind, offset):
        return text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape) + struct.pack(
            "<IQ", kind, offset)

    def one(values, tensors, blocks, form=0):
        """What follows the counts, aligned to 32 bytes with them, and `blocks` of 32 bytes of data."""
        body = b"".join(values) + b"".join(tensors)
        return bytes([form + 4 * blocks, len(tensors), len(values)]) + body + bytes(-(24 + len(body)) % 32)

    adapter_values = [value("general.architecture", 8, text("llama")), value("general.type", 8, text("adapter")),
                      value("adapter.type", 8, text("lora")), value("adapter.lora.alpha", 6, struct.pack("<f", 16.0))]
    pair = [tensor("blk.0.attn_q.weight.lora_a", [4, 2], 0, 0), tensor("blk.0.attn_q.weight.lora_b", [2, 4], 1, 32)]
    yield "adapter", one(adapter_values, pair, 2)
    numbers = [value(name, kind, struct.pack(code, 1)) for name, kind, code in [
        ("u8", 0, "<B"), ("i8", 1, "<b"), ("u16", 2, "<H"), ("i16", 3, "<h"), ("u32", 4, "<I"), ("i32", 5, "<i"),
        ("f32", 6, "<f"), ("bool", 7, "<B"), ("u64", 10, "<Q"), ("i64", 11, "<q"), ("f64", 12, "<d")]]
    yield "numbers", one(numbers, [], 0)
    arrays = [value("tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, 2) + text("a") + text("bc")),
              value("scores", 9, struct.pack("<IQ2f", 6, 2, 0.5, -1)), value("general.alignment", 4, struct.pack("<I", 32))]
    yield "arrays", one(arrays, [tensor("q8", [32], 8, 0)], 2)
    yield "version-2", one(adapter_values[:1], [tensor("k", [8, 1, 1, 1], 0, 0)], 1, form=2)
    whole = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + adapter_values[0]
    yield "whole", bytes([1]) + whole + bytes(-len(whole) % 32)


def checkpoint():
    """A byte for the file, then patches: offset, how many bytes go, what comes."""
    def patch(at, gone, text):
        return struct.pack("<HB", at, gone) + text
    for number, name in enumerate(["trainer", "manifest", "adapter", "optimizer"]):
        yield name, bytes([number])
        yield name + "-key", bytes([number]) + patch(6, 1, b"x") + CUT + patch(40, 2, b"7")
    yield "trainer-text", b"\0" + patch(0, 200, b'{"step": 1, "version": 1}')
    yield "manifest-text", b"\1" + patch(0, 200, b'{"format": "libbalora checkpoint", "version": 2, "step": 1, "files": {}}')
    yield "adapter-header", b"\2" + patch(1, 0, b'"more":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},')


TARGETS = [adapter, checkpoint, config, gguf, index, jsonl, model, safetensors, tokenizer, tokens]


def main():
    total = 0
    for target in TARGETS:
        folder = HERE / "seeds" / target.__name__
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name, content in target():
            (folder / name).write_bytes(content)
            total += len(content)
        dictionaries = HERE / "dictionaries"
        dictionaries.mkdir(exist_ok=True)
        (dictionaries / f"{target.__name__}.dict").write_text(dictionary(target.__name__))
    if total > LIMIT:
        raise SystemExit(f"the seeds have {total} bytes; at most {LIMIT} are wanted")
    print(f"{total} bytes")


if __name__ == "__main__":
    main()
