"""What the text of a dump tells while it passes by: the rows of each table, and whether it came to its end."""

from __future__ import annotations

import re

#: The last words of a whole dump; a time may follow them.
END = b"-- Dump completed"
BEGIN, CLOSE = b"-- Dumping data for table `", b"UNLOCK TABLES;"
INSERT = b"INSERT INTO `"
_VALUES = re.compile(rb"'(?:[^'\\]|\\.|'')*'|`(?:[^`]|``)*`", re.DOTALL)


class Reading:
    """A dump that is read, block by block, however the blocks are cut.

    A line break in a value is written as two letters, so lines tell values apart. Some programs write a line for each row,
    others all rows of a statement in one.
    """

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        self.whole = False  #: whether it came to its end
        self._rest = b""
        self._table = ""  #: whose rows are passing by
        self._inserting = False

    @property
    def in_rows(self) -> bool:
        """Whether what comes next goes on with the rows of a statement."""
        return self._inserting

    def feed(self, block: bytes) -> None:
        """Read on."""
        lines = (self._rest + block).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            self._line(line)

    def finish(self) -> None:
        """Read the last line."""
        self._line(self._rest)
        self._rest = b""

    def _line(self, line: bytes) -> None:
        if self._inserting:
            self.rows[self._table] += line.startswith(b"(")
            self._inserting = not line.endswith(b";")
        elif self._table:
            if line.startswith(INSERT):
                plain = _VALUES.sub(b"", line).partition(b" VALUES")[2]
                self.rows[self._table] += plain.count(b"(")
                self._inserting = not line.endswith(b";")
            elif line == CLOSE:
                self._table = ""
        elif line.startswith(BEGIN) and line.endswith(b"`"):
            self._table = line[len(BEGIN) : -1].decode(errors="surrogateescape").replace("``", "`")
            self.rows.setdefault(self._table, 0)
        if line:
            self.whole = line.startswith(END)
