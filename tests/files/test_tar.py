"""Archives unpacked: nothing in them reaches beyond their folder, whatever they say."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

from dbctl.errors import ArchiveUnsafeError, DbctlError, FileExistsAlreadyError, FileUnsoundError
from dbctl.files import tar

MOST = 1 << 20


@pytest.fixture
def place(tmp_path):
    (tmp_path / "inside").mkdir()
    return tmp_path / "inside"


def member(name, data=b"evil", **more):
    one = tarfile.TarInfo(name)
    one.size = len(data) if more.get("type", tarfile.REGTYPE) == tarfile.REGTYPE else 0
    for key, value in more.items():
        setattr(one, key, value)
    return one, data


def link(name, target, kind=tarfile.SYMTYPE):
    return member(name, b"", type=kind, linkname=target)


def made(place, *members, form=tarfile.PAX_FORMAT):
    path = place / "archive.tar"
    with tarfile.open(path, "w", format=form) as archive:
        for one, data in members:
            archive.addfile(one, io.BytesIO(data) if one.isreg() else None)
    return path


def unpack(path, to, **more):
    return tar.unpack(path, to, name="archive.tar", most=more.pop("most", MOST), **more)


def below(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


ATTACKS = {
    "a name that leads out": [member("../evil")],
    "a name that leads out further in": [member("a/b/../../../evil")],
    "a name from the root": [member("/var/evil")],
    "a link, and a file written through it": [link("a", ".."), member("a/evil")],
    "a link to a folder, a folder over it, and a file": [
        link("a", "/var"),
        member("a", b"", type=tarfile.DIRTYPE),
        member("a/evil"),
    ],
    "a hard link, and what is written into it": [
        link("a", "/etc/passwd", tarfile.LNKTYPE),
        member("a"),
    ],
    "a device": [member("null", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=3)],
    "a disk": [member("disk", b"", type=tarfile.BLKTYPE, devmajor=8, devminor=0)],
    "a pipe": [member("pipe", b"", type=tarfile.FIFOTYPE)],
    "a name twice": [member("a"), member("./a")],
    "a file that is a folder, too": [member("a"), member("a/b")],
    "a folder that is a file, too": [member("a/b"), member("a")],
    "a name without an end": [member("/".join("a" * 200))],
    "more than it may hold": [member("a", b"x" * (MOST // 2 + 1)), member("b", b"x" * (MOST // 2 + 1))],
}


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT], ids=["pax", "gnu"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_an_archive_that_would_reach_out_is_refused_as_a_whole(place, attack, form):
    path = made(place, member("good", b"good"), *ATTACKS[attack], form=form)
    with pytest.raises(ArchiveUnsafeError):
        unpack(path, place / "to")
    assert below(place) == {"archive.tar"}
    assert below(place.parent) == {"inside", "inside/archive.tar"}
    assert not Path("/var/evil").exists()


def test_files_and_folders_are_made_for_their_owner_alone(place):
    path = made(
        place,
        member("./", b"", type=tarfile.DIRTYPE, mode=0o777),
        member("bin/run", b"#!", mode=0o6777, uid=0, mtime=1_700_000_000),
        member("empty/", b"", type=tarfile.DIRTYPE, mode=0o1777),
        member("odd \x1b[1m\n name"),
    )
    told = unpack(path, place / "to")
    assert (told.files, told.bytes, told.left_out) == (2, 6, [])
    assert below(place / "to") == {"bin", "bin/run", "empty", "odd \x1b[1m\n name"}
    for one in (place / "to").rglob("*"):
        assert stat.S_IMODE(one.lstat().st_mode) == (0o700 if one.is_dir() else 0o600)
    assert stat.S_IMODE((place / "to").stat().st_mode) == 0o700
    assert (place / "to/bin/run").stat().st_mtime == 1_700_000_000


def test_links_are_left_out_and_named(place):
    path = made(
        place, member("a", b"a"), link("b", "a"), link("c", "/etc/passwd"), link("d", "a", tarfile.LNKTYPE)
    )
    assert unpack(path, place / "to").left_out == ["b -> a", "c -> /etc/passwd", "d -> a"]
    assert below(place / "to") == {"a"}


def test_what_stands_there_is_never_touched(place):
    path = made(place, member("a"))
    (place / "to").mkdir()
    (place / "dangling").symlink_to("nowhere")
    for to in ("to", "dangling"):
        with pytest.raises(FileExistsAlreadyError):
            unpack(path, place / to)
    assert below(place) == {"archive.tar", "to", "dangling"}


def test_an_archive_cut_off_anywhere_leaves_nothing(place):
    whole = made(place, member("a", b"x" * 3000), member("b/c", b"y" * 700), member("d", b"z")).read_bytes()
    end = whole.rindex(b"z") + 1
    for length in (0, 1, 511, 512, 600, 2000, 3584, 4096, 4100, end - 1, end + 511):
        (place / "archive.tar").write_bytes(whole[:length])
        with pytest.raises(FileUnsoundError):
            unpack(place / "archive.tar", place / "to")
        assert below(place) == {"archive.tar"}, length


def test_noise_is_no_archive(place):
    for data in (os.urandom(5000), b"\0" * 511, b"a" * 10_240):
        (place / "archive.tar").write_bytes(data)
        with pytest.raises(FileUnsoundError):
            unpack(place / "archive.tar", place / "to")


def test_more_members_than_it_may_have_are_refused(place):
    path = made(place, *[member(str(number), b"") for number in range(11)])
    with pytest.raises(ArchiveUnsafeError, match="more than 10 members"):
        unpack(path, place / "to", members=10)


def test_a_header_that_says_it_is_huge_is_not_read(place):
    one = tarfile.TarInfo("././@LongLink")
    one.type, one.size = tarfile.GNUTYPE_LONGNAME, 1 << 40
    (place / "archive.tar").write_bytes(one.tobuf(tarfile.GNU_FORMAT) + b"a" * 1024)
    with pytest.raises(DbctlError):
        unpack(place / "archive.tar", place / "to")
    assert below(place) == {"archive.tar"}


def test_a_file_that_says_it_has_holes_is_refused(place):
    one, data = member("a", b"", type=tarfile.GNUTYPE_SPARSE)
    path = made(place, (one, data), form=tarfile.GNU_FORMAT)
    with pytest.raises(DbctlError):
        unpack(path, place / "to")
    assert below(place) == {"archive.tar"}
