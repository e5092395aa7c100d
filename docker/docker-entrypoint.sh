#!/usr/bin/env bash
# Runs one of Flink's scripts, or any command: `jobmanager.sh start-foreground`, `start-job.sh signals --kafka ...`,
# and what Flink on Kubernetes passes.
set -euo pipefail
exec "$@"
