"""The system page: real jobs and consumer lag, what processes report of themselves, and what nobody reports."""

import json
import signal
import time
import urllib.request

import psutil
import pytest

from cli.local.servers import PythonProcess, free_port
from connectors.redis import keys as redis_keys
from connectors.redis.status import SystemStatus
from tests.support import job as job_helpers

pytestmark = pytest.mark.integration


def system(relay, token):
    request = urllib.request.Request(relay.url + "/api/system", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request) as answer:
        return json.loads(answer.read())


def until(relay, token, wanted, timeout=60.0):
    """What the watch tells once ``wanted`` holds."""
    deadline = time.monotonic() + timeout
    while True:
        told = system(relay, token)["watch"]
        if wanted(told):
            return told
        assert time.monotonic() < deadline, told
        time.sleep(0.3)


def report_all(status, mode):
    """What the processes of a running pipeline report."""
    now_ms = int(time.time() * 1e3)
    status.report("mode", mode=mode)
    status.report("venue:alpaca", state="streaming", last_message_ms=now_ms - 2_000, lag_ms=120, gaps=1, reconnects=0)
    status.report("venue:binance", state="disconnected", reason="closed by the venue: 1001", gaps=0)
    status.report(
        "job", bundle="daily-swing@00000000", watermark_ms=now_ms - 60_000, lag_ms=41, bars=18_422, signals=97
    )
    psi = {"psi.rsi_14": 0.31, "psi.atr_14": 0.12, "psi.macd": 0.02}
    status.report("drift", rows=18_422, strange_share=0.021, **psi)


def test_real_jobs_their_checkpoints_and_their_lag(kafka, redis_url, start_relay, page, tmp_path):
    bars = job_helpers.minute_bars(symbols=3, bars=50)
    kafka.create_topic("system-bars", "system-signals", "system-status", partitions=2)
    job_helpers.publish_bars(kafka.bootstrap, "system-bars", bars)
    port = free_port()
    job = PythonProcess(
        "outcomes",
        ["-m", "jobs.outcomes", "--kafka", kafka.bootstrap, "--redis", redis_url, "--bars-topic", "system-bars",
         "--signals-topic", "system-signals", "--status-topic", "system-status", "--group-id", "system-group",
         "--out-prefix", "system-", "--checkpoints", str(tmp_path / "checkpoints"), "--rest-port", str(port)],
    )  # fmt: skip
    relay = start_relay(
        FLINK_URLS=f'["http://127.0.0.1:{port}"]', KAFKA=kafka.bootstrap, WATCH_EVERY_S="0.5",
        KAFKA_GROUPS='["system-group", "unused", "unused-too"]',
    )  # fmt: skip
    token = relay.token("ann")
    # A broker that has just started has no coordinator of groups for a moment.
    told = until(relay, token, lambda told: told["errors"] == {"flink": "Flink does not answer"})
    assert (told["jobs"], told["groups"]) == ([], [])
    assert f"Flink does not answer at 127.0.0.1:{port}" in relay.log_text()
    with job:
        newest = max(bar.end_ms for bar in bars)
        told = until(
            relay, token,
            lambda told: told["jobs"] and told["jobs"][0]["checkpoint_ms"] and told["groups"]
            and told["jobs"][0]["watermark_ms"] == newest - 60_000,
        )  # fmt: skip
        (found,) = told["jobs"]
        assert (found["name"], found["state"], found["restarts"]) == ("outcomes", "RUNNING", 0)
        assert found["records_behind"] == 0
        assert 0 <= found["now_ms"] - found["checkpoint_ms"] < 30_000
        assert found["checkpoint_bytes"] > 0
        assert told["groups"] == [{"group": "system-group", "topic": "system-bars", "records_behind": 0}]
        assert told["errors"] == {}
        report_all(SystemStatus(relay.redis), "live")
        page.sign_in(relay.url, token)
        page.driver.get(f"{relay.url}/#/system")
        page.until("#view-system", "1 running", "outcomes", "✓ running", "system-group", "0 records", "daily-swing")
        page.keep("system")

        family = [psutil.Process(job.pid), *psutil.Process(job.pid).children(recursive=True)]
        for process in family:
            process.send_signal(signal.SIGSTOP)
        job_helpers.publish_bars(kafka.bootstrap, "system-bars", job_helpers.minute_bars(symbols=1, bars=40))
        told = until(relay, token, lambda told: told["errors"])
        assert (told["errors"], told["jobs"]) == ({"flink": "Flink does not answer"}, [])
        assert [group["records_behind"] for group in told["groups"]] == [40]
        page.until("#view-system", "✕ no answer", "✕ Flink does not answer", "40")
        for process in family:
            process.send_signal(signal.SIGCONT)
        told = until(relay, token, lambda told: told["jobs"] and told["groups"][0]["records_behind"] == 0)
        page.until("#view-system", "1 running")
        assert page.problems() == []


def test_what_processes_report_of_themselves(relay, page):
    report_all(SystemStatus(relay.redis), "live")
    page.sign_in(relay.url, relay.token("ann"))
    page.driver.get(f"{relay.url}/#/system")
    shown = page.until("#view-system .tiles", "⚠ 1 of 2 streaming", "alpaca, binance", "daily-swing", "41 ms")
    assert "⚠ 1 feature\nchanged: PSI above 0.25" in shown
    assert "✓ 0\n1 client connected" in shown
    page.until("#view-system", "✓ streaming", "✕ disconnected", "closed by the venue: 1001", "120 ms", "18,422")
    page.until("#view-system", "rsi 14", "0.31", "⚠ changed", "◔ moving", "✓ stable", "2.1 %")
    page.until("#view-system", "--flink", "--kafka")  # what nobody reports says how to get it
    old = {"state": "streaming", "updated_ms": int(time.time() * 1e3) - 600_000}
    relay.redis.hset(redis_keys.SYSTEM_STATUS, "venue:alpaca", json.dumps(old))
    page.until("#view-system", "✕ 0 of 2 streaming", "last report 10 min ago")
    assert page.problems() == []


def test_a_pipeline_that_reports_nothing_is_said_to(relay, page):
    page.sign_in(relay.url, relay.token("ann"))
    page.driver.get(f"{relay.url}/#/system")
    shown = page.until("#view-system .tiles", "Venues", "Drift")
    assert shown.count("not reported") >= 5
    page.until("#view-system", "No venue reports here", "No bundle has been announced")
    relay.redis.hset(redis_keys.SYSTEM_STATUS, mapping={"job": "[]", "drift": "7", "venue:x": "null", "odd": "{"})
    page.until("#view-system .tiles", "Venues", "Drift")
    assert page.problems() == []


@pytest.mark.parametrize("wrong", ["nothing", "ftp://x", "http://"])
def test_an_address_that_cannot_be_flink_is_refused_at_start(wrong):
    from pydantic import ValidationError

    from relay.settings import RelaySettings

    with pytest.raises(ValidationError, match="use http://HOST:PORT"):
        RelaySettings(flink_urls=[wrong])


def test_another_service_at_flinks_address_is_told(relay):
    from relay.flink_status import FlinkStatus

    with pytest.raises(ConnectionError, match=r"Flink does not answer at 127\.0\.0\.1"):
        FlinkStatus(relay.url).read()
