"""The programs in examples/ on a small model: they train, and the adapters that they save are the same.

    test_examples.py FIXTURES EXAMPLE_C EXAMPLE_PYTHON LIBRARY.so [sanitized]
"""
import os
import pathlib
import subprocess
import sys
import tempfile

import report

FIXTURES, PROGRAM, SCRIPT, LIBRARY = (pathlib.Path(word).resolve() for word in sys.argv[1:5])


def run_example(command, out, environment=None):
    model, data = FIXTURES / "llama" / "model", FIXTURES / "llama" / "data.safetensors"
    run = subprocess.run([*command, str(model), str(data), str(out)], capture_output=True, text=True,
                         env={**os.environ, **(environment or {})})
    report.check(run.returncode == 0, f"exit code {run.returncode}\n{run.stdout}{run.stderr}")
    lines = run.stdout.splitlines()
    report.check_equal([line.split()[0] for line in lines], ["1", "2"], "steps printed")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        report.check((out / name).stat().st_size > 0, f"{name} is empty")


def c_example(folder):
    run_example([str(PROGRAM)], folder / "c")


def python_example(folder):
    if sys.argv[5:] == ["sanitized"]:
        raise report.Skip("a sanitized library cannot be loaded into Python")
    run_example([sys.executable, str(SCRIPT)], folder / "python", {"LD_LIBRARY_PATH": str(LIBRARY.parent)})


def same_adapter(folder):
    if sys.argv[5:] == ["sanitized"]:
        raise report.Skip("a sanitized library cannot be loaded into Python")
    first, second = (folder / name / "adapter_model.safetensors" for name in ("c", "python"))
    report.check(first.read_bytes() == second.read_bytes(), "the two programs saved different adapters")


def wrong_usage_is_told():
    run = subprocess.run([str(PROGRAM)], capture_output=True, text=True)
    report.check_equal(run.returncode, 1, "exit code without arguments")
    report.check("MODEL DATA OUT" in run.stderr, run.stderr)


def readme_shows_it():
    root = SCRIPT.parent.parent
    program = (root / "examples" / "train.c").read_text()
    report.check(f"```c\n{program}```" in (root / "README.md").read_text(), "README.md and examples/train.c differ")


def main():
    result = report.Report()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        result.case("train.c trains and saves", c_example, folder)
        result.case("train.py trains and saves", python_example, folder)
        result.case("both save the same adapter", same_adapter, folder)
        result.case("train.c says how it is used", wrong_usage_is_told)
        result.case("README.md shows train.c as it is", readme_shows_it)
    result.exit()


main()
