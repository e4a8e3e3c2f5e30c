# What the scripts of this folder share; sourced, not run.
#
# A server lives in a folder of its own: `pids/NAME` holds its process id, `logs/NAME.log` what it said. A pid file alone
# proves nothing: `kill -0` also succeeds on a zombie, and on a pid that the kernel has handed to somebody else since. So
# only a live process whose command line names this very folder is ours to signal.

CACHE=${FINK_CACHE:-$HOME/.cache/fink}
JAVA=${JAVA_HOME:+$JAVA_HOME/bin/}java

die() { echo "$(basename "$0"): $*" >&2; exit 1; }

# Prints the head comment of the script that calls it.
usage() { awk 'NR > 1 && /^#/ { sub(/^# ?/, ""); print; next } NR > 1 { exit }' "$0"; exit 2; }

need_java() { command -v "$JAVA" >/dev/null || die "no Java (Debian: openjdk-17-jre-headless)"; }

# fetch POM FOLDER : the jars that POM names, once, into a folder outside of the repository.
fetch() {
  [ -e "$2/.complete" ] && return
  command -v mvn >/dev/null || die "no Maven to fetch jars with (Debian: maven)"
  echo "fetching jars into $2" >&2
  mkdir -p "$(dirname "$2")"
  local work; work=$(mktemp -d "$2.XXXXXX")
  mvn -B -q -f "$1" org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies \
    -DoutputDirectory="$work" -DincludeScope=runtime >&2
  touch "$work/.complete"
  # Two that fetch at once: the second's folder is not needed.
  mv -T "$work" "$2" 2>/dev/null || rm -rf "$work"
}

pid_of() { cat "$D/pids/$1" 2>/dev/null || true; }

# alive NAME : whether the process that we recorded still runs, and is ours.
alive() {
  local p; p=$(pid_of "$1")
  [[ $p =~ ^[0-9]+$ && -r /proc/$p/cmdline ]] || return 1
  [[ $(awk '/^State/{print $2}' "/proc/$p/status" 2>/dev/null) != Z ]] || return 1
  tr '\0' ' ' <"/proc/$p/cmdline" 2>/dev/null | grep -qF -- "$D/"
}

# daemon NAME COMMAND... : starts a process that outlives this shell. Its command line must name a path below $D.
daemon() {
  local name=$1; shift
  alive "$name" && die "$name already runs, pid $(pid_of "$name")"
  mkdir -p "$D/pids" "$D/logs"; rm -f "$D/pids/$name"; : >"$D/logs/$name.log"
  # exec: the recorded pid is the server's own.
  setsid bash -c 'echo $$ >"$0"; exec "$@"' "$D/pids/$name" "$@" </dev/null >>"$D/logs/$name.log" 2>&1 &
  for _ in $(seq 100); do [ -s "$D/pids/$name" ] && return; sleep 0.02; done
  die "$name did not start"
}

# guard : where FINK_OWNER names a process, what runs in this folder is stopped when that process is gone, however it ended.
guard() {
  [ -n "${FINK_OWNER:-}" ] || return 0
  setsid bash -c 'while [ -e "/proc/$0" ]; do sleep 1; done; [ -d "$2" ] && exec "$1" stop "$2"' \
    "$FINK_OWNER" "$(realpath "$0")" "$D" </dev/null >/dev/null 2>&1 &
}

# signal NAME SIGNAL : after KILL it waits until the process is gone.
signal() {
  alive "$1" || die "$1 is not running"
  kill -"$2" "$(pid_of "$1")"
  [[ $2 == KILL || $2 == 9 ]] || return 0
  for _ in $(seq 200); do alive "$1" || { rm -f "$D/pids/$1"; return 0; }; sleep 0.05; done
  die "$1 survived SIGKILL"
}

# stop_one NAME : TERM, then KILL after 20 s.
stop_one() {
  if alive "$1"; then
    kill -TERM "$(pid_of "$1")"
    # A stopped process takes no TERM before it goes on.
    kill -CONT "$(pid_of "$1")" 2>/dev/null || true
    for _ in $(seq 200); do alive "$1" || break; sleep 0.1; done
    if alive "$1"; then kill -KILL "$(pid_of "$1")"; fi
  fi
  rm -f "$D/pids/$1"
}

# wait_for NAME SECONDS COMMAND... : until the command succeeds; fails with the log's end when the server dies or time is up.
wait_for() {
  local name=$1 until=$((SECONDS + $2)); shift 2
  while ((SECONDS < until)); do
    "$@" >/dev/null 2>&1 && return 0
    alive "$name" || { sleep 0.2; alive "$name" || { tail -20 "$D/logs/$name.log" >&2; die "$name died while starting"; }; }
    sleep 0.1
  done
  tail -20 "$D/logs/$name.log" >&2
  die "$name is not ready"
}

status_all() {
  local running=1 f name p
  for f in "$D"/pids/*; do
    [ -e "$f" ] || continue
    name=$(basename "$f"); p=$(pid_of "$name")
    if alive "$name"; then
      running=0; echo "$name running pid $p rss $(awk '/VmRSS/{print int($2/1024)}' "/proc/$p/status") MiB"
    else
      echo "$name dead"
    fi
  done
  return $running
}

# Sets D to the server's folder, absolute.
folder() { [ -n "${1:-}" ] || usage; mkdir -p "$1"; D=$(cd "$1" && pwd); }
