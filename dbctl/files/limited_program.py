"""Run a configured program with limits of time and output, without a shell, and end it with its child processes."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

from dbctl import signals

#: Bytes per read, and seconds between checks for signals.
BLOCK, POLL_SECONDS = 1 << 16, 0.05
#: Seconds between SIGTERM and SIGKILL for a program that may have to undo its work.
GRACE_SECONDS = 2.0


class ProgramFailedError(Exception):
    """The program cannot be started, failed, or exceeded a limit; the text is the reason."""

    def __init__(self, reason: str, *, cause: str = "failed", error_lines: Sequence[str] = ()) -> None:
        super().__init__(reason)
        self.cause = cause  #: ``missing``, ``slow``, ``large`` or ``failed``
        self.error_lines = error_lines  #: its last lines on standard error


class LoggedProgram(NamedTuple):
    """The end of a program whose output is only recorded."""

    reason: str  #: why it failed; empty: it ended with status 0
    status: int | None = None  #: exit status, negative for a signal; None: it was not started
    output: bytes = b""  #: the last bytes on standard output and standard error together
    output_bytes: int = 0  #: the size of the complete output


def run(argv: Sequence[str], *, seconds: float, max_bytes: int, stdin: bytes = b"") -> bytes:
    """Return the output of a program that ends with status 0.

    Raises:
        ProgramFailedError: it does not, not within ``seconds``, or prints more than ``max_bytes``.
    """
    with tempfile.TemporaryFile() as input_file, tempfile.TemporaryFile() as error_file:
        input_file.write(stdin)
        input_file.seek(0)
        with _start(argv, stdin=input_file, stderr=error_file) as process:
            output = _read(process, seconds, max_bytes)
        if reason := describe_status(process.returncode):
            raise ProgramFailedError(reason, error_lines=read_last_lines(error_file))
        return output


def run_logged(
    argv: Sequence[str],
    *,
    seconds: float,
    max_bytes: int,
    environment: Mapping[str, str],
    folder: Path,
    ends_at_signal: bool = True,
    ends_children: bool = True,
) -> LoggedProgram:
    """Run a program without input, and return the end of its output; a failure is part of the result.

    A program that exceeds ``seconds`` gets SIGTERM, and after ``GRACE_SECONDS`` SIGKILL, with its child processes.

    Args:
        argv: the program and its arguments.
        seconds: the maximum duration.
        max_bytes: of the output that are returned; the program may write more.
        environment: all its variables.
        folder: its working directory.
        ends_at_signal: whether a signal that arrives after its start ends the program, also in ``block_signals``.
        ends_children: whether its child processes are killed if it succeeds.

    Raises:
        Interrupted: a signal was received, outside ``block_signals``.
    """
    earlier_signal = signals.pending_signal()
    try:
        with _start(
            argv, ends_children=ends_children, stderr=subprocess.STDOUT, env=environment, cwd=folder
        ) as process:
            tail = _OutputTail(process, max_bytes)
            reason = _watch(process, tail, seconds, earlier_signal, ends_at_signal=ends_at_signal)
    except ProgramFailedError as error:
        return LoggedProgram(str(error))
    reason = reason or describe_status(process.returncode)
    return LoggedProgram(reason, process.returncode, bytes(tail.output), tail.byte_count)


@contextmanager
def _start(
    argv: Sequence[str],
    *,
    stderr: IO[bytes] | int,
    stdin: IO[bytes] | int = subprocess.DEVNULL,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    ends_children: bool = True,
) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a running program; it and its child processes are killed at the end.

    Without ``ends_children``, the child processes of a program that ended with status 0 continue.

    Raises:
        ProgramFailedError: it cannot be started.
    """
    with ExitStack() as stack:
        with signals.defer_signals():  # a signal between the start and its record would leave it running
            try:
                process = subprocess.Popen(  # noqa: S603 - the configured program, without a shell
                    argv,
                    stdin=stdin,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    env=env,
                    cwd=cwd,
                    start_new_session=True,  # so that its child processes can be ended with it
                )
            except (OSError, ValueError) as error:  # ValueError: a NUL in an argument
                reason = getattr(error, "strerror", None) or str(error)
                raise ProgramFailedError(reason, cause="missing") from error
            stack.callback(_end, process, ends_children=ends_children)
        yield process


def _end(process: subprocess.Popen[bytes], *, ends_children: bool) -> None:
    with signals.block_signals():
        if ends_children or process.returncode != 0:
            _send(process, signal.SIGKILL)
        process.wait()
        if process.stdout:
            process.stdout.close()


def _send(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal to a program and its child processes."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def describe_status(status: int | None) -> str:
    """Return why a status is a failure; empty for 0."""
    if not status:
        return ""
    return f"it was killed by {_name_signal(-status)}" if status < 0 else f"it ended with status {status}"


def _name_signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal between the first and the last
        return f"signal {number}"


def _describe_timeout(seconds: float) -> str:
    return f"it did not end within {seconds:g} s and was killed"


class _OutputTail:
    """The last bytes that a program wrote."""

    def __init__(self, process: subprocess.Popen[bytes], max_bytes: int) -> None:
        if process.stdout is None:
            raise RuntimeError("the program has no output pipe")
        self._descriptor, self._max_bytes = process.stdout.fileno(), max_bytes
        self._is_open = True
        self.output, self.byte_count = bytearray(), 0

    def read(self, seconds: float) -> bool:
        """Wait for output and read it; return whether there was any."""
        if not self._is_open:
            time.sleep(seconds)
            return False
        if not select.select([self._descriptor], [], [], seconds)[0]:
            return False
        block = os.read(self._descriptor, BLOCK)
        self._is_open = bool(block)
        self.output += block
        del self.output[: -self._max_bytes]
        self.byte_count += len(block)
        return self._is_open


def _watch(
    process: subprocess.Popen[bytes],
    tail: _OutputTail,
    seconds: float,
    earlier_signal: int | None,
    *,
    ends_at_signal: bool,
) -> str:
    """Wait for the end of a program, and end it at its time limit and at a signal other than an earlier one; return why, or nothing."""
    deadline, reason = time.monotonic() + seconds, ""
    try:
        while not reason and process.poll() is None:
            signals.raise_if_interrupted()
            tail.read(POLL_SECONDS)
            number = signals.pending_signal()
            if ends_at_signal and number != earlier_signal and number:
                reason = f"it was ended by {_name_signal(number)}"
            elif time.monotonic() > deadline:
                reason = _describe_timeout(seconds)
    finally:
        with signals.block_signals():
            grace = time.monotonic() + GRACE_SECONDS
            if process.poll() is None:
                _send(process, signal.SIGTERM)
            while process.poll() is None and time.monotonic() < grace:
                tail.read(POLL_SECONDS)
            # A child process that continues to write must not delay the end.
            drain = time.monotonic() + POLL_SECONDS
            while tail.read(0) and time.monotonic() < drain:
                pass
    return reason


def _read(process: subprocess.Popen[bytes], seconds: float, max_bytes: int) -> bytes:
    """Return the output until the program ends, even if its child processes continue."""
    output, deadline = _OutputTail(process, max_bytes), time.monotonic() + seconds
    while True:
        signals.raise_if_interrupted()
        has_ended = process.poll() is not None
        if not output.read(0 if has_ended else POLL_SECONDS) and has_ended:
            return bytes(output.output)
        if output.byte_count > max_bytes:
            raise ProgramFailedError(f"it wrote more than {max_bytes >> 20} MiB", cause="large")
        if time.monotonic() > deadline:
            raise ProgramFailedError(_describe_timeout(seconds), cause="slow")


def read_last_lines(error_file: IO[bytes]) -> Sequence[str]:
    """Return the last lines of a file, at most ``BLOCK`` bytes."""
    error_file.seek(max(0, error_file.seek(0, os.SEEK_END) - BLOCK))
    return [line.strip() for line in error_file.read().decode(errors="replace").strip().splitlines()]
