"""Client programs of MySQL and MariaDB, and the connection of the dump program through dbctl.

The dump program loses data of some values: it writes a FLOAT with six digits, and question marks for characters that Unicode
lacks. No option prevents that. So it connects to a session that dbctl has opened, and dbctl replaces such columns in its
queries for rows by expressions. All other packets pass unchanged.
"""

from __future__ import annotations

import re
import select
import shutil
import socket
import ssl
import struct
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from functools import partial
from pathlib import Path

from pymysql.constants import CLIENT, COMMAND, SERVER_STATUS

from dbctl.engines.contract.route import create_lost_error, open_socket
from dbctl.engines.mysql.dialect import Server
from dbctl.engines.mysql.opening import CONNECTION_ERRORS, ERRORS, probe_program
from dbctl.engines.mysql.options import SOCKET, Encryption, connection_arguments, read_encryption
from dbctl.engines.mysql.session import Session, server_address
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import (
    BusyError,
    ClientFailedError,
    ClientMissingError,
    ClientOldError,
    DiskFullError,
    PrivilegeMissingError,
)
from dbctl.errors.usage import UrlInvalidError
from dbctl.files import subprocesses, temp
from dbctl.files.subprocesses import BLOCK, POLL_SECONDS, SECRETS_PREFIX
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


def write_socket_files(path: Path, server: Server) -> AbstractContextManager[str]:
    """Write the connection file for a socket of dbctl, which requires no password; see ``write_connection_files``."""
    return _write_option_file({"user": "dbctl", "socket": str(path), **_tls_options(NOT_ENCRYPTED, server)})


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
        return PrivilegeMissingError(
            target=target,
            reason=message,
            hint=f"{instead} As an administrator: GRANT {right} TO the user in the message;",
        )
    if number in CONNECTION_ERRORS:
        return create_lost_error(url, target, reason, instead)
    if kind is PrivilegeMissingError:
        return PrivilegeMissingError(
            target=target, reason=reason, hint=f"{instead} An administrator can grant it."
        )
    if kind is BusyError:
        return BusyError(target=target, holder="", waited=f"{timeout:g}")
    if kind is DiskFullError or number == WRITE_FAILED or "No space left" in message:
        return DiskFullError(target=target)
    return ClientFailedError(target=target, program=client.name, reason=reason, hint=instead)


#: Capabilities that the program may request; none changes the format of results.
CAPABILITIES = (
    CLIENT.LONG_PASSWORD
    | CLIENT.LONG_FLAG
    | CLIENT.CONNECT_WITH_DB
    | CLIENT.PROTOCOL_41
    | CLIENT.TRANSACTIONS
    | CLIENT.SECURE_CONNECTION
    | CLIENT.MULTI_RESULTS
    | CLIENT.PLUGIN_AUTH
)
#: The authentication that the program uses here; any reply is accepted, since the socket is private.
PLUGINS = {"MariaDB": b"mysql_native_password", "MySQL": b"caching_sha2_password"}
UTF8MB4 = 45  #: the number of a collation
SCRAMBLE = b"dbctl" * 4  #: 20 arbitrary bytes
OK = b"\0\0\0" + struct.pack("<HH", SERVER_STATUS.SERVER_STATUS_AUTOCOMMIT, 0)
#: Maximum bytes of a socket path on every system.
MAX_PATH_BYTES = 100
#: A query for the rows of a table.
_ROWS = re.compile(
    rb"(?P<head>SELECT /\*!40001 SQL_NO_CACHE \*/ )(?P<columns>.*?)"
    rb"(?P<tail> FROM `(?P<table>(?:[^`]|``)*)`(?: (?:FOR SYSTEM_TIME|PARTITION|WHERE|ORDER)\b.*)?)",
    re.DOTALL,
)
_NAME = re.compile(rb"`(?:[^`]|``)*`")

#: SQL for each column of tables whose values the program would not write exactly; tables and columns are quoted names.
ExactColumns = Mapping[str, Mapping[str, str]]


@contextmanager
def start_relay(session: Session, exact: ExactColumns) -> Iterator[Relay]:
    """Listen on a socket for one connection of a program, and relay it to the server of ``session``.

    The session cannot be used for anything else afterwards, and is closed at the end.
    """
    temp_folder = Path(tempfile.gettempdir())
    if len(str(temp_folder / f"{SECRETS_PREFIX}12345678" / "socket")) > MAX_PATH_BYTES:
        temp_folder = Path("/tmp")  # noqa: S108 - the folder in it is private
    with (
        temp.folder(temp_folder, SECRETS_PREFIX) as folder,
        closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as listening,
    ):
        listening.bind(str(folder / "socket"))
        listening.listen(1)
        relay = Relay(folder / "socket", listening, session, exact)
        relay.start()
        try:
            yield relay
        finally:
            relay.stop()


class Relay(threading.Thread):
    """Relay of queries and results while the program runs."""

    def __init__(self, path: Path, listening: socket.socket, session: Session, exact: ExactColumns) -> None:
        super().__init__(daemon=True)
        self.path = path
        #: Quoted names of tables that no recognized query of the program has read yet.
        self.missing = set(exact)
        self._listening, self._session = listening, session
        self._exact = {
            table.encode(): {name.encode(): sql.encode() for name, sql in columns.items()}
            for table, columns in exact.items()
        }
        self._stop_event = threading.Event()

    def run(self) -> None:
        self._server.settimeout(None)  # the caller that runs the program limits its silence
        while not self._stop_event.is_set():
            if select.select([self._listening], [], [], POLL_SECONDS)[0]:
                client, _ = self._listening.accept()
                with closing(client), suppress(OSError):  # the program reports a lost connection itself
                    self._greet(client)
                    self._pass_on(client)
                return

    def stop(self) -> None:
        self._stop_event.set()
        self.join(POLL_SECONDS * 20)
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self.join()
        self._session.drop()

    @property
    def _server(self) -> socket.socket:
        return self._session._sock  # noqa: SLF001 - the driver has no public attribute for it

    def _greet(self, client: socket.socket) -> None:
        version, plugin = self._session.server_version, PLUGINS[self._session.server.product]
        low, high = CAPABILITIES & 0xFFFF, CAPABILITIES >> 16
        greeting = (
            b"\x0a" + version.encode("latin1") + b"\0" + struct.pack("<I", self._session.connection_id & 0xFFFFFFFF)
            + SCRAMBLE[:8] + b"\0"
            + struct.pack("<HBHHB", low, UTF8MB4, SERVER_STATUS.SERVER_STATUS_AUTOCOMMIT, high, 21)
            + bytes(10) + SCRAMBLE[8:] + b"\0" + plugin + b"\0"
        )  # fmt: skip
        client.sendall(_pack(greeting, 0))
        if _receive_packet(client) is not None:
            client.sendall(_pack(OK, 2))

    def _pass_on(self, client: socket.socket) -> None:
        """Relay packets in both directions until the program ends."""
        server = self._server
        poll = select.poll()
        poll.register(client, select.POLLIN)
        poll.register(server, select.POLLIN)
        while True:
            decrypted = isinstance(server, ssl.SSLSocket) and server.pending()
            ready = [server.fileno()] if decrypted else [descriptor for descriptor, _ in poll.poll()]
            if server.fileno() in ready:
                if not (block := server.recv(BLOCK)):
                    return
                client.sendall(block)
            elif client.fileno() in ready:
                command = _receive_packet(client)
                if command is None or command[0] == COMMAND.COM_QUIT:
                    return
                server.sendall(_pack(self._rewrite(command), 0))

    def _rewrite(self, command: bytes) -> bytes:
        """Return a command, with exact expressions if it is a query for rows."""
        match = _ROWS.fullmatch(command, 1) if command[0] == COMMAND.COM_QUERY else None
        exact = self._exact.get(b"`" + match["table"] + b"`") if match else None
        if not (match and exact):
            return command
        self.missing.discard(f"`{match['table'].decode()}`")
        columns = b", ".join(exact) if match["columns"] == b"*" else match["columns"]
        columns = _NAME.sub(lambda name: exact.get(name[0], name[0]), columns)
        return command[:1] + match["head"] + columns + match["tail"]


def _pack(payload: bytes, number: int) -> bytes:
    return struct.pack("<I", len(payload))[:3] + bytes([number]) + payload


def _receive_packet(client: socket.socket) -> bytes | None:
    """Return the next packet of the program, or None at the end."""
    head = _receive_bytes(client, 4)
    return head and _receive_bytes(client, int.from_bytes(head[:3], "little"))


def _receive_bytes(client: socket.socket, size: int) -> bytes | None:
    buffer = bytearray()
    while len(buffer) < size:
        if not (block := client.recv(size - len(buffer))):
            return None
        buffer += block
    return bytes(buffer)
