"""Images, compose file and manifests: linted, checked against their schemas, and against what the code takes."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import compose_spec
import jsonschema
import kubernetes_validate
import pytest
import yaml
from pydantic import ValidationError

from connectors.kafka.security import KafkaSecurity
from connectors.paths import flink_configuration

ROOT = Path(__file__).resolve().parents[3]
DOCKER = ROOT / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text()
SCRIPTS = sorted(DOCKER.glob("*.sh"))


def interpolated(text: str, variables: dict[str, str] | None = None) -> str:
    """What compose makes of ``${NAME:-default}`` and ``$$``; a KeyError for a name without either."""
    held = variables or {}

    def value(match: re.Match[str]) -> str:
        name, separator, default = match[1].partition(":-")
        return held.get(name) or (default if separator else held[name])

    return re.sub(r"(?<!\$)\$\{([^}]+)\}", value, text).replace("$$", "$")


def compose(text: str | None = None) -> dict[str, Any]:
    """The compose file, checked as compose does; raises ValueError for what it would refuse."""
    data = yaml.safe_load(interpolated(text or (DOCKER / "compose.yaml").read_text()))
    plain = {key: value for key, value in data.items() if not key.startswith("x-")}
    compose_spec.PyCompose.from_yaml(yaml.safe_dump(plain)).validate()
    compose_spec.ComposeSpecification.model_validate(plain)
    return plain


SERVICES: dict[str, Any] = compose()["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("signal-pipeline")}
MANIFESTS = [
    (path.name, document)
    for path in sorted((DOCKER / "k8s").glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
]
FLINK = [(name, document) for name, document in MANIFESTS if document["kind"] == "FlinkDeployment"]


# Images


def test_the_dockerfile_passes_hadolint() -> None:
    linter = Path(sysconfig.get_path("scripts")) / "hadolint"
    done = subprocess.run([linter, "--no-color", DOCKER / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    bad = subprocess.run([linter, "-"], input="FROM debian\nRUN cd /tmp", capture_output=True, text=True)
    assert bad.returncode == 1, "the linter accepts anything"


def test_bases_are_pinned_and_nothing_runs_as_root() -> None:
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", DOCKERFILE, re.MULTILINE))
    for base in bases:
        assert base in stages or re.search(r":[\w.-]*\d+\.\d+\.\d+[\w.-]*$", base), f"{base} has no exact tag"
    for target in ("flink", "services"):
        (stage,) = re.findall(rf"^FROM \S+ AS {target}\n(.*?)(?=^FROM |\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL)
        assert re.findall(r"^USER (.+)$", stage, re.MULTILINE) == ["9999:9999"]
    for line in re.findall(r"pip install .*", DOCKERFILE):
        assert "--require-hashes" in line or "--no-deps /dist/" in line, line


def test_everything_copied_exists_and_is_not_ignored() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    assert len(copies) >= 10
    for source in " ".join(copies).split():
        assert (ROOT / source).exists(), f"COPY {source}: no such file"
        assert source.split("/")[0] in allowed, f"COPY {source}: .dockerignore leaves it out"
    for package in ("jobs", "udfs", "connectors", "models", "relay", "cli"):
        assert f"COPY {package} ./{package}" in DOCKERFILE


def test_the_image_s_configuration_is_one_sound_file() -> None:
    joined = (ROOT / "flink-conf" / "config.yaml").read_text() + (DOCKER / "flink.yaml").read_text()
    image = yaml.safe_load((DOCKER / "flink.yaml").read_text())
    nested = flink_configuration()
    assert not set(image) & set(nested), "a setting is in both files"
    assert not set(image) & set(yaml.safe_load((ROOT / "flink-conf" / "config.yaml").read_text()))
    assert set(yaml.safe_load(joined)) >= set(image)
    jar = re.search(r"flink-python-([\d.]+)\.jar", (DOCKER / "k8s" / "flink-signals.yaml").read_text())
    assert jar
    assert f"apache-flink=={jar[1]} " in (ROOT / "requirements.lock").read_text()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_sound_shell_and_executable(script: Path) -> None:
    done = subprocess.run(["bash", "-n", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert script.stat().st_mode & stat.S_IXUSR
    assert "set -euo pipefail" in script.read_text()
    if checker := shutil.which("shellcheck"):
        done = subprocess.run([checker, script], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_secrets_are_made_once_and_without_line_breaks(tmp_path: Path) -> None:
    shutil.copy(DOCKER / "make-secrets.sh", tmp_path)
    for _ in range(2):
        subprocess.run(["bash", tmp_path / "make-secrets.sh"], check=True, timeout=20)
        made = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    assert set(made) == set(compose()["secrets"])
    assert re.fullmatch("[0-9a-f]{64}", made["signals_redis_password"])
    assert made["signals_redis_password"] != made["signals_relay_jwt_secret"]
    first = made["signals_redis_password"]
    subprocess.run(["bash", tmp_path / "make-secrets.sh"], check=True, timeout=20)
    assert (tmp_path / "secrets" / "signals_redis_password").read_text() == first


# Compose


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("restart: unless-stopped", "restart: [1]"), ("healthcheck:", "healthchek:"), ("memory: 2G", "memory: [2]"),
     ("networks: [inside]", "networks: [insde]"), ("secrets: [signals_redis_password]", "secrets: [other]")],
)  # fmt: skip
def test_the_check_of_the_compose_file_can_fail(right: str, wrong: str) -> None:
    text = (DOCKER / "compose.yaml").read_text()
    assert right in text
    with pytest.raises((ValueError, ValidationError), match=r"."):
        compose(text.replace(right, wrong))


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_checked_bounded_and_private(name: str) -> None:
    service = SERVICES[name]
    assert service["healthcheck"]["test"]
    assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}
    assert service["restart"] == "unless-stopped"
    assert service["security_opt"] == ["no-new-privileges:true"]
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:"), f"{name} publishes {port} beyond this machine"
        assert "outside" in service["networks"], "a port on an internal network alone cannot be reached"
    assert re.search(r":[\w.-]+$", interpolated(service["image"])), "an image without a tag"
    assert not service["image"].endswith(":latest")
    text = json.dumps([service.get("command"), service.get("environment")]).lower()
    assert not re.search(r"(password|secret|key)[\"']?\s*[:=]\s*[\"']?(?!/run/secrets)[a-z0-9]{4,}", text), text
    for secret in service.get("secrets", []):
        assert secret in compose()["secrets"]


def test_published_ports_differ() -> None:
    published = [port.rpartition(":")[0] for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(published) == len(set(published)) == 7


def job_options(command: list[str]) -> tuple[str, list[str]]:
    """The job and its own options, of a ``/start-job.sh`` line or the operator's arguments."""
    if command[0] == "/start-job.sh":
        return command[1], command[command.index("--") + 1 :]
    return Path(command[1]).stem, command[2:]


JOB_LINES = {name: service["command"] for name, service in OURS.items() if name.endswith("-jobmanager")} | {
    f"k8s {document['metadata']['name']}": document["spec"]["job"]["args"] for _, document in FLINK
}


@pytest.mark.parametrize("place", JOB_LINES)
def test_jobs_are_started_with_options_they_have(place: str) -> None:
    from connectors.settings.bars_job import parse_bars_settings
    from connectors.settings.outcomes_job import parse_outcome_settings
    from connectors.settings.signals_job import parse_settings

    job, options = job_options(JOB_LINES[place])
    assert (ROOT / "jobs" / f"{job}.py").exists()
    if job == "bars":  # without a checkpoint it begins at the beginning: from committed offsets bars would lack trades
        assert parse_bars_settings(options).start == "earliest-offset"
        return
    settings = (parse_settings if job == "signals" else parse_outcome_settings)(options)
    assert settings.redis.startswith(("redis://redis", "rediss://redis"))
    assert settings.start == "group-offsets"
    with pytest.raises(SystemExit):
        parse_settings([*options, "--no-such-option", "1"])


@pytest.mark.parametrize("name", ["ingest", "relay"])
def test_services_are_started_with_options_they_have(name: str) -> None:
    from typer.main import get_command

    from cli.main import app

    lines = [OURS[name]["command"]]
    lines += [
        document["spec"]["template"]["spec"]["containers"][0]["args"]
        for _, document in MANIFESTS
        if document["kind"] == "Deployment" and document["metadata"]["name"] == name
    ]
    assert len(lines) == 2
    for line in lines:
        command = get_command(app).commands[line[0]]  # type: ignore[attr-defined]
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in line if word.startswith("--")} <= known


def test_the_redis_of_compose_lets_in_its_user_alone(tmp_path: Path) -> None:
    """The very command of compose.yaml, with this machine's server: who may do what."""
    import redis

    from cli.local.servers import RedisServer

    secret = tmp_path / "signals_redis_password"
    secret.write_text("0a1b2c")

    class FromCompose(RedisServer):
        def command(self) -> list[str]:
            *shell, line = SERVICES["redis"]["command"]
            line = line.replace("/run/secrets", str(tmp_path)).replace("valkey-server -", f"{self.binary()} -")
            return [*shell, f"{line} --port {self.port} --bind 127.0.0.1"]

        def ready(self) -> bool:
            try:
                return bool(redis.Redis(port=self.port, username="pipeline", password="0a1b2c").ping())
            except redis.RedisError:
                return False

    with FromCompose() as server:
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(port=server.port).ping()
        client = redis.Redis(port=server.port, username="pipeline", password="0a1b2c")
        client.hset("features:A:1m", "a", 1)
        client.xadd("signals:stream", {"a": 1})
        assert client.xinfo_stream("signals:stream")["length"] == 1
        assert client.eval("return 1", 0) == 1
        assert list(client.scan_iter("features:*")) == [b"features:A:1m"]
        for forbidden in ("FLUSHALL", "CONFIG GET maxmemory", "ACL LIST", "SHUTDOWN"):
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*forbidden.split())


# Kubernetes


def check_manifest(document: dict[str, Any]) -> None:
    """Raise a validation error for what the API server would refuse."""
    if document["kind"] == "FlinkDeployment":
        schema = json.loads((ROOT / "tests" / "fixtures" / "schemas" / "flinkdeployment.json").read_text())
        # The schema is of an operator older than Flink 2; newer ones list its versions here.
        schema["properties"]["spec"]["properties"]["flinkVersion"] = {"type": "string", "pattern": r"^v\d+_\d+$"}
        jsonschema.validate(document, schema)
        pod = {"apiVersion": "v1", "kind": "Pod", **document["spec"]["podTemplate"]}
        kubernetes_validate.validate(pod, "1.32", strict=True)
    elif document["kind"] != "Kustomization":
        kubernetes_validate.validate(document, "1.32", strict=True)


@pytest.mark.parametrize(("file", "document"), MANIFESTS, ids=lambda value: value if isinstance(value, str) else "")
def test_manifests_fit_their_schema(file: str, document: dict[str, Any]) -> None:
    check_manifest(document)


def test_the_check_of_manifests_can_fail() -> None:
    deployment = next(document for _, document in MANIFESTS if document["kind"] == "Deployment")
    text = yaml.safe_dump(deployment)
    with pytest.raises(Exception, match=r"replicaz|Additional properties"):
        check_manifest(yaml.safe_load(text.replace("replicas:", "replicaz:")))
    text = yaml.safe_dump(FLINK[0][1])
    for right, wrong in (
        ("upgradeMode: savepoint", "upgradeMode: hope"),
        ("jarURI:", "jarUri:"),
        ("runAsUser:", "asUser:"),
    ):
        assert right in text
        with pytest.raises(Exception, match=r"."):
            check_manifest(yaml.safe_load(text.replace(right, wrong)))


def test_the_flink_manifests_are_what_the_configuration_gives() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "k8s.py", "--check"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout
    assert len(FLINK) == 3
    for _, document in FLINK:
        settings, job = document["spec"]["flinkConfiguration"], document["spec"]["job"]
        assert job["upgradeMode"] == "savepoint"
        assert settings["high-availability.type"] == "kubernetes"
        assert settings["taskmanager.numberOfTaskSlots"] == "1", "thread mode needs a slot a TaskManager"
        assert settings["pipeline.max-parallelism"] == flink_configuration()["pipeline.max-parallelism"]
        assert all(isinstance(value, str) for value in settings.values())


def pods() -> list[tuple[str, dict[str, Any]]]:
    found = [(document["metadata"]["name"], document["spec"]["podTemplate"]["spec"]) for _, document in FLINK]
    return found + [
        (document["metadata"]["name"], document["spec"]["template"]["spec"])
        for _, document in MANIFESTS
        if document["kind"] == "Deployment"
    ]


@pytest.mark.parametrize(("name", "spec"), pods(), ids=lambda value: value if isinstance(value, str) else "")
def test_pods_run_with_little_right_and_secrets_by_reference(name: str, spec: dict[str, Any]) -> None:
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = spec["containers"]
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    if name in ("ingest", "relay"):
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys()
        assert container["resources"].keys() == {"requests", "limits"}
    for variable in container.get("env", []):
        secret = re.search("PASSWORD|SECRET|TOKEN|KEY|DSN", variable["name"])
        assert not secret or "valueFrom" in variable, f"{name}: {variable['name']} is written down"
    (mounted,) = [volume["secret"]["secretName"] for volume in spec["volumes"] if volume["name"] == "secrets"]
    assert mounted == "signals-secrets"
    assert any(mount["mountPath"] == "/run/secrets" for mount in container["volumeMounts"])


def test_the_sign_in_is_one_that_the_code_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (data,) = [document["data"] for _, document in MANIFESTS if document["kind"] == "ConfigMap"]
    known = {f"SIGNALS_KAFKA_{name.upper()}" for name in KafkaSecurity.model_fields}
    assert {name for name in data if name.startswith("SIGNALS_KAFKA_")} <= known
    for name in list(os.environ):
        if name.startswith("SIGNALS_"):
            monkeypatch.delenv(name)
    for name, value in data.items():
        if value.startswith("/run/"):
            (tmp_path / Path(value).name).write_text("-")
            value = str(tmp_path / Path(value).name)
        monkeypatch.setenv(name, value)
    assert KafkaSecurity().sasl
    assert not any(re.search("PASSWORD|SECRET$|TOKEN|KEY", name) for name in data)


def test_nothing_may_come_in_by_default() -> None:
    policies = [document for _, document in MANIFESTS if document["kind"] == "NetworkPolicy"]
    default = [policy for policy in policies if "ingress" not in policy["spec"]]
    assert len(default) == 1
    assert default[0]["spec"]["podSelector"]["matchLabels"] == {"app.kubernetes.io/part-of": "signal-pipeline"}
    for name, document in FLINK:
        labels = document["spec"]["podTemplate"]["metadata"]["labels"]
        assert labels["app.kubernetes.io/part-of"] == "signal-pipeline", name
    files = yaml.safe_load((DOCKER / "k8s" / "kustomization.yaml").read_text())["resources"]
    assert set(files) == {name for name, _ in MANIFESTS} - {"kustomization.yaml"}


# Locks


def test_the_locks_are_current() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "lock.py", "--check"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
