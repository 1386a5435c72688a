"""Tests for scans of all texts, for engines with the part ``TextScanner``."""

from __future__ import annotations

from datetime import timedelta

from dbctl.engines.contract.fulltext import CHARACTERS_AFTER, CHARACTERS_BEFORE

TIMEOUT = timedelta(seconds=20)


def open_scanner(fresh):
    db = fresh.reader()
    scanner = db.text_scanner
    assert scanner is not None
    return scanner


class TextScanContract:
    """Tests for classes with the fixture ``fresh``."""

    def test_match_includes_surrounding_text(self, fresh):
        fresh.execute("create table t (id integer primary key, a varchar(900), b text, n integer)")
        long_text = "é" * 300 + " The NEEDLE! " + "ü" * 300
        fresh.execute(
            f"insert into t values (1, 'no', 'neither', 7), (2, 'a needle', null, 7), (3, '{long_text}', 'Needles', 7)"
        )
        db = open_scanner(fresh)
        assert set(db.text_columns("t")) == {"a", "b"}
        excerpts = {
            match.key: match.excerpts
            for match in db.scan_text("t", ["a", "b"], "nEEdle", limit=9, timeout=TIMEOUT) or ()
        }
        assert set(excerpts) == {(2,), (3,)}
        assert excerpts[(2,)] == {"a": "a needle"}
        assert excerpts[(3,)]["b"] == "Needles"
        excerpt = excerpts[(3,)]["a"]
        assert "NEEDLE" in excerpt
        assert len(excerpt) <= CHARACTERS_BEFORE + CHARACTERS_AFTER + len("needle")
        assert excerpt.startswith("é")
        assert excerpt.endswith("ü")

    def test_word_is_literal_and_limit_applies(self, fresh):
        fresh.execute("create table t (a varchar(90), b varchar(90))")
        fresh.execute("insert into t values ('100% _x', 'a'), ('1000 yx', 'it''s'), ('100% _x', '!')")
        db = open_scanner(fresh)

        def count_matches(word):
            return len(db.scan_text("t", db.text_columns("t"), word, limit=9, timeout=TIMEOUT) or ())

        assert [count_matches(word) for word in ("100% _", "%", "_x", "'", "!", 'a"b', "\\")] == [
            2,
            2,
            2,
            1,
            1,
            0,
            0,
        ]
        (match,) = db.scan_text("t", ["a"], "100%", limit=1, timeout=TIMEOUT) or ()
        assert tuple(match.key) == ()

    def test_scan_returns_none_on_timeout(self, fresh):
        fresh.execute("create table t (id integer primary key, a text)")
        fresh.execute(f"insert into t values (1, '{'x' * 1000}')")
        for exponent in range(13):
            fresh.execute(f"insert into t select id + {1 << exponent}, a from t")
        db = open_scanner(fresh)
        assert db.scan_text("t", ["a"], "y", limit=9, timeout=timedelta(milliseconds=1)) is None
        assert db.scan_text("t", ["a"], "y", limit=9, timeout=TIMEOUT) == []
