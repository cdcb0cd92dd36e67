"""The exported symbols are the symbol map's, and those are the functions that the headers declare.

    test_symbols.py LIBRARY.so LIBRARY.a SYMBOL_MAP INCLUDE_FOLDER
"""
import pathlib
import re
import subprocess
import sys

import report


def declared(include):
    """Functions declared with BALORA_API."""
    found = set()
    for header in pathlib.Path(include, "balora").glob("*.h"):
        text = re.sub(r"/\*.*?\*/", "", header.read_text(), flags=re.S)
        text = re.sub(r"^#.*?(?<!\\)$", "", text, flags=re.S | re.M)
        found |= set(re.findall(r"BALORA_API[^;(]*?(\w+)\s*\(", text))
    return found


def mapped(path):
    text = re.sub(r"/\*.*?\*/", "", pathlib.Path(path).read_text(), flags=re.S)
    exported = text.split("global:")[1].split("local:")[0]
    names = re.findall(r"(\w+);", exported)
    report.check_equal(names, sorted(set(names)), "names of the map, sorted and each once")
    return set(names)


def defined(arguments, path):
    output = subprocess.run(["nm", *arguments, path], capture_output=True, text=True, check=True).stdout
    lines = [line.split() for line in output.splitlines()]
    return {words[-1].split("@")[0] for words in lines if len(words) >= 3 and words[-2] in "TDBRVWiu"}


def same(found, expected, found_name, expected_name):
    extra, missing = sorted(found - expected), sorted(expected - found)
    report.check(not extra and not missing,
                 f"only {found_name}: {extra}\nonly {expected_name}: {missing}")


def shared_exports_the_map(library, symbols):
    # The version line itself is an absolute symbol.
    same(defined(["-D", "--defined-only"], library), symbols, "in the library", "in the map")


def static_exports_the_map(archive, symbols):
    same(defined(["-g", "--defined-only"], archive), symbols, "in the archive", "in the map")


def needs_no_device(library):
    """Neither the library nor what it links, as far as that: a machine without a GPU runs it as it is."""
    output = subprocess.run(["ldd", library], capture_output=True, text=True, check=True).stdout
    report.check("libopenblas" in output, f"ldd lists nothing:\n{output}")
    wrong = re.findall(r"^\s*(\S*(?:cuda|cublas|cusolver|cudnn|nvrtc|nvidia|nccl)\S*)", output, flags=re.M)
    report.check(not wrong, f"needs {wrong}")


def soname(library):
    output = subprocess.run(["readelf", "-d", library], capture_output=True, text=True, check=True).stdout
    names = re.findall(r"SONAME.*\[(.*)\]", output)
    header = pathlib.Path(sys.argv[4], "balora", "version.h").read_text()
    version = re.search(r"BALORA_ABI_VERSION (\d+)", header).group(1)
    report.check_equal(names, [f"libbalora.so.{version}"], "soname")


def main():
    library, archive, symbol_map, include = sys.argv[1:5]
    symbols = mapped(symbol_map)
    result = report.Report()
    result.case("map equals headers", same, symbols, declared(include), "in the map", "in the headers")
    result.case("shared library exports the map", shared_exports_the_map, library, symbols)
    result.case("static library exports the map", static_exports_the_map, archive, symbols)
    result.case("the library needs no device library", needs_no_device, library)
    result.case("soname follows the ABI version", soname, library)
    result.exit()


main()
