"""Writes docker/k8s/flink-*.yaml: a FlinkDeployment for each job, its configuration that of flink-conf and the image.

    python scripts/k8s.py           write the files
    python scripts/k8s.py --check   exit status 1 if a file is out of date

On Kubernetes the operator's configuration replaces the image's file, so every setting must be in the
manifest; written by hand three times, they would drift apart.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from connectors.paths import flink_configuration  # noqa: E402 - run from a checkout, installed or not

FOLDER = ROOT / "docker" / "k8s"
_HEAD = "# Written by `python scripts/k8s.py` from flink-conf/config.yaml and docker/flink.yaml.\n"
#: Options of each job after Kafka's address.
JOBS = {
    "signals": ["--redis", "rediss://redis:6379/0", "--bundle", "daily-swing", "--start", "group-offsets",
                "--parallelism", "2"],
    "outcomes": ["--redis", "rediss://redis:6379/0", "--start", "group-offsets"],
    "bars": [],
}  # fmt: skip
PARALLELISM = {"signals": 2}
BUCKET = "s3://signals-state"


def configuration(job: str) -> dict[str, str]:
    """Flink's settings for one job, as strings."""
    image = yaml.safe_load((ROOT / "docker" / "flink.yaml").read_text())
    here = {
        # Checkpoints in the bucket, leadership and the newest checkpoint's location in ConfigMaps: a JobManager that
        # is lost recovers by itself.
        "high-availability.type": "kubernetes",
        "high-availability.storageDir": f"{BUCKET}/{job}/ha",
        "execution.checkpointing.dir": f"{BUCKET}/{job}/checkpoints",
        "execution.checkpointing.savepoint-dir": f"{BUCKET}/{job}/savepoints",
        # The Python worker that scores runs next to the JVM in the same container.
        "kubernetes.taskmanager.memory.limit-factor": "1.5",
        # The Python client that builds the job runs next to the JobManager.
        "kubernetes.jobmanager.memory.limit-factor": "2.0",
        "kubernetes.operator.savepoint.history.max.count": "5",
        "kubernetes.operator.periodic.savepoint.interval": "24h",
    }
    # Set by the pod's resources instead.
    sized_by_pod = {"taskmanager.memory.process.size", "jobmanager.memory.process.size", "parallelism.default"}
    merged = flink_configuration() | {key: str(value) for key, value in image.items()} | here
    return {key: value for key, value in sorted(merged.items()) if key not in sized_by_pod}


def deployment(job: str) -> dict[str, Any]:
    """The FlinkDeployment of one job."""
    secrets = [{"name": "secrets", "mountPath": "/run/secrets", "readOnly": True}]
    certificates = [{"name": "certificates", "mountPath": "/run/certificates", "readOnly": True}]
    pod = {
        "metadata": {"labels": {"app.kubernetes.io/part-of": "signal-pipeline"}},
        "spec": {
            "securityContext": {
                "runAsNonRoot": True, "runAsUser": 9999, "runAsGroup": 9999, "fsGroup": 9999,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "flink-main-container",
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                    "envFrom": [{"configMapRef": {"name": "signals-sign-in"}}],
                    "ports": [{"name": "metrics", "containerPort": 9249, "protocol": "TCP"}],
                    "volumeMounts": secrets + certificates,
                }
            ],
            "volumes": [
                {"name": "secrets", "secret": {"secretName": "signals-secrets"}},
                {"name": "certificates", "secret": {"secretName": "signals-certificates"}},
            ],
        },
    }  # fmt: skip
    return {
        "apiVersion": "flink.apache.org/v1beta1",
        "kind": "FlinkDeployment",
        "metadata": {"name": job, "labels": {"app.kubernetes.io/part-of": "signal-pipeline"}},
        "spec": {
            "image": "signal-pipeline-flink:dev",
            "imagePullPolicy": "IfNotPresent",
            "flinkVersion": "v2_3",
            "mode": "native",
            "serviceAccount": "flink",
            "flinkConfiguration": configuration(job),
            "podTemplate": pod,
            "jobManager": {"replicas": 2, "resource": {"memory": "1024m", "cpu": 0.5}},
            "taskManager": {"resource": {"memory": "2048m", "cpu": 2.0}},
            "job": {
                "jarURI": "local:///opt/flink/opt/flink-python-2.3.0.jar",
                "entryClass": "org.apache.flink.client.python.PythonDriver",
                "args": ["-py", f"/opt/jobs/{job}.py", "--kafka", "kafka:9093", *JOBS[job]],
                "parallelism": PARALLELISM.get(job, 1),
                # A changed manifest stops the job with a savepoint and starts the new one from it.
                "upgradeMode": "savepoint",
                "state": "running",
            },
        },
    }


class _Dumper(yaml.SafeDumper):
    """Writes no anchors, so that each part of a manifest is readable alone."""

    def ignore_aliases(self, data: Any) -> bool:
        """Never an alias."""
        return True


def rendered(job: str) -> str:
    """The file's text."""
    return _HEAD + yaml.dump(deployment(job), Dumper=_Dumper, sort_keys=False, width=110)


def main() -> int:
    """The command line; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, report what differs")
    check = parser.parse_args().check
    stale = []
    for job in JOBS:
        file = FOLDER / f"flink-{job}.yaml"
        if check and (not file.exists() or file.read_text() != rendered(job)):
            stale.append(f"{file.relative_to(ROOT)} is not current: run `python scripts/k8s.py`")
        elif not check:
            file.write_text(rendered(job))
    print("\n".join(stale) or "the manifests are current")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
