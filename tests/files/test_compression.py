"""Files that are packed whole: read by the usual programs, and refused once a byte of them is another."""

from __future__ import annotations

import random
import resource
import shutil
import subprocess
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbctl.errors import CorruptError
from dbctl.files import compression
from dbctl.files.subprocesses import BLOCK

PROGRAMS = {"gzip": ["gunzip", "-c"], "zstd": ["zstd", "-d", "-c"]}
TEXT = b"".join(b"%d\tthe same again, and again\t%x\n" % (n, n * 7919) for n in range(40_000))
NOISE = random.Random(1).randbytes(BLOCK + 17)  # noqa: S311 - what cannot be packed
FORMS = list(PROGRAMS)


@pytest.fixture(params=FORMS)
def form(request):
    return request.param


@pytest.fixture
def plain(tmp_path):
    path = tmp_path / "plain"
    path.write_bytes(TEXT + NOISE)
    return path


def unpacked(packed, form, most):
    place = packed.with_name("unpacked")
    place.unlink(missing_ok=True)
    found = compression.unpack(packed, place, form, most=most, target="tests")
    return place.read_bytes(), found.sha256


@given(parts=st.lists(st.tuples(st.binary(max_size=40), st.integers(0, 60_000)), max_size=6))
@settings(max_examples=25)
@pytest.mark.parametrize("form", FORMS)
def test_any_file_comes_back_as_it_was(tmp_path_factory, form, parts):
    text = b"".join(part * times for part, times in parts)
    plain = tmp_path_factory.mktemp("any") / "plain"
    plain.write_bytes(text)
    packed = plain.with_name("packed")
    made = compression.pack(plain, packed, form)
    assert (made.bytes, made.plain_bytes) == (packed.stat().st_size, len(text))
    assert unpacked(packed, form, len(text)) == (text, made.sha256)


def test_the_usual_program_unpacks_it_alone(plain, form):
    if shutil.which(PROGRAMS[form][0]) is None:
        pytest.skip(f"{PROGRAMS[form][0]} is not installed")
    compression.pack(plain, plain.with_name("packed"), form)
    with plain.with_name("packed").open("rb") as packed:
        done = subprocess.run(PROGRAMS[form], stdin=packed, capture_output=True, check=True)
    assert done.stdout == TEXT + NOISE


def test_without_the_fast_library_gzip_is_packed_and_unpacked_all_the_same(plain, monkeypatch):
    fast, slow = plain.with_name("fast"), plain.with_name("slow")
    compression.pack(plain, fast, "gzip")
    monkeypatch.setitem(sys.modules, "isal", None)
    compression.pack(plain, slow, "gzip")
    for packed in (fast, slow):
        assert unpacked(packed, "gzip", plain.stat().st_size)[0] == TEXT + NOISE


def test_a_file_that_lost_its_end_or_a_byte_or_got_more_is_told(plain, form):
    packed, size = plain.with_name("packed"), plain.stat().st_size
    compression.pack(plain, packed, form)
    whole = packed.read_bytes()
    broken = [whole[:-1], whole[:-9], whole[: len(whole) // 2], whole[:1], b"", whole + b"x", whole + whole]
    for place in range(len(TEXT) // 100, len(whole), len(whole) // 12):
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        broken.append(bytes(changed))
    for one in broken:
        packed.write_bytes(one)
        with pytest.raises(CorruptError):
            unpacked(packed, form, size)
        assert not plain.with_name("unpacked").exists()


@pytest.mark.parametrize("wrong", [-1, 1])
def test_what_unpacks_to_another_size_is_told(plain, form, wrong):
    packed = plain.with_name("packed")
    compression.pack(plain, packed, form)
    with pytest.raises(CorruptError, match="unpacks to"):
        unpacked(packed, form, plain.stat().st_size + wrong)


def test_what_unpacks_to_far_more_than_it_had_ends_there_and_fills_neither_memory_nor_disk(tmp_path, form):
    bomb, packed = tmp_path / "plain", tmp_path / "packed"
    with bomb.open("wb") as file:
        file.truncate(400 << 20)
    compression.pack(bomb, packed, form)
    bomb.unlink()
    assert packed.stat().st_size < 2 << 20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CorruptError, match="more than the 1,000 bytes"):
        unpacked(packed, form, 1000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 << 10
    assert {one.name for one in tmp_path.iterdir()} == {"packed"}


def test_packing_that_fails_leaves_no_file_and_no_thread(plain, form):
    before = threading.active_count()

    def fail(_share):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        compression.pack(plain, plain.with_name("packed"), form, fail)
    assert {one.name for one in plain.parent.iterdir()} == {"plain"}
    assert threading.active_count() == before
