"""Jobs go on from stored savepoints, at other parallelisms, with more features and another bundle: nothing is lost.

One standalone cluster of two TaskManagers serves every step. What a job writes from savepoint to savepoint is compared
with one undisturbed replay (signals) and with the pure tracker (outcomes), but for the wall clock.
"""

import json
from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np
import pytest

from bench import cluster as flink
from bench.kill_taskmanager import publish
from cli.local.servers import FlinkCluster
from connectors.kafka.read import read_to_end
from connectors.paths import ROOT
from models.messages import FeatureRow, Signal, decode
from models.serving.bundle import bundle_folder, write_bundle
from models.serving.manifest import decode_manifest
from models.signals.hash_chain import verify
from tests.support import savepoints as stored
from udfs.kernel.compiler import FeatureConfig, Kernel

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

VERSIONS = stored.versions()


@pytest.fixture(scope="module")
def rig(kafka):
    """The cluster, and what each job's records are, by identity, when nothing disturbs it."""
    stored.make_topics(kafka)
    stored.put_signals(kafka, stored.stored_signals())
    slots = {"taskmanager.numberOfTaskSlots": "4", "taskmanager.load-balance.mode": "SLOTS"}
    settings = slots | stored.SETTINGS
    with FlinkCluster(2, settings, checkout=ROOT) as cluster:
        whole = {"signals": stored.undisturbed_signals(cluster, kafka), "outcomes": stored.undisturbed_outcomes()}
        yield cluster, whole, LaidOut(kafka)


class LaidOut:
    """How many pieces of the tape are on the topic."""

    def __init__(self, kafka):
        self._kafka, self._pieces = kafka, 0

    def up_to(self, pieces):
        if self._pieces < pieces:
            stored.lay_out(self._kafka, self._pieces, pieces)
            self._pieces = pieces


def start_both(cluster, kafka, prefix, savepoints, parallelism):
    """Both jobs, submitted at once; their ids."""

    def one(job):
        options = stored.arguments(job, kafka, prefix, parallelism)
        return flink.start(cluster, job, *options, savepoint=savepoints[job])

    with ThreadPoolExecutor() as pool:
        return dict(zip(stored.OUTPUTS, pool.map(one, stored.OUTPUTS), strict=True))


def go_on(rig, kafka, folder, tmp_path, steps):
    """Take both jobs on from the savepoints in ``folder``.

    ``steps``: (parallelism, pieces of the tape that are there); with the next piece on its way the jobs are stopped
    with a savepoint, from which they are started again, until the tape is over.
    """
    cluster, whole, tape = rig
    kept = stored.Stored(folder)
    savepoints = {job: kept.savepoint(job, tmp_path) for job in stored.OUTPUTS}
    before = {job: kept.before(job) for job in stored.OUTPUTS}
    prefix = f"{tmp_path.name}-"
    on_their_way = 0
    for parallelism, pieces in steps:
        tape.up_to(pieces)
        ids = start_both(cluster, kafka, prefix, savepoints, parallelism)
        wanted = {job: stored.expected(job, whole[job], pieces) - before[job] for job in ids}
        for job, job_id in ids.items():
            stored.await_records(cluster, job_id, kafka, prefix, job, len(wanted[job]))
        tape.up_to(min(pieces + 1, len(stored.STAGES)))
        for job, job_id in ids.items():
            savepoints[job] = flink.stop(cluster, job_id, cluster.folder / "stopped")
            if parallelism == 4:
                assert flink.task_managers_of(cluster, job_id) == 2
        if pieces < len(stored.STAGES):
            next_one = stored.expected("signals", whole["signals"], pieces + 1) - before["signals"]
            written = sum(name.startswith("features ") for name in stored.records(kafka, prefix, "signals")[0])
            on_their_way += len(next_one) - written
    for job in stored.OUTPUTS:
        held, repeats = stored.records(kafka, prefix, job)
        assert repeats == 0, "a savepoint is taken with everything written: what follows it repeats nothing"
        assert before[job] | held.keys() == whole[job].keys()
        assert not before[job] & held.keys()
        assert [name for name, value in held.items() if value != whole[job][name]] == []
        assert len(before[job]) > 200
        assert len(held) > 200
    return on_their_way


def test_rescaled_twice_from_the_stored_savepoint_of_today_with_bars_on_their_way(rig, kafka, tmp_path):
    """1 -> 2 -> 4 -> 1, where 4 is two slots of each of two TaskManagers."""
    assert go_on(rig, kafka, VERSIONS[-1], tmp_path, [(2, 3), (4, 4), (1, 5)]) > 0


@pytest.mark.parametrize("folder", VERSIONS[:-1], ids=lambda path: path.name)
def test_every_earlier_layout_goes_on_where_it_was(rig, kafka, folder, tmp_path):
    go_on(rig, kafka, folder, tmp_path, [(1, 5)])


def test_the_layout_of_today_is_stored():
    """State changed? Raise the version of that layout (udfs/state/layout.py), and store a savepoint of the new one:
    `.venv/bin/python -m tests.fixtures.savepoints.make NUMBER`. docs/upgrades.md has the steps.
    """
    assert json.loads((VERSIONS[-1] / "layout.json").read_text()) == stored.layout()


def bundle_for(config, folder):
    """The shipped bundle, sealed anew for the job's features, as one trained on them would be."""
    source = bundle_folder("daily-swing")
    manifest = decode_manifest(source.joinpath("manifest.json").read_bytes())
    files = {name: source.joinpath(name).read_bytes() for name in manifest.files}
    write_bundle(folder, msgspec.structs.replace(manifest, name="narrow", feature_set_hash=config.hash), files)
    return folder


def test_a_family_is_added_and_the_bundle_swapped_across_a_savepoint(rig, kafka, tmp_path):
    cluster, whole, _ = rig
    everything = Kernel(FeatureConfig())
    narrow = FeatureConfig(families=tuple({*everything.family_of.values()} - {"averages"}))
    (tmp_path / "features.json").write_bytes(msgspec.json.encode(narrow))
    own = [
        "--feature-config",
        str(tmp_path / "features.json"),
        "--bundle",
        str(bundle_for(narrow, tmp_path / "narrow")),
    ]
    topic = "family-bars"
    kafka.create_topic(topic, partitions=2)
    publish(kafka.bootstrap, topic, stored.tape(0, 4))
    whole_rows = [f"features {bar.symbol} {bar.start_ms}" for bar in stored.tape(0, 4)]
    number = sum(name in whole["signals"] for name in whole_rows)
    first = flink.start(cluster, "signals", *stored.arguments("signals", kafka, "narrow-", bars_topic=topic), *own)
    stored.await_records(cluster, first, kafka, "narrow-", "signals", number)
    savepoint = flink.stop(cluster, first, cluster.folder / "stopped")
    publish(kafka.bootstrap, topic, stored.tape(4, 5))
    options = stored.arguments("signals", kafka, "wide-", bars_topic=topic)
    job = flink.start(cluster, "signals", *options, savepoint=savepoint)
    every = sum(name.startswith("features ") for name in whole["signals"])
    stored.await_records(cluster, job, kafka, "wide-", "signals", every - number)
    flink.stop(cluster, job, cluster.folder / "stopped")

    before = dict(stored.rows(kafka, "narrow-features"))
    rows = {name: decode(value, FeatureRow) for name, value in stored.rows(kafka, "wide-features")}
    undisturbed = {
        name.removeprefix("features "): value
        for name, value in whole["signals"].items()
        if name.startswith("features ")
    }
    assert before.keys() | rows.keys() == undisturbed.keys()
    assert not before.keys() & rows.keys()
    bars = {f"{bar.symbol} {bar.start_ms}": bar for bar in stored.tape()}
    added = [i for i, name in enumerate(everything.names) if everything.family_of[name] == "averages"]
    for symbol in {bar.symbol for bar in bars.values()}:
        mine = sorted((name for name in rows if name.split()[0] == symbol), key=lambda name: rows[name].start_ms)
        for n, name in enumerate(mine, start=1):
            row, calm = rows[name], decode(undisturbed[name], FeatureRow)
            assert (row.action, row.confidence, row.bundle) == (calm.action, calm.confidence, calm.bundle)
            for i, feature in enumerate(everything.names):
                if i not in added:  # a family that was there goes on as if nothing had been
                    assert (row.values[i], row.quality[i]) == (calm.values[i], calm.quality[i])
                elif n < everything.outputs[i].first:  # a new one begins with the savepoint, and says so
                    assert (row.values[i], row.quality[i]) == (None, "w"), (feature, n)
                elif feature == "ma_5":
                    closes = [bars[one].close for one in mine[n - 5 : n]]
                    assert np.isclose(row.values[i], np.mean(closes), rtol=1e-12)
    # one record of signals across the swap: each links to the one before it, whichever bundle said that
    said = [
        [decode(value, Signal) for *_, value in sorted(read_to_end(kafka.bootstrap, f"{prefix}trading-signals"))]
        for prefix in ("narrow-", "wide-")
    ]
    assert verify([*said[0], *said[1]]).problems == []
    assert {one.bundle.partition("@")[0] for one in said[0]} == {"narrow"}
    assert {one.bundle.partition("@")[0] for one in said[1]} == {"daily-swing"}
    wanted = {name: value for name, value in whole["signals"].items() if name.startswith("trading-signals ")}
    for one in said[1]:
        calm = decode(wanted[f"trading-signals {one.signal_id}"], Signal)
        fresh = {name: why for name, why in one.missing_inputs.items() if name not in calm.missing_inputs}
        assert {everything.family_of[name] for name in fresh} <= {"averages"}
        assert all("warming" in why for why in fresh.values())
        # but for the wall clock, the link to the record before, and what the new family does not have yet
        other = {name for name, value in one.features_used.items() if value != calm.features_used[name]}
        assert {everything.family_of[name] for name in other} <= {"averages"}
        same = {"emitted_ms": 0, "previous": "", "missing_inputs": {}, "features_used": {}}
        assert msgspec.structs.replace(one, **same) == msgspec.structs.replace(calm, **same)
