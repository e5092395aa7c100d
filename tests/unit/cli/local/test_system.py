"""The one assembler: what it says to each part, for the demo, `signals up`, the chaos suite and the soak."""

from pathlib import Path

import pytest

from cli.local.demo_progress import Figures, Phase, Progress
from cli.local.system import System

FOLDER = Path("/somewhere")


@pytest.fixture
def system():
    return System(FOLDER, kafka="broker:9092", redis="redis://cache:6379/0")


def port_of(page):
    return page.rpartition(":")[2]


def test_a_job_is_told_of_the_servers_and_gives_its_page_to_the_relay(system):
    job = system.job("signals", "--bundle", "daily-swing")
    assert job.arguments == [
        "-m", "jobs.signals", "--kafka", "broker:9092", "--redis", "redis://cache:6379/0", "--bundle", "daily-swing",
        "--rest-port", port_of(system.pages[0]),
    ]  # fmt: skip
    other = system.job("outcomes", page=False)
    assert other.arguments == ["-m", "jobs.outcomes", "--kafka", "broker:9092", "--redis", "redis://cache:6379/0"]
    relay = system.relay(8080, demo_user="dynamic")
    assert relay.arguments == [
        "-m", "cli", "relay", "--redis", "redis://cache:6379/0", "--port", "8080", "--users",
        "sqlite:///somewhere/users.db", "--kafka", "broker:9092", "--demo-user", "dynamic", "--flink", system.pages[0],
    ]  # fmt: skip
    assert len(system.pages) == 1


def test_ingestion_and_the_bars_job_take_a_configuration(system):
    assert system.bars_job("own.toml").arguments == [
        "-m",
        "jobs.bars",
        "--kafka",
        "broker:9092",
        "--config",
        "own.toml",
    ]
    assert system.bars_job().arguments == ["-m", "jobs.bars", "--kafka", "broker:9092"]
    assert system.ingest("binance_us", "own.toml").arguments == [
        "-m", "cli", "ingest", "--kafka", "broker:9092", "--redis", "redis://cache:6379/0", "--venues", "binance_us",
        "--config", "own.toml",
    ]  # fmt: skip
    assert system.ingest(page=False).arguments == ["-m", "cli", "ingest", "--kafka", "broker:9092"]


def test_every_part_has_a_folder_and_its_own_variables(system):
    relay = system.relay(variables={"SIGNALS_RELAY_SNAPSHOT_SIGNALS_MAX": "7"})
    assert relay.folder == FOLDER / "relay"
    assert relay.environment()["SIGNALS_RELAY_SNAPSHOT_SIGNALS_MAX"] == "7"
    assert {system.job(name).folder.name for name in ("signals", "outcomes")} == {"signals", "outcomes"}


def figures(published=10, rows=10, dead=0, signals=2):
    return Figures(published, 0, rows, dead, signals, 0)


def test_a_demo_is_over_when_all_is_published_processed_and_followed():
    progress = Progress()
    asked = []

    def followed():
        asked.append(progress.phase)
        return len(asked) > 2

    assert progress.step(figures(rows=9), True, followed) == []
    assert progress.step(figures(), False, followed) == []
    assert asked == []  # the broker is asked only once every bar has been processed
    assert progress.step(figures(), True, followed) == [Phase.PROCESSING]
    assert progress.step(figures(), True, followed) == []
    assert progress.step(figures(), True, followed) == [Phase.FOLLOWING]
    assert progress.step(figures(), True, followed) == []
    assert progress.phase is Phase.OVER


def test_without_signals_there_is_nothing_to_follow():
    progress = Progress()
    assert progress.step(figures(rows=8, dead=2, signals=0), True, lambda: False) == [Phase.PROCESSING, Phase.FOLLOWING]


def test_rejected_lines_and_dead_letters_count_as_processed():
    assert Figures(published=5, rejected=2, rows=5, dead=2, signals=0, ended=0).lag == 0
    assert Figures(published=5, rejected=2, rows=5, dead=1, signals=0, ended=0).lag == 1
