"""Damage of a LanceDB is found and told, room is measured, and looking after it loses nothing."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import timedelta

import lancedb
import pyarrow as pa
import pytest

from dbctl.engines.contract import Condition
from dbctl.engines.contract.monitoring import Task
from dbctl.engines.contract.vectors import VectorIndexWanted
from dbctl.engines.lancedb.query.vector_checks import vector_faults
from dbctl.engines.lancedb.storage import manifest
from dbctl.engines.lancedb.storage.manifest import ManifestUnreadableError
from dbctl.errors import (
    ChangedWhileReadError,
    CorruptError,
    NotSupportedError,
    SchemaLacksError,
    UpkeepUnsafeError,
    ValueInvalidError,
    VectorIndexUnfitError,
    VersionsKeptError,
)
from tests.engines import lance
from tests.engines.lance import SIZE, TABLE

#: Younger than anybody may ask for.
PRUNE = Task(table=TABLE, statement="prune it", older_than=timedelta(0))


@pytest.fixture
def two(tmp_path):
    """A table of two parts, and its files, the newest last."""
    table = lance.made(tmp_path, range(100))
    table.add([lance.row(number) for number in range(100, 150)])
    told = lance.reader(tmp_path)
    newest = manifest.parse(_newest(tmp_path).read_bytes())
    files = [tmp_path / f"{TABLE}.lance/data" / one.path for part in newest.fragments for one in part.files]
    assert told.damage() == []
    return tmp_path, files


def _newest(folder):
    return min((folder / f"{TABLE}.lance/_versions").glob("*.manifest"))  # names are counted down


def test_a_manifest_tells_what_the_library_tells(two):
    folder, _ = two
    table = lancedb.connect(folder).open_table(TABLE)
    table.delete("role = 'user'")
    told = manifest.parse(_newest(folder).read_bytes())
    known = table.list_versions()[-1]["metadata"]
    assert (told.version, told.rows, told.deleted) == (table.version, 75, 75)
    assert len(told.fragments) == int(known["total_fragments"]) == 2
    assert told.bytes == int(known["total_files_size"])
    assert manifest.version_of(_newest(folder).name) == told.version
    assert all((folder / f"{TABLE}.lance" / path).is_file() for path in told.paths())


def test_what_makes_the_library_panic_is_damage_and_told(two):
    folder, files = two
    whole = files[0].read_bytes()
    files[0].write_bytes(whole[:-36] + b"\xff" + whole[-35:])  # where the file says that its columns are
    assert any("panic" in line and files[0].name in line for line in lance.reader(folder).damage())
    with pytest.raises(CorruptError):
        lance.reader(folder).nearest(TABLE, lance.vector(7), ["message_id"], column="vector", top=5)
    files[0].write_bytes(whole)
    told = _newest(folder).read_bytes()
    _newest(folder).write_bytes(told[:-16] + (len(told) - 3).to_bytes(8, "little") + told[-8:])
    with pytest.raises(CorruptError, match="panic"):
        lance.reader(folder).tables()
    assert any("cannot be read" in line for line in lance.reader(folder).damage())


def test_whatever_is_cut_off_a_manifest_it_is_never_half_read(two):
    folder, _ = two
    whole = _newest(folder).read_bytes()
    for length in range(0, len(whole), 7):
        with pytest.raises(ManifestUnreadableError):
            manifest.parse(whole[:length])
    for at in range(0, len(whole), 3):  # whatever becomes of it, it is read or refused
        with suppress(ManifestUnreadableError):
            manifest.parse(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])


def test_a_file_that_is_missing_or_cut_off_is_told_with_its_rows(two):
    folder, (_, second) = two
    content = second.read_bytes()
    for quick in (True, False):
        second.write_bytes(content[: len(content) // 2])
        (line,) = lance.reader(folder).damage(quick=quick)
        assert (
            f"{second.name}, with 50 rows, has {len(content) // 2} bytes in place of {len(content)}" in line
        )
        second.unlink()
        (line,) = lance.reader(folder).damage(quick=quick)
        assert f"{second.name} is missing, with 50 rows" in line
    with pytest.raises(CorruptError):
        lance.reader(folder).select(TABLE, ["content"])


def test_bytes_that_are_no_longer_decodable_are_told_with_their_file(two):
    folder, (_, second) = two
    content = bytearray(second.read_bytes())
    content[-45] ^= 0xFF
    second.write_bytes(content)
    (line,) = lance.reader(folder).damage()
    assert second.name in line
    assert "50 rows" in line


def test_a_newest_version_that_cannot_be_read_is_told_with_the_one_before(two):
    folder, _ = two
    newest = _newest(folder)
    newest.write_bytes(newest.read_bytes()[:50])
    (line,) = lance.reader(folder).damage()
    assert "its newest version, 2, cannot be read" in line
    assert "version 1 can be read" in line
    with pytest.raises(
        CorruptError, match=f"{TABLE}: its newest version, 2, cannot be read.*; version 1 can be read"
    ):
        lance.reader(folder).tables()


def test_a_newest_version_that_is_gone_is_told(two):
    folder, _ = two
    _newest(folder).unlink()
    (line,) = lance.reader(folder).damage(quick=True)
    assert "version 2 was written and is gone: what was written since version 1 is lost" in line


def test_a_table_that_was_never_made_to_its_end_is_told(two):
    folder, _ = two
    (folder / "half.lance/data").mkdir(parents=True)
    (folder / "half.lance/data/x.lance").write_bytes(b"cut")
    reader = lance.reader(folder)
    assert list(reader.tables()) == [TABLE]
    (line,) = reader.damage()
    assert line.startswith("half: it has no version")
    with pytest.raises(SchemaLacksError):
        reader.damage(table="nosuch")


def test_vectors_that_nothing_finds_and_rows_that_are_there_twice_are_told(tmp_path):
    table = lance.made(tmp_path, range(30))
    odd = {1: None, 2: [0.0] * SIZE, 3: [float("inf")] + [1.0] * (SIZE - 1)}
    table.add(
        pa.Table.from_pylist([lance.row(100 + n) | {"vector": told} for n, told in odd.items()], table.schema)
    )
    table.add([lance.row(5), lance.row(5)])
    reader = lance.reader(tmp_path)
    told = {one.code: one.message for one in reader.flaws()}
    assert set(told) == {"vector-empty", "vector-zeros", "vector-endless", "duplicate-keys"}
    assert told["vector-zeros"].startswith("1 rows")
    assert "msg-00102" in told["vector-zeros"]
    assert told["duplicate-keys"].startswith("2 rows")
    assert "msg-00005" in told["duplicate-keys"]
    assert reader.damage() == []


def test_vectors_of_several_lengths_are_told_where_the_column_takes_them():
    rows = {"id": [f"r{n}" for n in range(9)], "v": [[1.0] * (3 if n == 7 else 4) for n in range(9)]}
    batches = pa.table(rows, pa.schema([("id", pa.string()), ("v", pa.list_(pa.float32()))])).to_batches(2)
    (fault,) = vector_faults(iter(batches), "v", ["id"])
    assert (fault.kind, fault.number, fault.examples) == ("length", 1, [("r7",)])


def test_what_a_table_takes_and_what_it_keeps_for_nobody_is_measured(two):
    folder, _ = two
    lancedb.connect(folder).open_table(TABLE).delete("role = 'user'")
    reader = lance.reader(folder)
    (told,) = reader.measured()
    taken = sum(one.stat().st_size for one in folder.rglob("*") if one.is_file())
    assert (told.rows, told.dead_rows, told.fragments, told.versions, told.bytes) == (75, 75, 2, 3, taken)
    assert reader.storage().bytes == taken
    assert 0 < reader.wasted()[0].wasted_bytes < taken


def test_compacting_keeps_every_row_and_the_format(tmp_path):
    options = {"new_table_data_storage_version": "2.0"}
    table = lance.made(tmp_path, range(60), options=options)
    for number in range(100, 110):
        table.add([lance.row(number)])
    table.delete("role = 'user'")
    before = sorted(lance.reader(tmp_path).select(TABLE, ["message_id", "vector"]))
    writer = lance.writer(tmp_path)
    (task,) = writer.tasks("optimize", [])
    assert "6 fragments, 30 deleted rows" in task.statement
    assert "older Lance" in task.statement
    writer.maintain(task)
    (told,) = writer.measured()
    assert (told.fragments, told.dead_rows, told.format) == (1, 0, "2.0")
    assert told.versions > 12, "none is taken away"
    assert sorted(lance.reader(tmp_path).select(TABLE, ["message_id", "vector"])) == before
    with pytest.raises(NotSupportedError):
        writer.tasks("checkpoint", [])


def test_pruning_takes_no_version_that_is_young_or_kept_by_a_name(two):
    folder, _ = two
    writer = lance.writer(folder)
    (task,) = writer.tasks("vacuum", [])
    assert "older than 7 days" in task.statement
    writer.maintain(task)
    assert writer.measured()[0].versions >= 2
    with pytest.raises(UpkeepUnsafeError):
        writer.prune_tasks([], timedelta(minutes=9))
    table = lancedb.connect(folder).open_table(TABLE)
    table.tags.create("backup-of-today", 1)
    with pytest.raises(VersionsKeptError, match="backup-of-today"):
        writer.maintain(PRUNE)
    table.tags.delete("backup-of-today")
    writer.maintain(PRUNE)
    assert writer.measured()[0].versions == 1
    assert lance.reader(folder).count(TABLE) == 150


def test_a_version_that_is_pruned_under_a_reader_is_told_as_such(two):
    folder, _ = two
    reader = lance.reader(folder)
    assert reader.count(TABLE) == 150
    table = lancedb.connect(folder).open_table(TABLE)
    table.delete("role = 'user'")
    lance.writer(folder).maintain(PRUNE)
    for ask in (lambda: reader.select(TABLE, ["content", "vector"]), reader.measured, reader.wasted):
        with pytest.raises(ChangedWhileReadError):
            ask()
    assert lance.reader(folder).count(TABLE) == 75


@pytest.mark.parametrize("kind", ["ivf-flat", "ivf-sq", "ivf-pq"])
def test_an_index_is_made_as_it_is_told_and_finds_what_is_near(tmp_path, kind):
    lance.made(tmp_path, range(1100))
    writer = lance.writer(tmp_path)
    told = writer.make_vector_index(VectorIndexWanted(table=TABLE, column="vector", kind=kind, partitions=4))
    assert (told.metric, told.rows, told.beside, told.partitions) == ("cosine", 1100, 0, 4)
    reader = lance.reader(tmp_path)
    found = reader.nearest(TABLE, lance.vector(7), ["message_id"], column="vector", top=5, exact=False)
    assert found[0][0] == "msg-00007"
    assert found[0][1] == pytest.approx(0, abs=1e-6)
    recall = reader.vector_recall(TABLE, "vector", asked=10, top=5)
    assert recall.asked == 10
    assert 0.5 < recall.found <= 1
    with pytest.raises(SchemaLacksError):
        reader.vector_recall(TABLE, "vector", metric="l2")
    writer.drop_vector_index(TABLE, told.name)
    assert writer.vector_indexes(TABLE) == []


def test_an_index_misses_nothing_where_it_finds_others_that_are_as_near(tmp_path):
    table = lance.made(tmp_path, range(300))
    for first in range(300, 2000, 100):  # an app that indexes its messages again writes their vectors again
        again = [{**lance.row(one), "vector": lance.vector(one % 2)} for one in range(first, first + 100)]
        table.add(again[::-1])
    wanted = VectorIndexWanted(table=TABLE, column="vector", partitions=2)
    lance.writer(tmp_path).make_vector_index(wanted)
    assert lance.reader(tmp_path).vector_recall(TABLE, "vector", asked=51, top=10).found > 0.99


def test_an_index_that_is_damaged_is_told_and_made_anew(tmp_path):
    lance.made(tmp_path, range(300))
    writer = lance.writer(tmp_path)
    writer.make_vector_index(VectorIndexWanted(table=TABLE, column="vector"))
    files = list((tmp_path / f"{TABLE}.lance/_indices").glob("*/*.idx"))
    for spoil in (lambda one: one.write_bytes(b"x" * one.stat().st_size), lambda one: one.unlink()):
        for file in files:
            spoil(file)
        (line,) = lance.reader(tmp_path).damage()
        assert lance.reader(tmp_path).index_damage(line).index == "vector_idx"
    (task,) = writer.tasks("reindex", [])
    writer.maintain(task)
    assert lance.reader(tmp_path).damage() == []


def test_an_index_that_would_not_be_what_was_asked_for_is_refused(tmp_path):
    table = lance.made(tmp_path, range(200))
    writer = lance.writer(tmp_path)
    with pytest.raises(VectorIndexUnfitError, match="200 vectors"):
        writer.make_vector_index(VectorIndexWanted(table=TABLE, column="vector"))
    table.add([lance.row(number) for number in range(200, 1000)])
    writer = lance.writer(tmp_path)
    with pytest.raises(VectorIndexUnfitError, match="64 partitions") as caught:
        writer.make_vector_index(
            VectorIndexWanted(table=TABLE, column="vector", kind="ivf-pq", partitions=64)
        )
    assert "at most 3" in caught.value.hint
    assert writer.vector_indexes(TABLE) == []


def test_cells_of_files_become_what_the_columns_hold(tmp_path):
    lance.made(tmp_path, deployed=False)
    writer = lance.writer(tmp_path)
    columns = ["id", "timestamp", "embedding", "metadata"]
    read = [writer.of_csv(TABLE, name) for name in columns]
    numbers = [0.1, *[0.5] * (SIZE - 1)]
    cells = ["new", "1700000000000", json.dumps(numbers), '{"model": "x", "language": null}']
    with writer.transaction():
        writer.insert_many(TABLE, columns, [[one(cell, True) for one, cell in zip(read, cells, strict=True)]])
    (row,) = writer.select(TABLE, columns, [Condition("id", "=", "new")])
    assert row[:2] == ("new", 1.7e12)
    assert json.loads(row[2]) == numbers
    assert json.loads(row[3]) == {"model": "x", "language": None}
    for name, cell in (("timestamp", "soon"), ("embedding", "[1, 2"), ("metadata", "x")):
        with pytest.raises(ValueInvalidError):
            writer.of_csv(TABLE, name)(cell, True)
    with writer.stream(TABLE, ["id", "embedding"]) as answer:
        assert sum(map(len, answer.batches)) == 21
