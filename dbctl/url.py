"""Taking the address of a database apart; its password never shows."""

from __future__ import annotations

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
}
HIGHEST_PORT = 65535


class Url(Value, frozen=True, kw_only=True):
    """The address of one database. ``str`` shows it with its password as ``***``."""

    engine: str
    path: str  #: of the file; on a server the name of the database
    host: str = ""
    port: int | None = None
    user: str = ""
    password: Secret | None = None
    options: str = ""  #: what followed ``?``

    @property
    def is_file(self) -> bool:
        """Whether it is a path on this machine."""
        return self.engine == "sqlite"

    def __str__(self) -> str:
        if self.is_file:
            return self.path
        if self.engine == "lancedb":
            return f"lancedb://{self.path}"
        login = self.user + (":***" if self.password else "") + "@" if self.user else ""
        port = f":{self.port}" if self.port else ""
        return f"{self.engine}://{login}{self.host}{port}/{self.path}"


def parse(text: str) -> Url:
    """Take ``sqlite:///PATH``, a bare path, or ``SCHEME://USER:PASSWORD@HOST:PORT/NAME?OPTIONS`` apart.

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
            return Url(engine="sqlite", path=text)
        if engine != "sqlite":
            raise UrlInvalidError(reason="the scheme wants :// behind it")
        return _file(engine, rest)
    engine = SCHEMES.get(scheme.lower().partition("+")[0])
    if engine is None:
        raise UrlInvalidError(reason=f"unknown scheme; known: {', '.join(SCHEMES)}")
    return _file(engine, rest) if engine in ("sqlite", "lancedb") else _server(engine, rest)


def _file(engine: str, rest: str) -> Url:
    path, _, options = rest.partition("?")
    if path.startswith("//"):  # sqlite:////absolute, as SQLAlchemy writes it
        path = path[1:]
    if not path.strip("/"):
        raise UrlInvalidError(reason="it names no file")
    if options and engine == "sqlite":
        raise UrlInvalidError(reason="the address of a file takes no ?options; write a ? of its name as %3F")
    return Url(engine=engine, path=_decoded(path), options=options)


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
        host=host,
        port=int(port) if port else None,
        user=_decoded(user),
        password=Secret(_decoded(password)) if has_password else None,
        options=options,
    )


def _decoded(text: str) -> str:
    if "%" not in text:
        return text
    from urllib.parse import unquote  # noqa: PLC0415 - seldom needed

    decoded = unquote(text)
    if "\0" in decoded:
        raise UrlInvalidError(reason="it holds a NUL character")
    return decoded
