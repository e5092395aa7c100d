"""Writes docs/licences.md, the licences of everything the images ship, and rejects those not allowed.

    python scripts/licences.py           write the page
    python scripts/licences.py --check   exit status 1 if the page is not current or a licence is not allowed

Allowed are permissive licences and MPL-2.0, whose files are shipped unchanged. A package with any other licence or
without a named one is rejected.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(Path(__file__).parent))

from lock import pinned  # noqa: E402 - a script next to this one

PAGE = ROOT / "docs" / "licences.md"
_ALLOWED = re.compile(
    r"MIT(-0|-CMU)?|ISC|0BSD|Zlib|Unlicense|CC0-1\.0|CNRI-Python|PSF-2\.0|Python Software Foundation"
    r"|Apache-2\.0( WITH LLVM-exception)?|Apache( Software)?|Apache License, Version 2\.0"
    r"|BSD(-[023]-Clause)?|3-Clause BSD|MPL-2\.0|Mozilla Public License 2\.0 \(MPL 2\.0\)|ISC License \(ISCL\)"
)
#: What the images ship besides Python packages.
_OTHERS = [
    ("flink-sql-connector-kafka", "5.0.0-2.2", "Apache-2.0", "Flink image, lib/"),
    ("flink-s3-fs-presto", "2.3.0", "Apache-2.0", "Flink image, plugins/"),
    ("Apache Flink (in apache-flink-libraries)", "2.3.0", "Apache-2.0", "Flink image"),
    ("Eclipse Temurin JRE", "17", "GPL-2.0 with Classpath-exception", "Flink image; run alongside, not linked"),
    ("CPython", "3.11", "PSF-2.0", "both images"),
    ("TradingView lightweight-charts", "see relay/static/vendor", "Apache-2.0", "the relay's page"),
]


def allowed(licence: str) -> bool:
    """Whether a package under this licence may be shipped.

    >>> allowed("Apache-2.0 OR BSD-3-Clause"), allowed("MIT License"), allowed("MPL-2.0 AND (Apache-2.0 OR MIT)")
    (True, True, True)
    >>> allowed("GPL-3.0"), allowed("UNKNOWN"), allowed("MIT AND AGPL-3.0"), allowed("LGPLv3"), allowed("")
    (False, False, False, False, False)
    """
    if _ALLOWED.fullmatch(licence):  # names that contain parentheses themselves
        return True
    parts = [part.strip() for part in re.split(r"\bAND\b|\bOR\b|[;()]", licence) if part.strip()]
    return bool(parts) and all(_ALLOWED.fullmatch(part.removesuffix(" License")) for part in parts)


def shipped() -> list[dict[str, str]]:
    """Name, version, licence and home page of every package in requirements.lock, as installed here."""
    names = pinned(ROOT / "requirements.lock")
    done = subprocess.run(
        [sys.executable, "-m", "piplicenses", "--format=json", "--with-urls"],
        check=True,
        capture_output=True,
        text=True,
    )
    found = [row for row in json.loads(done.stdout) if _plain(row["Name"]) in names]
    return sorted(found, key=lambda row: row["Name"].lower())


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def page(rows: list[dict[str, str]]) -> str:
    """The page's text."""
    lines = [
        "# Licences",
        "",
        "What the images ship, written by `make licences`; `tests/unit/scripts/test_supply.py` refuses any that is",
        "not permissive (MPL-2.0 files are shipped unchanged). Tools for development are not shipped.",
        "",
        "| package | version | licence |",
        "|---|---|---|",
        *(f"| {row['Name']} | {row['Version']} | {row['License']} |" for row in rows),
        "",
        "| besides Python packages | version | licence | where |",
        "|---|---|---|---|",
        *(f"| {name} | {version} | {licence} | {where} |" for name, version, licence, where in _OTHERS),
        "",
    ]
    return "\n".join(lines)


def problems() -> list[str]:
    """Licences that are not allowed, and whether the page is out of date."""
    rows = shipped()
    found = [f"{row['Name']} {row['Version']}: {row['License'] or 'no licence'} is not allowed" for row in rows
             if not allowed(row["License"])]  # fmt: skip
    if not PAGE.exists() or PAGE.read_text() != page(rows):
        found.append("docs/licences.md is not current: run `make licences`")
    return found


def main() -> int:
    """The command line; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, report what is wrong")
    if not parser.parse_args().check:
        PAGE.write_text(page(shipped()))
    found = problems()
    print("\n".join(found) or "every licence is allowed")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
