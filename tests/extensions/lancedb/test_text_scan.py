"""LanceDB: the scan of all text columns for a word, within a time limit."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import lancedb
import pyarrow as pa
import pytest

from dbctl.engines.contract.fulltext import CHARACTERS_AFTER, CHARACTERS_BEFORE
from tests.engines import lance
from tests.engines.lance import TABLE
from tests.extensions.lancedb import opening

TIMEOUT = timedelta(seconds=20)


@pytest.mark.parametrize("deployed", [True, False], ids=["deployed", "document"])
def test_word_is_found_in_every_text_with_context(tmp_path, deployed):
    table = lance.create_table(tmp_path, range(30), deployed=deployed)
    table.add(
        [
            {
                **lance.create_row(77, deployed=deployed),
                "content": "é" * 300 + " A NEEDLE% " + "ü" * 300,
                "role": None,
            }
        ]
    )
    db = opening.open_reader(tmp_path).text_scanner
    assert {"content", "role", "metadata"} < set(db.text_columns(TABLE))
    (match,) = db.scan_text(TABLE, db.text_columns(TABLE), "needle%", limit=9, timeout=TIMEOUT) or ()
    assert tuple(match.key) == ("msg-00077",)
    assert set(match.excerpts) == {"content"}
    assert "NEEDLE%" in match.excerpts["content"]
    assert len(match.excerpts["content"]) <= CHARACTERS_BEFORE + CHARACTERS_AFTER + len("needle%")
    assert db.scan_text(TABLE, db.text_columns(TABLE), "n.edle", limit=9, timeout=TIMEOUT) == []
    assert db.scan_text(TABLE, ["content"], "É A", limit=9, timeout=TIMEOUT) == []
    assert len(db.scan_text(TABLE, ["content"], "IT'S TEXT", limit=7, timeout=TIMEOUT) or ()) == 7
    assert len(db.scan_text(TABLE, ["content"], "it's text", limit=99, timeout=TIMEOUT) or ()) == 30


def test_scan_stops_after_timeout(tmp_path):
    lance.create_table(tmp_path, range(50))
    assert (
        opening.open_reader(tmp_path).text_scanner.scan_text(
            TABLE, ["content"], "x y", limit=9, timeout=timedelta(0)
        )
        is None
    )


NESTED = {
    "texts": (pa.list_(pa.string()), [None, "b", 'say "Old"']),
    "object": (pa.struct([("a b", pa.string()), ("old", pa.int8())]), {"a b": 'say "Old"', "old": 1}),
    "objects in it": (
        pa.struct([("x", pa.struct([("y", pa.list_(pa.string()))])), ("t", pa.timestamp("ns"))]),
        {"x": {"y": ['say "Old"']}, "t": 1},
    ),
}


@pytest.mark.parametrize("name", NESTED)
def test_word_is_found_in_lists_and_objects(name, answer, tmp_path, monkeypatch):
    """Nothing was found, and the replacement of a text reported none that remains."""
    monkeypatch.chdir(tmp_path)
    Path("dbctl.toml").write_text('[apps.a]\nprofile = "plain"\ndatabases = "lancedb:lance"\n')
    arrow_type, value = NESTED[name]
    key = pa.field("id", pa.int64(), nullable=False, metadata={"lance-schema:unenforced-primary-key": "true"})
    schema = pa.schema([key, pa.field("value", arrow_type)])
    rows = pa.table([[1, 2, 3], pa.array([None, value, None], arrow_type)], schema=schema)
    lancedb.connect("lance").create_table("kinds", rows)
    (match,) = answer("search", "all", 'y "old"')["data"]["items"]
    assert (match["column"], match["key"], match["snippet"]) == ("value", [2], 'say "Old"')
    plan = answer("data", "replace", "Old", "New", "--dry-run")["data"]["plan"]
    assert (len(plan["steps"]), plan["rows"]) == (1, {})
    assert "1 row of kinds.value" in plan["steps"][0]
    assert lancedb.connect("lance").open_table("kinds").to_arrow() == rows
