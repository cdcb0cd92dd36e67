#!/usr/bin/env python3
"""Count the test cases of meson's last runs:  count_tests.py BUILD_FOLDER...

A case is a line "[       OK ] name", "[  FAILED  ] name" or "[  SKIPPED ] name" of a test program (cmocka and
tests/report.py write them). A program that fails without naming a case counts as one failed case, and so does a build
folder whose tests did not run. The last line is "N passed, N failed, N skipped".
"""
import json
import pathlib
import re
import sys

CASE = re.compile(r"^\[ *(OK|FAILED|SKIPPED) *\] (?!\d+ test\(s\))(.+?)\s*$", re.M)


def count_program(test):
    """Passed, names of failed, skipped: of one entry of testlog.json."""
    passed = 0
    failed, skipped = set(), set()  # names: cmocka repeats both in its summary
    for kind, name in CASE.findall(test.get("stdout") or "") + CASE.findall(test.get("stderr") or ""):
        if kind == "OK":
            passed += 1
        elif kind == "SKIPPED":
            skipped.add(name)
        else:
            failed.add(name)
    if test["result"] == "SKIP" and not skipped:
        skipped.add(test["name"])
    elif test["result"] not in ("OK", "SKIP", "EXPECTEDFAIL") and not failed:
        failed.add(f"the program ended with {test['result']} (exit code {test.get('returncode')})")
    elif test["result"] == "OK" and not passed and not skipped:
        failed.add("the program named no case")
    return passed, failed, len(skipped)


def count_folder(folder):
    log = pathlib.Path(folder, "meson-logs", "testlog.json")
    if not log.exists():
        print(f"{folder}: failed: nothing was built or run")
        return 0, 1, 0
    total = [0, 0, 0]
    for line in log.read_text().splitlines():
        test = json.loads(line)
        passed, failed, skipped = count_program(test)
        for name in sorted(failed):
            print(f"{folder}: failed: {test['name']}: {name}")
        total = [total[0] + passed, total[1] + len(failed), total[2] + skipped]
    return total


def main():
    passed, failed, skipped = (sum(column) for column in zip(*map(count_folder, sys.argv[1:])))
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(1 if failed or not passed else 0)


main()
