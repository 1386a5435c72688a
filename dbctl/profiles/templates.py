"""Values of new rows in a profile: generators (``:uuid4``), texts with fields of the user (``{username:lower}``), and the prefix of tables."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence

import msgspec

from dbctl.errors.usage import AmbiguousPrefixError
from dbctl.profiles.codecs import BASE_36_DIGITS, KEYS
from dbctl.profiles.model.profile import Profile

#: Generators of keys, by the name of their codec.
KEY_GENERATORS = {str(codec): generator for codec, generator in KEYS.items() if generator}

#: A field, alternatives to it, and a filter. Other text in braces, such as JSON, is not a placeholder.
PLACEHOLDER = r"\{([A-Za-z_][\w.]*(?:,[A-Za-z_][\w.]*)*)(?::([a-z]+))?\}"
FILTERS = ("lower", "slug", "local")
#: Constants with the values of ``LiveTable.encode_constants``.
NAMED = (":now", ":null")
#: The largest number of a column plus one: of all rows, or of those with the same value of another column, ``:next(role_id)``.
COUNTER = re.compile(r":next(?:\(([^()]+)\))?")
HEX_DIGITS = "0123456789abcdef"
ALPHANUMERIC = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#: Random texts of a length: ``:hex-32``.
ALPHABETS = {
    "hex": HEX_DIGITS,
    "base36": BASE_36_DIGITS,
    "alphanumeric": ALPHANUMERIC,
    "base64url": f"{ALPHANUMERIC}-_",
}
MAX_LENGTH = 512


def create_value(value: object) -> object:
    """Return a new key or random text for a generator, and any other value unchanged."""
    if not isinstance(value, str) or find_generator_problem(value) or not is_generator(value):
        return value
    if key := KEY_GENERATORS.get(value[1:]):
        return key()
    import secrets

    alphabet, _, length = value[1:].partition("-")
    return "".join(secrets.choice(ALPHABETS[alphabet]) for _ in range(int(length)))


def find_generator_problem(value: object) -> str:
    """Return why a value looks like a generator, but is none; empty: it is a generator or a constant."""
    if not is_generator(value):
        return ""
    name = str(value)[1:]
    alphabet, _, length = name.partition("-")
    is_length = re.fullmatch("[1-9][0-9]{0,2}", length) and int(length) <= MAX_LENGTH
    if name in KEY_GENERATORS or (alphabet in ALPHABETS and is_length):
        return ""
    known = [*(f":{codec}" for codec in KEY_GENERATORS), *(f":{name}-N" for name in ALPHABETS)]
    return f"no generator {value}; known: {', '.join([*NAMED, *known])}"


def is_generator(value: object) -> bool:
    """Return whether a value looks like a generator."""
    return (
        isinstance(value, str)
        and re.fullmatch(r":[a-z][\w-]*(\([^()]*\))?", value) is not None
        and value not in NAMED
    )


def list_fields(value: object) -> Iterator[str]:
    """Yield the names in the placeholders of a value."""
    for names, _ in re.findall(PLACEHOLDER, value) if isinstance(value, str) else ():
        yield from names.split(",")


def find_filter_problem(value: object) -> str:
    """Return the first unknown filter of a value; empty: it has none."""
    filters = [name for _, name in re.findall(PLACEHOLDER, value)] if isinstance(value, str) else []
    unknown = [name for name in filters if name and name not in FILTERS]
    return f"no filter {unknown[0]!r}; known: {', '.join(FILTERS)}" if unknown else ""


def fill(value: object, fields: Mapping[str, object]) -> object:
    """Return a value with the fields in its placeholders.

    A value that is a single placeholder keeps the type of the field, and is None if no field has a value; in other texts a
    missing field is empty, with the space after it.
    """
    if not isinstance(value, str):
        return value
    if (whole := re.fullmatch(PLACEHOLDER, value)) and not whole[2]:
        return _first(whole[1], fields)
    if whole and _first(whole[1], fields) is None:
        return None
    return re.sub(f"{PLACEHOLDER}( ?)", lambda match: _write(match, fields), value)


def _write(match: re.Match[str], fields: Mapping[str, object]) -> str:
    text = _filter(_first(match[1], fields), match[2])
    return f"{text}{match[3]}" if text else ""


def _first(names: str, fields: Mapping[str, object]) -> object:
    values = (fields.get(name) for name in names.split(","))
    return next((value for value in values if value not in (None, "")), None)


def _filter(value: object, name: str | None) -> str:
    text = "" if value is None else str(value)
    return filter_text(text, name) if name else text


def filter_text(text: str, name: str) -> str:
    """Return a text changed by a filter of ``FILTERS``: ``lower``; ``slug``; ``local``: the part before the ``@`` of an address."""
    if name == "lower":
        return text.lower()
    return slugify(text) if name == "slug" else text.rpartition("@")[0] or text


def slugify(text: str) -> str:
    """Return a text as part of a URL: ASCII letters in lower case, digits, and hyphens for all other characters."""
    from unicodedata import normalize

    ascii_text = normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", ascii_text.lower()).strip("-")


#: A prefix; it is part of SQL.
PREFIX = r"[A-Za-z0-9_]{0,64}"


def change_prefix(profile: Profile, prefix: str) -> Profile:
    """Return a profile with another prefix, in all names and texts: apps also use it in the names of roles and settings."""
    if prefix == profile.prefix:
        return profile
    text = msgspec.json.encode(profile).decode()
    pattern = rf"(?<![A-Za-z0-9_]){re.escape(profile.prefix)}"
    return msgspec.json.decode(re.sub(pattern, prefix, text), type=type(profile))


def find_prefixes(profile: Profile, database: str, tables: Collection[str]) -> list[str]:
    """Return the prefixes with which ``tables`` contain those that identify a database, in any variant of the profile.

    They are sorted; the prefix of the profile is the only one if it is among them. A profile without a prefix has no other.
    """
    from dbctl.profiles.variants import list_versions

    prefixes = {
        prefix
        for version in list_versions(profile)
        for prefix in _find_prefixes(profile.prefix, version.databases[database].needs, tables)
    }
    return [profile.prefix] if profile.prefix in prefixes else sorted(prefixes)


def detect_prefix(profile: Profile, tables: Collection[str], app: str) -> str:
    """Return the prefix of the tables of the main database; that of the profile if it has no tables of the app.

    Raises:
        AmbiguousPrefixError: the database has the tables with several prefixes.
    """
    prefixes = find_prefixes(profile, profile.main_database, tables)
    if len(prefixes) > 1:
        raise AmbiguousPrefixError(app=app, prefixes=", ".join(map(repr, prefixes)))
    return prefixes[0] if prefixes else profile.prefix


def _find_prefixes(prefix: str, needs: Sequence[str], tables: Collection[str]) -> Iterator[str]:
    """Yield the prefixes with which ``tables`` contain all of ``needs``, whose names have ``prefix``."""
    stems = [need.removeprefix(prefix) for need in needs]
    candidates = {prefix}
    if prefix and stems:
        candidates = {table.removesuffix(stems[0]) for table in tables if table.endswith(stems[0])}
    for candidate in candidates:
        if re.fullmatch(PREFIX, candidate) and all(f"{candidate}{stem}" in tables for stem in stems):
            yield candidate
