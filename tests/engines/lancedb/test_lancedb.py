"""LanceDB keeps the contract as far as it can, on tables of both shapes, in folders and in storage."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import lancedb
import pyarrow as pa
import pytest

from dbctl.engines import registry
from dbctl.engines.contract import Condition
from dbctl.engines.contract.monitoring import Task
from dbctl.engines.contract.vectors import VectorIndexWanted
from dbctl.errors import (
    ConstraintError,
    DatabaseMissingError,
    DriverMissingError,
    HalfWrittenError,
    NotADatabaseError,
    NotSupportedError,
    StorageKeysMissingError,
    UnreachableError,
    UrlInvalidError,
    ValueInvalidError,
)
from dbctl.url import meant, parse
from tests import servers, storage
from tests.conformance.abilities import broken_promises
from tests.engines import lance
from tests.engines.lance import SIZE, TABLE

BOTH = pytest.mark.parametrize("deployed", [True, False], ids=["deployed", "document"])


def names(deployed: bool) -> tuple[str, str]:
    return ("message_id", "vector") if deployed else ("id", "embedding")


@BOTH
def test_a_table_is_told_as_arrow_tells_it(tmp_path, deployed):
    lance.made(tmp_path, deployed=deployed)
    told = lance.reader(tmp_path).tables()[TABLE].columns
    key, vector = names(deployed)
    assert [name for name, one in told.items() if one.key] == [key]
    assert (told[key].type, told["timestamp"].type) == ("STRING", "DOUBLE")
    assert told[vector].type == f"FIXED_SIZE_LIST<ITEM: FLOAT>[{SIZE}]"
    (column,) = lance.reader(tmp_path).vector_columns(TABLE)
    assert (column.column, column.dimension) == (vector, SIZE)


@BOTH
def test_rows_come_by_key_and_in_pages(tmp_path, deployed):
    lance.made(tmp_path, [5, 3, 9, 1], deployed=deployed)
    reader, (key, _) = lance.reader(tmp_path), names(deployed)
    assert reader.select(TABLE, [key]) == [(f"msg-{n:05}",) for n in (1, 3, 5, 9)]
    assert reader.select(TABLE, [key, "role"], limit=2, offset=1) == [
        ("msg-00003", "assistant"),
        ("msg-00005", "assistant"),
    ]
    assert reader.select(TABLE, ["metadata"], limit=1) == [
        ("{}" if deployed else '{"model": "gemini-2.5-flash", "language": "en"}',)
    ]


def test_a_quote_in_what_is_looked_for_is_text(tmp_path):
    lance.made(tmp_path)
    reader = lance.reader(tmp_path)
    assert reader.count(TABLE, [Condition("content", "=", "It's text 3")]) == 1
    assert reader.count(TABLE, [Condition("content", "=", "x' or '1' = '1")]) == 0
    assert reader.count(TABLE, [Condition("content", "same", "IT'S TEXT 3")]) == 1
    assert (
        reader.count(TABLE, [Condition("timestamp", "<", datetime(2023, 11, 14, 22, 13, 25, tzinfo=UTC))])
        == 5
    )
    assert reader.tally(TABLE, "role") == {"user": 10, "assistant": 10}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_root_writes_is_the_apps_and_as_open_as_its_folder(tmp_path):
    table = lance.made(tmp_path, range(300))
    folder = tmp_path / f"{TABLE}.lance"
    for one in (folder, *folder.rglob("*")):
        os.chown(one, 4711, 4712)
    secret, link = tmp_path / "of-root", folder / "data/second-name"
    secret.write_text("of root")
    link.hardlink_to(secret)
    writer, before = lance.writer(tmp_path), os.umask(0o077)
    try:
        with pytest.raises(RuntimeError, match="back again"), writer.transaction():
            writer.delete(TABLE, [Condition("role", "=", "user")])
            raise RuntimeError("back again")
        writer.make_vector_index(
            VectorIndexWanted(table=TABLE, column="vector", metric="cosine", kind="ivf-flat")
        )
        writer.maintain(Task(table=TABLE, statement="compact"))
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)
    table.checkout_latest()
    assert table.count_rows() == 300
    found = {path: path.stat() for path in folder.rglob("*") if path != link}
    assert {(one.st_uid, one.st_gid) for one in found.values()} == {(4711, 4712)}
    assert {one.st_mode & 0o777 for path, one in found.items() if path.is_file()} == {0o644}
    assert secret.stat().st_uid == 0


def test_text_that_is_kept_once_for_many_rows_is_text(tmp_path):
    kept = pa.dictionary(pa.int32(), pa.string())
    told = pa.schema(
        [one.with_type(kept) if one.name in {"message_id", "user_id"} else one for one in lance.schema()]
    )
    rows = pa.Table.from_pylist([lance.row(number) for number in range(20)], told)
    lancedb.connect(tmp_path).create_table(TABLE, rows)
    reader, writer = lance.reader(tmp_path), lance.writer(tmp_path)
    assert reader.tables()[TABLE].columns["user_id"].type == "STRING"
    mine = [Condition("user_id", "in", ["USER-1"])]
    assert reader.count(TABLE, mine) == 7
    assert reader.select(TABLE, ["message_id"], mine, limit=2) == [("msg-00001",), ("msg-00004",)]
    near = reader.nearest(TABLE, lance.vector(4), ["message_id"], column="vector", top=2, where=mine)
    assert near[0][0] == "msg-00004"
    (hit,) = reader.hits(TABLE, reader.texts(TABLE), "msg-00007", limit=5, within=timedelta(minutes=1))
    assert hit.key == ("msg-00007",)
    with writer.transaction():
        assert writer.update(TABLE, {"user_id": "other"}, mine) == 7
        assert writer.delete(TABLE, [Condition("user_id", "=", "other")]) == 7
    assert lance.reader(tmp_path).count(TABLE) == 13


def test_what_it_says_it_can_it_is(tmp_path):
    lance.made(tmp_path)
    assert broken_promises(lance.reader(tmp_path)) == []


def test_nothing_comes_into_being_by_looking(tmp_path):
    for open_ in (lance.reader, lance.writer):
        with pytest.raises(DatabaseMissingError):
            open_(tmp_path / "nosuch")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "notes.txt").write_text("no table")
    with pytest.raises(NotADatabaseError):
        lance.reader(tmp_path)
    (tmp_path / "half.lance").mkdir()
    assert lance.reader(tmp_path).tables() == {}


def test_a_reader_keeps_to_one_moment(tmp_path):
    table = lance.made(tmp_path)
    reader = lance.reader(tmp_path)
    assert reader.count(TABLE) == 20
    table.delete("role = 'user'")
    assert (reader.count(TABLE), len(reader.select(TABLE, ["role"]))) == (20, 20)
    assert lance.reader(tmp_path).count(TABLE) == 10


def test_rows_are_inserted_changed_and_deleted_one_version_each(tmp_path):
    lance.made(tmp_path)
    writer = lance.writer(tmp_path)
    with writer.transaction():
        writer.insert(TABLE, {"message_id": "new", "vector": [1.0] * SIZE, "metadata": "{}"})
        assert writer.update(TABLE, {"content": "it's new"}, [Condition("message_id", "=", "new")]) == 1
        assert writer.delete(TABLE, [Condition("role", "=", "user")]) == 10
        assert writer.delete(TABLE, [Condition("role", "=", "nobody")]) == 0
    assert writer.moment() == {TABLE: 4}
    assert lance.reader(tmp_path).select(TABLE, ["content"], [Condition("message_id", "=", "new")]) == [
        ("it's new",)
    ]


def test_a_transaction_that_fails_gives_back_what_it_took(tmp_path):
    table = lance.made(tmp_path)
    writer = lance.writer(tmp_path)
    with pytest.raises(LookupError), writer.transaction():
        writer.delete(TABLE, [Condition("role", "=", "user")])
        writer.update(TABLE, {"content": "changed"}, [])
        raise LookupError
    table.checkout_latest()
    assert table.count_rows() == lance.reader(tmp_path).count(TABLE) == 20
    assert table.count_rows("content = 'changed'") == 0


def test_what_somebody_else_wrote_meanwhile_is_never_taken_back(tmp_path):
    table = lance.made(tmp_path)
    writer = lance.writer(tmp_path)
    with pytest.raises(LookupError), writer.transaction():
        table.add([lance.row(98)])
        writer.delete(TABLE, [Condition("role", "=", "user")])
        table.add([lance.row(99)])
        writer.update(TABLE, {"content": "changed"}, [Condition("message_id", "<", "msg-00050")])
        writer.insert(TABLE, {"message_id": "new"})
        table.checkout_latest()
        table.delete("message_id = 'msg-00099'")
        table.add([lance.row(97)])
        raise LookupError
    found = lance.reader(tmp_path).select(TABLE, ["message_id", "content", "vector"])
    assert [row[0] for row in found] == [f"msg-{n:05}" for n in (*range(20), 97, 98)]
    assert {row[1][:9] for row in found} == {"It's text"}
    assert None not in {row[2] for row in found}


def test_rows_that_somebody_else_changed_too_are_left_and_told(tmp_path):
    table = lance.made(tmp_path)
    writer = lance.writer(tmp_path)
    with pytest.raises(HalfWrittenError, match="boom"), writer.transaction():
        writer.update(TABLE, {"content": "mine"}, [Condition("message_id", "=", "msg-00001")])
        table.checkout_latest()
        table.update(where="message_id = 'msg-00001'", values={"content": "theirs"})
        raise LookupError("boom")
    told = lance.reader(tmp_path).select(TABLE, ["content"], [Condition("message_id", "=", "msg-00001")])
    assert told == [("theirs",)]


def test_who_has_the_table_open_writes_on_after_a_transaction_was_taken_back(tmp_path):
    app = lance.made(tmp_path)
    writer = lance.writer(tmp_path)
    with pytest.raises(LookupError), writer.transaction():
        writer.update(TABLE, {"content": "mine"}, [])
        writer.delete(TABLE, [])
        raise LookupError
    app.add([lance.row(50)])  # as an app that opened it long ago: after restore() it could not
    assert lance.reader(tmp_path).count(TABLE) == 21


def test_a_table_without_a_key_goes_back_to_its_version(tmp_path):
    table = lance.made(tmp_path)
    writer = lance.writer(tmp_path, {})
    with pytest.raises(LookupError), writer.transaction():
        writer.insert(TABLE, {"message_id": "msg-00001"})
        writer.delete(TABLE, [Condition("role", "=", "user")])
        raise LookupError
    assert lance.reader(tmp_path).count(TABLE) == 20
    with pytest.raises(HalfWrittenError), writer.transaction():
        writer.delete(TABLE, [Condition("role", "=", "user")])
        table.checkout_latest()
        table.add([lance.row(99)])
        raise LookupError
    assert lance.reader(tmp_path).count(TABLE) == 11


@pytest.mark.parametrize(
    "values",
    [
        {"message_id": "msg-00003"},
        {"message_id": "new", "vector": [1.0] * (SIZE - 1)},
        {"message_id": "new", "vector": [float("nan")] * SIZE},
        {"message_id": "new", "vector": "no list"},
        {"message_id": "new", "timestamp": "yesterday"},
    ],
)
def test_a_row_that_the_table_should_not_hold_is_refused_and_changes_nothing(tmp_path, values):
    lance.made(tmp_path)
    writer = lance.writer(tmp_path)
    with pytest.raises((ConstraintError, ValueInvalidError)), writer.transaction():
        writer.insert(TABLE, values)
    assert writer.moment() == {TABLE: 1}


def test_a_statement_of_sql_is_refused(tmp_path):
    lance.made(tmp_path)
    with pytest.raises(NotSupportedError, match="SQL"):
        lance.reader(tmp_path).query("select 1")


@BOTH
def test_what_is_nearest_comes_first(tmp_path, deployed):
    lance.made(tmp_path, range(200), deployed=deployed)
    reader, (key, vector) = lance.reader(tmp_path), names(deployed)
    found = reader.nearest(TABLE, lance.vector(7), [key], column=vector, top=3)
    assert found[0][0] == "msg-00007"
    assert found[0][1] == pytest.approx(0, abs=1e-6)
    assert [one[1] for one in found] == sorted(one[1] for one in found)
    some = reader.nearest(
        TABLE, lance.vector(7), [key], column=vector, top=5, where=[Condition("role", "=", "user")]
    )
    assert len(some) == 5
    assert all(int(one[0][4:]) % 2 == 0 for one in some)
    assert list(reader.vector_of(TABLE, {key: "msg-00007"}, vector)) == pytest.approx(
        lance.vector(7), rel=1e-6
    )
    assert sum(map(len, reader.vector_stream(TABLE, [key, vector], batch=50))) == 200


def test_rows_that_are_equally_near_come_by_key_however_many_are_wanted_and_wherever_they_stand(tmp_path):
    table = lance.made(tmp_path, range(20))
    again = [{**lance.row(number), "vector": lance.vector(7)} for number in range(100, 300)]
    for at in (0, 150, 50):  # the order of keys is not that in which they are stored
        table.add(again[at : at + (100 if at == 50 else 50)][::-1])
    wanted = ["msg-00007", *(one["message_id"] for one in again)]
    for top in (1, 2, 3, 20, 200, 201):
        found = lance.reader(tmp_path).nearest(
            TABLE, lance.vector(7), ["message_id"], column="vector", top=top
        )
        assert [one[0] for one in found] == wanted[:top]


@pytest.mark.parametrize("length", [1e-300, 1e-40, 1e-22, 1e15, 1e25, 1e300])
def test_by_cosine_a_vector_is_as_good_as_any_of_its_direction(tmp_path, length):
    lance.made(tmp_path, range(50))
    reader = lance.reader(tmp_path)
    as_it_is, scaled = (
        reader.nearest(TABLE, vector, ["message_id"], column="vector", top=50)
        for vector in (lance.vector(7), [one * length for one in lance.vector(7)])
    )
    assert [one[0] for one in scaled] == [one[0] for one in as_it_is]
    assert [one[1] for one in scaled] == pytest.approx([one[1] for one in as_it_is], abs=1e-6)


@pytest.mark.parametrize(
    ("vector", "metric", "word"),
    [
        ([1.0] * (SIZE - 1), "l2", f"have {SIZE}"),
        ([0.0] * SIZE, "cosine", "direction"),
        ([float("nan")] * SIZE, "l2", "finite"),
        ([float("inf")] * SIZE, "dot", "finite"),
    ],
)
def test_a_vector_that_nothing_could_be_near_is_refused(tmp_path, vector, metric, word):
    lance.made(tmp_path)
    with pytest.raises(ValueInvalidError, match=word):
        lance.reader(tmp_path).nearest(TABLE, vector, ["role"], column="vector", top=1, metric=metric)


def test_a_table_in_storage_is_read_and_written(monkeypatch, tmp_path):
    bucket = storage.given_to(monkeypatch, tmp_path)
    options = {
        "endpoint": storage.endpoint(),
        "region": "us-east-1",
        "access_key_id": "other",
        "secret_access_key": "other",
        "allow_http": "true",
    }
    where = f"s3://{bucket.name}/app/lancedb"
    lance.made(where, options=options)
    writer = lance.writer(where)
    with writer.lock("x"), writer.transaction():
        writer.delete(TABLE, [Condition("role", "=", "user")])
    reader = lance.reader(where)
    assert reader.count(TABLE) == 10
    assert reader.nearest(TABLE, lance.vector(7), ["message_id"], column="vector", top=1)[0][0] == "msg-00007"
    assert lance.reader(f"s3://{bucket.name}/nosuch").tables() == {}


def test_storage_that_does_not_answer_or_lacks_the_bucket_is_told_and_soon(monkeypatch, tmp_path):
    storage.given_to(monkeypatch, tmp_path)
    with pytest.raises(UnreachableError, match="bucket does not exist"):
        lance.reader("s3://nosuch-bucket/x").tables()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{servers.free_port()}")
    with pytest.raises(UnreachableError, match="Connection refused"):
        lance.reader("s3://nosuch-bucket/x").tables()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(StorageKeysMissingError):
        lance.reader("s3://nosuch-bucket/x").tables()


def test_what_stands_in_storage_is_checked_and_measured(monkeypatch, tmp_path):
    bucket = storage.given_to(monkeypatch, tmp_path)
    where = f"s3://{bucket.name}/lancedb"
    options = {"endpoint": storage.endpoint(), "region": "us-east-1", "allow_http": "true"}
    lance.made(where, options={**options, "access_key_id": "other", "secret_access_key": "other"})
    reader = lance.reader(where)
    (told,) = reader.measured()
    assert told.bytes == sum(len(bucket.get(key)) for key in bucket.keys("lancedb"))
    assert reader.damage() == []
    (file,) = bucket.keys(f"lancedb/{TABLE}.lance/data")
    bucket.put(file, bucket.get(file)[:-20])
    (line,) = lance.reader(where).damage(quick=True)
    assert "in place of" in line


def test_without_the_library_only_what_is_asked_of_it_fails(tmp_path, monkeypatch):
    lance.made(tmp_path)
    monkeypatch.setitem(sys.modules, "lancedb", None)
    with pytest.raises(DriverMissingError, match="lancedb"):
        lance.reader(tmp_path).tables()
    registry.open_for_reading(parse(f"lancedb:{tmp_path}"), "chat/vectors", timeout=1).close()


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("lancedb:data/lancedb", "data/lancedb"),
        ("lancedb:///var/app/lancedb", "/var/app/lancedb"),
        ("lancedb://data/lancedb", "data/lancedb"),
        ("s3://bucket/app/lancedb/", "s3://bucket/app/lancedb"),
        ("s3://team@bucket", "s3://team@bucket"),
    ],
)
def test_a_folder_of_tables_has_an_address(text, path):
    assert (parse(text).engine, parse(text).path) == ("lancedb", path)
    assert parse(str(parse(text))) == parse(text)
    assert parse(text).is_folder == (not path.startswith("s3://"))


@pytest.mark.parametrize(
    "text", ["lancedb:", "s3://", "s3:bucket", "s3://key:secret@bucket/x", "s3://bucket/x?y=z"]
)
def test_what_is_no_address_of_one_is_refused_without_its_text(text):
    with pytest.raises(UrlInvalidError) as caught:
        parse(text)
    assert "secret" not in str(caught.value)


def test_a_bare_path_means_a_folder_where_the_database_lives_in_one():
    bare = parse("data/lancedb")
    assert meant(bare, ["lancedb"]).engine == "lancedb"
    assert meant(bare, ["sqlite", "lancedb"]).engine == "sqlite"
    assert meant(parse("sqlite:data/lancedb"), ["lancedb"]).engine == "sqlite"


def test_only_opening_a_lancedb_loads_its_library():
    asked = "import sys, dbctl.engines.registry, dbctl.engines.contract.vectors, dbctl.engines.lancedb.reader; print('lancedb' in sys.modules or 'pyarrow' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", asked], text=True).strip() == "False"
