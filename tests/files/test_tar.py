"""Extraction of archives: no member can write outside of the destination."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

from dbctl.errors.backup import ArchiveUnsafeError, FileInvalidError
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import FileExistsAlreadyError
from dbctl.files import tar

MAX_BYTES = 1 << 20


@pytest.fixture
def place(tmp_path):
    (tmp_path / "inside").mkdir()
    return tmp_path / "inside"


def create_member(name, data=b"evil", **attributes):
    info = tarfile.TarInfo(name)
    info.size = len(data) if attributes.get("type", tarfile.REGTYPE) == tarfile.REGTYPE else 0
    for key, value in attributes.items():
        setattr(info, key, value)
    return info, data


def create_link(name, target, kind=tarfile.SYMTYPE):
    return create_member(name, b"", type=kind, linkname=target)


def create_archive(place, *members, form=tarfile.PAX_FORMAT):
    path = place / "archive.tar"
    with tarfile.open(path, "w", format=form) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data) if info.isreg() else None)
    return path


def extract(path, to, **options):
    return tar.extract(path, to, name="archive.tar", max_bytes=options.pop("most", MAX_BYTES), **options)


def list_paths(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


ATTACKS = {
    "a path to the parent": [create_member("../evil")],
    "a path to the parent of the destination": [create_member("a/b/../../../evil")],
    "an absolute path": [create_member("/var/evil")],
    "a symbolic link and a file below it": [create_link("a", ".."), create_member("a/evil")],
    "a symbolic link, a folder of that name, and a file below it": [
        create_link("a", "/var"),
        create_member("a", b"", type=tarfile.DIRTYPE),
        create_member("a/evil"),
    ],
    "a hard link and a file of that name": [
        create_link("a", "/etc/passwd", tarfile.LNKTYPE),
        create_member("a"),
    ],
    "a device": [create_member("null", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=3)],
    "a disk": [create_member("disk", b"", type=tarfile.BLKTYPE, devmajor=8, devminor=0)],
    "a pipe": [create_member("pipe", b"", type=tarfile.FIFOTYPE)],
    "a duplicate name": [create_member("a"), create_member("./a")],
    "a file that is also a folder": [create_member("a"), create_member("a/b")],
    "a folder that is also a file": [create_member("a/b"), create_member("a")],
    "a path that is too deep": [create_member("/".join("a" * 200))],
    "too many bytes": [
        create_member("a", b"x" * (MAX_BYTES // 2 + 1)),
        create_member("b", b"x" * (MAX_BYTES // 2 + 1)),
    ],
}


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT], ids=["pax", "gnu"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_unsafe_archive_is_refused_completely(place, attack, form):
    path = create_archive(place, create_member("good", b"good"), *ATTACKS[attack], form=form)
    with pytest.raises(ArchiveUnsafeError):
        extract(path, place / "to")
    assert list_paths(place) == {"archive.tar"}
    assert list_paths(place.parent) == {"inside", "inside/archive.tar"}
    assert not Path("/var/evil").exists()


def test_extracted_files_are_private(place):
    path = create_archive(
        place,
        create_member("./", b"", type=tarfile.DIRTYPE, mode=0o777),
        create_member("bin/run", b"#!", mode=0o6777, uid=0, mtime=1_700_000_000),
        create_member("empty/", b"", type=tarfile.DIRTYPE, mode=0o1777),
        create_member("odd \x1b[1m\n name"),
    )
    result = extract(path, place / "to")
    assert (result.files, result.bytes, result.skipped_links) == (2, 6, [])
    assert list_paths(place / "to") == {"bin", "bin/run", "empty", "odd \x1b[1m\n name"}
    for path_in_folder in (place / "to").rglob("*"):
        assert stat.S_IMODE(path_in_folder.lstat().st_mode) == (0o700 if path_in_folder.is_dir() else 0o600)
    assert stat.S_IMODE((place / "to").stat().st_mode) == 0o700
    assert (place / "to/bin/run").stat().st_mtime == 1_700_000_000


def test_links_are_skipped_and_reported(place):
    path = create_archive(
        place,
        create_member("a", b"a"),
        create_link("b", "a"),
        create_link("c", "/etc/passwd"),
        create_link("d", "a", tarfile.LNKTYPE),
    )
    assert extract(path, place / "to").skipped_links == ["b -> a", "c -> /etc/passwd", "d -> a"]
    assert list_paths(place / "to") == {"a"}


def test_existing_destination_is_refused(place):
    path = create_archive(place, create_member("a"))
    (place / "to").mkdir()
    (place / "dangling").symlink_to("nowhere")
    for to in ("to", "dangling"):
        with pytest.raises(FileExistsAlreadyError):
            extract(path, place / to)
    assert list_paths(place) == {"archive.tar", "to", "dangling"}


def test_truncated_archive_leaves_nothing(place):
    content = create_archive(
        place, create_member("a", b"x" * 3000), create_member("b/c", b"y" * 700), create_member("d", b"z")
    ).read_bytes()
    end = content.rindex(b"z") + 1
    for length in (0, 1, 511, 512, 600, 2000, 3584, 4096, 4100, end - 1, end + 511):
        (place / "archive.tar").write_bytes(content[:length])
        with pytest.raises(FileInvalidError):
            extract(place / "archive.tar", place / "to")
        assert list_paths(place) == {"archive.tar"}, length


def test_random_bytes_are_refused(place):
    for data in (os.urandom(5000), b"\0" * 511, b"a" * 10_240):
        (place / "archive.tar").write_bytes(data)
        with pytest.raises(FileInvalidError):
            extract(place / "archive.tar", place / "to")


def test_too_many_members_are_refused(place):
    path = create_archive(place, *[create_member(str(number), b"") for number in range(11)])
    with pytest.raises(ArchiveUnsafeError, match="more than 10 members"):
        extract(path, place / "to", max_members=10)


def test_huge_header_is_not_read(place):
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 40
    (place / "archive.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + b"a" * 1024)
    with pytest.raises(DbctlError):
        extract(place / "archive.tar", place / "to")
    assert list_paths(place) == {"archive.tar"}


def test_sparse_file_is_refused(place):
    info, data = create_member("a", b"", type=tarfile.GNUTYPE_SPARSE)
    path = create_archive(place, (info, data), form=tarfile.GNU_FORMAT)
    with pytest.raises(DbctlError):
        extract(path, place / "to")
    assert list_paths(place) == {"archive.tar"}
