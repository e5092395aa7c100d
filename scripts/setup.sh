#!/usr/bin/env bash
# Sets the project up in its own folder: a virtual environment in .venv, the JARs in .jars. Safe to repeat; a second
# run does nothing until pyproject.toml, constraints.txt or pom.xml change.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }
missing() { printf 'missing: %s\n  fix: %s\n' "$1" "$2" >&2; exit 1; }

PYTHON=${PYTHON:-python3.11}
command -v "$PYTHON" >/dev/null || missing "Python 3.11 (looked for '$PYTHON')" \
    "sudo apt-get install python3.11 python3.11-venv, or set PYTHON=/path/to/python3.11"
"$PYTHON" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || missing "Python 3.11 ('$PYTHON' is another version)" \
    "sudo apt-get install python3.11 python3.11-venv, or set PYTHON=/path/to/python3.11"
"$PYTHON" -c 'import venv, ensurepip' 2>/dev/null || missing "the venv module of $PYTHON" "sudo apt-get install python3.11-venv"
JAVA=${JAVA_HOME:+$JAVA_HOME/bin/}java
command -v "$JAVA" >/dev/null || missing "Java 17 (looked for '$JAVA')" "sudo apt-get install openjdk-17-jre-headless"
major=$("$JAVA" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -1)
[ "${major:-0}" -ge 17 ] || missing "Java 17 or newer ('$JAVA' is version ${major:-unknown})" \
    "sudo apt-get install openjdk-17-jre-headless, then set JAVA_HOME"
command -v mvn >/dev/null || missing "Maven (mvn)" "sudo apt-get install maven"

want=$(cat pyproject.toml constraints.txt | sha256sum)
if [ "$(cat .venv/.stamp 2>/dev/null)" != "$want" ]; then
    say "Python packages into .venv (the first time takes some minutes)"
    [ -x .venv/bin/python ] || "$PYTHON" -m venv .venv
    .venv/bin/python -m pip install --quiet --upgrade pip
    .venv/bin/python -m pip install --quiet --progress-bar on -c constraints.txt -e '.[dev]'
    echo "$want" > .venv/.stamp
fi
want=$(sha256sum < pom.xml)
if [ "$(cat .jars/.stamp 2>/dev/null)" != "$want" ]; then
    say "JARs into .jars (Flink's Kafka connector, a Kafka broker)"
    rm -rf .jars
    mvn -q -B -ntp dependency:copy-dependencies -DoutputDirectory="$PWD/.jars"
    echo "$want" > .jars/.stamp
fi
