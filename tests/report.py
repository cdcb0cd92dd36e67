"""Test cases in plain Python: each prints one line in cmocka's form, which scripts/test counts."""
import sys
import traceback

SKIP_EXIT = 77


class Failure(Exception):
    """What was found and what was expected."""


class Skip(Exception):
    """Why a case cannot run here."""


def check(condition, message):
    if not condition:
        raise Failure(message)


def check_equal(found, expected, what):
    check(found == expected, f"{what}: found {found!r}, expected {expected!r}")


class Report:
    """Runs cases and remembers whether one failed."""

    def __init__(self):
        self.failed = 0

    def case(self, name, function, *arguments):
        try:
            function(*arguments)
            print(f"[       OK ] {name}", flush=True)
        except Skip as reason:
            print(f"[  SKIPPED ] {name}: {reason}", flush=True)
        except Failure as failure:
            self.failed += 1
            print(f"{failure}\n[  FAILED  ] {name}", flush=True)
        except Exception:
            self.failed += 1
            traceback.print_exc(file=sys.stdout)
            print(f"[  FAILED  ] {name}", flush=True)

    def exit(self):
        sys.exit(1 if self.failed else 0)
