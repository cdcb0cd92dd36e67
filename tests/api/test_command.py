"""The command balora: its words, files, figures and exit codes, on a small model.

    test_command.py BALORA FIXTURES
"""
import array
import json
import os
import pathlib
import pty
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

import report

BALORA, FIXTURES = (str(pathlib.Path(word).resolve()) for word in sys.argv[1:3])
MODEL, DATA = f"{FIXTURES}/llama/model", f"{FIXTURES}/llama/data.safetensors"
METRICS = ["step", "epoch", "loss", "task", "consistency", "diversity", "svd", "grad_norm", "lambda_consistency",
           "lambda_diversity", "lambda_svd", "learning_rate", "tokens", "supervised_tokens", "seconds",
           "peak_memory_bytes"]
DONE, FAILED, USAGE, CANCELLED = 0, 1, 2, 3


def balora(*words, code=DONE, contains=""):
    """Run, hold to the exit code, and to one line of stderr where it is not zero. Returns stdout."""
    run = subprocess.run([BALORA, *map(str, words)], capture_output=True, text=True)
    said = f"balora {' '.join(map(str, words))}: exit code {run.returncode}\n{run.stdout}{run.stderr}"
    report.check_equal(run.returncode, code, said)
    if code in (FAILED, USAGE) and contains:
        report.check(contains in run.stderr, f"{said}\nexpected: {contains}")
    elif contains:
        report.check(contains in run.stdout, f"{said}\nexpected: {contains}")
    if code in (FAILED, USAGE) and words:
        report.check(len(run.stderr.strip().splitlines()) == 1, f"not one line: {said}")
    return run.stdout


def train(out, *words, **arguments):
    return balora("train", "--model", MODEL, "--data", DATA, "--out", out, "--rank", 4, *words, **arguments)


def read_metrics(out):
    with open(pathlib.Path(out) / "metrics.jsonl") as lines:
        return [json.loads(line) for line in lines]


def read_safetensors(path):
    data = pathlib.Path(path).read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8:8 + length]), data[8 + length:]


def usage():
    balora(code=USAGE)
    balora("--help", contains="train")
    balora("--version", contains="balora 0.")
    balora("trian", code=USAGE, contains="did you mean train?")
    balora("qwertz", code=USAGE, contains="unknown command")
    for command in ("train", "eval", "merge", "convert", "info"):
        page = balora(command, "--help", contains=f"balora {command}")
        lines = page.splitlines()
        report.check(len(lines) <= 24 and max(map(len, lines)) < 80, f"{command} --help does not fit a screen:\n{page}")
        balora(command, "--help=all", contains="--threads")


def unknown_words():
    for word, contains in {
        "--lamda-svd": "unknown option --lamda-svd; did you mean --lambda-svd?",
        "--no-shufle": "did you mean --no-shuffle?",
        "--learning_rat": "did you mean --learning-rate?",
        "--zzzzzz": "unknown option --zzzzzz; --help lists",
        "--no-rank": "unknown option --no-rank",
        "model": "unexpected word \"model\"",
        "--": "unexpected word",
    }.items():
        balora("train", word, "1", code=USAGE, contains=contains)
    balora("eval", "--rank", "4", code=USAGE, contains="unknown option --rank")


def wrong_values():
    for words, contains in {
        ("--rank", "0"): "rank is \"0\"; expected an integer of at least 1",
        ("--rank", "4.5"): "an integer",
        ("--rank", "1e3"): "an integer",
        ("--rank",): "--rank needs a value",
        ("--rank", "--alpha"): "--rank needs a value",
        ("--learning-rate", "fast"): "learning_rate is \"fast\"; expected a finite number",
        ("--learning-rate=1,5",): "expected a finite number",
        ("--method", "lorra"): "expected one of ba-lora|pissa|lora|dora|full",
        ("--svd-norm", "2"): "frobenius|nuclear",
        ("--use-rslora=maybe",): "false or true",
        ("--lora-dropout", "1"): "lora_dropout is \"1\"; expected a finite number of at least 0 and below 1",
        ("--adapter", "x", "--use-dora"): "use_dora does not go with --adapter",
        ("--eval-steps", "-1"): "expected an integer of at least 0",
        ("--eval-steps", "5"): "--eval-steps needs --eval-data",
        ("--patience", "2"): "--patience needs --eval-data",
        ("--load-best",): "--load-best needs --eval-data",
        ("--eval-data", DATA, "--patience", "2"): "--patience needs --eval-steps",
        ("--keep", "1"): "keep is \"1\"; expected an integer of at least 2",
        ("--save-steps", "often"): "expected an integer",
        ("--out=",): "expected a path",
        ("--adapter", "x", "--rank", "3"): "rank does not go with --adapter",
        ("--adapter", "x", "--method", "full"): "--method full does not go with --adapter",
    }.items():
        balora("train", "--model", MODEL, "--data", DATA, "--out", "never", *words, code=USAGE, contains=contains)
    balora("train", "--model", MODEL, code=USAGE, contains="--data is missing")
    balora("info", "--adapter", "x", code=USAGE, contains="--adapter needs --model")
    report.check(not os.path.exists("never"), "a refused call made its folder")


def not_yet():
    for words in (["generate"], ["quantize"], ["bench"],
                  ["train", "--model", "x.gguf", "--data", DATA, "--out", "never"],
                  ["train", "--task", "nlu", "--model", MODEL, "--data", DATA, "--out", "never"]):
        balora(*words, code=FAILED, contains="not supported by this version yet")


def devices_that_are_not(folder):
    for device, contains in {
        "gpu": 'device "gpu" is not known; did you mean "cuda"? expected cpu, cuda or cuda:N',
        "cuad": 'did you mean "cuda"?',
        "tpu:0": 'did you mean "cpu"?',
        "vulkan": 'device "vulkan" is not known; expected cpu',
        "cuda:": 'device "cuda:" has no device number behind the colon; expected cpu, cuda or cuda:N',
        "cuda:x": "no device number",
        "cuda:-1": "no device number",
        "cuda:0x": "no device number",
        "cuda:4294967296": "no device number",
        "cpu:1": "there is cpu:0 only",
    }.items():
        balora("eval", "--model", MODEL, "--data", DATA, "--device", device, code=FAILED, contains=contains)
    nowhere = ["--device", "cuda:0", "--plugin-path", folder / "none.so"]
    balora("eval", "--model", MODEL, "--data", DATA, *nowhere, code=FAILED, contains='device "cuda:0": the plugin')
    for device in ("cpu", "cpu:0"):
        balora("eval", "--model", MODEL, "--data", DATA, "--device", device, "--tf32", contains="loss")


def files_that_fail(folder):
    balora("train", "--model", folder / "nothing", "--data", DATA, "--out", folder / "o", code=FAILED,
           contains="nothing")
    balora("train", "--model", MODEL, "--data", folder / "no.jsonl", "--out", folder / "o", code=FAILED,
           contains="no.jsonl")
    blocked = folder / "blocked"
    blocked.write_text("a file where a folder should be")
    train(blocked / "o", code=FAILED, contains="cannot make the folder")
    balora("eval", "--model", MODEL, "--data", DATA, "--adapter", folder / "none", code=FAILED, contains="none")


def training(folder):
    out = folder / "run"
    said = train(out, "--max-steps", 5, "--batch-size", 2, "--no-shuffle", "--eval-data", DATA, "--eval-steps", 2)
    for part in ("model ", "memory ", "step 5/5", "tokens/s", "done "):
        report.check(part in said, f"{part!r} is missing in\n{said}")
    lines = read_metrics(out)
    report.check_equal([line["step"] for line in lines], [1, 2, 3, 4, 5], "steps")
    for line in lines:
        report.check_equal(list(line), METRICS, "keys of a line")
        report.check(line["loss"] is not None and line["tokens"] > 0 and line["peak_memory_bytes"] > 0, str(line))
        weighted = line["task"] + sum(line[f"lambda_{term}"] * (line[term] or 0)
                                      for term in ("consistency", "diversity", "svd"))
        report.check(abs(line["loss"] - weighted) < 1e-6 * max(1, abs(weighted)), f"loss is not the weighted sum: {line}")
    page = (out / "report.html").read_text()
    report.check_equal(page.count("<polyline"), 7, "curves of the report")
    report.check("http" not in page and "<script" not in page, "the report needs something else")
    report.check(f"<td>{sum(line['tokens'] for line in lines)}</td>" in page, page[:900])
    names = {path.name for path in (out / "adapter").iterdir()}
    report.check({"adapter_config.json", "adapter_model.safetensors"} <= names, str(names))
    evaluations = [json.loads(line) for line in (out / "eval.jsonl").read_text().splitlines()]
    report.check_equal([line["step"] for line in evaluations], [2, 4, 5], "evaluated steps")
    report.check(all(line["eval_loss"] > 0 for line in evaluations), str(evaluations))
    said = train(out, "--max-steps", 1, contains="holds a run already")
    report.check_equal(len(read_metrics(out)), 1, "lines of the run that replaced it")
    report.check(not (out / "eval.jsonl").exists(), "evaluations of the earlier run are still there")


def terms_follow_the_method(folder):
    for method, on in {"lora": 0, "dora": 0, "pissa": 0, "ba-lora": 1}.items():
        out = folder / method
        train(out, "--method", method, "--max-steps", 2, "--focus-schedule", "constant")
        for line in read_metrics(out):
            for term in ("consistency", "diversity", "svd"):
                report.check((line[term] is not None) == bool(on), f"{method}: {term} is {line[term]}")
                report.check((line[f"lambda_{term}"] > 0) == bool(on), f"{method}: {line}")
    train(folder / "one", "--method", "lora", "--lambda-svd", "0.1", "--max-steps", 1, "--focus-schedule", "constant")
    line = read_metrics(folder / "one")[0]
    report.check(line["svd"] is not None and line["consistency"] is None, str(line))
    report.check_equal(line["lambda_svd"], 0.1, "lambda_svd asked for by name")


def optimizers(folder):
    """Each keeps what it says it does, and all learn; B alone learns faster where it is told to."""
    memory, losses = {}, {}
    for name, words in {"adamw": (), "lion": ("--learning-rate", "3e-4"), "adamw-8bit": (),
                        "lora+": ("--lora-plus-ratio", 4), "groups": ("--parameter-groups", "lora_B=4")}.items():
        kind = name if name in ("adamw", "lion", "adamw-8bit") else "adamw"
        said = train(folder / f"optimizer-{name}", "--optimizer", kind, "--max-steps", 8, "--learning-rate", "1e-3",
                     "--lr-schedule", "constant", "--method", "pissa", *words, contains="optimizer")
        memory[name] = [word for word in said.split(",") if word.strip().startswith("optimizer")][0].split()[1:3]
        losses[name] = [line["loss"] for line in read_metrics(folder / f"optimizer-{name}")]
        report.check(losses[name][-1] < losses[name][0] - 0.01, f"{name} does not learn: {losses[name]}")
    kib = {name: float(size) * {"KiB": 1, "MiB": 1024}[unit] for name, (size, unit) in memory.items()}
    report.check(abs(kib["lion"] / kib["adamw"] - 0.5) < 0.01, f"lion takes {memory}")
    report.check(0.25 < (kib["adamw-8bit"] - 2) / kib["adamw"] < 0.28,  # two maps of 1 KiB
                 f"adamw-8bit takes {memory}")
    report.check_equal(losses["lora+"], losses["groups"], "a ratio is a factor of lora_B")
    report.check(losses["lora+"][2] != losses["adamw"][2], "the ratio changes nothing")
    balora("train", "--model", MODEL, "--data", DATA, "--out", folder / "wrong-group", "--parameter-groups", "bias",
           code=FAILED, contains='"bias" is no group')


def order_of_the_file(folder):
    """Without shuffling the tokens of a step are those of its sequences in file order, wrapping round."""
    header, body = read_safetensors(DATA)
    begin, end = header["offsets"]["data_offsets"]
    offsets = array.array("q", body[begin:end])
    lengths = [b - a for a, b in zip(offsets, offsets[1:])]
    steps = len(lengths) // 3 + 2
    train(folder / "order", "--no-shuffle", "--batch-size", 3, "--max-steps", steps, "--method", "lora")
    expected = [sum(lengths[(3 * step + i) % len(lengths)] for i in range(3)) for step in range(steps)]
    report.check_equal([line["tokens"] for line in read_metrics(folder / "order")], expected, "tokens a step")
    train(folder / "shuffled", "--batch-size", 1, "--epochs", 1, "--method", "lora", "--seed", 7)
    found = [line["tokens"] for line in read_metrics(folder / "shuffled")]
    report.check_equal(sorted(found), sorted(lengths), "lengths of one shuffled epoch")
    report.check(found != lengths, "--seed 7 left the file's order")


def same_again(folder):
    for name in ("a", "b"):
        train(folder / name, "--max-steps", 3, "--threads", 2, "--seed", 3)
    one, two = ((folder / name / "adapter" / "adapter_model.safetensors").read_bytes() for name in ("a", "b"))
    report.check(one == two, "the same command gave two adapters")


def configuration_file(folder):
    path = folder / "run.json"
    path.write_text(json.dumps({"model": MODEL, "data": DATA, "max_steps": 2, "learning-rate": 1e-3, "rank": 2,
                                "shuffle": False, "no_packing": True, "target_modules": ["q_proj", "v_proj"],
                                "method": "lora"}))
    balora("train", "--config", path, "--out", folder / "configured", "--rank", 3)
    lines = read_metrics(folder / "configured")
    report.check_equal(len(lines), 2, "steps of the file")
    config = json.loads((folder / "configured" / "adapter" / "adapter_config.json").read_text())
    report.check_equal(config["r"], 3, "rank: the command line wins")
    report.check_equal(sorted(config["target_modules"]), ["q_proj", "v_proj"], "target modules")
    for text, code, contains in (("{", FAILED, ":1:"), ("[1]", FAILED, "an object"), ('{"rnak": 1}', USAGE, "did you mean"),
                                 ('{"rank": {}}', USAGE, "expected a string"), ('{"rank": 0}', USAGE, "rank is"),
                                 ('{"rank": 1, "rank": 2}', FAILED, "duplicate"), ('{"rank": null}', USAGE, "rank")):
        path.write_text(text)
        balora("train", "--config", path, "--out", "never", code=code, contains=contains)


def evaluation(folder):
    found = json.loads(balora("eval", "--model", MODEL, "--data", DATA, "--json", "--logits", folder / "l.safetensors"))
    report.check_equal(list(found), ["loss", "perplexity", "token_accuracy", "sequence_accuracy", "drift", "entropy",
                                     "tokens", "supervised_tokens", "sequences", "seconds"], "keys")
    report.check_equal(found["drift"], 0, "drift without an adapter")
    vocabulary = json.loads(pathlib.Path(MODEL, "config.json").read_text())["vocab_size"]
    header, body = read_safetensors(folder / "l.safetensors")
    report.check_equal(header["logits"]["shape"], [found["tokens"], vocabulary], "shape of the logits")
    report.check_equal(header["logits"]["data_offsets"], [0, len(body)], "place of the logits")
    report.check_equal(len(body), 4 * found["tokens"] * vocabulary, "bytes of the logits")
    report.check_equal([path.name for path in folder.iterdir() if ".tmp-" in path.name], [], "left behind")
    balora("eval", "--model", MODEL, "--data", DATA, contains="perplexity")
    balora("eval", "--model", MODEL, "--data", DATA, "--logits", folder / "no" / "l", code=FAILED, contains="no/l")


def logits_are_the_oracles(folder):
    """In file order, against the first sequences that Transformers computed."""
    balora("eval", "--model", MODEL, "--data", DATA, "--logits", folder / "l.safetensors")
    _, body = read_safetensors(folder / "l.safetensors")
    header, expected = read_safetensors(f"{FIXTURES}/llama/expected.safetensors")
    begin, end = header["logits"]["data_offsets"]
    wanted = array.array("f", expected[begin:end])
    found = array.array("f", body[:len(wanted) * 4])
    worst = max(abs(a - b) for a, b in zip(found, wanted))
    report.check(len(found) == len(wanted) and worst < 1e-4, f"logits differ by {worst}")


def adapters_travel(folder):
    """Train, evaluate with the adapter, merge, evaluate the merged model: the same loss; then train on."""
    train(folder / "run", "--max-steps", 4, "--learning-rate", "1e-2")
    adapter = folder / "run" / "adapter"
    adapted = json.loads(balora("eval", "--model", MODEL, "--adapter", adapter, "--data", DATA, "--json"))
    base = json.loads(balora("eval", "--model", MODEL, "--data", DATA, "--json"))
    report.check(adapted["loss"] < base["loss"] and adapted["drift"] > 0, f"{base}\n{adapted}")
    balora("merge", "--model", MODEL, "--adapter", adapter, "--out", folder / "merged", contains="merged")
    merged = json.loads(balora("eval", "--model", folder / "merged", "--data", DATA, "--json"))
    report.check(abs(merged["loss"] - adapted["loss"]) < 1e-5, f"{merged}\n{adapted}")
    report.check_equal(merged["drift"], 0, "drift of the merged model as its own base")
    balora("train", "--model", MODEL, "--adapter", adapter, "--data", DATA, "--out", folder / "on", "--max-steps", 1)
    balora("info", "--model", MODEL, "--adapter", adapter, contains="rank")


def magnitudes_travel(folder):
    """The same for DoRA with dropout, which only training has; both go on with the adapter."""
    train(folder / "run", "--method", "dora", "--lora-dropout", "0.1", "--max-steps", 4, "--learning-rate", "1e-2")
    adapter = folder / "run" / "adapter"
    config = json.loads((adapter / "adapter_config.json").read_text())
    report.check_equal((config["use_dora"], config["lora_dropout"]), (True, 0.1), "adapter_config.json")
    header, _ = read_safetensors(adapter / "adapter_model.safetensors")
    name = "base_model.model.model.layers.0.mlp.up_proj.lora_magnitude_vector"
    report.check_equal(header[name]["shape"], [80], name)
    words = ["eval", "--model", MODEL, "--adapter", adapter, "--data", DATA, "--json"]
    adapted, again = (json.loads(balora(*words)) for _ in range(2))
    report.check_equal(adapted["loss"], again["loss"], "evaluations drop nothing")
    balora("merge", "--model", MODEL, "--adapter", adapter, "--out", folder / "merged", contains="merged")
    merged = json.loads(balora("eval", "--model", folder / "merged", "--data", DATA, "--json"))
    report.check(abs(merged["loss"] - adapted["loss"]) < 1e-5, f"{merged}\n{adapted}")
    on = ["train", "--model", MODEL, "--data", DATA, "--out", folder / "on", "--max-steps", 1, "--method", "dora"]
    balora(*on, "--adapter", adapter)
    config = json.loads((folder / "on" / "adapter" / "adapter_config.json").read_text())
    report.check_equal((config["use_dora"], config["lora_dropout"]), (True, 0.1), "adapter_config.json after another run")
    plain = f"{FIXTURES}/lora/initial_adapter"
    balora(*on, "--adapter", plain, code=USAGE, contains="--method dora: the adapter")
    train(folder / "never", "--method", "pissa", "--lora-dropout", "0.1", code=FAILED,
          contains="lora_dropout is 0.1, but model.layers.0.self_attn.q_proj starts from singular vectors")


def conversions(folder):
    """Each form is there, computes what the adapter does where this program reads it, and is refused where it must be."""
    train(folder / "run", "--max-steps", 3, "--learning-rate", "1e-2")
    adapter, form = folder / "run" / "adapter", lambda to, out, *words: ("convert", "--adapter", adapter, "--to", to, "--out",
                                                                        folder / out, *words)
    expected = json.loads(balora("eval", "--model", MODEL, "--adapter", adapter, "--data", DATA, "--json"))["loss"]
    balora(*form("peft", "peft", "--factor-dtype", "bfloat16"), contains="written")
    balora(*form("pissa", "pissa"), contains="written")
    for model, part in ((MODEL, folder / "peft"), (folder / "pissa", folder / "pissa" / "pissa_init")):
        loss = json.loads(balora("eval", "--model", model, "--adapter", part, "--data", DATA, "--json"))["loss"]
        report.check(abs(loss - expected) < 5e-2 * expected if model == MODEL else abs(loss - expected) < 1e-5,
                     f"{part}: loss {loss}, expected {expected}")
    header = read_safetensors(folder / "peft" / "adapter_model.safetensors")[0]
    report.check_equal({entry["dtype"] for name, entry in header.items() if name != "__metadata__"}, {"BF16"}, "types")
    balora(*form("gguf", "deep/er.gguf", "--config", config_file(folder, {"factor_dtype": "float16"})))
    report.check_equal((folder / "deep" / "er.gguf").read_bytes()[:8], b"GGUF\3\0\0\0", "magic number and version")
    balora(*form("pissa", "pissa"), code=FAILED, contains="holds files already")
    balora(*form("onnx", "x"), code=USAGE, contains="peft|pissa|gguf")
    balora("convert", "--adapter", adapter, "--out", folder / "x", code=USAGE, contains="--to is missing")
    balora("convert", "--adapter", folder, "--to", "peft", "--out", folder / "x", code=FAILED,
           contains="adapter_config.json")
    rebase(adapter, None)
    balora(*form("peft", "x"), code=USAGE, contains="names no base model; give --model")
    rebase(adapter, "somebody/a-model")
    balora(*form("peft", "x"), code=USAGE,
           contains="names somebody/a-model as base, which is no folder here; give --model")
    balora(*form("peft", "y", "--model", MODEL, "--base-model", "a/b"), contains="written")
    written = json.loads((folder / "y" / "adapter_config.json").read_text())
    report.check_equal(written["base_model_name_or_path"], "a/b", "the base's name")
    report.check(not (folder / "x").exists(), "a refused conversion left something")


def config_file(folder, options):
    path = folder / "options.json"
    path.write_text(json.dumps(options))
    return path


def rebase(adapter, base):
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": base}))


def full_training(folder):
    train_words = ["train", "--model", MODEL, "--data", DATA, "--out", folder / "full", "--method", "full"]
    balora(*train_words, "--max-steps", 3, "--learning-rate", "1e-2")
    report.check(not (folder / "full" / "adapter").exists(), "method full wrote an adapter")
    before = json.loads(balora("eval", "--model", MODEL, "--data", DATA, "--json"))
    after = json.loads(balora("eval", "--model", folder / "full" / "model", "--data", DATA, "--json"))
    report.check(after["loss"] < before["loss"], f"{before}\n{after}")


def information():
    build = json.loads(balora("info", "--json"))["build"]
    report.check_equal(build["backends"][0], "cpu", "backends")
    report.check_equal([plugin["backend"] for plugin in build["plugins"]], ["cuda"], "plugins")
    report.check(build["devices"][0]["features"], "no CPU features")
    found = json.loads(balora("info", "--model", MODEL, "--json"))
    config = json.loads(pathlib.Path(MODEL, "config.json").read_text())
    report.check_equal(found["model"]["vocabulary_size"], config["vocab_size"], "vocabulary_size")
    report.check_equal(found["model"]["layers"], config["num_hidden_layers"], "layers")
    report.check(found["plan"]["activation_bytes"] > 0, str(found["plan"]))
    balora("info", contains="version")
    balora("info", "--model", MODEL, contains="memory of a training step")


def cancelled(folder, number):
    out = folder / f"cancelled-{number}"
    words = [BALORA, "train", "--model", MODEL, "--data", DATA, "--out", str(out), "--rank", "4", "--max-steps", "1000000"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if (out / "metrics.jsonl").exists() and (out / "metrics.jsonl").read_text().count("\n") >= 2:
            break
        time.sleep(0.02)
    process.send_signal(number)
    said = process.communicate(timeout=60)
    report.check_equal(process.returncode, CANCELLED, f"exit code; {said}")
    report.check("what was trained is in" in said[1], said[1])
    report.check("the same command with --resume goes on from step" in said[1], said[1])
    report.check(any(path.name.startswith("step-") for path in (out / "checkpoints").iterdir()), "no checkpoint")
    balora("eval", "--model", MODEL, "--adapter", out / "adapter", "--data", DATA)


def bar_on_a_terminal(folder):
    """On a terminal one line is redrawn; a narrow one gets no bar."""
    for columns, bar in ((100, True), (44, False)):
        controller, terminal = pty.openpty()
        subprocess.run(["stty", "cols", str(columns), "rows", "24"], stdin=terminal, check=True)
        words = [BALORA, "train", "--model", MODEL, "--data", DATA, "--out", str(folder / "bar"), "--max-steps", "3"]
        process = subprocess.Popen(words, stdout=terminal, stderr=terminal, stdin=terminal)
        os.close(terminal)
        text = b""
        try:
            while part := os.read(controller, 65536):
                text += part
        except OSError:  # the terminal was closed by its last user
            pass
        os.close(controller)
        report.check_equal(process.wait(), DONE, text.decode())
        drawn = text.decode()
        report.check("\r" in drawn and "left" in drawn and "\033[K" in drawn, drawn)
        report.check_equal("#" in drawn, bar, f"a bar at {columns} columns")


def main():
    result = report.Report()
    folders = pathlib.Path(tempfile.mkdtemp())
    os.chdir(folders)
    plain = [usage, unknown_words, wrong_values, not_yet, information]
    with_folder = [devices_that_are_not, files_that_fail, training, terms_follow_the_method, optimizers, order_of_the_file,
                   same_again, configuration_file, evaluation, logits_are_the_oracles, adapters_travel,
                   magnitudes_travel, conversions, full_training, bar_on_a_terminal]
    for function in plain:
        result.case(function.__name__, function)
    for function in with_folder:
        folder = folders / function.__name__
        folder.mkdir()
        result.case(function.__name__, function, folder)
    for number in (signal.SIGINT, signal.SIGTERM):
        result.case(f"cancelled by {number.name}", cancelled, folders, number)
    shutil.rmtree(folders)
    result.exit()


main()
