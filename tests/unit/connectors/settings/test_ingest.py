"""Settings: the seed's defaults, the order of sources, what is missing by name, and secrets that never print."""

from pathlib import Path

import pytest

from connectors.settings.ingest import BarsSettings, Choice, SettingsError, load

KEYS = ("ALPACA_API_KEY", "ALPACA_SECRET_KEY", "APCA_API_KEY_ID", "APCA_API_SECRET_KEY", "POLYGON_API_KEY",
        "MASSIVE_API_KEY", "SIGNALS_CONFIG")  # fmt: skip


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_defaults_are_the_seeds() -> None:
    settings = load()
    assert settings.venues == ["alpaca", "polygon", "binance_us"]
    alpaca, polygon, binance = (settings.venue(name) for name in settings.venues)
    assert alpaca.symbols == ["AAPL", "TSLA", "NVDA", "SPY", "QQQ"]
    assert {"trades", "quotes", "bars"} <= set(alpaca.channels)
    assert (polygon.symbols, polygon.channels) == (["*"], ["trades", "quotes", "bars"])
    assert binance.symbols == ["BTCUSDT", "ETHUSDT", "ADAUSDT"]
    assert {"trades", "ticker"} <= set(binance.channels)
    assert alpaca.streams()[0].adapter.url() == "wss://stream.data.alpaca.markets/v2/iex"
    assert binance.streams()[0].adapter.url() == "wss://stream.binance.us:9443/stream"


def test_what_is_missing_is_named_with_its_remedy() -> None:
    with pytest.raises(SettingsError) as error:
        load().require()
    lines = str(error.value).splitlines()
    assert lines == [
        "alpaca.key is missing: set ALPACA_API_KEY, or key under [alpaca] in the settings file",
        "alpaca.secret is missing: set ALPACA_SECRET_KEY, or secret under [alpaca] in the settings file",
        "polygon.key is missing: set POLYGON_API_KEY, or key under [polygon] in the settings file",
    ]
    load(venues=["binance_us"]).require()


def test_file_environment_and_arguments_in_that_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "signals.toml"
    file.write_text(
        'kafka = "file:1"\nvenues = ["alpaca"]\n[alpaca]\nfeed = "v2/sip"\nkey = "k-file"\nsymbols = ["X"]\n'
    )
    assert load().kafka == "file:1"
    monkeypatch.setenv("SIGNALS_KAFKA", "environment:1")
    monkeypatch.setenv("SIGNALS_ALPACA__FEED", "v2/test")
    settings = load()
    assert settings.kafka == "environment:1"
    assert settings.venue("alpaca").streams()[0].adapter.url().endswith("/v2/test")
    assert settings.venue("alpaca").symbols == ["X"]
    assert load(kafka="argument:1").kafka == "argument:1"


def test_secrets_never_print(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALPACA_API_KEY", "very-secret")
    settings = load(alpaca={"secret": "most-secret"})
    assert "secret" in repr(settings)
    assert "very-secret" not in repr(settings)
    assert "most-secret" not in settings.model_dump_json()
    with pytest.raises(SettingsError) as error:
        load(alpaca={"secret": ["most-secret"]})
    assert "most-secret" not in str(error.value)


def test_a_wrong_setting_is_named() -> None:
    for overrides, complaint in (
        ({"venues": ["kraken"]}, "venues = .*'kraken': must be among alpaca, binance, binance_us, polygon"),
        ({"alpaca": {"fead": "v2/sip"}}, "alpaca.fead = 'v2/sip'"),
        ({"bars": {"timeframes": ["2m"]}}, "must be one of 1s, 1m, 5m, 1h, 1d"),
    ):
        with pytest.raises(SettingsError, match=complaint):
            load(**overrides)
    with pytest.raises(SettingsError, match="no such file"):
        load(Path("nowhere.toml"))


def test_symbols_are_spread_over_connections() -> None:
    many = [f"S{n}" for n in range(700)]
    streams = load(binance={"symbols": many, "channels": ["trades", "ticker"]}).venue("binance").streams()
    assert [len(s.channels["trades"]) for s in streams] == [512, 188]
    assert [symbol for s in streams for symbol in s.channels["trades"]] == many


def test_the_first_matching_choice_wins() -> None:
    bars = BarsSettings.model_validate(
        {"choices": [{"symbol": "BRK*", "use": "built"}, {"source": "alpaca", "use": "vendor"}]}
    )
    assert bars.use("alpaca", "BRK.B", "1m") == "built"
    assert bars.use("alpaca", "AAPL", "1m") == "vendor"
    assert bars.use("binance", "X", "1m") == "built"
    assert Choice(use="built").symbol == "*"
