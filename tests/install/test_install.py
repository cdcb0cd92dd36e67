"""Install into a folder, build a separate program through pkg-config against it, shared and static, and run it.

    test_install.py BUILD_FOLDER FIXTURES THIS_FOLDER COMPILER
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import report

BUILD, FIXTURES, HERE, BUILT_WITH = sys.argv[1:5]
COMPILERS = ["gcc", "clang"]


def run(command, **arguments):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, **arguments)
    report.check(done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def meson():
    return os.environ.get("MESON", "meson").split()


def install(folder):
    # --destdir: the build's own prefix stays as it is; the pkg-config file finds its place by itself.
    run([*meson(), "install", "-C", BUILD, "--no-rebuild", "--quiet", "--destdir", folder])
    found = list(folder.rglob("balora.pc"))
    report.check_equal(len(found), 1, f"pkg-config files below {folder}")
    prefix = folder
    for part in pathlib.Path(run(["pkg-config", "--variable=prefix", found[0]]).strip()).parts[1:]:
        prefix = prefix / part
    return found[0].parent


def expected_files(folder):
    names = {path.name for path in folder.rglob("*") if not path.is_dir()}
    headers = {path.name for path in (pathlib.Path(HERE).parents[1] / "include" / "balora").glob("*.h")}
    for name in headers | {"libbalora.so", "libbalora.so.0", "libbalora.a", "balora.pc", "balora"}:
        report.check(name in names, f"{name} is not installed: {sorted(names)}")
    internal = [name for name in names if name.endswith(".h") and name not in headers]
    report.check(not internal, f"internal headers are installed: {internal}")


def flags(pkgconfig, *options):
    environment = {**os.environ, "PKG_CONFIG_PATH": str(pkgconfig)}
    return run(["pkg-config", *options, "balora"], env=environment).split()


def consume(compiler, kind, pkgconfig, folder):
    if shutil.which(compiler) is None:
        raise report.Skip(f"{compiler} is not installed")
    if kind == "static" and BUILT_WITH != "gcc" and compiler != BUILT_WITH:
        raise report.Skip(f"a static library made with {BUILT_WITH} is linked with {BUILT_WITH}")
    libraries = flags(pkgconfig, "--libs", *(["--static"] if kind == "static" else []))
    if kind == "static":
        libraries = [word if word != "-lbalora" else "-l:libbalora.a" for word in libraries]
    program = folder / f"consumer-{compiler}-{kind}"
    run([compiler, "-std=c11", "-Wall", "-Wextra", "-Werror", *flags(pkgconfig, "--cflags"),
         pathlib.Path(HERE) / "consumer.c", "-o", program, *libraries])
    environment = dict(os.environ)
    environment.pop("LD_LIBRARY_PATH", None)
    needed = run(["readelf", "-d", program])
    if kind == "shared":
        environment["LD_LIBRARY_PATH"] = str(pkgconfig.parent)
    report.check_equal("libbalora.so" in needed, kind == "shared", f"needs libbalora.so, {kind}")
    said = run([program, f"{FIXTURES}/llama/model"], env=environment)
    report.check(re.match(r"libbalora \S+: llama, [1-9]\d* parameters", said), said)


def installed_command(folder, pkgconfig):
    command = next(path for path in folder.rglob("balora") if path.parent.name == "bin")
    environment = {**os.environ, "LD_LIBRARY_PATH": str(pkgconfig.parent)}
    report.check("build" in run([command, "info"], env=environment), "balora info says nothing")


def version(pkgconfig):
    header = (pathlib.Path(HERE).parents[1] / "include" / "balora" / "version.h").read_text()
    numbers = [re.search(rf"BALORA_VERSION_{part} (\d+)", header).group(1) for part in ("MAJOR", "MINOR", "PATCH")]
    report.check_equal(flags(pkgconfig, "--modversion"), [".".join(numbers)], "version of balora.pc")


def main():
    result = report.Report()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        places = []
        result.case("meson install", lambda: places.append(install(folder)))
        if places:
            pkgconfig = places[0]
            result.case("files", expected_files, folder)
            result.case("version", version, pkgconfig)
            for compiler in COMPILERS:
                for kind in ("shared", "static"):
                    result.case(f"consumer {kind} {compiler}", consume, compiler, kind, pkgconfig, folder)
            result.case("the installed command", installed_command, folder, pkgconfig)
    result.exit()


main()
