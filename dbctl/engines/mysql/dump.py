"""A database on a server copied by the server's own program, at one moment, and read while it comes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from dbctl.engines import clients, contents
from dbctl.engines.contents import Holds, digests
from dbctl.engines.dumps import Dumped, Proof
from dbctl.engines.mysql import tools
from dbctl.engines.mysql.describes import MySQLDescribes
from dbctl.engines.mysql.dumped import Reading
from dbctl.engines.mysql.session import Session
from dbctl.engines.packed import packing
from dbctl.engines.progress import Progress, silent
from dbctl.errors import ChangedMeanwhileError, ClientFailedError, NotSupportedError
from dbctl.model import now
from dbctl.url import Url

FORMS: Mapping[str, str] = {"plain": ".sql.gz"}
NOTHING = "No backup was made; earlier ones are as they were."
#: How often a dump is begun while somebody changes the schema.
TRIES = 2
#: What is compressed to a fraction; indexes are not in it.
PACKED = 4
SIZE = """select coalesce(sum(data_length), 0) from information_schema.tables
where table_schema = database() and table_type <> 'VIEW'"""
#: Sequences and kept states of rows are not what they were once they are loaded.
FEW = """select table_name from information_schema.tables where table_schema = database() and table_type = 'BASE TABLE'
and coalesce(table_rows, 0) <= :rows and coalesce(data_length, 0) <= :bytes order by 1"""
#: Only what keeps several states of a row can be read at one moment while others write.
OTHERS = """select table_name from information_schema.tables where table_schema = database()
and table_type in ('BASE TABLE', 'SYSTEM VERSIONED') and engine not in ('InnoDB', 'ROCKSDB') order by 1"""
#: When each table was made, or got its name. A rename changes no schema, and is not held up by a transaction that has
#: not come to the table yet: what follows is another table under the same name.
MADE = """select table_name, create_time from information_schema.tables where table_schema = database()
and table_type in ('BASE TABLE', 'SYSTEM VERSIONED') order by 1"""
LIKE = """select default_character_set_name, default_collation_name from information_schema.schemata
where schema_name = database()"""
PLACE = "select @@version, coalesce(@@hostname, ''), @@port, @@datadir"
WORDS = (
    "--single-transaction",
    "--quick",
    "--routines",
    "--triggers",
    "--events",
    "--hex-blob",
    "--default-character-set=utf8mb4",
    "--no-tablespaces",  # which only an administrator may see
)
#: Of one product alone. Masking policies, which newer programs of MySQL write down, are the whole server's, and a script
#: that drops those and makes them anew is none of a database; older programs say that they do not know the word.
MORE = {"MySQL": ["--set-gtid-purged=OFF", "--loose-skip-masking-policies"], "MariaDB": []}


class MySQLDumps(MySQLDescribes):
    """Capability.DUMP."""

    forms = FORMS
    parts = True
    packed = True
    target: str
    _timeout: float
    _url: Url

    @abstractmethod
    def _current(self) -> Session:
        """Return the session."""

    def dump_size(self) -> int:
        return int(str(self._fetch(SIZE, {})[0][0])) // PACKED

    def holds_up(self) -> bool:
        return False

    def dump(
        self, destination: Path, *, form: str = "", tables: Sequence[str] = (), progress: Progress = silent
    ) -> Dumped:
        del form  # there is but one
        others = [str(name) for (name,) in self._fetch(OTHERS, {}) if not tables or name in tables]
        if others:
            raise NotSupportedError(
                what=f"a dump of one moment of {', '.join(others)}",
                by=f"{self.target}, whose engine keeps no states of a row",
                instead=f"Nothing was made. With the app stopped: ALTER TABLE `{others[0]}` ENGINE=InnoDB;",
            )
        for left in reversed(range(TRIES)):
            taken, schema, made = now(), self.fingerprint(), self._fetch(MADE, {})
            before = digests(cast("Holds", self), self._few(tables))
            rows, version, sha256 = self._write(destination, tables, progress)
            whole = all(name in rows for name, _ in made if not tables or name in tables)
            if whole and (schema, made) == (self.fingerprint(), self._fetch(MADE, {})):
                # The program reads at a moment of its own. What a table held before it and behind it, it held then.
                behind = digests(cast("Holds", self), {name: rows[name] for name in before if name in rows})
                content = {name: one for name, one in behind.items() if before[name] == one}
                break
            destination.unlink()
            if not left:
                raise ChangedMeanwhileError(target=self.target)
        progress(1.0)
        proof = Proof(tables=rows, schema="" if tables else schema, problems=(), digests=content)
        facts = self._facts() | {"client": version}
        return Dumped(taken_at=taken, facts=facts, proof=proof, sha256=sha256)

    def _write(
        self, destination: Path, tables: Sequence[str], progress: Progress
    ) -> tuple[dict[str, int], str, str]:
        """Return the rows by table, the version of the program, and the SHA-256 of the file."""
        session = self._current()
        tool, expected = tools.find("dump", session.server, self.target), max(1, self.dump_size())
        reading, written = Reading(), 0
        with (
            tools.at(self._url, session.server) as where,
            clients.new_file(destination) as file,
            clients.running(
                [
                    str(tool.path),
                    where,
                    *WORDS,
                    *MORE[session.server.product],
                    "--",
                    session.database,
                    *tables,
                ],
                {},
                writes=True,
            ) as client,
            packing() as packed,
        ):
            for block in client.blocks():
                reading.feed(block)
                written += file.write(packed.feed(block))
                progress(min(1.0, written / expected))
            reading.finish()
            file.write(packed.rest())
            if client.finish():
                raise tools.failed(client, self.target, timeout=self._timeout, instead=NOTHING)
            if not reading.whole:
                raise ClientFailedError(
                    target=self.target, program=client.name, reason="its end is missing", instead=NOTHING
                )
        return reading.rows, tool.version, file.sha256

    def _few(self, tables: Sequence[str]) -> dict[str, int]:
        """Return how many rows tables hold that may be small by what the server guesses; none of ``tables`` stands for all."""
        asked = {"rows": 2 * contents.ROWS, "bytes": 4 * contents.BYTES}
        names = [str(name) for (name,) in self._fetch(FEW, asked)]
        return {name: self.count(name) for name in names if not tables or name in tables}

    def _facts(self) -> dict[str, str]:
        ((charset, collation),) = cast("list[tuple[str, str]]", self._fetch(LIKE, {}))
        return {
            **place(self._current()),
            "database": self._current().database,
            "charset": charset,
            "collation": collation,
            "format": "plain",
        }


def place(session: Session) -> dict[str, str]:
    """Return which server it is."""
    ((version, host, port, folder),) = session.run(PLACE)
    return {
        "server": str(version),
        "product": session.server.product,
        "at": f"{host}:{port}",
        "system": f"{host}:{port}{folder}",
    }
