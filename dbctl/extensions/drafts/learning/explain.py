"""Explain the values of rows that an app added: as what was entered, as times, keys, random or constant values, or by other columns."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache, partial
from typing import Literal

from dbctl.engines.contract.database import Condition, Order
from dbctl.extensions.drafts import usual_names
from dbctl.extensions.drafts.document import Value
from dbctl.extensions.drafts.learning.scene import ChangedRow, Scene, decode_changes
from dbctl.model import Row, Struct, format_count, now
from dbctl.profiles.codecs import read_text, read_time
from dbctl.profiles.passwords import identify_format
from dbctl.profiles.templates import FILTERS, PLACEHOLDER, filter_text
from dbctl.services.app.evidence import references, subjects
from dbctl.services.app.evidence.gather import TableEvidence, add_samples
from dbctl.services.app.secrets import has_secret_name

#: What a value is; ``actor`` is the key of the user who acted in the app.
Kind = Literal[
    "null", "entered", "password", "time", "key", "random", "constant", "counter", "derived", "actor", "unexplained"
]  # fmt: skip
#: Kinds of values that a row of ``users.new`` or ``users.create`` can have.
WRITABLE = ("entered", "time", "key", "random", "constant", "derived")
#: Constants of apps that need no other row as evidence.
NEUTRAL = ("", "0", "false", "{}", "[]", "null")
#: The fewest characters of a text that is a part of another one, or of a key that occurs in another table, by no chance.
SHORTEST_PART, SHORTEST_KEY = 3, 16
#: Longer texts are no constants of a profile.
LONGEST_CONSTANT = 400
#: Formats with whole seconds store a time before the moment of the action.
_PRECISION = timedelta(seconds=1)


class Explanation(Struct, frozen=True, kw_only=True):
    """Why a column of an added row has its value."""

    kind: Kind
    value: Value | None = None  #: in the language of profiles; None: NULL, or the language cannot express it
    reason: str


class KnownRow(Struct, frozen=True, kw_only=True):
    """An added row to which other rows may refer."""

    table: str
    values: Row
    key: str  #: its primary key; empty without one column
    placeholder: str  #: of its columns: ``{table.column}``, and of the user ``{id}``

    @property
    def is_user(self) -> bool:
        return self.placeholder == "{id}"

    def find_target(self, table: TableEvidence, column: str, value: object) -> str:
        """Return the column to which a column of another table refers by its value, and a foreign key, its name, or a long text."""
        target = table.target(column)
        for name, own in self.values.items():
            if own is None or str(own) != str(value) or (self.is_user and name != self.key):
                continue
            is_long = isinstance(value, str) and len(value) >= SHORTEST_KEY and name == self.key
            is_named = name == self.key and self._is_named_after(table, column)
            if target == (self.table, name) or (target is None and (is_named or is_long)):
                return name
        return ""

    def _is_named_after(self, table: TableEvidence, column: str) -> bool:
        forms = {references.normalize(column), references.shorten(table, column)}
        is_user = self.is_user and any(map(references.USER_REFERENCE.search, forms))
        return is_user or f"{references.list_words(self.table)[-1]}_id" in forms


class Explainer:
    """The explanations of the added rows of one demonstration."""

    def __init__(self, scene: Scene, user: Row) -> None:
        """Collect what is known; ``user`` is the row of the new user after the action."""
        self._scene, users = scene, scene.users
        self._tables = dict[tuple[str, str], TableEvidence]()
        self._known: list[KnownRow] = []
        self._recorded_at = now()
        self._read_defaults = cache(partial(_read_defaults, scene))
        fields = {
            field: read_text(value)
            for field, column in scene.user_fields.items()
            if isinstance(value := user.get(column), str | bytes) and value and not read_time(value)
        }
        entered = [text for text in (scene.subject.login, scene.subject.email) if text]
        #: the texts of the user by field, those that were entered first
        self._texts = dict(sorted(fields.items(), key=lambda item: item[1] not in entered))
        self.add_known(scene.users_database, users.table, user, key=users.id.column, placeholder="{id}")

    def add_known(
        self, database: str, table: str, values: Row, *, key: str = "", placeholder: str = ""
    ) -> None:
        """Add a row to which the rows that are explained later may refer."""
        key = key or self.read_table(database, table).key
        self._known.append(
            KnownRow(
                table=table, values=values, key=key, placeholder=placeholder or f"{{{table}.{{column}}}}"
            )
        )

    def read_table(self, database: str, table: str) -> TableEvidence:
        """Return a table with rows of the state before the action, with all columns."""
        place = (database, table)
        if place not in self._tables:
            evidence = self._scene.evidence[database]
            columns = [*evidence.tables[table].columns]
            sampled = add_samples(self._scene.before[database], evidence, {table: columns})
            self._tables[place] = sampled.tables[table]
        return self._tables[place]

    # One value -----------------------------------------------------------------------------------------------------

    def explain(self, row: ChangedRow, column: str, *, position: int = 0, field: str = "") -> Explanation:
        """Return why a column of an added row has its value.

        ``position`` is that of the row among the added ones of its table, ``field`` a field of users that does not explain it.
        """
        table = self.read_table(row.database, row.table)
        value = (row.after or {})[column]
        if value is None:
            return Explanation(kind="null", reason="NULL")
        earlier = self._list_earlier(row, column, position)
        explanation = (
            self._explain_entered(value, field)
            or self._explain_password(value)
            or self._explain_time(row, table, column)
            or self._explain_reference(table, column, value)
            or self._explain_repeated(table, column, value, earlier)
            or self._explain_actor(table, column)
            or self._explain_random(table, column, value)
            or self._explain_constant(row, table, column, earlier)
            or self._explain_counter(row, table, column)
            or self._explain_part(value, field)
        )
        return explanation or Explanation(
            kind="unexplained",
            reason="no entered value, time, key, form or constant explains it"
            + self._describe_demonstrations(table, column, value, earlier),
        )

    def explain_row(
        self, row: ChangedRow, position: int = 0, covered: Collection[str] = ()
    ) -> Iterator[tuple[str, Explanation]]:
        """Yield the columns of an added row that have a value, except those that the database numbers."""
        table = self.read_table(row.database, row.table)
        for column, value in (row.after or {}).items():
            definition = table.columns[column]
            if column in covered or definition.is_generated or value is None:
                continue
            explanation = self.explain(row, column, position=position)
            is_numbered = (
                column == table.key and subjects.guess_key_codec(definition, [])[0] == "autoincrement"
            )
            if not is_numbered or explanation.kind == "key":  # a key that refers to the user is no new number
                yield column, explanation

    def _describe_demonstrations(
        self, table: TableEvidence, column: str, value: object, earlier: Sequence[object]
    ) -> str:
        """Return what earlier demonstrations show about an unexplained value, or what a second one would."""
        if earlier:  # equal values are a constant, or cannot be one
            is_equal = all(str(other) == str(value) for other in earlier)
            return "" if is_equal else "; it differs between demonstrations"
        if table.is_unique(column) or not self._create_constant(table, column, value, ""):
            return ""  # no second demonstration would make it a constant
        return "; a second demonstration, with another user, shows whether it is constant"

    def _list_earlier(self, row: ChangedRow, column: str, position: int) -> list[object]:
        """Return the values of the column in the corresponding rows of earlier demonstrations."""
        values = []
        for recording in self._scene.earlier:
            added = [other for other in decode_changes(recording.changes, row.table) if other.before is None]
            if position < len(added):
                values.append((added[position].after or {}).get(column))
        return values

    def _explain_entered(self, value: object, own: str) -> Explanation | None:
        """Explain the entered login, its forms, and the other texts of the user."""
        if not isinstance(value, str | bytes) or not value:
            return None
        stored, texts = read_text(value), {field: text for field, text in self._texts.items() if field != own}
        for field, text in texts.items():
            if stored == text:
                return Explanation(kind="entered", value=f"{{{field}}}", reason=f"the {field}")
        for field, text in texts.items():
            for name in FILTERS:
                if stored == filter_text(text, name):
                    return Explanation(
                        kind="entered", value=f"{{{field}:{name}}}", reason=f"the {field}, as {name}"
                    )
        return None

    def _explain_password(self, value: object) -> Explanation | None:
        if not isinstance(value, str | bytes):
            return None
        password, stored = self._scene.password, read_text(value)
        if password and stored == password.reveal():
            return Explanation(kind="password", reason="the password as it was entered")
        form = identify_format(stored)
        return Explanation(kind="password", reason=f"a hash of the format {form}") if form else None

    def _explain_time(self, row: ChangedRow, table: TableEvidence, column: str) -> Explanation | None:
        value = (row.after or {})[column]
        stored = table.values(column)
        time = read_time(value) if subjects.is_time(table.columns[column], [*stored, value]) else None
        if time and self._find_earliest(row, table) - _PRECISION <= time <= self._recorded_at:
            return Explanation(kind="time", value=":now", reason="the time of the action")
        return None

    def _find_earliest(self, row: ChangedRow, table: TableEvidence) -> datetime:
        """Return the latest time of the table before the action: the action was later."""
        columns = [
            name for name in row.after or {} if subjects.is_time(table.columns[name], table.values(name))
        ]
        times = (read_time(value) for name in columns for value in table.values(name))
        past = [time for time in times if time and time <= self._recorded_at]
        return max(past, default=self._recorded_at - timedelta(days=36_500))

    def _explain_reference(self, table: TableEvidence, column: str, value: object) -> Explanation | None:
        """Explain the key of an added row, to which the column refers by a foreign key, its name, or a long text."""
        for known in reversed(self._known):
            if name := known.find_target(table, column, value):
                placeholder = known.placeholder.replace("{column}", name)
                reason = f"the key of the new row of {known.table}"
                return Explanation(kind="key", value=placeholder, reason=reason)
        return None

    def refers(self, row: ChangedRow, other: ChangedRow) -> bool:
        """Return whether an added row refers to another one."""
        table = self.read_table(row.database, row.table)
        key = self.read_table(other.database, other.table).key
        known = KnownRow(table=other.table, values=other.after or {}, key=key, placeholder="")
        return any(known.find_target(table, column, value) for column, value in (row.after or {}).items())

    def _explain_repeated(
        self, table: TableEvidence, column: str, value: object, earlier: Sequence[object]
    ) -> Explanation | None:
        if not earlier or any(str(other) != str(value) for other in earlier):
            return None
        return self._create_constant(table, column, value, f"equal in {len(earlier) + 1} demonstrations")

    @staticmethod
    def _explain_actor(table: TableEvidence, column: str) -> Explanation | None:
        if usual_names.is_actor(table, column):
            return Explanation(kind="actor", reason="the key of the user who acted in the app")
        return None

    def _explain_random(self, table: TableEvidence, column: str, value: object) -> Explanation | None:
        stored = [read_text(other) for other in table.values(column)]
        if value in stored or len(set(stored)) < len(stored) or not isinstance(value, str | bytes):
            return None
        generator = subjects.guess_generator([read_text(value)])
        same = [text for text in stored if len(text) == len(read_text(value))]
        common = subjects.guess_generator([read_text(value), *same]) if 2 * len(same) >= len(stored) else ""
        return (
            Explanation(kind="random", value=common, reason="a random value")
            if generator and common
            else None
        )

    def _explain_constant(
        self, row: ChangedRow, table: TableEvidence, column: str, earlier: Sequence[object]
    ) -> Explanation | None:
        value, stored = (row.after or {})[column], table.values(column)
        if value != "" and any(str(other) != str(value) for other in earlier):
            return None
        same = sum(str(other) == str(value) for other in stored)
        if same and not table.is_unique(column):
            is_common = same > 1 or len(stored) == 1 or subjects.is_boolean(table.columns[column], stored)
            if is_common:
                counted = f"as in {same} of {format_count(len(table.rows), 'earlier row')}"
                return self._create_constant(table, column, value, counted)
        if str(value).lower() in NEUTRAL or subjects.is_boolean(table.columns[column], [*stored, value]):
            return self._create_constant(table, column, value, "an empty value")
        if self._read_default(row, column) == str(value):
            return self._create_constant(table, column, value, "the default of the column")
        return None

    def _create_constant(
        self, table: TableEvidence, column: str, value: object, reason: str
    ) -> Explanation | None:
        definition = table.columns[column]
        if subjects.is_boolean(definition, [value]) and not subjects.is_whole(definition):
            return Explanation(kind="constant", value=bool(value), reason=reason)
        if isinstance(value, bool | int):
            return Explanation(kind="constant", value=value, reason=reason)
        if isinstance(value, str | bytes):
            text = read_text(value)
            is_secret = has_secret_name(column) and bool(text)
            is_plain = (
                len(text) <= LONGEST_CONSTANT and text.isprintable() and not re.search(PLACEHOLDER, text)
            )
            if is_secret or not is_plain or text.startswith(":"):
                return None
            return Explanation(kind="constant", value=text, reason=reason)
        number = float(str(value))
        return Explanation(
            kind="constant", value=int(number) if number.is_integer() else number, reason=reason
        )

    def _read_default(self, row: ChangedRow, column: str) -> str | None:
        """Return the default of a column as a text without quotes; None: it has none."""
        default = self._read_defaults(row.database).get((row.table, column))
        return None if default is None else default.partition("::")[0].strip("'\"()")

    def _explain_counter(self, row: ChangedRow, table: TableEvidence, column: str) -> Explanation | None:
        """Explain the next number, of the rows with the same value of a reference, or of the table."""
        value = (row.after or {})[column]
        if isinstance(value, str | bytes | bool) or table.target(column):
            return None
        groups = [name for name in table.columns if name != column and table.target(name)]
        for group in (*groups, ""):
            if self._read_largest(row, column, group) + 1 == float(str(value)):
                counted = f"of the same {group}" if group else f"of {row.table}"
                return Explanation(
                    kind="counter",
                    value=f":next({group})" if group else ":next",
                    reason=f"the largest number {counted} plus one",
                )
        return None

    def _read_largest(self, row: ChangedRow, column: str, group: str) -> float:
        """Return the largest number before the action, or 0."""
        where = [Condition(group, "=", (row.after or {})[group])] if group else []
        db = self._scene.before[row.database]
        order = [Order([column], descending=True)]
        largest = db.select(row.table, [column], where, order_by=order, limit=1)
        return float(str(largest[0][0] or 0)) if largest else 0.0

    def _explain_part(self, value: object, own: str) -> Explanation | None:
        """Explain a text that contains the key or a text of the user."""
        if not isinstance(value, str) or re.search(PLACEHOLDER, value):
            return None
        user, match = self._known[0], usual_names.KEY_IN_NAME.search(value)
        if match and match[1] == str(user.values[user.key]):
            template = f"{value[: match.start(1)]}{user.placeholder}{value[match.end(1) :]}"
            return Explanation(kind="derived", value=template, reason="a text with the key of the user")
        texts = dict[str, str]()
        for field, text in self._texts.items():
            if field != own and len(text) >= SHORTEST_PART and text in value:
                texts.setdefault(text, field)
        if not texts:
            return None
        pattern = "|".join(re.escape(text) for text in sorted(texts, key=len, reverse=True))
        template = re.sub(pattern, lambda match: f"{{{texts[match[0]]}}}", value)
        return Explanation(
            kind="derived", value=template, reason=f"a text with the {', '.join(texts.values())}"
        )


def list_added(scene: Scene) -> Iterator[ChangedRow]:
    for row in scene.list_rows():
        if row.before is None:
            yield row


def summarize(explanations: Mapping[str, Explanation]) -> str:
    """Return the columns by what their values are, for the evidence of a line: ``random: fs_uniquifier; time: created``."""
    kinds = dict[str, list[str]]()
    for column, explanation in explanations.items():
        kinds.setdefault(explanation.kind, []).append(column)
    return "; ".join(f"{kind}: {', '.join(columns)}" for kind, columns in kinds.items())


def _read_defaults(scene: Scene, database: str) -> Mapping[tuple[str, str], str | None]:
    """Return the defaults of columns before the action, by table and column."""
    reader = scene.before[database].schema_reader
    return {
        (table.name, column.name): column.default
        for table in (reader.schema().tables if reader else ())
        for column in table.columns
    }
