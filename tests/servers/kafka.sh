#!/usr/bin/env bash
# A real Apache Kafka of one node (KRaft), from Maven Central's jars. Loopback only.
#
#   kafka.sh start  DIR PORT     returns when it answers; the controller listens on PORT+1
#   kafka.sh stop   DIR
#   kafka.sh signal DIR SIGNAL   KILL, STOP, CONT
#   kafka.sh status DIR
#   kafka.sh tool   DIR CLASS ARGUMENTS...   a class of Kafka's own tools
#   kafka.sh fetch  -            only fetches the jars
#
# KAFKA_SASL=1 adds SASL_SSL on PORT+2 (SCRAM-SHA-512, SCRAM-SHA-256, PLAIN; user KAFKA_USER=alerts, password
# KAFKA_PASSWORD=alerts-secret; the clients' CA is DIR/tls/ca.pem). Where there is an openssl, it also adds SSL on PORT+3, which
# asks clients for a certificate: DIR/tls/client.pem, its key DIR/tls/client.key (password key-secret). KAFKA_HEAP=768m. KAFKA_EXTRA: more lines of server.properties.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/common.sh"
lib=${KAFKA_LIB:-$CACHE/jars/kafka-4.4.0}

command=${1:-}
case $command in
start | stop | signal | status | tool) folder "${2:-}" ;;
fetch) need_java; fetch "$here/kafka.xml" "$lib"; exit 0 ;;
*) usage ;;
esac
case $command in
stop) stop_one kafka; exit 0 ;;
signal) signal kafka "${3:?signal}"; exit 0 ;;
status) status_all; exit $? ;;
tool)
  shift 2
  exec "$JAVA" -Xmx256m -XX:TieredStopAtLevel=1 -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp "$lib/*" "$@"
  ;;
esac

port=${3:?port}
alive kafka && die "already runs, pid $(pid_of kafka)"
need_java; fetch "$here/kafka.xml" "$lib"
user=${KAFKA_USER:-alerts} password=${KAFKA_PASSWORD:-alerts-secret} sasl=${KAFKA_SASL:-0}
listeners=PLAINTEXT://127.0.0.1:$port
[ "$sasl" = 1 ] && listeners+=,SASL_SSL://127.0.0.1:$((port + 2))
asks=0
if [ "$sasl" = 1 ] && command -v openssl >/dev/null; then asks=1; listeners+=,SSL://127.0.0.1:$((port + 3)); fi
conf=$D/server.properties
cat >"$conf" <<C
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$((port + 1))
controller.listener.names=CONTROLLER
listeners=$listeners,CONTROLLER://127.0.0.1:$((port + 1))
advertised.listeners=$listeners
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL
inter.broker.listener.name=PLAINTEXT
log.dirs=$D/log
num.partitions=4
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
# A Rubin alert with large cutouts can pass 1 MB; a reject of 20 MB is tested.
message.max.bytes=31457280
replica.fetch.max.bytes=31457280
socket.request.max.bytes=209715200
socket.send.buffer.bytes=1048576
socket.receive.buffer.bytes=1048576
log.segment.bytes=268435456
# Alerts that are sent again carry old timestamps: never deleted for being old.
log.retention.ms=-1
log.message.timestamp.type=CreateTime
# Deleted records and compaction are seen within a second.
log.retention.check.interval.ms=1000
log.cleaner.backoff.ms=500
log.cleaner.dedupe.buffer.size=33554432
num.network.threads=2
num.io.threads=4
C
if [ "$sasl" = 1 ]; then
  tls=$D/tls
  if [ ! -s "$tls/ca.pem" ]; then
    mkdir -p "$tls"; rm -f "$tls/server.p12"
    keytool -genkeypair -alias kafka -keyalg RSA -keysize 2048 -validity 3650 -dname "CN=localhost" \
      -ext "SAN=dns:localhost,ip:127.0.0.1" -ext "BC=ca:true" -storetype PKCS12 -keystore "$tls/server.p12" \
      -storepass changeit >/dev/null 2>&1
    keytool -exportcert -rfc -alias kafka -keystore "$tls/server.p12" -storepass changeit >"$tls/ca.pem" 2>/dev/null
  fi
  if [ "$asks" = 1 ] && [ ! -s "$tls/client.key" ]; then
    openssl req -newkey rsa:2048 -passout pass:key-secret -keyout "$tls/client.new" -subj /CN=fink -out "$tls/client.csr" 2>/dev/null
    keytool -gencert -rfc -alias kafka -validity 3650 -keystore "$tls/server.p12" -storepass changeit \
      -infile "$tls/client.csr" -outfile "$tls/client.pem" 2>/dev/null
    mv "$tls/client.new" "$tls/client.key"
  fi
  module=org.apache.kafka.common.security
  cat >>"$conf" <<C
sasl.enabled.mechanisms=SCRAM-SHA-512,SCRAM-SHA-256,PLAIN
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=$module.scram.ScramLoginModule required;
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=$module.scram.ScramLoginModule required;
listener.name.sasl_ssl.plain.sasl.jaas.config=$module.plain.PlainLoginModule required user_$user="$password";
ssl.keystore.type=PKCS12
ssl.keystore.location=$tls/server.p12
ssl.keystore.password=changeit
ssl.key.password=changeit
C
  [ "$asks" = 1 ] && cat >>"$conf" <<C
listener.name.ssl.ssl.client.auth=required
listener.name.ssl.ssl.truststore.type=PEM
listener.name.ssl.ssl.truststore.location=$tls/ca.pem
C
fi
[ -n "${KAFKA_EXTRA:-}" ] && printf '%s\n' "$KAFKA_EXTRA" >>"$conf"

quick=(-Xshare:auto -XX:TieredStopAtLevel=1 -cp "$lib/*")
if [ ! -s "$D/log/meta.properties" ]; then
  scram=()
  if [ "$sasl" = 1 ]; then
    for m in 256 512; do scram+=(--add-scram "SCRAM-SHA-$m=[name=$user,password=$password]"); done
  fi
  id=$("$JAVA" "${quick[@]}" kafka.tools.StorageTool random-uuid 2>/dev/null)
  "$JAVA" "${quick[@]}" kafka.tools.StorageTool format -t "$id" -c "$conf" "${scram[@]}" >"$D/format.log" 2>&1 ||
    { cat "$D/format.log" >&2; die "could not format"; }
fi
heap=${KAFKA_HEAP:-768m}
daemon kafka "$JAVA" -Xms"$heap" -Xmx"$heap" -XX:+UseSerialGC -Xshare:auto \
  -Dorg.slf4j.simpleLogger.defaultLogLevel=info -Dorg.slf4j.simpleLogger.showDateTime=true \
  -Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS -Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.config=warn \
  -Dorg.slf4j.simpleLogger.log.kafka.server.KafkaConfig=warn -cp "$lib/*" kafka.Kafka "$conf"
wait_for kafka 90 grep -q 'Kafka Server started' "$D/logs/kafka.log"
guard
echo "kafka 127.0.0.1:$port pid $(pid_of kafka)"
