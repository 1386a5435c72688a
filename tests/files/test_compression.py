"""Compression of files: compatibility with standard programs, and detection of damage."""

from __future__ import annotations

import random
import resource
import shutil
import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbctl.errors.connection import CorruptError
from dbctl.files import compression
from dbctl.files.atomic import hash_blocks
from dbctl.files.subprocesses import BLOCK

PROGRAMS = {"gzip": ["gunzip", "-c"], "zstd": ["zstd", "-d", "-c"]}
TEXT = b"".join(b"%d\tthe same again, and again\t%x\n" % (n, n * 7919) for n in range(40_000))
NOISE = random.Random(1).randbytes(BLOCK + 17)  # noqa: S311 - incompressible
FORMS = list(PROGRAMS)


@pytest.fixture(params=FORMS)
def form(request):
    return request.param


@pytest.fixture
def plain(tmp_path):
    path = tmp_path / "plain"
    path.write_bytes(TEXT + NOISE)
    return path


def decompress(compressed, compression_form, expected_bytes):
    destination = compressed.with_name("unpacked")
    destination.unlink(missing_ok=True)
    result = compression.decompress_file(
        compressed, destination, compression_form, expected_bytes=expected_bytes, target="tests", hashed=True
    )
    content = destination.read_bytes()
    assert result.content == hash_blocks([content])
    return content, result.stored.sha256


def test_missing_file_is_corrupt(tmp_path):
    """Another process may have deleted it."""
    with pytest.raises(CorruptError, match="missing: No such file"):
        decompress(tmp_path / "missing", "gzip", 1)
    assert list(tmp_path.iterdir()) == []


@given(parts=st.lists(st.tuples(st.binary(max_size=40), st.integers(0, 60_000)), max_size=6))
@pytest.mark.parametrize("form", FORMS)
def test_any_file_round_trips(tmp_path_factory, form, parts):
    text = b"".join(part * times for part, times in parts)
    plain = tmp_path_factory.mktemp("any") / "plain"
    plain.write_bytes(text)
    compressed = plain.with_name("compressed")
    result = compression.compress_file(plain, compressed, form)
    assert (result.stored.bytes, result.plain_bytes) == (compressed.stat().st_size, len(text))
    assert decompress(compressed, form, len(text)) == (text, result.stored.sha256)


def test_standard_program_decompresses_file(plain, form):
    if shutil.which(PROGRAMS[form][0]) is None:
        pytest.skip(f"{PROGRAMS[form][0]} is not installed")
    compression.compress_file(plain, plain.with_name("compressed"), form)
    with plain.with_name("compressed").open("rb") as compressed:
        process = subprocess.run(PROGRAMS[form], stdin=compressed, capture_output=True, check=True)
    assert process.stdout == TEXT + NOISE


def test_gzip_works_without_isal(plain, monkeypatch):
    fast, slow = plain.with_name("fast"), plain.with_name("slow")
    compression.compress_file(plain, fast, "gzip")
    monkeypatch.setitem(sys.modules, "isal", None)
    compression.compress_file(plain, slow, "gzip")
    for compressed in (fast, slow):
        assert decompress(compressed, "gzip", plain.stat().st_size)[0] == TEXT + NOISE


def test_damaged_file_is_detected(plain, form):
    compressed, size = plain.with_name("compressed"), plain.stat().st_size
    compression.compress_file(plain, compressed, form)
    content = compressed.read_bytes()
    broken = [
        content[:-1],
        content[:-9],
        content[: len(content) // 2],
        content[:1],
        b"",
        content + b"x",
        content + content,
    ]
    for position in range(len(TEXT) // 100, len(content), len(content) // 12):
        changed = bytearray(content)
        changed[position] ^= 1 << position % 8
        broken.append(bytes(changed))
    for damaged in broken:
        compressed.write_bytes(damaged)
        with pytest.raises(CorruptError):
            decompress(compressed, form, size)
        assert not plain.with_name("unpacked").exists()


@pytest.mark.parametrize("difference", [-1, 1])
def test_unexpected_size_is_detected(plain, form, difference):
    compressed = plain.with_name("compressed")
    compression.compress_file(plain, compressed, form)
    with pytest.raises(CorruptError, match="decompresses to"):
        decompress(compressed, form, plain.stat().st_size + difference)


def test_decompression_bomb_is_stopped_early(tmp_path, form):
    bomb, compressed = tmp_path / "plain", tmp_path / "compressed"
    with bomb.open("wb") as file:
        file.truncate(400 << 20)
    compression.compress_file(bomb, compressed, form)
    bomb.unlink()
    assert compressed.stat().st_size < 2 << 20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CorruptError, match="more than the expected 1,000 bytes"):
        decompress(compressed, form, 1000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 << 10
    assert {path.name for path in tmp_path.iterdir()} == {"compressed"}


def test_failed_compression_leaves_no_file_or_thread(plain, form):
    before = threading.active_count()

    def fail(_share):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        compression.compress_file(plain, plain.with_name("compressed"), form, fail)
    assert {path.name for path in plain.parent.iterdir()} == {"plain"}
    assert threading.active_count() == before
