"""Reads every table of an archive with deltalake, polars and pyarrow, and checks that it holds exactly what was sent.

    verify.py ARCHIVE [--expect MANIFEST] [--no-rejects]

The manifest is JSON: {"logs": [{"topic": "t", "partition": 0, "messages": [[0, 100]], "rejected": [7], "records": {"9": 0}}]}.
`messages` are the half-open spans of offsets that held a message; `rejected` those that must be in the rejects and nowhere
else; `records` the number of records of messages that have another than one. All else of an archive is an error.
Prints one line of JSON; exit code 1 when anything is wrong.
"""

import argparse
import json
import os
import sys
from collections import Counter

import deltalake
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds

from archive import alert_tables, columns, local, tables


def keys(batch, names):
    """The rows' places as tuples, sorted."""
    lists = [batch.column(names[k]).to_pylist() if names[k] in batch.column_names else [0] * batch.num_rows for k in names]
    return sorted(zip(*lists))


def read_three_ways(path, wanted):
    """The same columns by three readers, as Arrow tables."""
    table = deltalake.DeltaTable(path)
    by_delta = table.to_pyarrow_table(columns=wanted)
    by_polars = pl.scan_delta(path).select(wanted).collect().to_arrow()
    plain = [c for c in wanted if c not in table.metadata().partition_columns]
    files = [f.removeprefix("file://") for f in table.file_uris()]
    by_pyarrow = ds.dataset(files, format="parquet").to_table(columns=plain) if files else by_delta
    return table, by_delta, by_polars, by_pyarrow


def check_table(path, names, problems):
    """The places of a table's rows, after the readers agreed on them."""
    table, by_delta, by_polars, by_pyarrow = read_three_ways(path, list(names.values()))
    rows = keys(by_delta, names)
    if rows != keys(by_polars, names):
        problems.append(f"{path}: polars reads {by_polars.num_rows} rows, deltalake {len(rows)}, or other places")
    if rows != keys(by_pyarrow, names):
        problems.append(f"{path}: pyarrow reads {by_pyarrow.num_rows} rows, deltalake {len(rows)}, or other places")
    counted = sum(s or 0 for s in pa.table(table.get_add_actions(flatten=True)).column("num_records").to_pylist())
    if counted != len(rows):
        problems.append(f"{path}: the log's statistics say {counted} rows, the files hold {len(rows)}")
    if table.protocol().min_reader_version != 1:
        problems.append(f"{path}: reader protocol {table.protocol().min_reader_version}")
    return table, rows


def expected(manifest):
    """Places of alerts and of rejects: multisets of (topic, partition, offset[, record])."""
    alerts, rejects = Counter(), Counter()
    for log in manifest["logs"]:
        rejected, records = set(log.get("rejected", [])), log.get("records", {})
        for start, end in log["messages"]:
            for offset in range(start, end):
                place = (log["topic"], log["partition"], offset)
                if offset in rejected:
                    rejects[place] += 1
                else:
                    alerts.update((*place, record) for record in range(records.get(str(offset), 1)))
    return alerts, rejects


def difference(what, have, want, problems):
    missing, extra = want - have, have - want
    if missing:
        problems.append(f"{sum(missing.values())} {what} are missing, such as {sorted(missing)[:5]}")
    if extra:
        problems.append(f"{sum(extra.values())} {what} are too many, such as {sorted(extra)[:5]}")


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("archive")
    arguments.add_argument("--expect")
    arguments.add_argument("--no-rejects", action="store_true")
    a = arguments.parse_args()
    archive, problems, out = local(a.archive), [], {"tables": {}}
    alerts, rejects = Counter(), Counter()
    for name in tables(archive):
        path = f"{archive}/{name}"
        schema = [f.name for f in deltalake.DeltaTable(path).schema().fields]
        names = columns(schema)
        if name == "rejects":
            names.pop("record", None)
        table, rows = check_table(path, names, problems)
        doubled = [r for r, n in Counter(rows).items() if n > 1]
        if doubled:
            problems.append(f"{name}: {len(doubled)} places are there more than once, such as {doubled[:5]}")
        out["tables"][name] = {"rows": len(rows), "version": table.version(), "files": len(table.file_uris())}
        if name == "rejects":
            rejects.update(r[2:] for r in rows)
        elif name in alert_tables(archive):
            alerts.update(r[2:] for r in rows)
    if a.expect:
        with open(a.expect) as file:
            want_alerts, want_rejects = expected(json.load(file))
        difference("alerts", alerts, want_alerts, problems)
        difference("rejects", rejects, want_rejects, problems)
    if a.no_rejects and rejects:
        problems.append(f"{sum(rejects.values())} rejects, such as {sorted(rejects)[:5]}")
    out.update(alerts=sum(alerts.values()), rejects=sum(rejects.values()), problems=problems)
    print(json.dumps(out))
    # The readers' native threads may abort an interpreter that winds down; all has been said by now.
    sys.stdout.flush()
    os._exit(1 if problems else 0)


if __name__ == "__main__":
    main()
