"""Read the text of a dump, verify it, and load it with the server's client program."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

from dbctl import signals
from dbctl.engines.contract.dumps import DumpVerification, LoadRequest
from dbctl.engines.mysql import dump_programs
from dbctl.engines.mysql.dialect import Server
from dbctl.engines.mysql.events import LoadedEvents
from dbctl.engines.mysql.opening import LONGEST_IDLE, quote
from dbctl.engines.mysql.session import Session
from dbctl.engines.mysql.values import format_literal
from dbctl.engines.servers.dumps import UNCHANGED, failed_verification, require_row_counts
from dbctl.errors.backup import RestoreFailedError
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import CorruptError
from dbctl.files.codecs import read_gzip
from dbctl.model import sort_by_use
from dbctl.progress import no_progress
from dbctl.url import Url

#: The last line of a complete dump, which a time may follow; and of one without comments, whose first lines contain the beginning.
END = b"-- Dump completed"
END_WITHOUT_COMMENTS = (
    b"/*!40111 SET SQL_NOTES=@OLD_SQL_NOTES */;",
    b"/*M!100616 SET NOTE_VERBOSITY=@OLD_NOTE_VERBOSITY */;",
)
BEGIN_WITHOUT_COMMENTS = re.compile(rb"/\*M?!\d+ SET @OLD_(?:SQL_NOTES|NOTE_VERBOSITY)=@@")
DATA, END_OF_ROWS = b"-- Dumping data for table `", b"UNLOCK TABLES;"
STRUCTURE = b"-- Table structure for table `"
DELIMITER = b"DELIMITER "
#: The options of a table in a shared tablespace. They are on a separate line.
_TABLESPACE = re.compile(rb"\) /\*!50100 TABLESPACE `((?:[^`]|``)+)` \*/ ")
#: Tablespaces that exist on every server.
DEFAULT_TABLESPACES = frozenset({"innodb_file_per_table", "innodb_system"})
#: The first line of newer programs of MariaDB, a command for the client without a terminator.
SANDBOX = b"/*M!999999\\-"
_CREATE_TABLE = re.compile(rb"CREATE TABLE `((?:[^`]|``)+)` \(")
_INSERT = re.compile(rb"(?:INSERT|REPLACE) +(?:IGNORE +|DELAYED +|LOW_PRIORITY +)*INTO `((?:[^`]|``)+)`")
_QUOTED = re.compile(rb"'(?:[^'\\]|\\.|'')*'|`(?:[^`]|``)*`", re.DOTALL)


#: Comments with the position of a dump in the binary log, and with the transactions before it.
_LOG_POSITION = re.compile(rb"-- CHANGE MASTER TO MASTER_LOG_FILE='([^'\n]+)', MASTER_LOG_POS=(\d+);")
_GTID = re.compile(rb"-- SET GLOBAL gtid_slave_pos='([-,\d]*)';")


#: Of a dump: the position in the binary log (``FILE:POSITION``), the transactions before it, and of its server id and settings.
LOG_FACTS = ("binlog", "gtid", "server_id", "settings")
#: Settings on which the meaning of a log depends; their names are also options of the server.
LOG_SETTINGS = (
    "character_set_server",
    "collation_server",
    "default_storage_engine",
    "explicit_defaults_for_timestamp",
    "innodb_default_row_format",
    "innodb_page_size",
    "innodb_strict_mode",
    "lower_case_table_names",
)
#: The time zone in which the server executed statements; it is no option.
LOG_ZONE = "system_time_zone"
#: MariaDB's program reads the position in its snapshot from these values, without a lock. They are empty without a log.
LOG_SNAPSHOT = "show status like 'binlog_snapshot_file'"
#: Writes the position as a comment.
LOG_OPTION = "--master-data=2"


#: Settings of sessions that create tables; only some servers and users may set each of them. Otherwise a TIMESTAMP could get a default,
#: a wide table be rejected, a change of a versioned table be rejected, a table get another collation, engine, or a key that the source lacks.
TABLE_SETTINGS = (
    "explicit_defaults_for_timestamp = 1",
    "innodb_strict_mode = 0",
    "system_versioning_alter_history = 'KEEP'",
    "character_set_collations = ''",
    "sql_generate_invisible_primary_key = 0",
    "enforce_storage_engine = null",
)


class DumpScanner:
    """Scanner of a dump, block by block; blocks may end anywhere.

    Line breaks in values are escaped, so lines separate statements and rows. Some programs write one row per line, others all
    rows of a statement on one line.
    """

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        self.problem = "its end is missing"  #: the defect of the dump; empty if it is complete
        self.tablespaces: dict[str, str] = {}  #: by table, without default tablespaces
        self.has_comments = False  #: whether it has those that its program writes unless an option omits them
        self.has_beginning = False  #: whether it begins as one with an end does
        self.log_position: dict[str, str] = {}  #: facts of ``LOG_FACTS``, if the dump contains its position
        self._structure = ""  #: the table of the current definition
        self._remainder = b""
        self._table = ""  #: the table of the current rows
        self._in_data = False  #: after the comment before rows
        self._inserting = False
        self._in_statement = False  #: whether a statement other than rows is unfinished
        self._in_body = False  #: inside the body of a trigger, a routine or an event
        self._cut_reason = ""  #: describes the first truncated statement

    @property
    def in_rows(self) -> bool:
        """Whether the next line continues the rows of a statement."""
        return self._inserting

    def feed(self, block: bytes) -> None:
        lines = (self._remainder + block).split(b"\n")
        self._remainder = lines.pop()
        for line in lines:
            if self._inserting:
                # Most lines are rows, so they need no call.
                if line[-2:] == b")," and line[:1] == b"(" and b"\\" not in line and not line.count(b"'") % 2:
                    self.rows[self._table] += 1
                else:
                    self._scan_row(line)
            elif line:
                self._scan_line(line)

    def finish(self) -> None:
        """Scan the last line."""
        self.feed(b"\n")

    def _scan_row(self, line: bytes) -> None:
        ending = line[-2:]
        if (
            line[:1] != b"("
            or ending not in (b"),", b");")
            or line.replace(rb"\\", b"").replace(rb"\'", b"").count(b"'") % 2
        ):
            self._note_cut(f"the rows of table {self._table}")
            self._inserting = False
            self._scan_line(line)
            return
        self.rows[self._table] += 1
        self._inserting = ending == b"),"

    def _scan_line(self, line: bytes) -> None:
        self.problem = "its end is missing"
        if line.startswith(b"-- "):
            self._scan_comment(line)
        elif self._can_begin_rows and (match := _INSERT.match(line)):
            self._table = decode_name(match[1])
            self.rows.setdefault(self._table, 0)
            unquoted = _QUOTED.sub(b"", line[match.end() :]).partition(b"VALUES")[2]
            self.rows[self._table] += unquoted.count(b"(")
            self._inserting = not line.endswith(b";")
            is_row = unquoted.lstrip().startswith(b"(") and unquoted.endswith((b");", b"),"))
            if b"'" in unquoted or (unquoted.strip() and not is_row):
                self._note_cut(f"the rows of table {self._table}")
        elif line == END_OF_ROWS:
            self._in_data = self._in_statement = False
        elif line.startswith(DELIMITER):
            self._in_data, self._in_body = False, not line.endswith(b" ;")
        elif line.startswith(END_WITHOUT_COMMENTS) and not self.has_comments:
            self._note_unfinished(line)
            self.problem = self._cut_reason
        elif not line.startswith((b"--", SANDBOX)):
            if not self._in_body:
                self._scan_definition(line)
            self._in_statement = not line.rstrip().endswith(b";")

    @property
    def _can_begin_rows(self) -> bool:
        return self._in_data if self.has_comments else not (self._in_statement or self._in_body)

    def _scan_definition(self, line: bytes) -> None:
        """Read the tablespace of a table, and without comments what these would state."""
        if self._in_statement and (match := _TABLESPACE.match(line)):
            name = decode_name(match[1])
            if name not in DEFAULT_TABLESPACES:
                self.tablespaces[self._structure] = name
        if self.has_comments:
            return
        if match := _CREATE_TABLE.match(line):
            self._structure = decode_name(match[1])
            self.rows.setdefault(self._structure, 0)
        self.has_beginning = self.has_beginning or bool(BEGIN_WITHOUT_COMMENTS.match(line))

    def _scan_comment(self, line: bytes) -> None:
        is_end = line.startswith(END)
        if self._in_body and not (is_end and self.has_comments):
            return  # a comment of the body
        self.has_comments = True
        self._note_unfinished(line)
        if is_end:
            self.problem = self._cut_reason
        if "binlog" not in self.log_position and (match := _LOG_POSITION.match(line)):
            self.log_position["binlog"] = f"{match[1].decode(errors='replace')}:{match[2].decode()}"
        elif match := _GTID.match(line):
            self.log_position["gtid"] = match[1].decode()
        if line.startswith(STRUCTURE):
            self._structure = decode_name(line[len(STRUCTURE) :].rstrip().removesuffix(b"`"))
        if line.startswith(DATA):
            self._in_data = True
            self.rows.setdefault(decode_name(line[len(DATA) :].rstrip().removesuffix(b"`")), 0)

    def _note_unfinished(self, line: bytes) -> None:
        """Note that a statement is truncated if a line begins in it."""
        if self._in_statement or self._in_body:
            self._note_cut(f"the statement before {line.decode(errors='replace')!r}")
            self._in_statement = False

    def _note_cut(self, statement: str) -> None:
        self._cut_reason = self._cut_reason or f"{statement} is truncated"


def decode_name(name: bytes) -> str:
    return name.decode(errors="surrogateescape").replace("``", "`")


#: The beginning of the last part of a dump: the final definitions of views.
FINAL_VIEWS = b"\n-- Final view structure for view `"
#: A library of a routine in the server's form, with an optional alias.
_LIBRARY = rb"`(?:[^`\n]|``)+`\.`(?:[^`\n]|``)+`(?: AS `(?:[^`\n]|``)+`)?"
#: Lines of a dump that name its database, or lock a table. A program writes ALTER DATABASE around code that was created while
#: the database had another collation. A server writes the name before the columns of a view whose definer is missing, before
#: functions in views, before the sequence of a default, and before the libraries of a routine. A locked table cannot use
#: the sequence of its default. The mode of the session is that of the rows. A table of ARCHIVE accepts only numbers above its counter.
_DATABASE_LINES = re.compile(
    rb"^(?:ALTER DATABASE `(?:[^`\n]|``)+` (?P<sorting>CHARACTER SET \w+ COLLATE \w+ ;;?)$"
    rb"|(?P<mode>/\*!40101 SET @OLD_SQL_MODE=@@SQL_MODE, SQL_MODE='NO_AUTO_VALUE_ON_ZERO)' \*/;$"
    rb"|(?P<archive>\) ENGINE=ARCHIVE) AUTO_INCREMENT=\d+"
    rb"|(?P<lock>LOCK TABLES `(?:[^`\n]|``)+` WRITE;)$"
    rb"|(?P<libraries>    USING \(" + _LIBRARY + rb"(?:, " + _LIBRARY + rb")*\))$"
    rb"|(?:/\*!50001 VIEW `|  `[^\n]*nextval\()[^\n]*$)",
    re.MULTILINE,
)

#: The end of a trigger or an event in whose body MySQL has stored a semicolon that separated it from another statement.
_SEPARATOR = re.compile(rb"; (?=\*/ ?;;$)", re.MULTILINE)

#: A program writes a trigger as it was created: in any case, with comments, and with the database before its name and that of its table.
_TRIGGER_BEGIN, _TRIGGER_END = b"\n/*!50003 CREATE*/ ", b"\nDELIMITER ;"
_GAP = rb"(?:\s|/\*(?:[^*]|\*(?!/))*\*/|(?:--\s|#)[^\n]*\n)*"
_NAME = rb'(?:`(?:[^`]|``)+`|"(?:[^"]|"")+"|[\w$\x80-\xff]+)'
_QUALIFIER = rb"(?:" + _NAME + _GAP + rb"\." + _GAP + rb")?"
_TRIGGER = re.compile(
    rb"(?P<create>^/\*!50003 CREATE\*/ (?:/\*!50017 DEFINER=[^\n]*?\*/ )?/\*!50003 (?i:trigger)\b)"
    rb"(?:(?P<exists>" + _GAP + rb"(?:(?i:if)" + _GAP + rb"(?i:not)" + _GAP + rb"(?i:exists)" + _GAP + rb")?)"
    + _QUALIFIER + rb"(?P<name>" + _NAME + rb")"
    rb"(?P<event>" + _GAP + rb"(?i:before|after)\b[^;'`\"]*?\b(?i:on)\b" + _GAP + rb")"
    + _QUALIFIER + rb"(?P<table>" + _NAME + rb"))?",
    re.MULTILINE,
)  # fmt: skip
#: A longer text in front of the end of a trigger is no trigger.
_MAX_TRIGGER_BYTES = 16 << 20

_VIEW = re.compile(
    rb"-- Final view structure for view `(?P<name>(?:[^`\n]|``)+)`\n--\n\n"
    rb".*?/\*!50001 SET collation_connection +.= @saved_col_connection \*/;\n",
    re.DOTALL,
)
_DEFINER = re.compile(rb"^/\*!50013 DEFINER=.* (SQL SECURITY (?:DEFINER|INVOKER) \*/)$", re.MULTILINE)
_QUOTED_NAME = re.compile(rb"`((?:[^`]|``)*)`")


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
    events: LoadedEvents,
    *,
    rewrite: Callable[[Iterator[bytes]], Iterator[bytes]] = iter,
    settings: Sequence[str] = (),
) -> None:
    """Load a dump with the client into the database at ``url``, which no other session uses.

    The load cannot be rolled back. ``events`` get those of the dump; ``rewrite``: a filter for the text;
    ``settings``: further ones of the session.

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
    run_script(events.disable(text), url, server, target, timeout=request.timeout, settings=settings)
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
        if line["archive"]:
            return line["archive"]
        if line["mode"]:  # otherwise the server stores zero in place of a date such as 2020-02-31
            return line["mode"] + b",ALLOW_INVALID_DATES' */;"
        if line["sorting"]:
            return b"ALTER DATABASE " + line["sorting"]
        if not database:
            return line[0]
        pattern = qualifiers if line["libraries"] else names
        return pattern.sub(lambda name_match: b"" if name_match["name"] else name_match[0], line[0])

    remainder, views = b"", b""
    for block in _remove_database_of_triggers(blocks, database):
        complete, end, incomplete = (remainder + block).rpartition(b"\n")
        remainder = end + incomplete  # FINAL_VIEWS begins with the end of a line
        text = views + _SEPARATOR.sub(b" ", _DATABASE_LINES.sub(replace_line, complete))
        start = text.find(FINAL_VIEWS)
        views = b"" if start < 0 else text[start:]
        yield text if start < 0 else text[:start]
    yield order_views(views + remainder) if views else remainder


def _remove_database_of_triggers(blocks: Iterable[bytes], database: str) -> Iterator[bytes]:
    """Remove the database from the names of triggers and of their tables.

    Otherwise a dump that is loaded under another name would create its triggers in the live database.

    Raises:
        RestoreFailedError: the names of a trigger cannot be found.
    """

    def replace_trigger(trigger: re.Match[bytes]) -> bytes:
        if trigger["name"] is None:
            line = trigger.string[trigger.start() :].partition(b"\n")[0].decode(errors="replace")
            raise RestoreFailedError(
                target=database,
                reason=f"the dump has a trigger without a readable name: {line}",
                hint=UNCHANGED,
            )
        return b"".join(trigger[part] for part in ("create", "exists", "name", "event", "table"))

    remainder = b""
    for block in blocks:
        text = remainder + block
        start = text.rfind(_TRIGGER_BEGIN)
        is_complete = (
            start < 0 or text.find(_TRIGGER_END, start) >= 0 or len(text) - start > _MAX_TRIGGER_BYTES
        )
        if is_complete:  # except the beginning of another one
            start = text.rfind(b"\n")
        start = max(start, 0)
        remainder = text[start:]
        yield _TRIGGER.sub(replace_trigger, text[:start])
    yield _TRIGGER.sub(replace_trigger, remainder)


def order_views(text: bytes) -> bytes:
    """Create views after those that they read, and set their definers last.

    A server rejects a view on a view whose definer is missing, and a view with a check option on a placeholder. So each view
    is created for this user first, and for its definer in reverse order.
    """
    views = list(_VIEW.finditer(text))
    if not views:
        return text
    definitions = {view["name"]: view[0] for view in views}
    names = sort_by_use(definitions, lambda name: sorted(set(_QUOTED_NAME.findall(definitions[name]))))
    ordered = [definitions[name] for name in names]
    without_definers = [_DEFINER.sub(rb"/*!50013 \1", view) for view in ordered]
    return b"".join(
        [text[: views[0].start()], *without_definers, *reversed(ordered), text[views[-1].end() :]]
    )


def run_script(
    blocks: Iterable[bytes],
    url: Url,
    server: Server,
    target: str,
    *,
    timeout: float,
    interruptible: bool = True,
    settings: Sequence[str] = (),
) -> None:
    tool = dump_programs.find_program("client", server, target, url)
    # A dump must not make the client send files of this machine.
    options = [
        "--batch",
        "--binary-mode",
        "--comments",  # part of the text of routines
        "--local-infile=0",
        "--default-character-set=utf8mb4",
        f"--database={url.path}",
    ]
    watch = dump_programs.create_watch(url, url.path, target, UNCHANGED, timeout=timeout)
    with dump_programs.run_client(tool, options, url, server, target, watch=watch, reads=True) as client:

        def create_error() -> DbctlError:
            client.finish(interruptible=interruptible)
            return dump_programs.to_error(client, url, target, timeout=timeout, instead=UNCHANGED)

        # The server's defaults are meant for the app: without autocommit, the rows would be lost at the end, and without
        # quotes, defaults would be stored in another form than that of the backup. Threads of the server lock new tables for moments.
        # MariaDB may have accepted rows that violate a CHECK; MySQL has no such setting.
        all_settings = [
            "autocommit = 1",
            f"wait_timeout = {LONGEST_IDLE}, lock_wait_timeout = {LONGEST_IDLE}",
            f"{server.time_limit} = 0",
            "sql_quote_show_create = 1",
            *(["check_constraint_checks = 0"] if server.is_mariadb else []),
            *settings,
        ]
        for block in chain([f"set session {', '.join(all_settings)};\n".encode()], blocks):
            if not client.write(block):
                raise create_error()
            if interruptible:
                signals.raise_if_interrupted()
        if client.finish(interruptible=interruptible):
            raise create_error()


def has_log(session: Session) -> bool:
    """Whether the dump program can write the position in a binary log, without a lock."""
    return session.server.is_mariadb and any(file for _, file in session.run(LOG_SNAPSHOT))


def describe_log(session: Session) -> dict[str, str]:
    """Return the facts of ``LOG_FACTS`` that are not in a dump."""
    names = ", ".join(map(format_literal, (*LOG_SETTINGS, LOG_ZONE)))
    rows = session.run(f"show global variables where variable_name in ({names})")
    ((server_id,),) = session.run("select @@global.server_id")
    settings = " ".join(f"{name}={value}" for name, value in sorted(rows, key=str))
    return {"server_id": str(server_id), "settings": settings}
