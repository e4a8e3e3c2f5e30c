"""What the tables of answers say now, by the queries of docs/services.md, for several readers.

    tables.py ARCHIVE

Reads with pandas (through deltalake), with polars, and, where FINK_SPARK_JARS says how (see spark.sh), with Spark. Prints one line of
JSON: by reader the objects' alerts, the objects' current classes, and the alerts by kind of counter; exit code 1 if the readers disagree.
"""

import json
import os
import sys

import polars as pl
from deltalake import DeltaTable

from archive import local

KEYS = {
    "objects": ["survey", "objectId"],
    "matches": ["survey", "objectId", "catalogue", "row"],
    "associations": ["survey", "objectId", "other_survey", "other_objectId"],
    "classes": ["survey", "objectId", "since_mjd_tai", "alert"],
}


def with_pandas(archive):
    def now(name):
        rows = DeltaTable(f"{archive}/services/{name}").to_pandas()
        return rows.sort_values(["epoch", "tick", "diff"]).drop_duplicates(KEYS[name], keep="last").query("diff > 0")

    counts = DeltaTable(f"{archive}/services/counts").to_pandas().groupby("kind")["diff"].sum()
    classes = now("classes").query("current")
    objects = now("objects")
    return told(zip(objects.objectId, objects.alerts), zip(classes.objectId, classes["class"]), counts.items())


def with_polars(archive):
    def now(name):
        rows = pl.scan_delta(f"{archive}/services/{name}").sort("epoch", "tick", "diff")
        return rows.unique(KEYS[name], keep="last", maintain_order=True).filter(pl.col("diff") > 0)

    objects = now("objects").select("objectId", "alerts").collect()
    classes = now("classes").filter("current").select("objectId", "class").collect()
    counts = pl.scan_delta(f"{archive}/services/counts").group_by("kind").agg(pl.col("diff").sum()).collect()
    return told(objects.iter_rows(), classes.iter_rows(), counts.iter_rows())


def with_spark(archive):
    from readers import spark

    session = spark()

    def now(name):
        session.read.format("delta").load(f"{archive}/services/{name}").createOrReplaceTempView(name)
        last = f"row_number() over (partition by {', '.join(KEYS[name])} order by epoch desc, tick desc, diff desc)"
        return session.sql(f"select * from (select *, {last} as n from {name}) where n = 1 and diff > 0")

    objects = now("objects").select("objectId", "alerts").collect()
    classes = now("classes").where("current").select("objectId", "class").collect()
    session.read.format("delta").load(f"{archive}/services/counts").createOrReplaceTempView("counts")
    counts = session.sql("select kind, sum(diff) from counts group by kind").collect()
    return told(objects, classes, counts)


def told(objects, classes, counts):
    return {
        "objects": {name: int(alerts) for name, alerts in objects},
        "classes": {name: of for name, of in classes},
        "counts": {kind: int(alerts) for kind, alerts in counts},
    }


def main():
    archive = local(sys.argv[1])
    said = {"pandas": with_pandas(archive), "polars": with_polars(archive)}
    if os.environ.get("FINK_SPARK_JARS"):
        said["spark"] = with_spark(archive)
    print(json.dumps(said))
    sys.stdout.flush()
    # The readers' native threads may abort an interpreter that winds down; all has been said by now.
    os._exit(0 if all(s == said["pandas"] for s in said.values()) else 1)


if __name__ == "__main__":
    main()
