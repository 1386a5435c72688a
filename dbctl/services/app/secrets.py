"""Columns that are shown only with --secrets: hashes, tokens and keys, declared by the profile or detected."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from fnmatch import fnmatchcase
from functools import cache
from itertools import pairwise

import msgspec

from dbctl.config.secrets import MASK
from dbctl.engines.contract.database import Readable, Where, Writable
from dbctl.errors.base import DbctlError
from dbctl.model import JSON_ERRORS, Row
from dbctl.profiles.model.base import ColumnNames, ExpectedValue, list_names
from dbctl.profiles.model.settings import Settings
from dbctl.profiles.model.users import Users
from dbctl.services.app.app import App
from dbctl.services.app.live_table import find_column

#: Endings of the names of secret columns, if no profile declares them. Only columns of text, bytes and JSON are compared.
_ENDINGS = (
    r"(?:password|passwd|passphrase|secret|webhook_?url"
    r"|(?:(?:^|_)(?<!sync_)(?<!page_)(?<!job_)(?<!cursor_)|access|api|app|auth|bearer|bot|csrf|login|refresh|session|user)token"
    r"|(?:^|_)(?:pass(?:code)?|pwd|credentials?|otp|totp|salt|auth_?data|security_stamp|connection_string"
    r"|(?:api|private|access|secret|signing|encryption|enc|session|activation|recovery|auth|t?otp|tls|ssl|license|password|push)_?key"
    r"|(?:recovery|backup|access|share|invite|invitation|activation|confirmation|registration|verification|reset)_?code"
    r"|(?:activation|confirmation|registration|verification|reset)_hash))s?"
    r"(?:_(?:hash|hashed|digest|encrypted|crypt|value|salt|pem))?$"
)
#: Names of columns that are secret in a table of sign-ins, keys or cookies, and the words of the names of such tables.
_CARRIERS = frozenset(
    {"key", "key_hash", "hash", "hashed", "sid", "sess", "payload", "session_data", "value", "data"}
)
_CARRIER_TABLES = (
    r"(?:^|_)(?:tokens?|authtokens?|sessions?|credentials?|secrets?|cookies?|(?:api|access|auth)_?keys?"
    r"|two_?factors?|2fa|mfa|totp|authenticators?)$"
)
#: Columns of links that give access to those who have them, ``table.column``.
_LINK_COLUMNS = r"(?:^|_)(?:shares?\.(?:key|slug)|(?:(?:share|shared|public)_?links?|invit(?:e|ation)s?)\.(?:key|slug|code|hash))$"
_SECRET_IN_ANY_TABLE = frozenset({"cookie", "cookie_id", "hashed", "session_data"})
#: Columns whose values look random and are shown: keys of rows, digests of content, names and addresses.
_SHOWN_NAMES = (
    r"(?<!session)(?:^|_)(?:u?u?id|guid|by|public_?key|ref|name|title|file|path|ur[il]|link|href|hash|digest|checksum|etag|md5|sha\d*|fingerprint"
    r"|signature|version|commit|blob|image|thumb(?:nail)?|avatar|icon)s?$"
)
_ID_NAMES = r"(?<!session)(?:^|_)(?:u?u?id|guid)s?$"
_RANDOM = r"[\w+/=.-]{24,512}"
#: The smallest share of neighboring characters of another class (upper case, lower case, digit). Random text has about 0.6, text of words about 0.3.
RANDOM_SHARE = 0.42
#: Patterns of service keys, by issuer; each has a known prefix.
KEY_FORMS: Mapping[str, str] = {
    "API key (OpenAI, Anthropic and others)": r"sk-[\w-]{16,}",
    "Stripe key": r"[sr]k_live_[\w-]{16,}",
    "GitHub token": r"(?:gh[pousr]_|github_pat_)[\w-]{16,}",
    "GitLab token": r"glpat-[\w-]{16,}",
    "Slack token": r"xox[abprs]-[\w-]{16,}",
    "AWS access key": r"AKIA[\w-]{16,}",
    "Google API key": r"AIza[\w-]{16,}",
    "JSON Web Token": r"eyJ[\w-]{8,}\.eyJ[\w-]+\.[\w-]*",
    "private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*",
}
#: Values that are secret in any column: password hashes, signed tokens, service keys, private keys.
SECRET_VALUES = (
    r"\$(?:1|2[abxy]?|5|6|7|y|P|H|wp|apr1|argon2(?:id|i|d)|scrypt|pbkdf2[\w-]*)\$\S{16,}"
    r"|(?:pbkdf2_\w+|bcrypt(?:_sha256)?|argon2|scrypt|md5|sha1)\$\S{16,}"
    r"|(?:scrypt|pbkdf2):\S{16,}"
    r"|\{(?:SSHA|SHA|CRYPT|PBKDF2)[\w-]*\}\S+|" + "|".join(KEY_FORMS.values())
)
#: An address with a password.
_ADDRESS = r"(?i)[a-z][a-z\d+.-]*://[^\s/?#@:]*:(?P<password>[^\s/?#@]+)@\S+"
#: Names of members of JSON documents that are secret in addition to ``_ENDINGS``.
_SECRET_MEMBERS = frozenset({"authorization", "cookie", "set_cookie", "csrf"})
#: Texts in place of a secret: masks, types, and references to another place.
_PLACEHOLDERS = r"(?i)\s*|[*•x.-]+|none|null|true|false|string|text|hidden|redacted|<.*>|\[.*\]|=?\{\{.*\}\}|\$\{.*\}|\$[A-Z_]+"
#: Rows whose values are examined.
SAMPLE_ROWS = 10
_TEXT = r"CHAR|TEXT|CLOB|BLOB|BINARY|BYTEA|STRING|JSON|^$"
_CAMEL = r"(?<=[a-z0-9])(?=[A-Z])"
_SEPARATORS = r"[^a-z0-9]+"


def mask(row: Row, columns: Collection[str]) -> Row:
    """Return a row in which ``MASK`` replaces each value of ``columns``."""
    return {name: MASK if name in columns and value is not None else value for name, value in row.items()}


def has_secret_name(column: str) -> bool:
    """Return whether columns with such a name usually hold secrets."""
    return re.search(_ENDINGS, re.sub(_CAMEL, "_", column).lower()) is not None


@cache  # commands read the names of a schema several times, and the patterns are long
def is_secret_column(table: str, column: str) -> bool:
    """Return whether a column of text holds secrets by its name, or by its name and that of its table."""
    name = re.sub(_CAMEL, "_", column).lower()
    if has_secret_name(column) or name in _SECRET_IN_ANY_TABLE:
        return True
    table_name = re.sub(_CAMEL, "_", table).lower()
    if re.search(_LINK_COLUMNS, f"{table_name}.{name}"):
        return True
    return name in _CARRIERS and re.search(_CARRIER_TABLES, table_name) is not None


def find_secret_columns(
    app: App, database: str, db: Readable, tables: Collection[str] | None = None
) -> dict[str, list[str]]:
    """Return the columns of one database that hold secrets, by table or view.

    A generated column is secret if its expression names a secret column. A column of a view is secret if it depends on a secret column, also through other views, or if the view reads a secret
    column and its lineage cannot be determined. ``tables`` are those whose values are sampled with ``guess_secrets``; None: all.
    """
    secret_columns = {
        name: columns
        for name in db.tables()
        if (columns := find_table_secrets(app, database, db, name, sampled=tables is None or name in tables))
    }
    for view, columns in _find_view_columns(db, secret_columns).items():
        secret_columns[view] = list(dict.fromkeys([*secret_columns.get(view, ()), *columns]))
    return secret_columns


def mask_results(
    app: App, database: str, db: Readable, sql: str, rows: Sequence[tuple[object, ...]]
) -> Sequence[tuple[object, ...]]:
    """Return the rows of a query of the profile, with ``MASK`` in place of values that depend on secret columns.

    All values are masked if the query names a table with secrets, and its lineage cannot be determined.
    """
    if not rows:
        return rows
    secret_columns = find_secret_columns(app, database, db, list_named_tables(db, sql))
    columns = [str(position) for position in range(len(rows[0]))]
    secret = _find_derived_columns(db, secret_columns, {"": sql}, {"": columns}).get("", ())
    return [tuple(mask(dict(zip(columns, row, strict=True)), secret).values()) for row in rows]


def list_named_tables(db: Readable, sql: str) -> Collection[str]:
    """Return the tables that a statement names; all tables if it names a view, which may read any."""
    from dbctl.engines.parsing.lineage import list_words

    words = list_words(sql)
    named_tables = [table for table in db.tables().values() if words.issuperset(list_words(table.name))]
    return (
        list(db.tables())
        if any(table.is_view for table in named_tables)
        else [table.name for table in named_tables]
    )


def find_table_secrets(
    app: App, database: str, db: Readable, table: str, *, sampled: bool = False
) -> list[str]:
    """Return the columns of a table that hold secrets by the profile, by their names or, if ``sampled``, by values of some rows."""
    live = db.tables()[table]
    declared = (names for name, names in _profile_columns(app, database) if name == table)
    columns = [column for names in declared if (column := find_column(live, names))]
    if app.database(database).guess_secrets:
        texts = [item.name for item in live.columns.values() if re.search(_TEXT, item.type.upper())]
        columns += [name for name in texts if is_secret_column(table, name)]
        others = [name for name in texts if name not in columns]
        if others and sampled:
            try:
                # after an error, a transaction continues only behind a savepoint
                with db.transaction() if isinstance(db, Writable) else nullcontext():
                    columns += find_secret_values(db, table, others)
            except DbctlError:  # a locked table may be readable later
                columns += others
    columns = list(dict.fromkeys(columns))
    return [*columns, *_list_generated_columns(db, table, columns)]


def list_row_secrets(
    app: App,
    database: str,
    find_columns: Callable[[str], Collection[str]],
    find_keys: Callable[[str], Collection[str]],
    table: str,
    row: Mapping[str, object],
) -> Collection[str]:
    """Return the secret columns of a row: those of its table, and those with a value in the form of a secret.

    The value of a setting is secret only if its key is.

    Args:
        app: the app.
        database: of the table.
        find_columns: returns the secret columns of a table, as ``find_table_secrets``.
        find_keys: returns the columns that identify its rows, as ``list_key_columns``.
        table: its name.
        row: the values of all its columns.
    """
    secret = {*find_columns(table), *(name for name, value in row.items() if is_secret_value(value))}
    if app.database(database).guess_secrets and (
        random := {name for name, value in row.items() if _is_random_value(name, value)}
    ):
        keys = find_keys(table)
        identifiers = [row[name] for name in keys if name in row]
        secret |= {name for name in random.difference(keys) if row[name] not in identifiers}
    for settings in app.core.settings:
        if settings.secret and settings.table == table and app.resolve_database(settings) == database:
            secret |= {name for name in row if settings.row and is_secret_setting(settings, name)}
            secret -= _list_public_values(settings, row)
    return secret - _list_other_tokens(app, database, table, row)


def find_setting_secrets(
    app: App, database: str, db: Readable, table: str, where: Sequence[Where], columns: Sequence[str]
) -> Sequence[str]:
    """Return those secret ``columns`` of a table that are secret in a row that meets conditions; only a table of settings is read."""
    settings = [item for item in app.core.settings if item.secret and item.table == table]
    if not any(app.resolve_database(item) == database for item in settings):
        return columns
    names, keys = list(db.tables()[table].columns), list_key_columns(db, table)
    secret = set[str]()
    for row in db.select(table, names, where):
        values = dict(zip(names, row, strict=True))
        secret |= {*list_row_secrets(app, database, lambda _: columns, lambda _: keys, table, values)}
    return [name for name in columns if name in secret]


def _list_other_tokens(app: App, database: str, table: str, row: Mapping[str, object]) -> set[str]:
    """Return the columns of tokens in a row that is neither a sign-in nor a second factor: its table also has rows of other kinds."""
    users = app.core.users
    if users is None or app.resolve_database(users) != database:
        return set()
    of_row, others = set[str](), set[str]()
    for place, names, only in _list_tokens(users):
        if place == table:
            (of_row if has_values(row, only) else others).update(list_names(names))
    return {
        column
        for column in others - of_row
        if f"{table}.{column}" not in app.database(database).secret and not is_secret_value(row.get(column))
    }


def has_values(row: Mapping[str, object], expected: Mapping[str, ExpectedValue]) -> bool:
    """Return whether a row has the expected values; a column that it lacks may have any."""
    return all(
        name not in row or str(row[name]) in map(str, value if isinstance(value, list) else [value])
        for name, value in expected.items()
    )


def _list_tokens(users: Users) -> Iterator[tuple[str, ColumnNames, Mapping[str, ExpectedValue]]]:
    """Yield the table, the column and the rows of the tokens of sign-ins, and of the secrets of second factors."""
    for sign_ins in users.signed_in:
        yield sign_ins.table.removesuffix("?"), sign_ins.token, sign_ins.only
    for factor in users.second_factor:
        if factor.secret:
            yield factor.table.removesuffix("?"), factor.secret, factor.only


def _list_public_values(settings: Settings, row: Mapping[str, object]) -> set[str]:
    """Return the column with the value of a setting that is not secret; empty if the row lacks the columns of a key."""
    forms = [list_names(form) for form in (settings.key, *(variant.key for variant in settings.variant))]
    keys = [".".join(str(row[name]) for name in form) for form in forms if form and {*form} <= row.keys()]
    if not keys or any(is_secret_setting(settings, key) for key in keys):
        return set()
    return {name for name in list_names(settings.fields["value"]) if not is_secret_value(row.get(name))}


def find_secret_values(db: Readable, table: str, columns: Sequence[str]) -> list[str]:
    """Return those of ``columns`` that have a value in the form of a secret in a sample of rows, or only random values.

    Raises:
        DbctlError: the table cannot be read.
    """
    samples = dict(
        zip(columns, zip(*db.select(table, columns, limit=SAMPLE_ROWS), strict=True), strict=False)
    )
    secret = [name for name, values in samples.items() if any(map(is_secret_value, values))]
    random = [
        name for name, values in samples.items() if name not in secret and _has_random_values(name, values)
    ]
    keys = list_key_columns(db, table) if random else ()
    rows = db.select(table, keys, limit=SAMPLE_ROWS) if keys else ()
    identifiers = {value for row in rows for value in row if isinstance(value, str)}
    random = [name for name in random if not identifiers.issuperset(filter(None, samples[name]))]
    return [*secret, *(name for name in random if name not in keys)]


def list_key_columns(db: Readable, table: str) -> list[str]:
    """Return the columns that identify rows: of the primary key and of foreign keys, and those named ``id``.

    Their random values are no secrets; without them, rows could not be found or restored.
    """
    keys = {column for reference in db.references(table) for column in reference.to}
    keys |= {
        column
        for parent in db.tables()
        for reference in db.references(parent)
        if reference.table == table
        for column in reference.columns
    }
    return [
        column.name
        for column in db.tables()[table].columns.values()
        if column.is_primary_key
        or column.name in keys
        or re.search(_ID_NAMES, re.sub(_CAMEL, "_", column.name).lower())
    ]


def _has_random_values(column: str, values: Sequence[object]) -> bool:
    stored = [value for value in values if value not in (None, "", b"")]
    return bool(stored) and all(_is_random_value(column, value) for value in stored)


def _is_random_value(column: str, value: object) -> bool:
    """Return whether a value looks like a random key of letters of both cases and digits.

    Hexadecimal text and UUIDs are not such values: most of them are keys of rows and digests of content.
    """
    text = value.decode(errors="replace") if isinstance(value, bytes) else value
    if not isinstance(text, str) or not re.fullmatch(_RANDOM, text):
        return False
    if re.search(_SHOWN_NAMES, re.sub(_CAMEL, "_", column).lower()):
        return False
    classes = [_class_of(character) for character in text]
    if not {"upper", "lower", "digit"} <= set(classes):
        return False
    changes = sum(left != right for left, right in pairwise(classes))
    return (
        changes / (len(classes) - 1) >= RANDOM_SHARE
        and text.count("/") + text.count(".") <= 2 + len(text) // 16
    )


def _class_of(character: str) -> str:
    if character.isdigit():
        return "digit"
    return "upper" if character.isupper() else "lower" if character.islower() else "other"


def is_secret_value(value: object) -> bool:
    """Return whether a value has the form of a secret, or is a JSON document with one."""
    text = value.decode(errors="replace") if isinstance(value, bytes) else value
    return isinstance(text, str) and (_has_secret_form(text.strip()) or _has_secret_member(text))


def _has_secret_form(text: str) -> bool:
    if re.fullmatch(SECRET_VALUES, text):
        return True
    address = re.fullmatch(_ADDRESS, text) if "://" in text else None
    return address is not None and not re.fullmatch(_PLACEHOLDERS, address["password"])


def _has_secret_member(text: str) -> bool:
    """Return whether a text is a JSON document with a text in the form of a secret, or with the name of one."""
    if not text.lstrip().startswith(("{", "[")):
        return False
    try:
        document = msgspec.json.decode(text)
    except JSON_ERRORS:
        return False
    members = [("", document)]
    for name, value in members:  # the list grows during the loop
        if isinstance(value, dict):
            members += value.items()
        elif isinstance(value, list):
            members += [(name, item) for item in value]
        elif isinstance(value, str) and (_has_secret_form(value) or _is_secret_member(name, value)):
            return True
    return False


def _is_secret_member(name: str, value: str) -> bool:
    word = re.sub(_SEPARATORS, "_", re.sub(_CAMEL, "_", name).lower())
    if word.endswith("tokens") or not (word in _SECRET_MEMBERS or re.search(_ENDINGS, word)):
        return False  # "tokens" are words in most documents
    is_label = re.sub(_SEPARATORS, "_", value.lower()) == word
    return not is_label and not re.fullmatch(_PLACEHOLDERS, value)


def _list_generated_columns(db: Readable, table: str, secret: Sequence[str]) -> list[str]:
    """Return the further columns of a table that are computed from secret ones."""
    live = db.tables().get(table)
    generated = (
        {column.name for column in live.columns.values() if column.is_generated and column.name not in secret}
        if live and secret
        else set()
    )
    if not (generated and db.schema_reader):
        return []
    expressions = {
        column.name: set(re.findall(r"\w+", column.generated.lower()))
        for described in db.schema_reader.schema().tables
        if described.name == table
        for column in described.columns
        if column.name in generated
    }
    columns, sources = list[str](), [name.lower() for name in secret]
    for source in sources:  # the list grows during the loop: a generated column may name another one
        words = set(re.findall(r"\w+", source))
        derived = [name for name in expressions if name not in columns and words <= expressions[name]]
        columns += derived
        sources += [name.lower() for name in derived]
    return columns


def _find_view_columns(db: Readable, secret_columns: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return the columns of views that depend on secret columns of tables."""
    if not (secret_columns and db.streams and any(table.is_view for table in db.tables().values())):
        return {}
    return _find_derived_columns(db, secret_columns, db.streams.view_queries())


def _find_derived_columns(
    db: Readable,
    secret_columns: Mapping[str, Sequence[str]],
    queries: Mapping[str, str],
    results: Mapping[str, Collection[str]] = {},
) -> dict[str, list[str]]:
    """Return the columns of views and of other queries, whose ``results`` are named, that depend on secret columns."""
    from dbctl.engines.parsing import lineage

    queries = lineage.find_dependent_views(queries, secret_columns)
    if not (queries and db.streams):
        return {}
    tables = {name: [*table.columns] for name, table in db.tables().items()} | {**results}
    secret = {
        (table.lower(), column.lower()) for table, columns in secret_columns.items() for column in columns
    }
    views = dict[str, list[str]]()
    for view, columns in lineage.trace_sources(queries, tables, db.streams.sql_dialect).items():
        derived = [
            column for column, sources in columns.items() if sources is None or not secret.isdisjoint(sources)
        ]
        if derived:
            views[view] = derived
    return views


def _profile_columns(app: App, database: str) -> Iterator[tuple[str, ColumnNames]]:
    for column_path in app.database(database).secret:
        table, _, column = column_path.rpartition(".")
        yield table, column
    users = app.core.users
    if users and app.resolve_database(users) == database:
        if users.password:
            for name in users.password.columns:
                yield users.table, name
            if key := users.password.hmac_key:
                yield key.table, key.column
        for table, names, _ in _list_tokens(users):
            yield table, names
    for settings in app.core.settings:
        if settings.secret and app.resolve_database(settings) == database:
            yield settings.table, settings.fields["value"]


def is_secret_setting(settings: Settings, key: str) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in settings.secret)
