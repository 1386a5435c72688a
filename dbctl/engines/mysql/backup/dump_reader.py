"""Scan the text of a dump: count the rows of each table, and detect truncated statements."""

from __future__ import annotations

import re

#: The last line of a complete dump; a time may follow.
END = b"-- Dump completed"
DATA, END_OF_ROWS = b"-- Dumping data for table `", b"UNLOCK TABLES;"
STRUCTURE = b"-- Table structure for table `"
DELIMITER = b"DELIMITER "
#: The options of a table in a shared tablespace. They are on a separate line.
_TABLESPACE = re.compile(rb"\) /\*!50100 TABLESPACE `((?:[^`]|``)+)` \*/ ")
#: Tablespaces that exist on every server.
DEFAULT_TABLESPACES = frozenset({"innodb_file_per_table", "innodb_system"})
#: The first line of newer programs of MariaDB, a command for the client without a terminator.
SANDBOX = b"/*M!999999\\-"
_INSERT = re.compile(rb"(?:INSERT|REPLACE) +(?:IGNORE +|DELAYED +|LOW_PRIORITY +)*INTO `((?:[^`]|``)+)`")
_QUOTED = re.compile(rb"'(?:[^'\\]|\\.|'')*'|`(?:[^`]|``)*`", re.DOTALL)


class DumpScanner:
    """Scanner of a dump, block by block; blocks may end anywhere.

    Line breaks in values are escaped, so lines separate statements and rows. Some programs write one row per line, others all
    rows of a statement on one line.
    """

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        self.problem = "its end is missing"  #: the defect of the dump; empty if it is complete
        self.tablespaces: dict[str, str] = {}  #: by table, without default tablespaces
        self._structure = ""  #: the table of the current definition
        self._remainder = b""
        self._table = ""  #: the table of the current rows
        self._in_data = False
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
        if line[:1] != b"(" or ending not in (b"),", b");") or not _is_balanced(line):
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
        elif self._in_data and (match := _INSERT.match(line)):
            self._table = _decode_name(match[1])
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
        elif not line.startswith((b"--", SANDBOX)):
            if self._in_statement and not self._in_body and (match := _TABLESPACE.match(line)):
                self._note_tablespace(_decode_name(match[1]))
            self._in_statement = not line.rstrip().endswith(b";")

    def _note_tablespace(self, name: str) -> None:
        if name not in DEFAULT_TABLESPACES:
            self.tablespaces[self._structure] = name

    def _scan_comment(self, line: bytes) -> None:
        is_end = line.startswith(END)
        if self._in_body and not is_end:
            return  # a comment of the body
        if self._in_statement or self._in_body:
            self._note_cut(f"the statement before {line.decode(errors='replace')!r}")
            self._in_statement = False
        if is_end:
            self.problem = self._cut_reason
        if line.startswith(STRUCTURE):
            self._structure = _decode_name(line[len(STRUCTURE) :].rstrip().removesuffix(b"`"))
        if line.startswith(DATA):
            self._in_data = True
            self.rows.setdefault(_decode_name(line[len(DATA) :].rstrip().removesuffix(b"`")), 0)

    def _note_cut(self, statement: str) -> None:
        self._cut_reason = self._cut_reason or f"{statement} is truncated"


def _decode_name(name: bytes) -> str:
    return name.decode(errors="surrogateescape").replace("``", "`")


def _is_balanced(line: bytes) -> bool:
    """Return whether every string in a row is closed."""
    return not line.replace(rb"\\", b"").replace(rb"\'", b"").count(b"'") % 2
