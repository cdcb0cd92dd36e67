"""The public headers against the committed ABI baseline: nothing that a released program relies on has changed.

    test_abidiff.py INCLUDE_FOLDER BASELINE.abi            compare
    PYTHONPATH=tests python3 tests/abi/test_abidiff.py include tests/abi/libbalora.abi --write
                                                       take the headers over, and tell so in CHANGELOG.md

What is compared is a library of empty functions with the headers' signatures: types behind opaque handles may change
as they like, and no debug build is needed. That the real library exports the same functions is test_symbols.py's.
"""
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import report


def declarations(include):
    """Every function declared with BALORA_API, as its text."""
    found = []
    for header in sorted(pathlib.Path(include, "balora").glob("*.h")):
        text = re.sub(r"/\*.*?\*/", "", header.read_text(), flags=re.S)
        text = re.sub(r"^#(?:.*\\\n)*.*$", "", text, flags=re.M)
        found += [" ".join(declaration.split()) for declaration in re.findall(r"BALORA_API\s+([^;]+);", text)]
    return found


def build_interface(include, folder):
    source, library = folder / "interface.c", folder / "libbalora.so"
    lines = ["#include <balora/balora.h>"]
    for declaration in declarations(include):
        returns = re.match(r"(.*?)\bbalora_\w+\s*\(", declaration).group(1).strip()
        body = "" if returns == "void" else " return 0;"
        lines.append(f"{declaration} {{{body} }}")
    source.write_text("\n".join(lines) + "\n")
    subprocess.run(["gcc", "-std=c11", "-g", "-O0", "-w", "-fPIC", "-shared", "-Wl,-soname,libbalora.so", f"-I{include}",
                    source, "-o", library], check=True)
    return library


def write(include, baseline):
    with tempfile.TemporaryDirectory() as folder:
        library = build_interface(include, pathlib.Path(folder))
        subprocess.run(["abidw", "--no-elf-needed", "--no-show-locs", "--no-comp-dir-path", "--no-corpus-path",
                        "--out-file", baseline, library], check=True)
    text = pathlib.Path(baseline).read_text()  # which names the folder that the library was built in
    pathlib.Path(baseline).write_text(re.sub(r" path='[^']*'", " path='interface.c'", text))


def compare(include, baseline):
    if shutil.which("abidiff") is None:
        raise report.Skip("abidiff (package abigail-tools) is not installed")
    with tempfile.TemporaryDirectory() as folder:
        library = build_interface(include, pathlib.Path(folder))
        run = subprocess.run(["abidiff", baseline, library], capture_output=True, text=True)
    report.check(run.returncode == 0, f"abidiff exits with {run.returncode}\n{run.stdout}{run.stderr}")


def main():
    if sys.argv[3:] == ["--write"]:
        write(*sys.argv[1:3])
        return
    result = report.Report()
    result.case("no difference to the baseline", compare, *sys.argv[1:3])
    result.exit()


main()
