"""Values survive a transfer, as the databases themselves show them, without dbctl: of every type to the same engine, of equal types to another one."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import permutations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest
from hypothesis import strategies as st

from tests import servers
from tests.conformance import values
from tests.conformance.value_table import ValueTable, draw, draw_examples, list_differences, list_kinds
from tests.databases import empty_database
from tests.extensions.transfer.test_json import run_sql


@pytest.mark.parametrize("engine", values.KINDS)
def test_transfer_to_the_same_engine_keeps_every_value(answer, tmp_path, engine):
    def check(rows):
        with empty_pair(tmp_path, engine, engine) as (database, copy):
            source = ValueTable(database)
            source.fill(rows)
            before = source.read()
            transfer(answer, source.database, copy)
            assert list_differences(ValueTable(copy, create=False).read(), before) == []
            assert source.read() == before

    draw(list_kinds(engine), check)


@contextmanager
def empty_pair(folder, first, second):
    with (
        TemporaryDirectory(dir=folder) as place,
        empty_database(first, Path(place, "source.db")) as source,
        empty_database(second, Path(place, "copy.db")) as copy,
    ):
        yield source, copy


def transfer(answer, source, copy):
    words = ("--url", f"main={source.url}", "transfer")
    answer(*words, "run", "--to", copy.url)
    answer(*words, "verify", "--to", copy.url)


class SharedKind(NamedTuple):
    """A column that several engines have: for each, its type, SQL of a value, and SQL that reads it."""

    values: st.SearchStrategy[str]
    engines: dict[str, tuple[str, str, str]]


#: The lines of rows escape some of them.
CONTROLS = "\\bfvtnr\b\f\v\t\n\r"
NUMBER = ("{}", "trim(cast({} as char(60)))")
#: MySQL shows zeros before the digits.
SHOWN = ("{}", "trim(cast({} + 0 as char(60)))")
TIME = ("'{}'", "trim(cast({} as char(60)))")
SHARED = {
    "exact": SharedKind(
        values.decimals(36, 18),
        {"postgresql": ("numeric(36,18)", *NUMBER), "mysql": ("decimal(36,18)", *NUMBER)},
    ),
    "whole": SharedKind(
        st.integers(-(1 << 63), (1 << 63) - 1).map(str),
        {
            "postgresql": ("bigint", "'{}'", "cast({} as text)"),
            "mysql": ("bigint", *NUMBER),
            "sqlite": ("integer", "cast('{}' as integer)", "cast({} as text)"),
        },
    ),
    "filled": SharedKind(
        st.integers(0, 99_999).map(str),
        {
            "postgresql": ("integer", *NUMBER),
            "mysql": ("int(5) zerofill", *SHOWN),
            "sqlite": ("integer", *NUMBER),
        },
    ),
    "filled_exact": SharedKind(
        st.sampled_from(["0.000", "1.500", "1234567.125"]),
        {"postgresql": ("numeric(36,3)", *NUMBER), "mysql": ("decimal(36,3) zerofill", *SHOWN)},
    ),
    "filled_wide": SharedKind(
        st.sampled_from(["0.5", "1.25"]),
        {"postgresql": ("real", *NUMBER), "mysql": ("float zerofill", *SHOWN)},
    ),
    "age": SharedKind(
        st.sampled_from(["0", "1901", "2155"]),
        {"postgresql": ("smallint", *NUMBER), "mysql": ("year", *SHOWN), "sqlite": ("smallint", *NUMBER)},
    ),
    "wide": SharedKind(
        st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False).map(lambda n: f"{n:.17e}"),
        {engine: (declared, "{}", "{}") for engine, declared in (("mysql", "double"), ("sqlite", "real"))}
        | {"postgresql": ("float8", "'{}'", "{}")},
    ),
    "words": SharedKind(
        (values.texts() | st.text(CONTROLS)).map(lambda text: text.encode().hex()),
        {
            "postgresql": (
                "text",
                "convert_from(decode('{}', 'hex'), 'UTF8')",
                "encode(convert_to({}, 'UTF8'), 'hex')",
            ),
            "mysql": ("longtext character set utf8mb4", "_utf8mb4 x'{}'", "lower(hex({}))"),
            "sqlite": ("text", "cast(x'{}' as text)", "lower(hex({}))"),
        },
    ),
    "raw": SharedKind(
        st.binary(max_size=20).map(bytes.hex),
        {
            "postgresql": ("bytea", "decode('{}', 'hex')", "encode({}, 'hex')"),
            "mysql": ("longblob", "x'{}'", "lower(hex({}))"),
            "sqlite": ("blob", "x'{}'", "lower(hex({}))"),
        },
    ),
    "day": SharedKind(
        st.dates().map(lambda day: f"{day:%Y-%m-%d}".rjust(10, "0")),
        dict.fromkeys(("postgresql", "mysql"), ("date", *TIME)),
    ),
    "moment": SharedKind(
        st.datetimes().map(lambda time: time.isoformat(" ", "microseconds")),
        {
            "postgresql": ("timestamp", "'{}'", "to_char({}, 'YYYY-MM-DD HH24:MI:SS.US')"),
            "mysql": ("datetime(6)", *TIME),
        },
    ),
    "code": SharedKind(st.uuids(version=4).map(str), dict.fromkeys(("postgresql", "mysql"), ("uuid", *TIME))),
}


@pytest.mark.slow
@pytest.mark.parametrize(("first", "second"), [*permutations(values.KINDS, 2)])
def test_transfer_to_another_engine_keeps_values_of_equal_types(answer, tmp_path, first, second):
    kinds = {name: kind for name, kind in SHARED.items() if {first, second} <= kind.engines.keys()}
    if "mysql" in (first, second) and not servers.mysql_server().is_mariadb:
        kinds.pop("code", None)  # MySQL has no type of UUIDs

    def read(database):
        columns = ", ".join(kind.engines[database.engine][2].format(name) for name, kind in kinds.items())
        return [tuple(map(str, row)) for row in database.rows(f"select {columns} from kinds order by n")]

    def check(rows):
        with empty_pair(tmp_path, first, second) as (source, copy):
            columns = ", ".join(f"{name} {kind.engines[first][0]}" for name, kind in kinds.items())
            source.run(f"create table kinds (n integer primary key, {columns})")
            for number, row in enumerate(rows):
                written = (
                    kind.engines[first][1].format(value)
                    for kind, value in zip(kinds.values(), row, strict=True)
                )
                source.run(f"insert into kinds values ({number}, {', '.join(written)})")
            # the plan lists the sign of zero
            before = [tuple("0.0" if text == "-0.0" else text for text in row) for row in read(source)]
            transfer(answer, source, copy)
            assert list_differences(read(copy), before) == []

    draw_examples(
        st.lists(st.tuples(*(kind.values for kind in kinds.values())), min_size=20, max_size=20), check
    )


@pytest.mark.mariadb
@pytest.mark.parametrize("engine", ["postgresql", "sqlite"])
def test_plan_lists_uuids_that_mariadb_refuses(answer, tmp_path, engine):
    texts = [
        f"11111111-1111-{version}111-{variant}111-111111111111" for version in "0478f" for variant in "078bcf"
    ]
    with empty_pair(tmp_path, engine, "mysql") as (source, copy):
        refused = [text for text in texts if copy.rows(f"select cast('{text}' as uuid) is null") == [(1,)]]
        source.run(
            "create table item (id uuid primary key)",
            *(f"insert into item values ('{text}')" for text in texts),
        )
        words = ("--url", f"main={source.url}", "transfer")
        (problem,) = answer(*words, "plan", "--to", copy.url, status=4)["data"]["problems"]
        assert (problem["column"], problem["rows"], len(refused) > 0) == ("id", len(refused), True)
        source.run(*(f"delete from item where id = '{text}'" for text in refused))
        transfer(answer, source, copy)


@pytest.mark.parametrize("engine", ["sqlite", "mysql"])
@pytest.mark.parametrize("declared", ["double precision", "real"])
def test_plan_lists_the_sign_of_zero(answer, tmp_path, engine, declared):
    with empty_pair(tmp_path, "postgresql", engine) as (source, copy):
        source.run(
            f"create table item (id integer primary key, ratio {declared})",
            "insert into item values (1, '-0'), (2, 0), (3, -1.5), (4, null)",
        )
        words = ("--url", f"main={source.url}", "transfer")
        (change,) = answer(*words, "plan", "--to", copy.url)["data"]["changes"]
        assert (change["column"], change["rows"], change["change"]) == (
            "ratio",
            1,
            "the sign of zero is removed",
        )
        transfer(answer, source, copy)
        rows = copy.rows("select id, ratio from item order by id")
        assert list(map(tuple, rows)) == [(1, 0.0), (2, 0.0), (3, -1.5), (4, None)]


@pytest.mark.parametrize("engine", ["sqlite", "mysql"])
def test_addresses_have_the_text_that_the_server_prints(answer, databases, tmp_path, engine):
    source, destination = databases("postgresql", tmp_path), databases(engine, tmp_path)
    run_sql(
        source,
        "create domain address as inet",
        "create table login (id int primary key, ip inet unique, origin address, net cidr)",
        "insert into login values (1, '192.168.1.5', '2001:db8::1', '10.1.2.3'), (2, '10.0.0.1/8', null, '10.0.0.0/8')",
    )
    answer("--url", f"main={source}", "transfer", "run", "--to", destination)
    assert run_sql(destination, "select ip, origin, net from login order by id") == [
        ("192.168.1.5", "2001:db8::1", "10.1.2.3/32"),
        ("10.0.0.1/8", None, "10.0.0.0/8"),
    ]
    answer("data", "diff", source, destination, "--table", "login", "--check")
