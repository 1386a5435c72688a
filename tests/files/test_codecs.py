"""Compression by several threads: the result is one standard stream."""

from __future__ import annotations

import gzip
import random
import subprocess
import threading
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbctl.errors.connection import CorruptError
from dbctl.files import codecs
from dbctl.progress import no_progress

TEXT = b"".join(b"%d\tthe same again, and again\t%x\n" % (n, n * 7919) for n in range(60_000))


def split_blocks(text, length):
    return [text[start : start + length] for start in range(0, len(text), length)]


def compress(blocks):
    with codecs.open_parallel_gzip() as compressor:
        return b"".join([*(compressor.compress(block) for block in blocks), compressor.flush()])


@given(st.lists(st.tuples(st.binary(max_size=40), st.integers(0, 30_000)), max_size=6))
def test_any_blocks_round_trip(parts):
    blocks = [part * times for part, times in parts]
    assert gzip.decompress(compress(blocks)) == b"".join(blocks)


@pytest.mark.parametrize("length", [4096, codecs.CHUNK - 1, codecs.CHUNK, 1 << 20])
def test_gunzip_decompresses_any_block_size(length):
    process = subprocess.run(
        ["gunzip", "-c"], input=compress(split_blocks(TEXT, length)), capture_output=True, check=True
    )
    assert process.stdout == TEXT


def test_splitting_hardly_increases_size():
    text = random.Random(4).randbytes(codecs.WINDOW // 2) * 200  # noqa: S311 - repeats only at a long distance
    compressor = zlib.compressobj(codecs.LEVEL, zlib.DEFLATED, codecs.GZIP)
    single_size = len(compressor.compress(text) + compressor.flush())
    assert len(compress(split_blocks(text, 4096))) < single_size * 1.05


def test_damaged_file_is_detected(tmp_path):
    file, text = tmp_path / "x.sql.gz", compress(split_blocks(TEXT, 1 << 16))
    file.write_bytes(text)
    assert b"".join(codecs.read_gzip(file, "tests", no_progress)) == TEXT
    middle = len(text) // 2
    for broken in (text[:-1], text[:middle], text[:middle] + bytes([text[middle] ^ 1]) + text[middle + 1 :]):
        file.write_bytes(broken)
        with pytest.raises(CorruptError):
            list(codecs.read_gzip(file, "tests", no_progress))


def test_aborted_compression_leaves_no_thread():
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError), codecs.open_parallel_gzip() as compressor:
        for block in split_blocks(TEXT, 1 << 18):
            compressor.compress(block)
        raise ZeroDivisionError
    assert threading.active_count() == before


def test_file_that_cannot_be_read_is_damaged(tmp_path):
    with pytest.raises(CorruptError, match="Is a directory"):
        list(codecs.read_gzip(tmp_path, "larder/pantry", no_progress))
