"""Values of settings: as JSON and numbers that every app reads alike, checked by a JSON Schema that a database holds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import isfinite
from typing import Any

from dbctl import interrupt

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
        with interrupt.within(SCHEMA_SECONDS):  # a pattern can take for ever
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
