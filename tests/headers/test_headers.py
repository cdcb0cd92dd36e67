"""Each public header alone, as strict C99, C11 and C++17, with every compiler of this machine.

    test_headers.py INCLUDE_FOLDER
"""
import pathlib
import shutil
import subprocess
import sys
import tempfile

import report

LANGUAGES = {
    "c99": ("c", "-std=c99"),
    "c11": ("c", "-std=c11"),
    "c++17": ("c++", "-std=c++17"),
}
COMPILERS = {"gcc": {"c": "gcc", "c++": "g++"}, "clang": {"c": "clang", "c++": "clang++"}}
STRICT = ["-pedantic-errors", "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror", "-fsyntax-only"]


def compile_alone(compiler, language, standard, include, header, folder):
    program = COMPILERS[compiler][language]
    if shutil.which(program) is None:
        raise report.Skip(f"{program} is not installed")
    source = folder / ("alone.c" if language == "c" else "alone.cc")
    # Twice: the guard must hold. The function keeps the translation unit from being empty.
    source.write_text(f"#include <balora/{header}>\n#include <balora/{header}>\nint alone(void);\n")
    run = subprocess.run([program, standard, *STRICT, f"-I{include}", str(source)], capture_output=True, text=True)
    report.check(run.returncode == 0, run.stderr)


def initializers_work(compiler, language, standard, include, folder):
    """Every _INIT macro initialises its struct, in C++ too."""
    program = COMPILERS[compiler][language]
    if shutil.which(program) is None:
        raise report.Skip(f"{program} is not installed")
    macros = []
    for header in sorted(pathlib.Path(include, "balora").glob("*.h")):
        for line in header.read_text().splitlines():
            words = line.split()
            if len(words) >= 2 and words[0] == "#define" and words[1].endswith("_INIT"):
                macros.append(words[1])
    report.check(len(macros) >= 10, f"only {len(macros)} _INIT macros found: {macros}")
    source = folder / ("init.c" if language == "c" else "init.cc")
    lines = ["#include <balora/balora.h>", "unsigned long long sizes(void);", "unsigned long long sizes(void) {",
             "    unsigned long long sum = 0;"]
    for macro in macros:
        name = macro[:-len("_INIT")].lower()
        lines += [f"    {{ {name} object = {macro}; sum += object.struct_size; }}"]
    source.write_text("\n".join(lines + ["    return sum;", "}", ""]))
    run = subprocess.run([program, standard, *STRICT, f"-I{include}", str(source)], capture_output=True, text=True)
    report.check(run.returncode == 0, run.stderr)


def main():
    include = sys.argv[1]
    headers = sorted(path.name for path in pathlib.Path(include, "balora").glob("*.h"))
    result = report.Report()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for compiler in COMPILERS:
            for label, (language, standard) in LANGUAGES.items():
                for header in headers:
                    result.case(f"{header} {label} {compiler}", compile_alone, compiler, language, standard, include,
                                header, folder)
                result.case(f"_INIT macros {label} {compiler}", initializers_work, compiler, language, standard,
                            include, folder)
    result.exit()


main()
