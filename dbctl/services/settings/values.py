"""Types of settings: parse text, encode values, check JSON Schemas."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from dbctl import signals
from dbctl.errors.usage import ValueInvalidError
from dbctl.profiles.model.settings import Settings, SettingsVariant
from dbctl.services.app.validation import BOOLEAN_WORDS, reject_duplicate_keys

MAX_EXACT_INTEGER = 2**53  #: larger integers are not exact in floating point
MAX_LEVELS = 200  #: of lists and objects in a value
#: The types of a profile for each Python type; the first one that the variant has is used.
KINDS: Mapping[type, Sequence[str]] = {
    bool: ("boolean",),
    int: ("integer", "number", "float"),
    float: ("float", "number"),
    str: ("string",),
}
#: The Python types of each kind; kinds that are missing accept any value.
VALUE_TYPES: Mapping[str, tuple[type, ...]] = {
    "boolean": (bool,),
    "integer": (int,),
    "float": (int, float),
    "number": (int, float),
    "string": (str,),
}


class SettingTypes:
    """The types of the settings of one table."""

    def __init__(self, section: Settings, variant: SettingsVariant | None) -> None:
        """Read the types from the profile; without a variant each value is text."""
        self._variant, self._true, self._false = variant, section.true, section.false

    def kind(self, stored_type: str) -> str:
        """Return the kind of a stored type; a type that the app does not name is a kind of the profile."""
        types = self._variant.types if self._variant else {}
        return types.get(stored_type) or (stored_type if stored_type in (*VALUE_TYPES, "json") else "string")

    def parse(self, text: str, kind: str) -> object:
        """Return the value of a text.

        Raises:
            ValueError: the text is invalid for the kind.
        """
        if kind == "boolean":  # the app itself accepts fewer words, see ``read``
            if text.strip().lower() not in BOOLEAN_WORDS:
                raise ValueError("it is neither true nor false")
            return BOOLEAN_WORDS[text.strip().lower()]
        if kind in ("integer", "float", "number"):
            return parse_number(text, whole=kind == "integer")
        if kind == "json":
            return load_json(text) if self._variant else parse_any(text)
        return text

    def read(self, stored: object, kind: str) -> object:
        """Return the value of a stored text, or the text itself if it is invalid for the kind."""
        if stored is None or isinstance(stored, bytes):  # bytes have no kind
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
            return self.parse(text, kind)
        except ValueError:  # ``settings validate`` reports it
            return stored

    def encode(self, value: object, kind: str) -> str:
        """Return the stored text of a value."""
        if kind == "boolean":
            return self._true if value else self._false
        if kind == "json":
            import json

            return json.dumps(value, ensure_ascii=False)
        if isinstance(value, float) and value.is_integer() and abs(value) <= MAX_EXACT_INTEGER:
            value = int(value)  # some apps do not accept 10.0 for an integer
        return str(value)

    def type_for(self, value: object) -> str:
        """Return the stored type for the value of a new setting.

        Raises:
            ValueInvalidError: the app has no such type.
        """
        if self._variant is None:
            return ""
        import json

        known = {kind: stored_type for stored_type, kind in self._variant.types.items()}
        for kind in KINDS.get(type(value), ("json",)):
            if kind in known:
                return known[kind]
        raise ValueInvalidError(
            name="the value", value=json.dumps(value), reason="the app has no type for it"
        )

    def accepts(self, value: object, kind: str) -> bool:
        if kind not in VALUE_TYPES:
            return True
        return isinstance(value, VALUE_TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))


SCHEMA_TIMEOUT_SECONDS = 2.0  #: for one value
MAX_SHOWN_CHARACTERS = 60  #: of a refused value in a message
#: Numbers that every app accepts: no ``1_000``, ASCII digits only.
NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"


def load_json(text: str) -> object:
    """Return the value of a JSON text.

    Raises:
        ValueError: the text is not JSON, or apps parse it differently: duplicate keys, infinite numbers, deep nesting.
    """
    import json

    try:
        value = json.loads(
            text, parse_float=_finite, parse_constant=_finite, object_pairs_hook=reject_duplicate_keys
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(
            f"it is not JSON ({error.msg}, line {error.lineno}, column {error.colno})"
        ) from error
    if _is_deep(value):
        raise ValueError("it is nested too deeply")
    return value


def _is_deep(value: object) -> bool:
    """Return whether a value has more levels than functions that call themselves for each can compare and show."""
    level = [value]
    for _ in range(MAX_LEVELS):
        level = [
            item
            for entry in level
            if isinstance(entry, list | dict)
            for item in (entry.values() if isinstance(entry, dict) else entry)
        ]
    return bool(level)


def parse_schema(stored: object) -> object:
    """Return a stored JSON Schema, or the text itself if it is not JSON; None if there is none."""
    if stored is None or stored == "":
        return None
    try:
        return load_json(str(stored))
    except ValueError:
        return str(stored)


def parse_any(text: str) -> object:
    """Return the value of a typed text: JSON, or a bare word as text; raises ValueError for invalid JSON.

    A text that begins like JSON is never a bare word, so that a typing error is not stored as text.
    """
    try:
        return load_json(text)
    except ValueError:
        if text.lstrip()[:1] in ("{", "[", '"'):
            raise
        return text


def parse_number(text: str, *, whole: bool) -> int | float:
    """Return the number of a text.

    Raises:
        ValueError: the text is not a number, or the number cannot be stored.
    """
    text = text.strip()
    if not re.fullmatch(NUMBER, text) or (whole and not text.lstrip("+-").isdigit()):
        raise ValueError("it is not an integer" if whole else "it is not a number")
    if not text.lstrip("+-").isdigit():
        return _finite(text)
    try:
        return int(text)
    except ValueError:  # Python parses at most 4300 digits
        raise ValueError("the number cannot be stored") from None


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError("the number cannot be stored")
    return number


def is_encodable(value: object) -> bool:
    """Whether each text in a value can be encoded as UTF-8."""
    import json

    try:
        json.dumps(value, ensure_ascii=False, default=repr).encode()
    except UnicodeEncodeError:
        return False
    return True


def find_schema_error(schema: Any) -> str:
    """Return why a value is no JSON Schema, or an empty text."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return f"its schema is not a valid JSON Schema ({_shorten(error.message)})"
    return ""


def find_schema_violation(value: object, schema: Any) -> str:
    """Return why a value violates a JSON Schema, or why the schema is unusable; otherwise an empty text."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import ValidationError, best_match
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    if reason := find_schema_error(schema):
        return reason
    try:
        # An empty registry, so that a schema cannot make dbctl fetch a URL.
        # A regular expression may not terminate in reasonable time.
        with signals.time_limit(SCHEMA_TIMEOUT_SECONDS):
            violation: ValidationError | None = best_match(
                Draft202012Validator(schema, registry=Registry()).iter_errors(value)
            )
    except TimeoutError:
        return "its schema takes too long to check"
    except Unresolvable as error:
        return f"its schema refers to {error.ref!r}, which does not exist"
    except RecursionError:
        return "its schema refers to itself without end"
    return _shorten(violation.message) if violation else ""


def _shorten(message: str) -> str:
    """Return the start and the end of a message, which may contain a large value or schema."""
    if len(message) <= 3 * MAX_SHOWN_CHARACTERS:
        return message
    return f"{message[:MAX_SHOWN_CHARACTERS]}…{message[-MAX_SHOWN_CHARACTERS:]}"


def is_equal(left: object, right: object) -> bool:
    """Whether two values are equal for an app: 1 equals 1.0 but not true, at any depth."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(is_equal(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(is_equal, left, right))
    return left == right


def to_json(value: object) -> str:
    """Return a value as JSON for plans and messages."""
    import json

    return json.dumps(value, ensure_ascii=False, default=repr)
