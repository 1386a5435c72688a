"""Text that is packed in pieces, several at once, is one stream of gzip that anybody unpacks."""

from __future__ import annotations

import gzip
import random
import subprocess
import threading
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbctl.errors import CorruptError
from dbctl.files import parallel_gzip
from dbctl.files.progress import silent

TEXT = b"".join(b"%d\tthe same again, and again\t%x\n" % (n, n * 7919) for n in range(60_000))


def blocks_of(text, length):
    return [text[at : at + length] for at in range(0, len(text), length)]


def made(blocks):
    with parallel_gzip.packing() as packing:
        return b"".join([*(packing.feed(block) for block in blocks), packing.rest()])


@given(st.lists(st.tuples(st.binary(max_size=40), st.integers(0, 30_000)), max_size=6))
@settings(max_examples=40)
def test_any_blocks_come_back_as_they_were(parts):
    blocks = [part * times for part, times in parts]
    assert gzip.decompress(made(blocks)) == b"".join(blocks)


@pytest.mark.parametrize("length", [4096, parallel_gzip.PIECE - 1, parallel_gzip.PIECE, 1 << 20])
def test_gunzip_alone_unpacks_it_however_it_was_cut(length):
    done = subprocess.run(
        ["gunzip", "-c"], input=made(blocks_of(TEXT, length)), capture_output=True, check=True
    )
    assert done.stdout == TEXT


def test_the_cuts_cost_hardly_any_room():
    text = random.Random(4).randbytes(parallel_gzip.WINDOW // 2) * 200  # noqa: S311 - what repeats only far behind
    whole = zlib.compressobj(parallel_gzip.LEVEL, zlib.DEFLATED, parallel_gzip.GZIP)
    alone = len(whole.compress(text) + whole.flush())
    assert len(made(blocks_of(text, 4096))) < alone * 1.05


def test_a_file_that_lost_its_end_or_a_byte_is_told(tmp_path):
    file, text = tmp_path / "x.sql.gz", made(blocks_of(TEXT, 1 << 16))
    file.write_bytes(text)
    assert b"".join(parallel_gzip.unpacked(file, "tests", silent)) == TEXT
    middle = len(text) // 2
    for broken in (text[:-1], text[:middle], text[:middle] + bytes([text[middle] ^ 1]) + text[middle + 1 :]):
        file.write_bytes(broken)
        with pytest.raises(CorruptError):
            list(parallel_gzip.unpacked(file, "tests", silent))


def test_what_ends_early_leaves_no_thread():
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError), parallel_gzip.packing() as packing:
        for block in blocks_of(TEXT, 1 << 18):
            packing.feed(block)
        raise ZeroDivisionError
    assert threading.active_count() == before
