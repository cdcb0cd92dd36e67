"""The examples of the parts: they run to their end, and what they compute is what they say.

    test_examples_parts.py REGULARIZERS.py LIBRARY.so sanitized|plain OWN_MODEL|none

regularized_torch.py is run by hand, where PyTorch is; here its structs are compared with those of regularizers.py.
"""
import ast
import os
import pathlib
import re
import subprocess
import sys

import report

SCRIPT, LIBRARY = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
SANITIZED, PROGRAM = sys.argv[3] == "sanitized", sys.argv[4]


def run(command, environment=None):
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **(environment or {})})
    report.check(done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout.splitlines()


def numbers(line):
    """'word 1.5  other 2' to {"word": 1.5, "other": 2.0}."""
    return {name: float(value) for name, value in re.findall(r"(\w+) (-?[\d.]+)", line)}


def python_descends():
    if SANITIZED:
        raise report.Skip("a sanitized library cannot be loaded into Python")
    lines = [numbers(line) for line in run([sys.executable, str(SCRIPT)], {"LD_LIBRARY_PATH": str(LIBRARY.parent)})]
    report.check_equal(len(lines), 5, "lines")
    for name in ("loss", "consistency"):
        values = [line[name] for line in lines]
        report.check(all(b < a for a, b in zip(values, values[1:])), f"{name} does not fall: {values}")
    report.check(lines[-1]["consistency"] < 0.7 * lines[0]["consistency"], "the student is not drawn to the teacher")


def structs_agree():
    """Both Python examples declare the same structs."""
    def classes(path):
        tree = ast.parse(path.read_text())
        return {node.name: ast.dump(node.body[-1]) for node in tree.body
                if isinstance(node, ast.ClassDef) and node.name in ("Tensor", "Inputs", "Terms")}
    first, second = classes(SCRIPT), classes(SCRIPT.parent / "regularized_torch.py")
    report.check_equal(sorted(first), ["Inputs", "Tensor", "Terms"], "structs")
    report.check_equal(first, second, "structs of the two examples")


def own_model_trains():
    if PROGRAM == "none":
        raise report.Skip("no C++ compiler was found")
    lines = run([PROGRAM])
    ends = [numbers(line) for line in lines if line.startswith("accuracy")]
    report.check_equal(len(ends), 2, "runs")
    alone, regularized = ends
    report.check(regularized["drift"] < 0.5 * alone["drift"], f"drift {alone['drift']} to {regularized['drift']}")
    report.check(regularized["accuracy"] >= alone["accuracy"], f"accuracy {alone} to {regularized}")
    report.check_equal(lines, run([PROGRAM]), "a second run's lines")


def main():
    result = report.Report()
    result.case("regularizers.py descends the set", python_descends)
    result.case("the Python examples declare the same structs", structs_agree)
    result.case("own_model.cpp trains, and drifts less with the set", own_model_trains)
    result.exit()


main()
