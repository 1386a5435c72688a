"""Columns that are shown only with --secrets: hashes, tokens and keys, by the profile or by what they look like."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase

from dbctl.engines.contract import Readable, Streams
from dbctl.engines.parsing import lineage
from dbctl.errors import DbctlError
from dbctl.model import Row
from dbctl.profiles.model import Name, Settings
from dbctl.services.app.app import App
from dbctl.services.app.live_table import find_column

#: What stands in the place of a secret.
MASK = "***"


#: The last words of columns that hold secrets, where no profile declares any. Only columns of text and bytes count.
SECRET_NAMES = re.compile(
    r"(?:^|_)(?:pass(?:word|wd|phrase|code)?|pwd|secret|token|credentials?|otp|totp|salt|authdata"
    r"|(?:api|private|access|secret|signing|encryption|session|activation|recovery|auth)_?key"
    r"|(?:recovery|backup)_?codes?)s?"
    r"(?:_(?:hash|hashed|digest|encrypted|crypt|value|salt))?$"
)
#: Keys of services by what issues them; each form is known by how a key begins.
KEY_FORMS: Mapping[str, str] = {
    "API key (OpenAI, Anthropic and the like)": r"sk-[\w-]{16,}",
    "Stripe key": r"[sr]k_live_[\w-]{16,}",
    "GitHub token": r"(?:gh[pousr]_|github_pat_)[\w-]{16,}",
    "GitLab token": r"glpat-[\w-]{16,}",
    "Slack token": r"xox[abprs]-[\w-]{16,}",
    "AWS access key": r"AKIA[\w-]{16,}",
    "Google API key": r"AIza[\w-]{16,}",
    "JSON Web Token": r"eyJ[\w-]{8,}\.eyJ[\w-]+\.[\w-]*",
    "private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*",
}
#: Values that are secret wherever they are: hashes of passwords, signed tokens, keys of services, private keys.
SECRET_VALUES = re.compile(
    r"\$(?:1|2[abxy]?|5|6|7|y|P|H|wp|apr1|argon2(?:id|i|d)|scrypt|pbkdf2[\w-]*)\$\S{16,}"
    r"|(?:pbkdf2_\w+|bcrypt(?:_sha256)?|argon2|scrypt|md5|sha1)\$\S{16,}"
    r"|(?:scrypt|pbkdf2):\S{16,}"
    r"|\{(?:SSHA|SHA|CRYPT|PBKDF2)[\w-]*\}\S+|" + "|".join(KEY_FORMS.values())
)
#: Rows whose values are compared with ``SECRET_VALUES``.
SAMPLE_ROWS = 10
_TEXT = re.compile(r"CHAR|TEXT|CLOB|BLOB|BINARY|BYTEA|STRING|^$")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def mask(row: Row, columns: Collection[str]) -> Row:
    """Return a row with ``MASK`` in place of each value of ``columns``."""
    return {name: MASK if name in columns and value is not None else value for name, value in row.items()}


def hidden(
    app: App, database: str, db: Readable, tables: Collection[str] | None = None
) -> dict[str, list[str]]:
    """Return the columns of one database that hold secrets, by table or view.

    A column of a view is secret when it is made of a secret column, also through other views, or when the view reads
    one and its lineage cannot be determined.

    Args:
        app: the app.
        database: its name in the profile.
        db: the open database.
        tables: those whose values are sampled where the profile guesses; None: all.
    """
    found = _declared(app, database, db)
    guesses = app.database(database).guess_secrets
    if guesses:
        for table, columns in _guessed(db, tables).items():
            found[table] = list(dict.fromkeys([*found.get(table, ()), *columns]))
    for view, columns in _of_views(db, found).items():
        found[view] = list(dict.fromkeys([*found.get(view, ()), *columns]))
    return found


def _declared(app: App, database: str, db: Readable) -> dict[str, list[str]]:
    tables, found = db.tables(), dict[str, list[str]]()
    for table, name in _named(app, database):
        column = find_column(tables.get(table), name)
        if column and column not in found.get(table, ()):
            found.setdefault(table, []).append(column)
    return found


def _guessed(db: Readable, sampled: Collection[str] | None) -> dict[str, list[str]]:
    """Return the columns whose name or values look like secrets."""
    found = dict[str, list[str]]()
    for table in db.tables().values():
        texts = [column.name for column in table.columns.values() if _TEXT.search(column.type.upper())]
        secret = [name for name in texts if SECRET_NAMES.search(_CAMEL.sub("_", name).lower())]
        others = [name for name in texts if name not in secret]
        if others and (sampled is None or table.name in sampled):
            with suppress(DbctlError):  # a table that cannot be read shows nothing either
                rows = db.select(table.name, others, limit=SAMPLE_ROWS)
                secret += [
                    name for name, *values in zip(others, *rows, strict=True) if any(map(_is_secret, values))
                ]
        if secret:
            found[table.name] = secret
    return found


def _is_secret(value: object) -> bool:
    text = value.decode(errors="replace") if isinstance(value, bytes) else value
    return isinstance(text, str) and SECRET_VALUES.fullmatch(text.strip()) is not None


def _of_views(db: Readable, found: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return the columns of views that are made of those in ``found``."""
    tables = db.tables()
    if not (found and isinstance(db, Streams) and any(table.view for table in tables.values())):
        return {}
    queries = lineage.reaching(db.view_queries(), found)
    secret = {(table.lower(), column.lower()) for table, columns in found.items() for column in columns}
    views = dict[str, list[str]]()
    for view, columns in lineage.sources_of(queries, tables, db.sql_dialect).items() if queries else ():
        derived = [
            column for column, sources in columns.items() if sources is None or not secret.isdisjoint(sources)
        ]
        if derived:
            views[view] = derived
    return views


def _named(app: App, database: str) -> Iterator[tuple[str, Name]]:
    for place in app.database(database).secret:
        table, _, column = place.rpartition(".")
        yield table, column
    users = app.profile.users
    if users and (users.database or app.main()) == database:
        if users.password:
            yield users.table, users.password.column
        for told in users.signed_in:
            yield told.table.removesuffix("?"), told.token
    for settings in app.profile.settings:
        if settings.secret and (settings.database or app.main()) == database:
            yield settings.table, settings.fields["value"]


def is_secret(told: Settings, key: str) -> bool:
    """Whether a setting is one."""
    return any(fnmatchcase(key, pattern) for pattern in told.secret)
