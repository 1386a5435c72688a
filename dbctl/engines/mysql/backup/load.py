"""Read the text of a dump, verify it, and load it with the server's client program."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from dbctl import signals
from dbctl.engines.contract.dumps import DumpVerification, LoadRequest
from dbctl.engines.mysql.backup import client_programs
from dbctl.engines.mysql.backup.dump_reader import DumpScanner
from dbctl.engines.mysql.connection.server import Server
from dbctl.engines.mysql.errors import quote
from dbctl.engines.servers.database import UNCHANGED, failed_verification, require_row_counts
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import CorruptError
from dbctl.files import subprocesses
from dbctl.files.codecs import read_gzip
from dbctl.files.temp import no_progress
from dbctl.url import Url

#: The beginning of the last part of a dump: the final definitions of views.
FINAL_VIEWS = b"\n-- Final view structure for view `"
#: A library of a routine in the server's form, with an optional alias.
_LIBRARY = rb"`(?:[^`\n]|``)+`\.`(?:[^`\n]|``)+`(?: AS `(?:[^`\n]|``)+`)?"
#: Lines of a dump that name its database, or lock a table. A program writes ALTER DATABASE around code that was created while
#: the database had another collation. A server writes the name before the columns of a view whose definer is missing, before
#: functions in views, before the sequence of a default, and before the libraries of a routine. A locked table cannot use
#: the sequence of its default. The mode of the session is that of the rows.
_DATABASE_LINES = re.compile(
    rb"^(?:ALTER DATABASE `(?:[^`\n]|``)+` (?P<sorting>CHARACTER SET \w+ COLLATE \w+ ;;?)$"
    rb"|(?P<mode>/\*!40101 SET @OLD_SQL_MODE=@@SQL_MODE, SQL_MODE='NO_AUTO_VALUE_ON_ZERO)' \*/;$"
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


def verify_dump(path: Path, metadata: Mapping[str, str], target: str) -> DumpVerification:
    """Read a whole dump and count its rows; only a server can determine its schema."""
    del metadata  # there is only one form
    scanner = DumpScanner()
    try:
        for block in read_gzip(path, target, no_progress):
            scanner.feed(block)
    except CorruptError as error:
        return failed_verification(str(error.context["reason"]))
    scanner.finish()
    if scanner.problem:
        return failed_verification(f"{path.name}: {scanner.problem}")
    return DumpVerification(tables=scanner.rows, schema="", problems=())


def load_dump(
    request: LoadRequest,
    url: Url,
    server: Server,
    target: str,
    *,
    rewrite: Callable[[Iterator[bytes]], Iterator[bytes]] = iter,
) -> None:
    """Load a dump with the client into the database at ``url``, which no other session uses.

    The load cannot be rolled back. ``rewrite``: a filter for the text.

    Raises:
        RestoreFailedError, CorruptError, ClientFailedError, DiskFullError, PrivilegeMissingError, UnreachableError:
            the load is incomplete.
    """
    scanner, path, dump = DumpScanner(), request.path, request.dump

    def scan_blocks() -> Iterator[bytes]:
        for block in rewrite(read_gzip(path, target, request.progress)):
            scanner.feed(block)
            yield block

    text = remove_database_name(scan_blocks(), dump.metadata.get("database", ""))
    run_script(text, url, server, target, timeout=request.timeout)
    scanner.finish()
    if scanner.problem:
        raise CorruptError(target=target, reason=f"{path.name}: {scanner.problem}")
    require_row_counts(path, target, scanner.rows, dump.tables)


def remove_database_name(blocks: Iterable[bytes], database: str) -> Iterator[bytes]:
    """Remove the name of its database from a dump, so that it can be loaded into any other; empty if the name is unknown."""
    name = re.escape(f"{quote(database)}.".encode())
    #: Texts and other names are matched first, so that nothing in them is removed.
    names = re.compile(
        rb"'(?:[^'\\]|\\.|'')*'"
        rb"|(?P<name>(?<=nextval\(|lastval\()" + name + rb"|" + name + rb"(?=`(?:[^`]|``)*`\.))"
        rb"|`(?:[^`]|``)*`"
    )
    qualifiers = re.compile(rb"(?P<name>" + name + rb")|`(?:[^`]|``)*`")

    def replace_line(line: re.Match[bytes]) -> bytes:
        if line["lock"]:
            return b""
        if line["mode"]:  # otherwise the server stores zero in place of a date such as 2020-02-31
            return line["mode"] + b",ALLOW_INVALID_DATES' */;"
        if line["sorting"]:
            return b"ALTER DATABASE " + line["sorting"]
        if not database:
            return line[0]
        pattern = qualifiers if line["libraries"] else names
        return pattern.sub(lambda name_match: b"" if name_match["name"] else name_match[0], line[0])

    remainder, views = b"", b""
    for block in blocks:
        complete, end, incomplete = (remainder + block).rpartition(b"\n")
        remainder = end + incomplete  # FINAL_VIEWS begins with the end of a line
        text = views + _DATABASE_LINES.sub(replace_line, complete)
        start = text.find(FINAL_VIEWS)
        views = b"" if start < 0 else text[start:]
        yield text if start < 0 else text[:start]
    yield order_views(views + remainder) if views else remainder


def order_views(text: bytes) -> bytes:
    """Create views after those that they read, and set their definers last.

    A server rejects a view on a view whose definer is missing, and a view with a check option on a placeholder. So each view
    is created for this user first, and for its definer in reverse order.
    """
    views = list(_VIEW.finditer(text))
    definitions = {view["name"]: view[0] for view in views}
    order: dict[bytes, bytes] = {}
    visited = set[bytes]()

    def add(name: bytes) -> None:
        if name in definitions and name not in visited:
            visited.add(name)
            for other in sorted(set(_QUOTED.findall(definitions[name]))):
                add(other)
            order[name] = definitions[name]

    for name in definitions:
        add(name)
    if not views:
        return text
    without_definers = [_DEFINER.sub(rb"/*!50013 \1", view) for view in order.values()]
    return b"".join(
        [text[: views[0].start()], *without_definers, *reversed(order.values()), text[views[-1].end() :]]
    )


def run_script(
    blocks: Iterable[bytes],
    url: Url,
    server: Server,
    target: str,
    *,
    timeout: float,
    interruptible: bool = True,
) -> None:
    tool = client_programs.find_program("client", server, target)
    # A dump must not make the client send files of this machine.
    options = [
        "--batch",
        "--binary-mode",
        "--comments",  # part of the text of routines
        "--local-infile=0",
        "--default-character-set=utf8mb4",
        f"--database={url.path}",
    ]
    watch = client_programs.create_watch(url, url.path, target, UNCHANGED, timeout=timeout)
    with (
        client_programs.write_connection_files(url, server) as connection,
        subprocesses.run_program(
            [str(tool.path), connection, *options], {}, watch=watch, reads=True
        ) as client,
    ):

        def create_error() -> DbctlError:
            client.finish(interruptible=interruptible)
            return client_programs.to_error(client, target, timeout=timeout, instead=UNCHANGED)

        for block in blocks:
            if not client.write(block):
                raise create_error()
            if interruptible:
                signals.raise_if_interrupted()
        if client.finish(interruptible=interruptible):
            raise create_error()
