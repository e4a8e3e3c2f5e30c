#!/usr/bin/env bash
# Adds Spark with Delta to the readers' Python environment, for those tests that can use it; prints its jars. Needs Java and Maven.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=$("$here/setup.sh")
jars=${FINK_CACHE:-$HOME/.cache/fink}/jars/spark
"$python" -c 'import pyspark' 2>/dev/null || "$python" -m pip install -q pyspark==3.5.3 >&2
mkdir -p "$jars"
for artifact in io.delta:delta-spark_2.12:3.2.1 io.delta:delta-storage:3.2.1 org.antlr:antlr4-runtime:4.9.3; do
  name=${artifact#*:}
  [ -e "$jars/${name/:/-}.jar" ] || mvn -B -q dependency:copy -Dartifact="$artifact" -DoutputDirectory="$jars" >&2
done
printf '%s\n' "$jars"/*.jar | paste -sd,
