"""Folders of LanceDB copied while they are written, and exchanged while an app has them open."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from datetime import timedelta
from pathlib import Path

import lancedb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbctl.engines import registry
from dbctl.engines.contract.dumps import Dump
from dbctl.engines.lancedb.backup import archive, snapshot, swap, verify
from dbctl.engines.lancedb.backup.dump import Copier
from dbctl.engines.lancedb.backup.restore_target import LanceOutside
from dbctl.engines.lancedb.storage import fragments
from dbctl.errors import BusyError, CorruptError, KeptMissingError, RestoreFailedError
from dbctl.files.progress import at_once, silent
from dbctl.url import Url
from tests.engines import lance
from tests.engines.lance import TABLE

TARGET = "chat/vectors"


@pytest.fixture
def place(tmp_path):
    place = tmp_path / "data" / "lancedb"
    place.parent.mkdir()
    lance.made(place)
    return place


def opened(place):
    return lancedb.connect(place).open_table(TABLE)


def ids(table):
    return sorted(table.search().to_arrow().column("message_id").to_pylist())


def names(*numbers):
    return sorted(str(lance.row(number)["message_id"]) for number in numbers)


def prune(table):
    """Compact a table, and remove every older version of it with its files."""
    table.optimize(cleanup_older_than=timedelta(0), delete_unverified=True)


def dumped(place, to):
    """Copy a folder; return the archive, and what a restore is told of it."""
    made = Copier(place, TARGET).dump(to)
    return to, Dump(
        facts=made.facts, tables=made.proof.tables, schema=made.proof.schema, digests=made.proof.digests
    )


def outside(place):
    return LanceOutside(Url(engine="lancedb", path=str(place)), TARGET)


def load(place, path, dump, stamp="20260101_000000"):
    """Bring an archive back; return where what it replaces is kept."""
    kept = outside(place).kept(stamp)
    outside(place).load(path, dump, timeout=1, keep=kept.facts, progress=silent, let_go=at_once)
    return Dump(form="kept", facts=kept.facts, tables={}, schema="")


# Manifests ---------------------------------------------------------------------------------------------------------


def test_the_manifest_of_each_version_tells_its_rows_and_files_as_the_library_does(place):
    table = opened(place)
    table.add([lance.row(number) for number in range(20, 300)])
    table.delete("message_id < 'msg-00007'")
    table.update("message_id = 'msg-00010'", {"content": "other"})
    table.create_index("message_id", config=lancedb.index.BTree())
    table.optimize()
    table.delete("message_id > 'msg-00200'")
    told = {}
    for path in (place / f"{TABLE}.lance" / "_versions").glob("*.manifest"):
        version = fragments.read(path.read_bytes())
        assert version.number == fragments.number_of(path.name)
        told[version.number] = version.rows
        for one in version.pieces:
            there = place / f"{TABLE}.lance" / one.name
            assert there.stat().st_size == (one.size or there.stat().st_size)
        renumbered = fragments.read(fragments.renumbered(path.read_bytes(), 5_000_000_000))
        assert renumbered.number == 5_000_000_000
        assert (renumbered.rows, renumbered.pieces) == (version.rows, version.pieces)
    found = {}
    for one in table.list_versions():
        table.checkout(one["version"])
        found[one["version"]] = table.count_rows()
    assert told == found
    assert len(set(told.values())) > 3


@given(st.binary(max_size=200), st.integers(0, 1 << 64))
def test_no_bytes_are_read_as_a_manifest_but_those_of_one(content, at):
    for one in (content, content + at.to_bytes(9, "little")[:8] + bytes(4) + b"LANC"):
        try:
            told = fragments.read(one)
        except fragments.ManifestError:
            continue
        assert told.number
        assert not any(piece.name.startswith("/") or ".." in piece.name.split("/") for piece in told.pieces)


# Copied ------------------------------------------------------------------------------------------------------------


def test_what_is_held_stays_when_its_versions_are_pruned_and_its_table_is_dropped(place, tmp_path):
    before = ids(opened(place))
    with snapshot.taken(place, TARGET) as taken:
        table = opened(place)
        table.delete("message_id < 'msg-00015'")
        prune(table)
        lancedb.connect(place).drop_table(TABLE)
        assert not list(place.rglob("*.manifest"))
        found = verify.of(taken)
        with (tmp_path / "made.tar").open("wb") as file:
            file.writelines(archive.blocks(taken))
        assert file.name
        assert (tmp_path / "made.tar").stat().st_size == archive.size(taken)
    assert (found.tables, found.problems) == ({TABLE: 20}, [])
    subprocess.run(["tar", "-xf", "made.tar"], cwd=tmp_path, check=True)
    assert ids(opened(tmp_path / "lancedb")) == before


def test_an_archive_holds_the_newest_version_alone_and_what_is_tagged(place, tmp_path):
    table = opened(place)
    table.tags.create("first", table.version)
    table.add([lance.row(20)])
    table.add([lance.row(21)])
    newest = table.version
    path, dump = dumped(place, tmp_path / "made.tar")
    with tarfile.open(path) as file:
        manifests = [name for name in file.getnames() if name.endswith(".manifest")]
        file.extractall(tmp_path / "there")  # noqa: S202 - its own
    assert len(manifests) == 2
    assert dump.facts[f"version of {TABLE}"] == str(newest)
    there = opened(tmp_path / "there" / "lancedb")
    assert (there.version, there.count_rows()) == (newest, 22)
    there.checkout("first")
    assert there.count_rows() == 20


def test_a_newest_version_that_is_not_whole_is_damage_here_and_passed_over_in_what_somebody_copied(place):
    table = opened(place)
    table.add([lance.row(20)])
    lost = max((place / f"{TABLE}.lance" / "data").iterdir(), key=lambda one: one.stat().st_mtime_ns)
    lost.unlink()
    with pytest.raises(CorruptError, match=f"{lost.name} is missing"):
        snapshot.take(place, TARGET)
    with snapshot.taken(place, TARGET, older=True) as taken:
        assert taken.rows == {TABLE: 20}
        assert "version 2" in taken.remarks[0] or "is not whole" in taken.remarks[0]
        assert verify.of(taken).problems == []


def test_a_newest_version_that_is_gone_is_told_for_the_one_before_it_may_hold_less(place):
    opened(place).add([lance.row(90)])
    with snapshot.taken(place, TARGET) as taken:
        assert taken.remarks == []
    (newest, name), (before, _) = snapshot._manifests(place / f"{TABLE}.lance")[:2]
    (place / f"{TABLE}.lance" / "_versions" / name).unlink()
    with snapshot.taken(place, TARGET) as taken:
        assert taken.remarks == [
            f"{TABLE}.lance: version {newest} was written and is gone; {before} is the newest that is left"
        ]
    (line,) = lance.reader(place).damage()
    assert line.startswith(f"{TABLE}: version {newest} was written and is gone")
    (line,) = lance.reader(place).damage(quick=True)
    opened(place).add([lance.row(91)])  # of the same number, so that nothing tells any more
    assert lance.reader(place).damage() == []


def test_a_file_that_became_shorter_is_damage(place):
    (one,) = (place / f"{TABLE}.lance" / "data").iterdir()
    os.truncate(one, one.stat().st_size - 1)
    with pytest.raises(CorruptError, match="bytes and should have"):
        snapshot.take(place, TARGET)


def test_where_no_file_may_be_held_it_is_read_as_it_lies_and_one_that_went_away_is_told(
    place, tmp_path, monkeypatch
):
    monkeypatch.setattr(snapshot, "MOST_DESCRIPTORS", 0)
    _, dump = dumped(place, tmp_path / "made.tar")
    assert dump.tables == {TABLE: 20}
    with snapshot.taken(place, TARGET) as taken:
        table = opened(place)
        table.delete("true")
        prune(table)
        with pytest.raises(BusyError, match="removed faster"):
            list(archive.blocks(taken))


def test_a_digest_tells_one_changed_value_and_not_how_rows_are_parted(tmp_path):
    def digest(name, *parts, change=None):
        table = lance.made(tmp_path / name, parts[0])
        for part in parts[1:]:
            table.add([lance.row(number) for number in part])
        if change:
            table.update("message_id = 'msg-00009'", change)
        with snapshot.taken(tmp_path / name, TARGET) as taken:
            return verify.of(taken).digests[TABLE]

    whole = digest("one", range(1100))
    assert digest("two", range(7), range(7, 1050), range(1050, 1100)) == whole
    assert digest("three", range(1099)) != whole
    assert digest("four", range(1100), change={"content": "other"}) != whole
    assert digest("five", range(1100), change={"vector": [0.0] * lance.SIZE}) != whole


# Proven ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quick", [True, False])
def test_an_archive_that_lacks_a_file_or_its_end_is_not_sound(place, tmp_path, quick):
    path, dump = dumped(place, tmp_path / "made.tar")
    assert not registry.prove("lancedb", path, dump, TARGET, quick=quick).problems
    with tarfile.open(path) as whole, tarfile.open(tmp_path / "less.tar", "w") as less:
        for one in whole:
            if not one.name.endswith("data") and "/data/" not in one.name:
                less.addfile(one, whole.extractfile(one))
    (problem,) = registry.prove("lancedb", tmp_path / "less.tar", dump, TARGET, quick=quick).problems
    assert "is missing" in problem
    (tmp_path / "cut.tar").write_bytes(path.read_bytes()[: -2 * tarfile.RECORDSIZE])
    with pytest.raises(CorruptError):
        registry.prove("lancedb", tmp_path / "cut.tar", dump, TARGET, quick=quick)


def test_a_changed_byte_in_the_rows_of_an_archive_is_found_by_reading_them(place, tmp_path):
    path, dump = dumped(place, tmp_path / "made.tar")
    content = bytearray(path.read_bytes())
    at = content.index(b"It's text")
    content[at : at + 4] = b"That"
    path.write_bytes(content)
    found = registry.prove("lancedb", path, dump, TARGET, quick=False)
    assert found.problems or found.digests != dump.digests
    with pytest.raises(RestoreFailedError):
        load(place, path, dump)
    assert ids(opened(place)) == names(*range(20))


# Exchanged ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("last", ["added", "made"])
def test_trap_an_app_that_has_a_table_open_would_name_files_that_are_gone_so_what_comes_in_has_a_higher_version(
    place, tmp_path, last
):
    """What an open table writes next it writes by what it remembers: that would stand as the newest of what came in.

    Below the version that came in, LanceDB looks anew: it adds to that one, or refuses where that one was made at once.
    """
    held = [*range(20), 20] if last == "added" else [*range(20)]
    if last == "added":
        opened(place).add([lance.row(20)])
    path, dump = dumped(place, tmp_path / "made.tar")
    app = opened(place)
    for number in range(30, 36):
        app.add([lance.row(number)])
    remembered = app.version
    # What would come of it: the same archive, exchanged as it is.
    naive = tmp_path / "naive"
    shutil.copytree(place, naive)
    other = opened(naive)
    subprocess.run(["tar", "-xf", path, "-C", tmp_path], check=True)
    shutil.rmtree(naive)
    (tmp_path / "lancedb").rename(naive)
    other.add([lance.row(99)])
    with pytest.raises(RuntimeError):
        opened(naive).search().to_arrow()
    # And what does.
    kept = load(place, path, dump)
    assert opened(place).version > remembered + 1000
    if last == "added":
        app.add([lance.row(99)])
        held.append(99)
    else:
        with pytest.raises(RuntimeError, match="incompatible"):
            app.add([lance.row(99)])
    assert ids(opened(place)) == names(*held)
    with pytest.raises(RuntimeError, match="Not found"):
        app_of(place, remembered).delete("message_id = 'msg-00001'")
    assert ids(opened(place)) == names(*held)
    # The way back is one of the same kind.
    app = opened(place)
    load(place, path, kept, "20260101_000001")
    app.add([lance.row(98)])
    assert ids(opened(place)) == names(*range(20), *([20] if last == "added" else []), *range(30, 36), 98)


def app_of(place, version):
    """Return a table as somebody has it who opened it before the folder was exchanged."""
    kept = next(one for one in swap.left(place))
    hidden = place.with_name("hidden")
    place.rename(hidden)
    kept.rename(place)
    app = opened(place)
    assert app.version == version
    place.rename(kept)
    hidden.rename(place)
    return app


def test_a_restore_keeps_what_it_replaces_with_its_owner_and_mode_and_the_next_lets_it_go(place, tmp_path):
    path, dump = dumped(place, tmp_path / "made.tar")
    opened(place).add([lance.row(20)])
    for one in (place, *place.rglob("*")):
        os.chown(one, 1234, 2345)
    place.chmod(0o750)
    kept = load(place, path, dump)
    assert ids(opened(place)) == names(*range(20))
    told = {(one.stat().st_uid, one.stat().st_gid) for one in (place, *place.rglob("*"))}
    assert told == {(1234, 2345)}
    assert place.stat().st_mode & 0o777 == 0o750
    (beside,) = swap.left(place)
    assert ids(opened(beside)) == names(*range(21))
    second = load(place, path, dump, "20260101_000001")
    outside(place).forget(second.facts)
    assert [one.name for one in swap.left(place)] == [second.facts["kept"]]
    with pytest.raises(KeptMissingError):
        outside(place).approach(kept)


def test_who_has_files_of_it_open_is_told_before_and_behind(place, tmp_path):
    path, dump = dumped(place, tmp_path / "made.tar")
    (data,) = (place / f"{TABLE}.lance" / "data").iterdir()
    with data.open("rb") as file, subprocess.Popen(["sleep", "60"], stdin=file) as holder:
        try:
            told = f"pid {holder.pid} (sleep)"
            assert any(told in step for step in outside(place).approach(dump).steps)
            (held,) = registry.holders(Url(engine="lancedb", path=str(place)), TARGET)
            assert held.pid == holder.pid
            kept = outside(place).kept("20260101_000000").facts
            loaded = outside(place).load(path, dump, timeout=1, keep=kept, progress=silent, let_go=at_once)
            assert any(told in remark for remark in loaded.remarks)
        finally:
            holder.kill()


def test_where_two_folders_cannot_change_places_at_once_a_cut_between_is_mended(place, tmp_path, monkeypatch):
    monkeypatch.setattr(swap, "_EXCHANGE", 1 << 30)  # which no kernel knows
    path, dump = dumped(place, tmp_path / "made.tar")
    opened(place).add([lance.row(20)])
    kept = load(place, path, dump)
    assert ids(opened(place)) == names(*range(20))
    (beside,) = swap.left(place)
    assert beside.name == kept.facts["kept"]
    place.rename(beside.with_name(f"{beside.name}{swap.AWAY}"))  # as if it had been killed here
    assert swap.is_unfinished(place)
    assert outside(place).is_there()
    assert ids(opened(place)) == names(*range(20))


def test_a_folder_that_waits_tells_that_it_was_not_replaced_and_undoing_leaves_it(place, tmp_path):
    path, dump = dumped(place, tmp_path / "made.tar")
    opened(place).add([lance.row(20)])
    kept = outside(place).kept("20260101_000000")
    with outside(place).ready(path, dump, timeout=1) as ready:
        ready.arm(kept.facts)
        assert swap.is_unfinished(place)
        undone = Dump(form="kept", facts=kept.facts, tables={}, schema="")
        approach = outside(place).approach(undone)
        assert (approach.way, approach.keeps) == ("in place", False)
        ready.disarm()
    assert not list(swap.left(place))
    assert ids(opened(place)) == names(*range(21))


def test_a_mark_that_a_kill_left_behind_means_nothing_under_another_name(place, tmp_path):
    path, dump = dumped(place, tmp_path / "made.tar")
    opened(place).add([lance.row(20)])
    stamps = ["20260101_000000", "20260101_000001"]
    kept = outside(place).kept(stamps[0])
    with outside(place).ready(path, dump, timeout=1) as ready:
        ready.arm(kept.facts)
        waiting = place.with_name(kept.facts["kept"])
        assert swap.waits(waiting)
        swap.exchange(waiting, place)  # and killed here, so that the mark stays
    assert not swap.is_unfinished(place)
    opened(place).add([lance.row(30)])
    second = load(place, path, dump, stamps[1])
    assert not swap.is_unfinished(place)
    load(place, path, second, "20260101_000002")
    assert ids(opened(place)) == names(*range(20), 30)
    # One that was about to wait under another name, and was killed before it got it, is kept as before.
    (first,) = [one for one in swap.left(place) if one.name == kept.facts["kept"]]
    (first / swap.MARK).write_text(f"{first.name}\n.lancedb.dbctl-kept-20260101_000009\n")
    assert not swap.is_unfinished(place)
    load(place, path, Dump(form="kept", facts=kept.facts, tables={}, schema=""), "20260101_000003")
    assert ids(opened(place)) == names(*range(21))


@pytest.mark.parametrize("name", ["lance[db]", "*", "a b'c"])
def test_a_folder_may_be_called_anything(tmp_path, name):
    place = tmp_path / name
    lance.made(place)
    path, dump = dumped(place, tmp_path / "made.tar")
    opened(place).add([lance.row(20)])
    kept = load(place, path, dump)
    assert [one.name for one in swap.left(place)] == [kept.facts["kept"]]
    load(place, path, kept, "20260101_000001")
    assert ids(opened(place)) == names(*range(21))


@pytest.mark.parametrize("gone", ["missing", "emptied", "no folder"])
def test_what_is_gone_or_emptied_comes_back(place, tmp_path, gone):
    path, dump = dumped(place, tmp_path / "made.tar")
    shutil.rmtree(place)
    if gone == "emptied":
        place.mkdir()
    if gone == "no folder":
        place.write_text("mine")
        with pytest.raises(Exception, match="no LanceDB"):
            load(place, path, dump)
        return
    load(place, path, dump)
    assert ids(opened(place)) == names(*range(20))


# Hostile -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../evil", "/evil-of-a-test", "lancedb/../../evil", "lancedb/t.lance/link/evil", "lancedb/pipe"]
)
def test_an_archive_that_leads_out_of_its_folder_makes_nothing(place, tmp_path, name):
    path, dump = dumped(place, tmp_path / "made.tar")
    with tarfile.open(path, "a") as file:
        if "link" in name:
            link = tarfile.TarInfo("lancedb/t.lance/link")
            link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
            file.addfile(link)
        one = tarfile.TarInfo(name)
        one.size = 4
        if "pipe" in name:
            one.type, one.size = tarfile.FIFOTYPE, 0
        file.addfile(one, io.BytesIO(b"evil"))
    before = ids(opened(place))
    with pytest.raises(Exception, match=r"unsafe|leads|begins|neither"):
        load(place, path, dump)
    assert ids(opened(place)) == before
    assert not list(swap.left(place))
    assert not [*tmp_path.rglob("evil"), *Path("/").glob("evil-of-a-test")]


def test_a_manifest_that_names_files_elsewhere_is_refused(place):
    (manifest,) = (place / f"{TABLE}.lance" / "_versions").glob("*.manifest")
    (data,) = (place / f"{TABLE}.lance" / "data").iterdir()
    content = manifest.read_bytes()
    name = data.name.encode()
    manifest.write_bytes(content.replace(name, b"../../../" + name[9:]))
    with pytest.raises(CorruptError, match="leads out"):
        snapshot.take(place, TARGET)
