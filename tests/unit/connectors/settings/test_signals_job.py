"""Options of the signals job under the names that they had before."""

import pytest

from connectors.settings.signals_job import parse_settings


@pytest.mark.parametrize(
    ("former", "name"), [("control_topic", "kill_switch_topic"), ("model_topic", "rollout_topic")]
)  # fmt: skip
def test_former_names_are_still_read(former, name, monkeypatch):
    option, now = (f"--{text.replace('_', '-')}" for text in (former, name))
    for arguments in ([option, "t"], [f"{option}=t"], [now, "t"]):
        assert getattr(parse_settings(arguments), name) == "t"
    monkeypatch.setenv(f"SIGNALS_{former.upper()}", "from-former")
    assert getattr(parse_settings([]), name) == "from-former"
    monkeypatch.setenv(f"SIGNALS_{name.upper()}", "from-new")
    assert getattr(parse_settings([]), name) == "from-new"
    assert getattr(parse_settings([option, "from-option"]), name) == "from-option"


def test_topics_keep_their_names():
    settings = parse_settings([])
    assert (settings.kill_switch_topic, settings.rollout_topic) == ("risk-control", "model-control")
