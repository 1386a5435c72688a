"""What ``~/.my.cnf`` says to every client of MySQL: where a password may stand that stands nowhere else."""

from __future__ import annotations

import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, cast, get_args
from urllib.parse import parse_qsl

from dbctl.engines.sql import is_storable
from dbctl.errors import FileFailedError, UrlInvalidError
from dbctl.files import check_settings, read_settings
from dbctl.model import Secret, Value
from dbctl.url import Url

if TYPE_CHECKING:
    import ssl


#: Below the home directory of whoever runs dbctl.
NAME = ".my.cnf"
_SECTION = re.compile(r"\s*\[\s*([^\]]+?)\s*\]")
_OPTION = re.compile(r"\s*([A-Za-z][\w-]*)\s*=\s*(.*?)\s*$")
_QUOTED = re.compile(r"""(['"])((?:\\.|(?!\1).)*)\1""")
_ESCAPED = re.compile(r"\\([btnrs\\\"'])")
_MEANING = {"b": "\b", "t": "\t", "n": "\n", "r": "\r", "s": " "}


def login(url: Url) -> tuple[str, Secret | None]:
    """Return user and password for ``url``: its own, or those of the option file where it has none.

    What the file says of another user, host or port is for other servers, and a password goes to nobody it is not meant
    for. A file that others may write is not believed, as MySQL's own clients do.

    Raises:
        FileFailedError: the file is there and cannot be read, or others may write it.
    """
    if url.password is not None:
        return url.user, url.password
    told = _client(Path.home() / NAME)
    fits = (
        url.user in ("", told.get("user", url.user))
        and told.get("host", url.host) == url.host
        and told.get("port", str(url.port or "")) == str(url.port or "")
    )
    if not fits:
        return url.user, None
    return url.user or told.get("user", ""), Secret(told["password"]) if "password" in told else None


def _client(path: Path) -> dict[str, str]:
    """Return what stands below ``[client]``."""
    try:
        mode = path.stat().st_mode
        text = read_settings(path)
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not valid UTF-8"
        raise FileFailedError(path=path, reason=reason) from None
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise FileFailedError(path=path, reason="others may write it; chmod go-w makes it your own")
    found: dict[str, str] = {}
    section = ""
    for line in text.splitlines():
        if opened := _SECTION.match(line):
            section = opened[1].lower()
        elif section == "client" and (option := _OPTION.match(line)):
            found[option[1].lower().replace("_", "-")] = _value(option[2])
    return found


def _value(text: str) -> str:
    """Return a value without its quotes, or what is behind a blank and a ``#``; escapes mean what they mean there."""
    quoted = _QUOTED.match(text)
    text = quoted[2] if quoted else re.sub(r"\s+#.*$", "", text)
    return _ESCAPED.sub(lambda found: _MEANING.get(found[1], found[1]), text)


#: Where a server on this machine listens, when neither a host nor a socket is named.
SOCKETS = ("/run/mysqld/mysqld.sock", "/var/lib/mysql/mysql.sock", "/tmp/mysql.sock")  # noqa: S108 - where it is by default
#: What ORMs write there that is none of a connection's business here.
OF_OTHERS = frozenset(
    {
        "charset",
        "collation",
        "connection_limit",
        "pool_timeout",
        "socket_timeout",
        "schema",
        "serverversion",
        "timezone",
    }
)
Mode: TypeAlias = Literal["disabled", "preferred", "required", "verify_ca", "verify_identity"]
MODES: Sequence[Mode] = get_args(Mode)
#: Other words for the same. Prisma's ``sslcert`` is the authority's certificate, MySQL's ``ssl-cert`` the client's own.
SAME = {
    "socket": "unix_socket",
    "sslmode": "ssl_mode",
    "sslca": "ssl_ca",
    "sslkey": "ssl_key",
    "sslcert": "ssl_ca",
    "ssl": "ssl_mode",
    "sslaccept": "ssl_mode",
    "connecttimeout": "connect_timeout",
}
SAID = {
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
KNOWN = frozenset({"unix_socket", "ssl_mode", "ssl_ca", "ssl_cert", "ssl_key", "connect_timeout"})


class Encryption(Value, frozen=True, kw_only=True):
    """How far a connection is encrypted, and to whom; the files are PEM, empty where none was named."""

    mode: Mode
    authority: str
    certificate: str
    key: str


def connecting(url: Url) -> dict[str, object]:
    """Return what the driver is told to reach the database at ``url``.

    Raises:
        UrlInvalidError: it holds an option that is not known, or names no database.
    """
    told = _told(url)
    if not url.path:
        raise UrlInvalidError(reason="it names no database")
    if not all(map(is_storable, [url.path, url.user, url.host, *told.values()])):
        raise UrlInvalidError(reason="it is not valid UTF-8")
    host = url.host.removeprefix("[").removesuffix("]")
    socket = told.get("unix_socket", "")
    if not socket and host.startswith("/"):
        socket, host = host, ""
    if not (socket or host):
        socket = next((one for one in SOCKETS if Path(one).exists()), "")
    user, password = login(url)
    found: dict[str, object] = {
        "host": host or "localhost",
        "port": url.port or 0,
        "user": user or None,
        "password": password.reveal().encode() if password else b"",
        "database": url.path,
    }
    if socket:
        found["unix_socket"] = socket
    if "connect_timeout" in told:
        found["connect_timeout"] = _seconds(told["connect_timeout"])
    return found | _tls(encryption(url), local=bool(socket))


def _told(url: Url) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, text in parse_qsl(url.options, keep_blank_values=True):
        key = name.lower().replace("-", "_")
        key = SAME.get(key, key)
        if key in KNOWN:
            found[key] = text
        elif key.replace("_", "") not in {one.replace("_", "") for one in OF_OTHERS}:
            raise UrlInvalidError(reason=f"MySQL knows no option {name!r}")
    return found


def _seconds(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 100_000):  # noqa: PLR2004 - more than a day
        raise UrlInvalidError(reason="connect_timeout is no number of seconds")
    return int(text)


def encryption(url: Url) -> Encryption:
    """Return what a URL says of TLS.

    Raises:
        UrlInvalidError: it is not understood.
    """
    told = _told(url)
    files = {name: told[name] for name in ("ssl_ca", "ssl_cert", "ssl_key") if told.get(name)}
    mode = told.get("ssl_mode", "").lower().replace("-", "_")
    mode = SAID.get(mode, mode) or (
        "verify_ca" if "ssl_ca" in files else "required" if files else "preferred"
    )
    if mode not in MODES:
        raise UrlInvalidError(reason=f"ssl-mode is one of {', '.join(MODES)}")
    return Encryption(
        mode=cast("Mode", mode),
        authority=files.get("ssl_ca", ""),
        certificate=files.get("ssl_cert", ""),
        key=files.get("ssl_key", ""),
    )


def unchecked() -> ssl.SSLContext:
    """Return what encrypts, whoever the server is."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _tls(asked: Encryption, *, local: bool) -> dict[str, object]:
    """Return what the driver is told; what is asked for is never left out, as it would be where it had its way."""
    if asked.mode == "disabled" or (asked.mode == "preferred" and local):
        return {"ssl_disabled": True}
    if asked.mode == "preferred":
        return {}
    import ssl

    context = unchecked()
    if asked.mode != "required":
        context.verify_mode = ssl.CERT_REQUIRED
        context.check_hostname = asked.mode == "verify_identity"
    try:
        for file in filter(None, (asked.authority, asked.certificate, asked.key)):
            check_settings(Path(file))
        if asked.authority:
            context.load_verify_locations(asked.authority)
        elif asked.mode != "required":
            context.load_default_certs()
        if asked.certificate:
            context.load_cert_chain(asked.certificate, asked.key or None)
    except OSError as error:  # one of ssl is one, too
        files = ", ".join(filter(None, [asked.authority, asked.certificate, asked.key]))
        raise UrlInvalidError(reason=f"{files}: {error.strerror or error}") from None
    return {"ssl": context}
