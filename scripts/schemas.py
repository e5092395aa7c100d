"""Write the JSON Schema of every topic to ``docs/schemas``; ``--check`` only reports which of them are out of date."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from models.events import Event, KnownEvent  # noqa: E402
from models.messages import TOPICS, Bar  # noqa: E402
from models.serving.rollout import ROLLOUT_TOPIC, SHADOW_TOPIC, RolloutMessage, ShadowScore  # noqa: E402
from models.signals.protections import KillSwitch  # noqa: E402

FOLDER = ROOT / "docs" / "schemas"


#: What each topic carries.
MESSAGES = {topic: KnownEvent if kind is Event else kind for kind, topic in TOPICS.items()} | {
    "market-data-bars-check": Bar,
    "risk-control": KillSwitch,
    ROLLOUT_TOPIC: RolloutMessage,
    SHADOW_TOPIC: ShadowScore,
}


def pages() -> dict[Path, bytes]:
    """Every file with its expected content."""
    return {
        FOLDER / f"{topic}.json": msgspec.json.format(
            msgspec.json.encode(msgspec.json.schema(kind), order="sorted"), indent=2
        )
        + b"\n"
        for topic, kind in MESSAGES.items()
    }


def outdated() -> list[str]:
    """Files that are missing, out of date, or belong to no topic."""
    wanted = pages()
    found = set(FOLDER.glob("*.json"))
    wrong = [file for file, text in wanted.items() if not file.exists() or file.read_bytes() != text]
    return sorted(str(file.relative_to(ROOT)) for file in {*wrong, *(found - wanted.keys())})


def main() -> int:
    """Write or check."""
    if "--check" in sys.argv[1:]:
        for name in outdated():
            print(f"{name} is not current: run `make schemas`")
        return bool(outdated())
    FOLDER.mkdir(exist_ok=True)
    wanted = pages()
    for file in FOLDER.glob("*.json"):
        if file not in wanted:
            file.unlink()
    for file, text in wanted.items():
        file.write_bytes(text)
    print(f"{len(wanted)} schemas in {FOLDER.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
