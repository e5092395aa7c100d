#!/usr/bin/env bash
# Creates docker/secrets: random passwords where there are none yet, empty files for venue keys you do not have.
set -euo pipefail
cd "$(dirname "$0")"
umask 077
mkdir -p secrets
for name in signals_redis_password signals_relay_jwt_secret grafana_admin_password; do
    # No line break at the end: Kafka's and Redis's readers take files as they are.
    [ -s "secrets/$name" ] || od -An -tx1 -N32 /dev/urandom | tr -d ' \n' > "secrets/$name"
done
for name in alpaca_api_key alpaca_secret_key polygon_api_key; do
    [ -e "secrets/$name" ] || : > "secrets/$name"
done
# Containers read them as different users.
chmod 755 secrets
chmod 644 secrets/*
