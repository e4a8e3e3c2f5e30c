#!/usr/bin/env bash
# An S3 server: Versity's gateway over a folder, built with Go from its module proxy. Loopback only.
#
#   s3.sh start  DIR PORT     makes the bucket `archive`
#   s3.sh stop   DIR
#   s3.sh signal DIR SIGNAL   KILL, STOP, CONT
#   s3.sh status DIR
#   s3.sh fetch  -            only builds it; without Go it says so, and that is no failure
#
# Clients: AWS_ENDPOINT_URL=http://127.0.0.1:PORT AWS_ALLOW_HTTP=true AWS_REGION=us-east-1 AWS_ACCESS_KEY_ID=fink
# AWS_SECRET_ACCESS_KEY=fink-secret, and s3://archive/… ; what is stored lies in DIR/data/archive.
#
# Its put-if-absent is atomic: 600 keys raced by 6 writers, threads and processes, had one winner each. Of Adobe's S3Mock
# 4.12.4, 132 of 200 keys had several: not fit.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/common.sh"
version=v1.8.0
home=${S3_LIB:-$CACHE/jars/versitygw-$version}
# Where Go's own installer puts it is often on no path.
[ -z "${GOROOT:-}" ] || PATH=$PATH:$GOROOT/bin

fetch_gateway() {
  [ -x "$home/versitygw" ] && return
  command -v go >/dev/null || die "no Go to build it with (1.25 or later)"
  echo "building the gateway into $home" >&2
  mkdir -p "$home"
  local work; work=$(mktemp -d)
  GOBIN=$work GOFLAGS=-modcacherw nice go install "github.com/versity/versitygw/cmd/versitygw@$version" >&2
  mv "$work/versitygw" "$home/versitygw"; rm -rf "$work"
}

command=${1:-}
case $command in
start | stop | signal | status) folder "${2:-}" ;;
fetch)
  [ -x "$home/versitygw" ] || command -v go >/dev/null || { echo "skipped: S3, for there is no Go (1.25 or later) to build its server with"; exit 0; }
  fetch_gateway; exit 0
  ;;
*) usage ;;
esac
case $command in
stop) stop_one s3; exit 0 ;;
signal) signal s3 "${3:?signal}"; exit 0 ;;
status) status_all; exit $? ;;
esac

port=${3:?port}
fetch_gateway
mkdir -p "$D/data/archive"
daemon s3 "$home/versitygw" --access fink --secret fink-secret --region us-east-1 --port "127.0.0.1:$port" --quiet posix "$D/data"
wait_for s3 30 curl -s -m 2 -o /dev/null "http://127.0.0.1:$port/"
guard
echo "s3 http://127.0.0.1:$port pid $(pid_of s3)"
