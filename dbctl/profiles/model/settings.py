"""What a profile can say about settings, and about the app's own record of changes."""

# Without postponed annotations: msgspec reads them in every run, and text would have to be compiled each time.
from collections.abc import Mapping, Sequence
from typing import Literal

from dbctl.profiles.model.base import Constant, Name, Section
from dbctl.profiles.model.users import Rule


class StandardSetting(Section, frozen=True, kw_only=True):
    """A setting that the app itself comes with: what its row is added with where it is missing."""

    value: Constant  #: its default
    type: str  #: the app's word
    schema: str = ""  #: the JSON Schema of its value, as text; it counts where its row holds none
    description: str = ""
    public: bool = False


class SettingsShape(Section, frozen=True, kw_only=True):
    """One way in which deployments key and type their settings; the first whose columns exist counts."""

    key: Name  #: one column, or category and key, which a dot joins
    type: str
    types: Mapping[str, Literal["boolean", "integer", "float", "number", "string", "json"]]
    standard: Mapping[str, StandardSetting] = {}  #: by key


class SettingsRow(Section, frozen=True, kw_only=True):
    """Settings that are the columns of one row."""

    key: str  #: the column that tells rows apart
    value: int | str  #: that of the row; one that is missing gets it
    types: Mapping[str, Literal["boolean", "integer", "float", "number", "string", "json"]]  #: by column
    defaults: Mapping[str, Constant] = {}  #: by column; what the app does while there is no row


class Settings(Section, frozen=True, kw_only=True):
    """Settings as rows, or as columns of one row: of the whole app, or of each user."""

    scope: Literal["system", "user"]
    database: str = ""
    table: str
    user: str = ""  #: scope user: the column that names the user
    key: Name | None = None  #: where no shape says it
    fields: Mapping[str, Name]
    shape: Sequence[SettingsShape] = ()
    row: SettingsRow | None = None  #: in place of key, value and shape
    #: scope user: whether ``value`` is a JSON object in the user's own row, whose keys are the settings
    object: bool = False
    open: bool = (
        False  #: scope system: whether the app takes keys that are not there yet, and does without any
    )
    true: str = "true"  #: how a boolean is written
    false: str = "false"
    rules: Mapping[str, Rule] = {}  #: of every ``key`` and every ``value``
    keys: Mapping[str, Rule] = {}  #: of the values of single settings, by key
    secret: Sequence[str] = ()  #: keys of settings that are secrets; ``*`` stands for any text
    cache: str = ""  #: how long a running app may still see the old value


class Audit(Section, frozen=True, kw_only=True):
    """The app's own record of what was done, in the database of what it is about."""

    table: str
    fields: Mapping[str, Name]  #: at, user, username, action, resource, resource_id, details
    actions: Mapping[str, str] = {}  #: dbctl's word for what was done to the app's
