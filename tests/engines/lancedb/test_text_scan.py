"""LanceDB finds a word in every text, with what stands around it, and keeps the time."""

from __future__ import annotations

from datetime import timedelta

import pytest

from dbctl.engines.contract.text_scan import BEFORE, BEHIND
from tests.engines import lance
from tests.engines.lance import TABLE

LONG = timedelta(seconds=20)


@pytest.mark.parametrize("deployed", [True, False], ids=["deployed", "document"])
def test_a_word_is_found_in_every_text_with_what_stands_around_it(tmp_path, deployed):
    table = lance.made(tmp_path, range(30), deployed=deployed)
    table.add(
        [{**lance.row(77, deployed=deployed), "content": "é" * 300 + " A NEEDLE% " + "ü" * 300, "role": None}]
    )
    db = lance.reader(tmp_path)
    assert {"content", "role"} < set(db.texts(TABLE))
    assert ("metadata" in db.texts(TABLE)) == deployed  # the document has it as an object
    (hit,) = db.hits(TABLE, db.texts(TABLE), "needle%", limit=9, within=LONG) or ()
    assert tuple(hit.key) == ("msg-00077",)
    assert set(hit.pieces) == {"content"}
    assert "NEEDLE%" in hit.pieces["content"]
    assert len(hit.pieces["content"]) <= BEFORE + BEHIND + len("needle%")
    assert db.hits(TABLE, db.texts(TABLE), "n.edle", limit=9, within=LONG) == []
    assert db.hits(TABLE, ["content"], "É A", limit=9, within=LONG) == []
    assert len(db.hits(TABLE, ["content"], "IT'S TEXT", limit=7, within=LONG) or ()) == 7
    assert len(db.hits(TABLE, ["content"], "it's text", limit=99, within=LONG) or ()) == 30


def test_what_takes_too_long_is_given_up(tmp_path):
    lance.made(tmp_path, range(50))
    assert lance.reader(tmp_path).hits(TABLE, ["content"], "x y", limit=9, within=timedelta(0)) is None
