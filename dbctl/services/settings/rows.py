"""Settings in rows, mapped by the profile: joined keys, typed values, checked by their schemas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import structs

from dbctl.engines.contract.database import AllOf, Condition, Readable, Where, Writable
from dbctl.errors.usage import SchemaMismatchError, ValueInvalidError
from dbctl.profiles.codecs import decode_text, read_boolean, read_text, read_time, text_or_none
from dbctl.profiles.model.base import list_names
from dbctl.profiles.model.settings import SettingFormat, Settings, StandardSetting
from dbctl.services.app.app import App
from dbctl.services.app.live_table import list_uncovered
from dbctl.services.app.row_writes import delete_exactly, require_added, update_exactly
from dbctl.services.app.user_table import User, open_users
from dbctl.services.app.validation import check_rule, truncate
from dbctl.services.settings.encodings import decode, encode
from dbctl.services.settings.store import Setting, SettingObject, SettingStore, declare_setting, find_key
from dbctl.services.settings.values import SettingTypes, parse_schema


class SettingRows(SettingStore):
    """The settings of one open database in rows, of the app or (with ``user``) of one user."""

    def __init__(
        self, app: App, db: Readable, section: Settings, user: User | SettingObject | None = None
    ) -> None:
        """Find the columns.

        Raises:
            SchemaMismatchError: the live schema lacks the table, a column, or the columns of every variant.
        """
        super().__init__(app, db, section, user)
        self._variant = self.live.select_variant(section.variant, lambda variant: [variant.type])
        if self._variant:
            self.standard = self._variant.standard
        key = self._variant.key if self._variant else section.key
        self._keys = [self.live.column(name) for name in list_names(key)]
        self._type = self.live.column(self._variant.type) if self._variant else None
        self._value = self.live.column(section.fields["value"])
        self.types = SettingTypes(section, self._variant)

    # Reading -------------------------------------------------------------------------------------------------

    def read(self, key: str | None = None) -> list[Setting]:
        if key is not None and (not key.isprintable() or key in self.section.excluded):
            return []
        types = [self._type] if self._type else []
        columns = list(dict.fromkeys([*self._keys, *types, *self._fields.values()]))
        where = self._owner_conditions() if key is None else self._row_conditions(key)
        rows = self.db.select(self.live.name, columns, where)
        users = self._read_updating_users()
        settings = [self._create_from_row(dict(zip(columns, row, strict=True)), users) for row in rows]
        settings = [setting for setting in settings if setting.key not in self.section.excluded]
        return sorted(settings, key=lambda setting: setting.key)

    def list_keys(self, prefix: str) -> list[str]:
        parts = zip(self._keys, prefix.split(".", 1) if len(self._keys) > 1 else [prefix], strict=False)
        where = [Condition(column, "starts", part) for column, part in parts if part]
        rows = self.db.select(self.live.name, self._keys, [*self._owner_conditions(), *where])
        keys = [*self.standard, *(".".join(map(read_text, row)) for row in rows)]
        return [key for key in keys if key not in self.section.excluded]

    def _row_conditions(self, key: str) -> list[Where]:
        parts = zip(self._keys, self._split_key(key), strict=True)
        return [*self._owner_conditions(), *(Condition(column, "=", part) for column, part in parts)]

    def _split_key(self, key: str) -> list[str]:
        """Split a key at its first dot if category and key are separate columns."""
        if len(self._keys) == 1:
            return [key]
        category, _, name = key.partition(".")
        return [category, name]

    def _read_updating_users(self) -> dict[object, str]:
        column = self._fields.get("updated_by")
        if column is None or self.app.core.users is None:
            return {}
        users = open_users(self.app, self.db)
        keys = [key for key in self.db.count_by(self.live.name, column) if key is not None]
        return {user.id: user.login for user in users.read([Condition(users.id, "in", keys)])} if keys else {}

    def _create_from_row(self, row: Mapping[str, object], users: Mapping[object, str]) -> Setting:
        values = {word: row.get(column) for word, column in self._fields.items()}
        key = ".".join(read_text(row[column]) for column in self._keys)
        standard = self.standard.get(key)
        declared = find_key(self.section, key)
        stored_type = str(row.get(self._type) or "string") if self._type else self._declared_type(key)
        kind = self.types.kind(stored_type)
        default = standard.value if standard else declared.default
        value, is_readable = self._read_value(key, row.get(self._value), kind)
        category = values.get("category", key.partition(".")[0] if "." in key else None)
        updated_by = values.get("updated_by")
        return Setting(
            key=key,
            category=text_or_none(category),
            value=value,
            type=stored_type,
            default=self.types.read(values["default"], kind) if "default" in values else default,
            public=None if values.get("public") is None else read_boolean(values["public"]),
            description=text_or_none(values.get("description")) or declared.description or None,
            updated_at=read_time(values.get("updated_at")),
            updated_by=None if updated_by is None else users.get(updated_by, f"(unknown: {updated_by})"),
            schema=parse_schema(values.get("schema") or self._standard_schema(standard) or declared.schema),
            read_only=not is_readable,
        )

    def _declared_type(self, key: str) -> str:
        """Return the type of a setting without a column for its type: that of the profile, or any value of the stored form."""
        return find_key(self.section, key).type or ("string" if self._form(key) == "text" else "json")

    def _form(self, key: str) -> SettingFormat:
        return find_key(self.section, key).stored or self.section.stored

    def _read_value(self, key: str, stored: object, kind: str) -> tuple[object, bool]:
        """Return a stored value, and whether dbctl can write its form."""
        form, stored = self._form(key), decode_text(stored)
        if form == "text" or stored is None or isinstance(stored, bytes):
            return self.types.read(stored, kind), True
        if isinstance(stored, dict | list):
            return stored, True
        try:
            value = decode(form, str(stored))
        except ValueError:
            return stored, False
        is_plain = form == "php" and isinstance(value, str)
        return (self.types.read(value, kind) if is_plain and kind != "json" else value), True

    def _standard_schema(self, standard: StandardSetting | None) -> str:
        """Return the shipped schema; empty before the migration that adds schemas."""
        return standard.schema if standard and "schema" in self._fields else ""

    # Values --------------------------------------------------------------------------------------------------

    @property
    def checked_columns(self) -> set[str]:
        """The columns that determine whether the app accepts a row."""
        return {*self._keys, self._value, self._type or self._value, self._fields.get("schema", self._value)}

    def check_row(self, row: Mapping[str, object]) -> None:
        """Refuse an invalid row of a file or a backup; the row may lack columns.

        Raises:
            ValueInvalidError: with the violated rule.
        """
        if any(row.get(column) is None for column in self._keys):
            return  # the constraints of the database decide
        setting = structs.replace(self._create_from_row(row, {}), read_only=False)
        check_rule("key", setting.key, self.section.rules.get("key"))
        standard, reason = self.standard.get(setting.key), ""
        if self._variant and setting.type not in self._variant.types:
            reason = f"the types of the app are {', '.join(self._variant.types)}"
        elif standard and setting.type != standard.type:
            reason = f"the app reads it as {standard.type}"
        if reason:
            name, value = f"the type of {setting.key}", ascii(truncate(setting.type))
            raise ValueInvalidError(name=name, value=value, reason=reason)
        if setting.value is None:
            return
        self.check(setting, setting.value)
        if schema := parse_schema(self._standard_schema(standard)):
            self.check(structs.replace(setting, schema=schema), setting.value)

    def create_setting(self, key: str, value: object) -> Setting:
        """Return a new setting; a standard setting has its standard type and schema."""
        check_rule("key", key, self.section.rules.get("key"))
        if key in self.section.excluded:
            raise ValueInvalidError(
                name="the key", value=repr(key), reason="its row is no setting of the app"
            )
        if not all(self._split_key(key)):
            raise ValueInvalidError(name="the key", value=repr(key), reason="its form is CATEGORY.KEY")
        if standard := self.standard.get(key):
            return Setting(
                key=key,
                value=value,
                type=standard.type,
                default=standard.value,
                schema=parse_schema(self._standard_schema(standard)),
                description=standard.description or None,
                public=standard.public,
            )
        kind = self.types.type_for(value) or self._declared_type(key)
        return declare_setting(self.section, key, value, kind)

    def parse(self, key: str, text: str, stored_type: str) -> object:
        value = super().parse(key, text, stored_type)
        is_plain = (
            self._form(key) == "php"
            and self.types.kind(stored_type) == "json"
            and not isinstance(value, list | dict)
        )
        return text if is_plain else value  # an app in PHP stores true and 5 as text

    def _parse_untyped(self, key: str, text: str) -> object:
        return self.parse(key, text, self._declared_type(key))

    def find_violation(self, setting: Setting, value: object) -> str:
        reason = super().find_violation(setting, value)
        if reason or self._form(setting.key) == "text" or setting.read_only:
            return reason
        if self._changes_form(setting, value):
            return "the stored value is a list or an object, and the profile declares no type for the key"
        try:
            self._encode(setting, value)
        except ValueError as error:
            return str(error)
        return ""

    def _changes_form(self, setting: Setting, value: object) -> bool:
        """Return whether a list or an object would become a text or a number, which the app cannot read as before."""
        is_declared = self._type is not None or bool(find_key(self.section, setting.key).type)
        return (
            not is_declared and isinstance(setting.value, list | dict) and not isinstance(value, list | dict)
        )

    def _encode(self, setting: Setting, value: object) -> str:
        """Return the stored text of a value; raises ValueError if its form cannot contain the value."""
        form, kind = self._form(setting.key), self.types.kind(setting.type)
        if form == "text" or (form == "php" and isinstance(value, bool | int | float)):
            return self.types.encode(value, "boolean" if isinstance(value, bool) else kind)
        return encode(form, value)

    # Writing -------------------------------------------------------------------------------------------------

    def _describe_form(self, setting: Setting) -> str:
        form, kind = self._form(setting.key), self.types.kind(setting.type)
        is_text = form == "text" or (form == "php" and kind != "json")
        return f"values as {kind if is_text else form}"

    def write(self, db: Writable, setting: Setting, value: object) -> None:
        values, stamps = self._encode_columns(setting, value), self._change_stamp(db)
        update_exactly(db, self.live.name, values, self._row_conditions(setting.key), 1, stamps=stamps)

    def add(self, db: Writable, key: str, value: object) -> None:
        """Add a setting; a standard setting gets all columns of its standard row."""
        setting, standard = self.create_setting(key, value), self.standard.get(key)
        values: dict[str, object] = dict(zip(self._keys, self._split_key(key), strict=True))
        if standard:
            other_values = {
                "schema": standard.schema or None,
                "description": standard.description or None,
                "public": standard.public,
                "default": self.types.encode(standard.value, self.types.kind(setting.type)),
            }
            values |= {
                column: self.live.encode(column, other_values[field])
                for field, column in self._fields.items()
                if field in other_values
            }
        if self.user:
            values[self.live.column(self.section.user)] = self.user.id
        if self._type:
            values[self._type] = setting.type
        if category := self._fields.get("category"):
            values.setdefault(category, key.partition(".")[0])
        values |= {**self._encode_columns(setting, value), **self._change_stamp(db)}
        if missing := list_uncovered(self.live.table, set(values)):
            missing_value = f"a value for {', '.join(missing)}"
            raise SchemaMismatchError(target=db.target, missing=missing_value, purpose="a new setting")
        db.insert(self.live.name, values)
        names = [*self._keys, *([self.live.column(self.section.user)] if self.user else [])]
        require_added(db, self.live.name, {name: values[name] for name in names})

    @property
    def metadata(self) -> Mapping[str, str]:
        """The columns of what the app stores about a setting besides its value, by field."""
        names = ("description", "schema", "public")
        return {name: self._fields[name] for name in names if name in self._fields}

    def write_metadata(self, db: Writable, key: str, values: Mapping[str, object]) -> None:
        """Store fields of ``metadata`` of an existing setting; the values are checked."""
        columns = self.metadata
        stored = {columns[name]: self.live.encode(columns[name], value) for name, value in values.items()}
        where, stamps = self._row_conditions(key), self._change_stamp(db)
        update_exactly(db, self.live.name, stored, where, 1, stamps=stamps)

    def _encode_columns(self, setting: Setting, value: object) -> dict[str, object]:
        return {self._value: self._encode(setting, value)}

    def where_removed(self, key: str) -> Sequence[Where]:
        return [AllOf(self._row_conditions(key))]

    def remove(self, db: Writable, key: str) -> None:
        delete_exactly(db, self.live.name, self._row_conditions(key), 1)
