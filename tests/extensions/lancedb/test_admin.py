"""LanceDB: findings about damage, sizes, and maintenance without data loss."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from datetime import timedelta

import lancedb
import pyarrow as pa
import pytest
from lancedb.index import FTS, Bitmap, BTree, HnswPq, HnswSq, IvfFlat, IvfRq

from dbctl.engines.contract.database import Condition
from dbctl.engines.contract.dumps import DumpRequest
from dbctl.engines.contract.monitoring import MaintenanceTask
from dbctl.engines.contract.vectors import VectorIndexSpec
from dbctl.errors.connection import ChangedWhileReadError, CorruptError
from dbctl.errors.databases import MaintenanceUnsafeError, VectorIndexUnsuitableError, VersionsTaggedError
from dbctl.errors.usage import NotSupportedError, SchemaMismatchError, ValueInvalidError
from dbctl.extensions.lancedb import manifest
from dbctl.extensions.lancedb.dump import FolderDumps
from dbctl.extensions.lancedb.manifest import ManifestError
from dbctl.extensions.lancedb.vectors import find_faults
from tests.engines import lance
from tests.engines.lance import SIZE, TABLE
from tests.extensions.lancedb import opening

#: Prunes all versions, which commands do not allow.
PRUNE = MaintenanceTask(table=TABLE, statement="prune it", older_than=timedelta(0))


@pytest.fixture
def two_fragments(tmp_path):
    """Create a table with two fragments; return its folder and its data files, the newest last."""
    table = lance.create_table(tmp_path, range(100))
    table.add([lance.create_row(number) for number in range(100, 150)])
    reader = opening.open_reader(tmp_path)
    newest = manifest.parse(find_newest_manifest(tmp_path).read_bytes())
    files = [
        tmp_path / f"{TABLE}.lance" / data_file.path
        for fragment in newest.fragments
        for data_file in fragment.files
    ]
    assert reader.checks.find_damage() == []
    return tmp_path, files


def find_newest_manifest(folder):
    return min((folder / f"{TABLE}.lance/_versions").glob("*.manifest"))  # names are inverted versions


def test_manifest_matches_the_library(two_fragments):
    folder, _ = two_fragments
    table = lancedb.connect(folder).open_table(TABLE)
    table.delete("role = 'user'")
    parsed = manifest.parse(find_newest_manifest(folder).read_bytes())
    metadata = table.list_versions()[-1]["metadata"]
    assert (parsed.version, parsed.rows, parsed.deleted) == (table.version, 75, 75)
    assert len(parsed.fragments) == int(metadata["total_fragments"]) == 2
    assert parsed.bytes == int(metadata["total_files_size"])
    assert manifest.version_number(find_newest_manifest(folder).name) == parsed.version
    assert all((folder / f"{TABLE}.lance" / file.path).is_file() for file in parsed.files())


def test_library_panic_is_reported_as_damage(two_fragments):
    folder, files = two_fragments
    content = files[0].read_bytes()
    files[0].write_bytes(content[:-36] + b"\xff" + content[-35:])  # in the offset of the columns
    assert any(
        "panic" in line and files[0].name in line for line in opening.open_reader(folder).checks.find_damage()
    )
    with pytest.raises(CorruptError):
        opening.open_reader(folder).vectors.find_nearest(
            TABLE, lance.create_vector(7), ["message_id"], column="vector", limit=5
        )
    files[0].write_bytes(content)
    manifest_bytes = find_newest_manifest(folder).read_bytes()
    find_newest_manifest(folder).write_bytes(
        manifest_bytes[:-16] + (len(manifest_bytes) - 3).to_bytes(8, "little") + manifest_bytes[-8:]
    )
    with pytest.raises(CorruptError, match="panic"):
        opening.open_reader(folder).tables()
    assert any("cannot be read" in line for line in opening.open_reader(folder).checks.find_damage())


@pytest.mark.slow
def test_panic_names_the_settings_of_the_library_that_may_have_caused_it(two_fragments):
    """The library reads them once in a process, and panics at an invalid one."""
    folder, _ = two_fragments
    words = [sys.executable, "-m", "dbctl", "--url", f"main=lancedb://{folder}", "data", "export", TABLE, "-"]
    variables = {**os.environ, "DBCTL_STATE": "off", "LANCE_CPU_THREADS": "none"}
    result = subprocess.run(words, check=False, capture_output=True, env=variables)
    assert result.returncode == 4
    assert b"or by a value in the environment (LANCE_CPU_THREADS)" in result.stderr


def test_truncated_manifest_is_refused(two_fragments):
    folder, _ = two_fragments
    content = find_newest_manifest(folder).read_bytes()
    for length in range(0, len(content), 7):
        with pytest.raises(ManifestError):
            manifest.parse(content[:length])
    for index in range(0, len(content), 3):  # a changed byte is either accepted or refused
        with suppress(ManifestError):
            manifest.parse(content[:index] + bytes([content[index] ^ 0xFF]) + content[index + 1 :])


def test_missing_or_truncated_file_is_reported_with_row_count(two_fragments):
    folder, (_, second) = two_fragments
    content = second.read_bytes()
    for quick in (True, False):
        second.write_bytes(content[: len(content) // 2])
        (line,) = opening.open_reader(folder).checks.find_damage(quick=quick)
        assert f"{second.name}, with 50 rows, has {len(content) // 2} bytes instead of" in line
        second.unlink()
        (line,) = opening.open_reader(folder).checks.find_damage(quick=quick)
        assert f"{second.name} is missing, with 50 rows" in line
    with pytest.raises(CorruptError):
        opening.open_reader(folder).select(TABLE, ["content"])


def test_undecodable_bytes_are_reported_with_file_name(two_fragments):
    folder, (_, second) = two_fragments
    content = bytearray(second.read_bytes())
    content[-45] ^= 0xFF
    second.write_bytes(content)
    (line,) = opening.open_reader(folder).checks.find_damage()
    assert second.name in line
    assert "50 rows" in line


@pytest.mark.parametrize(
    "damage", [lambda content: content[:50], lambda content: bytes(len(content)), lambda _: b"garbage"]
)
def test_unreadable_version_is_reported_with_readable_predecessor(damage, two_fragments):
    """The library opens a manifest of zeros as a table without columns, also for writing."""
    folder, _ = two_fragments
    newest = find_newest_manifest(folder)
    newest.write_bytes(damage(newest.read_bytes()))
    (line,) = opening.open_reader(folder).checks.find_damage()
    assert "its newest version, 2, cannot be read" in line
    assert "version 1 can be read" in line
    for open_database in (opening.open_reader, opening.open_writer):
        with pytest.raises(
            CorruptError, match=f"{TABLE}: its newest version, 2, cannot be read.*; version 1 can be read"
        ):
            open_database(folder).tables()[TABLE]


def test_unreadable_older_version_is_reported_as_what_prevents_maintenance(two_fragments):
    folder, _ = two_fragments
    older = max((folder / f"{TABLE}.lance/_versions").glob("*.manifest"))
    task = MaintenanceTask(table=TABLE, statement="compact it")
    for content in (b"", older.read_bytes()[:-20]):
        older.write_bytes(content)
        reader = opening.open_reader(folder)
        assert reader.checks.find_damage(quick=True) == []
        (line,) = reader.checks.find_damage()
        with pytest.raises(CorruptError) as failure:
            opening.open_writer(folder).storage.maintain(task)
        assert failure.value.context["reason"] == line
        assert f"{older.name} is deleted" in line
    older.unlink()
    opening.open_writer(folder).storage.maintain(task)
    assert opening.open_reader(folder).checks.find_damage() == []


def test_manifest_of_another_version_is_reported(two_fragments, tmp_path):
    """The library opens the table with the rows of the other version."""
    folder, _ = two_fragments
    newest = find_newest_manifest(folder)
    (older,) = {*newest.parent.glob("*.manifest")} - {newest}
    newest.write_bytes(older.read_bytes())
    (line,) = opening.open_reader(folder).checks.find_damage(quick=True)
    assert "version, 2, cannot be read: it is that of version 1; version 1 can be read" in line
    with pytest.raises(CorruptError, match=f"{newest.name}: it is that of version 1"):
        FolderDumps(folder, "app/main").dump(DumpRequest(tmp_path / "copy"))


def test_indexes_of_values_and_words_are_rebuilt(tmp_path):
    table = lance.create_table(tmp_path, range(20))
    table.create_index("message_id", config=BTree())
    table.create_index("role", config=Bitmap(), name="roles")
    options = {"base_tokenizer": "ngram", "ngram_min_length": 2, "stem": False}
    table.create_index("content", config=FTS(**options), name="words")

    def rebuild():
        writer = opening.open_writer(tmp_path)
        tasks = writer.storage.maintenance_tasks("reindex", [])
        for task in tasks:
            writer.storage.maintain(task)
        table.checkout_latest()
        return [task.statement for task in tasks], table.list_indices()

    before = table.list_indices()
    _, after = rebuild()
    assert [(item.name, item.index_type, item.index_details) for item in after] == [
        (item.name, item.index_type, item.index_details) for item in before
    ]
    shutil.rmtree(tmp_path / f"{TABLE}.lance/_indices")
    assert len(opening.open_reader(tmp_path).checks.find_damage()) == 3
    statements, after = rebuild()
    assert opening.open_reader(tmp_path).checks.find_damage() == []
    assert [(item.name, item.index_type) for item in after] == [
        (item.name, item.index_type) for item in before
    ]
    assert [statement for statement in statements if "default options" in statement] == [
        f"reindex {TABLE}.content: words, FTS, with default options, because its own are missing"
    ]


def test_missing_newest_version_is_reported(two_fragments):
    folder, _ = two_fragments
    find_newest_manifest(folder).unlink()
    (line,) = opening.open_reader(folder).checks.find_damage(quick=True)
    assert "version 2 is missing: all changes since version 1 are lost" in line


def test_table_without_version_is_reported(two_fragments):
    folder, _ = two_fragments
    (folder / "half.lance/data").mkdir(parents=True)
    (folder / "half.lance/data/x.lance").write_bytes(b"cut")
    reader = opening.open_reader(folder)
    assert list(reader.tables()) == [TABLE]
    (line,) = reader.checks.find_damage()
    assert line.startswith("half: not a table")
    with pytest.raises(SchemaMismatchError):
        reader.checks.find_damage(table="nosuch")


def test_faulty_vectors_and_duplicate_keys_are_reported(tmp_path):
    table = lance.create_table(tmp_path, range(30))
    faulty = {1: None, 2: [0.0] * SIZE, 3: [float("inf")] + [1.0] * (SIZE - 1)}
    table.add(
        pa.Table.from_pylist(
            [lance.create_row(100 + n) | {"vector": vector} for n, vector in faulty.items()], table.schema
        )
    )
    table.add([lance.create_row(5), lance.create_row(5)])
    reader = opening.open_reader(tmp_path)
    findings = list(reader.checks.schema_findings())
    name = reader.target.rpartition("/")[2]
    assert all(finding.hint.endswith(f"data rows {TABLE} --db {name}") for finding in findings)
    messages = {finding.code: finding.message for finding in findings}
    assert set(messages) == {"vector-empty", "vector-zeros", "vector-not-finite", "duplicate-keys"}
    assert messages["vector-zeros"].startswith(f"1 row of {TABLE} with only zeros in vector, ")
    assert "msg-00102" in messages["vector-zeros"]
    assert messages["duplicate-keys"].startswith(f"2 rows of {TABLE} with the ")
    assert "msg-00005" in messages["duplicate-keys"]
    assert reader.checks.find_damage() == []


def test_vectors_of_different_length_are_reported():
    rows = {"id": [f"r{n}" for n in range(9)], "v": [[1.0] * (3 if n == 7 else 4) for n in range(9)]}
    batches = pa.table(rows, pa.schema([("id", pa.string()), ("v", pa.list_(pa.float32()))])).to_batches(2)
    (fault,) = find_faults(iter(batches), "v", ["id"])
    assert (fault.kind, fault.count, fault.examples) == ("length", 1, [("r7",)])


def test_vector_without_numbers_is_none():
    vectors = pa.array([[], None, [0.0], [None], [1.0]], pa.list_(pa.float32()))
    batches = pa.table({"v": vectors, "id": list(range(5))}).to_batches()
    faults = {fault.kind: [key for (key,) in fault.examples] for fault in find_faults(batches, "v", ["id"])}
    assert faults == {"empty": [0, 1], "zeros": [2], "not-finite": [3]}


def test_size_and_bloat_are_measured(two_fragments):
    folder, _ = two_fragments
    lancedb.connect(folder).open_table(TABLE).delete("role = 'user'")
    reader = opening.open_reader(folder)
    (size,) = reader.storage.measure_tables()
    total_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert (size.rows, size.dead_rows, size.fragments, size.versions, size.bytes) == (
        75,
        75,
        2,
        3,
        total_bytes,
    )
    assert reader.storage.measure_storage().bytes == total_bytes
    assert 0 < reader.storage.measure_bloat()[0].wasted_bytes < total_bytes
    lance.create_table(folder / "new", range(3))
    assert opening.open_reader(folder / "new").storage.measure_bloat()[0].wasted_bytes == 0


def test_compaction_preserves_rows_and_format(tmp_path):
    options = {"new_table_data_storage_version": "2.0"}
    table = lance.create_table(tmp_path, range(60), options=options)
    for number in range(100, 110):
        table.add([lance.create_row(number)])
    table.delete("role = 'user'")
    before = sorted(opening.open_reader(tmp_path).select(TABLE, ["message_id", "vector"]))
    writer = opening.open_writer(tmp_path)
    (task,) = writer.storage.maintenance_tasks("optimize", [])
    assert "6 fragments, 30 deleted rows" in task.statement
    assert "older Lance" in task.statement
    writer.storage.maintain(task)
    (size,) = writer.storage.measure_tables()
    assert (size.fragments, size.dead_rows, size.format) == (1, 0, "2.0")
    assert size.versions > 12, "no version is removed"
    assert sorted(opening.open_reader(tmp_path).select(TABLE, ["message_id", "vector"])) == before
    with pytest.raises(NotSupportedError):
        writer.storage.maintenance_tasks("checkpoint", [])


def test_pruning_preserves_recent_and_tagged_versions(two_fragments):
    folder, _ = two_fragments
    writer = opening.open_writer(folder)
    (task,) = writer.storage.maintenance_tasks("vacuum", [])
    assert "older than 7 days" in task.statement
    writer.storage.maintain(task)
    assert writer.storage.measure_tables()[0].versions >= 2
    with pytest.raises(MaintenanceUnsafeError):
        writer.storage.prune_tasks([], timedelta(minutes=9))
    table = lancedb.connect(folder).open_table(TABLE)
    table.tags.create("backup-of-today", 1)
    with pytest.raises(VersionsTaggedError, match="backup-of-today"):
        writer.storage.maintain(PRUNE)
    table.tags.delete("backup-of-today")
    writer.storage.maintain(PRUNE)
    assert writer.storage.measure_tables()[0].versions == 1
    assert opening.open_reader(folder).count(TABLE) == 150


def test_version_pruned_while_read_is_reported(two_fragments):
    folder, _ = two_fragments
    reader = opening.open_reader(folder)
    assert reader.count(TABLE) == 150
    table = lancedb.connect(folder).open_table(TABLE)
    table.delete("role = 'user'")
    opening.open_writer(folder).storage.maintain(PRUNE)
    for query in (
        lambda: reader.select(TABLE, ["content", "vector"]),
        reader.storage.measure_tables,
        reader.storage.measure_bloat,
    ):
        with pytest.raises(ChangedWhileReadError):
            query()
    assert opening.open_reader(folder).count(TABLE) == 75


@pytest.mark.parametrize(("kind", "partitions"), [("ivf-flat", 33), ("ivf-sq", 33), ("ivf-pq", 4)])
def test_index_is_created_and_finds_neighbours(tmp_path, kind, partitions):
    lance.create_table(tmp_path, range(1100))
    writer = opening.open_writer(tmp_path)
    index = writer.vector_indexes.create_vector_index(
        VectorIndexSpec(table=TABLE, column="vector", kind=kind)
    )
    assert (index.metric, index.rows, index.unindexed_rows, index.partitions) == (
        "cosine",
        1100,
        0,
        partitions,
    )
    reader = opening.open_reader(tmp_path)
    neighbours = reader.vectors.find_nearest(
        TABLE, lance.create_vector(7), ["message_id"], column="vector", limit=5, exact=False
    )
    assert neighbours[0][0] == "msg-00007"
    assert neighbours[0][1] == pytest.approx(0, abs=1e-6)
    recall = reader.vectors.measure_recall(TABLE, "vector", query_count=10, limit=5)
    assert recall.queries == 10
    assert 0.5 < recall.share <= 1
    with pytest.raises(SchemaMismatchError):
        reader.vectors.measure_recall(TABLE, "vector", metric="l2")
    writer.vector_indexes.drop_vector_index(TABLE, index.name)
    assert writer.vectors.vector_indexes(TABLE) == []


@pytest.mark.slow
def test_recall_counts_ties_as_hits(tmp_path):
    table = lance.create_table(tmp_path, range(300))
    for first in range(300, 2000, 100):  # an app that indexes its messages again adds equal vectors
        rows = [
            {**lance.create_row(number), "vector": lance.create_vector(number % 2)}
            for number in range(first, first + 100)
        ]
        table.add(rows[::-1])
    spec = VectorIndexSpec(table=TABLE, column="vector", kind="ivf-pq")
    opening.open_writer(tmp_path).vector_indexes.create_vector_index(spec)
    assert (
        opening.open_reader(tmp_path).vectors.measure_recall(TABLE, "vector", query_count=51, limit=10).share
        > 0.99
    )


def test_damaged_index_is_reported_and_rebuilt(tmp_path):
    lance.create_table(tmp_path, range(300))
    writer = opening.open_writer(tmp_path)
    writer.vector_indexes.create_vector_index(VectorIndexSpec(table=TABLE, column="vector"))
    files = list((tmp_path / f"{TABLE}.lance/_indices").glob("*/*.idx"))
    for damage in (lambda path: path.write_bytes(b"x" * path.stat().st_size), lambda path: path.unlink()):
        for file in files:
            damage(file)
        (line,) = opening.open_reader(tmp_path).checks.find_damage()
        assert opening.open_reader(tmp_path).checks.parse_index_damage(line).index == "vector_idx"
    (task,) = writer.storage.maintenance_tasks("reindex", [])
    writer.storage.maintain(task)
    assert opening.open_reader(tmp_path).checks.find_damage() == []


def test_rows_without_vectors_do_not_prevent_compaction(tmp_path):
    """The library failed with a missing temporary file, which was reported as damage of the database."""
    table = lance.create_table(tmp_path, range(300))
    writer = opening.open_writer(tmp_path)
    writer.vector_indexes.create_vector_index(VectorIndexSpec(table=TABLE, column="vector"))
    table.checkout_latest()
    table.add([lance.create_row(300) | {"vector": None}])
    writer = opening.open_writer(tmp_path)
    (task,) = writer.storage.maintenance_tasks("optimize", [])
    writer.storage.maintain(task)
    reader = opening.open_reader(tmp_path)
    assert reader.storage.measure_tables()[0].fragments == 1
    assert reader.vectors.vector_indexes(TABLE)[0].unindexed_rows == 0
    assert reader.count(TABLE) == 301


def test_table_without_any_vector_is_compacted(tmp_path):
    """The library compacts, and then fails to train the index again; dbctl stated that nothing was changed."""
    table = lance.create_table(tmp_path, range(300))
    table.create_index("vector", config=IvfFlat(num_partitions=2))
    table.delete("true")
    for number in range(3):
        table.add([lance.create_row(number) | {"vector": None}])
    writer = opening.open_writer(tmp_path)
    (task,) = writer.storage.maintenance_tasks("optimize", [])
    writer.storage.maintain(task)
    assert writer.storage.measure_tables()[0].fragments == 1
    assert opening.open_reader(tmp_path).count(TABLE) == 3


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (HnswSq(distance_type="l2"), "IVF_HNSW_SQ"),
        (HnswPq(distance_type="dot", num_sub_vectors=4), "IVF_HNSW_PQ"),
        (IvfRq(distance_type="l2", num_partitions=1), "IVF_RQ"),
    ],
    ids=["HNSW_SQ", "HNSW_PQ", "RQ"],
)
def test_rebuilt_index_has_its_name_kind_and_metric(tmp_path, config, kind):
    """It became an index without a graph, and another one next to an index with a name of its own."""
    table = lance.create_table(tmp_path, range(300))
    table.create_index("vector", config=config, name="neighbours")
    writer = opening.open_writer(tmp_path)
    (task,) = writer.storage.maintenance_tasks("reindex", [])
    table.add([lance.create_row(number) for number in range(300, 400)])
    opening.open_writer(tmp_path).storage.maintain(task)
    (rebuilt,) = opening.open_reader(tmp_path).vectors.vector_indexes(TABLE)
    assert (rebuilt.name, rebuilt.kind, rebuilt.metric) == ("neighbours", kind, config.distance_type)
    assert (rebuilt.rows, rebuilt.unindexed_rows) == (400, 0)


def test_unsuitable_index_is_refused(tmp_path):
    lance.create_table(tmp_path, range(200))
    writer = opening.open_writer(tmp_path)
    with pytest.raises(VectorIndexUnsuitableError, match="200 vectors"):
        writer.vector_indexes.create_vector_index(VectorIndexSpec(table=TABLE, column="vector"))
    assert writer.vectors.vector_indexes(TABLE) == []


def test_file_cells_are_converted_to_column_types(tmp_path):
    lance.create_table(tmp_path, deployed=False)
    writer = opening.open_writer(tmp_path)
    columns = ["id", "timestamp", "embedding", "metadata"]
    parsers = [writer.codec.csv_parser(TABLE, name) for name in columns]
    numbers = [0.1, *[0.5] * (SIZE - 1)]
    cells = ["new", "1700000000000", json.dumps(numbers), '{"model": "x", "language": null}']
    with writer.transaction():
        writer.insert_many(
            TABLE, columns, [[parse(cell, True) for parse, cell in zip(parsers, cells, strict=True)]]
        )
    (row,) = writer.select(TABLE, columns, [Condition("id", "=", "new")])
    assert row[:2] == ("new", 1.7e12)
    assert json.loads(row[2]) == numbers
    assert json.loads(row[3]) == {"model": "x", "language": None}
    for name, cell in (("timestamp", "soon"), ("embedding", "[1, 2"), ("metadata", "x")):
        with pytest.raises(ValueInvalidError):
            writer.codec.csv_parser(TABLE, name)(cell, True)
    with writer.streams.stream(TABLE, ["id", "embedding"]) as result:
        assert sum(map(len, result.batches)) == 21
