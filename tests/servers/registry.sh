#!/usr/bin/env bash
# A schema registry (Apicurio, kept in memory: gone at stop) with Confluent's API at http://127.0.0.1:PORT/apis/ccompat/v7 .
#
#   registry.sh start  DIR PORT    PORT+1 is its management port
#   registry.sh stop   DIR
#   registry.sh signal DIR SIGNAL  KILL, STOP, CONT
#   registry.sh status DIR
#   registry.sh fetch  -           only fetches it
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/common.sh"
version=3.0.9 # the last line that runs on Java 17
home=${REGISTRY_LIB:-$CACHE/jars/apicurio-$version}

fetch_registry() {
  [ -e "$home/.complete" ] && return
  command -v mvn >/dev/null || die "no Maven to fetch it with (Debian: maven)"
  echo "fetching the registry into $home" >&2
  mkdir -p "$(dirname "$home")"
  local work; work=$(mktemp -d "$home.XXXXXX")
  mvn -B -q org.apache.maven.plugins:maven-dependency-plugin:2.8:copy \
    -Dartifact=io.apicurio:apicurio-registry-app:$version:tar.gz:all -DoutputDirectory="$work" >&2
  tar xzf "$work"/*.tar.gz -C "$work"; rm -f "$work"/*.tar.gz; touch "$work/.complete"
  mv -T "$work" "$home" 2>/dev/null || rm -rf "$work"
}

command=${1:-}
case $command in
start | stop | signal | status) folder "${2:-}" ;;
fetch) need_java; fetch_registry; exit 0 ;;
*) usage ;;
esac
case $command in
stop) stop_one registry; exit 0 ;;
signal) signal registry "${3:?signal}"; exit 0 ;;
status) status_all; exit $? ;;
esac

port=${3:?port}
need_java; fetch_registry
export QUARKUS_HTTP_HOST=127.0.0.1 QUARKUS_HTTP_PORT=$port
export QUARKUS_MANAGEMENT_HOST=127.0.0.1 QUARKUS_MANAGEMENT_PORT=$((port + 1))
daemon registry "$JAVA" -Xmx384m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Djava.io.tmpdir="$D/" \
  -jar "$home/apicurio-registry-app-$version-runner.jar"
wait_for registry 180 curl -fs -m 2 -o /dev/null "http://127.0.0.1:$port/apis/ccompat/v7/subjects"
guard
echo "registry http://127.0.0.1:$port/apis/ccompat/v7 pid $(pid_of registry)"
