"""What a savepoint needs of the jobs' graphs: an id that lasts on every operator, and one maximal parallelism."""

import gc
from functools import partial

import pytest

import jobs.bars
import jobs.outcomes
import jobs.signals
from connectors.kafka import tables
from connectors.settings.bars_job import BarsJobSettings
from connectors.settings.outcomes_job import OutcomeSettings
from connectors.settings.signals_job import JobSettings
from udfs.operators.environment import Environment, stream_environment

pytestmark = pytest.mark.integration

#: `key_by` in Python is a map of its own that holds nothing.
STATELESS = {"_stream_key_by_map_operator"}

#: Operators with state: a savepoint of theirs is lost with the id. Taking one away or renaming it needs a new layout
#: in tests/fixtures/savepoints and a word in docs/upgrades.md.
STATEFUL = {
    "signals": {"frames:kafka", "frames:group-window-aggregate", "changes:kafka", "features", "signals", "outbox:sink"},
    "outcomes": {"frames:kafka", "frames:group-window-aggregate", "outcomes", "outbox:sink"},
    "bars": {"bars-1m-1d:kafka", "bars-1m-1d:group-window-aggregate"},
}


def operators(environment: Environment) -> list[tuple[str | None, str, int]]:
    """(id, name, maximal parallelism) of every operator."""
    environment.fix_ids()
    nodes = environment.stream._j_stream_execution_environment.getStreamGraph(False).getStreamNodes().toArray()
    return [(node.getTransformationUID(), node.getOperatorName(), node.getMaxParallelism()) for node in nodes]


def graph(kafka, name, monkeypatch, **more):
    """The operators of a job with these settings."""
    return operators(built(kafka, name, monkeypatch, **more))


def built(kafka, name, monkeypatch, **more):
    """The environment of a job with these settings, wired."""
    monkeypatch.setenv("PYTHONPATH", "")  # what the environment sets for the JVM it starts is taken back
    monkeypatch.setenv("_python_worker_execution_mode", "process")
    if name == "bars":
        run = BarsJobSettings.model_validate({"timeframes": "1m,1d", **more})
        _, bars = run.load()
        environment = jobs.bars.environment(bars, run)
        wire = partial(jobs.bars.build, environment, bars, kafka.bootstrap, run)
    else:
        job, kind = (jobs.signals, JobSettings) if name == "signals" else (jobs.outcomes, OutcomeSettings)
        own = {f: f"ids-{f}" for f in kind.model_fields if f.endswith("_topic")}
        settings = kind.model_validate({"kafka": kafka.bootstrap, "out_prefix": "ids-", **own, **more})
        job.check(settings)
        environment = stream_environment(settings, name)
        wire = partial(job.build, environment, settings)
    assert not gc.isenabled(), "a cycle collected amid a call into the JVM moves the planner to another thread"
    try:
        wire()
    finally:
        gc.enable()
    return environment


@pytest.mark.parametrize("name", ["signals", "outcomes", "bars"])
@pytest.mark.parametrize("replay", [False, True])
def test_every_operator_has_an_id_that_lasts(kafka, name, replay, monkeypatch):
    once = {"exactly_once": replay} if name != "bars" else {}
    found = graph(kafka, name, monkeypatch, replay=replay, parallelism=2, **once)
    assert [one for one in found if one[0] is None and one[1] not in STATELESS] == []
    ids = [uid for uid, *_ in found if uid is not None]
    assert len(set(ids)) == len(ids)
    kinds = {uid.removeprefix("Sink Committer: ").partition(":")[2].partition(":")[0] for uid in ids}
    assert not any(character.isdigit() for kind in kinds for character in kind)
    assert set(ids) >= STATEFUL[name]
    assert {limit for *_, limit in found} == {128}


def test_state_of_other_timeframes_is_not_taken_for_the_bars_jobs(kafka, monkeypatch):
    """Both have windows; Flink refuses a savepoint whose ids the job does not have, as it should here."""
    minutes, hours = (graph(kafka, "bars", monkeypatch, timeframes=one) for one in ("1m", "1h"))
    assert not {uid for uid, *_ in minutes} & {uid for uid, *_ in hours}


def test_a_change_to_one_query_changes_no_id_of_an_operator_with_state(kafka, monkeypatch):
    usual = tables.frames_query

    def changed(*arguments, **more):
        filtered = usual(*arguments, **more).replace("FROM messages", "FROM messages WHERE CHAR_LENGTH(symbol) < 100")
        return f"{filtered} UNION ALL VALUES (0, 'another', 'source')"

    monkeypatch.setattr(jobs.outcomes, "frames_query", changed)
    found = {uid for uid, *_ in graph(kafka, "outcomes", monkeypatch)}
    assert found >= STATEFUL["outcomes"]
    assert "frames:values" in found, "the changed query is meant to be another graph"


def test_a_replay_waits_for_a_partition_however_long_it_is_held_up(kafka, monkeypatch):
    """With the cluster's 10 s it would go on without, and drop as late what comes after: half the bars, when tried."""
    environment = built(kafka, "outcomes", monkeypatch, replay=True)
    assert environment.table.get_config().get("table.exec.source.idle-timeout", "") == "0 ms"
