"""Fail when a test was skipped that should have run: `python check_skips.py REPORT.xml...` reads pytest's JUnit reports."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

# What a machine without a GPU may leave out. Everything else that a test needs is installed by .ci/run.
ALLOWED_REASONS = ("needs a GPU",)


def skipped(report: Path) -> Iterator[tuple[str, str]]:
    """(test, reason) of every skipped test of one JUnit report. Raises ValueError when the report holds no test at all."""
    cases = list(ElementTree.parse(report).iter("testcase"))
    if not cases:
        raise ValueError(f"{report} holds no tests: pytest collected none")
    for case in cases:
        for skip in case.iter("skipped"):
            yield f"{case.get('classname')}::{case.get('name')}", skip.get("message") or "no reason given"


def main(reports: list[str]) -> int:
    """Print every skip; 1 when one of them has no allowed reason."""
    refused = 0
    for test, reason in (skip for report in reports for skip in skipped(Path(report))):
        allowed = reason in ALLOWED_REASONS
        refused += not allowed
        print(f"{'skipped, as it may be' if allowed else 'SKIPPED, BUT SHOULD RUN HERE'}: {test}: {reason}")
    print(f"{refused} tests skipped that should have run")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
