"""The programs of MySQL and MariaDB themselves: which of them fits a server, and how they are told where it is."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dbctl.engines.mysql.options import Encryption, connecting, encryption
from dbctl.engines.mysql.session import Server, place_of, probe_program
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
from dbctl.url import Url

#: What each product calls its programs, and the package of Debian that has them.
PROGRAMS: Mapping[str, Mapping[str, str]] = {
    "MariaDB": {"dump": "mariadb-dump", "client": "mariadb"},
    "MySQL": {"dump": "mysqldump", "client": "mysql"},
}
PACKAGES = {
    "MariaDB": "mariadb-client",
    "MySQL": "mysql-client (of dev.mysql.com; default-mysql-client is MariaDB's)",
}
_MARIADB = re.compile(r"(?:Distrib|from) (\d+)\.(\d+)\.(\d+)-MariaDB")
_MYSQL = re.compile(r"Ver (\d+)\.(\d+)\.(\d+)")
_NUMBER = re.compile(r"(?:^ERROR (?=\d+ \()|error: (?=\d{4})|error (?=\d{4}))(\d{1,5})\b")
GONE = ("2002", "2003", "2006", "2013", "1053", "1927")
DENIED = ("1044", "1045", "1142", "1143", "1227", "1370", "1419")
LOCKED = ("1205", "3572")
FULL = ("1021", "1114", "3")
NOT_ENCRYPTED = Encryption(mode="disabled", authority="", certificate="", key="")
#: In a line that tells of no failure.
WARNING = "[Warning]"


class Tool(Value, frozen=True, kw_only=True):
    """One installed program."""

    path: Path
    version: str


def find(kind: str, server: Server, target: str) -> Tool:
    """Return the program for a kind of work (``dump``, ``client``) that fits a server: of its product, not older.

    Raises:
        ClientMissingError: there is none.
        ClientOldError: it is too old.
    """
    program, package = PROGRAMS[server.product][kind], PACKAGES[server.product]
    wanted = ".".join(map(str, server.version[:2]))
    found = shutil.which(program)
    version = _version_of(found, server) if found else None
    if found is None or version is None:
        # MariaDB brings programs of the same names, and they cannot do all that a server of MySQL wants.
        other = f" ({found} is none of it)" if found else ""
        named = f"{program} of {server.product}{other}"
        raise ClientMissingError(target=target, program=named, package=package, version=wanted)
    told = ".".join(map(str, version))
    if version[:2] < server.version[:2]:
        raise ClientOldError(target=target, program=found, version=told, wanted=wanted, package=package)
    return Tool(path=Path(found), version=told)


def _version_of(path: str, server: Server) -> tuple[int, int, int] | None:
    """Return the version of a program; None where it is of the other product, or does not tell."""
    told = subprocesses.version_told(Path(path))
    if server.is_mariadb != ("MariaDB" in told):
        return None
    found = (_MARIADB if server.is_mariadb else _MYSQL).search(told)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


@contextmanager
def at(url: Url, server: Server) -> Iterator[str]:
    """Give the word that leads a program to a server; it has to be the first one.

    It names a file that only this user may read, and that is there only as long as this lasts.

    Raises:
        UrlInvalidError: the password cannot be written into such a file.
    """
    told, asked = connecting(url), encryption(url)
    password = told["password"]
    lines = {
        "user": told["user"],
        "password": password.decode() if isinstance(password, bytes) else password,
        "socket": told.get("unix_socket"),
        "host": None if "unix_socket" in told else told["host"],
        "port": told["port"] or None,
        "protocol": None if "unix_socket" in told else "tcp",
        "ssl-ca": asked.authority,
        "ssl-cert": asked.certificate,
        "ssl-key": asked.key,
        **_tls(asked, server),
    }
    if any("\n" in str(text) for text in lines.values()):
        raise UrlInvalidError(reason="it holds a line break, which the server's own programs cannot be told")
    with _options(lines) as where:
        yield where


@contextmanager
def at_socket(path: Path, server: Server) -> Iterator[str]:
    """Give the word that leads a program to a socket of dbctl's own, as ``at`` does; it asks for no password."""
    lines = {"user": "dbctl", "socket": str(path), **_tls(NOT_ENCRYPTED, server)}
    with _options(lines) as where:
        yield where


@contextmanager
def _options(lines: Mapping[str, object]) -> Iterator[str]:
    text = "[client]\n" + "".join(
        f"{name}={_quoted(str(value))}\n" for name, value in lines.items() if value not in (None, "")
    )
    with subprocesses.secrets({"options": text}) as place:
        yield f"--defaults-file={place / 'options'}"


def _tls(asked: Encryption, server: Server) -> dict[str, object]:
    if not server.is_mariadb:
        return {"ssl-mode": asked.mode.upper()}
    if asked.mode in ("disabled", "preferred"):  # it knows no word for what it does by itself
        return {"ssl": 0} if asked.mode == "disabled" else {}
    return {"ssl": 1} if asked.mode == "required" else {"ssl": 1, "ssl-verify-server-cert": 1}


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t")
    return f'"{escaped}"'


def watch(url: Url, database: str, target: str, instead: str, *, timeout: float) -> subprocesses.Watch:
    """Return how a program is looked after that connects to ``url``, and works in ``database``."""

    def probe() -> str:
        return probe_program(url, database, timeout=timeout)

    return subprocesses.Watch(target, instead, probe, place_of(url))


def failed(client: subprocesses.Client, target: str, *, timeout: float, instead: str) -> DbctlError:
    """Return why a program failed, by the number that it told."""
    lines = [line for line in client.complaint().splitlines() if WARNING not in line] or [
        "it did not say why"
    ]
    told = next((line for line in lines if _NUMBER.search(line)), lines[0])
    number = found[1] if (found := _NUMBER.search(told)) else ""
    reason = told.partition(": ")[2] or told
    if "insufficient privileges to SHOW CREATE" in told:  # of routines that somebody else made
        right = "SELECT ON `mysql`.`proc`" if client.name.startswith("mariadb") else "SHOW_ROUTINE ON *.*"
        return PrivilegeMissingError(
            target=target,
            reason=told,
            instead=f"{instead} As an administrator: GRANT {right} TO the user that it names;",
        )
    if number in GONE:
        return UnreachableError(target=target, reason=reason, instead=instead)
    if number in DENIED:
        return PrivilegeMissingError(
            target=target, reason=reason, instead=f"{instead} An administrator may grant it."
        )
    if number in LOCKED:
        return BusyError(target=target, holder="", waited=f"{timeout:g}")
    if number in FULL or "No space left" in told:
        return DiskFullError(target=target)
    return ClientFailedError(target=target, program=client.name, reason=reason, instead=instead)
