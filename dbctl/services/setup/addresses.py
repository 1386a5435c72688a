"""Addresses as a configuration contains them: passwords are variables, whose values are in other files."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from dbctl.config.redaction import MASK, redact_text
from dbctl.errors.usage import UrlInvalidError
from dbctl.model import Secret, Struct
from dbctl.services.setup import env_file
from dbctl.url import ENGINES, SCHEMES, parse_url

#: The names of files with settings in the format of ``.env``.
ENV_FILE = re.compile(r"\.env(\..+)?|.+\.env")
#: The login and the password at the beginning of an address.
_LOGIN = re.compile(r"([A-Za-z][\w+]*://[^:@/?#]*:)(?P<password>.*)(?=@[^@]*$)")
_VARIABLE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")


class SecretFile(Struct, frozen=True, kw_only=True):
    """A file whose first line is a secret."""

    path: Path
    text: Secret | None = None  #: the content of a new file; None: the file exists


class Address(Struct, frozen=True, kw_only=True):
    """The address of a database for a configuration."""

    text: str  #: ``${NAME}`` is the name of a variable
    env_file: Path | None = None  #: the app's own file with the variables
    secrets: Mapping[str, SecretFile] = {}  #: by the names of their variables

    def fill(self) -> str:
        """Return the address with the values of its variables.

        Raises:
            UsageError: a variable is not set, or its file cannot be read.
            FileFailedError: the file of settings cannot be read.
        """
        variables = dict(env_file.read_variables(self.env_file)) if self.env_file else {}
        for name, secret in self.secrets.items():
            variables[name] = secret.text.reveal() if secret.text else env_file.read_secret(secret.path)
        return env_file.fill(self.text, variables)


def hide_password(
    address: Address, folder: Path, app: str, database: str, used_names: Collection[str]
) -> Address:
    """Return an address without a password in clear: a new file of ``folder`` contains it, which ``[secrets]`` names.

    Args:
        address: the address.
        folder: of the configuration.
        app: the name of the app, with which the name of the file begins.
        database: the name of the database.
        used_names: the names of other secrets of the configuration.
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
    file = SecretFile(path=folder / stem, text=secret)
    return Address(
        text=f"{begin}${{{name}}}{end}",
        env_file=address.env_file,
        secrets={**address.secrets, name: file},
    )


def list_env_addresses(file: Path) -> Iterator[tuple[str, Address]]:
    """Yield the addresses of databases in an environment file, with the name of each database.

    A file of SQLite must exist; its relative path begins in the folder of the environment file.
    """
    for name, value in env_file.read_variables(file).items():
        engine = SCHEMES.get(value.partition(":")[0].partition("+")[0].lower(), "")
        if not engine or ":" not in value or not name.replace("-", "_").isidentifier():
            continue
        text = value if _VARIABLE.search(value) else f"${{{name}}}"
        address = Address(text=text, env_file=file)
        try:
            url = parse_url(address.fill())
        except UrlInvalidError:
            continue
        if ENGINES[engine] == "server":
            yield Path(url.path).stem or name.lower(), address
        for path in (Path(url.path), file.parent / url.path.lstrip("/")) if url.is_file else ():
            if path.is_absolute() and path.is_file():
                yield path.stem, Address(text=str(path))
                break
