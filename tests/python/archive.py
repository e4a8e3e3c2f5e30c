"""An archive as its readers see it: the tables, and what the ledger says of them."""

import json
import os
import re
from pathlib import Path

KEY = ["source", "incarnation", "topic", "partition", "offset", "record"]


def tables(archive):
    """The names of an archive's Delta tables."""
    return sorted(p.name for p in Path(archive).iterdir() if (p / "_delta_log").is_dir())


def alert_tables(archive):
    return [t for t in tables(archive) if t == "alerts" or t.startswith("alerts_")]


def columns(schema):
    """Our columns by the name that they have without the suffix that they take where the survey has the same name."""
    names = {n.lower(): n for n in schema}
    return {ours: names.get(ours + "_fink", names.get(ours)) for ours in KEY}


class Ledger:
    """The entries of `<archive>/_fink`, read as they come, and what they add up to after each.

    It starts from the oldest snapshot that is still there, so every version of a table that is younger can be judged.
    """

    def __init__(self, archive):
        self.folder = Path(archive) / "_fink"
        # After entry n: rows of each table by its files, and rows of all alert tables by what is covered.
        self.by_files = {-1: {}}
        self.by_coverage = {-1: 0}
        self.last_touch = {}
        self.next = 0
        snapshots = sorted(self._numbered("snapshots"))
        if snapshots and not (self._entry_path(0)).exists():
            self._start(snapshots[0][1])

    def _numbered(self, kind):
        folder = self.folder / kind
        for path in folder.iterdir() if folder.is_dir() else []:
            number = re.match(r"^(\d+)\.json$", path.name)
            if number:
                yield int(number[1]), path

    def _entry_path(self, number):
        for path in (self.folder / "entries" / f"{number:020}.json", self.folder / "entries" / f"{number}.json"):
            if path.exists():
                return path
        return self.folder / "entries" / f"{number:020}.json"

    def _start(self, path):
        state = json.loads(path.read_text())
        state = state.get("state", state)
        self.next = state["next"]
        self.by_files = {self.next - 1: {t: s["rows"] for t, s in state["tables"].items()}}
        self.by_coverage = {self.next - 1: sum(log["tally"]["rows"] for _, log in state["logs"])}
        self.last_touch = {t: [s["last"]] for t, s in state["tables"].items()}
        for table in self.last_touch:
            self.by_files[self.last_touch[table][0]] = self.by_files[self.next - 1]
            self.by_coverage[self.last_touch[table][0]] = self.by_coverage[self.next - 1]

    def read_to(self, number):
        """Reads the entries up to `number`; False where one is not there."""
        while self.next <= number:
            try:
                entry = json.loads(self._entry_path(self.next).read_text())
            except (FileNotFoundError, json.JSONDecodeError):
                return False
            files = dict(self.by_files[self.next - 1])
            for change in entry.get("tables", []):
                name = change["table"]
                files[name] = files.get(name, 0) + sum(f["rows"] for f in change.get("adds", []))
                files[name] -= sum(f["rows"] for f in change.get("removes", []))
                self.last_touch.setdefault(name, []).append(self.next)
            self.by_files[self.next] = files
            covered = sum(tally["rows"] for _, tally in entry.get("tallies", []))
            self.by_coverage[self.next] = self.by_coverage[self.next - 1] + covered
            self.next += 1
        return True

    def rows_of(self, table, entry):
        """The rows that a table must have once `entry` is applied to it."""
        return self.by_files[entry].get(table, 0)


def local(where):
    return where[len("file://"):] if where.startswith("file://") else os.path.expanduser(where)
