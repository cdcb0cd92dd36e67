"""Runs the steps of gpu-check, each with its own time limit, and writes what they gave after every one of them."""
import json
import os
import pathlib
import re
import signal
import subprocess
import time

CORRECTNESS, SANITIZER, SPEED = "correctness", "sanitizer", "speed"
PASSED, FAILED, SKIPPED, MEASURED = "passed", "failed", "skipped", "measured"
CLOSING_SECONDS = 4  # kept for the report


class Output:
    """Of one command: its text, stdout and stderr together; code None: it ran past its limit."""

    def __init__(self, code, text, seconds):
        self.code = code
        self.text = text
        self.seconds = seconds

    def json_lines(self):
        found = []
        for line in self.text.splitlines():
            if line.startswith("{"):
                try:
                    found.append(json.loads(line))
                except ValueError:
                    pass
        return found


class Row:
    """A line of the report."""

    def __init__(self, name, kind, result, figure="", bar="", seconds=0.0, data=None):
        self.name, self.kind, self.result, self.figure = name, kind, result, figure
        self.bar, self.seconds, self.data = bar, seconds, data

    def as_json(self):
        return {"step": self.name, "kind": self.kind, "result": self.result, "figure": self.figure, "bar": self.bar,
                "seconds": round(self.seconds, 2), "data": self.data}


class Session:
    """The rows so far, the time that is left, the log."""

    def __init__(self, out, minutes, only):
        self.out = pathlib.Path(out)
        self.out.mkdir(parents=True, exist_ok=True)
        self.log = open(self.out / "gpu-check.log", "w", encoding="utf-8")
        self.begin = time.monotonic()
        self.deadline = self.begin + 60 * minutes
        self.only = only
        self.machine = {}
        self.rows = []

    # --- time and commands ---

    def left(self):
        return self.deadline - time.monotonic() - CLOSING_SECONDS

    def run(self, command, environment, limit):
        """Run one command in a process group of its own, which is ended at the limit."""
        began = time.monotonic()
        self.log.write(f"\n$ {' '.join(map(str, command))}\n")
        self.log.flush()
        try:
            with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  stdin=subprocess.DEVNULL, env=environment, text=True, errors="replace",
                                  start_new_session=True) as process:
                text, code = wait(process, max(1.0, min(limit, self.left())))
        except OSError as problem:
            text, code = str(problem), 127
        seconds = time.monotonic() - began
        self.log.write(f"{text}\n[{'ran past its limit' if code is None else f'exit {code}'}, {seconds:.1f} s]\n")
        self.log.flush()
        return Output(code, text, seconds)

    # --- rows ---

    def wants(self, name, kind):
        return not self.only or any(word in (kind, name) or word in name for word in self.only)

    def step(self, name, kind, commands, judge, environment, limit, least=5, bar=""):
        """Run the commands and let `judge` turn their outputs into (result, figure, data)."""
        if not self.wants(name, kind):
            return None
        if self.left() < least:
            return self.add(Row(name, kind, SKIPPED, "no time was left", bar))
        began = time.monotonic()
        outputs = []
        for command in commands:
            rest = limit - (time.monotonic() - began)
            outputs.append(self.run(command, environment, rest))
        late = any(output.code is None for output in outputs)
        result, figure, data = judge(outputs)
        if late and result != SKIPPED:
            result, figure = FAILED, f"ran past {min(limit, time.monotonic() - began):.0f} s; {figure}".rstrip("; ")
        return self.add(Row(name, kind, result, figure, bar, time.monotonic() - began, data))

    def skip(self, name, kind, reason, bar=""):
        return self.add(Row(name, kind, SKIPPED, reason, bar)) if self.wants(name, kind) else None

    def figure(self, name, figure, bar, data=None):
        """A figure that follows from steps before it."""
        return self.add(Row(name, SPEED, MEASURED, figure, bar, 0.0, data))

    def add(self, row):
        self.rows.append(row)
        print(f"{row.result:9} {row.seconds:7.1f} s  {row.name}: {row.figure}", flush=True)
        self.write()
        return row

    # --- the report ---

    def passed(self):
        correctness = [row for row in self.rows if row.kind == CORRECTNESS]
        sanitizers = [row for row in self.rows if row.kind == SANITIZER]
        return (bool(correctness) and all(row.result == PASSED for row in correctness)
                and all(row.result != FAILED for row in sanitizers))

    def write(self):
        document = {"machine": self.machine, "passed": self.passed(),
                    "seconds": round(time.monotonic() - self.begin, 1), "steps": [row.as_json() for row in self.rows]}
        replace(self.out / "gpu-report.json", json.dumps(document, indent=1) + "\n")
        replace(self.out / "gpu-report.md", markdown(document))


def wait(process, limit):
    try:
        return process.communicate(timeout=limit)[0], process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.communicate()[0], None


def replace(path, text):
    beside = path.with_name(path.name + ".part")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def markdown(document):
    lines = ["# GPU check", ""]
    lines += [f"- {key}: {value}" for key, value in document["machine"].items()]
    lines += [f"- every correctness step passed: {'yes' if document['passed'] else 'NO'}", "",
              "| step | result | figure | bar | seconds |", "| --- | --- | --- | --- | --- |"]
    for row in document["steps"]:
        cells = [row["step"], row["result"], row["figure"], row["bar"], f"{row['seconds']:.1f}"]
        lines.append("| " + " | ".join(str(cell).replace("|", "/").replace("\n", " ") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


# --- judging ---

def judge_tests(outputs):
    """Of cmocka programs: all of them ended well, and at least one test ran."""
    passed = sum(int(count) for output in outputs for count in re.findall(r"\[  PASSED  \] (\d+) test", output.text))
    skipped = sum(int(count) for output in outputs for count in re.findall(r"\[  SKIPPED \] (\d+) test", output.text))
    failed = sorted({name for output in outputs
                     for name in re.findall(r"\[  (?:FAILED|ERROR)  (?: )?\] ([A-Za-z_]\w*)", output.text)})
    sound = all(output.code == 0 for output in outputs) and passed > 0
    figure = f"{passed} passed"
    if skipped:
        figure += f", {skipped} skipped"
    if failed:
        figure += f", {len(failed)} failed: {', '.join(failed[:8])}{', ...' if len(failed) > 8 else ''}"
    elif not sound:
        figure += "; " + last_line(outputs)
    return (PASSED if sound else FAILED), figure, {"passed": passed, "skipped": skipped, "failed": failed}


def last_line(outputs):
    for output in reversed(outputs):
        if output.code != 0 and output.text.strip():
            return output.text.strip().splitlines()[-1][:200]
    return ""


def judge_json(describe):
    """Of a benchmark that prints JSON lines: `describe` makes the figure of the last one (or of all)."""
    def judge(outputs):
        lines = outputs[-1].json_lines()
        if any(output.code != 0 for output in outputs) or not lines:
            return FAILED, last_line(outputs) or "no figures", None
        return MEASURED, describe(lines), lines if len(lines) > 1 else lines[0]
    return judge
