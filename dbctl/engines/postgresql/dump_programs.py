"""The programs pg_dump and psql, and the statements of their dumps."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from dbctl.engines.contract.route import create_lost_error, wrap_program
from dbctl.engines.postgresql.errors import MORE_LOCKS, connection_limit_hint, grant_hint
from dbctl.engines.postgresql.session import Session, probe_program
from dbctl.engines.servers.dumps import read_container_version, run_in_container
from dbctl.engines.sql.catalog import ident
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import (
    BusyError,
    ClientFailedError,
    ClientMissingError,
    ClientOldError,
    DiskFullError,
    PrivilegeMissingError,
    UnreachableError,
)
from dbctl.errors.operations import ReplicaConflictError
from dbctl.errors.usage import UrlInvalidError
from dbctl.files import subprocesses
from dbctl.model import Struct
from dbctl.url import Url

_VERSION = re.compile(r"\(PostgreSQL\) (\d+)\S*")
#: Messages of the programs; the kind is in the server's language, the SQLSTATE appears with VERBOSITY=verbose.
_MESSAGE = re.compile(r"(\w+):  (?:([0-9A-Z]{5}): )?(.+)")
#: The query that pg_dump names after the message of the server; these words are its own, in English.
_FAILED_QUERY = re.compile(r"^pg_dump: (?:detail: Query|error: query) was: (.+)", re.MULTILINE | re.DOTALL)
SUCCESS_CLASSES = ("00", "01", "02")  #: classes of SQLSTATE codes: success, warning, no data
#: libpq options that do not locate the server, or that are passed in another way.
OMITTED_OPTIONS = ("dbname", "client_encoding", "application_name", "fallback_application_name", "options")

#: Options that older programs reject, by the version that introduced them; the driver may support them.
OPTION_VERSIONS = {
    "gssdelegation": 16,
    "load_balance_hosts": 16,
    "require_auth": 16,
    "sslcertmode": 16,
    "sslnegotiation": 17,
    "max_protocol_version": 18,
    "min_protocol_version": 18,
    "sslkeylogfile": 18,
}


class Tool(Struct, frozen=True, kw_only=True):
    path: Path
    version: str  #: as it prints it
    #: the address of the server in whose container it runs; None: it runs on this machine
    url: Url | None = None

    @property
    def major(self) -> int:
        """Its major version; it reads dumps of this version and of older ones."""
        return major_version(self.version)

    def wrap(self, target: str, arguments: Sequence[str]) -> Sequence[str]:
        """Return the words that run it."""
        words = [str(self.path), *arguments]
        return (self.url and wrap_program(self.url, target, words)) or words

    @property
    def environment(self) -> Mapping[str, str]:
        """Further variables for ``run_program``: those of the client of the container, which are of no fixed names."""
        return os.environ if self.url else {}


def find_program(program: str, target: str, *, min_version: int, url: Url | None = None) -> Tool:
    """Return the installed program that best suits major version ``min_version`` of a server or dump.

    The same version is preferred, since the tools of that server can read its output. A newer version also works, an
    older one does not. If no installed one does, that in the container of the server at ``url`` is returned, if it has one.

    Raises:
        ClientMissingError: the program is not installed.
        ClientOldError: all installed versions are too old.
    """
    try:
        return _find_installed(program, target, min_version)
    except (ClientMissingError, ClientOldError):
        # The certificates that verify the server are files of this machine.
        if url and "sslmode=verify-" not in url.options:
            version = _parse_version(read_container_version(url, target, program))
            if version and major_version(version) >= min_version:
                return Tool(path=Path(program), version=version, url=url)
        raise


def _find_installed(program: str, target: str, min_version: int) -> Tool:
    paths = dict[int, Path]()
    for pattern in subprocesses.POSTGRESQL_FOLDERS:
        for path in sorted(Path("/").glob(f"{pattern.lstrip('/')}/{program}")):
            if digits := re.findall(r"\d+", str(path.parent)):
                paths.setdefault(int(digits[-1]), path)
    if min_version not in paths and (executable := shutil.which(program)):
        paths.setdefault(major_version(read_version(Path(executable))), Path(executable))
    product = {"product": "PostgreSQL", "package": f"postgresql-client-{min_version} of apt.postgresql.org"}
    if not paths:
        raise ClientMissingError(target=target, program=program, version=min_version, **product)
    suitable = subprocesses.select_version(paths, min_version)
    if suitable is None:
        best = paths[max(paths)]
        raise ClientOldError(
            target=target, program=str(best), version=read_version(best), required=min_version, **product
        )
    return Tool(path=suitable[1], version=read_version(suitable[1]))


def read_version(path: Path) -> str:
    """Return the version of a program; empty if it does not print one."""
    return _parse_version(subprocesses.read_version(path))


def _parse_version(output: str) -> str:
    match = _VERSION.search(output)
    return match[0].removeprefix("(PostgreSQL) ") if match else ""


def major_version(version: str) -> int:
    """Return the major number of a version, or 0."""
    match = re.match(r"\d+", version)
    return int(match[0]) if match else 0


@contextmanager
def _write_connection_files(session: Session, database: str, tool: Tool) -> Iterator[dict[str, str]]:
    """Write the connection files of a program; yield its environment variables, by which it connects to the service ``dbctl``.

    The program connects to the server of ``session`` as the same user. Address and password are in files that only
    this user can read, and that are deleted at the end, so that they do not appear in process lists.

    Raises:
        UrlInvalidError: a value contains a line break, which is not possible in these files.
    """
    info = session.info
    settings = {
        name: text
        for name, text in session.named_parameters.items()
        if name not in OMITTED_OPTIONS and OPTION_VERSIONS.get(name, 0) <= tool.major
    }
    settings |= {"host": info.host, "port": str(info.port), "user": info.user, "dbname": database}
    if info.hostaddr and not info.host.startswith("/"):
        settings["hostaddr"] = info.hostaddr  # the same server, if the host name has several addresses
    if any("\n" in text for text in (info.password, *settings.values())):
        raise UrlInvalidError(
            reason="it contains a line break, which PostgreSQL client programs do not support"
        )
    service = "[dbctl]\n" + "".join(f"{name}={text}\n" for name, text in settings.items())
    secret = info.password.replace("\\", "\\\\").replace(":", "\\:")
    with subprocesses.secret_files({"service": service, "password": f"*:*:*:*:{secret}\n"}) as folder:
        yield {"PGSERVICEFILE": str(folder / "service"), "PGPASSFILE": str(folder / "password")}


@contextmanager
def run_client(
    tool: Tool,
    arguments: Sequence[str],
    session: Session,
    database: str,
    target: str,
    *,
    instead: str,
    settings: Mapping[str, str] = {},
    reads: bool = False,
    writes: bool = False,
) -> Iterator[subprocesses.ClientProgram]:
    """Run a program that connects like ``session``; ``settings`` are further variables of its environment.

    In the container of the server it connects from inside.
    """
    name = f"dbctl {database}"[:63]
    watch = subprocesses.ProgramWatch(
        target, instead, lambda: probe_program(session, name), session.server_address
    )
    with ExitStack() as stack:
        if tool.url:
            connection = make_conninfo(
                host=tool.url.host.strip("[]") or "127.0.0.1",
                port=session.info.port,
                user=session.info.user,
                dbname=database,
                sslmode=session.named_parameters.get("sslmode", "prefer"),
            )
            program = run_in_container(
                tool.url,
                target,
                [str(tool.path), "--no-password", f"--dbname={connection}", *arguments],
                password=("PGPASSWORD", session.info.password),
                variables={"PGAPPNAME": name, **settings},
                watch=watch,
                writes=writes,
            )
        else:
            environment = stack.enter_context(_write_connection_files(session, database, tool))
            program = subprocesses.run_program(
                [str(tool.path), "--no-password", "--dbname=service=dbctl", *arguments],
                {**environment, "PGAPPNAME": name, **settings},
                watch=watch,
                reads=reads,
                writes=writes,
            )
        client = stack.enter_context(program)
        client.name = tool.path.name
        yield client


def to_error(
    client: subprocesses.ClientProgram, session: Session | None, target: str, *, timeout: float, instead: str
) -> DbctlError:
    """Return the error of a failed program, by the SQLSTATE codes that the server sent, if any."""
    output = client.error_output()
    lines = output.splitlines() or ["no error message"]
    sqlstate, reason = _find_error(lines)
    if session is not None and _is_disconnected(session):
        return create_lost_error(session.url, target, reason, instead)
    if session is not None and not sqlstate:
        sqlstate = _repeat_query(session, output)
    if sqlstate == "42501" or "permission denied for" in reason:
        user, schema = (session.role, session.schema) if session is not None else ("", "")
        sql = "copy " if client.name == "psql" else f"select {output}"
        return PrivilegeMissingError(
            target=target, reason=reason, hint=grant_hint(reason, ident(user), schema, sql)
        )
    if sqlstate == "53100" or "No space left on device" in reason:
        return DiskFullError(target=target)
    if sqlstate in ("40001", "55P03", "57014") or "canceling statement due to" in reason:
        is_conflict = sqlstate == "40001" or "conflict with recovery" in reason
        busy = BusyError(target=target, holder="", waited=f"{timeout:g}")
        return ReplicaConflictError(target=target) if is_conflict else busy
    if sqlstate == "53200" or "out of shared memory" in reason:
        instead = f"{instead} {MORE_LOCKS}"
    instead = " ".join(filter(None, [instead, connection_limit_hint(reason)]))
    # The program may notice a lost connection before this session does, and prints no code for it.
    if sqlstate[:2] in ("08", "57") or "terminating connection due to" in reason:
        return UnreachableError(target=target, reason=reason, hint=instead)
    return ClientFailedError(target=target, program=client.name, reason=reason, hint=instead)


def is_rejected(client: subprocesses.ClientProgram) -> bool:
    """Return whether the server rejected the statements of this program, so that nothing was committed."""
    sqlstate, _reason = _find_error(client.error_output().splitlines() or [""])
    return sqlstate[:2] not in ("", "08", "57")


def _find_error(lines: Sequence[str]) -> tuple[str, str]:
    """Return the SQLSTATE and the text of the error; other lines are notices, details and source locations."""
    messages = [message for line in lines if (message := _MESSAGE.search(line))]
    for message in messages:
        if message[2] and message[1] != "WARNING" and not message[2].startswith(SUCCESS_CLASSES):
            return message[2], message[3]
    for message in messages:
        if message[1] in ("ERROR", "FATAL", "PANIC"):
            return "", message[3]
    first = next((line for line in lines if "error:" in line), lines[0])
    return "", first.rpartition("error: ")[2]


def _repeat_query(session: Session, output: str) -> str:
    """Return the SQLSTATE of the query that failed in pg_dump, which prints none; its message is in the server's language."""
    if not (failed := _FAILED_QUERY.search(output)):
        return ""
    query = failed[1].encode("utf-8", "surrogateescape")
    try:
        with session.transaction():
            # Rows that policies hide are an error of pg_dump.
            settings = b"set local lock_timeout = 1; set local row_security = off"
            session.execute(b"set transaction read only; " + settings)
            _begin_query(session, query)
    except psycopg.Error as error:
        return error.sqlstate or ""
    return ""


def _begin_query(session: Session, query: bytes) -> None:
    """Run a query, or the beginning of COPY."""
    if not query.startswith(b"COPY "):
        session.execute(query)
        return
    with session.cursor() as cursor, cursor.copy(query):
        raise psycopg.Error  # the driver stops COPY only on an exception


def _is_disconnected(session: Session) -> bool:
    try:
        session.run("select 1")
    except psycopg.Error:
        return session.pgconn.status != psycopg.pq.ConnStatus.OK
    return False


#: The last line of a complete dump.
END = b"\n-- PostgreSQL database dump complete\n"
_NAME = rb'(?:[^\s."()]+|"(?:[^"]|"")*")'
_COPY = re.compile(
    rb"\nCOPY (" + _NAME + rb")\.(" + _NAME + rb') (?:\((?:[^()"]|"(?:[^"]|"")*")*\))? FROM stdin;(?=\n)'
)
#: The comment before rows; without it, the line belongs to a text value.
_DATA_COMMENT = re.compile(rb"; Type: TABLE DATA; [^\n]*\n--\n\n\Z")
#: Bytes retained for context at the end of a block, and the maximum length of a line that begins rows.
LOOK_BACK, LONGEST_LINE = 4096, 1 << 20


class DumpScanner:
    """Scanner of a dump, block by block; blocks may end anywhere."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], int] = {}  #: by schema and table
        self._text = b"\n"
        self._table: tuple[str, str] | None = None  #: whose rows are being counted
        self._searched = 0  #: length of the part of ``_text`` that was searched

    def feed(self, block: bytes) -> None:
        self._text += block
        while self._count_rows() if self._table else self._find_table():
            pass

    def _find_table(self) -> bool:
        """Find the next table; return whether its rows begin."""
        text = self._text
        start = text.find(b"\nCOPY ", self._searched)
        while start >= 0:
            if _DATA_COMMENT.search(text, max(0, start - LOOK_BACK), start + 1):
                match = _COPY.match(text, start)
                if match:
                    self._table = unquote_name(match[1]), unquote_name(match[2])
                    self.rows[self._table] = 0
                    self._text, self._searched = text[match.end() :], 0
                    return True
                if len(text) - start < LONGEST_LINE:  # it may continue in the next block
                    self._searched = start
                    return False
            start = text.find(b"\nCOPY ", start + 1)
        self._text = text[-LOOK_BACK:]
        self._searched = max(0, len(self._text) - len(b"\nCOPY "))
        return False

    def _count_rows(self) -> bool:
        """Count rows; return whether they have ended."""
        if self._table is None:
            raise RuntimeError("rows of no table")
        end = self._text.find(b"\n\\.\n")
        cut = end if end >= 0 else max(0, len(self._text) - 3)
        self.rows[self._table] += self._text.count(b"\n", 0, cut)
        self._text = self._text[cut:]
        if end >= 0:
            self._table = None
            self._text, self._searched = self._text[3:], 0
        return end >= 0

    @property
    def is_complete(self) -> bool:
        """Whether the end mark was read."""
        return self._table is None and END in self._text


def index_by_app_name(rows: Mapping[tuple[str, str], int], path: str) -> dict[str, int]:
    """Return the row counts by the names that the app uses: without schema if the search path finds the table.
    ``rows`` are by schema and table; ``path`` contains the schemas of the search path, in order, as JSON.
    """
    schemas = list[str](json.loads(path or "[]"))
    counts = dict[str, tuple[int, str, int]]()
    for schema, table in rows:
        position = schemas.index(schema) if schema in schemas else len(schemas)
        is_hidden = position == len(schemas) or any(
            (earlier, table) in rows for earlier in schemas[:position]
        )
        counts[f"{schema}.{table}" if is_hidden else table] = (position, table, rows[schema, table])
    return {name: counts[name][2] for name in sorted(counts, key=lambda key: (counts[key], key))}


def create_missing_schemas(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Make the CREATE SCHEMA statements at the beginning of a dump conditional; drop comments that only owners can set."""
    head, blocks = b"", iter(blocks)
    for block in blocks:
        head += block
        # Another statement, or the end of the dump, follows the schemas and extensions.
        if _NEXT_STATEMENT.search(head) or len(head) > LONGEST_LINE:
            break
    yield _SCHEMA.sub(create_schema_if_missing, _COMMENT.sub(b"", head))
    yield from blocks


def create_schema_if_missing(match: re.Match[bytes]) -> bytes:
    """Return a statement that creates the schema named in the first group of a match, if it is missing."""
    # IF NOT EXISTS would require the privilege to create schemas even if the schema exists.
    name = match[1].replace(b"'", b"''")
    return (
        b"do $dbctl$ begin if to_regnamespace(E'" + name.replace(b"\\", b"\\\\") + b"') is null then "
        b"create schema " + match[1] + b"; end if; end $dbctl$;\n"
    )


_SCHEMA = re.compile(rb"(?<=\n)CREATE SCHEMA (" + _NAME + rb");\n")
#: Comments of the public schema and of extensions. Only their owners can set them, and they are set already.
_COMMENT = re.compile(
    rb"(?<=\n)COMMENT ON (?:SCHEMA public IS 'standard public schema'|EXTENSION "
    + _NAME
    + rb" IS '(?:[^']|'')*');\n"
)
_NEXT_STATEMENT = re.compile(
    rb"\n(?:CREATE (?!SCHEMA |EXTENSION )|COPY |-- PostgreSQL database dump complete)[^\n]*\n"
)


def unquote_name(name: bytes) -> str:
    text = name.decode(errors="surrogateescape")
    return text[1:-1].replace('""', '"') if text.startswith('"') else text
