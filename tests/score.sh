#!/usr/bin/env bash
# Scores what the archive and the services make of a simulated night, by its truth: prints two tables.
#
#   tests/score.sh [ALERTS] [SURVEY]       200000 ztf
#
# A night's alerts of real size go through a real Kafka into an archive with all services, which match them with a catalogue
# that knows four fifths of the sky. Needs Java and Maven for Kafka, about 150 kB of disk an alert for a while, and a program:
# FINK_BIN, or one that `cargo build --release -p fink` made.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
count=${1:-200000} survey=${2:-ztf}
fink=${FINK_BIN:-${CARGO_TARGET_DIR:-target}/release/fink}
room=$(mktemp -d)
export FINK_RUN_DIR=$room/run
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
web=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
archive_pid=
leave() {
  [ -z "$archive_pid" ] || { kill "$archive_pid" && wait "$archive_pid"; } 2>/dev/null || true
  tests/servers/kafka.sh stop "$room/kafka" >/dev/null || true
  rm -rf "$room"
}
trap leave EXIT

tests/servers/kafka.sh start "$room/kafka" "$port"
"$fink" start simulator --brokers "127.0.0.1:$port" --topic night --survey "$survey" --format ocf --night 2026-11-22 --count "$count" \
  --duplicated 0.01 --disordered 0.05 --as-fast-as-possible --truth "$room/truth.parquet" 2>"$room/simulator.log"
"$fink" simulator catalog "$room/truth.parquet" "$room/sky.parquet" --share 0.8
cat >"$room/fink.toml" <<TOML
[services]
classes = ["sky"]
[services.catalogues.sky]
path = "$room/sky.parquet"
ra = "ra_deg"
dec = "dec_deg"
radius_arcsec = 1.5
carry = ["class", "object"]
TOML
"$fink" start archive services -c "$room/fink.toml" --brokers "127.0.0.1:$port" --topic night --from earliest \
  --lanes 1 --archive "$room/archive" --http "$web" >"$room/archive.log" 2>&1 &
archive_pid=$!
# What is archived is in the answers a moment later: in one lane nothing is late.
until "$fink" check --archive "$room/archive" --brokers "127.0.0.1:$port" --json 2>/dev/null |
  python3 -c 'import json, sys; r = json.load(sys.stdin); sys.exit(not r["logs"] or any(l["behind"] for l in r["logs"]))' 2>/dev/null; do
  kill -0 "$archive_pid" || { tail -5 "$room/archive.log" >&2; exit 1; }
  sleep 2
done
sleep 5
"$fink" simulator score "$room/truth.parquet" --archive "$room/archive" --at "127.0.0.1:$web" --catalog "$room/sky.parquet"
