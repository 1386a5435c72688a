"""Facts about looking through every text, for engines that can (``Capability.LOOK``)."""

from __future__ import annotations

from datetime import timedelta

from dbctl.engines.contract import Capability
from dbctl.engines.contract.text_scan import BEFORE, BEHIND, LooksThrough

WITHIN = timedelta(seconds=20)


def looking(fresh):
    db = fresh.reader()
    assert Capability.LOOK in db.capabilities
    assert isinstance(db, LooksThrough)
    return db


class LookingContract:
    """To be inherited beside a fixture ``fresh``."""

    def test_a_word_is_found_in_every_text_with_what_stands_around_it(self, fresh):
        fresh.execute("create table t (id integer primary key, a varchar(900), b text, n integer)")
        long = "é" * 300 + " The NEEDLE! " + "ü" * 300
        fresh.execute(
            f"insert into t values (1, 'no', 'neither', 7), (2, 'a needle', null, 7), (3, '{long}', 'Needles', 7)"
        )
        db = looking(fresh)
        assert set(db.texts("t")) == {"a", "b"}
        found = {
            one.key: one.pieces for one in db.hits("t", ["a", "b"], "nEEdle", limit=9, within=WITHIN) or ()
        }
        assert set(found) == {(2,), (3,)}
        assert found[(2,)] == {"a": "a needle"}
        assert found[(3,)]["b"] == "Needles"
        piece = found[(3,)]["a"]
        assert "NEEDLE" in piece
        assert len(piece) <= BEFORE + BEHIND + len("needle")
        assert piece.startswith("é")
        assert piece.endswith("ü")

    def test_a_word_is_taken_literally_and_no_more_rows_than_asked_for(self, fresh):
        fresh.execute("create table t (a varchar(90), b varchar(90))")
        fresh.execute("insert into t values ('100% _x', 'a'), ('1000 yx', 'it''s'), ('100% _x', '!')")
        db = looking(fresh)

        def number(word):
            return len(db.hits("t", db.texts("t"), word, limit=9, within=WITHIN) or ())

        assert [number(word) for word in ("100% _", "%", "_x", "'", "!", 'a"b', "\\")] == [
            2,
            2,
            2,
            1,
            1,
            0,
            0,
        ]
        (hit,) = db.hits("t", ["a"], "100%", limit=1, within=WITHIN) or ()
        assert tuple(hit.key) == ()

    def test_what_takes_too_long_is_given_up(self, fresh):
        fresh.execute("create table t (id integer primary key, a text)")
        fresh.execute(f"insert into t values (1, '{'x' * 1000}')")
        for at in range(13):
            fresh.execute(f"insert into t select id + {1 << at}, a from t")
        db = looking(fresh)
        assert db.hits("t", ["a"], "y", limit=9, within=timedelta(milliseconds=1)) is None
        assert db.hits("t", ["a"], "y", limit=9, within=WITHIN) == []
