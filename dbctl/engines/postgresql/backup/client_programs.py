"""The programs of PostgreSQL itself: which of them fits a server, and how they are told where it is."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg

from dbctl.engines.postgresql.errors import denied
from dbctl.engines.postgresql.probe import probe_program
from dbctl.engines.postgresql.session import Session
from dbctl.errors import (
    BusyError,
    ClientFailedError,
    ClientMissingError,
    ClientOldError,
    DbctlError,
    DiskFullError,
    PrivilegeMissingError,
    UnreachableError,
    UrlInvalidError,
)
from dbctl.files import subprocesses
from dbctl.model import Value

#: Where distributions keep several versions beside each other.
FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin")
_VERSION = re.compile(r"\(PostgreSQL\) (\d+)\S*")
#: A server tells the kind of a message in its own language, and its code only where it is asked to.
_TOLD = re.compile(r"(\w+):  (?:([0-9A-Z]{5}): )?(.+)")
HARMLESS = ("00", "01", "02")  #: classes of codes: done, warning, no data
#: Of libpq's options those that are no part of where a server is, or that are told otherwise.
LEFT_OUT = ("dbname", "client_encoding", "application_name", "fallback_application_name", "options")

#: Options that older programs do not know, by the version that brought them; the driver here is a new one.
SINCE = {
    "gssdelegation": 16,
    "load_balance_hosts": 16,
    "require_auth": 16,
    "sslcertmode": 16,
    "sslnegotiation": 17,
    "max_protocol_version": 18,
    "min_protocol_version": 18,
    "sslkeylogfile": 18,
}


class Tool(Value, frozen=True, kw_only=True):
    """One installed program."""

    path: Path
    major: int  #: the version that tells what it can read


def find(program: str, target: str, *, least: int) -> Tool:
    """Return the program that fits a server, or a dump, of the major version ``least`` best.

    That of the same version writes what the tools of that server can read; a newer one can do it, too, an older not.

    Raises:
        ClientMissingError: there is none at all.
        ClientOldError: every one is too old.
    """
    found = dict[int, Path]()
    for pattern in FOLDERS:
        for path in sorted(Path("/").glob(f"{pattern.lstrip('/')}/{program}")):
            if numbers := re.findall(r"\d+", str(path.parent)):
                found.setdefault(int(numbers[-1]), path)
    if least not in found and (named := shutil.which(program)):
        found.setdefault(_major(version_of(Path(named))), Path(named))
    package = f"postgresql-client-{least}"
    if not found:
        raise ClientMissingError(target=target, program=program, package=package, version=least)
    fitting = subprocesses.newest(found, least)
    if fitting is None:
        best = found[max(found)]
        raise ClientOldError(
            target=target, program=str(best), version=version_of(best), wanted=least, package=package
        )
    return Tool(path=fitting[1], major=fitting[0])


def version_of(path: Path) -> str:
    """Return the version of a program, empty where it does not tell."""
    found = _VERSION.search(subprocesses.version_told(path))
    return found[0].removeprefix("(PostgreSQL) ") if found else ""


def _major(version: str) -> int:
    found = re.match(r"\d+", version)
    return int(found[0]) if found else 0


@contextmanager
def at(session: Session, database: str, tool: Tool) -> Iterator[tuple[str, dict[str, str]]]:
    """Give the words and the environment that lead a program to the server of ``session``, as who it is there.

    Neither tells where that is, nor the password: both stand in files that only this user may read, and only as long
    as this lasts.

    Raises:
        UrlInvalidError: the password cannot be written into such a file.
    """
    info = session.info
    told = {
        name: text
        for name, text in info.get_parameters().items()
        if name not in LEFT_OUT and SINCE.get(name, 0) <= tool.major
    }
    told |= {"host": info.host, "port": str(info.port), "user": info.user, "dbname": database}
    if info.hostaddr and not info.host.startswith("/"):
        told["hostaddr"] = info.hostaddr  # the very server, where a name stands for several
    if any("\n" in text for text in (info.password, *told.values())):
        raise UrlInvalidError(reason="it holds a line break, which PostgreSQL's own programs cannot be told")
    service = "[dbctl]\n" + "".join(f"{name}={text}\n" for name, text in told.items())
    secret = info.password.replace("\\", "\\\\").replace(":", "\\:")
    with subprocesses.secrets({"service": service, "password": f"*:*:*:*:{secret}\n"}) as place:
        yield (
            "service=dbctl",
            {
                "PGSERVICEFILE": str(place / "service"),
                "PGPASSFILE": str(place / "password"),
                "PGAPPNAME": f"dbctl {database}"[:63],
            },
        )


def watch(session: Session, environment: Mapping[str, str], target: str, instead: str) -> subprocesses.Watch:
    """Return how a program is looked after that connects as ``session`` does; ``environment`` is that of ``at``."""
    name = environment["PGAPPNAME"]
    return subprocesses.Watch(target, instead, lambda: probe_program(session, name), session.place)


def failed(
    client: subprocesses.Client, session: Session | None, target: str, *, timeout: float, instead: str
) -> DbctlError:
    """Return why a program failed, by what it said: the server's own codes where it tells them."""
    complaint = client.complaint()
    lines = complaint.splitlines() or ["it did not say why"]
    state, reason = _picked(lines)
    if session is not None and _is_gone(session):
        return UnreachableError(target=target, reason=reason, instead=instead)
    if state == "42501" or "permission denied for" in reason:
        user, schema = (session.info.user, session.schema) if session is not None else ("", "")
        return PrivilegeMissingError(target=target, reason=reason, instead=denied(reason, user, schema))
    if state == "53100" or "No space left on device" in reason:
        return DiskFullError(target=target)
    if state in ("55P03", "57014") or "canceling statement due to" in reason:
        return BusyError(target=target, holder="", waited=f"{timeout:g}")
    if state == "53200" or "out of shared memory" in reason:
        instead = f"{instead} It locks each table: ALTER SYSTEM SET max_locks_per_transaction = 1024; and restart the server."
    # The session here may hear of it later than the program did, which tells no codes.
    if state[:2] in ("08", "57") or "terminating connection due to" in reason:
        return UnreachableError(target=target, reason=reason, instead=instead)
    return ClientFailedError(target=target, program=client.name, reason=reason, instead=instead)


def refused(client: subprocesses.Client) -> bool:
    """Whether a server has told this program that it did not do what it was asked."""
    state, _reason = _picked(client.complaint().splitlines() or [""])
    return state[:2] not in ("", "08", "57")


def _picked(lines: Sequence[str]) -> tuple[str, str]:
    """Return the code and the words of the failure among notices, details and places in the source."""
    told = [found for line in lines if (found := _TOLD.search(line))]
    for found in told:
        if found[2] and found[1] != "WARNING" and not found[2].startswith(HARMLESS):
            return found[2], found[3]
    for found in told:
        if found[1] in ("ERROR", "FATAL", "PANIC"):
            return "", found[3]
    first = next((line for line in lines if "error:" in line), lines[0])
    return "", first.rpartition("error: ")[2]


def _is_gone(session: Session) -> bool:
    try:
        session.execute(b"select 1")
    except psycopg.Error:
        return session.pgconn.status != psycopg.pq.ConnStatus.OK
    return False
