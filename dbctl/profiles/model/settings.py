"""Sections about settings, and about the audit log of the app."""

# No `from __future__ import annotations`: msgspec would have to evaluate the strings at each start.
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec

from dbctl.profiles.model.base import (
    Alternatives,
    ColumnName,
    ColumnNames,
    Constant,
    DatabaseReference,
    Lookup,
    Rule,
    Section,
    SubjectColumn,
    TableName,
)

#: The type of a value.
SettingType = Literal["boolean", "integer", "float", "number", "string", "json"]

#: How values are stored: ``text``, as ``type``, ``true`` and ``false`` define; ``json``; ``yaml``: scalars and lists of scalars;
#: ``php``: plain text, and serialized arrays. A stored value in another form is shown as its text, and dbctl does not change it.
SettingFormat = Literal["text", "json", "yaml", "php"]


class SettingKey(Rule, frozen=True, kw_only=True):
    """The values of one setting; a text must also follow the rules."""

    type: SettingType | None = None  #: the type of the value, if no column has it
    stored: SettingFormat | None = None  #: how the value is stored, if not as the other values of the table
    schema: str = ""  #: the JSON Schema of the value, as text; used if its row has none
    default: Constant | None = None  #: the default of the app
    description: str = ""  #: the description of the setting


class StandardSetting(Section, frozen=True, kw_only=True):
    """A standard setting of the app: the values of a missing row."""

    value: Constant  #: the default
    type: str  #: the app's name of the type
    schema: str = ""  #: the JSON Schema of its value, as text; used if its row has none
    description: str = ""  #: the description of the setting
    public: bool = False  #: whether users without an account may read it


class SettingsVariant(Section, frozen=True, kw_only=True):
    """Key and types of settings in one variant of the schema; the first variant whose columns exist is used."""

    key: Alternatives  #: one column, or category and key, joined by a dot
    type: str  #: the column with the type of the value
    #: the type for each stored name of a type
    types: Mapping[str, SettingType]
    standard: Mapping[str, StandardSetting] = {}  #: by key


class SettingsRow(Section, frozen=True, kw_only=True):
    """Settings that are the columns of one row."""

    key: SubjectColumn  #: the key column
    value: int | str  #: the key of the row, also for a missing row
    types: Mapping[ColumnName, SettingType]  #: by column
    defaults: Mapping[str, Constant] = {}  #: by column, while the row does not exist


class Settings(Section, frozen=True, kw_only=True):
    """Settings of the app, of each user or of each object, as rows or as columns of one row."""

    #: ``system``: settings of the app; ``user``: of each user; ``object``: of each row of the table ``of``
    scope: Literal["system", "user", "object"]
    #: scope object: the table of the objects, such as projects, with their keys and names
    of: Lookup | None = None
    database: DatabaseReference = ""
    table: TableName  #: the table of settings
    #: scope user: the column with the user; scope object: the column with the key of the object
    user: ColumnName = ""
    key: ColumnName | list[str] | None = None  #: without variants
    #: the columns of a setting, by field: ``value`` and, if they exist, ``type``, ``schema``, ``description``, ``public``
    fields: Mapping[str, ColumnNames]
    #: the key and types of each variant of the schema, instead of ``key``
    variant: Sequence[SettingsVariant] = ()
    row: SettingsRow | None = None  #: instead of key, value and variants
    #: scope user: whether ``value`` is a JSON object in the user's row, whose keys are the settings
    object: bool = False
    open: bool = False  #: scope system: whether the app accepts new keys and works without any setting
    true: str = "true"  #: the stored text of a boolean
    false: str = "false"  #: the stored text of false
    rules: Mapping[str, Rule] = {}  #: rules for every ``key`` and every ``value``
    stored: SettingFormat = "text"  #: how values are stored, unless ``keys`` has another form
    #: types, schemas and rules of single settings, by key; ``*``: any text. The first entry that matches is used
    keys: Mapping[str, SettingKey] = {}
    #: keys of rows that are no settings, such as the version of the schema: dbctl neither lists nor changes them
    excluded: Sequence[str] = ()
    secret: Sequence[str] = ()  #: keys of secret settings; ``*``: any text
    cache: str = ""  #: how long a running app may use the old value


#: What the app's audit log stores of a change.
AuditField = Annotated[str, msgspec.Meta(pattern="^(at|user|username|action|resource|resource_id|details)$")]


class Audit(Section, frozen=True, kw_only=True):
    """The audit log of the app, in the database of the changed rows."""

    table: TableName  #: the table of the audit log
    fields: Mapping[AuditField, ColumnNames]  #: at, user, username, action, resource, resource_id, details
    actions: Mapping[str, str] = {}  #: dbctl's name of an action to the app's
