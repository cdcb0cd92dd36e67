"""One skipped case, with its reason:  skip.py REASON"""
import sys

import report


def skip(reason):
    raise report.Skip(reason)


result = report.Report()
result.case("skipped", skip, sys.argv[1])
result.exit()
