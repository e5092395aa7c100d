"""Alerts, dashboards and runbook agree with each other and with the metrics that the code exports."""

import ast
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from connectors.ingest.metrics import REGISTRY
from relay.services import Services
from relay.settings import RelaySettings
from relay.users import open_store

ROOT = Path(__file__).resolve().parents[3]
DOCKER = ROOT / "docker"
ALERTS = [
    rule
    for group in yaml.safe_load((DOCKER / "prometheus" / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
DASHBOARDS = sorted((DOCKER / "grafana" / "dashboards").glob("*.json"))
OPERATOR = "flink_taskmanager_job_task_operator_"


@cache
def relay_names() -> set[str]:
    """What a relay exports; it is made but not started, so no Redis is needed."""
    store = open_store("sqlite://:memory:")
    try:
        return sample_names(Services(RelaySettings(), store).metrics.registry.collect())
    finally:
        store.close()


def sample_names(families: Any) -> set[str]:
    """Names as Prometheus stores them, from families as the client library describes them."""
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
    return {family.name + suffix for family in families for suffix in suffixes.get(family.type, ("",))}


def operator_names() -> Iterator[str]:
    """Names of the counters, gauges and distributions that the Python operators register; a group's key is a part."""
    for path in (ROOT / "udfs").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            named = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and bool(node.args)
            if named and node.func.attr in ("counter", "gauge", "meter", "distribution"):  # type: ignore[attr-defined]
                argument, owner = node.args[0], node.func.value  # type: ignore[attr-defined]
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    of_group = isinstance(owner, ast.Call) and getattr(owner.func, "attr", "") == "add_group"
                    key = f"{owner.args[0].value}_" if of_group else ""
                    yield OPERATOR + key + argument.value


@cache
def exported() -> set[str]:
    """Every metric there is; those of Flink itself as `test_image.py` saw them exported."""
    own = sample_names(REGISTRY.collect()) | relay_names()
    flink = (ROOT / "tests" / "fixtures" / "flink_metrics.txt").read_text().split()
    return own | set(flink) | set(operator_names()) | {"up"}


def metrics_of(query: str) -> set[str]:
    """Names that a PromQL expression reads; a ValueError if it is none."""
    found = set()

    def walk(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.add(node.name or next(m.value for m in node.matchers.matchers if m.name == "__name__"))
        for name in ("expr", "lhs", "rhs", "vector_selector", "vs", "args", "param"):
            child = getattr(node, name, None)
            for one in child if isinstance(child, list) else [child]:
                if one is not None and not isinstance(one, str | float):
                    walk(one)

    walk(promql_parser.parse(query))
    return found


def queries() -> Iterator[tuple[str, str]]:
    for rule in ALERTS:
        yield f"alert {rule['alert']}", rule["expr"]
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                yield f"{path.stem}: {panel['title']}", target["expr"]


@pytest.mark.parametrize(("place", "query"), list(queries()), ids=lambda value: str(value)[:60])
def test_every_query_parses_and_reads_metrics_that_exist(place: str, query: str) -> None:
    names = metrics_of(query)
    assert names, f"{place} reads nothing"
    for name in names:
        assert name in exported(), f"{place}: nothing exports {name}"


@pytest.mark.parametrize(("place", "query"), list(queries()), ids=lambda value: str(value)[:60])
def test_a_rate_is_of_one_metric(place: str, query: str) -> None:
    """``rate`` drops the name: of several metrics chosen by a pattern it is an error or one sum in Prometheus."""
    assert "__name__" not in query, place


def test_the_check_of_names_can_fail() -> None:
    assert metrics_of("sum(rate(no_such_metric[5m])) / on () up") == {"no_such_metric", "up"}
    assert "no_such_metric" not in exported()
    with pytest.raises(ValueError, match=r"."):
        metrics_of("sum(rate(up[5m])")


def headings() -> set[str]:
    lines = (ROOT / "docs" / "runbook.md").read_text().splitlines()
    return {line[3:].strip().lower().replace(" ", "-") for line in lines if line.startswith("## ")}


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_every_alert_has_an_entry_in_the_runbook(rule: dict[str, Any]) -> None:
    page, _, heading = rule["annotations"]["runbook"].partition("#")
    assert page == "docs/runbook.md"
    assert heading == rule["alert"].lower()
    assert heading in headings(), f"docs/runbook.md has no heading {rule['alert']}"
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["summary"]
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}


def test_every_entry_of_the_runbook_has_an_alert() -> None:
    assert headings() == {rule["alert"].lower() for rule in ALERTS}


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_is_one_that_grafana_loads(path: Path) -> None:
    board = json.loads(path.read_text())
    assert board["uid"] == path.stem
    assert board["title"]
    assert board["schemaVersion"] >= 36
    assert "id" not in board, "a dashboard from a file has no id of a database"
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    source = yaml.safe_load((DOCKER / "grafana/provisioning/datasources/prometheus.yaml").read_text())
    taken = set()
    for panel in board["panels"]:
        assert panel["type"] in ("stat", "timeseries")
        assert panel["datasource"]["uid"] == source["datasources"][0]["uid"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]) > 0
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, f"{panel['title']} lies over another panel"
        taken |= cells


def test_prometheus_scrapes_every_process_of_compose() -> None:
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    config = yaml.safe_load((DOCKER / "prometheus" / "prometheus.yaml").read_text())
    assert config["rule_files"] == ["/etc/prometheus/alerts.yaml"]
    text = json.dumps(config["scrape_configs"])
    ours = [name for name, service in services.items() if service["image"].startswith("signal-pipeline")]
    assert len(ours) == 8
    for name in ours:
        assert f'"{name}"' in text or f'"{name}:9100"' in text, f"{name} is not scraped"
