"""Reads alerts of ours by the survey's own schema: what is not null for us must not be null for the survey's reader, and equal.

resolve.py FOLDER ztf|lsst SCHEMA: FOLDER has our schema and the alerts as bare datums. Prints how many there were; 77: no fastavro.
"""
import io, json, pathlib, sys
try:
    import fastavro
    from fastavro.schema import load_schema, load_schema_ordered, parse_schema
except ImportError as error:
    print(error)
    sys.exit(77)
folder, survey, path = sys.argv[1:4]
files = ["candidate", "prv_candidate", "fp_hist", "cutout", "alert"]
parts = [str(pathlib.Path(path).parent / (file + ".avsc")) for file in files]
theirs = load_schema_ordered(parts) if survey == "ztf" else load_schema(path)
ours = parse_schema(json.loads(pathlib.Path(folder, survey + ".avsc").read_text()))

def compare(where, told, read):
    if isinstance(told, dict):
        missing = set(told) - set(read)
        assert not missing, (where, missing)
        for name, value in told.items():
            compare(where + "." + name, value, read[name])
    elif isinstance(told, list):
        assert len(told) == len(read), where
        for index, value in enumerate(told):
            compare(where + "[]", value, read[index])
    else:
        assert told == read or (told != told and read != read), (where, told, read)

seen = 0
for file in sorted(pathlib.Path(folder).glob(survey + "-*.datum")):
    data = file.read_bytes()
    told = fastavro.schemaless_reader(io.BytesIO(data), ours)
    read = fastavro.schemaless_reader(io.BytesIO(data), ours, theirs)
    compare("alert", told, read)
    # And back: what their schema writes of it, ours reads.
    out = io.BytesIO()
    fastavro.schemaless_writer(out, theirs, read)
    assert fastavro.schemaless_reader(io.BytesIO(out.getvalue()), theirs) == read
    seen += 1
print(seen)
