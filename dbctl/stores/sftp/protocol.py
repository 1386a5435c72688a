"""Version 3 of the protocol SFTP (draft-ietf-secsh-filexfer-02), on the input and output of a program.

Requests that do not depend on each other are sent together, so that a distant server costs one delay for all of them.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from enum import IntEnum
from typing import NamedTuple

from dbctl import signals
from dbctl.errors.backup import StorageFailedError
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import ClientFailedError
from dbctl.files.ssh import choose_reason
from dbctl.files.subprocesses import ClientProgram, ProgramWatch, run_program

VERSION = 3
#: Shortest and longest packet that is accepted; servers send at most 256 KiB.
MIN_PACKET, MAX_PACKET = 5, 1 << 20


class Kind(IntEnum):
    """The types of packets."""

    INIT, VERSION, OPEN, CLOSE, READ, WRITE, LSTAT = 1, 2, 3, 4, 5, 6, 7
    OPENDIR, READDIR, REMOVE, MKDIR, RMDIR, STAT, RENAME = 11, 12, 13, 14, 15, 17, 18
    STATUS, HANDLE, DATA, NAME, ATTRS = 101, 102, 103, 104, 105
    EXTENDED, EXTENDED_REPLY = 200, 201


class Status(IntEnum):
    """The results of requests that return nothing else."""

    OK, EOF, NO_SUCH_FILE, PERMISSION_DENIED, FAILURE, BAD_MESSAGE = 0, 1, 2, 3, 4, 5
    OP_UNSUPPORTED = 8


class Attributes(NamedTuple):
    """What a server states about a file."""

    size: int = 0
    mode: int = 0  #: 0 if unknown
    modified: int = 0  #: seconds since 1970, by the clock of the server


class Handle(NamedTuple):
    """An open file or folder of a server."""

    name: bytes
    connection: int  #: the number of the connection, because another one has other files of the same names

    def pack(self) -> bytes:
        """Return the handle as part of a request."""
        return pack_text(self.name)


class Reply(NamedTuple):
    """The answer to one request."""

    kind: int
    content: bytes  #: without its number
    connection: int = 0  #: the number of the connection

    @property
    def status(self) -> int:
        """The result; OK for an answer with content."""
        return struct.unpack_from(">I", self.content)[0] if self.kind == Kind.STATUS else Status.OK

    @property
    def text(self) -> bytes:
        return _take_text(self.content, 0)[0]

    @property
    def handle(self) -> Handle:
        return Handle(self.text, self.connection)

    @property
    def attributes(self) -> Attributes:
        return _take_attributes(self.content, 0)[0]

    def list_names(self) -> Iterator[tuple[bytes, Attributes]]:
        (count,), position = struct.unpack_from(">I", self.content), 4
        for _ in range(count):
            name, position = _take_text(self.content, position)
            _, position = _take_text(self.content, position)  # a line for people
            attributes, position = _take_attributes(self.content, position)
            yield name, attributes


def _take_text(content: bytes, position: int) -> tuple[bytes, int]:
    (length,) = struct.unpack_from(">I", content, position)
    end = position + 4 + length
    if end > len(content):
        raise ValueError
    return content[position + 4 : end], end


def _take_attributes(content: bytes, position: int) -> tuple[Attributes, int]:
    size = mode = modified = 0
    (flags,) = struct.unpack_from(">I", content, position)
    position += 4
    if flags & 1:
        (size,) = struct.unpack_from(">Q", content, position)
        position += 8
    position += 8 if flags & 2 else 0  # owner and group
    if flags & 4:
        (mode,) = struct.unpack_from(">I", content, position)
        position += 4
    if flags & 8:
        _, modified = struct.unpack_from(">II", content, position)
        position += 8
    if flags & 0x80000000:
        (count,) = struct.unpack_from(">I", content, position)
        position += 4
        for _ in range(2 * count):
            _, position = _take_text(content, position)
    return Attributes(size, mode, modified), position


def pack_text(text: bytes) -> bytes:
    """Return a text as part of a request."""
    return struct.pack(">I", len(text)) + text


def pack_mode(mode: int) -> bytes:
    """Return the permissions of a new file as part of a request."""
    return struct.pack(">II", 4, mode)


class Request(NamedTuple):
    """A request without its number."""

    kind: Kind
    content: bytes


class Connection:
    """A program that is a server, or is connected to one; it is started when it is needed, and again after a failure."""

    def __init__(self, argv: Sequence[str], location: str, hint: str) -> None:
        """Start nothing yet; ``location`` and ``hint`` are for messages."""
        self._argv, self._location, self._hint = argv, location, hint
        self._lock = threading.Lock()
        self._stack, self._number, self._count = ExitStack(), 0, 0
        self._program: ClientProgram | None = None
        self._received, self._blocks = bytearray(), iter(list[bytes]())
        self._extensions = frozenset[bytes]()

    def supports(self, extension: bytes) -> bool:
        """Whether the server has announced an extension."""
        if self._program is None:
            self.exchange([])
        return extension in self._extensions

    def exchange(self, requests: Iterable[Request], handle: Handle | None = None) -> list[Reply]:
        """Send requests, and return the answers in their order; those with a handle only on its connection.

        Raises:
            StorageFailedError: the connection failed; the next call opens a new one.
        """
        # Renewals of the lock use the connection from another thread. A signal between two bytes would leave the stream useless.
        with signals.defer_signals(), self._lock:
            if handle and (self._program is None or handle.connection != self._count):
                raise self._create_error("the connection was lost")
            try:
                replies = self._exchange(self._open(), list(requests))
            except BaseException:
                self._close()
                raise
        signals.raise_if_interrupted()
        return replies

    def close(self) -> None:
        """End the program."""
        with signals.defer_signals(), self._lock:
            self._close()

    def _close(self) -> None:
        self._program = None
        self._received.clear()
        self._stack.close()

    def _exchange(self, program: ClientProgram, requests: Sequence[Request]) -> list[Reply]:
        first = self._number + 1
        self._number += len(requests)
        packets = (
            struct.pack(">IBI", len(request.content) + 5, request.kind, number) + request.content
            for number, request in enumerate(requests, first)
        )
        if not program.write(b"".join(packets)):
            raise self._create_loss(program)
        replies = dict[int, Reply]()
        while len(replies) < len(requests):
            kind, content = self._receive(program)
            (number,) = struct.unpack_from(">I", content)
            replies[number] = Reply(kind, content[4:], self._count)
        try:
            return [replies[number] for number in range(first, first + len(requests))]
        except KeyError as error:
            raise self._create_error("its answers are not those of SFTP") from error

    def _open(self) -> ClientProgram:
        if self._program is not None:
            return self._program
        watch = ProgramWatch(target=self._location, hint=self._hint)
        try:
            # Only ssh itself has BatchMode: for a machine between, it would ask for a password in a window.
            environment = {**os.environ, "SSH_ASKPASS_REQUIRE": "never"}
            running = run_program(self._argv, environment, watch=watch, reads=True, writes=True)
            program = self._stack.enter_context(running)
        except OSError as error:
            reason = f"{self._argv[0]} cannot be started: {error.strerror}"
            raise StorageFailedError(
                place=self._location, reason=reason, hint=f"Install {self._argv[0]}."
            ) from error
        self._blocks = program.blocks(interruptible=False)
        if not program.write(struct.pack(">IBI", 5, Kind.INIT, VERSION)):
            raise self._create_loss(program)
        kind, content = self._receive(program)
        if kind != Kind.VERSION or struct.unpack_from(">I", content)[0] != VERSION:
            raise self._create_error(f"it does not have version {VERSION} of SFTP")
        names, position = set[bytes](), 4
        while position < len(content):
            name, position = _take_text(content, position)
            _, position = _take_text(content, position)
            names.add(name)
        self._extensions, self._program = frozenset(names), program
        self._count += 1
        return program

    def _receive(self, program: ClientProgram) -> tuple[int, bytes]:
        """Return the type and the content of the next packet."""
        length = struct.unpack(">I", self._take(program, 4))[0]
        if not MIN_PACKET <= length <= MAX_PACKET:
            raise self._create_error("its answers are not those of SFTP; a start script may print text")
        packet = self._take(program, length)
        return packet[0], packet[1:]

    def _take(self, program: ClientProgram, size: int) -> bytes:
        while len(self._received) < size:
            try:
                block = next(self._blocks, b"")
            except ClientFailedError as error:
                raise self._create_error(str(error.context["reason"])) from error
            if not block:
                raise self._create_loss(program)
            self._received += block
        content = bytes(self._received[:size])
        del self._received[:size]
        return content

    def _create_loss(self, program: ClientProgram) -> DbctlError:
        """Return the error of a program that has ended, with the reason that it printed."""
        program.finish(interruptible=False)
        return self._create_error(choose_reason(program.error_output().splitlines() or ["it has ended"]))

    def _create_error(self, reason: str) -> DbctlError:
        return StorageFailedError(place=self._location, reason=reason, hint=self._hint)
