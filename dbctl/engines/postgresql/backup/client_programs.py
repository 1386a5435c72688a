"""PostgreSQL client programs: find the version that suits a server, and pass the connection settings."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg

from dbctl.engines.postgresql.connection.probe import probe_program
from dbctl.engines.postgresql.connection.session import TEXT_SETTINGS, Session
from dbctl.engines.postgresql.errors import MORE_LOCKS, grant_hint
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

_VERSION = re.compile(r"\(PostgreSQL\) (\d+)\S*")
#: Messages of the programs; the kind is in the server's language, the SQLSTATE appears with VERBOSITY=verbose.
_MESSAGE = re.compile(r"(\w+):  (?:([0-9A-Z]{5}): )?(.+)")
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
    major: int  #: major version; it reads dumps of this version and of older ones


def find_program(program: str, target: str, *, min_version: int) -> Tool:
    """Return the installed program that best suits major version ``min_version`` of a server or dump.

    The same version is preferred, since the tools of that server can read its output. A newer version also works, an
    older one does not.

    Raises:
        ClientMissingError: the program is not installed.
        ClientOldError: all installed versions are too old.
    """
    paths = dict[int, Path]()
    for pattern in subprocesses.POSTGRESQL_FOLDERS:
        for path in sorted(Path("/").glob(f"{pattern.lstrip('/')}/{program}")):
            if digits := re.findall(r"\d+", str(path.parent)):
                paths.setdefault(int(digits[-1]), path)
    if min_version not in paths and (executable := shutil.which(program)):
        paths.setdefault(_major_version(read_version(Path(executable))), Path(executable))
    product = {"product": "PostgreSQL", "package": f"postgresql-client-{min_version} of apt.postgresql.org"}
    if not paths:
        raise ClientMissingError(target=target, program=program, version=min_version, **product)
    suitable = subprocesses.select_version(paths, min_version)
    if suitable is None:
        best = paths[max(paths)]
        raise ClientOldError(
            target=target,
            program=str(best),
            version=read_version(best),
            required=min_version,
            **product,
        )
    return Tool(path=suitable[1], major=suitable[0])


def read_version(path: Path) -> str:
    """Return the version of a program; empty if it does not print one."""
    match = _VERSION.search(subprocesses.read_version(path))
    return match[0].removeprefix("(PostgreSQL) ") if match else ""


def _major_version(version: str) -> int:
    match = re.match(r"\d+", version)
    return int(match[0]) if match else 0


@contextmanager
def write_connection_files(
    session: Session, database: str, tool: Tool
) -> Iterator[tuple[str, dict[str, str]]]:
    """Write the connection files of a program; yield its connection string and its environment variables.

    The program connects to the server of ``session`` as the same user. Address and password are in files that only
    this user can read, and that are deleted at the end, so that they do not appear in process lists.

    Raises:
        UrlInvalidError: a value contains a line break, which is not possible in these files.
    """
    info = session.info
    settings = {
        name: text
        for name, text in info.get_parameters().items()
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
        yield (
            "service=dbctl",
            {
                "PGSERVICEFILE": str(folder / "service"),
                "PGPASSFILE": str(folder / "password"),
                "PGAPPNAME": f"dbctl {database}"[:63],
            },
        )


def list_text_settings(session: Session) -> dict[str, str]:
    """Return the environment variable with which a program reads definitions as ``session`` does.

    It is empty behind a pooler, which may refuse it.
    """
    if session.pooled:
        return {}
    values = ((name, text.replace(" ", "\\ ")) for name, text in TEXT_SETTINGS.items())
    return {"PGOPTIONS": " ".join(f"-c {name}={text}" for name, text in values)}


def create_watch(
    session: Session, environment: Mapping[str, str], target: str, instead: str
) -> subprocesses.ProgramWatch:
    """Return the watch for a program that connects like ``session``; ``environment`` is from ``write_connection_files``."""
    name = environment["PGAPPNAME"]
    return subprocesses.ProgramWatch(
        target, instead, lambda: probe_program(session, name), session.server_address
    )


def to_error(
    client: subprocesses.ClientProgram, session: Session | None, target: str, *, timeout: float, instead: str
) -> DbctlError:
    """Return the error of a failed program, by the SQLSTATE codes that the server sent, if any."""
    output = client.error_output()
    lines = output.splitlines() or ["no error message"]
    sqlstate, reason = _find_error(lines)
    if session is not None and _is_disconnected(session):
        return UnreachableError(target=target, reason=reason, hint=instead)
    if sqlstate == "42501" or "permission denied for" in reason:
        user, schema = (session.info.user, session.schema) if session is not None else ("", "")
        return PrivilegeMissingError(target=target, reason=reason, hint=grant_hint(reason, user, schema))
    if sqlstate == "53100" or "No space left on device" in reason:
        return DiskFullError(target=target)
    if sqlstate in ("40001", "55P03", "57014") or "canceling statement due to" in reason:
        is_conflict = sqlstate == "40001" or "conflict with recovery" in reason
        busy = BusyError(target=target, holder="", waited=f"{timeout:g}")
        return ReplicaConflictError(target=target) if is_conflict else busy
    if sqlstate == "53200" or "out of shared memory" in reason:
        instead = f"{instead} {MORE_LOCKS}"
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


def _is_disconnected(session: Session) -> bool:
    try:
        session.execute(b"select 1")
    except psycopg.Error:
        return session.pgconn.status != psycopg.pq.ConnStatus.OK
    return False
