"""What gpu-check runs: correctness first, then CUDA's own checkers, then speed."""
import json
import math
import pathlib
import re
import shutil
import sys
import tempfile

from gpu_kit import ROOT
from gpu_report import CORRECTNESS, FAILED, PASSED, SANITIZER, SKIPPED, SPEED, judge_json, judge_tests

DEVICE_TESTS = ("gradients", "trainer", "spectral", "pissa")
# Parts of the conformance suite that end in time under a checker, which slows kernels a hundredfold.
MEMCHECK_PATTERNS = ("elements*", "norms*", "objective_loss_head", "attention_packed")
RACECHECK_PATTERNS = ("norms_rms_norm*", "objective_loss_head")
SANITIZER_EXIT = 86
REFUSALS = ("Device not supported", "not supported on this", "Unable to find", "Failed to initialize")

PEER_SHAPE = {"hidden": 2048, "layers": 16, "heads": 32, "kv-heads": 8, "intermediate": 8192, "vocab": 128256}
PEER_SHAPE_EMULATED = {"hidden": 64, "layers": 2, "heads": 4, "kv-heads": 2, "intermediate": 160, "vocab": 512}
EMULATED_SIZES = ("--length", 64, "--ceiling", 64)
EMULATED_STEPS = (*EMULATED_SIZES, "--batch", 1, "--steps", 2, "--warmup", 1)


class Plan:
    """What the steps have in common."""

    def __init__(self, session, installation, device, emulated, peer):
        self.session = session
        self.installation = installation
        self.device = device
        self.emulated = emulated
        self.peer = pathlib.Path(peer) if peer else None
        self.environment = installation.environment(device)
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix="gpu-check-"))

    def program(self, name):
        return self.installation.program(name)

    def shape(self, name):
        return "tiny" if self.emulated else name

    def bar(self, text):
        """Of speed: the emulation has none."""
        return "" if self.emulated else text

    def close(self):
        shutil.rmtree(self.scratch, ignore_errors=True)


# --- correctness ---

def test_step(plan, name, program, arguments=(), limit=120):
    return plan.session.step(name, CORRECTNESS, [[plan.program(program), *arguments]], judge_tests, plan.environment,
                             limit, bar="all pass")


def takes_device(name):
    """Whether the test program of that name runs on the device that BALORA_TEST_DEVICE names."""
    source = ROOT / "tests" / "unit" / f"test_{name}.c"
    return re.search(r"test_device|test_model_options", source.read_text(encoding="utf-8")) is not None


def check_correctness(plan):
    few = ["elements_*"] if plan.emulated else []
    test_step(plan, "conformance", "conformance-plugin", [plan.device, *few], limit=180)
    test_step(plan, "oracle fixtures", "test_oracle", ["lora-ba"] if plan.emulated else [])
    if not plan.emulated:
        test_step(plan, "oracle equivalence", "test_equivalence")
    for name in ("spectral",) if plan.emulated else DEVICE_TESTS:
        label = "gradient checks" if name == "gradients" else f"{name} tests"
        if takes_device(name):
            test_step(plan, label, f"test_{name}")
        else:
            plan.session.skip(label, CORRECTNESS, f"test_{name} runs on the CPU only")
    train_on_demo(plan)


def train_on_demo(plan):
    """The command, from files to files."""
    out = plan.scratch / "trained"
    steps = 2 if plan.emulated else 20
    words = ["train", "--model", ROOT / "demo/model", "--data", ROOT / "demo/data/train.jsonl", "--out", out,
             "--device", plan.device, "--max-steps", steps, "--batch-size", 1 if plan.emulated else 8, "--max-length",
             48 if plan.emulated else 512, "--learning-rate", "5e-4"]

    def judge(outputs):
        metrics = out / "metrics.jsonl"
        if outputs[0].code != 0 or not metrics.exists() or not (out / "adapter/adapter_model.safetensors").exists():
            return FAILED, (outputs[0].text.strip().splitlines() or [""])[-1][:200], None
        losses = [json.loads(line)["loss"] for line in metrics.read_text(encoding="utf-8").splitlines()]
        sound = len(losses) == steps and all(isinstance(loss, float) and math.isfinite(loss) for loss in losses)
        return (PASSED if sound else FAILED), f"{len(losses)} steps, loss {losses[0]:.4f} to {losses[-1]:.4f}", losses

    plan.session.step("balora train", CORRECTNESS, [[plan.program("balora"), *words]], judge, plan.environment, 60,
                      bar="finite losses, an adapter")


# --- CUDA's checkers ---

def judge_sanitizer(outputs):
    text = "\n".join(output.text for output in outputs)
    refusal = next((word for word in REFUSALS if word in text), None)
    if refusal is not None:
        return SKIPPED, f"compute-sanitizer refuses the device: \"{refusal}\"", None
    found = [int(count) for count in re.findall(r"(?:ERROR|RACECHECK) SUMMARY: (\d+)", text)]
    result, figure, data = judge_tests(outputs)
    if len(found) < len(outputs):
        return FAILED, f"{figure}; a run without a summary", data
    return (result if sum(found) == 0 else FAILED), f"{sum(found)} errors or hazards, {figure}", data


def check_with_sanitizer(plan):
    tool = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    for name, patterns, limit in (("memcheck", MEMCHECK_PATTERNS, 75), ("racecheck", RACECHECK_PATTERNS, 45)):
        if plan.emulated or tool is None:
            reason = "emulated: there is no GPU" if plan.emulated else "compute-sanitizer is not on this machine"
            plan.session.skip(f"sanitizer {name}", SANITIZER, reason)
            continue
        commands = [[tool, "--tool", name, "--error-exitcode", SANITIZER_EXIT, plan.program("conformance-plugin"),
                     plan.device, pattern] for pattern in patterns]
        plan.session.step(f"sanitizer {name}", SANITIZER, commands, judge_sanitizer, plan.environment, limit, least=20,
                          bar="no errors")


# --- speed ---

def describe_step(lines):
    run = lines[-1]
    ceiling = max(run["gemm_ceiling_gflops"])
    return (f"{run['tokens_per_s']:.0f} tokens/s, step {run['step_s_median'] * 1e3:.1f} ms, "
            f"{run['useful_gflops'] / 1e3:.4g} of {ceiling / 1e3:.4g} TFLOP/s = {run['of_ceiling']:.2f}, start "
            f"{run['init_s']:.1f} s, head {run['head_bytes'] / 2**30:.3f} GiB, device peak {run['device_peak_gib']:.2f} GiB"
            + (f", {run['skipped_steps']} STEPS SKIPPED" if run["skipped_steps"] else ""))


def time_steps(plan, what, shape, *words, bar="", limit=90, least=30):
    """A row of bench_step on a named shape: its name and its figures, None where there are none."""
    name = f"{plan.shape(shape)}, {what}"
    sizes = ["--shape", plan.shape(shape), "--device", plan.device, "--bfloat16", "--rank", 16]
    sizes += EMULATED_STEPS if plan.emulated else ["--length", 2048]
    row = plan.session.step(name, SPEED, [[plan.program("bench_step"), *sizes, *words]], judge_json(describe_step),
                            plan.environment, limit, least=5 if plan.emulated else least, bar=plan.bar(bar))
    return row.data if row is not None else None


def ratio(plan, name, over, under, key, bar):
    if over and under and under[key]:
        plan.session.figure(name, f"{over[key] / under[key]:.3f} x", plan.bar(bar))


def time_large_model(plan):
    one = [] if plan.emulated else ["--batch", 1]
    bar, shape = "of the ceiling: 0.63, goal 0.75", plan.shape("8b")
    plain = time_steps(plan, "LoRA", "8b", "--method", "lora", *one, bar=bar)
    full = time_steps(plan, "BA-LoRA", "8b", "--method", "ba-lora", *one, bar=bar)
    ratio(plan, f"{shape}, BA-LoRA over LoRA, time", full, plain, "step_s_median", "1.65, goal 1.55, floor 1.5")
    ratio(plan, f"{shape}, BA-LoRA over LoRA, device peak", full, plain, "device_peak_gib", "1.10, goal 1.05")
    if full:
        plan.session.figure(f"{shape}, loss head", f"{full['head_bytes'] / 2**30:.3f} GiB", plan.bar("2 GiB, goal 1 GiB"))
        plan.session.figure(f"{shape}, PiSSA start", f"{full['init_s']:.1f} s", plan.bar("20 s, goal 8 s"))


def time_parts(plan):
    one = [] if plan.emulated else ["--batch", 1, "--steps", 4]
    parts = time_steps(plan, "BA-LoRA by parts", "8b", "--method", "ba-lora", "--parts", *one)
    if parts:
        shares = ", ".join(f"{name} {share:.1%}" for name, share in parts["parts"].items())
        plan.session.figure(f"{plan.shape('8b')}, where the time goes", shares, plan.bar("SVD term 3 %, goal 1 %"))


def time_more_rows(plan):
    rows = [] if plan.emulated else ["--batch", 4, "--steps", 5]
    time_steps(plan, "BA-LoRA, 4 rows at once", "8b", "--method", "ba-lora", *rows, bar="of the ceiling: 0.63, goal 0.75",
               least=45)


def time_graphs(plan):
    one, shape = [] if plan.emulated else ["--batch", 1], plan.shape("1b")
    plain = time_steps(plan, "BA-LoRA, small model", "1b", "--method", "ba-lora", *one)
    graph = time_steps(plan, "BA-LoRA, small model, as a graph", "1b", "--method", "ba-lora", "--graph", *one)
    ratio(plan, f"{shape}, with a graph over without, rate", graph, plain, "tokens_per_s", "at least 1")


def time_pissa(plan):
    sizes = (160, 200, 4) if plan.emulated else (4096, 11008, 128)
    plan.session.step("PiSSA of {} x {}, r = {}".format(*sizes), SPEED,
                      [[plan.program("bench_pissa"), *sizes, "--device", plan.device]],
                      judge_json(lambda lines: f"{lines[-1]['seconds']:.3f} s"), plan.environment, 60)


def describe_slots(lines):
    named = {line["call"]: line for line in lines}
    parts = []
    for name, line in named.items():
        if name.startswith("ceiling"):
            rate = f"{line['gb_per_s']:.0f} GB/s" if "gb_per_s" in line else f"{line['gflops'] / 1e3:.4g} TFLOP/s"
            parts.append(f"{name.removeprefix('ceiling, ')} {rate}")
    for name in ("attention", "attention_backward", "loss_head, student and teacher", "rms_norm", "adamw"):
        if name in named:
            parts.append(f"{name} {named[name]['of_ceiling']:.2f}")
    return ", ".join(parts)


def time_slots(plan):
    sizes = ["--shape", "tiny", *EMULATED_SIZES] if plan.emulated else ["--shape", "8b", "--length", 2048]
    plan.session.step("slots beside the ceilings", SPEED,
                      [[plan.program("bench_ops"), "--device", plan.device, *sizes, "--json"]],
                      judge_json(describe_slots), plan.environment, 90, least=10)


def measure_speed(plan):
    time_large_model(plan)
    time_pissa(plan)
    time_slots(plan)
    compare_with_peer(plan)
    time_parts(plan)
    time_graphs(plan)
    time_more_rows(plan)


# --- the peer ---

def peer_is_possible(plan):
    if plan.peer is None or not plan.peer.exists():
        return "no peer script (--peer)"
    needs = "import torch, transformers, peft" + ("" if plan.emulated else "; assert torch.cuda.is_available()")
    done = plan.session.run([sys.executable, "-c", needs], plan.installation.peer_environment(), 60)
    return "" if done.code == 0 else "python3 lacks torch, transformers, peft or a GPU"


def peer_command(plan, *words):
    return [sys.executable, plan.peer, *words]


def make_peer_files(plan, model, data):
    shape = PEER_SHAPE_EMULATED if plan.emulated else PEER_SHAPE
    words = [word for key, value in shape.items() for word in (f"--{key}", value)]
    commands = [peer_command(plan, "make-model", model, *words, "--dtype", "bfloat16"),
                peer_command(plan, "make-data", data, "--vocab", shape["vocab"], "--sequences", 16, "--length",
                             32 if plan.emulated else 2048, "--supervised", "1.0")]

    def judge(outputs):
        sound = all(output.code == 0 for output in outputs) and data.exists()
        return (PASSED if sound else FAILED), "a model folder and a token file" if sound else "not made", None

    row = plan.session.step("peer, its files", SPEED, commands, judge, plan.installation.peer_environment(), 170, least=60)
    return row is not None and row.result == PASSED


def compare_with_peer(plan):
    """Ours and the peer's variants on the same weights and tokens, in turns."""
    if not plan.session.wants("peer", SPEED):
        return
    reason = "no time was left" if plan.session.left() < 60 else peer_is_possible(plan)
    if reason:
        plan.session.skip("peer", SPEED, reason, plan.bar("BA-LoRA 2 x reference, goal 3 x"))
        return
    model, data = plan.scratch / "model", plan.scratch / "data.safetensors"
    if not make_peer_files(plan, model, data):
        return
    counts = ["--batch", 1, "--steps", 2 if plan.emulated else 10, "--warmup", 1 if plan.emulated else 3]
    runs = {}
    for side, variant in (("ours", "ba-lora"), ("peer", "reference"), ("peer", "tuned"), ("ours", "lora"), ("peer", "lora")):
        runs[side, variant] = time_side(plan, side, variant, model, data, counts)
    ours, plain = runs["ours", "ba-lora"], runs["ours", "lora"]
    ratio(plan, "BA-LoRA over the peer's reference, rate", ours, runs["peer", "reference"], "tokens_per_s", "2, goal 3")
    ratio(plan, "BA-LoRA over the peer, tuned, rate", ours, runs["peer", "tuned"], "tokens_per_s", "1.15, goal 1.35")
    ratio(plan, "LoRA over the peer's, rate", plain, runs["peer", "lora"], "tokens_per_s", "")


def describe_peer(lines):
    run = lines[-1]
    peak = f", device peak {run['peak_gpu_gib']:.2f} GiB" if run.get("peak_gpu_gib") else ""
    return f"{run['tokens_per_s']:.0f} tokens/s, step {run['step_s_median'] * 1e3:.1f} ms, start {run['init_s']:.1f} s{peak}"


def time_side(plan, side, variant, model, data, counts):
    if side == "ours":
        ceiling = EMULATED_SIZES[2:] if plan.emulated else ()
        command = [plan.program("bench_step"), model, data, "--device", plan.device, "--method", variant, *counts, *ceiling]
        environment, describe = plan.environment, describe_step
    else:
        device = "cpu" if plan.emulated else "cuda"
        command = peer_command(plan, "bench", model, data, "--variant", variant, "--dtype", "bfloat16", "--device", device,
                               *counts)
        environment, describe = plan.installation.peer_environment(), describe_peer
    row = plan.session.step(f"{side}, {variant}, the peer's model", SPEED, [command], judge_json(describe), environment,
                            90, least=15)
    return row.data if row is not None else None
