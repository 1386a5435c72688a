"""Types of settings: the app's words for them, and what text and value each means by the other."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from dbctl.errors import ValueInvalidError
from dbctl.profiles.model import Settings, SettingsShape
from dbctl.services.setting_values import load_json, number

#: How a person may write a boolean. The app itself reads fewer words: ``SettingTypes.read``.
TRUE, FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")
LARGEST_WHOLE = 2**53  #: above it, floating-point numbers leave whole ones out
#: What a value that is no text yet is, in the words of a profile's types; the first that a shape knows counts.
KINDS: Mapping[type, Sequence[str]] = {
    bool: ("boolean",),
    int: ("integer", "number", "float"),
    float: ("float", "number"),
    str: ("string",),
}
#: What a value of each kind is, where JSON does not leave that open.
TAKEN: Mapping[str, tuple[type, ...]] = {
    "boolean": (bool,),
    "integer": (int,),
    "float": (int, float),
    "number": (int, float),
    "string": (str,),
}


class SettingTypes:
    """The types that the settings of one table have."""

    def __init__(self, told: Settings, shape: SettingsShape | None) -> None:
        """Take what the profile says of the table; without a shape every value is text."""
        self._shape, self._true, self._false = shape, told.true, told.false

    def kind(self, stored_type: str) -> str:
        """Return what a stored word for a type means."""
        return self._shape.types.get(stored_type, "string") if self._shape else "string"

    def typed(self, text: str, kind: str) -> object:
        """Return the value that a person's ``text`` means.

        Raises:
            ValueError: it means none of that kind.
        """
        if kind == "boolean":
            if text.strip().lower() not in TRUE + FALSE:
                raise ValueError("it is neither true nor false")
            return text.strip().lower() in TRUE
        if kind in ("integer", "float", "number"):
            return number(text, whole=kind == "integer")
        if kind == "json":
            return load_json(text)
        return text

    def read(self, stored: object, kind: str) -> object:
        """Return the value that a stored text means to the app; the text itself where it means none of that kind."""
        if stored is None or isinstance(stored, bytes):  # bytes are no text, and so of no kind
            return stored
        text = str(stored)
        if kind == "boolean":
            return {
                self._true: True,
                "true": True,
                "1": True,
                self._false: False,
                "false": False,
                "0": False,
            }.get(text, text)
        try:
            return self.typed(text, kind)
        except ValueError:  # shown as it stands; ``settings validate`` reports it
            return stored

    def stored(self, value: object, kind: str) -> str:
        """Return the text that is stored for a typed value."""
        if kind == "boolean":
            return self._true if value else self._false
        if kind == "json":
            return json.dumps(value, ensure_ascii=False)
        if isinstance(value, float) and value.is_integer() and abs(value) <= LARGEST_WHOLE:
            value = int(value)  # 10.0 is the same number, but some apps read it as text
        return str(value)

    def word_for(self, value: object) -> str:
        """Return the stored word for the type of a new setting's value.

        Raises:
            ValueInvalidError: the app knows no such type.
        """
        if self._shape is None:
            return ""
        known = {kind: word for word, kind in self._shape.types.items()}
        for kind in KINDS.get(type(value), ("json",)):
            if kind in known:
                return known[kind]
        raise ValueInvalidError(
            what="the value", value=json.dumps(value), reason="the app has no type for it"
        )

    def takes(self, value: object, kind: str) -> bool:
        """Whether a value is of a kind; JSON is whatever it says."""
        if kind not in TAKEN:
            return True
        return isinstance(value, TAKEN[kind]) and (kind == "boolean" or not isinstance(value, bool))
