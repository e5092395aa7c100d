"""``signals bundle`` on a real broker: announced in order, read back, refused without a trace."""

import shutil

import pytest
from typer.testing import CliRunner

from cli.main import app
from connectors.kafka.bundle_changes import announce, history
from models.serving.bundle import bundle_path, load_bundle
from models.serving.rollout import RolloutMessage, RolloutState, apply, bundle_in_force, shadow_in_force

pytestmark = pytest.mark.integration


@pytest.fixture
def run(kafka):
    def ran(*arguments, kafka_too=True):
        tail = ["--kafka", kafka.bootstrap] if kafka_too else []
        return CliRunner().invoke(app, ["bundle", *arguments, *tail])

    return ran


def test_promote_shadow_and_rollback_reach_the_topic_in_order(run, kafka, tmp_path):
    copy = shutil.copytree(bundle_path("daily-swing"), tmp_path / "candidate")
    before = len(history(kafka.bootstrap))
    said = run("promote", str(copy), "--at", "2012-01-03T21:00:00", "--reason", "test")
    assert said.exit_code == 0, said.output
    assert "bars that end at or after 2012-01-03 21:00:00Z" in said.output
    assert run("shadow", "minute-day", "--at", "1325624400000").exit_code == 0
    assert run("rollback", "--at", "2012-02-03").exit_code == 0
    assert run("shadow", "--at", "2012-03-03").exit_code == 0

    found = history(kafka.bootstrap)[before:]
    assert [message.kind for message in found] == ["promote", "shadow", "rollback", "unshadow"]
    assert [message.sequence for message in found] == list(range(before, before + 4))
    assert found[0].bundle == str(copy)
    assert found[0].bundle_id == load_bundle(copy).id
    state = RolloutState(initial="daily-swing", sequence=before - 1)
    for message in found:
        state = apply(state, message)
    barrier = found[0].effective_ms
    assert bundle_in_force(state, barrier - 1) == "daily-swing"
    assert bundle_in_force(state, barrier) == str(copy)
    assert bundle_in_force(state, found[2].effective_ms) == "daily-swing"
    assert shadow_in_force(state, found[1].effective_ms) == "minute-day"
    listed = run("list")
    assert listed.exit_code == 0
    assert "(test)" in listed.output
    assert "now in force:" in listed.output


def test_a_bad_bundle_is_refused_before_anything_is_announced(run, kafka, tmp_path):
    copy = shutil.copytree(bundle_path("daily-swing"), tmp_path / "tampered")
    with open(copy / "neural_net.onnx", "ab") as file:
        file.write(b"x")
    before = len(history(kafka.bootstrap))
    for command in ("promote", "shadow"):
        said = run(command, str(copy))
        assert said.exit_code == 2
        assert "refused:" in said.output
        assert "neural_net.onnx" in said.output
    assert run("promote", str(tmp_path / "absent")).exit_code == 2
    assert run("promote", "daily-swing", "--at", "tomorrow").exit_code == 2
    assert len(history(kafka.bootstrap)) == before
    assert run("verify", str(copy), kafka_too=False).exit_code == 2
    whole = run("verify", "daily-swing", kafka_too=False)
    assert whole.exit_code == 0
    assert "daily-swing@" in whole.output


def test_an_unreachable_broker_is_named():
    with pytest.raises(ConnectionError, match=r"127\.0\.0\.1:1"):
        announce("127.0.0.1:1", RolloutMessage(kind="rollback", effective_ms=0), timeout_s=1.0)
