"""The program rdiff of librsync: signatures of files, differences from a signature, and their application."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from dbctl.errors.connection import ClientFailedError, ClientMissingError, CorruptError
from dbctl.files.subprocesses import BLOCK, ProgramWatch, run_program

#: The name of the program, of its Debian package, and of the library that provides it.
PROGRAM, PACKAGE = "rdiff", "rdiff"
#: Bytes of a block, by the largest size of a file: a change costs at least one block. Most changes of a page of SQLite are in few of its
#: 1 KiB blocks: after 20,000 changed rows of 325 MB, a difference has 13 % of the bytes of a full copy, and 19 % with blocks of 4 KiB, in the
#: same time. Large files have larger blocks, because rdiff keeps about 60 bytes of each in memory.
_BLOCK_SIZES = ((512 << 20, 1 << 10), (4 << 30, 4 << 10), (64 << 30, 16 << 10))
_LARGEST_BLOCK = 64 << 10
#: With the buffers of its own choice, rdiff needs a quarter more time.
_BUFFERS = ("--input-size", str(BLOCK), "--output-size", str(BLOCK))
#: Exit statuses about the content of a signature or a difference: its end is missing, or it is of another format. Others, such as
#: those of a full disk, of missing memory and of a signal, do not mean that a file is damaged.
_DAMAGED = range(103, 107)


def choose_block_size(size: int) -> int:
    """Return the bytes of a block for a file of ``size`` bytes."""
    return next((block for limit, block in _BLOCK_SIZES if size <= limit), _LARGEST_BLOCK)


def find_program() -> str | None:
    """Return the path of the program; None: it is not installed."""
    return shutil.which(PROGRAM)


def create_signature(content: Path, block: int, target: str) -> Iterator[bytes]:
    """Yield the signature of a file, with blocks of ``block`` bytes; raises as ``_run``."""
    return _run(["--block-size", str(block), "signature", content], target)


def create_delta(signature: Path, content: Path, target: str) -> Iterator[bytes]:
    """Yield the difference of a file from the one with a signature; raises as ``_run``."""
    return _run(["delta", signature, content], target)


def apply_delta(base: Path, delta: Path, target: str) -> Iterator[bytes]:
    """Yield the file whose difference from ``base`` is ``delta``; raises as ``_run``.

    rdiff notices neither another base nor most damages of the difference: the caller compares digests of the base and of the result.
    """
    return _run(["patch", base, delta], target)


def _run(words: list[str | Path], target: str) -> Iterator[bytes]:
    """Yield the output of the program.

    Raises:
        ClientMissingError: it is not installed.
        CorruptError: it cannot use the content of a signature or of a difference.
        ClientFailedError: it ended with another error.
    """
    program = find_program()
    if program is None:
        raise ClientMissingError(
            target=target, program=PROGRAM, product="librsync", version="2", package=PACKAGE
        )
    watch = ProgramWatch(target=target, hint="Nothing was changed.")
    with run_program([program, *_BUFFERS, *map(str, words)], {}, watch=watch, writes=True) as running:
        yield from running.blocks()
        if status := running.finish():
            reason = running.error_output() or f"exit status {status}"
            if status in _DAMAGED:
                raise CorruptError(target=target, reason=f"{PROGRAM}: {reason}")
            raise ClientFailedError(target=target, program=PROGRAM, reason=reason, hint=watch.hint)
