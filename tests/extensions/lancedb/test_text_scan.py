"""LanceDB: the scan of all text columns for a word, within a time limit."""

from __future__ import annotations

from datetime import timedelta

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
    assert {"content", "role"} < set(db.text_columns(TABLE))
    assert ("metadata" in db.text_columns(TABLE)) == deployed  # an object in the documented variant
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
