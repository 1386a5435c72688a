"""LanceDB: tables of both variants, in folders and in buckets."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import lancedb
import pyarrow as pa
import pytest

from dbctl.engines import registry
from dbctl.engines.contract.database import Condition, Order
from dbctl.engines.contract.monitoring import MaintenanceTask
from dbctl.engines.contract.vectors import VectorIndexSpec
from dbctl.errors.backup import StorageKeysMissingError
from dbctl.errors.connection import (
    ChangedWhileReadError,
    ConstraintError,
    DatabaseMissingError,
    NotADatabaseError,
    UnreachableError,
)
from dbctl.errors.databases import PartialWriteError
from dbctl.errors.usage import DriverMissingError, NotSupportedError, UrlInvalidError, ValueInvalidError
from dbctl.extensions.lancedb import manifest
from dbctl.url import parse_url, resolve_engine
from tests import servers, storage
from tests.conformance.abilities import find_mismatches
from tests.engines import lance
from tests.engines.lance import SIZE, TABLE
from tests.extensions.lancedb import opening

VARIANTS = pytest.mark.parametrize("deployed", [True, False], ids=["deployed", "document"])


def key_and_vector_columns(deployed: bool) -> tuple[str, str]:
    return ("message_id", "vector") if deployed else ("id", "embedding")


@VARIANTS
def test_columns_have_arrow_types(tmp_path, deployed):
    lance.create_table(tmp_path, deployed=deployed)
    columns = opening.open_reader(tmp_path).tables()[TABLE].columns
    key, vector = key_and_vector_columns(deployed)
    assert [name for name, description in columns.items() if description.is_primary_key] == [key]
    assert (columns[key].type, columns["timestamp"].type) == ("STRING", "DOUBLE")
    assert columns[vector].type == f"FIXED_SIZE_LIST<ITEM: FLOAT>[{SIZE}]"
    (column,) = opening.open_reader(tmp_path).vectors.vector_columns(TABLE)
    assert (column.column, column.dimension) == (vector, SIZE)


@pytest.mark.parametrize("names", ["id?", ["message_id?", "id"]])
def test_key_is_first_existing_column_of_those_that_profile_names(tmp_path, names):
    lance.create_table(tmp_path, deployed=False)
    columns = opening.open_reader(tmp_path, {TABLE: names}).tables()[TABLE].columns
    assert [name for name, description in columns.items() if description.is_primary_key] == ["id"]


@VARIANTS
def test_rows_are_sorted_by_key_and_paged(tmp_path, deployed):
    lance.create_table(tmp_path, [5, 3, 9, 1], deployed=deployed)
    reader, (key, _) = opening.open_reader(tmp_path), key_and_vector_columns(deployed)
    assert reader.select(TABLE, [key]) == [(f"msg-{n:05}",) for n in (1, 3, 5, 9)]
    assert reader.select(TABLE, [key, "role"], limit=2, offset=1) == [
        ("msg-00003", "assistant"),
        ("msg-00005", "assistant"),
    ]
    assert reader.select(TABLE, ["metadata"], limit=1) == [
        ("{}" if deployed else '{"model": "gemini-2.5-flash", "language": "en"}',)
    ]


def test_quote_in_condition_is_literal(tmp_path):
    lance.create_table(tmp_path)
    reader = opening.open_reader(tmp_path)
    assert reader.count(TABLE, [Condition("content", "=", "It's text 3")]) == 1
    assert reader.count(TABLE, [Condition("content", "=", "x' or '1' = '1")]) == 0
    assert reader.count(TABLE, [Condition("content", "same", "IT'S TEXT 3")]) == 1
    assert (
        reader.count(TABLE, [Condition("timestamp", "<", datetime(2023, 11, 14, 22, 13, 25, tzinfo=UTC))])
        == 5
    )
    assert reader.count_by(TABLE, "role") == {"user": 10, "assistant": 10}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the owner of a file")
def test_files_written_by_root_get_owner_and_mode_of_folder(tmp_path):
    table = lance.create_table(tmp_path, range(300))
    folder = tmp_path / f"{TABLE}.lance"
    for path in (folder, *folder.rglob("*")):
        os.chown(path, 4711, 4712)
    secret, link = tmp_path / "of-root", folder / "data/second-name"
    secret.write_text("of root")
    link.hardlink_to(secret)
    writer, before = opening.open_writer(tmp_path), os.umask(0o077)
    try:
        with pytest.raises(RuntimeError, match="rolled back"), writer.transaction():
            writer.delete(TABLE, [Condition("role", "=", "user")])
            raise RuntimeError("rolled back")
        writer.vector_indexes.create_vector_index(
            VectorIndexSpec(table=TABLE, column="vector", metric="cosine", kind="ivf-flat")
        )
        writer.storage.maintain(MaintenanceTask(table=TABLE, statement="compact"))
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)
    table.checkout_latest()
    assert table.count_rows() == 300
    statuses = {path: path.stat() for path in folder.rglob("*") if path != link}
    assert {(status.st_uid, status.st_gid) for status in statuses.values()} == {(4711, 4712)}
    assert {status.st_mode & 0o777 for path, status in statuses.items() if path.is_file()} == {0o644}
    assert secret.stat().st_uid == 0


def test_dictionary_encoded_text_is_text(tmp_path):
    dictionary_type = pa.dictionary(pa.int32(), pa.string())
    schema = pa.schema(
        [
            field.with_type(dictionary_type) if field.name in {"message_id", "user_id"} else field
            for field in lance.create_schema()
        ]
    )
    rows = pa.Table.from_pylist([lance.create_row(number) for number in range(20)], schema)
    lancedb.connect(tmp_path).create_table(TABLE, rows)
    reader, writer = opening.open_reader(tmp_path), opening.open_writer(tmp_path)
    assert reader.tables()[TABLE].columns["user_id"].type == "STRING"
    condition = [Condition("user_id", "in", ["USER-1"])]
    assert reader.count(TABLE, condition) == 7
    assert reader.select(TABLE, ["message_id"], condition, limit=2) == [("msg-00001",), ("msg-00004",)]
    neighbours = reader.vectors.find_nearest(
        TABLE, lance.create_vector(4), ["message_id"], column="vector", limit=2, where=condition
    )
    assert neighbours[0][0] == "msg-00004"
    (match,) = reader.text_scanner.scan_text(
        TABLE, reader.text_scanner.text_columns(TABLE), "msg-00007", limit=5, timeout=timedelta(minutes=1)
    )
    assert match.key == ("msg-00007",)
    with writer.transaction():
        assert writer.update(TABLE, {"user_id": "other"}, condition) == 7
        assert writer.delete(TABLE, [Condition("user_id", "=", "other")]) == 7
    assert opening.open_reader(tmp_path).count(TABLE) == 13


def test_times_are_sorted_in_every_kind_of_text(tmp_path):
    texts = ["2024-01-02T00:00:00Z", "1700000000", "soon", "1700000000001", "2001-02-03", None]
    columns = {
        "number": range(len(texts)),
        "plain": texts,
        "encoded": pa.array(texts).dictionary_encode(),
        "large": pa.array(texts, pa.large_string()),
    }
    lancedb.connect(tmp_path).create_table("times", pa.table(columns))
    reader = opening.open_reader(tmp_path, {"times": ["number"]})
    for name in ("plain", "encoded", "large"):
        rows = reader.select("times", ["number"], order_by=[Order([name], time=True)])
        assert [number for (number,) in rows] == [4, 1, 3, 0, 2, 5]
        rows = reader.select("times", ["number"], [Condition(name, "<", datetime(2023, 11, 15, tzinfo=UTC))])
        assert [number for (number,) in rows] == [1, 3, 4]


def test_truth_value_is_number_in_column_of_integers(tmp_path):
    lancedb.connect(tmp_path).create_table(
        "flags", schema=pa.schema([("id", pa.string()), ("on", pa.int64())])
    )
    writer = opening.open_writer(tmp_path)
    with writer.transaction():
        writer.insert("flags", {"id": "a", "on": True})
        writer.update("flags", {"on": False}, [Condition("id", "=", "a")])
    assert writer.select("flags", ["on"]) == [(0,)]


def test_parts_match_protocols(tmp_path):
    lance.create_table(tmp_path)
    assert find_mismatches(opening.open_reader(tmp_path)) == []


def test_opening_creates_nothing(tmp_path):
    for open_database in (opening.open_reader, opening.open_writer):
        with pytest.raises(DatabaseMissingError):
            open_database(tmp_path / "nosuch")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "notes.txt").write_text("no table")
    with pytest.raises(NotADatabaseError):
        opening.open_reader(tmp_path)
    (tmp_path / "half.lance").mkdir()
    assert opening.open_reader(tmp_path).tables() == {}


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-20])


def _require_unknown_feature(path):
    """Replace the bits of features that a reader needs in a manifest, in which they are 0 and therefore absent."""
    content = path.read_bytes()
    offset = int.from_bytes(content[-16:-8], "little")
    length = int.from_bytes(content[offset : offset + 4], "little")
    message = content[offset + 4 : offset + 4 + length] + manifest.encode_number(9, 1 << 40)
    path.write_bytes(content[:offset] + len(message).to_bytes(4, "little") + message + content[-16:])


@pytest.mark.parametrize(
    "damage", [_truncate, _require_unknown_feature, Path.unlink], ids=lambda function: function.__name__
)
@pytest.mark.parametrize("is_newest", [True, False])
def test_names_of_tables_are_those_that_the_library_opens(tmp_path, damage, is_newest):
    lance.create_table(tmp_path).delete("role = 'user'")
    lancedb.connect(tmp_path).create_table("notes", [{"id": 1}])
    versions = sorted((tmp_path / f"{TABLE}.lance/_versions").glob("*.manifest"))  # the newest first
    damage(versions[0] if is_newest else versions[-1])
    with_library = opening.open_reader(tmp_path)
    expected = {*with_library.catalog._describe_tables(), *with_library.catalog._damaged}
    reader = opening.open_reader(tmp_path)
    assert {*reader.tables()} == expected
    assert reader.count("notes") == 1
    for error in with_library.catalog._damaged.values():
        with pytest.raises(type(error), match=re.escape(str(error))):
            reader.tables()[TABLE]
        with pytest.raises(type(error), match=re.escape(str(error))):
            reader.storage.measure_storage()
        assert is_newest


def test_table_that_is_removed_between_its_name_and_its_columns_is_reported(tmp_path):
    lance.create_table(tmp_path)
    tables = opening.open_reader(tmp_path).tables()
    assert [*tables] == [TABLE]
    lancedb.connect(tmp_path).drop_table(TABLE)
    with pytest.raises(ChangedWhileReadError):
        tables.get(TABLE)


def test_reader_sees_one_version(tmp_path):
    table = lance.create_table(tmp_path)
    reader = opening.open_reader(tmp_path)
    assert reader.count(TABLE) == 20
    table.delete("role = 'user'")
    assert (reader.count(TABLE), len(reader.select(TABLE, ["role"]))) == (20, 20)
    assert opening.open_reader(tmp_path).count(TABLE) == 10


def test_each_statement_creates_one_version(tmp_path):
    lance.create_table(tmp_path)
    writer = opening.open_writer(tmp_path)
    with writer.transaction():
        writer.insert(TABLE, {"message_id": "new", "vector": [1.0] * SIZE, "metadata": "{}"})
        assert writer.update(TABLE, {"content": "it's new"}, [Condition("message_id", "=", "new")]) == 1
        assert writer.delete(TABLE, [Condition("role", "=", "user")]) == 10
        assert writer.delete(TABLE, [Condition("role", "=", "nobody")]) == 0
    assert writer.catalog.version(TABLE) == 4
    assert opening.open_reader(tmp_path).select(
        TABLE, ["content"], [Condition("message_id", "=", "new")]
    ) == [("it's new",)]


def test_failed_transaction_is_rolled_back(tmp_path):
    table = lance.create_table(tmp_path)
    writer = opening.open_writer(tmp_path)
    with pytest.raises(LookupError), writer.transaction():
        writer.delete(TABLE, [Condition("role", "=", "user")])
        writer.update(TABLE, {"content": "changed"}, [])
        raise LookupError
    table.checkout_latest()
    assert table.count_rows() == opening.open_reader(tmp_path).count(TABLE) == 20
    assert table.count_rows("content = 'changed'") == 0


def test_rollback_preserves_concurrent_writes(tmp_path):
    table = lance.create_table(tmp_path)
    writer = opening.open_writer(tmp_path)
    with pytest.raises(LookupError), writer.transaction():
        table.add([lance.create_row(98)])
        writer.delete(TABLE, [Condition("role", "=", "user")])
        table.add([lance.create_row(99)])
        writer.update(TABLE, {"content": "changed"}, [Condition("message_id", "<", "msg-00050")])
        writer.insert(TABLE, {"message_id": "new"})
        table.checkout_latest()
        table.delete("message_id = 'msg-00099'")
        table.add([lance.create_row(97)])
        raise LookupError
    rows = opening.open_reader(tmp_path).select(TABLE, ["message_id", "content", "vector"])
    assert [row[0] for row in rows] == [f"msg-{n:05}" for n in (*range(20), 97, 98)]
    assert {row[1][:9] for row in rows} == {"It's text"}
    assert None not in {row[2] for row in rows}


def test_rollback_conflict_is_reported(tmp_path):
    table = lance.create_table(tmp_path)
    writer = opening.open_writer(tmp_path)
    with pytest.raises(PartialWriteError, match="boom"), writer.transaction():
        writer.update(TABLE, {"content": "mine"}, [Condition("message_id", "=", "msg-00001")])
        table.checkout_latest()
        table.update(where="message_id = 'msg-00001'", values={"content": "theirs"})
        raise LookupError("boom")
    rows = opening.open_reader(tmp_path).select(
        TABLE, ["content"], [Condition("message_id", "=", "msg-00001")]
    )
    assert rows == [("theirs",)]


def test_app_can_write_after_rollback(tmp_path):
    app = lance.create_table(tmp_path)
    writer = opening.open_writer(tmp_path)
    with pytest.raises(LookupError), writer.transaction():
        writer.update(TABLE, {"content": "mine"}, [])
        writer.delete(TABLE, [])
        raise LookupError
    app.add([lance.create_row(50)])  # fails after ``restore()`` of the library
    assert opening.open_reader(tmp_path).count(TABLE) == 21


def test_table_without_key_is_rolled_back_by_version(tmp_path):
    table = lance.create_table(tmp_path)
    writer = opening.open_writer(tmp_path, {})
    with pytest.raises(LookupError), writer.transaction():
        writer.insert(TABLE, {"message_id": "msg-00001"})
        writer.delete(TABLE, [Condition("role", "=", "user")])
        raise LookupError
    assert opening.open_reader(tmp_path).count(TABLE) == 20
    with pytest.raises(PartialWriteError), writer.transaction():
        writer.delete(TABLE, [Condition("role", "=", "user")])
        table.checkout_latest()
        table.add([lance.create_row(99)])
        raise LookupError
    assert opening.open_reader(tmp_path).count(TABLE) == 11


@pytest.mark.parametrize(
    "values",
    [
        {"message_id": "msg-00003"},
        {"message_id": "new", "vector": [1.0] * (SIZE - 1)},
        {"message_id": "new", "vector": "no list"},
        {"message_id": "new", "timestamp": "yesterday"},
    ],
)
def test_invalid_row_is_refused_without_change(tmp_path, values):
    lance.create_table(tmp_path)
    writer = opening.open_writer(tmp_path)
    with pytest.raises((ConstraintError, ValueInvalidError)), writer.transaction():
        writer.insert(TABLE, values)
    assert writer.catalog.version(TABLE) == 1


def test_vector_with_nan_is_inserted_once_and_restored_by_a_rollback(tmp_path):
    lance.create_table(tmp_path)
    writer, nan = opening.open_writer(tmp_path), Condition("message_id", "=", "nan")
    with writer.transaction():
        writer.insert(TABLE, {"message_id": "nan", "vector": [float("nan")] * SIZE})
    with pytest.raises(ConstraintError), writer.transaction():
        writer.insert(TABLE, {"message_id": "nan", "vector": [float("nan")] * SIZE})
    for write in (
        lambda: writer.delete(TABLE, []),
        lambda: writer.update(TABLE, {"vector": None}, [nan]),
        lambda: writer.update(TABLE, {"role": "system"}, []),
    ):
        before = sorted(
            map(repr, opening.open_reader(tmp_path).select(TABLE, ["message_id", "role", "vector"]))
        )
        with pytest.raises(LookupError), writer.transaction():
            write()
            raise LookupError
        after = opening.open_reader(tmp_path).select(TABLE, ["message_id", "role", "vector"])
        assert sorted(map(repr, after)) == before


def test_sql_query_is_refused(tmp_path):
    lance.create_table(tmp_path)
    with pytest.raises(NotSupportedError, match="SQL"):
        opening.open_reader(tmp_path).query("select 1")


@VARIANTS
def test_nearest_rows_come_first(tmp_path, deployed):
    lance.create_table(tmp_path, range(200), deployed=deployed)
    reader, (key, vector) = opening.open_reader(tmp_path), key_and_vector_columns(deployed)
    neighbours = reader.vectors.find_nearest(TABLE, lance.create_vector(7), [key], column=vector, limit=3)
    assert neighbours[0][0] == "msg-00007"
    assert neighbours[0][1] == pytest.approx(0, abs=1e-6)
    assert [row[1] for row in neighbours] == sorted(row[1] for row in neighbours)
    filtered = reader.vectors.find_nearest(
        TABLE, lance.create_vector(7), [key], column=vector, limit=5, where=[Condition("role", "=", "user")]
    )
    assert len(filtered) == 5
    assert all(int(row[0][4:]) % 2 == 0 for row in filtered)
    assert list(reader.vectors.read_vector(TABLE, {key: "msg-00007"}, vector)) == pytest.approx(
        lance.create_vector(7), rel=1e-6
    )
    assert sum(map(len, reader.vectors.stream_vectors(TABLE, [key, vector], batch_size=50))) == 200


def test_equally_near_rows_are_sorted_by_key(tmp_path):
    table = lance.create_table(tmp_path, range(20))
    duplicates = [
        {**lance.create_row(number), "vector": lance.create_vector(7)} for number in range(100, 300)
    ]
    for start in (0, 150, 50):  # the stored order differs from the key order
        table.add(duplicates[start : start + (100 if start == 50 else 50)][::-1])
    expected = ["msg-00007", *(row["message_id"] for row in duplicates)]
    for limit in (1, 2, 3, 20, 200, 201):
        neighbours = opening.open_reader(tmp_path).vectors.find_nearest(
            TABLE, lance.create_vector(7), ["message_id"], column="vector", limit=limit
        )
        assert [row[0] for row in neighbours] == expected[:limit]


@pytest.mark.parametrize("length", [1e-300, 1e-40, 1e-22, 1e15, 1e25, 1e300])
def test_cosine_ignores_length_of_vector(tmp_path, length):
    lance.create_table(tmp_path, range(50))
    reader = opening.open_reader(tmp_path)
    unscaled, scaled = (
        reader.vectors.find_nearest(TABLE, vector, ["message_id"], column="vector", limit=50)
        for vector in (lance.create_vector(7), [component * length for component in lance.create_vector(7)])
    )
    assert [row[0] for row in scaled] == [row[0] for row in unscaled]
    assert [row[1] for row in scaled] == pytest.approx([row[1] for row in unscaled], abs=1e-6)


@pytest.mark.parametrize(
    ("vector", "metric", "word"),
    [
        ([1.0] * (SIZE - 1), "l2", f"have {SIZE}"),
        ([0.0] * SIZE, "cosine", "direction"),
        ([float("nan")] * SIZE, "l2", "finite"),
        ([float("inf")] * SIZE, "dot", "finite"),
    ],
)
def test_unsuitable_query_vector_is_refused(tmp_path, vector, metric, word):
    lance.create_table(tmp_path)
    with pytest.raises(ValueInvalidError, match=word):
        opening.open_reader(tmp_path).vectors.find_nearest(
            TABLE, vector, ["role"], column="vector", limit=1, metric=metric
        )


def test_table_in_bucket_is_read_and_written(monkeypatch, tmp_path):
    bucket = storage.use_new_bucket(monkeypatch, tmp_path)
    options = {
        "endpoint": storage.endpoint(),
        "region": "us-east-1",
        "access_key_id": "other",
        "secret_access_key": "other",
        "allow_http": "true",
    }
    url = f"s3://{bucket.name}/app/lancedb"
    lance.create_table(url, options=options)
    writer = opening.open_writer(url)
    with writer.lock("x"), writer.transaction():
        writer.delete(TABLE, [Condition("role", "=", "user")])
    reader = opening.open_reader(url)
    assert reader.count(TABLE) == 10
    assert (
        reader.vectors.find_nearest(TABLE, lance.create_vector(7), ["message_id"], column="vector", limit=1)[
            0
        ][0]
        == "msg-00007"
    )
    assert opening.open_reader(f"s3://{bucket.name}/nosuch").tables() == {}


@pytest.mark.slow
def test_unreachable_storage_is_reported_quickly(monkeypatch, tmp_path):
    storage.use_new_bucket(monkeypatch, tmp_path)
    with pytest.raises(UnreachableError, match="bucket does not exist"):
        opening.open_reader("s3://nosuch-bucket/x").tables()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{servers.free_port()}")
    with pytest.raises(UnreachableError, match="Connection refused"):
        opening.open_reader("s3://nosuch-bucket/x").tables()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(StorageKeysMissingError):
        opening.open_reader("s3://nosuch-bucket/x").tables()


def test_table_in_bucket_is_checked_and_measured(monkeypatch, tmp_path):
    bucket = storage.use_new_bucket(monkeypatch, tmp_path)
    url = f"s3://{bucket.name}/lancedb"
    options = {"endpoint": storage.endpoint(), "region": "us-east-1", "allow_http": "true"}
    lance.create_table(url, options={**options, "access_key_id": "other", "secret_access_key": "other"})
    reader = opening.open_reader(url)
    (size,) = reader.storage.measure_tables()
    assert size.bytes == sum(len(bucket.get(key)) for key in bucket.keys("lancedb"))
    assert reader.checks.find_damage() == []
    (file,) = bucket.keys(f"lancedb/{TABLE}.lance/data")
    bucket.put(file, bucket.get(file)[:-20])
    (line,) = opening.open_reader(url).checks.find_damage(quick=True)
    assert "instead of" in line


def test_missing_library_fails_on_use_only(tmp_path, monkeypatch):
    lance.create_table(tmp_path)
    monkeypatch.setitem(sys.modules, "lancedb", None)
    with pytest.raises(DriverMissingError, match="lancedb"):
        opening.open_reader(tmp_path).tables()
    registry.load_engine("lancedb").open_for_reading(
        parse_url(f"lancedb:{tmp_path}"), "chat/vectors", timeout=1
    ).close()


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
def test_folder_urls_are_parsed(text, path):
    assert (parse_url(text).engine, parse_url(text).path) == ("lancedb", path)
    assert parse_url(str(parse_url(text))) == parse_url(text)
    assert parse_url(text).is_folder == (not path.startswith("s3://"))


@pytest.mark.parametrize(
    "text", ["lancedb:", "s3://", "s3:bucket", "s3://key:secret@bucket/x", "s3://bucket/x?y=z"]
)
def test_invalid_url_is_refused_without_secret(text):
    with pytest.raises(UrlInvalidError) as caught:
        parse_url(text)
    assert "secret" not in str(caught.value)


def test_bare_path_resolves_to_folder_engine():
    bare = parse_url("data/lancedb")
    assert resolve_engine(bare, ["lancedb"]).engine == "lancedb"
    assert resolve_engine(bare, ["sqlite", "lancedb"]).engine == "sqlite"
    assert resolve_engine(parse_url("sqlite:data/lancedb"), ["lancedb"]).engine == "sqlite"


def test_registry_import_does_not_load_library():
    script = "import sys, dbctl.engines.registry, dbctl.engines.contract.vectors, dbctl.extensions.lancedb.reader; print('lancedb' in sys.modules or 'pyarrow' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", script], text=True).strip() == "False"


@pytest.mark.parametrize("place", ["vectors", "lancedb:vectors", "."])
def test_folder_without_a_profile_is_configured_with_its_engine(tmp_path, monkeypatch, answer, place):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", "off")
    lance.create_table(tmp_path / "vectors", range(5))
    answer("init", place)
    assert answer("apps", "check")["data"]["findings"] == []
    assert answer("data", "rows", TABLE)["data"]["total"] == 5
