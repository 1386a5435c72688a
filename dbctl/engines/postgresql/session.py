"""One connection to a server: how it is made, how a signal ends what runs on it, and what its settings are."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Mapping
from contextlib import suppress
from ipaddress import ip_address
from math import ceil
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qsl

import psycopg
from psycopg import pq

from dbctl.config import has_home, variables_set
from dbctl.engines.postgresql.probe import probe_session
from dbctl.engines.postgresql.types import UNDECLARED, make_plain
from dbctl.engines.sql import Row, ident, is_storable
from dbctl.errors import FileFailedError, PoolerError, ReadOnlyError, UrlInvalidError
from dbctl.files import check_settings, expand_home, liveness
from dbctl.signals import Interrupted
from dbctl.url import Url

T = TypeVar("T")

#: What follows the ``?`` where a pooler keeps one session for each client; PgBouncer's own words.
POOL_MODE, SESSION = "pool_mode", "session"
#: Seconds that a server gets to answer at all; those who set --timeout higher wait that long.
CONNECT_SECONDS = 5
#: The driver's own limit, where ``connect_timeout`` asks for none.
DRIVER_SECONDS = 130
#: The files that libpq reads: their variables of the environment, and what a URL calls them.
FILES = {
    "PGPASSFILE": "passfile",
    "PGSERVICEFILE": "servicefile",
    "PGSSLCERT": "sslcert",
    "PGSSLCRL": "sslcrl",
    "PGSSLKEY": "sslkey",
    "PGSSLROOTCERT": "sslrootcert",
}
#: Seconds that a server gets to stop a statement, and seconds between two looks for a signal.
CANCEL_SECONDS, LOOK_SECONDS = 5.0, 0.1
#: The longest application_name that a server keeps, in bytes.
LONGEST_NAME = 63
#: What ORMs write behind the ``?`` and libpq does not know; none of it is for us.
OF_OTHERS = frozenset(
    {"connection_limit", "pgbouncer", "pool_timeout", "socket_timeout", "statement_cache_size"}
)


#: The server processes of the sessions that this process has opened, by number: none of them holds up this process.
own_backends = set[int]()


# The driver logs what it also raises; without a handler that would go to standard error.
logging.getLogger("psycopg").addHandler(logging.NullHandler())


class Session(psycopg.Connection[Row]):
    """A connection on which a signal cancels what runs, also on the server, and on which no silence lasts for ever."""

    parameters: Mapping[str, str]  #: what libpq was given
    opening_seconds: float  #: that the server gets to answer at all
    pooled = False  #: whether a pooler stands between here and the server
    _deadline: float | None = None  #: while the session begins
    asked_schema = ""  #: the one that the URL names
    schema = ""  #: where a name without a schema is made, and mostly found
    settings: dict[str, str]

    def settle(self) -> None:
        """Bring the settings of the session to what everything here relies on."""
        self.execute(b"reset all")
        sets = ", ".join(f"set_config('{name}', ${at}, false)" for at, name in enumerate(self.settings, 1))
        self.execute(f"select {sets}".encode(), list(self.settings.values()))
        (told,) = self.execute(b"select coalesce(current_schema(), '')").fetchall()
        self.schema = str(told[0])

    def run(self, sql: str) -> None:
        """Run one statement without parameters, as it stands."""
        self.execute(sql.encode())

    def wait(
        self,
        gen: Generator[pq.abc.PGconn, object, T],  # type: ignore[override]
        *arguments: float,
        **named: float | None,
    ) -> T:
        try:
            if named.get("timeout") is not None:
                return super().wait(gen, *arguments, **named)  # type: ignore[arg-type]
            if self._deadline is not None:
                return self._wait_for_opening(gen)
            return self._wait_while_alive(gen)
        except Interrupted:
            if self.pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
                self._abandon(gen)
            raise

    @property
    def address(self) -> tuple[str, int]:
        """The host and port of the server; the path of its socket, and 0, where it is reached by one."""
        host, port = self.pgconn.hostaddr.decode() or self.pgconn.host.decode(), int(self.pgconn.port)
        return (f"{host}/.s.PGSQL.{port}", 0) if host.startswith("/") else (host, port)

    @property
    def place(self) -> str:
        """The server, as its other sessions call it, too."""
        return ":".join(map(str, self.address))

    def limit_opening(self, seconds: float) -> None:
        """Give the server so many seconds for all that follows, until ``end_opening``."""
        self._deadline = time.monotonic() + seconds

    def end_opening(self) -> None:
        """Limit silence from now on, and no longer time."""
        self._deadline = None

    def _wait_for_opening(self, gen: Generator[pq.abc.PGconn, object, T]) -> T:
        try:
            return super().wait(gen, timeout=max(0.0, (self._deadline or 0) - time.monotonic()))  # type: ignore[arg-type]
        except psycopg.errors._WaitTimeout:  # noqa: SLF001 - it has no other name
            self.pgconn.finish()
            reason = f"the server did not let a session begin within {self.opening_seconds:g} seconds"
            raise psycopg.errors.ConnectionTimeout(reason) from None

    def _wait_while_alive(self, gen: Generator[pq.abc.PGconn, object, T]) -> T:
        """Wait for as long as something arrives, or the server is at work for this session.

        Raises:
            psycopg.OperationalError: neither was so; the connection is closed.
        """
        try:
            return super().wait(gen, timeout=liveness.SILENCE_SECONDS)  # type: ignore[arg-type]
        except psycopg.errors._WaitTimeout:  # noqa: SLF001 - it has no other name
            return self._wait_on(gen)

    def _wait_on(self, gen: Generator[pq.abc.PGconn, object, T]) -> T:
        alive = liveness.Liveness(lambda: probe_session(self), self.place)
        has_arrived = False  # what came during the first wait was not followed, and one failure ends nothing

        def followed() -> Generator[pq.abc.PGconn, object, T]:
            nonlocal has_arrived
            try:
                wanted = next(gen)
                while True:
                    ready = yield wanted
                    has_arrived = has_arrived or bool(ready)
                    wanted = gen.send(ready)
            except StopIteration as ended:
                value: T = ended.value
                return value

        waiting = followed()
        while True:
            if has_arrived:
                alive.note_progress()
            elif reason := alive.find_fault():
                self.pgconn.finish()
                raise psycopg.OperationalError(reason)
            has_arrived = False
            with suppress(psycopg.errors._WaitTimeout):  # noqa: SLF001 - it has no other name
                return super().wait(waiting, timeout=liveness.SILENCE_SECONDS)  # type: ignore[arg-type]

    def _abandon(self, gen: Generator[pq.abc.PGconn, object, T]) -> None:
        """Make the server stop, and read what it still had to say; else the connection is of no more use."""
        try:
            self.cancel_safe(timeout=CANCEL_SECONDS)
            with suppress(psycopg.errors.QueryCanceled):
                super().wait(gen, timeout=CANCEL_SECONDS)  # type: ignore[arg-type]
        except (psycopg.Error, RuntimeError, StopIteration):
            self.pgconn.finish()


def open_session(url: Url, target: str, *, timeout: float, reading: bool, made: bool = False) -> Session:
    """Connect to the database at ``url``; one that was ``made`` here may be written whatever it is set to.

    Raises:
        PoolerError: between here and the server stands a pooler that may change sessions.
        ReadOnlyError: somebody has set that sessions like this one write nothing, and it is to write.
        UrlInvalidError: it holds an option that libpq does not know, or names no database.
        psycopg.Error: the server refused, or there is none.
    """
    _check_files(url)
    parameters, schema = _parameters(url)
    pooled = parameters.pop(POOL_MODE, "")
    parameters.setdefault("connect_timeout", str(max(CONNECT_SECONDS, ceil(timeout))))
    parameters["client_encoding"] = "UTF8"
    seconds = connect_seconds(parameters["connect_timeout"])
    parameters |= _addresses(parameters, seconds)
    session = Session.connect(
        **parameters,  # type: ignore[arg-type]
        autocommit=True,
        cursor_factory=psycopg.RawCursor,
        prepare_threshold=None,  # a pooler between here and the server may change servers
    )
    own_backends.add(session.pgconn.backend_pid)
    try:
        session.parameters, session.opening_seconds = parameters, seconds
        session.limit_opening(seconds)
        session.pooled, session.asked_schema = bool(pooled), schema
        if pooled != SESSION:
            _refuse_pooler(session, target)
        session.settings = {
            "application_name": "dbctl",
            "TimeZone": "UTC",
            "DateStyle": "ISO, YMD",
            "IntervalStyle": "postgres",
            "bytea_output": "hex",
            "extra_float_digits": "1",
            "standard_conforming_strings": "on",
            "synchronize_seqscans": "off",  # or a table that is read whole begins anywhere
            # Where the catalogue is seldom vacuumed, questions about it seem dear: compiling one took 5 s, answering it 0.2.
            "jit": "off",
            # 0 would be for ever
            "lock_timeout": f"{min(max(1, round(timeout * 1000)), (1 << 31) - 1)}ms",
            "default_transaction_read_only": "on" if reading else "off",
            "default_transaction_isolation": "repeatable read",
            **({"search_path": ident(schema)} if schema else {}),
        }
        if session.info.parameter_status("server_encoding") == UNDECLARED:
            session.settings["client_encoding"] = UNDECLARED  # or it refuses to tell what is no UTF-8
        if not (reading or made):
            _refuse_what_is_read_only(session, target)
        session.settle()
        make_plain(session)
        session.end_opening()
    except BaseException:  # an open connection must not outlive the failure
        session.close()
        raise
    return session


def connect_seconds(text: str) -> float:
    """Return the seconds that ``connect_timeout`` means: the driver waits two at least, and 0 is its own limit."""
    seconds = int(text) if text.strip().isdigit() else 0
    return float(max(2, seconds) if seconds else DRIVER_SECONDS)


def _addresses(parameters: Mapping[str, str], seconds: float) -> dict[str, str]:
    """Look up the host, for which libpq would wait as long as the system likes, and return what it is told of it.

    Of several addresses libpq chooses, which looks them up once more.

    Raises:
        psycopg.OperationalError: the name was not resolved, or not in time.
    """
    host = parameters.get("host", "")
    if (
        not host
        or host.startswith(("/", "@"))
        or "," in host
        or "hostaddr" in parameters
        or _is_address(host)
    ):
        return {}
    try:
        found = liveness.resolve(host, 0, seconds)
    except OSError as error:
        raise psycopg.OperationalError(error.strerror or str(error)) from None
    return {"hostaddr": found[0]} if len(found) == 1 else {}


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _refuse_what_is_read_only(session: Session, target: str) -> None:
    """Refuse to write where somebody has set that nothing is written, though the server lets every session undo that."""
    ((told,),) = session.execute(b"show default_transaction_read_only").fetchall()
    if told == "on":
        raise ReadOnlyError(
            target=target,
            reason="default_transaction_read_only is on",
            instead="Nothing was changed. Somebody has set that for the role, the database, the server or the address: see why,"
            " then ALTER ROLE or ALTER DATABASE … RESET default_transaction_read_only.",
        )


def _refuse_pooler(session: Session, target: str) -> None:
    """Refuse a session that may not be the same from one statement to the next.

    What is set in it, above all that it may write nothing, would stay in one that the app gets later; and locks too.
    Poolers give each client a key of their own, so another process answers than the one that is said to have begun.
    """
    ((pid,),) = session.execute(b"select pg_backend_pid()").fetchall()
    if pid != session.pgconn.backend_pid:
        raise PoolerError(target=target)


def _check_files(url: Url) -> None:
    """Refuse files that libpq would wait for, or read without an end.

    Raises:
        FileFailedError: one is no regular file, or too large.
    """
    named = {name: text for name, text in parse_qsl(url.options) if name in FILES.values()}
    home = expand_home("~") if has_home() else None
    files = {
        **(
            {"passfile": str(home / ".pgpass"), "servicefile": str(home / ".pg_service.conf")} if home else {}
        ),
        **variables_set(FILES),
        **named,
    }
    for path in map(Path, filter(None, files.values())):
        try:
            check_settings(path)
        except OSError as error:
            raise FileFailedError(path=path, reason=error.strerror or str(error)) from error


def _parameters(url: Url) -> tuple[dict[str, str], str]:
    """Return what libpq is told, and the schema that the URL asks for as Prisma writes it."""
    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()} | {POOL_MODE}
    parameters = dict(parse_qsl(url.options, keep_blank_values=True))
    schema = parameters.pop("schema", "")
    if parameters.pop("ssl", "").lower() in ("true", "1"):
        parameters.setdefault("sslmode", "require")
    for name in OF_OTHERS:
        parameters.pop(name, None)
    strange = sorted(set(parameters) - known)
    if strange:
        raise UrlInvalidError(reason=f"PostgreSQL knows no option {strange[0]!r}")
    told = {
        "host": url.host.removeprefix("[").removesuffix("]"),
        "port": str(url.port or ""),
        "user": url.user,
        "password": url.password.reveal() if url.password else "",
        "dbname": url.path,
    }
    parameters |= {name: text for name, text in told.items() if text}
    if not parameters.get("dbname"):
        raise UrlInvalidError(reason="it names no database")
    for what, name in (("database", parameters["dbname"]), ("schema", schema)):
        if len(name.encode(errors="replace")) > LONGEST_NAME:  # the server would cut it without a word
            raise UrlInvalidError(
                reason=f"the name of the {what} has more than the {LONGEST_NAME} bytes that PostgreSQL keeps of one"
            )
    if not all(map(is_storable, [schema, *parameters.values()])):
        raise UrlInvalidError(reason="it is not valid UTF-8")
    return parameters, schema


def application_name(text: str) -> str:
    """Return what the server keeps as a name, cut as it would cut it."""
    return text.encode("ascii", "replace")[:LONGEST_NAME].decode()
