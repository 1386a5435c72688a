"""Blocks between two threads."""

from __future__ import annotations

import time

import pytest

from dbctl.services.backup.streaming import MAX_PENDING, Pipe, PipeAbortedError


def test_reader_gets_each_block_in_order_and_few_wait():
    read = list[bytes]()

    def collect(blocks):
        for block in blocks:
            read.append(block)
            time.sleep(0.001)
        return len(read)

    pipe = Pipe(collect)
    for number in range(100):
        assert pipe.write(b"%d" % number) == len(b"%d" % number)
        assert number - len(read) <= MAX_PENDING + 1
    pipe.end()
    assert pipe.result() == 100
    assert read == [b"%d" % number for number in range(100)]


def test_error_of_the_reader_ends_the_writer():
    def fail(blocks):
        next(blocks)
        raise ZeroDivisionError

    pipe = Pipe(fail)
    with pytest.raises(ZeroDivisionError):
        for _ in range(1_000):
            pipe.write(b"x")
    with pytest.raises(ZeroDivisionError):
        pipe.result()
    pipe.abort()


def test_aborted_reader_has_ended_and_sees_no_end_of_the_blocks():
    is_complete = list[bool]()

    def read_all(blocks):
        is_complete.append(bool(list(blocks)))

    pipe = Pipe(read_all)
    pipe.write(b"x")
    pipe.abort()
    assert is_complete == []
    with pytest.raises(PipeAbortedError):
        pipe.result()
