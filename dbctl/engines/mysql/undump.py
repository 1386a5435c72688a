"""The text that a dump holds: read whole, proven as far as a file can be, and fed to the server's own client."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from dbctl import interrupt
from dbctl.engines import clients
from dbctl.engines.dumps import Proof
from dbctl.engines.mysql import tools
from dbctl.engines.mysql.dumped import Reading
from dbctl.engines.mysql.server import Server
from dbctl.engines.packed import unpacked
from dbctl.engines.progress import Progress, silent
from dbctl.errors import CorruptError, DbctlError, RestoreFailedError
from dbctl.url import Url

UNTOUCHED = "The database is as it was."
#: What a dump says around what was made while its database sorted otherwise; it means the one that it was made of.
_ALTER = re.compile(rb"^ALTER DATABASE `(?:[^`\n]|``)+` (CHARACTER SET \w+ COLLATE \w+ ;;?)$", re.MULTILINE)


def proof(path: Path, target: str) -> Proof:
    """Read a dump whole, and count what it holds; nobody but a server can tell its schema."""
    reading = Reading()
    try:
        for block in unpacked(path, target, silent):
            reading.feed(block)
    except CorruptError as error:
        return Proof(tables={}, schema="", problems=[str(error.facts["reason"])])
    reading.finish()
    if not reading.whole:
        return Proof(tables={}, schema="", problems=[f"{path.name}: its end is missing"])
    return Proof(tables=reading.rows, schema="", problems=())


def feed(
    path: Path,
    url: Url,
    server: Server,
    target: str,
    *,
    tables: Mapping[str, int],
    timeout: float,
    progress: Progress,
    change: Callable[[Iterator[bytes]], Iterator[bytes]] = iter,
) -> None:
    """Let the client run a dump in the database at ``url``, which nobody else uses; nothing of it can be taken back.

    ``change``: what is changed of its text.

    Raises:
        RestoreFailedError, CorruptError, ClientFailedError, DiskFullError, PrivilegeMissingError, UnreachableError:
            it did not come to its end.
    """
    reading = Reading()

    def passed() -> Iterator[bytes]:
        for block in change(unpacked(path, target, progress)):
            reading.feed(block)
            yield block

    run(of_any_name(passed()), url, server, target, timeout=timeout)
    reading.finish()
    if not reading.whole:
        raise CorruptError(target=target, reason=f"{path.name}: its end is missing")
    if reading.rows != dict(tables):
        names = sorted(
            name for name in {*reading.rows, *tables} if reading.rows.get(name) != tables.get(name)
        )
        raise RestoreFailedError(
            target=target, reason=f"{path.name} holds other rows of {', '.join(names)}", instead=UNTOUCHED
        )


def of_any_name(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Let a dump alter no other database than the one that it runs in."""
    held = b""
    for block in blocks:
        whole, end, rest = block.rpartition(b"\n")
        if not end:
            held += rest
            continue
        yield _ALTER.sub(rb"ALTER DATABASE \1", held + whole + end)
        held = rest
    yield held


def run(
    blocks: Iterable[bytes], url: Url, server: Server, target: str, *, timeout: float, heard: bool = True
) -> None:
    """Let the client run a script in the database at ``url``."""
    tool = tools.find("client", server, target)
    # A dump must not make the client send files of this machine.
    words = [
        "--batch",
        "--binary-mode",
        "--local-infile=0",
        "--default-character-set=utf8mb4",
        f"--database={url.path}",
    ]
    with (
        tools.at(url, server) as where,
        clients.running([str(tool.path), where, *words], {}, reads=True) as client,
    ):

        def refused() -> DbctlError:
            client.finish(heard=heard)
            return tools.failed(client, target, timeout=timeout, instead=UNTOUCHED)

        for block in blocks:
            if not client.write(block):
                raise refused()
            if heard:
                interrupt.check()
        if client.finish(heard=heard):
            raise refused()
