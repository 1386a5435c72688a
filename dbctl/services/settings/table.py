"""The app's settings as its profile maps them: keys joined, values typed, each checked by its own schema."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec import structs

from dbctl.engines.contract import AllOf, Condition, Readable, Where, Writable
from dbctl.errors import SchemaLacksError, SettingMissingError, ValueInvalidError
from dbctl.model import Row, Value, now
from dbctl.profiles import read_boolean, read_time
from dbctl.profiles.model import Settings, SettingsShape, StandardSetting
from dbctl.services.app import (
    MASK,
    App,
    Live,
    User,
    check_rule,
    cut,
    exactly,
    find_column,
    hint,
    is_secret,
    text_fault,
    users_beside,
)
from dbctl.services.app import text as as_text
from dbctl.services.settings.values import LONGEST_SHOWN, SettingTypes, against_schema, is_text, load_json


class Setting(Value, frozen=True, kw_only=True):
    """One setting. ``value`` is typed; a stored text that does not fit its type stays text."""

    key: str
    category: str | None = None
    value: object
    type: str
    default: object = None
    public: bool | None = None
    description: str | None = None
    updated_at: datetime | None = None
    updated_by: str | None = None
    schema: object = None  #: the JSON Schema that the app stores with it

    def brief(self) -> Row:
        words = ("key", "value", "type", "public", "updated_at", "updated_by")
        return {word: getattr(self, word) for word in words}


#: What there is in place of settings of the other scope.
INSTEAD = {
    "system": "It has some of the app: leave out --user.",
    "user": "It has some of each user: --user NAME.",
}


class SettingShown(Setting, frozen=True, kw_only=True):
    """Answer of ``settings get``: all that is known of it, in a table, too."""

    def brief(self) -> Row:
        return {}


class SettingTable:
    """The settings of one open database, of the app or (with ``user``) of one user."""

    def __init__(self, app: App, db: Readable, user: User | None = None) -> None:
        self.app, self.db, self.user = app, db, user
        scope, what, other = (
            ("user", "settings of users", "system") if user else ("system", "settings", "user")
        )
        instead = INSTEAD[other] if section(app, other) else ""
        found: Settings = app.ability(section(app, scope), what, instead=instead)
        self.told = found
        self.live = Live(app.profile, db, found.table, what)
        self.shape = self._shape()
        key = self.shape.key if self.shape else found.key
        self.keys = [self.live.get(one) for one in ([key] if isinstance(key, str) else key or [])]
        self.type = self.live.get(self.shape.type) if self.shape else None
        self.fields = {
            word: column for word, name in found.fields.items() if (column := self.live.find(name))
        }
        self.value = self.live.get(found.fields["value"])
        self.types = SettingTypes(found, self.shape)

    # Reading -------------------------------------------------------------------------------------------------

    def read(self, where: Sequence[Where] = ()) -> list[Setting]:
        """Return settings by key."""
        columns = list(
            dict.fromkeys([*self.keys, *([self.type] if self.type else []), *self.fields.values()])
        )
        rows = self.db.select(self.live.name, columns, [*self.mine(), *where])
        people = self._people()
        settings = [self._setting(dict(zip(columns, row, strict=True)), people) for row in rows]
        return sorted(settings, key=lambda one: one.key)

    def values(self) -> dict[str, object]:
        """Return key and value of each, secrets masked; the stored text where it cannot be parsed."""
        return {setting.key: self.shown(setting.key, setting.value) for setting in self.read()}

    def one(self, key: str) -> Setting:
        """Return one setting.

        Raises:
            SettingMissingError: there is none of that key; the hint names those that are near.
        """
        if key.isprintable():
            found = self.read([self.at(key)])
            if found:
                return found[0]
        known = [setting.key for setting in self.read()]
        raise SettingMissingError(key=key, target=self.db.target, near=hint(key, known))

    def mine(self) -> list[Where]:
        """Return the condition of the user's own rows; none where the settings are the app's."""
        return [Condition(self.live.get(self.told.user), "=", self.user.id)] if self.user else []

    def at(self, key: str) -> Where:
        """Return the condition of one key."""
        return AllOf(
            [Condition(column, "=", part) for column, part in zip(self.keys, self.split(key), strict=True)]
        )

    def split(self, key: str) -> list[str]:
        """Take a key apart as the table stores it: at its first dot, where category and key have columns of their own."""
        if len(self.keys) == 1:
            return [key]
        category, _, rest = key.partition(".")
        return [category, rest]

    # Values --------------------------------------------------------------------------------------------------

    def check(self, setting: Setting, value: object) -> None:
        """Refuse a value that the setting's type, its own schema or the app's rules do not take.

        Raises:
            ValueInvalidError: it says which rule.
        """
        reason = self.broken(setting, value)
        if value == MASK and is_secret(self.told, setting.key):
            reason = (
                "that stands for a secret which was not shown; export it with --secrets, or leave its key out"
            )
        if reason:
            shown = cut(json.dumps(self.shown(setting.key, value), default=str), LONGEST_SHOWN)
            raise ValueInvalidError(what=f"{setting.key} =", value=shown, reason=reason)

    @property
    def judged(self) -> set[str]:
        """The columns on which it depends whether a row is as the app takes it."""
        return {*self.keys, self.value, self.type or self.value, self.fields.get("schema", self.value)}

    def standard(self, key: str) -> StandardSetting | None:
        """Return what the app itself has a setting of that key for; None where it does not come with it."""
        return self.shape.standard.get(key) if self.shape else None

    def takes_new(self, key: str) -> bool:
        """Whether the app takes a setting of a key that is not there: any, or one that it comes with itself."""
        return self.told.open or self.standard(key) is not None

    def missing(self) -> list[str]:
        """Return the keys of settings that the app comes with and the table lacks."""
        if self.shape is None or not self.shape.standard:
            return []
        known = {".".join(str(part) for part in row) for row in self.db.select(self.live.name, self.keys)}
        return [key for key in self.shape.standard if key not in known]

    def check_row(self, row: Mapping[str, object]) -> None:
        """Refuse a row that the table may not hold, as a file or a backup has it; it may lack columns.

        Raises:
            ValueInvalidError: it says which rule.
        """
        if any(row.get(column) is None for column in self.keys):
            return  # the database decides
        setting = self._setting(row, {})
        check_rule("key", setting.key, self.told.rules.get("key"))
        if self.shape and setting.type not in self.shape.types:
            reason = f"the app knows the types {', '.join(self.shape.types)}"
            raise ValueInvalidError(
                what=f"the type of {setting.key}", value=ascii(cut(setting.type)), reason=reason
            )
        standard = self.standard(setting.key)
        if standard and setting.type != standard.type:
            reason = f"the app reads it as {standard.type}"
            raise ValueInvalidError(
                what=f"the type of {setting.key}", value=ascii(setting.type), reason=reason
            )
        if setting.value is None:
            return
        self.check(setting, setting.value)
        if schema := _schema(self._own_schema(standard)):
            self.check(structs.replace(setting, schema=schema), setting.value)

    def broken(self, setting: Setting, value: object) -> str:
        """Return why a setting may not have that value, or nothing."""
        if not self.types.takes(value, self.types.kind(setting.type)):
            return f"it is not of type {setting.type}"
        if not is_text(value):
            return "it holds half of a character pair, which is no text"
        if isinstance(setting.schema, str):
            return f"its own schema in {self.live.name} is no JSON"
        reason = against_schema(value, setting.schema) if setting.schema is not None else ""
        if not reason and isinstance(value, str):
            return setting_text_fault(self.told, setting.key, value)
        # what a schema says of a value repeats it
        return "its own schema refuses it" if reason and is_secret(self.told, setting.key) else reason

    def check_new(self, key: str, value: object) -> None:
        """Refuse a new setting whose key or value the app would not take; raises as ``check`` does."""
        check_rule("key", key, self.told.rules.get("key"))
        if not all(self.split(key)):
            raise ValueInvalidError(what="the key", value=repr(key), reason="it is written CATEGORY.KEY")
        self.check(self.new(key, value), value)

    def new(self, key: str, value: object) -> Setting:
        """Return a setting that is about to be added: one that the app comes with has the type and schema of then."""
        if standard := self.standard(key):
            schema = _schema(self._own_schema(standard))
            return Setting(
                key=key,
                value=value,
                type=standard.type,
                default=standard.value,
                schema=schema,
                description=standard.description or None,
                public=standard.public,
            )
        return Setting(key=key, value=value, type=self.types.word_for(value) or "string")

    def fresh(self, key: str, text: str) -> object:
        """Return the value that a person's ``text`` means for a setting that is not there yet.

        Raises:
            ValueInvalidError: it means none of the type that the app has for the key.
        """
        standard = self.standard(key)
        return self.typed(key, text, standard.type) if standard else text

    def typed(self, key: str, text: str, stored_type: str) -> object:
        """Return the value that a person's ``text`` means for a setting.

        Raises:
            ValueInvalidError: it means none of its type.
        """
        try:
            return self.types.typed(text, self.types.kind(stored_type))
        except ValueError as error:
            shown = MASK if is_secret(self.told, key) else repr(cut(text))
            raise ValueInvalidError(
                what=f"{key} =", value=shown, reason=f"{error} ({stored_type})"
            ) from error

    def shown(self, key: str, value: object) -> object:
        """Return a value as plans, records and answers may tell it: a secret is not told."""
        return MASK if value is not None and is_secret(self.told, key) else value

    def told_of(self, setting: Setting, *, secrets: bool = False) -> Setting:
        """Return a setting as an answer may tell it; its value is masked where it is a secret, unless they are asked for."""
        if secrets or not is_secret(self.told, setting.key):
            return setting
        value, default = (self.shown(setting.key, one) for one in (setting.value, setting.default))
        return structs.replace(setting, value=value, default=default)

    def whose(self) -> dict[str, object]:
        """Return the part of a record that says whose setting it was, where it was not the app's."""
        return {"user": self.user.login} if self.user else {}

    # Writing -------------------------------------------------------------------------------------------------

    def write(self, db: Writable, setting: Setting, value: object) -> None:
        """Store a value that ``check`` has accepted."""
        values = {self.value: self.types.stored(value, self.types.kind(setting.type)), **self._stamp(db)}
        exactly(db.update(self.live.name, values, [*self.mine(), self.at(setting.key)]), 1, db)

    def add(self, db: Writable, key: str, value: object) -> None:
        """Add a setting; one that the app comes with gets all that its row holds there."""
        setting, standard = self.new(key, value), self.standard(key)
        word = setting.type
        values: dict[str, object] = dict(zip(self.keys, self.split(key), strict=True))
        if standard:
            kind = self.types.kind(word)
            further = {
                "schema": standard.schema or None,
                "description": standard.description or None,
                "public": standard.public,
                "default": self.types.stored(standard.value, kind),
            }
            values |= {
                column: self.live.encode(column, further[field])
                for field, column in self.fields.items()
                if field in further
            }
        if self.user:
            values[self.live.get(self.told.user)] = self.user.id
        if self.type:
            values[self.type] = word
        category = self.fields.get("category")
        if category and category not in values:
            values[category] = key.partition(".")[0]
        values |= {
            self.value: self.types.stored(value, self.types.kind(word)),
            **self._stamp(db),
        }
        lacking = self.live.uncovered(set(values))
        if lacking:
            raise SchemaLacksError(
                target=db.target, what=f"a value for {', '.join(lacking)}", purpose="a new setting"
            )
        db.insert(self.live.name, values)

    def remove(self, db: Writable, key: str) -> None:
        """Remove a setting."""
        exactly(db.delete(self.live.name, [*self.mine(), self.at(key)]), 1, db)

    # Within ----------------------------------------------------------------------------------------------------

    def _stamp(self, db: Writable) -> dict[str, object]:
        """Return when a setting was changed, and by the user whom ``--acting-as`` names, or none."""
        values: dict[str, object] = {}
        if "updated_at" in self.fields:
            values[self.fields["updated_at"]] = self.live.encode(self.fields["updated_at"], now())
        if "updated_by" in self.fields:
            from dbctl.services.app import acting_user

            user = acting_user(self.app, db)
            values[self.fields["updated_by"]] = user.id if user else None
        return values

    def _shape(self) -> SettingsShape | None:
        for shape in self.told.shape:
            if find_column(self.live.table, shape.type):
                return shape
        if self.told.shape:
            types = " or ".join(shape.type for shape in self.told.shape)
            raise SchemaLacksError(
                target=self.db.target, what=f"column {self.live.name}.{types}", purpose="settings"
            )
        return None

    def _people(self) -> dict[object, str]:
        if "updated_by" not in self.fields or self.app.profile.users is None:
            return {}
        users = users_beside(self.app, self.db)
        keys = [key for key in self.db.tally(self.live.name, self.fields["updated_by"]) if key is not None]
        return {user.id: user.login for user in users.read([Condition(users.id, "in", keys)])} if keys else {}

    def _setting(self, row: Mapping[str, object], people: Mapping[object, str]) -> Setting:
        told = {word: row.get(column) for word, column in self.fields.items()}
        key = ".".join(str(row[column]) for column in self.keys)
        standard = self.standard(key)
        stored_type = str(row.get(self.type) or "string") if self.type else "string"
        kind = self.types.kind(stored_type)
        category = told.get("category", key.partition(".")[0] if "." in key else None)
        by = told.get("updated_by")
        return Setting(
            key=key,
            category=as_text(category),
            value=self.types.read(row.get(self.value), kind),
            type=stored_type,
            default=self._default(key, told, kind),
            public=None if told.get("public") is None else read_boolean(told["public"]),
            description=as_text(told.get("description")),
            updated_at=read_time(told.get("updated_at")),
            updated_by=None if by is None else people.get(by, f"(unknown: {by})"),
            schema=_schema(told.get("schema") or self._own_schema(standard)),
        )

    def _own_schema(self, standard: StandardSetting | None) -> str:
        """Return the schema with which the app comes; before the migration that stores schemas it knows of none."""
        return standard.schema if standard and "schema" in self.fields else ""

    def _default(self, key: str, told: Mapping[str, object], kind: str) -> object:
        if "default" in self.fields:
            return self.types.read(told.get("default"), kind)
        standard = self.standard(key)
        return standard.value if standard else None


def setting_text_fault(told: Settings, key: str, value: str) -> str:
    """Return why a setting may not hold a text by the rules of its table, or of its key; or nothing."""
    plain = value.replace("\n", " ").replace("\t", " ")
    reasons = (text_fault(plain, rule) for rule in (told.rules.get("value"), told.keys.get(key)))
    return next(filter(None, reasons), "")


def section(app: App, scope: str) -> Settings | None:
    """Return what the profile says of the settings of that scope."""
    return next((told for told in app.profile.settings if told.scope == scope), None)


def database_of(app: App, scope: str) -> str:
    """Return the database that holds the settings of that scope."""
    told = section(app, scope)
    return (told.database if told else "") or app.main()


def _schema(stored: object) -> object:
    """Return a stored JSON Schema; the text itself where it is no JSON."""
    if stored is None or stored == "":
        return None
    try:
        return load_json(str(stored))
    except ValueError:
        return str(stored)
