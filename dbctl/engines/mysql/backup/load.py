"""The text that a dump holds: read whole, proven as far as a file can be, and fed to the server's own client."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from dbctl import signals
from dbctl.engines.contract import Proof
from dbctl.engines.mysql.backup import client_programs
from dbctl.engines.mysql.backup.dump_reader import Reading
from dbctl.engines.mysql.session import Server
from dbctl.errors import CorruptError, DbctlError, RestoreFailedError
from dbctl.files import Progress, silent, subprocesses, unpacked
from dbctl.url import Url

#: Where the views of a dump get their final form, which is its last part but some settings.
FINAL_VIEWS = b"\n-- Final view structure for view `"
UNTOUCHED = "The database is as it was."
#: A library of a routine, as the server writes it, with an optional alias.
_LIBRARY = rb"`(?:[^`\n]|``)+`\.`(?:[^`\n]|``)+`(?: AS `(?:[^`\n]|``)+`)?"
#: Lines of a dump that name its database, or lock a table. A program writes ALTER DATABASE around what was made while the
#: database sorted otherwise. A server writes the name before the columns of a view whose definer is missing, before
#: functions in views, before the sequence of a default, and before the libraries of a routine. A locked table cannot use
#: the sequence of its default.
_NAMING = re.compile(
    rb"^(?:ALTER DATABASE `(?:[^`\n]|``)+` (?P<sorting>CHARACTER SET \w+ COLLATE \w+ ;;?)$"
    rb"|(?P<lock>LOCK TABLES `(?:[^`\n]|``)+` WRITE;)$"
    rb"|(?P<libraries>    USING \(" + _LIBRARY + rb"(?:, " + _LIBRARY + rb")*\))$"
    rb"|(?:/\*!50001 VIEW `|  `[^\n]*nextval\()[^\n]*$)",
    re.MULTILINE,
)

_VIEW = re.compile(
    rb"-- Final view structure for view `(?P<name>(?:[^`\n]|``)+)`\n--\n\n"
    rb".*?/\*!50001 SET collation_connection +.= @saved_col_connection \*/;\n",
    re.DOTALL,
)
_DEFINER = re.compile(rb"^/\*!50013 DEFINER=.* (SQL SECURITY (?:DEFINER|INVOKER) \*/)$", re.MULTILINE)
_QUOTED = re.compile(rb"`((?:[^`]|``)*)`")


def proof(path: Path, target: str) -> Proof:
    """Read a dump whole, and count what it holds; nobody but a server can tell its schema."""
    reading = Reading()
    try:
        for block in unpacked(path, target, silent):
            reading.feed(block)
    except CorruptError as error:
        return Proof(tables={}, schema="", problems=[str(error.facts["reason"])])
    reading.finish()
    if reading.problem:
        return Proof(tables={}, schema="", problems=[f"{path.name}: {reading.problem}"])
    return Proof(tables=reading.rows, schema="", problems=())


def feed(
    path: Path,
    url: Url,
    server: Server,
    target: str,
    *,
    database: str,
    tables: Mapping[str, int],
    timeout: float,
    progress: Progress,
    change: Callable[[Iterator[bytes]], Iterator[bytes]] = iter,
) -> None:
    """Let the client run a dump of ``database`` in the database at ``url``, which nobody else uses.

    Nothing of it can be taken back.

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

    run(relocated(passed(), database), url, server, target, timeout=timeout)
    reading.finish()
    if reading.problem:
        raise CorruptError(target=target, reason=f"{path.name}: {reading.problem}")
    if reading.rows != dict(tables):
        names = sorted(
            name for name in {*reading.rows, *tables} if reading.rows.get(name) != tables.get(name)
        )
        raise RestoreFailedError(
            target=target, reason=f"{path.name} holds other rows of {', '.join(names)}", instead=UNTOUCHED
        )


def relocated(blocks: Iterable[bytes], database: str) -> Iterator[bytes]:
    """Remove the name of its database from a dump, so that it can be loaded into any other; empty: it is not known."""
    name = re.escape(f"`{database.replace('`', '``')}`.".encode())
    #: Texts and other names are matched first, so that nothing in them is removed.
    parts = re.compile(
        rb"'(?:[^'\\]|\\.|'')*'"
        rb"|(?P<name>(?<=nextval\(|lastval\()" + name + rb"|" + name + rb"(?=`(?:[^`]|``)*`\.))"
        rb"|`(?:[^`]|``)*`"
    )
    owners = re.compile(rb"(?P<name>" + name + rb")|`(?:[^`]|``)*`")

    def without(line: re.Match[bytes]) -> bytes:
        if line["lock"]:
            return b""
        if line["sorting"]:
            return b"ALTER DATABASE " + line["sorting"]
        if not database:
            return line[0]
        read = owners if line["libraries"] else parts
        return read.sub(lambda part: b"" if part["name"] else part[0], line[0])

    held, views = b"", b""
    for block in blocks:
        whole, end, rest = (held + block).rpartition(b"\n")
        held = end + rest  # FINAL_VIEWS begins with the end of a line
        text = views + _NAMING.sub(without, whole)
        at = text.find(FINAL_VIEWS)
        views = b"" if at < 0 else text[at:]
        yield text if at < 0 else text[:at]
    yield in_order(views + held) if views else held


def in_order(text: bytes) -> bytes:
    """Let views be made behind those that they read, whatever they are called, and get their definers last.

    A server makes no view on one whose definer is missing, and none with a check on what merely holds the place of
    another view. So each is made in the name of this user first, and in the name of its definer from the last one on.
    """
    views = list(_VIEW.finditer(text))
    found = {view["name"]: view[0] for view in views}
    order: dict[bytes, bytes] = {}
    begun = set[bytes]()

    def place(name: bytes) -> None:
        if name in found and name not in begun:
            begun.add(name)
            for other in sorted(set(_QUOTED.findall(found[name]))):
                place(other)
            order[name] = found[name]

    for name in found:
        place(name)
    if not views:
        return text
    made = [_DEFINER.sub(rb"/*!50013 \1", view) for view in order.values()]
    return b"".join([text[: views[0].start()], *made, *reversed(order.values()), text[views[-1].end() :]])


def run(
    blocks: Iterable[bytes], url: Url, server: Server, target: str, *, timeout: float, heard: bool = True
) -> None:
    """Let the client run a script in the database at ``url``."""
    tool = client_programs.find("client", server, target)
    # A dump must not make the client send files of this machine.
    words = [
        "--batch",
        "--binary-mode",
        "--comments",  # which belong to the text of a routine
        "--local-infile=0",
        "--default-character-set=utf8mb4",
        f"--database={url.path}",
    ]
    watch = client_programs.watch(url, url.path, target, UNTOUCHED, timeout=timeout)
    with (
        client_programs.at(url, server) as where,
        subprocesses.running([str(tool.path), where, *words], {}, watch=watch, reads=True) as client,
    ):

        def refused() -> DbctlError:
            client.finish(heard=heard)
            return client_programs.failed(client, target, timeout=timeout, instead=UNTOUCHED)

        for block in blocks:
            if not client.write(block):
                raise refused()
            if heard:
                signals.check()
        if client.finish(heard=heard):
            raise refused()
