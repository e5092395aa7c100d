"""Writes dist/sbom.cdx.json: a CycloneDX bill of materials of the Flink image's packages and JARs, from the locks.

python scripts/sbom.py [FILE]
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
#: JARs that are shipped, by the Maven group that the locks' names lack.
_SHIPPED = {"flink-sql-connector-kafka": "org.apache.flink", "flink-s3-fs-presto": "org.apache.flink"}


def jar_components() -> list[dict[str, Any]]:
    """One component per shipped JAR, with the sha256 that the build checks."""
    found = []
    for sums in (ROOT / "jars.sha256", ROOT / "docker" / "jars.sha256"):
        for line in sums.read_text().splitlines():
            digest, file = line.split()
            name, version = re.fullmatch(r"(.+?)-(\d.*)\.jar", file).groups()  # type: ignore[union-attr]
            if name in _SHIPPED:
                purl = f"pkg:maven/{_SHIPPED[name]}/{name}@{version}"
                found.append({
                    "type": "library", "bom-ref": purl, "purl": purl, "group": _SHIPPED[name], "name": name,
                    "version": version, "hashes": [{"alg": "SHA-256", "content": digest}],
                    "licenses": [{"license": {"id": "Apache-2.0"}}],
                })  # fmt: skip
    named = {
        element.text
        for pom in (ROOT / "pom.xml", ROOT / "docker" / "pom.xml")
        for element in ElementTree.parse(pom).iter("{http://maven.apache.org/POM/4.0.0}artifactId")
    }
    assert {component["name"] for component in found} == set(_SHIPPED) <= named, "the POMs name other JARs"
    return found


def write(file: Path) -> int:
    """Write the bill; how many components it has."""
    file.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [sys.executable, "-m", "cyclonedx_py", "requirements", str(ROOT / "requirements.lock"),
         "--pyproject", str(ROOT / "pyproject.toml"), "--output-reproducible", "--no-validate",
         "--sv", "1.6", "-o", str(file)],
        check=True, capture_output=True,
    )  # fmt: skip
    bill = json.loads(file.read_text())
    bill["components"] += jar_components()
    bill["metadata"]["component"]["version"] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "version"
    ]
    file.write_text(json.dumps(bill, indent=1, sort_keys=True) + "\n")
    return len(bill["components"])


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "dist" / "sbom.cdx.json"
    print(f"{target}: {write(target)} components")
