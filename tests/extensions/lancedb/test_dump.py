"""LanceDB: dumps while an app writes, and restores while an app has the tables open."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import warnings
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import lancedb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbctl.engines import registry
from dbctl.engines.contract.dumps import Dump, DumpRequest, LoadRequest
from dbctl.engines.contract.engine import VerifyOptions
from dbctl.errors.backup import ArchiveUnsafeError, RestoreFailedError, RetainedDatabaseMissingError
from dbctl.errors.connection import BusyError, CorruptError, NotADatabaseError
from dbctl.extensions.lancedb import manifest, snapshot, swap
from dbctl.extensions.lancedb.dump import FolderDumps, archive_size, blocks
from dbctl.extensions.lancedb.location import LocalFiles
from dbctl.extensions.lancedb.manifest import History, ManifestError
from dbctl.extensions.lancedb.restore import LanceRestoreTarget
from dbctl.extensions.lancedb.verify import verify_snapshot
from dbctl.url import Url
from tests.engines import lance
from tests.engines.lance import TABLE
from tests.extensions.lancedb import opening

TARGET = "chat/vectors"


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "data" / "lancedb"
    root.parent.mkdir()
    lance.create_table(root)
    return root


def open_table(root):
    return lancedb.connect(root).open_table(TABLE)


def read_ids(table):
    return sorted(table.search().to_arrow().column("message_id").to_pylist())


def message_ids(*numbers):
    return sorted(str(lance.create_row(number)["message_id"]) for number in numbers)


def prune(table):
    """Compact a table, and delete all older versions with their files."""
    with warnings.catch_warnings(
        action="ignore", category=UserWarning
    ):  # that readers of older versions fail
        table.optimize(cleanup_older_than=timedelta(0), delete_unverified=True)


def create_dump(root, destination):
    """Dump a folder; return the path of the archive and its description for a restore."""
    result = FolderDumps(root, TARGET).dump(DumpRequest(destination))
    return destination, Dump(
        metadata=result.metadata,
        tables=result.verification.tables,
        schema=result.verification.schema,
        digests=result.verification.digests,
    )


def restore_target(root):
    return LanceRestoreTarget(Url(engine="lancedb", path=str(root)), TARGET)


def load(root, path, dump, stamp="20260101_000000"):
    """Restore an archive; return the retained database."""
    retained = restore_target(root).describe_retained(stamp)
    restore_target(root).load(LoadRequest(path=path, dump=dump, timeout=1, retained=retained.metadata))
    return Dump(form="kept", metadata=retained.metadata, tables={}, schema="")


# Manifests ---------------------------------------------------------------------------------------------------------


def test_manifests_match_the_library(root):
    table = open_table(root)
    table.add([lance.create_row(number) for number in range(20, 300)])
    table.delete("message_id < 'msg-00007'")
    table.update("message_id = 'msg-00010'", {"content": "other"})
    table.create_index("message_id", config=lancedb.index.BTree())
    table.optimize()
    table.delete("message_id > 'msg-00200'")
    row_counts = {}
    for path in (root / f"{TABLE}.lance" / "_versions").glob("*.manifest"):
        version = manifest.parse(path.read_bytes())
        assert version.version == manifest.version_number(path.name)
        row_counts[version.version] = version.rows
        for data_file in version.files():
            file_path = root / f"{TABLE}.lance" / data_file.path
            assert file_path.stat().st_size == (data_file.bytes or file_path.stat().st_size)
        renumbered = manifest.parse(manifest.renumber(path.read_bytes(), 5_000_000_000))
        assert renumbered.version == 5_000_000_000
        assert (renumbered.rows, list(renumbered.files())) == (version.rows, list(version.files()))
    expected = {}
    for version_info in table.list_versions():
        table.checkout(version_info["version"])
        expected[version_info["version"]] = table.count_rows()
    assert row_counts == expected
    assert len(set(row_counts.values())) > 3


@given(st.binary(max_size=200), st.integers(0, 1 << 64))
def test_random_bytes_are_not_a_manifest(content, offset):
    for candidate in (content, content + offset.to_bytes(9, "little")[:8] + bytes(4) + b"LANC"):
        try:
            version = manifest.parse(candidate)
        except ManifestError:
            continue
        assert version.version
        assert not any(
            data_file.path.startswith("/") or ".." in data_file.path.split("/")
            for data_file in version.files()
        )


# Dumps -------------------------------------------------------------------------------------------------------------


def test_snapshot_survives_pruning_and_drop(root, tmp_path):
    before = read_ids(open_table(root))
    with closing(snapshot.create_snapshot(root, TARGET)) as source:
        table = open_table(root)
        table.delete("message_id < 'msg-00015'")
        prune(table)
        lancedb.connect(root).drop_table(TABLE)
        assert not list(root.rglob("*.manifest"))
        verification = verify_snapshot(source)
        with (tmp_path / "backup.tar").open("wb") as file:
            file.writelines(blocks(source))
        assert file.name
        assert (tmp_path / "backup.tar").stat().st_size == archive_size(source)
    assert (verification.tables, verification.problems) == ({TABLE: 20}, [])
    subprocess.run(["tar", "-xf", "backup.tar"], cwd=tmp_path, check=True)
    assert read_ids(open_table(tmp_path / "lancedb")) == before


def test_archive_contains_newest_and_tagged_versions(root, tmp_path):
    table = open_table(root)
    table.tags.create("first", table.version)
    table.add([lance.create_row(20)])
    table.add([lance.create_row(21)])
    newest = table.version
    path, dump = create_dump(root, tmp_path / "backup.tar")
    with tarfile.open(path) as file:
        manifests = [name for name in file.getnames() if name.endswith(".manifest")]
        file.extractall(tmp_path / "restored")  # noqa: S202 - created by this test
    assert len(manifests) == 2
    assert dump.metadata[f"version of {TABLE}"] == str(newest)
    restored = open_table(tmp_path / "restored" / "lancedb")
    assert (restored.version, restored.count_rows()) == (newest, 22)
    restored.checkout("first")
    assert restored.count_rows() == 20


def test_incomplete_version_is_reported_or_skipped(root):
    table = open_table(root)
    table.add([lance.create_row(20)])
    missing = max((root / f"{TABLE}.lance" / "data").iterdir(), key=lambda file: file.stat().st_mtime_ns)
    missing.unlink()
    with pytest.raises(CorruptError, match=f"{missing.name} is missing"):
        snapshot.create_snapshot(root, TARGET)
    with closing(snapshot.create_snapshot(root, TARGET, allow_older=True)) as source:
        assert source.rows == {TABLE: 20}
        assert "version 2" in source.remarks[0] or "is incomplete" in source.remarks[0]
        assert verify_snapshot(source).problems == []


def test_missing_newest_version_is_reported(root):
    open_table(root).add([lance.create_row(90)])
    with closing(snapshot.create_snapshot(root, TARGET)) as source:
        assert source.remarks == []
    (newest, path), (previous, _) = History(LocalFiles(root), f"{TABLE}.lance").versions().items()
    (root / path).unlink()
    with closing(snapshot.create_snapshot(root, TARGET)) as source:
        assert source.remarks == [
            f"{TABLE}.lance: version {newest} is missing: all changes since version {previous} are lost"
        ]
    (line,) = opening.open_reader(root).checks.find_damage()
    assert line.startswith(f"{TABLE}: version {newest} is missing")
    (line,) = opening.open_reader(root).checks.find_damage(quick=True)
    open_table(root).add([lance.create_row(91)])  # reuses the number, so the loss can no longer be detected
    assert opening.open_reader(root).checks.find_damage() == []


def test_files_removed_while_a_folder_is_listed_hide_no_other(tmp_path):
    names = {f"{number}.manifest" for number in range(8)}
    for remaining in names:
        folder = tmp_path / remaining / "_versions"
        folder.mkdir(parents=True)
        for name in names:
            (folder / name).write_bytes(b"1")
        listed = LocalFiles(tmp_path / remaining).walk("_versions")
        first = next(listed).path
        for name in names - {remaining}:  # as an app that prunes all versions but one
            (folder / name).unlink()
        assert {first, *(file.path for file in listed)} >= {f"_versions/{remaining}"}


def test_truncated_file_is_damage(root):
    (file,) = (root / f"{TABLE}.lance" / "data").iterdir()
    os.truncate(file, file.stat().st_size - 1)
    with pytest.raises(CorruptError, match="bytes and should have"):
        snapshot.create_snapshot(root, TARGET)


def test_removed_file_is_reported_without_open_descriptors(root, tmp_path, monkeypatch):
    monkeypatch.setattr(snapshot, "MAX_DESCRIPTORS", 0)
    _, dump = create_dump(root, tmp_path / "backup.tar")
    assert dump.tables == {TABLE: 20}
    with closing(snapshot.create_snapshot(root, TARGET)) as source:
        table = open_table(root)
        table.delete("true")
        prune(table)
        with pytest.raises(BusyError, match="removed faster"):
            list(blocks(source))


def test_digest_depends_on_values_not_on_fragments(tmp_path):
    def digest(name, *fragments_, change=None):
        table = lance.create_table(tmp_path / name, fragments_[0])
        for fragment in fragments_[1:]:
            table.add([lance.create_row(number) for number in fragment])
        if change:
            table.update("message_id = 'msg-00009'", change)
        with closing(snapshot.create_snapshot(tmp_path / name, TARGET)) as source:
            return verify_snapshot(source).digests[TABLE]

    expected = digest("one", range(1100))
    assert digest("two", range(7), range(7, 1050), range(1050, 1100)) == expected
    assert digest("three", range(1099)) != expected
    assert digest("four", range(1100), change={"content": "other"}) != expected
    assert digest("five", range(1100), change={"vector": [0.0] * lance.SIZE}) != expected


# Verification ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quick", [True, False])
def test_archive_without_file_or_end_is_rejected(root, tmp_path, quick):
    path, dump = create_dump(root, tmp_path / "backup.tar")
    assert (
        not registry.load_engine("lancedb")
        .verify_dump(path, dump, TARGET, VerifyOptions(quick=quick))
        .problems
    )
    with tarfile.open(path) as archive_file, tarfile.open(tmp_path / "partial.tar", "w") as partial:
        for entry in archive_file:
            if not entry.name.endswith("data") and "/data/" not in entry.name:
                partial.addfile(entry, archive_file.extractfile(entry))
    (problem,) = (
        registry.load_engine("lancedb")
        .verify_dump(tmp_path / "partial.tar", dump, TARGET, VerifyOptions(quick=quick))
        .problems
    )
    assert "is missing" in problem
    (tmp_path / "truncated.tar").write_bytes(path.read_bytes()[: -2 * tarfile.RECORDSIZE])
    with pytest.raises(CorruptError):
        registry.load_engine("lancedb").verify_dump(
            tmp_path / "truncated.tar", dump, TARGET, VerifyOptions(quick=quick)
        )


def test_changed_byte_in_archive_is_detected(root, tmp_path):
    path, dump = create_dump(root, tmp_path / "backup.tar")
    content = bytearray(path.read_bytes())
    offset = content.index(b"It's text")
    content[offset : offset + 4] = b"That"
    path.write_bytes(content)
    verification = registry.load_engine("lancedb").verify_dump(path, dump, TARGET, VerifyOptions(quick=False))
    assert verification.problems or verification.digests != dump.digests
    with pytest.raises(RestoreFailedError):
        load(root, path, dump)
    assert read_ids(open_table(root)) == message_ids(*range(20))


# Swaps -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("last", ["added", "created"])
def test_trap_open_tables_write_stale_versions_so_restores_raise_versions(root, tmp_path, last):
    """A process with an open table creates its next version from the version that it read.

    If the number is lower than the restored version, LanceDB merges the write, or refuses it if the restored version is the
    first of its table.
    """
    numbers = [*range(20), 20] if last == "added" else [*range(20)]
    if last == "added":
        open_table(root).add([lance.create_row(20)])
    path, dump = create_dump(root, tmp_path / "backup.tar")
    app = open_table(root)
    for number in range(30, 36):
        app.add([lance.create_row(number)])
    stale_version = app.version
    # The same archive, swapped without raised versions, is damaged by the next write.
    naive = tmp_path / "naive"
    shutil.copytree(root, naive)
    stale_table = open_table(naive)
    subprocess.run(["tar", "-xf", path, "-C", tmp_path], check=True)
    shutil.rmtree(naive)
    (tmp_path / "lancedb").rename(naive)
    stale_table.add([lance.create_row(99)])
    with pytest.raises(RuntimeError):
        open_table(naive).search().to_arrow()
    # With raised versions, it is not.
    retained = load(root, path, dump)
    assert open_table(root).version > stale_version + 1000
    if last == "added":
        app.add([lance.create_row(99)])
        numbers.append(99)
    else:
        with pytest.raises(RuntimeError, match="incompatible"):
            app.add([lance.create_row(99)])
    assert read_ids(open_table(root)) == message_ids(*numbers)
    with pytest.raises(RuntimeError, match="Not found"):
        open_retained(root, stale_version).delete("message_id = 'msg-00001'")
    assert read_ids(open_table(root)) == message_ids(*numbers)
    # Undo raises the versions, too.
    app = open_table(root)
    load(root, path, retained, "20260101_000001")
    app.add([lance.create_row(98)])
    assert read_ids(open_table(root)) == message_ids(
        *range(20), *([20] if last == "added" else []), *range(30, 36), 98
    )


def open_retained(root, version):
    """Return the table of the retained folder, as opened by a process before the swap."""
    retained = next(iter(swap.list_siblings(root)))
    restored = root.with_name("hidden")
    root.rename(restored)
    retained.rename(root)
    app = open_table(root)
    assert app.version == version
    root.rename(retained)
    restored.rename(root)
    return app


def test_restore_retains_previous_folder_until_next_restore(root, tmp_path):
    path, dump = create_dump(root, tmp_path / "backup.tar")
    open_table(root).add([lance.create_row(20)])
    for entry in (root, *root.rglob("*")):
        os.chown(entry, 1234, 2345)
    root.chmod(0o750)
    retained = load(root, path, dump)
    assert read_ids(open_table(root)) == message_ids(*range(20))
    owners = {(entry.stat().st_uid, entry.stat().st_gid) for entry in (root, *root.rglob("*"))}
    assert owners == {(1234, 2345)}
    assert root.stat().st_mode & 0o777 == 0o750
    (sibling,) = swap.list_siblings(root)
    assert read_ids(open_table(sibling)) == message_ids(*range(21))
    second = load(root, path, dump, "20260101_000001")
    restore_target(root).drop_retained(lambda name: name != second.metadata["kept"])
    assert [entry.name for entry in swap.list_siblings(root)] == [second.metadata["kept"]]
    with pytest.raises(RetainedDatabaseMissingError):
        restore_target(root).strategy(retained)


def test_processes_with_open_files_are_reported(root, tmp_path):
    path, dump = create_dump(root, tmp_path / "backup.tar")
    (data,) = (root / f"{TABLE}.lance" / "data").iterdir()
    with data.open("rb") as file, subprocess.Popen(["sleep", "60"], stdin=file) as holder:
        try:
            description = f"pid {holder.pid} (sleep)"
            assert any(description in step for step in restore_target(root).strategy(dump).steps)
            (lock_holder,) = registry.load_engine("lancedb").list_lock_holders(
                Url(engine="lancedb", path=str(root)), TARGET
            )
            assert lock_holder.pid == holder.pid
            retained = restore_target(root).describe_retained("20260101_000000").metadata
            result = restore_target(root).load(
                LoadRequest(path=path, dump=dump, timeout=1, retained=retained)
            )
            assert any(description in remark for remark in result.remarks)
        finally:
            holder.kill()


def test_interrupted_two_step_swap_is_completed(root, tmp_path, monkeypatch):
    monkeypatch.setattr(swap, "_EXCHANGE", 1 << 30)  # unknown to every kernel
    path, dump = create_dump(root, tmp_path / "backup.tar")
    open_table(root).add([lance.create_row(20)])
    retained = load(root, path, dump)
    assert read_ids(open_table(root)) == message_ids(*range(20))
    (sibling,) = swap.list_siblings(root)
    assert sibling.name == retained.metadata["kept"]
    # as if dbctl had been killed after the first step
    root.rename(sibling.with_name(f"{sibling.name}{swap.REPLACED}"))
    assert swap.is_unfinished(root)
    assert restore_target(root).exists()
    assert read_ids(open_table(root)) == message_ids(*range(20))


def test_staged_is_unfinished_and_undo_changes_nothing(root, tmp_path):
    path, dump = create_dump(root, tmp_path / "backup.tar")
    open_table(root).add([lance.create_row(20)])
    retained = restore_target(root).describe_retained("20260101_000000")
    with restore_target(root).stage(LoadRequest(path=path, dump=dump, timeout=1)) as staged:
        staged.write_marker(retained.metadata)
        assert swap.is_unfinished(root)
        undo_dump = Dump(form="kept", metadata=retained.metadata, tables={}, schema="")
        strategy = restore_target(root).strategy(undo_dump)
        assert (strategy.method, strategy.retains_previous) == ("in place", False)
        staged.remove_marker()
    assert not list(swap.list_siblings(root))
    assert read_ids(open_table(root)) == message_ids(*range(21))


def test_stale_marker_is_ignored(root, tmp_path):
    path, dump = create_dump(root, tmp_path / "backup.tar")
    open_table(root).add([lance.create_row(20)])
    stamps = ["20260101_000000", "20260101_000001"]
    retained = restore_target(root).describe_retained(stamps[0])
    with restore_target(root).stage(LoadRequest(path=path, dump=dump, timeout=1)) as staged:
        staged.write_marker(retained.metadata)
        prepared = root.with_name(retained.metadata["kept"])
        assert swap.is_prepared(prepared)
        swap.exchange(prepared, root)  # as if dbctl had been killed before it deleted the marker
    assert not swap.is_unfinished(root)
    open_table(root).add([lance.create_row(30)])
    second = load(root, path, dump, stamps[1])
    assert not swap.is_unfinished(root)
    load(root, path, second, "20260101_000002")
    assert read_ids(open_table(root)) == message_ids(*range(20), 30)
    # A folder with a marker remains retained if dbctl was killed before it renamed the folder.
    (first,) = [folder for folder in swap.list_siblings(root) if folder.name == retained.metadata["kept"]]
    (first / swap.MARKER).write_text(f"{first.name}\n.lancedb.dbctl-kept-20260101_000009\n")
    assert not swap.is_unfinished(root)
    load(root, path, Dump(form="kept", metadata=retained.metadata, tables={}, schema=""), "20260101_000003")
    assert read_ids(open_table(root)) == message_ids(*range(21))


@pytest.mark.parametrize("name", ["lance[db]", "*", "a b'c"])
def test_folder_may_have_any_name(tmp_path, name):
    root = tmp_path / name
    lance.create_table(root)
    path, dump = create_dump(root, tmp_path / "backup.tar")
    open_table(root).add([lance.create_row(20)])
    retained = load(root, path, dump)
    assert [folder.name for folder in swap.list_siblings(root)] == [retained.metadata["kept"]]
    load(root, path, retained, "20260101_000001")
    assert read_ids(open_table(root)) == message_ids(*range(21))


@pytest.mark.parametrize("state", ["missing", "empty", "file"])
def test_missing_or_empty_folder_is_restored(root, tmp_path, state):
    path, dump = create_dump(root, tmp_path / "backup.tar")
    shutil.rmtree(root)
    if state == "empty":
        root.mkdir()
    if state == "file":
        root.write_text("not a folder")
        with pytest.raises(NotADatabaseError):
            load(root, path, dump)
        return
    load(root, path, dump)
    assert read_ids(open_table(root)) == message_ids(*range(20))


# Unsafe archives ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../evil", "/evil-of-a-test", "lancedb/../../evil", "lancedb/t.lance/link/evil", "lancedb/pipe"]
)
def test_archive_with_unsafe_path_creates_nothing(root, tmp_path, name):
    path, dump = create_dump(root, tmp_path / "backup.tar")
    with tarfile.open(path, "a") as file:
        if "link" in name:
            link = tarfile.TarInfo("lancedb/t.lance/link")
            link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
            file.addfile(link)
        entry = tarfile.TarInfo(name)
        entry.size = 4
        if "pipe" in name:
            entry.type, entry.size = tarfile.FIFOTYPE, 0
        file.addfile(entry, io.BytesIO(b"evil"))
    before = read_ids(open_table(root))
    with pytest.raises(ArchiveUnsafeError):
        load(root, path, dump)
    assert read_ids(open_table(root)) == before
    assert not list(swap.list_siblings(root))
    assert not [*tmp_path.rglob("evil"), *Path("/").glob("evil-of-a-test")]


@pytest.mark.parametrize("folder", ["data", "_transactions"])
def test_manifest_with_outside_path_is_refused(root, folder):
    (path,) = (root / f"{TABLE}.lance" / "_versions").glob("*.manifest")
    (file,) = (root / f"{TABLE}.lance" / folder).iterdir()
    content, name = path.read_bytes(), file.name.encode()
    assert name in content
    path.write_bytes(content.replace(name, b"../../../" + name[9:]))
    with pytest.raises(CorruptError, match="outside of its table"):
        snapshot.create_snapshot(root, TARGET)
