"""Addresses of databases for a configuration, with variables instead of passwords."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from msgspec import structs

from dbctl.config.environment import VariableUnreadableError, read_command
from dbctl.config.model import SecretSource
from dbctl.config.secrets import MASK, redact_text
from dbctl.errors.usage import UrlInvalidError, UsageError
from dbctl.model import Secret, Struct
from dbctl.services.setup import env_file
from dbctl.url import VIA, find_engine, find_scheme, parse_url

#: The names of files with settings in the format of ``.env``.
ENV_FILE = re.compile(r"\.env(\..+)?|.+\.env")
#: The login and the password at the beginning of an address.
_LOGIN = re.compile(r"([A-Za-z][\w+]*://[^:@/?#]*:)(?P<password>.*)(?=@[^@]*$)")
_VARIABLE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")


class SecretPlace(Struct, frozen=True, kw_only=True):
    """Where a secret is: in a file, or in the first line that a program prints."""

    path: Path = Path()
    text: Secret | None = None  #: the content of a new file; None: the file exists
    command: Sequence[str] = ()  #: the program and its arguments, instead of a file

    def read(self) -> str:
        """Return the secret.

        Raises:
            FileFailedError: its file cannot be read.
            UsageError: its program failed.
        """
        if self.text:
            return self.text.reveal()
        if not self.command:
            return env_file.read_secret(self.path)
        try:
            return read_command(shlex.join(self.command), SecretSource(command=self.command), Path())
        except VariableUnreadableError as error:
            hint = "If the container lacks that program, pass the address of the database with its password instead."
            raise UsageError(detail=str(error), hint=hint) from error


class Address(Struct, frozen=True, kw_only=True):
    """The address of a database for a configuration."""

    text: str  #: ``${NAME}`` is the name of a variable
    via: str = ""  #: the route to it
    env_file: Path | None = None  #: the app's own file with the variables
    secrets: Mapping[str, SecretPlace] = {}  #: by the names of their variables

    def fill(self) -> str:
        """Return the address with the values of its variables, and with its route.

        Raises:
            UsageError: a variable is not set, or its program failed.
            FileFailedError: its file, or the file of settings, cannot be read.
        """
        variables = dict(env_file.read_variables(self.env_file)) if self.env_file else {}
        variables |= {name: secret.read() for name, secret in self.secrets.items()}
        return self._add_route(env_file.fill(self.text, variables))

    def mask(self) -> str:
        """Return the address without passwords, and with its route."""
        return self._add_route(redact_text(self.text))

    def _add_route(self, text: str) -> str:
        return f"{text}{'&' if '?' in text else '?'}{VIA}={quote(self.via, safe=':/')}" if self.via else text


def hide_password(
    address: Address, folder: Path, app: str, database: str, used_names: Collection[str]
) -> Address:
    """Return an address without a password in clear: a new file of ``folder`` contains it, which ``[secrets]`` names.

    The name of the file begins with ``app``; ``used_names`` are those of other secrets of the configuration.
    """
    if MASK not in redact_text(address.text):
        return address
    stem = app if database == "main" else f"{app}-{database}"
    login = _LOGIN.match(address.text)
    begin, end = (login[1], address.text[login.end(1) + len(login["password"]) :]) if login else ("", "")
    secret = parse_url(address.text).password if login else None
    kind = "password"
    if secret is None or MASK in redact_text(f"{begin}${{PASSWORD}}{end}"):  # a parameter is secret, too
        begin, end, kind, secret = "", "", "url", Secret(address.fill())
    stem = f"{stem}-{kind}"
    name = re.sub(r"\W|^(?=\d)", "_", stem, flags=re.ASCII).upper()
    while name in used_names:
        name += "_"
    file = SecretPlace(path=folder / stem, text=secret)
    return structs.replace(address, text=f"{begin}${{{name}}}{end}", secrets={**address.secrets, name: file})


def list_env_addresses(file: Path) -> Iterator[tuple[str, Address]]:
    """Yield the addresses of databases in an environment file, with the name of each database.

    A file of SQLite must exist; its relative path begins in the folder of the environment file.
    """
    variables = env_file.read_variables(file)
    for name, value in list_urls(variables):
        text = value if _VARIABLE.search(value) else f"${{{name}}}"
        address = Address(text=text, env_file=file)
        try:
            url = parse_url(address.fill())
        except UrlInvalidError:
            continue
        engine = find_engine(url.engine)
        if engine and engine.kind == "server":
            yield Path(url.path).stem or name.lower(), address
        for path in (Path(url.path), file.parent / url.path.lstrip("/")) if url.is_file else ():
            if path.is_absolute() and path.is_file():
                yield path.stem, Address(text=str(path))
                break


def list_urls(variables: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the variables whose value begins like the address of a database."""
    for name, value in variables.items():
        scheme, separator, _ = value.partition(":")
        engine = find_scheme(scheme.partition("+")[0].lower()) if separator else ""
        if engine and name.replace("-", "_").isidentifier():
            yield name, value
