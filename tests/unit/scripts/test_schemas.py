"""The published JSON Schemas are those of the structs, and messages of ours fit them."""

import json
import sys
from pathlib import Path

import jsonschema
import pytest

from models.messages import TOPICS

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "scripts"))
import schemas  # noqa: E402

RECORDED = ROOT / "tests" / "fixtures" / "messages" / "status-recorded.jsonl"


def test_every_topic_has_a_current_schema():
    assert schemas.outdated() == [], "run `make schemas`"
    assert {file.stem for file in schemas.FOLDER.glob("*.json")} >= set(TOPICS.values())


def test_events_fit_their_schema_and_a_split_without_a_ratio_does_not():
    from models.events import decode_event
    from models.messages import encode

    schema = json.loads((schemas.FOLDER / "market-data-status.json").read_bytes())
    for line in RECORDED.read_bytes().splitlines():
        jsonschema.validate(json.loads(encode(decode_event(line))), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"kind": "split", "symbol": "A", "timestamp_ms": 1, "effective_ms": 1}, schema)
