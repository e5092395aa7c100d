"""A venue is one folder: one written into a temporary folder is listed, set up and parsed, with its own calendar."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from connectors import venues
from connectors.bars.sale_conditions import effect
from connectors.bars.sql import bars_query, calendars
from connectors.settings.ingest import BarsSettings, load
from models.messages import Trade, decode

VENUE = '''
"""A venue that sends one trade a frame: symbol, time, price, size, id and one condition."""

from typing import ClassVar

import msgspec

from connectors.venues.base import Capabilities, Parsed, Stream, VenueSettings, reject
from models.messages import Trade


class Adapter:
    greets = authenticates = contiguous_ids = overlaps = False
    source = "lse"

    def parse(self, frame, now_ms):
        try:
            fields = msgspec.json.decode(frame, type=tuple[str, int, float, float, str, str])
        except msgspec.DecodeError as error:
            return Parsed(rejects=[reject(error, frame)])
        symbol, at, price, size, number, code = fields
        return Parsed(messages=[Trade(symbol=symbol, source=self.source, timestamp_ms=at, price=price, size=size,
            trade_id=number, conditions=(code,))])


class Settings(VenueSettings):
    capabilities: ClassVar[Capabilities] = Capabilities(
        calendar="XLON", sale_conditions={"odd": "I"}, minute_bars=False, ordered_ids=True
    )
    host: str = "ws://127.0.0.1"
    symbols: list[str] = ["VOD"]
    channels: list[str] = ["trades"]

    def streams(self):
        return [Stream("lse", Adapter(), dict.fromkeys(self.channels, self.symbols))]
'''


@pytest.fixture
def lse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The venue, for the length of a test."""
    folder = tmp_path / "lse"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "venue.py").write_text(VENUE)
    monkeypatch.setattr(venues, "__path__", [*venues.__path__, str(tmp_path)])
    yield
    for name in [name for name in sys.modules if name.startswith("connectors.venues.lse")]:
        del sys.modules[name]


def test_it_is_listed_and_configured(lse: None, tmp_path: Path) -> None:
    assert "lse" in venues.names()
    file = tmp_path / "signals.toml"
    file.write_text('venues = ["lse"]\n[lse]\nsymbols = ["BP"]\n')
    settings = load(file)
    assert settings.venue("lse").calendar == "XLON"
    assert settings.venue("lse").streams()[0].channels == {"trades": ["BP"]}


def test_its_frames_are_parsed_by_the_command(lse: None, tmp_path: Path) -> None:
    frames = tmp_path / "frames.json"
    frames.write_text('["VOD", 1700000000000, 71.5, 10, "a1", "odd"]\n["VOD"]\n')
    result = CliRunner().invoke(app, ["parse", "lse", str(frames)])
    assert result.exit_code == 0
    trade = decode(result.stdout.splitlines()[0].encode(), Trade)
    assert (trade.symbol, trade.source, trade.price) == ("VOD", "lse", 71.5)
    assert "line 2: " in result.stderr


def test_what_it_declares_holds_elsewhere(lse: None) -> None:
    assert venues.calendar_name("VOD", "lse") == venues.calendar_name("VOD", "built:lse") == "XLON"
    assert effect("lse", "1m", ("odd",)) == "volume"
    settings = BarsSettings.model_validate({})
    assert ("source LIKE 'lse%' ESCAPE '\\'", "XLON") in calendars(settings)
    assert "WHEN source LIKE 'lse%' ESCAPE '\\' THEN trade_id" in bars_query("trades", "1m", settings)
    assert settings.use("lse", "VOD", "1m") == "built"


def test_without_it_nothing_knows_it() -> None:
    assert "lse" not in venues.names()
    assert venues.calendar_name("VOD", "lse") == "XNYS"
    with pytest.raises(ValueError, match="venue = 'lse': must be one of alpaca, binance, binance_us, polygon"):
        venues.load("lse")
