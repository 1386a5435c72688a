"""Client programs of MySQL and MariaDB, of this machine or in the container of their server."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from dbctl.engines.contract.route import create_lost_error, open_socket
from dbctl.engines.mysql.dialect import Server
from dbctl.engines.mysql.exact_values import WAIT_FOR_SOCKET, can_listen
from dbctl.engines.mysql.opening import (
    CONNECTION_ERRORS,
    ERRORS,
    FULL,
    HINTS,
    LOG_REFUSED,
    REFUSED,
    probe_program,
)
from dbctl.engines.mysql.options import SOCKET, Encryption, connection_arguments, find_login, read_encryption
from dbctl.engines.mysql.session import server_address
from dbctl.engines.servers.dumps import read_container_version, run_in_container
from dbctl.engines.servers.engine import FREE_CONNECTION
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import (
    BinaryLogRefusedError,
    BusyError,
    ClientFailedError,
    ClientMissingError,
    ClientOldError,
    DiskFullError,
    PrivilegeMissingError,
)
from dbctl.errors.usage import NotSupportedError, UrlInvalidError
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
_NUMBER = re.compile(r"(?:^ERROR (?=\d+ \()|error: (?=\d{4})|[Ee]rror (?=\d{4}))(\d{1,5})\b")
#: The number of a program that could not write a file.
WRITE_FAILED = 3
#: The number of a row that is longer than the server accepts: a limit of the server, and no damage of a dump.
TOO_LONG = 1153
NOT_ENCRYPTED = Encryption(mode="disabled", authority="", certificate="", key="")
#: Marks lines that are not errors.
WARNING = "[Warning]"


class Tool(Struct, frozen=True, kw_only=True):
    path: Path
    version: str
    in_container: bool = False  #: whether it runs in the container of the server


def find_program(kind: str, server: Server, target: str, url: Url | None = None) -> Tool:
    """Return the installed program for a kind of work (``dump``, ``client``), of the server's product and at least its version.

    If there is none, that in the container of the server at ``url`` is returned, if it has one and a connection from inside is
    as secure.

    Raises:
        ClientMissingError: the program is not installed.
        ClientOldError: it is too old.
    """
    try:
        return _find_installed(kind, server, target)
    except (ClientMissingError, ClientOldError):
        program = PROGRAMS[server.product][kind]
        # The certificates that verify the server are files of this machine.
        if url and url.via and read_encryption(url).mode in ("disabled", "preferred", "required"):
            version = _parse_version(read_container_version(url, target, program), server)
            if version and version[:2] >= server.version[:2]:
                return Tool(path=Path(program), version=".".join(map(str, version)), in_container=True)
        raise


def find_dump_program(server: Server, target: str, url: Url, *, relays: bool = False) -> Tool:
    """Return the dump program; ``relays``: it must be able to connect through dbctl.

    Raises:
        ClientMissingError: the program is not installed, or that in the container cannot connect through dbctl.
        ClientOldError: it is too old.
    """
    tool = find_program("dump", server, target, url)
    relays = relays or server.needs_relay(in_container=tool.in_container)
    if tool.in_container and relays and not can_listen(url, target):
        return find_program("dump", server, target)  # raises why this machine has none
    return tool


def _find_installed(kind: str, server: Server, target: str) -> Tool:
    program = PROGRAMS[server.product][kind]
    product = {"product": server.product, "package": PACKAGES[server.product]}
    required = ".".join(map(str, server.version[:2]))
    executable = shutil.which(program)
    version = _parse_version(subprocesses.read_version(Path(executable)), server) if executable else None
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


def _parse_version(output: str, server: Server) -> tuple[int, int, int] | None:
    """Return the version that a program prints; None if it is of the other product, or prints none."""
    if server.is_mariadb != ("MariaDB" in output):
        return None
    match = (_MARIADB if server.is_mariadb else _MYSQL).search(output)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def write_connection_files(url: Url, target: str, server: Server) -> AbstractContextManager[str]:
    """Write the connection file of a program; yield its option for the program, which must come first.

    Only this user can read the file, and it is deleted at the end.

    Raises:
        UrlInvalidError: a value contains a line break, which is not possible in this file.
        UnreachableError: the route to the server cannot be opened.
    """
    arguments, encryption_options = connection_arguments(url), read_encryption(url)
    password = arguments["password"]
    socket_path = open_socket(url, target, SOCKET) if url.via else arguments.get("unix_socket")
    lines = {
        "user": arguments["user"],
        "password": password.decode() if isinstance(password, bytes) else password,
        "socket": socket_path,
        "host": None if socket_path else arguments["host"],
        "port": arguments["port"] or None,
        "protocol": None if socket_path else "tcp",
        "ssl-ca": encryption_options.authority,
        "ssl-cert": encryption_options.certificate,
        "ssl-key": encryption_options.key,
        **_tls_options(encryption_options, server),
    }
    if any("\n" in str(text) for text in lines.values()):
        raise UrlInvalidError(reason="it contains a line break, which the client programs do not support")
    return _write_option_file(lines)


def _describe_socket(path: Path, server: Server) -> Mapping[str, object]:
    """Return the options of a program for a socket of dbctl, which requires no password."""
    return {"user": "dbctl", "socket": str(path), **_tls_options(NOT_ENCRYPTED, server)}


def _describe_login(url: Url, server: Server) -> tuple[Mapping[str, object], str]:
    """Return the options of a program in the container of a server, and the password."""
    user, password = find_login(url)
    host = url.host.strip("[]") or "127.0.0.1"
    address = {"protocol": "tcp", "host": host, "port": url.port, "user": user}
    return address | _tls_options(read_encryption(url), server), password.reveal() if password else ""


@contextmanager
def _write_option_file(options: Mapping[str, object]) -> Iterator[str]:
    text = "[client]\n" + "".join(
        f"{name}={_quote(str(value))}\n" for name, value in options.items() if value not in (None, "")
    )
    with subprocesses.secret_files({"options": text}) as folder:
        yield f"--defaults-file={folder / 'options'}"


def _tls_options(encryption_options: Encryption, server: Server) -> dict[str, object]:
    mode = encryption_options.mode
    if not server.is_mariadb:
        return {"ssl-mode": mode.upper()}
    # Since 11.4 the programs verify by default, and then refuse a server without encryption, as those before 11.4 are.
    options: dict[str, object] = {"ssl-verify-server-cert": int(mode.startswith("verify"))}
    return options if mode == "preferred" else options | {"ssl": int(mode != "disabled")}


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t")
    return f'"{escaped}"'


@contextmanager
def run_client(
    tool: Tool,
    arguments: Sequence[str],
    url: Url,
    server: Server,
    target: str,
    *,
    watch: subprocesses.ProgramWatch,
    reads: bool = False,
    writes: bool = False,
    socket_path: Path | None = None,
) -> Iterator[subprocesses.ClientProgram]:
    """Run a program that connects to ``url``, or to ``socket_path``, a socket of dbctl; raises as ``write_connection_files``."""
    if tool.in_container:
        (options, password), before = _describe_login(url, server), list[str]()
        if socket_path:
            options, password = _describe_socket(socket_path, server), ""
            before = ["sh", "-c", WAIT_FOR_SOCKET, "wait", str(socket_path)]
        connection = [f"--{name}={value}" for name, value in options.items() if value not in (None, "")]
        with run_in_container(
            url,
            target,
            [*before, str(tool.path), "--no-defaults", *connection, *arguments],
            password=("MYSQL_PWD", password),
            variables={},
            watch=watch,
            writes=writes,
        ) as client:
            client.name = str(tool.path)
            yield client
        return
    files = (
        _write_option_file(_describe_socket(socket_path, server))
        if socket_path
        else write_connection_files(url, target, server)
    )
    with (
        files as option,
        subprocesses.run_program(
            [str(tool.path), option, *arguments], {}, watch=watch, reads=reads, writes=writes
        ) as client,
    ):
        yield client


def create_watch(
    url: Url, database: str, target: str, instead: str, *, timeout: float
) -> subprocesses.ProgramWatch:
    """Return the watch for a program that connects to ``url``, and works in ``database``."""
    probe = partial(probe_program, url, database, timeout=timeout)
    return subprocesses.ProgramWatch(target, instead, probe, server_address(url))


def to_error(
    client: subprocesses.ClientProgram, url: Url, target: str, *, timeout: float, instead: str
) -> DbctlError:
    """Return the error of a failed program, by its error number."""
    lines = [line for line in client.error_output().splitlines() if WARNING not in line] or [
        "no error message"
    ]
    message = next((line for line in lines if _NUMBER.search(line)), lines[0])
    number = int(match[1]) if (match := _NUMBER.search(message)) else -1
    kind = ERRORS.get(number)
    reason = message.partition(": ")[2] or message
    if "insufficient privileges to SHOW CREATE" in message:  # of routines with another definer
        right = "SELECT ON `mysql`.`proc`" if client.name.startswith("mariadb") else "SHOW_ROUTINE ON *.*"
        hint = f"{instead} As an administrator: GRANT {right} TO the user in the message;"
        return PrivilegeMissingError(target=target, reason=message, hint=hint)
    instead = " ".join(filter(None, [instead, HINTS.get(number, "")]))
    if number in CONNECTION_ERRORS:
        if number in FULL:
            instead = f"{instead} {FREE_CONNECTION}{FULL[number]}"
        return create_lost_error(url, target, reason, instead, is_refused=number in REFUSED)
    if kind is PrivilegeMissingError:
        hint = instead if number in HINTS else f"{instead} An administrator can grant it."
        return PrivilegeMissingError(target=target, reason=reason, hint=hint)
    if kind is BusyError:
        return BusyError(target=target, holder="", waited=f"{timeout:g}")
    if kind is DiskFullError or number == WRITE_FAILED or "No space left" in message:
        return DiskFullError(target=target)
    failed = ClientFailedError(target=target, program=client.name, reason=reason, hint=instead)
    feature = "a row that is longer than max_allowed_packet"
    too_long = NotSupportedError(feature=feature, subject=target, hint=instead)
    unlogged = BinaryLogRefusedError(target=target, reason=reason, hint=instead)
    return {TOO_LONG: too_long, LOG_REFUSED: unlogged}.get(number, failed)
