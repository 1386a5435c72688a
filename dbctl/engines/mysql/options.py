"""Connection options of a URL, and the password in ``~/.my.cnf``, which the clients of MySQL read."""

from __future__ import annotations

import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, cast, get_args
from urllib.parse import parse_qsl

from dbctl.config.environment import has_home
from dbctl.engines.sql.catalog import is_storable
from dbctl.errors.connection import FileFailedError
from dbctl.errors.usage import UrlInvalidError
from dbctl.files.atomic import check_settings, expand_home, read_settings
from dbctl.model import Secret, Struct
from dbctl.url import Url

if TYPE_CHECKING:
    import ssl


#: In the home directory of the user.
OPTION_FILE = ".my.cnf"
_SECTION = re.compile(r"\s*\[\s*([^\]]+?)\s*\]")
_OPTION = re.compile(r"\s*([A-Za-z][\w-]*)\s*=\s*(.*?)\s*$")
_QUOTED = re.compile(r"""(['"])((?:\\.|(?!\1).)*)\1""")
_ESCAPED = re.compile(r"\\([btnrs\\\"'])")
_MEANING = {"b": "\b", "t": "\t", "n": "\n", "r": "\r", "s": " "}


def find_login(url: Url) -> tuple[str, Secret | None]:
    """Return user and password for ``url``, from the URL or otherwise from the option file.

    Options for another user, host or port are ignored, since a password must not reach another server. A file that others
    may write is rejected, as by MySQL's own clients.

    Raises:
        FileFailedError: the file cannot be read, or others may write it.
    """
    if url.password is not None:
        return url.user, url.password
    options = _read_client_section(expand_home(f"~/{OPTION_FILE}")) if has_home() else {}
    matches = (
        url.user in ("", options.get("user", url.user))
        and options.get("host", url.host) == url.host
        and options.get("port", str(url.port or "")) == str(url.port or "")
    )
    if not matches:
        return url.user, None
    return url.user or options.get("user", ""), Secret(options["password"]) if "password" in options else None


def _read_client_section(path: Path) -> dict[str, str]:
    try:
        mode = path.stat().st_mode
        text = read_settings(path)
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not valid UTF-8"
        raise FileFailedError(path=path, reason=reason) from None
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise FileFailedError(path=path, reason="others may write it; use chmod go-w")
    options: dict[str, str] = {}
    section = ""
    for line in text.splitlines():
        if header := _SECTION.match(line):
            section = header[1].lower()
        elif section == "client" and (option := _OPTION.match(line)):
            options[option[1].lower().replace("_", "-")] = _parse_value(option[2])
    return options


def _parse_value(text: str) -> str:
    """Return a value without quotes, or without a trailing comment, and with escapes decoded."""
    quoted_match = _QUOTED.match(text)
    text = quoted_match[2] if quoted_match else re.sub(r"\s+#.*$", "", text)
    return _ESCAPED.sub(lambda match: _MEANING.get(match[1], match[1]), text)


#: The name of the socket of a route.
SOCKET = "mysql.sock"
#: Sockets of a server on this machine, for URLs without host and socket.
SOCKETS = ("/run/mysqld/mysqld.sock", "/var/lib/mysql/mysql.sock", "/tmp/mysql.sock")  # noqa: S108 - the default paths
#: Options of ORMs that do not affect a connection; they are ignored.
IGNORED_OPTIONS = frozenset(
    "charset collation connection_limit pool_timeout socket_timeout schema serverversion timezone".split()
)
Mode: TypeAlias = Literal["disabled", "preferred", "required", "verify_ca", "verify_identity"]
MODES: Sequence[Mode] = get_args(Mode)
#: Aliases of options. Prisma's ``sslcert`` is the certificate of the authority, MySQL's ``ssl-cert`` that of the client.
OPTION_ALIASES = {
    "socket": "unix_socket",
    "sslmode": "ssl_mode",
    "sslca": "ssl_ca",
    "sslkey": "ssl_key",
    "sslcert": "ssl_ca",
    "ssl": "ssl_mode",
    "sslaccept": "ssl_mode",
    "connecttimeout": "connect_timeout",
}
SSL_MODES = {
    "true": "required",
    "1": "required",
    "false": "disabled",
    "0": "disabled",
    "accept_invalid_certs": "required",
    "strict": "verify_identity",
    "verify_full": "verify_identity",
    "require": "required",
    "prefer": "preferred",
    "disable": "disabled",
}
KNOWN_OPTIONS = frozenset({"unix_socket", "ssl_mode", "ssl_ca", "ssl_cert", "ssl_key", "connect_timeout"})


class Encryption(Struct, frozen=True, kw_only=True):
    """Encryption of a connection, and verification of the server; the files are PEM; empty: not set."""

    mode: Mode
    authority: str
    certificate: str
    key: str


def connection_arguments(url: Url) -> dict[str, object]:
    """Return the arguments with which the driver connects to the database at ``url``.

    Raises:
        UrlInvalidError: it contains an unknown option, or names no database.
    """
    options = _parse_options(url)
    if not url.path:
        raise UrlInvalidError(reason="it names no database")
    if not all(map(is_storable, [url.path, url.user, url.host, *options.values()])):
        raise UrlInvalidError(reason="it is not valid UTF-8")
    host = url.host.removeprefix("[").removesuffix("]")
    socket = options.get("unix_socket", "")
    if not socket and host.startswith("/"):
        socket, host = host, ""
    if url.via and socket:
        raise UrlInvalidError(reason="a socket cannot be reached by via; write a host")
    if not (socket or host or url.via):
        socket = next((path for path in SOCKETS if Path(path).exists()), "")
    user, password = find_login(url)
    arguments: dict[str, object] = {
        "host": host or "localhost",
        "port": url.port or 0,
        "user": user or None,
        "password": password.reveal().encode() if password else b"",
        "database": url.path,
    }
    if socket:
        arguments["unix_socket"] = socket
    if "connect_timeout" in options:
        arguments["connect_timeout"] = _seconds(options["connect_timeout"])
    return arguments | _tls_arguments(read_encryption(url), local=bool(socket))


def _parse_options(url: Url) -> dict[str, str]:
    options: dict[str, str] = {}
    for name, text in parse_qsl(url.options, keep_blank_values=True):
        key = name.lower().replace("-", "_")
        key = OPTION_ALIASES.get(key, key)
        if key in KNOWN_OPTIONS:
            options[key] = text
        elif key.replace("_", "") not in {ignored.replace("_", "") for ignored in IGNORED_OPTIONS}:
            raise UrlInvalidError(reason=f"MySQL has no option {name!r}")
    return options


def _seconds(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 100_000):  # noqa: PLR2004 - more than a day
        raise UrlInvalidError(reason="connect_timeout is not a number of seconds")
    return int(text)


def read_encryption(url: Url) -> Encryption:
    """Return the TLS options of a URL.

    Raises:
        UrlInvalidError: an option is invalid.
    """
    options = _parse_options(url)
    files = {name: options[name] for name in ("ssl_ca", "ssl_cert", "ssl_key") if options.get(name)}
    mode = options.get("ssl_mode", "").lower().replace("-", "_")
    mode = SSL_MODES.get(mode, mode) or (
        "verify_ca" if "ssl_ca" in files else "required" if files else "preferred"
    )
    if mode not in MODES:
        raise UrlInvalidError(reason=f"ssl-mode must be one of {', '.join(MODES)}")
    return Encryption(
        mode=cast("Mode", mode),
        authority=files.get("ssl_ca", ""),
        certificate=files.get("ssl_cert", ""),
        key=files.get("ssl_key", ""),
    )


def unverified_context() -> ssl.SSLContext:
    """Return a TLS context that encrypts without verifying the server."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _tls_arguments(options: Encryption, *, local: bool) -> dict[str, object]:
    """Return the TLS arguments of the driver; a required option is never dropped, unlike in the driver's defaults."""
    if options.mode == "disabled" or (options.mode == "preferred" and local):
        return {"ssl_disabled": True}
    if options.mode == "preferred":
        return {}
    import ssl

    context = unverified_context()
    if options.mode != "required":
        context.verify_mode = ssl.CERT_REQUIRED
        context.check_hostname = options.mode == "verify_identity"
    try:
        for file in filter(None, (options.authority, options.certificate, options.key)):
            check_settings(Path(file))
        if options.authority:
            context.load_verify_locations(options.authority)
        elif options.mode != "required":
            context.load_default_certs()
        if options.certificate:
            context.load_cert_chain(options.certificate, options.key or None)
    except OSError as error:  # including ssl.SSLError
        files = ", ".join(filter(None, [options.authority, options.certificate, options.key]))
        raise UrlInvalidError(reason=f"{files}: {error.strerror or error}") from None
    return {"ssl": context}
