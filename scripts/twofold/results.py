# SPDX-License-Identifier: BSD-2-Clause
"""Reads what runs leave in out/: a .jsonl file, one JSON object a line, checked for what the reader relies on."""

import json
from numbers import Real


class ResultError(Exception):
    """A file is not what it should be; the text names file and line."""


TEXT = (str, "a text")
NUMBER = (Real, "a number")
COUNT = (int, "a whole number")
# field: (type, whether it may be null or missing)
BENCH = {"bench": (TEXT, False), "phase": (TEXT, False), "paging": (TEXT, False), "ept_page": (TEXT, True),
         "ops": (COUNT, False), "ticks": (COUNT, False), "exits": (COUNT, False), "touches": (COUNT, True),
         "walk_refs": (NUMBER, True), "walk_refs_mean": (NUMBER, True), "walk_refs_derived": (NUMBER, True),
         "size": (NUMBER, True), "machine": (TEXT, True)}
TRACE = {"vm": (TEXT, False), "time": (COUNT, False), "event": (TEXT, False), "value": (COUNT, True),
         "detail": (COUNT, True), "va": (COUNT, True), "level": (COUNT, True), "root": (COUNT, True)}
WALKSIM = {"trace": (TEXT, False), "technique": (TEXT, False)}


def _check(record, fields, where):
    if not isinstance(record, dict):
        raise ResultError(f"{where}: not a JSON object")
    for name, ((kind, title), optional) in fields.items():
        value = record.get(name)
        if value is None and optional:
            continue
        if value is None:
            raise ResultError(f"{where}: {name} is missing")
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ResultError(f"{where}: {name} is {json.dumps(value)}, not {title}")


def read(path, fields):
    """The records of the file, or None when there is no such file."""
    if not path.exists():
        return None
    records = []
    with open(path, "rb") as f:
        for number, line in enumerate(f, 1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                record = json.loads(line.decode("utf-8"))
            except UnicodeDecodeError:
                raise ResultError(f"{where}: not UTF-8") from None
            except json.JSONDecodeError as error:
                raise ResultError(f"{where}: not JSON: {error.msg}, column {error.colno}") from None
            _check(record, fields, where)
            records.append(record)
    return records


def read_bench(path):
    records = read(path, BENCH)
    for record in records or []:
        for name in ("ops", "ticks", "exits"):
            if record[name] < (name == "ops"):
                raise ResultError(f"{path}: {record['bench']}: {name} is {record[name]}")
    return records


def read_trace(path):
    records = read(path, TRACE)
    for record in records or []:
        if record["event"] == "root" and record.get("detail") not in (0, 1, 2):
            raise ResultError(f"{path}: a root event of {record['vm']} whose detail is {record.get('detail')}, "
                              "not 0, 1 or 2")
        if record.get("va") is not None and (record.get("level") is None or record.get("root") is None):
            raise ResultError(f"{path}: an event of {record['vm']} with va but without level or root")
    return records
