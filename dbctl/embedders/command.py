"""An embedder program: reads text from standard input and writes a JSON array."""

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
from dbctl.model import parse_duration

#: Maximum bytes of output, bytes per read, and seconds between checks for signals.
MAX_OUTPUT_BYTES, BLOCK, POLL_SECONDS = 4 << 20, 1 << 16, 0.05
#: Maximum characters of the program's error message.
MAX_ERROR_CHARACTERS = 300
CHECK_HINT = "Run the program manually: it reads text from standard input and writes a JSON array of numbers to standard output."


class Command:
    """A configured program, run without a shell in the environment of dbctl."""

    def __init__(self, section: Embedder) -> None:
        self._argv = list(section.command)
        self._seconds = parse_duration(section.timeout).total_seconds()
        self.place = self._argv[0]

    def embed(self, text: str) -> Sequence[float]:
        with tempfile.TemporaryFile() as input_file, tempfile.TemporaryFile() as error_file:
            input_file.write(text.encode())
            input_file.seek(0)
            output = self._run(input_file, error_file)
        try:
            result = msgspec.json.decode(output)
        except (msgspec.DecodeError, RecursionError) as error:
            reason = "no output" if not output.strip() else "the output is not JSON"
            raise EmbedderFailedError(place=self.place, reason=reason, hint=CHECK_HINT) from error
        return base.require_vector(result, self.place, CHECK_HINT)

    def _run(self, input_file: IO[bytes], error_file: IO[bytes]) -> bytes:
        try:
            process = subprocess.Popen(  # noqa: S603 - the configured program, without a shell
                self._argv,
                stdin=input_file,
                stdout=subprocess.PIPE,
                stderr=error_file,
                start_new_session=True,  # so that its child processes can be ended with it
            )
        except OSError as error:
            raise EmbedderUnreachableError(
                place=self.place,
                reason=error.strerror or str(error),
                hint="Check command under [apps.NAME.embedder]; it is a list: the program and its arguments.",
            ) from error
        try:
            output = self._read(process)
        finally:
            with signals.block_signals():
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                if process.stdout:
                    process.stdout.close()
        if process.returncode:
            raise EmbedderFailedError(
                place=self.place, reason=_describe_failure(error_file, process.returncode), hint=CHECK_HINT
            )
        return output

    def _read(self, process: subprocess.Popen[bytes]) -> bytes:
        """Return the output until the program ends, even if its child processes continue."""
        if process.stdout is None:
            raise RuntimeError(f"{self.place} has no output pipe")
        descriptor, deadline, output, is_open = (
            process.stdout.fileno(),
            time.monotonic() + self._seconds,
            bytearray(),
            True,
        )
        while True:
            signals.raise_if_interrupted()
            has_ended = process.poll() is not None
            if is_open and select.select([descriptor], [], [], 0 if has_ended else POLL_SECONDS)[0]:
                block = os.read(descriptor, BLOCK)
                is_open = bool(block)
                output += block
            elif has_ended:
                return bytes(output)
            elif not is_open:
                time.sleep(POLL_SECONDS)
            if len(output) > MAX_OUTPUT_BYTES:
                raise EmbedderFailedError(
                    place=self.place,
                    reason=f"it wrote more than {MAX_OUTPUT_BYTES >> 20} MiB",
                    hint=CHECK_HINT,
                )
            if time.monotonic() > deadline:
                raise EmbedderUnreachableError(
                    place=self.place,
                    reason=f"it did not end within {self._seconds:g} s and was killed",
                    hint="Increase timeout under [apps.NAME.embedder].",
                )


def _describe_failure(error_file: IO[bytes], status: int) -> str:
    """Return the exit code and the last line of standard error."""
    error_file.seek(max(0, error_file.seek(0, os.SEEK_END) - BLOCK))
    lines = error_file.read().decode(errors="replace").strip().splitlines()
    status_text = (
        f"it was killed by {signal.Signals(-status).name}" if status < 0 else f"it ended with status {status}"
    )
    return f"{status_text}: {lines[-1].strip()[:MAX_ERROR_CHARACTERS]}" if lines else status_text
