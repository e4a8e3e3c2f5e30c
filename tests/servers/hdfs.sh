#!/usr/bin/env bash
# A real HDFS (Apache Hadoop's jars from Maven Central), one JVM a daemon. Loopback only.
#
#   hdfs.sh start  DIR PORT [DATANODES=3]   returns when it is out of safe mode and all data nodes are registered
#   hdfs.sh stop   DIR
#   hdfs.sh signal DIR nn|dn0|dn1|… SIGNAL  KILL, STOP, CONT
#   hdfs.sh up     DIR nn|dn0|dn1|…         starts one that was killed
#   hdfs.sh status DIR
#   hdfs.sh dfs    DIR ARGUMENTS...         FsShell: `hdfs.sh dfs DIR -ls -R /`
#   hdfs.sh fsck   DIR PATH
#   hdfs.sh fetch  -                        only fetches the jars
#
# The clients' configuration is DIR/conf (point HADOOP_CONF_DIR at it). Ports: NameNode PORT and PORT+1 (http), data node i
# PORT+10+3i and the two after it. HDFS_REPLICATION: copies of a block (default: as many as data nodes, 3 at most).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/common.sh"
lib=${HDFS_LIB:-$CACHE/jars/hdfs-3.4.3}
JVM=(-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto -Djava.net.preferIPv4Stack=true -Djava.awt.headless=true)
# What Hadoop 3.4 opens of Java 17's modules.
for p in lang nio util util.concurrent net; do JVM+=(--add-opens=java.base/java.$p=ALL-UNNAMED); done
JVM+=(--add-opens=java.base/sun.nio.ch=ALL-UNNAMED)

command=${1:-}
case $command in
start | stop | signal | up | status | dfs | fsck) folder "${2:-}" ;;
fetch) need_java; fetch "$here/hdfs.xml" "$lib"; exit 0 ;;
*) usage ;;
esac
shift 2

property() { printf '  <property><name>%s</name><value>%s</value></property>\n' "$1" "$2"; }

# configure FOLDER INDEX : of a data node; `-` for the NameNode and clients.
configure() {
  mkdir -p "$1"
  {
    echo '<configuration>'
    property fs.defaultFS "hdfs://127.0.0.1:$PORT"
    property hadoop.tmp.dir "$D/tmp"
    property ipc.client.connect.max.retries 3
    echo '</configuration>'
  } >"$1/core-site.xml"
  {
    echo '<configuration>'
    property dfs.namenode.name.dir "file://$D/nn"
    property dfs.namenode.rpc-address "127.0.0.1:$PORT"
    property dfs.namenode.http-address "127.0.0.1:$((PORT + 1))"
    property dfs.replication "$REPLICATION"
    property dfs.permissions.enabled false
    property dfs.namenode.safemode.threshold-pct 0.999f
    property dfs.namenode.safemode.extension 0
    property dfs.namenode.safemode.min.datanodes 1
    # A data node that was killed is declared dead after 2 x recheck + 10 x heartbeat = 16 s instead of 10.5 minutes.
    property dfs.heartbeat.interval 1
    property dfs.namenode.heartbeat.recheck-interval 3000
    property dfs.namenode.datanode.registration.ip-hostname-check false
    property dfs.datanode.hostname 127.0.0.1
    property dfs.datanode.handler.count 3
    property dfs.namenode.handler.count 4
    property dfs.datanode.scan.period.hours -1
    property dfs.datanode.du.reserved 0
    if [ "$2" != - ]; then
      local port=$((PORT + 10 + 3 * $2))
      property dfs.datanode.data.dir "file://$D/dn$2"
      property dfs.datanode.address "127.0.0.1:$port"
      property dfs.datanode.ipc.address "127.0.0.1:$((port + 1))"
      property dfs.datanode.http.address "127.0.0.1:$((port + 2))"
    fi
    echo '</configuration>'
  } >"$1/hdfs-site.xml"
  cat >"$1/log4j.properties" <<C
log4j.rootLogger=INFO,C
log4j.appender.C=org.apache.log4j.ConsoleAppender
log4j.appender.C.target=System.err
log4j.appender.C.layout=org.apache.log4j.PatternLayout
log4j.appender.C.layout.ConversionPattern=%d{ISO8601} %p %c{1}: %m%n
C
}

load() { [ -f "$D/env" ] || die "no HDFS in $D"; . "$D/env"; }
# The jars carry no webapps/ folder, and HttpServer2 insists on one: $D/web has it, empty.
class() { local conf=$1; shift; "$JAVA" "${JVM[@]}" -Xmx256m -cp "$conf:$D/web:$lib/*" "$@"; }
server=org.apache.hadoop.hdfs.server
up() {
  case $1 in
  nn) daemon nn "$JAVA" "${JVM[@]}" -Xmx256m -cp "$D/conf:$D/web:$lib/*" $server.namenode.NameNode ;;
  dn*) daemon "$1" "$JAVA" "${JVM[@]}" -Xmx192m -cp "$D/conf-$1:$D/web:$lib/*" $server.datanode.DataNode ;;
  *) die "no daemon $1" ;;
  esac
}
jmx() { curl -sf --max-time 2 "http://127.0.0.1:$1/jmx?qry=$2"; }
namenode_ready() { jmx $((PORT + 1)) Hadoop:service=NameNode,name=FSNamesystemState | grep -q '"FSState" : "Operational"'; }
datanode_ready() { jmx $((PORT + 12 + 3 * $1)) Hadoop:service=DataNode,name=DataNodeInfo | grep -q 'ActorState[^,]*RUNNING'; }
wait_up() { case $1 in nn) wait_for nn 90 namenode_ready ;; *) wait_for "$1" 90 datanode_ready "${1#dn}" ;; esac; }

case $command in
start)
  need_java; fetch "$here/hdfs.xml" "$lib"
  PORT=${1:?port} DATANODES=${2:-3}
  REPLICATION=${HDFS_REPLICATION:-$((DATANODES < 3 ? DATANODES : 3))}
  mkdir -p "$D"/{logs,pids,tmp} "$D"/web/webapps/{hdfs,datanode,static}
  printf 'PORT=%s DATANODES=%s REPLICATION=%s\n' "$PORT" "$DATANODES" "$REPLICATION" >"$D/env"
  configure "$D/conf" -
  for ((i = 0; i < DATANODES; i++)); do configure "$D/conf-dn$i" "$i"; mkdir -p "$D/dn$i"; chmod 700 "$D/dn$i"; done
  if [ ! -d "$D/nn/current" ]; then
    class "$D/conf" $server.namenode.NameNode -format -nonInteractive >"$D/logs/format.log" 2>&1 ||
      { tail -20 "$D/logs/format.log" >&2; die "could not format"; }
  fi
  up nn
  for ((i = 0; i < DATANODES; i++)); do up "dn$i"; done
  for ((i = 0; i < DATANODES; i++)); do wait_up "dn$i"; done
  wait_up nn
  guard
  echo "hdfs://127.0.0.1:$PORT"
  ;;
stop) for f in "$D"/pids/dn* "$D"/pids/nn; do [ -e "$f" ] && stop_one "$(basename "$f")"; done; true ;;
signal) signal "${1:?daemon}" "${2:?signal}" ;;
up) load; up "${1:?daemon}"; wait_up "$1" ;;
status) load; status_all ;;
dfs) load; class "$D/conf" org.apache.hadoop.fs.FsShell "$@" 2> >(grep -v 'native-hadoop library' >&2) ;;
fsck) load; class "$D/conf" org.apache.hadoop.hdfs.tools.DFSck "$@" 2>/dev/null ;;
esac
