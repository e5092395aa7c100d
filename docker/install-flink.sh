#!/usr/bin/env bash
# install-flink.sh PYFLINK HOME: move the Flink inside the Python package to HOME, and leave links in its place.
set -euo pipefail
pyflink=$1 home=$2
mkdir -p "$home"
for part in bin conf lib opt plugins licenses; do
    mv "$pyflink/$part" "$home/$part"
    ln -s "$home/$part" "$pyflink/$part"
done
# In lib/, the library that embeds Python is loaded once for the life of the JVM, regardless of jobs: loaded by
# a job's own class loader, a second job in the same TaskManager could not load it again.
cp "$home"/opt/flink-python-*.jar "$home/lib/"
chmod +x "$home"/bin/*.sh "$home/bin/flink"
