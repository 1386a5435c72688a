"""What stands behind the ``?`` of a URL, in the words of MySQL's own clients and of the libraries of apps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qsl

from dbctl.engines.mysql.option_file import login
from dbctl.engines.sql import is_storable
from dbctl.errors import UrlInvalidError
from dbctl.url import Url

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
MODES = ("disabled", "preferred", "required", "verify_ca", "verify_identity")
#: Other words for the same.
SAME = {
    "socket": "unix_socket",
    "sslmode": "ssl_mode",
    "sslca": "ssl_ca",
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
    socket = told.get("unix_socket", "")
    if not (socket or url.host):
        socket = next((one for one in SOCKETS if Path(one).exists()), "")
    user, password = login(url)
    found: dict[str, object] = {
        "host": url.host.removeprefix("[").removesuffix("]") or "localhost",
        "port": url.port or 0,
        "user": user or None,
        "password": password.reveal().encode() if password else b"",
        "database": url.path,
    }
    if socket:
        found["unix_socket"] = socket
    if "connect_timeout" in told:
        found["connect_timeout"] = _seconds(told["connect_timeout"])
    return found | _tls(told, local=bool(socket))


def _told(url: Url) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, text in parse_qsl(url.options, keep_blank_values=True):
        key = name.lower().replace("-", "_")
        key = SAME.get(key.replace("_", ""), key)
        if key in KNOWN:
            found[key] = text
        elif key.replace("_", "") not in {one.replace("_", "") for one in OF_OTHERS}:
            raise UrlInvalidError(reason=f"MySQL knows no option {name!r}")
    return found


def _seconds(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 100_000):  # noqa: PLR2004 - more than a day
        raise UrlInvalidError(reason="connect_timeout is no number of seconds")
    return int(text)


def _tls(told: Mapping[str, str], *, local: bool) -> dict[str, object]:
    """Return what the driver is told of TLS; what is asked for is never left out, as it would where it had its way."""
    files = {name: told[name] for name in ("ssl_ca", "ssl_cert", "ssl_key") if told.get(name)}
    mode = told.get("ssl_mode", "").lower().replace("-", "_")
    mode = SAID.get(mode, mode) or (
        "verify_ca" if "ssl_ca" in files else "required" if files else "preferred"
    )
    if mode not in MODES:
        raise UrlInvalidError(reason=f"ssl-mode is one of {', '.join(MODES)}")
    if mode == "disabled" or (mode == "preferred" and local):
        return {"ssl_disabled": True}
    if mode == "preferred":
        return {}
    import ssl  # noqa: PLC0415 - loads slowly, and seldom needed

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = mode == "verify_identity"
    context.verify_mode = ssl.CERT_NONE if mode == "required" else ssl.CERT_REQUIRED
    try:
        if "ssl_ca" in files:
            context.load_verify_locations(files["ssl_ca"])
        else:
            context.load_default_certs()
        if "ssl_cert" in files:
            context.load_cert_chain(files["ssl_cert"], files.get("ssl_key"))
    except OSError as error:  # one of ssl is one, too
        told_of = ", ".join(f"{name} {path}" for name, path in files.items())
        raise UrlInvalidError(reason=f"{told_of}: {error.strerror or error}") from None
    return {"ssl": context}
