"""Exact values in the form in which JSON keeps them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbctl.config.sections import Selection
from dbctl.engines.sql import codec
from dbctl.errors.usage import ValueInvalidError
from tests.databases import empty_database

#: Declared types of integers with their least and greatest values.
INTEGERS = {
    "postgresql": {
        "smallint": (-(2**15), 2**15 - 1),
        "integer": (-(2**31), 2**31 - 1),
        "bigint": (-(2**63), 2**63 - 1),
    },
    "mysql": {
        "tinyint": (-128, 127),
        "smallint unsigned": (0, 2**16 - 1),
        "smallint": (-(2**15), 2**15 - 1),
        "mediumint": (-(2**23), 2**23 - 1),
        "mediumint unsigned": (0, 2**24 - 1),
        "int": (-(2**31), 2**31 - 1),
        "bigint": (-(2**63), 2**63 - 1),
        "bigint unsigned": (0, 2**64 - 1),
        "bit(5)": (0, 31),
        "bit": (0, 1),
    },
}


def test_texts_of_every_language_are_stored_as_they_are() -> None:
    for text in ("", "a", "\0", "\u00e9", "\u4e2d", "\U0001f600"):
        assert codec.to_json(text) == text
    (stored,) = codec.to_json("caf\udce9").items()  # a byte that is not UTF-8
    assert codec.from_json(dict([stored])) == "caf\udce9"
    assert b"\\ud" not in codec.encode_rows(["name"], [["caf\udce9"]])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"other": "YQ=="}, "other"),
        ({}, "^$"),
        ({codec.BYTES: "YQ==", "more": 1}, "b64"),
        ({codec.BYTES: "?"}, "base64"),
        ([], r"\[\]"),
        (["a"], r"\[\]"),
    ],
)
def test_object_of_another_form_is_refused(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        codec.from_json(value)


def test_bytes_are_restored() -> None:
    assert codec.from_json(codec.to_json(b"\0\xff")) == b"\0\xff"


@pytest.mark.parametrize("engine", INTEGERS)
def test_integers_outside_of_their_type_are_refused(engine: str, tmp_path: Path) -> None:
    from dbctl.services.app.session import open_app

    types = INTEGERS[engine]
    with empty_database(engine, tmp_path / "app.db") as database:
        columns = ", ".join(f"c{number} {declared}" for number, declared in enumerate(types))
        database.run(f"create table t (id integer primary key, {columns})")
        with open_app(Selection(urls=[f"main={database.url}"]), timeout=5) as app:
            values = app.reader("main").codec
            assert values
            for number, (least, greatest) in enumerate(types.values()):
                parse = values.text_parser("t", f"c{number}")
                assert [int(str(parse(str(value)))) for value in (least, greatest)] == [least, greatest]
                for outside in (least - 1, greatest + 1):
                    with pytest.raises(
                        ValueInvalidError, match=f"{least:,} to {greatest:,}|{least} to {greatest}"
                    ):
                        parse(str(outside))
                for text in ("1.5", "one", "", "NaN"):
                    with pytest.raises(ValueInvalidError):
                        parse(text)


@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql"])
def test_numbers_are_checked(engine: str, tmp_path: Path) -> None:
    from dbctl.services.app.session import open_app

    with empty_database(engine, tmp_path / "app.db") as database:
        database.run("create table t (id integer primary key, d decimal(9, 2), f double precision)")
        with open_app(Selection(urls=[f"main={database.url}"]), timeout=5) as app:
            values = app.reader("main").codec
            assert values
            for column in ("d", "f"):
                parse = values.text_parser("t", column)
                assert [float(str(parse(text))) for text in ("1.25", "-7", "1e3")] == [1.25, -7, 1000]
                if engine == "postgresql":
                    assert str(parse("NaN")) == "NaN"
                for text in ("one", *(("NaN", "Infinity") if engine == "mysql" else ())):
                    with pytest.raises(ValueInvalidError, match="number"):
                        parse(text)
