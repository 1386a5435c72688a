"""Archives of PostgreSQL that do not reach a moment, are incomplete, damaged or of another server; each has its own error."""

from __future__ import annotations

import gzip
import io
import os
import re
import shutil
import subprocess
import tarfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dbctl.cli.main import main
from dbctl.model import now
from tests import servers
from tests.extensions.recover.primary import Primary, find_leftovers, write_time
from tests.small_disk import mount_disk

MICROSECOND = timedelta(microseconds=1)


@pytest.fixture(scope="module")
def killed():
    """Return a server that was killed, with two bases and sales before, between and after them; a tablespace is not used."""
    with servers.archiving_postgresql() as server:
        primary = Primary(server)
        primary.sell(2)
        primary.back_up("first", "-X", "none")
        time.sleep(1)  # a base states the second of its start
        primary.sell(2)
        primary.archive()
        primary.sell(2)
        primary.archive()
        primary.back_up("second", "-Ft", "-z", "-X", "stream")
        primary.execute("create database late")
        time.sleep(1)
        primary.sell(2)
        primary.kill()
        yield primary


@pytest.fixture
def shop(killed, tmp_path, monkeypatch):
    """Return a copy of the archive of the killed server, in the folder of an app."""
    shutil.copytree(killed.log, tmp_path / "log")
    shutil.copytree(killed.bases, tmp_path / "bases")
    monkeypatch.chdir(tmp_path)
    killed.configure(tmp_path, base="bases", log="log")
    return killed


@pytest.fixture
def fail(answer):
    """Run a recovery that fails, return its error, and assert that nothing remains."""

    def run(at, code, *words):
        for more in (["--dry-run"], []):
            result = answer(
                "backup",
                "recover",
                "--at",
                at if isinstance(at, str) else write_time(at),
                *words,
                *more,
                status=None,
            )
            assert result["error"]["code"] == code, result
            assert find_leftovers() == []
            assert not [*Path("backups").glob("*/*/*")]
        return result["error"]

    return run


def list_segments() -> list[Path]:
    """Return the segments with content: a server renames old ones for later use."""
    return sorted(path for path in Path("log").iterdir() if len(path.name) == 24 and not is_recycled(path))


@pytest.mark.slow
def test_moment_before_every_base_is_refused_with_the_earliest_one(shop, fail, answer):
    error = fail(shop.sales[1].inserted, "recovery-time")
    assert "ends later" in error["message"]
    earliest = error["hint"].rpartition("--at ")[2]
    backup = answer("backup", "recover", "--at", earliest)["data"]
    assert backup["members"][0]["rows"] == {"sales": len(shop.list_sales(datetime.fromisoformat(earliest)))}


@pytest.mark.slow
def test_transaction_between_the_start_of_a_base_and_its_end_is_in_it(shop, fail):
    """The time of a base is that of its label, in whole seconds: it has no state of the second in which it began."""
    shutil.rmtree("bases/second")
    started = datetime.strptime(
        re.search(r"^START TIME: (.*) UTC", Path("bases/first/backup_label").read_text(), re.MULTILINE)[1],
        "%Y-%m-%d %H:%M:%S",
    ).replace(tzinfo=UTC)
    fail(started + timedelta(milliseconds=1), "recovery-time")


@pytest.mark.slow
def test_moment_after_the_log_is_refused_with_the_last_one(shop, fail, answer):
    error = fail(now(), "recovery-time")
    last = error["hint"].rpartition("--at ")[2]
    assert last == (shop.sales[-1].inserted + MICROSECOND).isoformat().replace("+00:00", "Z")
    backup = answer("backup", "recover", "--at", last)["data"]
    assert backup["members"][0]["rows"] == {"sales": len(shop.sales)}


def test_future_and_unreadable_moments_are_refused(shop, fail):
    fail(now() + timedelta(hours=1), "recovery-time")
    fail("yesterday", "usage")


@pytest.mark.slow
def test_gap_names_the_missing_segment_and_matters_only_before_the_moment(shop, fail, answer):
    shutil.rmtree("bases/second")
    third = list_segments()[-2]
    third.unlink()
    assert third.name in fail(shop.sales[-1].inserted, "recovery-time")["message"]
    answer("backup", "recover", "--at", write_time(shop.sales[3].inserted))


def test_base_without_its_log_is_refused(shop, fail):
    shutil.rmtree("bases/second")
    for segment in list_segments()[:-1]:
        segment.unlink()
    fail(shop.sales[-1].inserted, "recovery-missing")


def test_damaged_segment_is_refused(shop, fail):
    shutil.rmtree("bases/second")
    segment = list_segments()[-2]
    content = bytearray(segment.read_bytes())
    content[200:400] = bytes(200)
    segment.write_bytes(content)
    at = write_time(shop.sales[-1].inserted)
    assert recover_with_status(at) == 4
    segment.write_bytes(content[:-1])
    assert recover_with_status(at) == 4


def lose_table(name):
    """Remove the rows of the sales from a copy: the log restores only the pages that change after it."""
    folder = Path("bases") / name
    if not (archive := folder / "base.tar.gz").exists():
        for path in folder.glob("base/*/*"):
            if b"x" * 20 in path.read_bytes():
                os.truncate(path, 0)
        return
    with tarfile.open(archive) as old, tarfile.open(folder / "base.tar", "w") as new:
        for member in old:
            content = old.extractfile(member).read() if member.isfile() else b""
            if b"x" * 20 not in content:
                new.addfile(member, io.BytesIO(content))
    archive.unlink()


@pytest.mark.parametrize("name", ["first", pytest.param("second", marks=pytest.mark.slow)])
def test_base_that_differs_from_its_manifest_is_refused(shop, answer, name):
    for other in {"first", "second"} - {name}:
        shutil.rmtree(Path("bases") / other)
    Path("bases", name, "notes.txt").touch()  # a file of another program does no harm
    at = write_time(shop.sales[-1].inserted)
    answer("backup", "recover", "--at", at)
    lose_table(name)
    error = answer("backup", "recover", "--at", at, status=4)["error"]
    assert (error["code"], "manifest" in error["message"]) == ("recovery-damaged", True)


@pytest.mark.slow
def test_segment_that_was_archived_in_part_ends_the_log(shop, answer):
    shutil.rmtree("bases/second")
    last = list_segments()[-1]
    last.write_bytes(last.read_bytes()[: 1 << 16])
    backup = answer("backup", "recover", "--at", write_time(shop.sales[4].inserted))["data"]
    assert backup["members"][0]["rows"] == {"sales": 4}


def recover_with_status(at: str) -> int:
    """Return the exit code of a recovery; only one that reads the whole log finds damage in it."""
    return main(["backup", "recover", "--at", at])


@pytest.mark.slow
def test_log_of_another_server_is_refused(shop, fail):
    with servers.archiving_postgresql("wal_level=logical") as server:
        other = Primary(server)
        other.sell(1)
        other.archive()
        other.kill()
        shutil.rmtree("log")
        shutil.copytree(other.log, "log")
    fail(shop.sales[-1].inserted, "recovery-refused")


def test_base_of_another_version_names_the_package(shop, fail):
    shutil.rmtree("bases/second")
    Path("bases/first/PG_VERSION").write_text("9\n")
    error = fail(shop.sales[3].inserted, "recovery-server-missing")
    assert "postgresql-9" in error["hint"]


@pytest.mark.slow
def test_database_that_did_not_exist_is_refused(shop, answer, tmp_path):
    shop.configure(tmp_path, database="late", base="bases", log="log")
    for sale, status in ((shop.sales[-3], 5), (shop.sales[-1], 4)):  # later it exists, without a table
        result = answer("backup", "recover", "--at", write_time(sale.inserted), status=None)
        assert result["exit_code"] == status, result
        assert find_leftovers() == []


def test_tablespace_is_refused(shop, fail):
    shutil.rmtree("bases/second")
    Path("bases/first/pg_tblspc/16400").symlink_to("/var/lib/postgresql")
    fail(shop.sales[3].inserted, "recovery-refused")
    Path("bases/first/pg_tblspc/16400").unlink()
    Path("bases/first/base/1").rename("bases/one")
    Path("bases/first/base/1").symlink_to("../../one")
    result = recover_with_status(write_time(shop.sales[3].inserted))
    assert result == 6


@pytest.mark.slow
def test_log_that_creates_a_tablespace_is_refused_only_after_it(tmp_path, monkeypatch, answer):
    with servers.archiving_postgresql() as server:
        primary = Primary(server)
        primary.back_up("first", "-X", "none")
        time.sleep(1)  # a base states the second of its start
        primary.sell(2)
        place = server.folder / "place"
        place.mkdir()
        owner = (server.folder / "data").stat()
        os.chown(place, owner.st_uid, owner.st_gid)
        primary.execute(f"create tablespace other location '{place}'")
        primary.execute("create table there (id integer) tablespace other")
        primary.sell(2)
        primary.kill()
        files = sorted(place.rglob("*"))
        monkeypatch.chdir(tmp_path)
        primary.configure(tmp_path)
        result = answer("backup", "recover", "--at", write_time(primary.sales[-1].inserted), status=6)
        assert result["error"]["code"] == "recovery-refused"
        answer("backup", "recover", "--at", write_time(primary.sales[1].inserted))
        assert sorted(place.rglob("*")) == files  # replaying it would delete the folder of the live server
        assert find_leftovers() == []


def test_folders_without_an_archive_are_refused(shop, fail, tmp_path):
    at = shop.sales[3].inserted
    shutil.rmtree("bases/second")
    for source, code in (
        ({"base": "log", "log": "log"}, "recovery-missing"),
        ({"base": "bases", "log": "backups"}, "file-missing"),
        ({"base": "bases", "log": "bases"}, "recovery-missing"),
        ({"base": "bases"}, "config-invalid"),
    ):
        shop.configure(tmp_path, **source)
        fail(at, code)


def test_missing_configuration_names_the_section(shop, fail, tmp_path):
    text = Path("dbctl.toml").read_text().partition("[apps.shop.recovery")[0]
    Path("dbctl.toml").write_text(text)
    Path("backups").mkdir(exist_ok=True)
    fail(shop.sales[3].inserted, "recovery-not-configured")


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_compressed_archives_are_read(shop, answer, suffix):
    for segment in list_segments():
        compress(segment, suffix)
    shutil.rmtree("bases/second") if suffix == ".gz" else repack(suffix)
    backup = answer("backup", "recover", "--at", write_time(shop.sales[-1].inserted))["data"]
    assert backup["members"][0]["rows"] == {"sales": len(shop.sales) - 1}


@pytest.mark.slow
def test_base_during_which_the_server_began_a_segment_is_read(shop, answer):
    """``pg_basebackup`` then marks the segment as archived: a file in a folder that is not in the archive."""
    path = Path("bases/second/pg_wal.tar.gz")
    with tarfile.open(path) as tar:
        contents = [(member, tar.extractfile(member).read()) for member in tar if member.isfile()]
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo(f"archive_status/{contents[0][0].name}.done"))
        for member, content in contents:
            tar.addfile(member, io.BytesIO(content))
    at = shop.sales[-1].inserted
    (member,) = answer("backup", "recover", "--at", write_time(at))["data"]["members"]
    assert member["rows"] == {"sales": len(shop.list_sales(at))}
    assert find_leftovers() == []


@pytest.mark.slow
def test_folders_of_barman_are_read(shop, answer):
    """Each copy has a folder ``data``, and the segments are compressed without a suffix, in subfolders."""
    shutil.rmtree("bases/second")
    Path("bases/20260105T030000").mkdir()
    Path("bases/first").rename("bases/20260105T030000/data")
    inner = Path("log/0000000100000000")
    inner.mkdir()
    for segment in list_segments():
        compress(segment, ".gz")
        segment.with_name(f"{segment.name}.gz").rename(inner / segment.name)
    shutil.copytree("log/0000000100000000", "wals/0000000100000000")
    shop.configure(Path.cwd(), base="bases", log="wals")
    (member,) = answer("backup", "recover", "--at", write_time(shop.sales[-1].inserted))["data"]["members"]
    assert member["rows"] == {"sales": len(shop.sales) - 1}
    assert member["facts"]["recovered_base"] == "20260105T030000"


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".partial", ".gz.partial"])
def test_partial_segment_of_pg_receivewal_is_read(shop, answer, suffix):
    last = list_segments()[-1]
    content = last.read_bytes()
    if suffix != ".partial":
        content = gzip.compress(content)[:-9]  # its end is missing
    last.with_name(last.name + suffix).write_bytes(content)
    for segment in Path("log").iterdir():
        if segment.name >= last.name and segment.suffix != ".partial":
            segment.unlink()
    backup = answer("backup", "recover", "--at", write_time(shop.sales[-1].inserted))["data"]
    assert backup["members"][0]["rows"] == {"sales": len(shop.sales) - 1}


def is_recycled(segment: Path) -> bool:
    """Whether a segment has the content of another one."""
    with segment.open("rb") as file:
        address = int.from_bytes(file.read(16)[8:], "little")
    return address >> 24 != int(segment.name[16:], 16)


def compress(path: Path, suffix: str) -> None:
    program = {".gz": ["gzip", "-1"], ".zst": ["zstd", "-q", "-1", "--rm"]}[suffix]
    subprocess.run([*program, path], check=True)


def repack(suffix: str) -> None:
    """Compress the archives of a base in another way."""
    for archive in Path("bases/second").glob("*.tar.gz"):
        subprocess.run(["gunzip", archive], check=True)
        compress(archive.with_suffix(""), suffix)


@pytest.mark.slow
def test_folder_of_temporary_files_needs_space_and_access(shop, answer, monkeypatch, temp_folder):
    at = write_time(shop.sales[3].inserted)
    for size in ("512k", "70M"):  # for no segment; for some of them, but not for the base, too
        with mount_disk(temp_folder / size, size) as disk:
            monkeypatch.setenv("TMPDIR", str(disk))
            result = answer("backup", "recover", "--at", at, status=1)
            assert result["error"]["code"] in ("insufficient-space", "disk-full")
            assert not [*disk.glob("dbctl-*")]
            disk.chmod(0o700)  # the user of the private server cannot enter it
            assert answer("backup", "recover", "--at", at, status=1)["error"]["code"] == "file-failed"
