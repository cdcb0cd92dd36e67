#!/usr/bin/env python3
"""Writes src/text/unicode_tables.c from the Unicode character database of three Python interpreters.

The ids must be those of the PyPI package `tokenizers`, whose parts follow different versions of Unicode:
    16.0  \\p{L}, \\p{N}, \\s, \\w of its regular expressions
    17.0  the pre-tokenizer Digits (Rust's char::is_numeric)
     9.0  the normalizer NFC (its own crate); a later version differs only on characters assigned since

    make_unicode_tables.py --unicode-9 python3.6 --unicode-16 PYTHON16 --unicode-17 PYTHON17 > src/text/unicode_tables.c

CPython 3.6 has Unicode 9.0; for 16.0 and 17.0 a virtual environment with unicodedata2==16.0.0 or ==17.0.0 will do.
"""
import argparse
import json
import subprocess

CODE_POINTS = 0x110000
BLOCK = 256

# Run by each interpreter: everything that the tables need, as JSON.
DUMP = r"""
import json
try:
    import unicodedata2 as database
except ImportError:
    import unicodedata as database
points = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
canonical = {c: database.decomposition(chr(c)) for c in points}
print(json.dumps({
    "version": database.unidata_version,
    "category": {c: database.category(chr(c)) for c in points},
    "combining": {c: database.combining(chr(c)) for c in points if database.combining(chr(c))},
    "decomposition": {c: [int(part, 16) for part in text.split()] for c, text in canonical.items() if text and text[0] != "<"},
    "composed": {c: [ord(part) for part in database.normalize("NFC", chr(c))] for c in points
                 if database.normalize("NFC", chr(c)) != chr(c)},
}))
"""

# unicode.h: enum unicode_class, in this order, each written as a letter from 'a'.
OTHER, LETTER, NUMBER_WORD, NUMBER, SPACE, WORD, NEW_NUMBER = range(7)
NFC_UNSAFE = 8

WHITE_SPACE = {0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x85}
JOIN_CONTROL = {0x200C, 0x200D}
# The symbols (So) with the property Alphabetic; every other alphabetic character is a letter, mark or letter number.
ALPHABETIC_SYMBOLS = [(0x24B6, 0x24E9), (0x1F130, 0x1F149), (0x1F150, 0x1F169), (0x1F170, 0x1F189)]
HANGUL_VOWELS_AND_TRAILS = [(0x1161, 0x1175), (0x11A8, 0x11C2)]


def load(interpreter, version):
    data = json.loads(subprocess.run([interpreter, "-c", DUMP], check=True, stdout=subprocess.PIPE).stdout)
    if not data["version"].startswith(version):
        raise SystemExit(f"{interpreter} has Unicode {data['version']}, not {version}")
    return {key: {int(c): v for c, v in value.items()} if isinstance(value, dict) else value for key, value in data.items()}


def within(c, ranges):
    return any(first <= c <= last for first, last in ranges)


def classify(c, category, newer):
    if category[0] == "L":
        return LETTER
    if category in ("Nd", "Nl"):
        return NUMBER_WORD
    if category == "No":
        return NUMBER
    if category[0] == "Z" or c in WHITE_SPACE:
        return SPACE
    if category[0] == "M" or category == "Pc" or c in JOIN_CONTROL or within(c, ALPHABETIC_SYMBOLS):
        return WORD
    return NEW_NUMBER if newer[0] == "N" else OTHER


def decompositions(old):
    """[(code point, first, second or 0, recomposes)], one level deep, sorted."""
    rows = []
    for c, parts in sorted(old["decomposition"].items()):
        first, second = (parts + [0])[:2]
        rows.append((c, first, second, second != 0 and c not in old["composed"]))
    return rows


def combining_runs(old):
    runs = []
    for c, value in sorted(old["combining"].items()):
        if runs and runs[-1][1] == c - 1 and runs[-1][2] == value:
            runs[-1][1] = c
        else:
            runs.append([c, c, value])
    return runs


def lines(items, width=110):
    line = ""
    for item in items:
        if line and len(line) + len(item) > width:
            yield line
            line = ""
        line = line + item if line else f"    {item}"
    yield line


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for version in ("9", "16", "17"):
        parser.add_argument(f"--unicode-{version}", required=True, metavar="PYTHON")
    options = parser.parse_args()
    old, regex, digits = load(options.unicode_9, "9.0"), load(options.unicode_16, "16.0"), load(options.unicode_17, "17.0")

    rows = decompositions(old)
    seconds = {second for _, _, second, recomposes in rows if recomposes}
    properties = []
    for c in range(CODE_POINTS):
        kind = classify(c, regex["category"].get(c, "Cs"), digits["category"].get(c, "Cs"))
        unsafe = c in old["combining"] or c in old["composed"] or c in seconds or within(c, HANGUL_VOWELS_AND_TRAILS)
        properties.append(chr(ord("a") + kind + (NFC_UNSAFE if unsafe else 0)))
    blocks, index = {}, []
    for start in range(0, CODE_POINTS, BLOCK):
        index.append(blocks.setdefault("".join(properties[start:start + BLOCK]), len(blocks)))

    pairs = sorted((first, second, place) for place, (_, first, second, recomposes) in enumerate(rows) if recomposes)
    runs = combining_runs(old)
    out = ["/* Made by scripts/make_unicode_tables.py from Unicode 16.0, 17.0 (digits) and 9.0 (NFC): do not edit. */",
           '#include "text/unicode_tables.h"', "", "/* clang-format off */",
           "const unsigned char unicode_block[UNICODE_BLOCKS] = {", *lines(f"{i}," for i in index), "};", "",
           "const char unicode_properties[][UNICODE_BLOCK_SIZE + 1] = {", *(f'    "{text}",' for text in blocks), "};", "",
           "const unicode_combining_run unicode_combining_runs[] = {",
           *lines(f"{{{first},{last},{value}}}," for first, last, value in runs), "};",
           f"const size_t unicode_combining_run_count = {len(runs)};", "",
           "const unicode_decomposition unicode_decompositions[] = {",
           *lines(f"{{{c},{first},{second}}}," for c, first, second, _ in rows), "};",
           f"const size_t unicode_decomposition_count = {len(rows)};", "",
           "const uint16_t unicode_compositions[] = {", *lines(f"{place}," for _, _, place in pairs), "};",
           f"const size_t unicode_composition_count = {len(pairs)};"]
    print("\n".join(out))


if __name__ == "__main__":
    main()
