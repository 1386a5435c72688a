"""Client programs in the container of their server, at the end of a route."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from dbctl.engines.contract.route import wrap_program
from dbctl.engines.servers.connection import CONNECT_SECONDS
from dbctl.errors.usage import UrlInvalidError
from dbctl.files import limited_program, subprocesses
from dbctl.url import Url

MAX_VERSION_BYTES = 1 << 10
#: Runs a program with the password that is the first line of its input: other users can see arguments.
_READ_AND_RUN = 'IFS= read -r {0}; export {0}; exec "$@"'


def read_version(url: Url, target: str, program: str) -> str:
    """Return what a program in the container of a server prints as its version; empty if there is none."""
    words = wrap_program(url, target, [program, "--version"])
    try:
        output = (
            limited_program.run(words, seconds=CONNECT_SECONDS, max_bytes=MAX_VERSION_BYTES) if words else b""
        )
    except limited_program.ProgramFailedError:
        return ""
    return output.decode(errors="replace")


@contextmanager
def run_with_password(
    url: Url,
    target: str,
    argv: Sequence[str],
    *,
    password: tuple[str, str],
    variables: Mapping[str, str],
    watch: subprocesses.ProgramWatch,
    writes: bool = False,
) -> Iterator[subprocesses.ClientProgram]:
    """Run a program in the container at the end of the route of ``url``, which connects from inside.

    Args:
        url: an address whose route ends in a container.
        target: ``app/database``, for messages.
        argv: the program and its arguments.
        password: the name of its variable, and its text.
        variables: further ones, which other users can see.
        watch: how to monitor it.
        writes: whether it gets an output pipe.

    Raises:
        UrlInvalidError: the password contains a line break.
        UnreachableError: a part of the route cannot be opened.
    """
    variable, text = password
    if "\n" in text:
        raise UrlInvalidError(
            reason="its password contains a line break, which cannot be passed to a container"
        )
    settings = [f"{name}={value}" for name, value in {"LC_ALL": "C", **variables}.items()]
    words = ["sh", "-c", _READ_AND_RUN.format(variable), "sh", "env", *settings, *argv]
    with subprocesses.run_program(
        wrap_program(url, target, words) or words,
        os.environ,  # that of the client of the container, whose variables have no fixed names
        watch=watch,
        reads=True,
        writes=writes,
    ) as client:
        client.write(f"{text}\n".encode())
        yield client
