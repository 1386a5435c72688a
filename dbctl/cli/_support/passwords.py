"""Passwords and passphrases: from standard input, a file or a prompt, and never from arguments."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import typer

from dbctl import progress
from dbctl.cli._support.emit import end_line_on_interrupt, note
from dbctl.errors.connection import FileFailedError, FileMissingError
from dbctl.errors.usage import KeyMissingError, UsageError, ValueInvalidError
from dbctl.files import atomic
from dbctl.model import Secret
from dbctl.render import streams
from dbctl.render.text import escape

if TYPE_CHECKING:
    from dbctl.cli._support.session import Session

_LONGEST_PASSWORD = 4096  # bytes; longer than any app allows, so that a wrong file is rejected
_TRIES = 3


class PasswordSource(NamedTuple):
    """The source of a password: one of the fields, or by default a prompt; never an argument."""

    stdin: bool = False
    file: Path | None = None
    generate: bool = False


def read_password(session: Session, source: PasswordSource, *, confirm: bool = True) -> Secret:
    """Return a password; on a terminal the user types it without echo, twice with ``confirm``.

    Raises:
        UsageError: several sources, or none and no terminal.
        ValueInvalidError: it is empty, too long or not UTF-8, or the two entries differ.
    """
    if sum(map(bool, source)) > 1:
        raise UsageError(detail="pass only one of --password-stdin, --password-file and --generate")
    if source.generate:
        from dbctl.profiles.passwords import new_password

        return new_password()
    if source.stdin:
        return _decode_password(sys.stdin.buffer.readline(_LONGEST_PASSWORD + 2))
    if source.file is not None:
        return _decode_password(_read_first_line(session, source.file))
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        detail = "a password is required: --password-stdin, --password-file FILE or --generate"
        raise UsageError(detail=detail)
    return _prompt_password(confirm=confirm)


def ask_secret(target: str) -> Secret:
    """Prompt for the passphrase of ``target`` without echo.

    Raises:
        KeyMissingError: there is no terminal.
        Abort: the input ended.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise KeyMissingError(target=target, reason="there is no terminal to type its passphrase")
    import getpass

    try:
        with progress.pause(), end_line_on_interrupt():
            return _decode_password(
                getpass.getpass(f"Passphrase of {escape(target)}: ").encode(errors="surrogateescape")
            )
    except EOFError as error:
        raise typer.Abort from error


def _prompt_password(*, confirm: bool) -> Secret:
    import getpass

    for _ in range(_TRIES):
        try:
            with progress.pause(), end_line_on_interrupt():
                password = getpass.getpass("Password: ")
                repetition = getpass.getpass("Repeat password: ") if confirm else password
        except EOFError as error:
            raise typer.Abort from error
        if password == repetition:
            return _decode_password(password.encode(errors="surrogateescape"))
        streams.remark("The passwords differ; try again.")
    raise ValueInvalidError(name="password", value="***", reason="the repeated password differs")


def _read_first_line(session: Session, file: Path) -> bytes:
    try:
        with atomic.open_named(file) as opened:
            if os.fstat(opened.fileno()).st_mode & 0o077:
                note(session, f"other users can read {file}; run chmod 600 {file}")
            return opened.readline(_LONGEST_PASSWORD + 2)
    except FileNotFoundError as error:
        raise FileMissingError(kind="password file", path=file) from error
    except OSError as error:
        raise FileFailedError(path=file, reason=error.strerror) from error


def _decode_password(line: bytes) -> Secret:
    """Decode a password; only the end of the line is removed, because spaces belong to the password."""
    password = line.removesuffix(b"\n").removesuffix(b"\r")
    try:
        text = password.decode()
    except UnicodeDecodeError as error:
        raise ValueInvalidError(name="password", value="***", reason="it is not UTF-8") from error
    if not password:
        raise ValueInvalidError(name="password", value="***", reason="it is empty")
    if len(password) > _LONGEST_PASSWORD:
        raise ValueInvalidError(
            name="password", value="***", reason=f"it is longer than {_LONGEST_PASSWORD} bytes"
        )
    return Secret(text)
