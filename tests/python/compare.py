"""Compares archived alerts with what fastavro reads of the messages that were sent, leaf by leaf.

    compare.py ARCHIVE SENT

SENT has a line of JSON for each message: {"topic", "partition", "offset", "path", "schema"?}. `path` is the file whose
bytes are the message's; where its bytes begin with 0x00 they are Confluent's framing and `schema` the writer's schema
(a `.avsc`, whose named types lie in files beside it), where they begin with `Obj\\x01` a container, else a bare datum.
Prints one line of JSON; exit code 1 when a leaf differs.
"""

import datetime
import io
import json
import math
import os
import sys
from collections import defaultdict

import deltalake
import fastavro
import fastavro.schema

from archive import alert_tables, columns, local

schemas = {}


def records(line):
    with open(line["path"], "rb") as file:
        payload = file.read()
    if payload[:4] == b"Obj\x01":
        return list(fastavro.reader(io.BytesIO(payload)))
    path = line["schema"]
    if path not in schemas:
        schemas[path] = fastavro.schema.load_schema(path)
    datum = io.BytesIO(payload[5:] if payload[:1] == b"\0" else payload)
    return [fastavro.schemaless_reader(datum, schemas[path], None)]


def utc(value):
    if isinstance(value, datetime.datetime):
        return value.replace(tzinfo=datetime.UTC) if value.tzinfo is None else value.astimezone(datetime.UTC)
    return value


class Comparison:
    def __init__(self):
        self.leaves = 0
        self.bytes = 0
        self.nulls = 0
        self.differences = []

    def differ(self, path, sent, stored):
        if len(self.differences) < 20:
            self.differences.append(f"{path}: sent {sent!r:.80}, archived {stored!r:.80}")

    def compare(self, path, sent, stored):
        if sent is None or stored is None:
            self.nulls += 1
            if sent is not None or stored is not None:
                self.differ(path, sent, stored)
        elif isinstance(sent, dict):
            # Arrow gives a map as a list of pairs.
            stored = dict(stored) if isinstance(stored, list) else stored
            for name in sent:
                if name not in stored:
                    self.differ(f"{path}.{name}", sent[name], "no such column")
                else:
                    self.compare(f"{path}.{name}", sent[name], stored[name])
        elif isinstance(sent, (list, tuple)):
            if len(sent) != len(stored):
                self.differ(path, f"{len(sent)} items", f"{len(stored)} items")
            for i, (a, b) in enumerate(zip(sent, stored)):
                self.compare(f"{path}[{i}]", a, b)
        else:
            self.leaves += 1
            self.bytes += len(sent) if isinstance(sent, bytes) else 0
            sent, stored = utc(sent), utc(stored)
            both_nan = isinstance(sent, float) and isinstance(stored, float) and math.isnan(sent) and math.isnan(stored)
            # -0.0 == 0.0, 1 == True: these must not pass.
            same = sent == stored and type(sent) is type(stored)
            if same and isinstance(sent, float):
                same = math.copysign(1, sent) == math.copysign(1, stored)
            if not same and not both_nan:
                self.differ(path, sent, stored)


def main():
    archive = local(sys.argv[1])
    with open(sys.argv[2]) as file:
        sent = [json.loads(line) for line in file]
    wanted = {(s["topic"], s["partition"], s["offset"]): s for s in sent}
    found, result, by_table = set(), Comparison(), defaultdict(int)
    for name in alert_tables(archive):
        table = deltalake.DeltaTable(f"{archive}/{name}")
        names = columns([f.name for f in table.schema().fields])
        for batch in table.to_pyarrow_dataset().to_batches(batch_size=64):
            for row in batch.to_pylist():
                place = tuple(row[names[k]] for k in ("topic", "partition", "offset"))
                if place not in wanted:
                    continue
                record = row[names["record"]]
                found.add((*place, record))
                by_table[name] += 1
                result.compare(f"{wanted[place]['path'].rsplit('/', 1)[-1]}", records(wanted[place])[record], row)
    expected = {(*place, i) for place, line in wanted.items() for i in range(len(records(line)))}
    problems = list(result.differences)
    if found != expected:
        problems.append(f"{len(expected - found)} records are not archived, such as {sorted(expected - found)[:3]}")
    print(json.dumps({"records": len(found), "leaves": result.leaves, "nulls": result.nulls, "bytes": result.bytes,
                      "tables": by_table, "problems": problems}))
    # The readers' native threads may abort an interpreter that winds down; all has been said by now.
    sys.stdout.flush()
    os._exit(1 if problems else 0)


if __name__ == "__main__":
    main()
