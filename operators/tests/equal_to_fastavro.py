"""Compares Arrow files with the Avro files that they were decoded from, leaf by leaf.

Takes a file of lines `avro <tab> arrow <tab> schema`; where a schema is given the Avro file is one bare datum.
"""

import datetime
import decimal
import math
import sys
import uuid

import fastavro
import pyarrow as pa


def time_number(value, kind):
    """A time of day in the unit that its Avro type counts in."""
    micros = ((value.hour * 60 + value.minute) * 60 + value.second) * 1_000_000 + value.microsecond
    return micros // 1000 if pa.types.is_int32(kind) else micros


class Comparison:
    def __init__(self):
        self.leaves = self.nulls = self.rows = 0

    def same(self, avro, arrow, kind, path):
        if avro is None or arrow is None:
            assert avro is None and arrow is None, f"{path}: {avro!r} is not {arrow!r}"
            self.nulls += 1
        elif pa.types.is_struct(kind):
            names = [field.name for field in kind]
            assert list(avro) == names, f"{path}: {list(avro)} is not {names}"
            for field in kind:
                self.same(avro[field.name], arrow[field.name], field.type, f"{path}.{field.name}")
        elif pa.types.is_list(kind):
            assert len(avro) == len(arrow), f"{path}: {len(avro)} items are not {len(arrow)}"
            for index, (a, b) in enumerate(zip(avro, arrow)):
                self.same(a, b, kind.value_type, f"{path}[{index}]")
        elif pa.types.is_map(kind):
            arrow = dict(arrow)
            assert avro.keys() == arrow.keys(), f"{path}: {avro.keys()} are not {arrow.keys()}"
            for key in avro:
                self.same(avro[key], arrow[key], kind.item_type, f"{path}[{key!r}]")
        else:
            self.leaves += 1
            if isinstance(avro, datetime.time):
                avro = time_number(avro, kind)
            if isinstance(avro, uuid.UUID):
                avro = str(avro)
            both_nan = isinstance(avro, float) and math.isnan(avro) and math.isnan(arrow)
            same_type = type(avro) is type(arrow) or isinstance(avro, (datetime.datetime, decimal.Decimal))
            assert both_nan or (same_type and avro == arrow), f"{path}: {avro!r} is not {arrow!r}"

    def files(self, avro, arrow, schema):
        table = pa.ipc.open_file(arrow).read_all()
        with open(avro, "rb") as file:
            if schema:
                parsed = fastavro.schema.load_schema(schema)
                records = [fastavro.schemaless_reader(file, parsed)]
                assert file.read() == b""
            else:
                records = list(fastavro.reader(file))
        assert len(records) == table.num_rows, f"{avro}: {len(records)} records are not {table.num_rows}"
        kind = pa.struct(list(table.schema))
        for index, (a, b) in enumerate(zip(records, table.to_pylist(maps_as_pydicts=None))):
            self.same(a, b, kind, f"{avro}[{index}]")
            self.rows += 1


comparison = Comparison()
for line in open(sys.argv[1], encoding="utf-8"):
    comparison.files(*line.rstrip("\n").split("\t"))
print(f"{comparison.rows} rows equal, {comparison.leaves} leaves, {comparison.nulls} nulls")
