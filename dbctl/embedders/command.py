"""A program that makes a vector of the words it gets on standard input, and writes it as a JSON array."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import IO

import msgspec

from dbctl import signals
from dbctl.config import Embedder
from dbctl.embedders import base
from dbctl.errors import EmbedderFailedError, EmbedderUnreachableError
from dbctl.model import read_span

#: Bytes that it may write, those that are read at once, and seconds between two looks for a signal.
LARGEST, BLOCK, LOOK_SECONDS = 4 << 20, 1 << 16, 0.05
#: Characters of what it says of its failure.
LONGEST_COMPLAINT = 300
TRY = "Run that program by hand: words on standard input, a JSON array of numbers on standard output."


class Command:
    """A program, as an app's configuration names it; no shell reads its words, and it has the whole environment."""

    def __init__(self, told: Embedder) -> None:
        self._argv = list(told.command)
        self._seconds = read_span(told.timeout).total_seconds()
        self.place = self._argv[0]

    def embed(self, text: str) -> Sequence[float]:
        with tempfile.TemporaryFile() as asked, tempfile.TemporaryFile() as said:
            asked.write(text.encode())
            asked.seek(0)
            written = self._run(asked, said)
        try:
            told = msgspec.json.decode(written)
        except (msgspec.DecodeError, RecursionError) as error:
            reason = "it wrote nothing" if not written.strip() else "what it wrote is no JSON"
            raise EmbedderFailedError(place=self.place, reason=reason, instead=TRY) from error
        return base.vector(told, self.place, TRY)

    def _run(self, asked: IO[bytes], said: IO[bytes]) -> bytes:
        try:
            process = subprocess.Popen(  # noqa: S603 - the words of the configuration, and no shell
                self._argv,
                stdin=asked,
                stdout=subprocess.PIPE,
                stderr=said,
                start_new_session=True,  # so that whatever it starts can be ended with it
            )
        except OSError as error:
            raise EmbedderUnreachableError(
                place=self.place,
                reason=error.strerror or str(error),
                instead="Check command under [apps.NAME.embedder]; it is a list: the program, then its words.",
            ) from error
        try:
            written = self._read(process)
        finally:
            with signals.unheard():
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                if process.stdout:
                    process.stdout.close()
        if process.returncode:
            raise EmbedderFailedError(
                place=self.place, reason=_complaint(said, process.returncode), instead=TRY
            )
        return written

    def _read(self, process: subprocess.Popen[bytes]) -> bytes:
        """Return what it writes until it ends, though what it started may go on."""
        if process.stdout is None:
            raise RuntimeError("it writes nowhere")
        descriptor, until, written, open_ = (
            process.stdout.fileno(),
            time.monotonic() + self._seconds,
            bytearray(),
            True,
        )
        while True:
            signals.check()
            ended = process.poll() is not None
            if open_ and select.select([descriptor], [], [], 0 if ended else LOOK_SECONDS)[0]:
                block = os.read(descriptor, BLOCK)
                open_ = bool(block)
                written += block
            elif ended:
                return bytes(written)
            elif not open_:
                time.sleep(LOOK_SECONDS)
            if len(written) > LARGEST:
                raise EmbedderFailedError(
                    place=self.place, reason=f"it wrote more than {LARGEST >> 20} MiB", instead=TRY
                )
            if time.monotonic() > until:
                raise EmbedderUnreachableError(
                    place=self.place,
                    reason=f"it did not end within {self._seconds:g} s, and was ended",
                    instead="Give it longer: timeout under [apps.NAME.embedder].",
                )


def _complaint(said: IO[bytes], status: int) -> str:
    """Return the last line that it said on standard error, or how it ended."""
    said.seek(max(0, said.seek(0, os.SEEK_END) - BLOCK))
    lines = said.read().decode(errors="replace").strip().splitlines()
    ended = f"it was ended by {signal.Signals(-status).name}" if status < 0 else f"it ended with {status}"
    return f"{ended}: {lines[-1].strip()[:LONGEST_COMPLAINT]}" if lines else ended
