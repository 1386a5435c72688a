"""Client programs of MySQL and MariaDB: find the version that suits a server, and pass the connection settings."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dbctl.engines.mysql.connection.opening import probe_program
from dbctl.engines.mysql.connection.server import Server
from dbctl.engines.mysql.connection.session import server_address
from dbctl.engines.mysql.options import Encryption, connection_arguments, read_encryption
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
from dbctl.errors.usage import UrlInvalidError
from dbctl.files import subprocesses
from dbctl.model import Struct
from dbctl.url import Url

#: The programs of each product, and the package that contains them.
PROGRAMS: Mapping[str, Mapping[str, str]] = {
    "MariaDB": {"dump": "mariadb-dump", "client": "mariadb"},
    "MySQL": {"dump": "mysqldump", "client": "mysql"},
}
PACKAGES = {
    "MariaDB": "mariadb-client of Debian, or a newer one of mariadb.org",
    "MySQL": "mysql-client of dev.mysql.com; default-mysql-client is MariaDB's",
}
#: Options of one product. Masking policies, which newer programs of MySQL dump, belong to the whole server, not to a database;
#: older programs warn about the unknown option.
PRODUCT_OPTIONS = {"MySQL": ["--set-gtid-purged=OFF", "--loose-skip-masking-policies"], "MariaDB": []}
_MARIADB = re.compile(r"(?:Distrib|from) (\d+)\.(\d+)\.(\d+)-MariaDB")
_MYSQL = re.compile(r"Ver (\d+)\.(\d+)\.(\d+)")
_NUMBER = re.compile(r"(?:^ERROR (?=\d+ \()|error: (?=\d{4})|error (?=\d{4}))(\d{1,5})\b")
DISCONNECTED = ("2002", "2003", "2006", "2013", "1053", "1927")
DENIED = ("1044", "1045", "1142", "1143", "1227", "1370", "1419")
LOCKED = ("1205", "3572")
DISK_FULL = ("1021", "1114", "3")
NOT_ENCRYPTED = Encryption(mode="disabled", authority="", certificate="", key="")
#: Marks lines that are not errors.
WARNING = "[Warning]"


class Tool(Struct, frozen=True, kw_only=True):
    path: Path
    version: str


def find_program(kind: str, server: Server, target: str) -> Tool:
    """Return the installed program for a kind of work (``dump``, ``client``), of the server's product and at least its version.

    Raises:
        ClientMissingError: the program is not installed.
        ClientOldError: it is too old.
    """
    program = PROGRAMS[server.product][kind]
    product = {"product": server.product, "package": PACKAGES[server.product]}
    required = ".".join(map(str, server.version[:2]))
    executable = shutil.which(program)
    version = _read_version(executable, server) if executable else None
    if executable is None or version is None:
        # MariaDB installs programs of the same names, which do not support all features of MySQL servers.
        note = f" ({executable} is of another product)" if executable else ""
        description = f"{program} of {server.product}{note}"
        raise ClientMissingError(target=target, program=description, version=required, **product)
    installed = ".".join(map(str, version))
    if version[:2] < server.version[:2]:
        raise ClientOldError(
            target=target, program=executable, version=installed, required=required, **product
        )
    return Tool(path=Path(executable), version=installed)


def _read_version(path: str, server: Server) -> tuple[int, int, int] | None:
    """Return the version of a program; None if it is of the other product, or prints no version."""
    output = subprocesses.read_version(Path(path))
    if server.is_mariadb != ("MariaDB" in output):
        return None
    match = (_MARIADB if server.is_mariadb else _MYSQL).search(output)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


@contextmanager
def write_connection_files(url: Url, server: Server) -> Iterator[str]:
    """Write the connection file of a program; yield its option for the program, which must come first.

    Only this user can read the file, and it is deleted at the end.

    Raises:
        UrlInvalidError: a value contains a line break, which is not possible in this file.
    """
    arguments, encryption_options = connection_arguments(url), read_encryption(url)
    password = arguments["password"]
    lines = {
        "user": arguments["user"],
        "password": password.decode() if isinstance(password, bytes) else password,
        "socket": arguments.get("unix_socket"),
        "host": None if "unix_socket" in arguments else arguments["host"],
        "port": arguments["port"] or None,
        "protocol": None if "unix_socket" in arguments else "tcp",
        "ssl-ca": encryption_options.authority,
        "ssl-cert": encryption_options.certificate,
        "ssl-key": encryption_options.key,
        **_tls_options(encryption_options, server),
    }
    if any("\n" in str(text) for text in lines.values()):
        raise UrlInvalidError(reason="it contains a line break, which the client programs do not support")
    with _write_option_file(lines) as option:
        yield option


@contextmanager
def write_socket_files(path: Path, server: Server) -> Iterator[str]:
    """Write the connection file for a socket of dbctl, which requires no password; see ``write_connection_files``."""
    lines = {"user": "dbctl", "socket": str(path), **_tls_options(NOT_ENCRYPTED, server)}
    with _write_option_file(lines) as option:
        yield option


@contextmanager
def _write_option_file(options: Mapping[str, object]) -> Iterator[str]:
    text = "[client]\n" + "".join(
        f"{name}={_quote(str(value))}\n" for name, value in options.items() if value not in (None, "")
    )
    with subprocesses.secret_files({"options": text}) as folder:
        yield f"--defaults-file={folder / 'options'}"


def _tls_options(encryption_options: Encryption, server: Server) -> dict[str, object]:
    if not server.is_mariadb:
        return {"ssl-mode": encryption_options.mode.upper()}
    if encryption_options.mode in ("disabled", "preferred"):  # its default has no option
        return {"ssl": 0} if encryption_options.mode == "disabled" else {}
    return {"ssl": 1} if encryption_options.mode == "required" else {"ssl": 1, "ssl-verify-server-cert": 1}


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t")
    return f'"{escaped}"'


def create_watch(
    url: Url, database: str, target: str, instead: str, *, timeout: float
) -> subprocesses.ProgramWatch:
    """Return the watch for a program that connects to ``url``, and works in ``database``."""

    def probe() -> str:
        return probe_program(url, database, timeout=timeout)

    return subprocesses.ProgramWatch(target, instead, probe, server_address(url))


def to_error(client: subprocesses.ClientProgram, target: str, *, timeout: float, instead: str) -> DbctlError:
    """Return the error of a failed program, by its error number."""
    lines = [line for line in client.error_output().splitlines() if WARNING not in line] or [
        "no error message"
    ]
    message = next((line for line in lines if _NUMBER.search(line)), lines[0])
    number = match[1] if (match := _NUMBER.search(message)) else ""
    reason = message.partition(": ")[2] or message
    if "insufficient privileges to SHOW CREATE" in message:  # of routines with another definer
        right = "SELECT ON `mysql`.`proc`" if client.name.startswith("mariadb") else "SHOW_ROUTINE ON *.*"
        return PrivilegeMissingError(
            target=target,
            reason=message,
            hint=f"{instead} As an administrator: GRANT {right} TO the user in the message;",
        )
    if number in DISCONNECTED:
        return UnreachableError(target=target, reason=reason, hint=instead)
    if number in DENIED:
        return PrivilegeMissingError(
            target=target, reason=reason, hint=f"{instead} An administrator can grant it."
        )
    if number in LOCKED:
        return BusyError(target=target, holder="", waited=f"{timeout:g}")
    if number in DISK_FULL or "No space left" in message:
        return DiskFullError(target=target)
    return ClientFailedError(target=target, program=client.name, reason=reason, hint=instead)
