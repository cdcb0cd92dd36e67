"""Where plugins are looked for, what `balora info` says of them, and a run on one.

    test_search.py BALORA LIBRARY.so PROGRAM_WITH_THE_LIBRARY_INSIDE PLUGIN_FOLDER FIXTURES [sanitized]
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import report

BALORA, LIBRARY, PROGRAM, PLUGINS, FIXTURES = (pathlib.Path(word).resolve() for word in sys.argv[1:6])
SANITIZED = sys.argv[6:] == ["sanitized"]
MODEL, DATA = FIXTURES / "llama/model", FIXTURES / "llama/data.safetensors"
NAME = "libbalora-cuda.so"


class Home:
    """A library in a folder of its own, a folder for BALORA_PLUGIN_DIR, and one to work in."""

    def __init__(self, folder):
        self.library, self.plugins, self.current = (folder / name for name in ("lib", "plugins", "current"))
        for part in (self.library, self.plugins, self.current):
            part.mkdir(parents=True)
        shutil.copy(LIBRARY, self.library / "libbalora.so.0")

    def put(self, place, plugin="good"):
        shutil.copy(PLUGINS / f"{plugin}.so", place / NAME)
        return place / NAME

    def run(self, *words, plugin_dir=None, library_path=None):
        environment = {**os.environ, "LD_LIBRARY_PATH": str(library_path or self.library)}
        environment.pop("BALORA_PLUGIN_DIR", None)
        if plugin_dir is not None:
            environment["BALORA_PLUGIN_DIR"] = str(plugin_dir)
        return subprocess.run([BALORA, *map(str, words)], cwd=self.current, env=environment, capture_output=True, text=True)

    def build(self, *words, **places):
        """The description of build and machine, as JSON and as a page, which must both come without a word on stderr."""
        page, found = self.run("info", *words, **places), self.run("info", "--json", *words, **places)
        for one in (page, found):
            report.check(one.returncode == 0 and one.stderr == "", f"{one.args}: {one.returncode}\n{one.stdout}{one.stderr}")
        lines = [line for line in page.stdout.splitlines() if line.startswith("  cuda ")]
        report.check_equal(len(lines), 1, f"lines about cuda in\n{page.stdout}")
        return json.loads(found.stdout)["build"], lines[0], page.stdout

    def plugin(self, *words, **places):
        build, line, _ = self.build(*words, **places)
        plugin = build["plugins"][0]
        report.check((plugin["state"] == "loaded") == (build["backends"] == ["cpu", "cuda"]), str(build))
        return plugin, line


def expect_loaded(found, path):
    plugin, line = found
    report.check_equal(plugin.get("path"), str(path), f"path; {plugin}")
    report.check_equal(plugin["state"], "loaded", f"state; {plugin}")
    report.check("error" not in plugin, str(plugin))
    report.check(line.endswith(f" {path}, ABI {plugin['abi']}, 2 devices"), line)


def expect_not_found(found, *parts):
    plugin, line = found
    report.check_equal(plugin["state"], "not found", f"state; {plugin}")
    report.check("path" not in plugin and "abi" not in plugin, str(plugin))
    for part in parts:
        report.check(str(part) in plugin["searched"], f"{part} is not in {plugin}")
    report.check("not found (searched: " in line and plugin["searched"] in line, line)


def nothing_is_no_error(home):
    expect_not_found(home.plugin(), home.library / NAME, "BALORA_PLUGIN_DIR is not set")
    expect_not_found(home.plugin(plugin_dir=""), "BALORA_PLUGIN_DIR is not set")
    expect_not_found(home.plugin(plugin_dir=home.plugins), home.library / NAME, home.plugins / NAME)
    expect_not_found(home.plugin(plugin_dir="/no such folder"), "/no such folder/" + NAME)
    run = home.run("eval", "--model", MODEL, "--data", DATA, "--device", "cuda", plugin_dir=home.plugins)
    report.check_equal(run.returncode, 1, run.stderr)
    for part in ('device "cuda"', home.library / NAME, home.plugins / NAME, "BALORA_PLUGIN_DIR", "plugin_path"):
        report.check(str(part) in run.stderr, f"{part} is not in {run.stderr}")


def beside_the_library(home):
    path = home.put(home.library)
    expect_loaded(home.plugin(), path)


def in_the_named_folder(home):
    path = home.put(home.plugins)
    expect_loaded(home.plugin(plugin_dir=home.plugins), path)


def beside_the_library_comes_first(home):
    path = home.put(home.library)
    home.put(home.plugins)
    expect_loaded(home.plugin(plugin_dir=home.plugins), path)


def a_refused_file_ends_the_search(home):
    home.put(home.library, "other_major")
    home.put(home.plugins)
    plugin, line = home.plugin(plugin_dir=home.plugins)
    report.check_equal(plugin["state"], "refused", str(plugin))
    report.check_equal(plugin["path"], str(home.library / NAME), "path")
    report.check("backend ABI 2." in plugin["error"] and "refused: the plugin" in line and plugin["error"] in line, line)


def a_relative_folder_is_refused(home):
    home.put(home.current)
    (home.current / "below").mkdir()
    home.put(home.current / "below")
    for folder in (".", "below", "./below", "../current"):
        expect_not_found(home.plugin(plugin_dir=folder), f'not in BALORA_PLUGIN_DIR "{folder}"', "an absolute path")


def never_the_current_folder(home):
    home.put(home.current)
    expect_not_found(home.plugin())
    expect_not_found(home.plugin(plugin_dir=home.plugins))


def never_where_the_linker_looks(home):
    home.put(home.plugins)
    expect_not_found(home.plugin(library_path=f"{home.library}:{home.plugins}"))


def only_the_given_file(home):
    home.put(home.library)
    home.put(home.plugins)
    given = home.current / "mine.so"
    for words in (("--plugin-path", given), ("--plugin-path", "mine.so"), ("--plugin-path", "./mine.so")):
        expect_not_found(home.plugin(*words, plugin_dir=home.plugins), "mine.so")
    shutil.copy(PLUGINS / "good.so", given)
    expect_loaded(home.plugin("--plugin-path", given, plugin_dir=home.plugins), given)
    expect_loaded(home.plugin("--plugin-path", "mine.so"), "./mine.so")


def a_library_loaded_by_a_relative_path(home):
    path = home.put(home.library)
    expect_loaded(home.plugin(library_path="../lib"), path)
    if SANITIZED:
        return
    code = ("import ctypes, os, sys\n"
            "library = ctypes.CDLL('../lib/libbalora.so.0')\n"
            "os.chdir('/')\n"
            "context, text = ctypes.c_void_p(), ctypes.c_char_p()\n"
            "assert library.balora_context_create(ctypes.byref(context), None) == 0\n"
            "assert library.balora_context_describe(ctypes.byref(text), context) == 0\n"
            "print(text.value.decode())\n")
    run = subprocess.run([sys.executable, "-c", code], cwd=home.current, capture_output=True, text=True)
    report.check(run.returncode == 0, run.stderr)
    report.check_equal(json.loads(run.stdout)["plugins"][0].get("path"), str(path), "path")


def beside_a_program_that_has_the_library_inside(home):
    program = home.library / "program"
    shutil.copy(PROGRAM, program)
    path = home.put(home.library)
    home.put(home.current)
    for called in (str(program), "program", "../lib/program"):  # the name it is given is the caller's choice
        run = subprocess.run([called], executable=program, cwd=home.current, capture_output=True, text=True)
        report.check(run.returncode == 0, run.stderr)
        report.check_equal(json.loads(run.stdout)["plugins"][0].get("path"), str(path), f"path; called {called}")


def devices_are_described(home):
    build, _, page = home.build("--plugin-path", PLUGINS / "good.so")
    report.check_equal([device["backend"] for device in build["devices"]], ["cpu", "cuda", "cuda"], "devices")
    report.check_equal([device["device"] for device in build["devices"]], ["cpu", "cuda:0", "cuda:1"], "devices")
    last = build["devices"][-1]
    report.check_equal({key: last[key] for key in ("name", "features", "parts", "memory_bytes", "free_memory_bytes")},
                       {"name": "Test GPU ? 1", "features": ["sm_90"], "parts": {"driver": "13.0"},
                        "memory_bytes": 80 << 30, "free_memory_bytes": 70 << 30}, "cuda:1")
    for part in ("cuda:1", "Test GPU ? 1", "sm_90", "13.0", "80.0 GiB", "70.0 GiB"):
        report.check(part in page, f"{part} is not in\n{page}")


def devices_that_fail_are_told(home):
    for name, key, part in (("open_fails", "devices", "all of it is in use"), ("count_fails", "plugins", "the driver is upset")):
        build, _, page = home.build("--plugin-path", PLUGINS / f"{name}.so")
        report.check_equal(build["plugins"][0]["state"], "loaded", name)
        report.check(part in build[key][-1]["error"] and part in page, f"{build}\n{page}")
    build, line, _ = home.build("--plugin-path", PLUGINS / "no_devices.so")
    report.check(line.endswith(" 0 devices") and len(build["devices"]) == 1, f"{build}\n{line}")


def a_run_on_a_plugin(home):
    """Through a plugin that computes on the CPU: the same bytes, and the memory of the device."""
    device = ["--device", "cuda", "--plugin-path", PLUGINS / "forward.so"]
    words = ["train", "--model", MODEL, "--data", DATA, "--rank", "4", "--max-steps", "2", "--threads", "2"]
    peaks, adapters = [], []
    for name, where in (("cpu", []), ("plugin", device)):
        run = home.run(*words, *where, "--out", name)
        report.check(run.returncode == 0, run.stderr)
        adapters.append((home.current / name / "adapter" / "adapter_model.safetensors").read_bytes())
        lines = (home.current / name / "metrics.jsonl").read_text().splitlines()
        peaks.append(json.loads(lines[-1])["peak_memory_bytes"])
    report.check(adapters[0] == adapters[1], "the plugin's adapter is another")
    report.check(0 < peaks[1] < peaks[0] / 2, f"peaks of process and device: {peaks}")
    run = home.run(*words, *device, "--out", "tf32", "--tf32")
    report.check(run.returncode == 1 and "TF32 was asked for" in run.stderr, f"{run.returncode}\n{run.stderr}")
    run = home.run(*words, "--plugin-path", PLUGINS / "forward.so", "--out", "cpu-tf32", "--tf32")
    report.check(run.returncode == 0, run.stderr)


def main():
    result = report.Report()
    folder = pathlib.Path(tempfile.mkdtemp()).resolve()
    for function in (nothing_is_no_error, beside_the_library, in_the_named_folder, beside_the_library_comes_first,
                     a_refused_file_ends_the_search, a_relative_folder_is_refused, never_the_current_folder,
                     never_where_the_linker_looks, only_the_given_file, a_library_loaded_by_a_relative_path,
                     beside_a_program_that_has_the_library_inside, devices_are_described, devices_that_fail_are_told,
                     a_run_on_a_plugin):
        result.case(function.__name__, function, Home(folder / function.__name__))
    shutil.rmtree(folder)
    result.exit()


main()
