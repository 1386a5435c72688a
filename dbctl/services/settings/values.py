"""Types of settings: the app's words for them, and what text and value each means by the other."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from dbctl import signals
from dbctl.errors import ValueInvalidError
from dbctl.profiles.model import Settings, SettingsShape

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
            import json

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
        import json

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


SCHEMA_SECONDS = 2.0  #: for checking one value
LONGEST_SHOWN = 60  #: characters of a refused value in a message
#: Numbers as every app reads them: no ``1_000``, no digits of other scripts.
NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"


def load_json(text: str) -> object:
    """Return what JSON says.

    Raises:
        ValueError: it is not JSON, or says what apps read differently: a key twice, a number without end, deep nesting.
    """
    import json

    try:
        return json.loads(
            text, parse_float=_finite, parse_constant=_finite, object_pairs_hook=_with_single_keys
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is no JSON ({error.msg}, line {error.lineno}, column {error.colno})") from error


def _with_single_keys(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    read = dict(pairs)
    if len(read) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is there twice")
    return read


def number(text: str, *, whole: bool) -> int | float:
    """Return the number that a person's or a table's text means.

    Raises:
        ValueError: it means none, or none that can be stored.
    """
    text = text.strip()
    if not re.fullmatch(NUMBER, text) or (whole and not text.lstrip("+-").isdigit()):
        raise ValueError("it is no whole number" if whole else "it is no number")
    if not text.lstrip("+-").isdigit():
        return _finite(text)
    try:
        return int(text)
    except ValueError:  # Python reads no more than 4300 digits
        raise ValueError("it is no number that can be stored") from None


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError("it is no number that can be stored")
    return number


def is_text(value: object) -> bool:
    """Return whether every text in a value can be written as UTF-8."""
    import json

    try:
        json.dumps(value, ensure_ascii=False, default=repr).encode()
    except UnicodeEncodeError:
        return False
    return True


def against_schema(value: object, schema: Any) -> str:
    """Return why a value does not meet a JSON Schema, or why the schema cannot be used; else nothing."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError, ValidationError, best_match
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    try:
        Draft202012Validator.check_schema(schema)
        # An empty registry: a schema from a database must not make dbctl fetch anything.
        with signals.within(SCHEMA_SECONDS):  # a pattern can take for ever
            wrong: ValidationError | None = best_match(
                Draft202012Validator(schema, registry=Registry()).iter_errors(value)
            )
    except TimeoutError:
        return "its own schema takes too long to tell"
    except SchemaError as error:
        return f"its own schema is no JSON Schema ({_shortened(error.message)})"
    except Unresolvable as error:
        return f"its own schema refers to {error.ref!r}, which it does not hold"
    except RecursionError:
        return "its own schema refers to itself without end"
    return _shortened(wrong.message) if wrong else ""


def _shortened(message: str) -> str:
    """Return a message that may quote a whole value or schema: its beginning and its end."""
    if len(message) <= 3 * LONGEST_SHOWN:
        return message
    return f"{message[:LONGEST_SHOWN]}…{message[-LONGEST_SHOWN:]}"


def same(one: object, other: object) -> bool:
    """Return whether two values are the same to an app: 1 is 1.0 and is not true, at any depth."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def spelled(value: object) -> str:
    """Return a value as JSON, the one spelling for all types."""
    import json

    return json.dumps(value, ensure_ascii=False, default=repr)
