"""The dashboard in real Chromium: sign-in, live signals, resuming, tier locks, states, no console errors."""

import json
import random
import time

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from connectors.redis.bars import push_bars
from models.messages import Bar

pytestmark = pytest.mark.integration

REASONS = {
    "buy": "RSI indicates oversold conditions. Above-average volume supporting the move",
    "sell": "RSI indicates overbought conditions. High volume confirming bearish pressure",
}


#: Pixels of the chart in the two tints that shade a signal's life: towards the target, towards the stop.
SHADED = """
const found = [0, 0];
for (const canvas of document.querySelectorAll("#chart canvas")) {
  if (!canvas.width || !canvas.height) continue;
  const copy = Object.assign(document.createElement("canvas"), { width: canvas.width, height: canvas.height });
  const pen = copy.getContext("2d", { willReadFrequently: true });
  pen.drawImage(canvas, 0, 0);
  const { data } = pen.getImageData(0, 0, canvas.width, canvas.height);
  for (let i = 0; i < data.length; i += 4) {
    if (data[i + 3] < 30 || data[i + 3] > 36) continue;
    if (data[i + 1] > data[i] + 60) found[0] += 1;
    if (data[i] > data[i + 1] + 60) found[1] += 1;
  }
}
return found;
"""


def bars(relay, symbol="AAPL", timeframe="1m", count=150, price=100.0, end_ms=None):
    """A wandering price that ends at ``price``."""
    minute, end_ms = 60_000, end_ms or int(time.time() * 1e3) // 60_000 * 60_000
    steps = random.Random(symbol)
    closes = [price]
    for _ in range(count):
        closes.append(closes[-1] * (1 - steps.gauss(0.0004, 0.004)))
    closes.reverse()
    made = [
        Bar(symbol=symbol, timeframe=timeframe, start_ms=end_ms - (count - n) * minute, end_ms=end_ms, open=closes[n],
            high=max(closes[n], closes[n + 1]) + steps.random() / 3,
            low=min(closes[n], closes[n + 1]) - steps.random() / 3, close=closes[n + 1],
            volume=1_000.0 + 700 * steps.random())
        for n in range(count)
    ]  # fmt: skip
    pipeline = relay.redis.pipeline()
    push_bars(pipeline, symbol, timeframe, made)
    pipeline.execute()


def fill_history(relay, make_signal, make_outcome):
    for n in range(60):
        symbol, side = ["AAPL", "MSFT", "IBM"][n % 3], "buy" if n % 2 else "sell"
        old = make_signal(f"old{n}", symbol, confidence=0.5 + (n * 37 % 45) / 100, action=side)
        hit = (n * 53) % 10 < 5
        relay.publish_outcome(make_outcome(
            old, "hit_target" if hit else "hit_stop" if n % 4 else "expired", 4.0 if hit else -2.2 if n % 4 else 0.4,
            updated_ms=old.created_ms - (60 - n) * 3_600_000,
        ))  # fmt: skip


def test_sign_in_live_signal_and_a_restart_of_the_relay(relay, page, make_signal, make_outcome):
    bars(relay)
    page.sign_in(relay.url, relay.token("ann"))
    page.until("#feed-empty", "No active signals")
    signal = make_signal("s1")
    relay.publish(signal)
    page.until("#feed", "AAPL", "▲ BUY", "72 %")
    page.until("#panel", "Model votes", "xgboost swing", "Top features", "Risk", "Distance to stop", "5.00 %")
    page.until("#chart-title", "AAPL · 1m")
    rows = "return [...document.querySelectorAll('#chart tr')].filter((row) => row.querySelector('canvas')).length"
    assert page.driver.execute_script(rows) == 4  # price and volume, RSI, MACD, time
    label = page.driver.find_element(By.ID, "chart").get_attribute("aria-label")
    assert "buy at 100.00, target 110.00, stop 95.00" in label
    relay.publish_outcome(make_outcome(signal, "active", 1.25))
    page.until("#feed", "▲ +1.25 %")

    port = relay.port
    relay.stop()
    page.until("#connection", "Disconnected")
    page.until("#banner", "trying again")
    refused = page.problems()  # the browser itself notes each refused connection
    assert all("ERR_CONNECTION_REFUSED" in line or "WebSocket" in line or "Failed to fetch" in line for line in refused)
    relay.publish(make_signal("s2", "MSFT", action="sell", target_price=90.0, stop_loss=105.0, risk_profiles={}))
    relay.settings["PORT"] = port
    relay.start()
    page.until("#connection", "Connected", timeout=30)
    page.until("#feed", "AAPL", "MSFT", "▼ SELL")
    assert page.text("#feed").count("MSFT") == 1
    assert page.text("#banner") == ""
    page.driver.get_log("browser")
    relay.publish_outcome(make_outcome(signal, "hit_target", 10.0))
    WebDriverWait(page.driver, 10).until(lambda _: "AAPL" not in page.text("#feed"))
    page.driver.find_element(By.CSS_SELECTOR, "#ended summary").click()
    page.until("#ended", "AAPL", "buy", "⚑ target hit", "▲ +10.00 %")
    assert page.problems() == []


def test_tier_locks_show_what_an_upgrade_gives_and_hide_what_it_hides(relay, page, make_signal):
    bars(relay)
    relay.publish(make_signal("s1"))
    page.sign_in(relay.url, relay.token("free", "free"))
    page.until("#panel", "Locked:", "Upgrade to Premium", "How earlier signals went")
    held = page.driver.page_source
    assert not [word for word in ("110.00", "RSI indicates", "xgboost") if word in held]
    page.until("#chart-legend", "C 100.00")
    page.keep("free")
    assert page.driver.execute_script(SHADED) == [0, 0]
    relay.store.set_tier("free", "premium")
    page.until("#panel", "Calibrated probability", "110.00", "Locked:", "Model votes", "4.99", timeout=20)
    assert "xgboost" not in page.driver.page_source
    WebDriverWait(page.driver, 10).until(lambda d: min(d.execute_script(SHADED)) > 500)
    image = page.driver.find_element(By.CSS_SELECTOR, "#panel details.image")
    image.find_element(By.TAG_NAME, "summary").click()
    WebDriverWait(page.driver, 30).until(
        lambda d: (
            d.execute_script("const i = document.querySelector('img.signal-image'); return i && i.naturalWidth")
            == 1_000
        )
    )
    page.keep("premium")
    relay.store.set_tier("free", "dynamic")
    page.until("#panel", "xgboost swing", timeout=20)
    assert "Locked" not in page.text("#panel")
    assert page.problems() == []


def test_every_page_in_light_and_dark_and_on_a_phone(relay, page, make_signal, make_outcome):
    fill_history(relay, make_signal, make_outcome)
    for symbol, price in (("AAPL", 100.0), ("MSFT", 100.0), ("IBM", 100.0)):
        bars(relay, symbol, price=price)
    for n, (symbol, side) in enumerate((("MSFT", "sell"), ("IBM", "buy"), ("AAPL", "buy"))):
        target, stop = (110.0, 95.0) if side == "buy" else (90.0, 105.0)
        relay.publish(make_signal(
            f"s{n}", symbol, action=side, target_price=target, stop_loss=stop, confidence=0.66 + n / 20,
            risk_profiles={}, reasoning=f"{symbol} - {REASONS[side]}. Confidence: {0.66 + n / 20:.1%}",
            created_ms=int(time.time() * 1e3) // 60_000 * 60_000 - n * 60_000,
        ))  # fmt: skip
    page.sign_in(relay.url, relay.token("ann"))
    page.until("#panel", "Base rate not published")
    relay.redis.hset("system:status", mapping={
        "mode": '{"mode": "replay"}', "venue:alpaca": '{"state": "streaming", "lag_ms": 120, "gaps": 0}',
        "job": '{"watermark_ms": 1700000000000, "lag_ms": 840, "checkpoint_age_ms": 9000, "bars": 18422}',
        "bundle": '{"name": "test", "base_rates": {"buy": 0.38, "sell": 0.33}}',
    })  # fmt: skip
    page.until("#mode", "Replay")
    page.until("#panel", "Base rate 33 %")
    page.until("footer", "Not financial advice")
    page.keep("signals-light")
    body = page.driver.find_element(By.TAG_NAME, "body")
    body.send_keys("t")
    assert page.driver.execute_script("return document.documentElement.dataset.theme") == "dark"
    page.keep("signals-dark")
    first = page.text("#panel h2")
    body.send_keys("j")
    WebDriverWait(page.driver, 5).until(lambda _: page.text("#panel h2") != first)
    body.send_keys("k")
    WebDriverWait(page.driver, 5).until(lambda _: page.text("#panel h2") == first)
    body.send_keys("/")
    page.driver.switch_to.active_element.send_keys("ibm")
    page.until("#count", "1")
    assert "MSFT" not in page.text("#feed")
    page.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    page.driver.find_element(By.TAG_NAME, "body").send_keys("2")
    page.until("#view-performance", "Closed signals", "Reliability", "hit target", "IBM")
    page.driver.find_element(By.TAG_NAME, "body").send_keys("3")
    page.until("#view-system", "alpaca", "streaming", "base rate of sell", "33.0 %", "Drift", "dropped slow")
    page.driver.find_element(By.TAG_NAME, "body").send_keys("?")
    page.until("#view-settings", "Keys", "Watchlist", "Notifications", "Quiet from")
    page.keep("settings")
    page.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    )
    for view in ("signals", "performance", "system", "settings"):
        page.driver.get(f"{relay.url}/#/{view}")
        page.until(f"#view-{view}")
        assert page.driver.execute_script("return document.documentElement.scrollWidth") <= 390, view
    page.driver.get(f"{relay.url}/#/signals")
    page.until("#feed", "AAPL")
    page.keep("phone")
    assert page.problems() == []


def test_settings_are_kept_and_a_wrong_token_is_told(relay, page, make_signal):
    page.driver.get(relay.url)
    page.until("#signin", "Sign in")
    page.driver.find_element(By.ID, "token").send_keys("sp_wrong" + Keys.ENTER)
    page.until("#signin-error", "unknown or revoked")
    page.sign_in(relay.url, relay.token("ann"))
    page.driver.get(f"{relay.url}/#/settings")
    page.until("#view-settings", "Watchlist")
    box = page.driver.find_element(By.ID, "watchlist")
    box.send_keys("ibm, MSFT")
    box.find_element(By.XPATH, "ancestor::form//button").click()
    page.until("#view-settings form", "Saved")
    assert relay.store.get("ann").watchlist == ["IBM", "MSFT"]
    page.driver.get(f"{relay.url}/#/signals")
    relay.publish(make_signal("a", "AAPL"))
    relay.publish(make_signal("m", "MSFT"))
    page.until("#feed", "MSFT")
    assert "AAPL" not in page.text("#feed")
    assert page.problems() == []


def test_a_hostile_text_stays_text(relay, page, make_signal):
    hostile = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    page.sign_in(relay.url, relay.token("ann"))
    relay.publish(make_signal("s1", reasoning=hostile, model_votes={hostile: ("buy", 0.5)}))
    page.until("#panel", "onerror=alert(1)")
    assert page.driver.execute_script("return document.querySelectorAll('#panel img, #panel script').length") == 0
    assert page.problems() == []


def test_the_demo_page_signs_itself_in_and_renews_its_token(start_relay, page, make_signal):
    relay = start_relay(DEMO_USER="dynamic", DEMO_TOKEN_S="6")
    relay.publish(make_signal("s1"))
    page.driver.get(relay.url)
    page.until("#feed", "AAPL")
    page.until("#panel", "xgboost swing")
    time.sleep(9)
    relay.publish(make_signal("s2", "MSFT"))
    page.until("#feed", "MSFT")
    assert page.text("#connection").strip().startswith("✓")
    assert page.problems() == []


def test_a_push_shows_a_notification(relay, page):
    page.driver.execute_cdp_cmd("Browser.grantPermissions", {"origin": relay.url, "permissions": ["notifications"]})
    page.sign_in(relay.url, relay.token("ann"))
    page.driver.execute_cdp_cmd("ServiceWorker.enable", {})
    page.driver.execute_async_script(
        "const done = arguments[0];"
        "navigator.serviceWorker.register('/sw.js').then(() => navigator.serviceWorker.ready).then(() => done())"
    )
    told = {"title": "BUY AAPL (72%)", "body": "entry 100.00", "tag": "one", "silent": True}
    for body in ("entry 100.00", "entry 101.00"):  # the later one of a tag takes the place of the first
        message = {"origin": relay.url, "registrationId": "0", "data": json.dumps(told | {"body": body})}
        page.driver.execute_cdp_cmd("ServiceWorker.deliverPushMessage", message)
    shown = []
    for _ in range(50):
        shown = page.driver.execute_async_script(
            "const done = arguments[0]; navigator.serviceWorker.ready.then((worker) => worker.getNotifications())"
            ".then((list) => done(list.map((n) => [n.title, n.body, n.silent])))"
        )
        if shown == [["BUY AAPL (72%)", "entry 101.00", True]]:
            break
        time.sleep(0.1)
    assert shown == [["BUY AAPL (72%)", "entry 101.00", True]]


def test_it_says_when_nothing_new_has_come_for_long(relay, page, make_signal):
    page.sign_in(relay.url, relay.token("ann"))
    relay.publish(make_signal("s1"))
    page.until("#feed", "AAPL")
    assert page.text("#banner") == ""
    page.driver.execute_script("const real = Date.now.bind(Date); Date.now = () => real() + 300_000")
    page.until("#banner", "Nothing new for 5 min")
    page.until("#connection", "Stale")
    relay.publish(make_signal("s2", "MSFT"))
    page.until("#connection", "Connected")


def test_it_says_when_the_pipeline_is_away(redis_server, relay_class, page, make_signal, tmp_path):
    from cli.local.servers import RedisServer

    with RedisServer() as own:
        relay = relay_class(own.url, tmp_path).start()
        try:
            page.sign_in(relay.url, relay.token("ann"))
            relay.publish(make_signal("s1"))
            page.until("#feed", "AAPL")
            own.kill()
            page.until("#banner", "cannot reach the pipeline", timeout=20)
            page.until("#feed", "AAPL")
        finally:
            relay.stop()
