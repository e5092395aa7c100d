"""Reports the slowest test files, from the reports that ``pytest --junitxml`` writes (``junit_family=xunit1``).

    python scripts/test_times.py [--files N] REPORT.xml ...

Prints the files that took longest (calls, set-up and tear-down together) and, last, one line for all runs together.
"""

from __future__ import annotations

import argparse
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path


def main() -> None:
    """Read the reports and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", nargs="+", type=Path)
    parser.add_argument("--files", type=int, default=20)
    options = parser.parse_args()
    seconds: Counter[str] = Counter()
    tests: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    total = 0.0
    for report in options.reports:
        for suite in ET.parse(report).getroot().iter("testsuite"):
            total += float(suite.attrib["time"])
            for word in ("tests", "failures", "errors", "skipped"):
                counts[word] += int(suite.attrib[word])
        for case in ET.parse(report).getroot().iter("testcase"):
            file = case.get("file") or case.get("classname", "")
            seconds[file] += float(case.get("time", 0))  # type: ignore[assignment]
            tests[file] += 1
    print(f"slowest {min(options.files, len(seconds))} of {len(seconds)} files:")
    for file, spent in seconds.most_common(options.files):
        print(f"{spent:8.1f} s  {tests[file]:5d} tests  {file}")
    failed = counts["failures"] + counts["errors"]
    passed = counts["tests"] - failed - counts["skipped"]
    words = [(failed, "failed"), (passed, "passed"), (counts["skipped"], "skipped")]
    print(", ".join(f"{count} {word}" for count, word in words if count), f"in {total:.0f}s, all runs together")


if __name__ == "__main__":
    main()
