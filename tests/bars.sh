#!/usr/bin/env bash
# Every bar that fink must reach, in full: prints a line for each. About two hours on a machine of 2 cores.
#
#   tests/bars.sh [NAME...]   path latency idle visit memory commits late epochs cluster follow replay simulator score readers kills tables takeover hdfs s3 disk spine faults fuzz schedules answers catalogs reads hydration
#
# Needs what `.ci/run` needs, and real alerts (FINK_SHARED). Exit code 1 when a bar is missed. Output of the runs is kept
# in ${FINK_CACHE:-~/.cache/fink}/bars/.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export FINK_CACHE=${FINK_CACHE:-$HOME/.cache/fink}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$FINK_CACHE/target} CARGO_INCREMENTAL=0
export FINK_REQUIRE_SERVERS=1 FINK_FULL=1
python=$(tests/python/setup.sh) || exit 1
out=$FINK_CACHE/bars; mkdir -p "$out"
names=("$@")
((${#names[@]})) || names=(path latency idle visit memory commits late epochs cluster follow replay simulator score readers kills tables takeover hdfs s3 disk spine faults fuzz schedules answers catalogs reads hydration)
missed=0

cargo build -q --release -p fink -p fink-tests || exit 1
export FINK_BIN=$CARGO_TARGET_DIR/release/fink
bench() { "$CARGO_TARGET_DIR/release/fink-bench" "$@"; }

# figure FILE KEY : a figure of the last line of JSON that a run printed.
figure() { "$python" -c 'import json, sys
lines = [l for l in open(sys.argv[1]) if l.startswith("{")]
print(json.loads(lines[-1])[sys.argv[2]] if lines else "nan")' "$1" "$2"; }

# bar NAME FIGURE BAR UNIT : a figure that must not be above its bar.
bar() {
  local verdict
  if awk -v f="$2" -v b="$3" 'BEGIN { exit !(f == f + 0 && f <= b) }'; then verdict=ok; else verdict=MISSED; missed=1; fi
  printf '%-58s %12.6g  at most %-8s %-8s %s\n' "$1" "$2" "$3" "$4" "$verdict"
}

# floor NAME FIGURE BAR UNIT : a figure that must not be below its bar.
floor() {
  local verdict
  if awk -v f="$2" -v b="$3" 'BEGIN { exit !(f == f + 0 && f >= b) }'; then verdict=ok; else verdict=MISSED; missed=1; fi
  printf '%-58s %12.6g  at least %-7s %-8s %s\n' "$1" "$2" "$3" "$4" "$verdict"
}

# passes NAME COMMAND... : something that either holds or does not.
passes() {
  local name=$1 log=$out/${1//[^a-z0-9]/-}.log verdict; shift
  local start=$SECONDS
  # A filter that no test matches passes nothing.
  if "$@" >"$log" 2>&1 && ! grep -q 'skipped:' "$log" && ! { grep -q '^test result' "$log" && ! grep -q '^test result: ok. [1-9]' "$log"; }; then verdict=ok; else verdict=MISSED; missed=1; fi
  printf '%-58s %10s s  %-27s %s\n' "$name" $((SECONDS - start)) "" "$verdict"
  grep -E '^[0-9]+ (kills|cuts|alerts|batches)|^replication|"reads"' "$log" | sed 's/^/    /' | cut -c1-220
}

# whole NAME FILTER : integration tests, in their long form.
whole() { passes "$1" cargo test -q -p fink-tests --features integration --test whole -- --test-threads=1 --nocapture "${@:2}"; }

run() { # NAME ARGUMENTS... : a run of the benchmark, kept; its words for people are printed.
  bench "${@:2}" >"$out/$1.txt" 2>&1 || { printf '%-58s failed: %s\n' "$1" "$(tail -1 "$out/$1.txt")"; missed=1; }
  grep -v '^{' "$out/$1.txt" | sed 's/^/    /'
}

for name in "${names[@]}"; do
  case $name in
  path)
    run path path --hdfs --runs 3
    bar "whole path: c / (a + b)" "$(figure "$out/path.txt" ratio)" 1.5 ""
    bar "decode and Parquet in memory (b)" "$(figure "$out/path.txt" b)" 80 "us"
    bar "CPU of a ZTF alert (c)" "$(figure "$out/path.txt" c)" 150 "us"
    ;;
  latency)
    run latency latency --seconds 600
    bar "50/s, local disk: median" "$(figure "$out/latency.txt" median_ms)" 800 ms
    bar "50/s, local disk: p99" "$(figure "$out/latency.txt" p99_ms)" 2000 ms
    bar "50/s, local disk: part of one core" "$(figure "$out/latency.txt" core)" 0.05 ""
    run latency-hdfs latency --seconds 600 --hdfs
    bar "50/s, HDFS: p99" "$(figure "$out/latency-hdfs.txt" p99_ms)" 3000 ms
    ;;
  idle) run idle idle --seconds 120; bar "idle: part of one core" "$(figure "$out/idle.txt" core)" 0.005 "" ;;
  visit) run visit visit; bar "10,000 alerts sent in 3 s: durable after" "$(figure "$out/visit.txt" visible_s)" 5 s ;;
  memory) run memory memory; bar "30 nights interleaved, 100 kB alerts: peak" "$(figure "$out/memory.txt" peak_mb)" 1000 MB ;;
  commits)
    # The store's clock runs twenty times as fast, so that vacuum comes round; then ten times, a commit for each of its seconds,
    # for which logs of an hour are longest.
    run commits-second commits --pace 10
    bar "5,000 commits, one a second: files in any log" "$(figure "$out/commits-second.txt" log_files)" 5000 ""
    bar "5,000 commits, one a second: live files" "$(figure "$out/commits-second.txt" live_files)" 50 ""
    for size in small full; do
      case $size in small) run commits-small commits ;; full) run commits-full commits --full --rate 80 ;; esac
      file=$out/commits-$size.txt
      bar "5,000 commits, $size: live files at any time" "$(figure "$file" live_files)" 50 ""
      bar "5,000 commits, $size: files in any log at any time" "$(figure "$file" log_files)" 5000 ""
      bar "5,000 commits, $size: files that an hour's snapshots need, gone" "$(figure "$file" deleted)" 0 ""
      floor "5,000 commits, $size: files vacuumed" "$(figure "$file" vacuumed)" 1 ""
      bar "5,000 commits, $size: CPU of the last 500 against the first" "$(figure "$file" growth)" 1.2 ""
      bar "5,000 commits, $size: rows against covered messages" "$(figure "$file" inexact)" 0 ""
    done
    floor "5,000 commits, full: rows" "$(figure "$out/commits-full.txt" rows)" 39000 ""
    ;;
  late)
    run late late
    bar "live under a backlog of 50,000: p99 against without" "$(figure "$out/late.txt" p99_ratio)" 1.5 ""
    bar "the backlog's drain: time against alone" "$("$python" -c 'import sys; print(1 / float(sys.argv[1]))' "$(figure "$out/late.txt" drain_ratio)")" 1.25 ""
    ;;
  epochs)
    run epochs epochs
    floor "epochs rolled in" "$(figure "$out/epochs.txt" rolls)" 300 ""
    bar "300 epochs rolled in: CPU against one epoch" "$(figure "$out/epochs.txt" ratio)" 1.15 ""
    bar "300 epochs rolled in: memory, last third against second" "$(figure "$out/epochs.txt" memory_growth)" 1.1 ""
    ;;
  follow)
    run follow follow
    bar "services in a process of their own: visible, p99" "$(figure "$out/follow.txt" beside_p99_ms)" 2000 ms
    bar "services that panic, block or eat memory there: visible, p99" "$(figure "$out/follow.txt" sick_p99_ms)" 2000 ms
    ;;
  replay)
    run replay replay
    floor "an archived night again to light rows: times as fast as first" "$(figure "$out/replay.txt" ratio)" 5 ""
    ;;
  cluster)
    run cluster cluster
    bar "2 processes x 1 worker: CPU an alert against 1 x 2" "$(figure "$out/cluster.txt" ratio)" 1.1 ""
    floor "1 partition, 2 workers: CPU of the less busy against the other" "$(figure "$out/cluster.txt" balance)" 0.5 ""
    whole "a cluster after deaths, silences, and its network cut" cluster::
    log=$out/a-cluster-after-deaths--silences--and-its-network-cut.log
    after() { sed -n "s/.*$1[^;]* at most \([0-9]*\) ms.*/\1/p" "$log" | tail -1; }
    death=$(after '[0-9] kills, runs again'); silence=$(after '[0-9] silences,'); cut=$(after 'noticed; runs again')
    bar "20 kills of one process of 3: runs again after" "${death:-nan}" 10000 ms
    bar "20 processes of 3 stopped: runs again after" "${silence:-nan}" 30000 ms
    bar "20 cuts of the network, up to 20 s: runs again after" "${cut:-nan}" 30000 ms
    ;;
  simulator)
    run simulator simulator --count 20000
    floor "full ZTF alerts made in a second of one core" "$(figure "$out/simulator.txt" made_per_s)" 500 ""
    floor "a visit from disk into Kafka, alerts a second" "$(figure "$out/simulator.txt" sent_per_s)" 5000 ""
    bar "simulator's memory, a million alerts: end / half" "$(figure "$out/simulator.txt" growth)" 1.1 ""
    passes "the simulated sky by its messages" cargo test -q -p fink-sources --test sky
    ;;
  score) passes "a night of 200,000 alerts by its truth" tests/score.sh ;;
  readers)
    FINK_SPARK_JARS=$(tests/python/spark.sh) && export FINK_SPARK_JARS || { unset FINK_SPARK_JARS; echo "    Spark is not to be had here"; }
    whole "8 readers for 10 minutes: no error, right counts" readers::
    unset FINK_SPARK_JARS
    ;;
  kills)
    whole "kill -9 at every phase and at random" kills::
    first=$(sed -n 's/.*first row at most \([0-9]*\) ms.*/\1/p' "$out/kill--9-at-every-phase-and-at-random.log" | tail -1)
    bar "kill -9: restart to the first new row visible" "${first:-nan}" 2000 ms
    ;;
  takeover)
    whole "stopped in mid-commit, taken over, continued" takeover::
    passes "a clock 60 s behind that steps back changes nothing" cargo test -q -p fink-sinks --lib clock
    ;;
  s3)
    whole "S3: kill -9, and the server killed" s3::
    folder=$(mktemp -d)
    tests/servers/s3.sh start "$folder/s3" 39700 >/dev/null
    passes "S3: put-if-absent raced by 6 writers" env FINK_TEST_S3=s3://archive/bars AWS_ENDPOINT=http://127.0.0.1:39700 \
      AWS_ALLOW_HTTP=true AWS_REGION=us-east-1 AWS_ACCESS_KEY_ID=fink AWS_SECRET_ACCESS_KEY=fink-secret NO_PROXY=127.0.0.1 \
      cargo test -q -p fink-dataflow --lib of_six_racing
    tests/servers/s3.sh stop "$folder/s3"
    ;;
  tables) passes "tables of answers, at every version, over 20 kills" cargo test -q -p fink --test services at_every_version -- --nocapture ;;
  spine) whole "registry, rejects, identity, holes, schemas, deadly messages" --skip kills --skip cluster --skip readers --skip hdfs --skip s3 --skip takeover ;;
  hdfs) whole "HDFS: data node killed, NameNode killed" hdfs:: ;;
  disk) whole "local disk full" disk:: ;;
  faults) passes "faults on every put of the commit path" cargo test -q -p fink-dataflow -p fink-sinks ;;
  fuzz)
    passes "fuzz: decoder, 10 minutes" "$CARGO_TARGET_DIR/release/fink-fuzz" --seconds 600
    passes "fuzz: envelope, 10 minutes" "$CARGO_TARGET_DIR/release/fink-fuzz" --seconds 600 --envelope
    ;;
  answers)
    run answers answers
    bar "50/s: an alert known to who asks, p99" "$(figure "$out/answers.txt" p99_ms)" 2000 ms
    ;;
  catalogs)
    run catalogs catalogs
    bar "VSX: from the command to the Moment that counts it" "$(figure "$out/catalogs.txt" loaded_s)" 10 s
    bar "a changed row of a catalogue counts" "$(figure "$out/catalogs.txt" ticks)" 2 ticks
    ;;
  reads)
    run reads reads
    bar "500 requests/s over 1,000,000 detections: object, p99" "$(figure "$out/reads.txt" object_p99_ms)" 10 ms
    bar "500 requests/s over 1,000,000 detections: cone, p99" "$(figure "$out/reads.txt" cone_p99_ms)" 10 ms
    ;;
  hydration)
    run hydration hydration
    bar "10,000,000 archived detections: a live alert answered for" "$(figure "$out/hydration.txt" live_s)" 10 s
    bar "10,000,000 archived detections: complete" "$(figure "$out/hydration.txt" complete_s)" 180 s
    run hydration-bound hydration --memory-nights 2 --alerts 12000000
    bar "the same with a bound on memory: complete" "$(figure "$out/hydration-bound.txt" complete_s)" 180 s
    bar "an object that had left memory, asked for: p99" "$("$python" -c 'import json, sys; print([json.loads(l)["back"]["p99_ms"] for l in open(sys.argv[1]) if l.startswith("{")][-1])' "$out/hydration-bound.txt")" 200 ms
    ;;
  schedules)
    passes "30,000 random schedules, and 5,000 of the graph" env FINK_SEEDS=30000 FINK_GRAPH_SEEDS=5000 cargo test -q -p fink-tests --test schedules
    ;;
  *) echo "no bar $name" >&2; exit 2 ;;
  esac
done
exit $missed
