"""SIGKILL at any moment, resume, and the result is the undisturbed run's, byte for byte.

    test_kill.py BALORA FIXTURES [KILLS]    default 30

Each kind of run is done once undisturbed. Then it is started, killed, resumed and killed again, at moments that a seed
chooses: after a random time, behind a random step, while a checkpoint is being written, and while the result is.
"""
import json
import os
import pathlib
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

import report

BALORA, FIXTURES = (str(pathlib.Path(word).resolve()) for word in sys.argv[1:3])
KILLS = int(sys.argv[3]) if len(sys.argv) > 3 else 30
MODEL, DATA = f"{FIXTURES}/llama/model", f"{FIXTURES}/llama/data.safetensors"
COMMON = ["train", "--model", MODEL, "--data", DATA, "--threads", "1", "--batch-size", "2", "--learning-rate", "1e-3"]
EVALUATED = ["--eval-data", "other.safetensors", "--eval-steps", "5"]
KILLS_A_RUN = 3
DONE = 0

# What each run has that the others lack.
RUNS = {
    "ba-lora": ["--rank", "4", "--max-steps", "30", "--save-steps", "3"],
    "lora-epochs": ["--method", "lora", "--rank", "4", "--epochs", "6.3", "--save-steps", "2", "--gradient-accumulation",
                    "2", "--keep", "3"],
    "dora-dropout": ["--method", "dora", "--lora-dropout", "0.2", "--rank", "4", "--max-steps", "24", "--save-steps", "3"],
    "full": ["--method", "full", "--max-steps", "20", "--save-steps", "4"],
    "best": ["--rank", "4", "--max-steps", "40", "--save-steps", "4", "--learning-rate", "0.05", "--patience", "4",
             "--load-best", *EVALUATED],
    "eight-bit": ["--method", "pissa", "--rank", "4", "--max-steps", "24", "--save-steps", "3", "--optimizer",
                  "adamw-8bit", "--no-shuffle", *EVALUATED],
}


def write_other_data(path):
    """Sequences of the same rows' tokens in another order: what the runs learn helps there for a while only."""
    data = pathlib.Path(DATA).read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + length])
    begin, end = header["input_ids"]["data_offsets"]
    kind = {"I32": "i", "I64": "q"}[header["input_ids"]["dtype"]]
    ids = list(struct.unpack(f"<{header['input_ids']['shape'][0]}{kind}", data[8 + length + begin:8 + length + end]))
    random.Random(1).shuffle(ids)
    size = 4 * len(ids)
    text = json.dumps({"offsets": {"dtype": "I64", "shape": [3], "data_offsets": [0, 24]},
                       "input_ids": {"dtype": "I32", "shape": [len(ids)], "data_offsets": [24, 24 + size]}}).encode()
    tensors = struct.pack(f"<3q{len(ids)}i", 0, len(ids) // 2, len(ids), *ids)
    path.write_bytes(struct.pack("<Q", len(text)) + text + tensors)


def command(out, words):
    return [BALORA, *COMMON, *words, "--out", str(out)]


def finish(out, words):
    run = subprocess.run(command(out, words), capture_output=True, text=True)
    report.check_equal(run.returncode, DONE, f"{' '.join(words)}\n{run.stdout}{run.stderr}")
    return run.stdout + run.stderr


def lines(path, *changing):
    """The file's objects without the figures that a clock gives."""
    found = []
    for line in path.read_text().splitlines():
        value = json.loads(line)
        for key in changing:
            del value[key]
        found.append(value)
    return found


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def compare(out, expected, said):
    result = "model" if (expected / "model").exists() else "adapter"
    report.check_equal(sorted(files(out / result)), sorted(files(expected / result)), f"names of {result}\n{said}")
    report.check(files(out / result) == files(expected / result), f"another {result}\n{said}")
    for name, changing in (("metrics.jsonl", ("seconds", "peak_memory_bytes")), ("eval.jsonl", ("eval_seconds",))):
        report.check_equal((out / name).exists(), (expected / name).exists(), name)
        if (expected / name).exists():
            report.check(lines(out / name, *changing) == lines(expected / name, *changing), f"another {name}\n{said}")
    report.check((out / "report.html").read_text().endswith("</html>\n"), "half a report")
    folders = sorted(path.name for path in (out / "checkpoints").iterdir())
    report.check_equal(folders, sorted(path.name for path in (expected / "checkpoints").iterdir()), "checkpoints")


def wait_for(process, happened):
    """Until it has happened or the process is gone."""
    while process.poll() is None and not happened():
        time.sleep(0.0005)


def steps_written(out):
    path = out / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def writes(out):
    folder = out / "checkpoints"
    return folder.exists() and any(".tmp-" in path.name for path in folder.iterdir())


def kill_once(out, words, chance, duration):
    """True: killed; False: it was done before."""
    process = subprocess.Popen(command(out, words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    kind = chance.choice(["time", "step", "write", "write", "end"])
    if kind == "time":
        time.sleep(chance.uniform(0, duration))
    elif kind == "step":
        target = steps_written(out) + chance.randint(1, 12)
        wait_for(process, lambda: steps_written(out) >= target)
    elif kind == "end":
        wait_for(process, lambda: any((out / name).exists() for name in ("adapter", "model")))
        time.sleep(chance.uniform(0, 0.004))
    else:
        for _ in range(chance.randint(1, 3)):
            wait_for(process, lambda: writes(out))
            wait_for(process, lambda: not writes(out))
        wait_for(process, lambda: writes(out))
        time.sleep(chance.uniform(0, 0.008))
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def killed_and_resumed(folder, kills, chance):
    """Runs in turn until so many kills were survived."""
    expected, durations = {}, {}
    for name, words in RUNS.items():
        begin = time.monotonic()
        expected[name] = folder / f"{name}-undisturbed"
        finish(expected[name], words)
        durations[name] = time.monotonic() - begin
    done, runs = 0, 0
    while done < kills:
        name = list(RUNS)[runs % len(RUNS)]
        out, words = folder / f"{name}-{runs}", RUNS[name]
        in_this = 0
        while in_this < min(KILLS_A_RUN, kills - done):
            if not kill_once(out, [*words, "--resume"], chance, durations[name]):
                break
            in_this += 1
        said = finish(out, [*words, "--resume"])
        compare(out, expected[name], f"run {runs}, {name}, killed {in_this} times\n{said}")
        shutil.rmtree(out)
        done += in_this
        runs += 1
        report.check(runs < 20 * kills, f"only {done} kills in {runs} runs")
    print(f"{done} kills in {runs} runs of {len(RUNS)} kinds, all resumed to the same bytes")


def the_best_is_kept(folder):
    """The kind `best` does end early, with another adapter than the last."""
    out = folder / "best-undisturbed"
    steps = lines(out / "metrics.jsonl", "seconds")[-1]["step"]
    losses = {line["step"]: line["eval_loss"] for line in lines(out / "eval.jsonl")}
    best = min(losses, key=losses.get)
    report.check(steps < 40 and best == steps - 20, f"steps {steps}, best {best}, {losses}")
    report.check((out / "checkpoints" / f"step-{best:08}").is_dir(), "the best checkpoint is gone")
    words = ["eval", "--model", MODEL, "--data", "other.safetensors", "--adapter", str(out / "adapter"), "--json", "--threads", "1"]
    run = subprocess.run([BALORA, *words], capture_output=True, text=True, check=True)
    found = json.loads(run.stdout)["loss"]
    report.check(abs(found - losses[best]) < 1e-4 * losses[best], f"loss {found}, best {losses[best]}")


def main():
    result = report.Report()
    folder = pathlib.Path(tempfile.mkdtemp())
    os.chdir(folder)
    write_other_data(folder / "other.safetensors")
    result.case(f"{KILLS} kills", killed_and_resumed, folder, KILLS, random.Random(KILLS))
    result.case("the best is kept", the_best_is_kept, folder)
    shutil.rmtree(folder)
    result.exit()


main()
