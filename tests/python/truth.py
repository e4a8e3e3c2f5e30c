"""Joins the tables of an archive with the truth that the simulator wrote, by pandas: on topic, partition and offset.

    truth.py ARCHIVE TRUTH

Each archived row must find one row of the truth, which names the alert and the object that the row holds; each row of the truth
one of the archive's, or of its rejects where its bytes were harmed. Prints one line of JSON; exit code 1 when anything is wrong.
"""

import json
import sys

import deltalake
import pandas as pd

from archive import alert_tables, columns, tables

KEY = ["topic", "partition", "offset"]


def read(archive, table, more):
    """Places of a table's rows, and the columns or leaves that `more` names."""
    delta = deltalake.DeltaTable(f"{archive}/{table}")
    names = columns([f.name for f in delta.schema().fields])
    fields = {f.name for f in delta.schema().fields}
    wanted = [top for top in dict.fromkeys(path.split(".")[0] for path in more) if top in fields]
    arrow = delta.to_pyarrow_table(columns=[names[k] for k in KEY] + wanted)
    frame = arrow.select([names[k] for k in KEY]).to_pandas().set_axis(KEY, axis=1)
    for path in more:
        top, *rest = path.split(".")
        if top in fields:
            values = arrow.column(top).to_pylist()
            for leaf in rest:
                values = [None if value is None else value[leaf] for value in values]
            frame[path] = pd.Series(values, dtype=object)
    return frame


archive, truth = sys.argv[1:]
truth = pd.read_parquet(truth)
paths = ["candid", "objectId", "diaSourceId", "diaObject.diaObjectId", "ssSource.ssObjectId"]
alerts = pd.concat([read(archive, t, paths) for t in alert_tables(archive)], ignore_index=True)
rejects = pd.concat([read(archive, t, []) for t in tables(archive) if t == "rejects"] or [truth.head(0)[KEY]], ignore_index=True)

joined = alerts.merge(truth, on=KEY, how="left", validate="one_to_one", indicator=True)
unmatched = int((joined["_merge"] != "both").sum())
found = joined[joined["_merge"] == "both"]
if "candid" in found:
    wrong = int((found["candid"].astype("int64") != found["alert_id"]).sum() + (found["objectId"] != found["object"]).sum())
else:
    objects = found["diaObject.diaObjectId"].where(found["diaObject.diaObjectId"].notna(), found["ssSource.ssObjectId"])
    wrong = int((found["diaSourceId"].astype("int64") != found["alert_id"]).sum() + (objects.astype(str) != found["object"]).sum())
back = truth.merge(pd.concat([alerts[KEY], rejects[KEY]]), on=KEY, how="left", validate="one_to_one", indicator=True)
missing = int((back["_merge"] != "both").sum())
harmed = set(map(tuple, truth.loc[truth["harm"] != "", KEY].itertuples(index=False)))
innocent = sum(tuple(row) not in harmed for row in rejects[KEY].itertuples(index=False))
verdict = dict(rows=len(alerts), rejects=len(rejects), unmatched=unmatched, wrong=wrong, missing=missing, innocent=innocent)
print(json.dumps(verdict))
sys.exit(bool(unmatched or wrong or missing or innocent))
