"""Find the hash of a known password among the values of a user: in each format, in joint columns, and after an HMAC."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, permutations, product
from unicodedata import normalize

from dbctl.engines.contract.database import Readable
from dbctl.extensions.drafts import usual_names
from dbctl.extensions.drafts.document import Value
from dbctl.extensions.drafts.learning.scene import Scene
from dbctl.model import Row, Secret, Struct, format_count
from dbctl.profiles.codecs import HashFormat, read_text
from dbctl.profiles.passwords import JOINT, compute_hmac, estimate_cost, identify_format, verify_password
from dbctl.services.app.evidence import references, subjects
from dbctl.services.app.evidence.gather import TableEvidence

#: Rows of a table in which a key of an HMAC is searched, and the number of texts that are tried.
MOST_ROWS, MOST_KEYS = 100, 200
#: Characters of a key.
SHORTEST_KEY, LONGEST_KEY = 8, 512
#: The most columns with parts of a hash before its last one.
MOST_PREFIXES = 2
#: Unicode normal forms, of which a password without letters beyond ASCII shows none.
_FORMS = ("", "NFC", "NFKC", "NFKD")


class StoredKey(Struct, frozen=True, kw_only=True):
    """A text of the database that is the key of an HMAC."""

    table: str
    column: str
    only: Mapping[str, Value]
    value: Secret

    def describe(self) -> dict[str, Value]:
        """Return the section of a profile."""
        return {"table": self.table, "column": self.column, **({"only": self.only} if self.only else {})}


class LearnedHash(Struct, frozen=True, kw_only=True):
    """Columns whose values together are a hash that verifies the password."""

    columns: Sequence[str]
    stored: str
    format: HashFormat
    normal_form: str = ""
    hmac_key: StoredKey | None = None
    has_pepper: bool = False  #: whether it is a hash of the password and the configured secret

    @property
    def column(self) -> str:
        """The column with the last part."""
        return self.columns[-1]

    @property
    def notes(self) -> Sequence[str]:
        if self.hmac_key is None:
            return []
        return [
            "the normal form of passwords before the HMAC is that of Flask-Security; an ASCII password does not show it"
        ]

    def describe(self) -> dict[str, Value]:
        """Return the keys of ``users.password`` except the formats."""
        section: dict[str, Value] = {"column": self.column}
        if len(self.columns) > 1:
            section["prefix_columns"] = list(self.columns[:-1])
        if self.has_pepper:
            section["pepper"] = True
        if self.hmac_key:
            section["hmac_key"] = self.hmac_key.describe()
        if form := self.normal_form or ("NFKD" if self.hmac_key else ""):
            section["normal_form"] = form
        return section


def find_hash(scene: Scene, user: Row, changed: Sequence[str], password: Secret) -> LearnedHash | None:
    """Return the hash among the values of a user, of which the last part is in one of the changed columns; None: none verifies."""
    candidates = list(_list_hashes(user, changed))
    for pepper, (columns, stored, form) in product(list_peppers(scene), candidates):
        for normal_form in _FORMS:
            text = normalize(normal_form, password.reveal()) if normal_form else password.reveal()  # type: ignore[arg-type]
            if normal_form and text == password.reveal():
                continue
            if _verify(Secret(text + pepper.reveal()), stored, form):
                return LearnedHash(
                    columns=columns,
                    stored=stored,
                    format=form,
                    normal_form=normal_form,
                    has_pepper=_has_pepper(scene, pepper),
                )
    for pepper, (columns, stored, form) in product(list_peppers(scene), candidates):
        text = normalize("NFKD", password.reveal()) + pepper.reveal()
        for key in _list_keys(scene):
            if _verify(compute_hmac(text, key.value), stored, form):
                has_pepper = _has_pepper(scene, pepper)
                return LearnedHash(
                    columns=columns, stored=stored, format=form, hmac_key=key, has_pepper=has_pepper
                )
    return None


def list_peppers(scene: Scene) -> list[Secret]:
    """Return what the app may append to passwords: nothing, or the configured secret."""
    return [Secret(""), *([scene.pepper] if scene.pepper and scene.pepper.reveal() else [])]


def _has_pepper(scene: Scene, pepper: Secret) -> bool:
    """Return whether a hash with this pepper shows one: an empty one shows nothing, and the profile remains."""
    section = scene.users.password
    is_empty = scene.pepper is not None and not scene.pepper.reveal()
    return bool(pepper.reveal()) or (is_empty and section is not None and section.pepper)


def is_password_hash(password: Secret, stored: str) -> bool:
    """Return whether a text is a hash of the password."""
    form = identify_format(stored)
    return form is not None and _verify(password, stored, form)


def describe_attempts(scene: Scene, user: Row, columns: Sequence[str]) -> str:
    """Return what was tried to verify the values of columns, without any value."""
    forms = {name: form for name in columns if (form := identify_format(read_text(user[name])))}
    known = ", ".join(f"{name} as {form}" for name, form in forms.items()) or "no known form of a hash"
    count = len(list(_list_keys(scene))) if forms else 0
    keys = f", and after an HMAC with {format_count(count, 'stored text')}" if count else ""
    pepper = ", with and without the configured pepper" if len(list_peppers(scene)) > 1 else ""
    return f"{known}, joined with other columns, and in each Unicode normal form{pepper}{keys}"


def _verify(password: Secret, stored: str, form: HashFormat) -> bool:
    return estimate_cost(stored).is_accepted and verify_password(password, stored, [form])


def _list_hashes(user: Row, changed: Sequence[str]) -> Iterator[tuple[Sequence[str], str, HashFormat]]:
    """Yield texts with the form of a hash, with their columns: single ones first."""
    texts = {
        name: read_text(value) for name, value in user.items() if isinstance(value, str | bytes) and value
    }
    for count in range(MOST_PREFIXES + 1):
        for name in changed:
            others = [other for other in texts if other != name]
            for prefix in permutations(others, count) if name in texts else ():
                columns = (*prefix, name)
                stored = JOINT.join(texts[column] for column in columns)
                if form := identify_format(stored):
                    yield columns, stored, form


def _list_keys(scene: Scene) -> Iterator[StoredKey]:
    """Yield the texts of small tables that may be the key of an HMAC, those with a usual name first."""
    db = scene.before[scene.users_database]
    tables = scene.evidence[scene.users_database].base_tables()
    keys = [key for table in tables if table.name != scene.users.table for key in _list_texts(db, table)]
    keys.sort(key=lambda key: not _is_named(key))
    yield from islice(keys, MOST_KEYS)


def _is_named(key: StoredKey) -> bool:
    names = [references.normalize(str(name)) for name in (key.column, *key.only.values())]
    return any(map(usual_names.PEPPER.search, names))


def _list_texts(db: Readable, table: TableEvidence) -> Iterator[StoredKey]:
    columns = [name for name, column in table.columns.items() if subjects.is_text(column)]
    rows = db.select(table.name, columns, limit=MOST_ROWS + 1) if columns else []
    for values in rows if len(rows) <= MOST_ROWS else ():
        row = dict(zip(columns, values, strict=True))
        key = row.get(table.key)
        for name, value in row.items():
            if isinstance(value, str) and name != table.key and SHORTEST_KEY <= len(value) <= LONGEST_KEY:
                only: dict[str, Value] = {table.key: key} if len(rows) > 1 and isinstance(key, str) else {}
                if only or len(rows) == 1:
                    yield StoredKey(table=table.name, column=name, only=only, value=Secret(value))
