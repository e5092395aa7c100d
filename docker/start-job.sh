#!/usr/bin/env bash
# start-job.sh JOB [-D KEY=VALUE]... -- [OPTIONS OF THE JOB]: a JobManager for one job (signals, outcomes, bars).
# It starts from the job's newest checkpoint under $STATE_DIR/JOB, so that a restarted container resumes;
# with SAVEPOINT set, from that savepoint. For one machine: on Kubernetes, high availability does this.
set -euo pipefail
job=$1
shift
dynamic=()
while [ $# -gt 0 ] && [ "$1" != "--" ]; do
    dynamic+=("$1")
    shift
done
[ $# -eq 0 ] || shift
state=${STATE_DIR:-/state}/$job
mkdir -p "$state/checkpoints" "$state/savepoints"
from=${SAVEPOINT:-}
if [ -z "$from" ]; then
    newest=$(find "$state/checkpoints" -path '*/chk-*/_metadata' -printf '%T@ %h\n' | sort -n | tail -1 | cut -d' ' -f2-)
    from=${newest:+file://$newest}
fi
echo "start-job: $job from ${from:-the beginning}"
exec "$FLINK_HOME/bin/standalone-job.sh" start-foreground \
    --job-classname org.apache.flink.client.python.PythonDriver \
    "-Dexecution.checkpointing.dir=file://$state/checkpoints" \
    "-Dexecution.checkpointing.savepoint-dir=file://$state/savepoints" \
    ${from:+--fromSavepoint "$from"} \
    "${dynamic[@]}" \
    -py "${JOBS_DIR:-/opt/jobs}/$job.py" "$@"
