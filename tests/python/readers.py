"""Reads a table again and again while it is written, compacted and vacuumed, and checks every version that it meets.

    readers.py ARCHIVE --until FILE [--readers 8] [--table alerts] [--pause 0.5]

Half of the readers are deltalake, half polars, each a process; with FINK_SPARK_JARS (see spark.sh) the last is Spark. A reader takes a version, lets it grow old for up to three
seconds, reads the places of all of its rows, and checks: no place twice, and as many rows as the ledger says that this
version has, by its files and by what is covered. They end when FILE is there. Prints one line of JSON; exit code 1 on any error.
"""

import argparse
import json
import multiprocessing
import os
import random
import sys
import time
import traceback

import deltalake
import polars as pl

from archive import Ledger, alert_tables, columns, local


def spark():
    from pyspark.sql import SparkSession

    build = SparkSession.builder.master("local[1]").config("spark.jars", os.environ["FINK_SPARK_JARS"]).config("spark.ui.enabled", "false")
    build = build.config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension").config("spark.driver.memory", "1g")
    build = build.config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
    session = build.config("spark.sql.shuffle.partitions", "2").config("spark.driver.bindAddress", "127.0.0.1").config("spark.driver.host", "127.0.0.1").getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    return session


def places(kind, table, names):
    wanted = [n for n in names.values() if n]
    if kind == "spark":
        rows = spark().read.format("delta").option("versionAsOf", table.version()).load(table.table_uri).select(*wanted)
        return rows.count(), rows.distinct().count()
    if kind == "polars":
        frame = pl.read_delta(table, columns=wanted)
        return frame.height, frame.unique().height
    rows = pl.from_arrow(table.to_pyarrow_table(columns=wanted))
    return rows.height, rows.unique().height


def look(kind, archive, name, ledger, waits):
    """One version: returns (version, rows, problems)."""
    table = deltalake.DeltaTable(f"{archive}/{name}")
    entry = table.transaction_version("fink")
    if entry is None:
        return table.version(), 0, []
    time.sleep(waits.uniform(0, 3))
    rows, different = places(kind, table, columns([f.name for f in table.schema().fields]))
    problems = []
    if rows != different:
        problems.append(f"version {table.version()} has {rows} rows at {different} places")
    if ledger.next - 1 < entry and not ledger.read_to(entry):
        problems.append(f"version {table.version()} is of entry {entry}, which the ledger does not have")
    elif entry in ledger.by_files:
        if rows != ledger.rows_of(name, entry):
            problems.append(f"version {table.version()} has {rows} rows, the entries up to {entry} {ledger.rows_of(name, entry)}")
        if alert_tables(archive) == [name] and rows != ledger.by_coverage[entry]:
            problems.append(f"version {table.version()} has {rows} rows, coverage at {entry} says {ledger.by_coverage[entry]}")
    return table.version(), rows, problems


def reader(index, a, results):
    kind = "polars" if index % 2 else "deltalake"
    if index == a.readers - 1 and os.environ.get("FINK_SPARK_JARS"):
        kind = "spark"
    archive, waits, errors, reads, checked, last = local(a.archive), random.Random(index), [], 0, set(), 0
    ledger = None
    while not os.path.exists(a.until):
        try:
            if ledger is None and os.path.isdir(f"{archive}/{a.table}/_delta_log"):
                ledger = Ledger(archive)
            if ledger is not None:
                version, last, problems = look(kind, archive, a.table, ledger, waits)
                reads, errors = reads + 1, errors + problems
                checked.add(version)
        except Exception:
            errors.append(traceback.format_exc()[-600:])
        time.sleep(a.pause)
    results.put({"reader": kind, "reads": reads, "versions": len(checked), "rows": last, "errors": errors})


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("archive")
    arguments.add_argument("--until", required=True)
    arguments.add_argument("--readers", type=int, default=8)
    arguments.add_argument("--table", default="alerts")
    arguments.add_argument("--pause", type=float, default=0.5)
    a = arguments.parse_args()
    # Each reader is a process of its own, as users' are; spawned, since polars' threads do not outlive a fork.
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=reader, args=(i, a, results)) for i in range(a.readers)]
    [p.start() for p in processes]
    outcome = [results.get() for _ in processes]
    [p.join() for p in processes]
    errors = [e for o in outcome for e in o["errors"]]
    print(json.dumps({"readers": len(outcome), "reads": sum(o["reads"] for o in outcome), "versions": sum(o["versions"] for o in outcome),
                      "kinds": sorted({o["reader"] for o in outcome}),
                      "rows": max(o["rows"] for o in outcome), "errors": len(errors), "first": errors[:5]}))
    # The readers' native threads may abort an interpreter that winds down; all has been said by now.
    sys.stdout.flush()
    os._exit(1 if errors or not all(o["reads"] for o in outcome) else 0)


if __name__ == "__main__":
    main()
