"""A real relay process over a real Redis, plain WebSocket clients to it, and a real browser."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
import redis
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from connectors.redis import keys as redis_keys
from models.messages import Contribution, Outcome, ProfileDecision, Signal, encode
from relay.users import UserStore, open_store

ROOT = Path(__file__).parents[3]
JWT_SECRET = "test-secret-of-at-least-thirty-two-bytes"
DAY_MS = 86_400_000

#: Where screenshots are kept, when asked for: SCREENSHOTS=docs/screenshots pytest ...
SCREENSHOTS = os.environ.get("SCREENSHOTS")
REMEDY = "the dashboard is tested in Chromium: apt-get update && apt-get install -y chromium chromium-driver"


class Relay:
    """A relay process; ``url`` is its address, ``store`` its users, ``redis`` the server it follows."""

    def __init__(self, redis_url: str, folder: Path, **settings: str) -> None:
        self.redis = redis.Redis.from_url(redis_url)
        self.redis_url, self.folder = redis_url, folder
        self.dsn = settings.get("USERS_DSN", f"sqlite://{folder}/users.db")
        self.store: UserStore = open_store(self.dsn)
        self.settings = {
            "REDIS_URL": redis_url, "USERS_DSN": self.dsn, "JWT_SECRET": JWT_SECRET, "PORT": "0", **settings,
        }  # fmt: skip
        self.process: subprocess.Popen[str] | None = None
        self.url = ""

    def start(self) -> "Relay":
        environment = {f"SIGNALS_RELAY_{name}": value for name, value in self.settings.items()}
        self.log = open(self.folder / "relay.log", "a")  # noqa: SIM115 - closed with the process
        self.process = subprocess.Popen(
            [sys.executable, "-m", "relay"], cwd=ROOT, env=environment | {"PATH": "/usr/bin:/bin", "HOME": "/tmp"},
            stdout=subprocess.PIPE, stderr=self.log, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("relay listening on "), (line, self.log_text())
        self.url = line.split()[-1]
        return self

    @property
    def port(self) -> str:
        return self.url.rpartition(":")[2]

    def log_text(self) -> str:
        return (self.folder / "relay.log").read_text()

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.log.close()
            self.process = None

    def restart(self) -> None:
        """Stop and start on the same port."""
        self.settings["PORT"] = self.port
        self.stop()
        self.start()

    # What the pipeline would write

    def publish(self, signal: Signal) -> None:
        self.redis.set(redis_keys.signal_key(signal.signal_id), encode(signal))
        self.redis.zadd(redis_keys.SIGNALS_ACTIVE, {signal.signal_id: signal.expires_ms})
        self.redis.xadd(redis_keys.SIGNALS_STREAM, {"id": signal.signal_id, "kind": "signal", "data": encode(signal)})

    def publish_outcome(self, outcome: Outcome) -> None:
        self.redis.hset(redis_keys.outcomes_key(outcome.symbol), outcome.signal_id, encode(outcome))
        self.redis.xadd(
            redis_keys.SIGNALS_STREAM, {"id": outcome.signal_id, "kind": "outcome", "data": encode(outcome)}
        )

    # Clients

    def token(self, name: str, tier: str = "dynamic") -> str:
        if self.store.get(name) is None:
            self.store.add(name, tier=tier)
        return self.store.issue_token(name)

    def jwt(self, name: str, **claims: Any) -> str:
        now = int(time.time())
        body = {"sub": name, "exp": now + 600, "iss": "signals", "aud": "signals-relay"} | claims
        return jwt.encode({k: v for k, v in body.items() if v is not None}, JWT_SECRET, algorithm="HS256")

    @contextlib.contextmanager
    def client(self, token: str = "", **hello: Any) -> Iterator["Listener"]:
        with connect(f"ws://127.0.0.1:{self.port}/ws", compression=None, max_size=None) as socket:
            listener = Listener(socket)
            with contextlib.suppress(ConnectionClosed):  # a refusal is for the test to read
                socket.send(json.dumps({"type": "hello", "token": token, **hello}))
            yield listener


class Listener:
    """A client that remembers what it received."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.received: list[dict[str, Any]] = []

    def send(self, **command: Any) -> None:
        self.socket.send(json.dumps(command))

    def next(self, timeout: float = 5.0) -> dict[str, Any]:
        message = json.loads(self.socket.recv(timeout))
        self.received.append(message)
        return message

    def until(self, kind: str, timeout: float = 5.0, **data: Any) -> dict[str, Any]:
        """The next message of a kind (whose fields are as given); the ones before it are only remembered."""
        deadline = time.monotonic() + timeout
        while True:
            message = self.next(max(0.01, deadline - time.monotonic()))
            if message["type"] == kind and all(message.get(k) == v for k, v in data.items()):
                return message

    def drain(self, seconds: float = 0.4) -> list[dict[str, Any]]:
        """Everything that comes within the time."""
        start = len(self.received)
        deadline = time.monotonic() + seconds
        with contextlib.suppress(TimeoutError):
            while True:
                self.next(max(0.01, deadline - time.monotonic()))
        return self.received[start:]


@pytest.fixture(scope="session")
def relay_class() -> type[Relay]:
    return Relay


@pytest.fixture
def relay(redis_url: str, tmp_path: Path) -> Iterator[Relay]:
    held = Relay(redis_url, tmp_path).start()
    yield held
    held.stop()


@pytest.fixture
def start_relay(redis_url: str, tmp_path: Path) -> Iterator[Callable[..., Relay]]:
    """Start a relay with settings of one's own."""
    started: list[Relay] = []

    def start(**settings: str) -> Relay:
        started.append(Relay(redis_url, tmp_path, **settings).start())
        return started[-1]

    yield start
    for held in started:
        held.stop()


def _signal(name: str, symbol: str = "AAPL", **changes: Any) -> Signal:
    now_ms = int(time.time() * 1_000)

    def profile(confidence: float, target: float) -> ProfileDecision:
        return ProfileDecision(
            action="buy", confidence=confidence, time_horizon="3d", target_price=target, stop_loss=95.0
        )

    values: dict[str, Any] = {
        "signal_id": name, "symbol": symbol, "timeframe": "1m", "action": "buy", "confidence": 0.72,
        "entry_price": 100.0, "target_price": 110.0, "stop_loss": 95.0, "time_horizon": "3d",
        "created_ms": now_ms - 1_000, "emitted_ms": now_ms - 900, "expires_ms": now_ms + 3 * DAY_MS,
        "reasoning": f"{symbol} - RSI indicates oversold conditions. Confidence: 72.0%",
        "contributions": [Contribution(feature="rsi_14", value=28.0, contribution=0.4)],
        "model_votes": {"xgboost_swing": ("buy", 0.8), "lightgbm_day": ("hold", 0.5)},
        "features_used": {"atr_14": 2.5, "rsi_14": 28.0, "news_sentiment_24h": 0.2, "news_volume_24h": 3.0},
        "bundle": "test", "tier": "premium",
        "risk_profiles": {"moderate": profile(0.72, 110.0), "conservative": profile(0.576, 108.0)},
    }  # fmt: skip
    return Signal(**(values | changes))


def _outcome(signal: Signal, status: str, pnl_percent: float, **changes: Any) -> Outcome:
    values: dict[str, Any] = {
        "signal_id": signal.signal_id, "symbol": signal.symbol, "status": status, "entry_price": signal.entry_price,
        "current_price": signal.entry_price * (1 + pnl_percent / 100), "target_price": signal.target_price,
        "stop_loss": signal.stop_loss, "pnl_percent": pnl_percent, "created_ms": signal.created_ms,
        "updated_ms": signal.created_ms + 60_000, "action": signal.action, "time_horizon": signal.time_horizon,
        "confidence": signal.confidence, "bundle": signal.bundle, "exit_reason": "" if status == "active" else status,
    }  # fmt: skip
    return Outcome(**(values | changes))


@pytest.fixture
def make_signal() -> Callable[..., Signal]:
    return _signal


@pytest.fixture
def make_outcome() -> Callable[..., Outcome]:
    return _outcome


def find(*names):
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        pytest.fail(f"{names[0]} is not installed; {REMEDY}")
    return found


class Page:
    """A browser at the relay's page."""

    def __init__(self, folder: Path, width: int = 1440, height: int = 900):
        options = Options()
        options.binary_location = find("chromium", "chromium-browser", "google-chrome")
        for flag in (
            "headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
            "disable-component-update", "disable-sync", "disable-dev-shm-usage", f"user-data-dir={folder}",
            f"window-size={width},{height}",
        ):  # fmt: skip
            options.add_argument(f"--{flag}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        service = Service(find("chromedriver"), log_output=subprocess.DEVNULL)
        self.driver = webdriver.Chrome(options=options, service=service)

    def text(self, selector: str) -> str:
        return self.driver.execute_script(
            "const e = document.querySelector(arguments[0]); return e && e.checkVisibility() ? e.innerText : ''",
            selector,
        )

    def until(self, selector: str, *words: str, timeout: float = 15) -> str:
        """Wait until the element shows all the words."""
        with contextlib.suppress(Exception):
            WebDriverWait(self.driver, timeout, 0.1).until(
                lambda _: all(word in self.text(selector) for word in words or ("",)) and self.text(selector)
            )
        shown = self.text(selector)
        missing = [word for word in words if word not in shown]
        assert shown, f"{selector} shows nothing"
        assert not missing, f"{selector} shows {shown!r}, not {missing}"
        return shown

    def sign_in(self, url: str, token: str) -> None:
        self.driver.get(url)
        self.until("#signin", "Sign in")
        self.driver.find_element(By.ID, "token").send_keys(token + Keys.ENTER)
        self.until("#connection", "Connected")

    def problems(self) -> list[str]:
        """What the console holds that is worse than a note."""
        return [e["message"] for e in self.driver.get_log("browser") if e["level"] in ("SEVERE", "WARNING")]

    def keep(self, name: str) -> None:
        if SCREENSHOTS:
            Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
            time.sleep(1.2)  # charts and transitions settle
            self.driver.save_screenshot(f"{SCREENSHOTS}/{name}.png")


@pytest.fixture
def page(tmp_path):
    held = Page(tmp_path / "profile")
    yield held
    held.driver.quit()
