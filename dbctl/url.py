"""Parse addresses of databases and services; passwords are never printed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from msgspec import structs

from dbctl.errors.usage import RouteInvalidError, UrlInvalidError
from dbctl.model import Secret, Struct


class EngineEntry(Struct, frozen=True, kw_only=True):
    """Where an engine is, and how its databases are addressed."""

    place: str  #: ``module:NAME`` of its instance of ``Engine``; imported when a database is opened
    kind: Literal["file", "folder", "server"]  #: where its databases are; a folder may also be in storage
    schemes: Sequence[str] = ()  #: the schemes of its addresses besides its name
    #: what may follow the ``+`` of a scheme: the drivers that libraries such as SQLAlchemy name, which dbctl ignores, and ``s3``
    drivers: Sequence[str] = ()


#: The engines of the core; ``list_engines`` has also those of extensions.
ENGINES: Mapping[str, EngineEntry] = {
    "sqlite": EngineEntry(
        place="dbctl.engines.sqlite.engine:ENGINE",
        kind="file",
        schemes=("file",),
        drivers=("aiosqlite", "pysqlite", "pysqlite3", "pysqlcipher"),
    ),
    "postgresql": EngineEntry(
        place="dbctl.engines.postgresql.engine:ENGINE",
        kind="server",
        schemes=("postgres",),
        drivers=("asyncpg", "pg8000", "psycopg", "psycopg2", "psycopg2cffi", "psycopg_async"),
    ),
    "mysql": EngineEntry(
        place="dbctl.engines.mysql.engine:ENGINE",
        kind="server",
        schemes=("mariadb",),
        drivers=(
            "aiomysql", "asyncmy", "cymysql", "mariadbconnector", "mysqlconnector", "mysqldb", "pymysql",
        ),
    ),
}  # fmt: skip
#: A text that begins like the address of another program: ``NAME:`` of two or more letters, or ``USER@HOST:``.
_FOREIGN = r"(?a)[A-Za-z][A-Za-z0-9+.-]+:|[\w.-]+@[\w.-]+:"
#: The engine of a path without a scheme.
PATH_ENGINE = "sqlite"
#: The option of a URL for the path of a socket.
SOCKET_OPTIONS = {"postgresql": "host", "mysql": "unix_socket"}
HIGHEST_PORT = 65535
#: The ports on which servers listen by default.
DEFAULT_PORTS: Mapping[str, int] = {"postgresql": 5432, "mysql": 3306}
#: The scheme, and the driver, of a folder in storage with the S3 protocol, and how its path begins.
S3 = "s3"
S3_PREFIX = f"{S3}://"
#: The sign in the addresses of a fleet that the name of an instance replaces.
PLACEHOLDER = "*"
#: The option of an address with the route to its database, as the key ``via`` of the configuration.
VIA = "via"
#: The kinds of a part of a route, in ``KIND:NAME``, with what its name is. A part of a kind other than ssh is the last one.
ROUTE_PARTS: Mapping[str, str] = {
    "ssh": "[USER@]HOST[:PORT]",
    "docker": "CONTAINER",
    "podman": "CONTAINER",
    "compose": "[PROJECT/]SERVICE",
    "kubernetes": "NAMESPACE/POD[/CONTAINER]",
}
#: A name in a route is an argument of a program, so it begins with no hyphen.
_NAME = r"[\w*\[][\w.@:*=\[\]+-]*"
_ROUTE_PATTERNS: Mapping[str, str] = {
    "ssh": r"([\w*][\w.@*=+-]*@)?([\w*][\w.*=+-]*|\[[\w:.%]+\])(:(?P<port>\d+))?",
    "docker": _NAME,
    "podman": _NAME,
    "compose": f"({_NAME}/)?{_NAME}",
    "kubernetes": f"{_NAME}/{_NAME}(/{_NAME})?",
}
#: The longest name in a route, which is an argument of a program, and the characters of a wrong part in a message.
_LONGEST_NAME, _LONGEST_SHOWN = 512, 60
#: The host of a database, as the end of a route sees it.
LOOPBACK = "127.0.0.1"
_ENDPOINT = (
    r"(?a)(https?)://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?((?:/[\w.~!$&'()*+,;=:@%-]*)*)"
)


class Url(Struct, frozen=True, kw_only=True):
    """The address of one database. ``str`` prints the password as ``***``."""

    engine: str
    path: str  #: of the file or folder, which may be ``s3://BUCKET/PREFIX``; on a server the name of the database
    host: str = ""  #: or the directory of a socket, or the socket itself
    port: int | None = None
    user: str = ""
    password: Secret | None = None
    options: str = ""  #: the text after ``?``, without ``via``
    #: how this process reaches the host, or the machine with the path: ``ssh:bastion docker:shop-db``; empty: directly
    via: str = ""
    #: the address with a route that this path of this machine stands for, as messages show it; empty: it has none
    routed: str = ""
    #: the exported snapshot of the server that readers read; empty: they read the current state
    snapshot: str = ""
    has_no_scheme: bool = False  #: whether it is a path without a scheme, which does not determine the engine

    @property
    def is_file(self) -> bool:
        return self._kind == "file" and not self.via

    @property
    def is_folder(self) -> bool:
        return self._kind == "folder" and not self.via

    @property
    def is_local(self) -> bool:
        return self._kind in {"file", "folder"} and not self.via

    @property
    def has_routed_path(self) -> bool:
        """Whether it is a path at the end of a route."""
        return bool(self.via) and self._kind in {"file", "folder"}

    @property
    def _kind(self) -> str:
        """Where the database is, as the entry of its engine; empty: it is in storage, or the engine is unknown."""
        entry = find_engine(self.engine)
        return "" if entry is None or self.path.startswith(S3_PREFIX) else entry.kind

    @property
    def is_in_container(self) -> bool:
        """Whether a program of this machine enters a container of it: Podman, also under the name ``docker``, or Docker."""
        return self.via.startswith(("docker:", "podman:", "compose:"))

    @property
    def is_on_this_machine(self) -> bool:
        """Whether the same address on another machine is another database."""
        if self.via:
            return self.is_in_container
        entry = find_engine(self.engine)
        is_server = entry is not None and entry.kind == "server"
        return self.is_local or (
            is_server and (self.host.startswith("/") or is_loopback(self.host or LOOPBACK))
        )

    @property
    def has_placeholder(self) -> bool:
        """Whether the name of an instance is part of the address."""
        return PLACEHOLDER in self.path + self.options + self.via

    @property
    def option_names(self) -> Sequence[str]:
        """The names of the options, such as that of a socket, which its text lacks: some are secret."""
        return [option.partition("=")[0] for option in self.options.split("&") if option]

    @property
    def command_text(self) -> str:
        """The text with the options that select a socket or a schema, for a command line that reaches the same database."""
        login, name = _encode(self.user, "%/?#@:"), _encode(self.path, "%?#@")
        text = str(structs.replace(self, user=login, path=name) if self._kind == "server" else self)
        options = self.select_options(SOCKET_OPTIONS.get(self.engine, ""), "schema")
        return f"{text}{'&' if '?' in text else '?'}{options}" if options and not self.routed else text

    def select_options(self, *names: str) -> str:
        """Return the options of these names."""
        return "&".join(option for option in self.options.split("&") if option.partition("=")[0] in names)

    def omit_options(self, *names: str) -> str:
        """Return the options of other names."""
        return self.select_options(*(name for name in self.option_names if name not in names))

    def __str__(self) -> str:
        if self.routed:
            return self.routed
        if self.is_folder:
            return f"{self.engine}:{self.path}"
        entry = find_engine(self.engine)
        route = f"?{VIA}={encode_route(self.via)}" if self.via else ""
        if entry is None or entry.kind != "server":
            return f"{self.engine}:{self.path}{route}" if route else self.path
        login = self.user + (":***" if self.password else "") + "@" if self.user else ""
        port = f":{self.port}" if self.port else ""
        return f"{self.engine}://{login}{_encode(self.host)}{port}/{self.path}{route}"


def list_engines() -> Iterator[tuple[str, EngineEntry]]:
    """Yield all engines by name, also those of extensions of dbctl that are not installed: their addresses are valid."""
    yield from ENGINES.items()
    from dbctl.extensions import registry

    yield from registry.list_engines()


def find_engine(name: str) -> EngineEntry | None:
    """Return the entry of an engine; None: no engine has that name."""
    return ENGINES.get(name) or next((entry for known, entry in list_engines() if known == name), None)


def find_scheme(scheme: str) -> str:
    """Return the engine of a scheme, without its driver, in lower case; empty: no engine has it."""
    return next((name for name, entry in list_engines() if scheme in (name, *entry.schemes)), "")


def parse_url(text: str) -> Url:
    """Parse the address of a database.

    It is ``sqlite:///PATH``, a path, ``ENGINE:PATH`` of a folder, ``s3://BUCKET/PREFIX`` (or ``ENGINE+s3://``), or
    ``SCHEME://USER:PASSWORD@HOST:PORT/NAME?OPTIONS``. ``?via=ROUTE`` is the route to the database; ``SCHEME+ssh://USER@HOST/NAME`` is one that
    listens on the loopback address of ``HOST``, and is reached by ssh.

    A ``/``, ``#`` or ``?`` before the last ``@`` is refused: in an unencoded password it would change the host, and a
    part of the password would be printed in messages. No error message contains the text.

    Raises:
        UrlInvalidError: the address is invalid.
    """
    if not text.strip() or "\0" in text:
        raise UrlInvalidError(reason="it is empty" if "\0" not in text else "it contains a NUL character")
    scheme, separator, remainder = text.partition("://")
    if not separator:
        scheme, separator, remainder = text.partition(":")
        engine = find_scheme(scheme.lower()) if separator else ""
        entry = find_engine(engine) if engine else None
        if entry is None:
            if scheme in ROUTE_PARTS:
                raise RouteInvalidError(
                    reason=f"it names no database; write SCHEME://USER@HOST/NAME?{VIA}=ROUTE"
                )
            if is_foreign_address(text):
                raise UrlInvalidError(reason=f"{_list_schemes()}; write ./ before a file name with a colon")
            return Url(engine=PATH_ENGINE, path=text, has_no_scheme=True)
        if entry.kind == "server" or scheme.lower() == S3:
            raise UrlInvalidError(reason="the scheme must be followed by ://")
        return _parse_file(engine, remainder)
    base, has_driver, driver = scheme.lower().partition("+")
    engine = find_scheme(base)
    entry = find_engine(engine)
    if entry is not None and entry.kind == "server" and driver in ROUTE_PARTS:
        url = _parse_server(engine, remainder)
        return structs.replace(url, host=LOOPBACK, via=check_route(f"{driver}:{url.host} {url.via}".strip()))
    if entry is None or (has_driver and driver not in entry.drivers):
        raise UrlInvalidError(reason=_list_schemes())
    if S3 in (base, driver):
        return _parse_bucket(engine, remainder)
    return _parse_server(engine, remainder) if entry.kind == "server" else _parse_file(engine, remainder)


def _list_schemes() -> str:
    engines = dict(list_engines())
    schemes = [*engines, *(scheme for entry in engines.values() for scheme in entry.schemes)]
    return f"unknown scheme; known: {', '.join(schemes)}"


def is_foreign_address(text: str) -> bool:
    """Return whether a text begins like an address, and not like a path: ``./`` before a name with a colon makes it a path."""
    return bool(re.match(_FOREIGN, text))


def check_route(text: str) -> str:
    """Return a route with one space between its parts.

    Raises:
        UrlInvalidError: a part is not ``KIND:NAME`` of ``ROUTE_PARTS``, or follows a container.
    """
    parts = text.split()
    for part in parts:
        kind, _, name = part.partition(":")
        form = ROUTE_PARTS.get(kind)
        if form is None:
            forms = ", ".join(map(":".join, ROUTE_PARTS.items()))
            raise RouteInvalidError(reason=f"{VIA} has the part {part[:_LONGEST_SHOWN]!r}; write {forms}")
        match = re.fullmatch(f"(?a){_ROUTE_PATTERNS[kind]}", name)
        if match is None or len(name) > _LONGEST_NAME:
            raise RouteInvalidError(
                reason=f"{VIA} has the part {part[:_LONGEST_SHOWN]!r}; write {kind}:{form}"
            )
        if kind == "ssh" and match["port"] and not 0 < int(match["port"]) <= HIGHEST_PORT:
            raise RouteInvalidError(reason=f"{part}: the port must be a number from 1 to {HIGHEST_PORT}")
    kinds = [part.partition(":")[0] for part in parts]
    if not all(kind == "ssh" for kind in kinds[:-1]):
        raise RouteInvalidError(reason=f"only the last part of {VIA} can be a container")
    return " ".join(parts)


def is_loopback(host: str) -> bool:
    return host in {"localhost", "[::1]"} or bool(re.fullmatch(r"127(\.[0-9]{1,3}){3}", host))


def encode_route(via: str) -> str:
    """Return a route as part of an address."""
    for sign, text in {"%": "%25", "+": "%2B", " ": "+", "@": "%40"}.items():
        via = via.replace(sign, text)
    return via


def resolve_engine(url: Url, engines: Sequence[str]) -> Url:
    """Return an address with its engine: a path without scheme is a folder if no engine of ``engines`` has files."""
    if not url.has_no_scheme:
        return url
    folder_engine = ""
    for name in engines:
        kind = entry.kind if (entry := find_engine(name)) else ""
        if kind == "file":  # the others, which may be of extensions, are not looked up
            return url
        folder_engine = folder_engine or (name if kind == "folder" else "")
    return structs.replace(url, engine=folder_engine, has_no_scheme=False) if folder_engine else url


def locate_path(path: Path, engines: Sequence[str]) -> Url:
    """Return the address of a file or folder, which may not exist, with the engine of ``engines`` that has such ones."""
    return resolve_engine(Url(engine=PATH_ENGINE, path=os.path.realpath(path), has_no_scheme=True), engines)


def _parse_file(engine: str, address: str) -> Url:
    path, _, options = address.partition("?")
    if path.startswith("//"):  # sqlite:////absolute, as SQLAlchemy writes it
        path = path[1:]
    if not path.strip("/"):
        raise UrlInvalidError(reason="it contains no file name")
    options, route = _take_route(options)
    if options:
        raise UrlInvalidError(reason="the address of a file has no ?options; write a ? in its name as %3F")
    return Url(engine=engine, path=_decode(path), via=route)


def _take_route(options: str) -> tuple[str, str]:
    """Return the options of an address without its route, and the route."""
    if f"{VIA}=" not in options:
        return options, ""
    parts = options.split("&")
    routes = [part for part in parts if part.startswith(f"{VIA}=")]
    if len(routes) > 1:
        raise UrlInvalidError(reason=f"it contains {VIA} twice")
    text = "".join(routes).removeprefix(f"{VIA}=")
    return "&".join(part for part in parts if part not in routes), check_route(
        _decode(text.replace("+", " "))
    )


def _parse_bucket(engine: str, address: str) -> Url:
    bucket, _, prefix = address.partition("/")
    if not bucket:
        raise UrlInvalidError(reason="it contains no bucket")
    if ":" in bucket or any(sign in address for sign in "?#"):
        raise UrlInvalidError(
            reason="the address of storage contains no key and no ?options; write s3://BUCKET/PREFIX"
        )
    return Url(engine=engine, path=S3_PREFIX + (f"{bucket}/{prefix.strip('/')}".rstrip("/")))


def _parse_server(engine: str, address: str) -> Url:
    login, separator, location = address.rpartition("@")
    if separator and f"{VIA}=" in login.partition("?")[2]:
        raise RouteInvalidError(reason=f"{VIA} contains @")
    if separator and any(sign in login for sign in "/#?"):
        raise UrlInvalidError(reason="it contains a /, # or ? before the last @")
    user, has_password, password = login.partition(":")
    location, _, options = location.partition("?")
    options, route = _take_route(options)
    host_and_port, _, name = location.partition("/")
    host, _, port = (
        host_and_port.rpartition(":") if ":" in host_and_port.rpartition("]")[2] else (host_and_port, "", "")
    )
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) <= HIGHEST_PORT):
        raise UrlInvalidError(reason="the port must be a number from 1 to 65535")
    return Url(
        engine=engine,
        path=_decode(name),
        host=_decode(host),
        port=int(port) if port else None,
        user=_decode(user),
        password=Secret(_decode(password)) if has_password else None,
        options=options,
        via=route,
    )


def _encode(text: str, signs: str = "%/?#@") -> str:
    """Return a part of an address, by default a host, with the characters encoded that would end it."""
    for sign in signs:  # the percent sign first
        text = text.replace(sign, f"%{ord(sign):02X}")
    return text


def _decode(text: str) -> str:
    if "%" not in text:
        return text
    from urllib.parse import unquote

    decoded = unquote(text)
    if "\0" in decoded:
        raise UrlInvalidError(reason="it contains a NUL character")
    return decoded


class Endpoint(Struct, frozen=True, kw_only=True):
    """The address of an HTTP service."""

    secure: bool  #: HTTPS
    host: str  #: an IPv6 address in brackets
    port: int | None
    path: str  #: without a trailing slash; may be empty

    @property
    def is_loopback(self) -> bool:
        """Whether it is an address of this machine."""
        return is_loopback(self.host)

    def __str__(self) -> str:
        port = f":{self.port}" if self.port else ""
        return f"http{'s' if self.secure else ''}://{self.host}{port}{self.path}"


def parse_endpoint(text: str) -> Endpoint:
    """Parse ``https://HOST:PORT/PATH``; a login or query (``USER@``, ``?key=``) is refused, because it may be a secret.

    Raises:
        UrlInvalidError: the address is invalid; the error does not contain the text.
    """
    match = re.fullmatch(_ENDPOINT, text)
    if match is None:
        raise UrlInvalidError(reason="write https://HOST:PORT/PATH, without a login, a ? and a #")
    if match[3] and not 0 < int(match[3]) <= HIGHEST_PORT:
        raise UrlInvalidError(reason="the port must be a number from 1 to 65535")
    return Endpoint(
        secure=match[1] == "https",
        host=match[2].lower(),
        port=int(match[3]) if match[3] else None,
        path=match[4].rstrip("/"),
    )
