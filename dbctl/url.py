"""Taking the address of a database apart; its password never shows."""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec import structs

from dbctl.errors import UrlInvalidError
from dbctl.model import Secret, Value

#: What may stand before ``://``, and the engine it means.
SCHEMES = {
    "sqlite": "sqlite",
    "file": "sqlite",
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "mysql": "mysql",
    "mariadb": "mysql",
    "lancedb": "lancedb",
    "s3": "lancedb",
}
HIGHEST_PORT = 65535
#: Begins the address of a folder that stands in storage which speaks S3.
REMOTE = "s3://"
_ENDPOINT = (
    r"(?a)(https?)://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?((?:/[\w.~!$&'()*+,;=:@%-]*)*)"
)


class Url(Value, frozen=True, kw_only=True):
    """The address of one database. ``str`` shows it with its password as ``***``."""

    engine: str
    path: str  #: of the file or folder, which may be ``s3://BUCKET/PREFIX``; on a server the name of the database
    host: str = ""  #: or the directory of a socket, or the socket itself
    port: int | None = None
    user: str = ""
    password: Secret | None = None
    options: str = ""  #: what followed ``?``
    bare: bool = False  #: whether it was a path alone, which says nothing of the engine

    @property
    def is_file(self) -> bool:
        """Whether it is one file on this machine."""
        return self.engine == "sqlite"

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder on this machine."""
        return self.engine == "lancedb" and not self.path.startswith(REMOTE)

    @property
    def is_local(self) -> bool:
        """Whether its path is one on this machine."""
        return self.is_file or self.is_folder

    def __str__(self) -> str:
        if self.is_file:
            return self.path
        if self.engine == "lancedb":
            return f"lancedb:{self.path}" if self.is_folder else self.path
        login = self.user + (":***" if self.password else "") + "@" if self.user else ""
        port = f":{self.port}" if self.port else ""
        return f"{self.engine}://{login}{_encoded(self.host)}{port}/{self.path}"


def parse(text: str) -> Url:
    """Take an address apart.

    It is ``sqlite:///PATH``, a bare path, ``lancedb:PATH``, ``s3://BUCKET/PREFIX`` (or ``lancedb+s3://``), or
    ``SCHEME://USER:PASSWORD@HOST:PORT/NAME?OPTIONS``.

    A ``/``, ``#`` or ``?`` before the last ``@`` is refused: left unencoded in a password it would move the host,
    and half of the password into a message (no message of this function repeats the text).

    Raises:
        UrlInvalidError: it is not understood.
    """
    if not text.strip() or "\0" in text:
        raise UrlInvalidError(reason="it is empty" if "\0" not in text else "it holds a NUL character")
    scheme, mark, rest = text.partition("://")
    if not mark:
        scheme, mark, rest = text.partition(":")
        engine = SCHEMES.get(scheme.lower()) if mark else None
        if engine is None:
            return Url(engine="sqlite", path=text, bare=True)
        if engine not in ("sqlite", "lancedb") or scheme.lower() == "s3":
            raise UrlInvalidError(reason="the scheme wants :// behind it")
        return _file(engine, rest)
    engine = SCHEMES.get(scheme.lower().partition("+")[0])
    if engine is None:
        raise UrlInvalidError(reason=f"unknown scheme; known: {', '.join(SCHEMES)}")
    if scheme.lower() in ("s3", "lancedb+s3"):
        return _bucket(rest)
    return _file(engine, rest) if engine in ("sqlite", "lancedb") else _server(engine, rest)


def meant(url: Url, engines: Sequence[str]) -> Url:
    """Return the address of a database that lives on one of these engines: a path alone may be that of a folder."""
    folder = url.bare and "sqlite" not in engines and "lancedb" in engines
    return structs.replace(url, engine="lancedb", bare=False) if folder else url


def _file(engine: str, rest: str) -> Url:
    path, _, options = rest.partition("?")
    if path.startswith("//"):  # sqlite:////absolute, as SQLAlchemy writes it
        path = path[1:]
    if not path.strip("/"):
        raise UrlInvalidError(reason="it names no file")
    if options:
        raise UrlInvalidError(reason="the address of a file takes no ?options; write a ? of its name as %3F")
    return Url(engine=engine, path=_decoded(path))


def _bucket(rest: str) -> Url:
    bucket, _, prefix = rest.partition("/")
    if not bucket:
        raise UrlInvalidError(reason="it names no bucket")
    if ":" in bucket or any(sign in rest for sign in "?#"):
        raise UrlInvalidError(
            reason="storage takes no key and no ?options in its address; write s3://BUCKET/PREFIX"
        )
    return Url(engine="lancedb", path=REMOTE + (f"{bucket}/{prefix.strip('/')}".rstrip("/")))


def _server(engine: str, rest: str) -> Url:
    login, mark, place = rest.rpartition("@")
    if mark and any(sign in login for sign in "/#?"):
        raise UrlInvalidError(reason="a /, # or ? stands before the last @")
    user, has_password, password = login.partition(":")
    place, _, options = place.partition("?")
    address, _, name = place.partition("/")
    host, _, port = address.rpartition(":") if ":" in address.rpartition("]")[2] else (address, "", "")
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) <= HIGHEST_PORT):
        raise UrlInvalidError(reason="the port is no number from 1 to 65535")
    return Url(
        engine=engine,
        path=_decoded(name),
        host=_decoded(host),
        port=int(port) if port else None,
        user=_decoded(user),
        password=Secret(_decoded(password)) if has_password else None,
        options=options,
    )


def _encoded(host: str) -> str:
    """Return a host as it stands in an address, where a socket's path would end it."""
    for sign in "%/?#@":
        host = host.replace(sign, f"%{ord(sign):02X}")
    return host


def _decoded(text: str) -> str:
    if "%" not in text:
        return text
    from urllib.parse import unquote

    decoded = unquote(text)
    if "\0" in decoded:
        raise UrlInvalidError(reason="it holds a NUL character")
    return decoded


class Endpoint(Value, frozen=True, kw_only=True):
    """The address of a service that speaks HTTP."""

    secure: bool  #: HTTPS
    host: str  #: an address of IPv6 in its brackets
    port: int | None
    path: str  #: without a slash at its end; may be empty

    @property
    def is_here(self) -> bool:
        """Whether nothing that is sent there leaves this machine."""
        return self.host in {"localhost", "[::1]"} or bool(re.fullmatch(r"127(\.[0-9]{1,3}){3}", self.host))

    def __str__(self) -> str:
        port = f":{self.port}" if self.port else ""
        return f"http{'s' if self.secure else ''}://{self.host}{port}{self.path}"


def endpoint(text: str) -> Endpoint:
    """Take ``https://HOST:PORT/PATH`` apart; what may be a key (``USER@``, ``?key=``) has no place there.

    Raises:
        UrlInvalidError: it is not understood; the text is not repeated.
    """
    found = re.fullmatch(_ENDPOINT, text)
    if found is None:
        raise UrlInvalidError(reason="write https://HOST:PORT/PATH, without a login, a ? and a #")
    if found[3] and not 0 < int(found[3]) <= HIGHEST_PORT:
        raise UrlInvalidError(reason="the port is no number from 1 to 65535")
    return Endpoint(
        secure=found[1] == "https",
        host=found[2].lower(),
        port=int(found[3]) if found[3] else None,
        path=found[4].rstrip("/"),
    )
