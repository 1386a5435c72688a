"""What the text of a dump tells while it passes by: the rows of each table, and whether all its statements are whole."""

from __future__ import annotations

import re

#: The last words of a whole dump; a time may follow them.
END = b"-- Dump completed"
BEGIN, CLOSE = b"-- Dumping data for table `", b"UNLOCK TABLES;"
STRUCTURE = b"-- Table structure for table `"
DELIMITER = b"DELIMITER "
#: The options of a table that is not in a file of its own. They are on a line of their own.
_TABLESPACE = re.compile(rb"\) /\*!50100 TABLESPACE `((?:[^`]|``)+)` \*/ ")
#: Tablespaces that every server has.
EVERYWHERE = frozenset({"innodb_file_per_table", "innodb_system"})
#: The first line of newer programs of MariaDB, which is a command for the client and has no end.
SANDBOX = b"/*M!999999\\-"
_INSERT = re.compile(rb"(?:INSERT|REPLACE) +(?:IGNORE +|DELAYED +|LOW_PRIORITY +)*INTO `((?:[^`]|``)+)`")
_QUOTED = re.compile(rb"'(?:[^'\\]|\\.|'')*'|`(?:[^`]|``)*`", re.DOTALL)


class Reading:
    """A dump that is read, block by block, however the blocks are cut.

    A line break in a value is written as two letters, so lines tell values apart. Some programs write a line for each row,
    others all rows of a statement in one.
    """

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        self.problem = "its end is missing"  #: why it cannot be loaded; empty where it is whole
        self.tablespaces: dict[str, str] = {}  #: by table, where a server may lack the tablespace
        self._structure = ""  #: the table whose definition passes by
        self._rest = b""
        self._table = ""  #: whose rows pass by
        self._in_data = False
        self._inserting = False
        self._open = False  #: whether a statement outside the rows has not ended yet
        self._in_body = False  #: whether the body of a trigger, a routine or an event passes by
        self._cut = ""  #: where the first statement was cut off

    @property
    def in_rows(self) -> bool:
        """Whether what comes next goes on with the rows of a statement."""
        return self._inserting

    def feed(self, block: bytes) -> None:
        """Read on."""
        lines = (self._rest + block).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            if self._inserting:
                # By far the most lines are such, so nothing is called for them.
                if line[-2:] == b")," and line[:1] == b"(" and b"\\" not in line and not line.count(b"'") % 2:
                    self.rows[self._table] += 1
                else:
                    self._rows(line)
            elif line:
                self._line(line)

    def finish(self) -> None:
        """Read the last line."""
        self.feed(b"\n")

    def _rows(self, line: bytes) -> None:
        ending = line[-2:]
        if line[:1] != b"(" or ending not in (b"),", b");") or not _is_balanced(line):
            self._cut_off(f"the rows of table {self._table}")
            self._inserting = False
            self._line(line)
            return
        self.rows[self._table] += 1
        self._inserting = ending == b"),"

    def _line(self, line: bytes) -> None:
        self.problem = "its end is missing"
        if line.startswith(b"-- "):
            self._comment(line)
        elif self._in_data and (found := _INSERT.match(line)):
            self._table = _name(found[1])
            self.rows.setdefault(self._table, 0)
            plain = _QUOTED.sub(b"", line[found.end() :]).partition(b"VALUES")[2]
            self.rows[self._table] += plain.count(b"(")
            self._inserting = not line.endswith(b";")
            is_row = plain.lstrip().startswith(b"(") and plain.endswith((b");", b"),"))
            if b"'" in plain or (plain.strip() and not is_row):
                self._cut_off(f"the rows of table {self._table}")
        elif line == CLOSE:
            self._in_data = self._open = False
        elif line.startswith(DELIMITER):
            self._in_data, self._in_body = False, not line.endswith(b" ;")
        elif not line.startswith((b"--", SANDBOX)):
            if self._open and not self._in_body and (found := _TABLESPACE.match(line)):
                self._note_tablespace(_name(found[1]))
            self._open = not line.rstrip().endswith(b";")

    def _note_tablespace(self, name: str) -> None:
        if name not in EVERYWHERE:
            self.tablespaces[self._structure] = name

    def _comment(self, line: bytes) -> None:
        is_end = line.startswith(END)
        if self._in_body and not is_end:
            return  # a comment of the body
        if self._open or self._in_body:
            self._cut_off(f"the statement before {line.decode(errors='replace')!r}")
            self._open = False
        if is_end:
            self.problem = self._cut
        if line.startswith(STRUCTURE):
            self._structure = _name(line[len(STRUCTURE) :].rstrip().removesuffix(b"`"))
        if line.startswith(BEGIN):
            self._in_data = True
            self.rows.setdefault(_name(line[len(BEGIN) :].rstrip().removesuffix(b"`")), 0)

    def _cut_off(self, what: str) -> None:
        self._cut = self._cut or f"{what} is cut off"


def _name(quoted: bytes) -> str:
    return quoted.decode(errors="surrogateescape").replace("``", "`")


def _is_balanced(line: bytes) -> bool:
    """Return whether every text in a row has its end."""
    return not line.replace(rb"\\", b"").replace(rb"\'", b"").count(b"'") % 2
