"""Formats of stored values: JSON, simple YAML as Rails writes it, and PHP's serialization without objects.

A value in another form is shown as its text and is never written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence

from dbctl.profiles.model import SettingFormat
from dbctl.services.settings.values import load_json, parse_number

#: The beginning of serialized values; all other texts in an app with PHP are plain.
SERIALIZED = r"(?:[abdisOCE]:[0-9.+-]|N;)"
MAX_DEPTH = 64
#: Plain YAML scalars that need no quotes; dates and words with another meaning do.
YAML_PLAIN = r"[A-Za-z_][\w ./@+-]*"
YAML_WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}
#: The largest character with an escape of four digits; larger ones need none.
MAX_ESCAPED = 0xFFFF
YAML_RESERVED = ("yes", "no", "on", "off", "y", "n", *YAML_WORDS)


def decode(value_format: SettingFormat, text: str) -> object:
    """Return the value of a stored text.

    Raises:
        ValueError: the text is not in the format, or contains more than dbctl supports: tags of YAML, objects of PHP.
    """
    if value_format == "php":
        return text if not re.match(SERIALIZED, text) else _PhpReader(text).read()
    return _read_yaml(text) if value_format == "yaml" else load_json(text)


def encode(value_format: SettingFormat, value: object) -> str:
    """Return the stored text of a value.

    Raises:
        ValueError: the text would have another meaning for the app.
    """
    if value_format == "php":
        if isinstance(value, str) and re.match(SERIALIZED, value):
            raise ValueError("the app would read it as a serialized value")
        return _dump_php(value) if isinstance(value, list | dict) else str(value)
    return _dump_yaml(value) if value_format == "yaml" else json.dumps(value, ensure_ascii=False)


# YAML ---------------------------------------------------------------------------------------------------------------


def _read_yaml(text: str) -> object:
    """Return the value of a document: a scalar, or a list of scalars."""
    lines = text.removesuffix("\n").removesuffix("\n...").split("\n")
    first = re.fullmatch("---(?: (.*))?", lines[0])
    items = [re.fullmatch("- ?(.*)", line) for line in lines[1:]]
    if first is None or not all(items) or (items and first[1]):
        raise ValueError("it is not a scalar or a list of scalars in YAML")
    if items:
        return [_read_scalar(item[1]) for item in items if item]
    return (
        {"[]": [], "{}": {}}.get(first[1] or "") if first[1] in ("[]", "{}") else _read_scalar(first[1] or "")
    )


def _read_scalar(text: str) -> object:
    text = text.strip()
    if text.lower() in YAML_WORDS:
        return YAML_WORDS[text.lower()]
    if quoted := re.fullmatch("'((?:[^']|'')*)'", text):
        return quoted[1].replace("''", "'")
    if text.startswith('"'):
        return json.loads(text)  # an escape that JSON lacks is an error
    try:
        return parse_number(text, whole=not re.search("[.eE]", text))
    except ValueError:
        pass
    if not re.match(r"[\w./(]", text) or re.search(r": | #|:$", text) or text.lower() in YAML_RESERVED:
        raise ValueError("it is not simple YAML")
    return text


def _dump_yaml(value: object) -> str:
    if isinstance(value, list):
        if any(isinstance(item, list | dict) for item in value):
            raise ValueError("dbctl writes only scalars and lists of scalars in YAML")
        return "---\n" + "".join(f"- {_dump_scalar(item)}\n" for item in value) if value else "--- []\n"
    if isinstance(value, dict):
        if value:
            raise ValueError("dbctl writes only scalars and lists of scalars in YAML")
        return "--- {}\n"
    return f"--- {_dump_scalar(value)}\n"


def _dump_scalar(value: object) -> str:
    if not isinstance(value, str):  # YAML reads 1e+16 as text
        return re.sub(r"^(-?[0-9]+)e", r"\1.0e", json.dumps(value))
    if not value.isprintable():  # JSON's escapes of pairs of surrogates have another meaning in YAML
        quoted = json.dumps(value, ensure_ascii=False)
        return "".join(
            letter if letter.isprintable() or ord(letter) > MAX_ESCAPED else f"\\u{ord(letter):04x}"
            for letter in quoted
        )
    is_plain = (
        re.fullmatch(YAML_PLAIN, value) and value == value.strip() and value.lower() not in YAML_RESERVED
    )
    return value if is_plain else "'" + value.replace("'", "''") + "'"


# PHP ----------------------------------------------------------------------------------------------------------------


class _PhpReader:
    """Reads one serialized value; the lengths of texts are in bytes."""

    def __init__(self, text: str) -> None:
        self._data, self._position = text.encode("utf-8", "surrogateescape"), 0

    def read(self) -> object:
        value = self._value(0)
        if self._position != len(self._data):
            raise ValueError("text follows the serialized value")
        return value

    def _value(self, depth: int) -> object:
        if depth > MAX_DEPTH:
            raise ValueError("it is nested too deeply")
        kind, self._position = self._data[self._position : self._position + 2], self._position + 2
        reader = self._READERS.get(kind)
        if reader is None:
            raise ValueError("it contains an object, a reference or an invalid length")
        return reader(self, depth)

    def _until(self, mark: bytes) -> str:
        end = self._data.find(mark, self._position)
        text = self._data[self._position : end].decode("ascii", "replace") if end >= 0 else "?"
        self._position = end + len(mark)
        return text

    def _integer(self, _depth: int = 0) -> int:
        return self._number(self._until(b";"))

    @staticmethod
    def _number(text: str) -> int:
        if not re.fullmatch("-?[0-9]{1,19}", text):
            raise ValueError("a number is invalid")
        return int(text)

    def _boolean(self, _depth: int) -> bool:
        return {"0": False, "1": True}[self._checked(self._until(b";"), "[01]")]

    def _float(self, _depth: int) -> float:
        return float(parse_number(self._until(b";"), whole=False))

    def _null(self, _depth: int) -> None:
        return None

    def _text(self, _depth: int) -> str:
        length = self._number(self._checked(self._until(b':"'), "[0-9]{1,9}"))
        raw, self._position = self._data[self._position : self._position + length], self._position + length
        if len(raw) != length or self._data[self._position : self._position + 2] != b'";':
            raise ValueError("the length of a text is wrong")
        self._position += 2
        return raw.decode("utf-8", "surrogateescape")

    def _array(self, depth: int) -> object:
        count = self._number(self._checked(self._until(b":{"), "[0-9]{1,9}"))
        entries: dict[object, object] = {}
        for _ in range(count):
            key = self._value(depth + 1)
            if not isinstance(key, int | str) or isinstance(key, bool):
                raise ValueError("a key is neither a number nor text")  # noqa: TRY004 - an invalid text
            entries[key] = self._value(depth + 1)
        if self._data[self._position : self._position + 1] != b"}" or len(entries) != count:
            raise ValueError("the number of entries is wrong")
        self._position += 1
        is_list = list(entries) == list(range(count))
        return list(entries.values()) if is_list else {str(key): item for key, item in entries.items()}

    @staticmethod
    def _checked(text: str, pattern: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError("a length or a boolean is invalid")
        return text

    _READERS: Mapping[bytes, Callable[[_PhpReader, int], object]] = {
        b"i:": _integer, b"b:": _boolean, b"d:": _float, b"N;": _null, b"s:": _text, b"a:": _array,
    }  # fmt: skip


def _dump_php(value: object) -> str:
    if value is None:
        return "N;"
    if isinstance(value, bool):
        return f"b:{int(value)};"
    if isinstance(value, int):
        return f"i:{value};"
    if isinstance(value, float):
        return f"d:{int(value) if value.is_integer() and abs(value) < 1e15 else repr(value)};"  # noqa: PLR2004 - PHP's limit
    if isinstance(value, str):
        return f's:{len(value.encode("utf-8", "surrogateescape"))}:"{value}";'
    entries: Sequence[tuple[object, object]] = (
        list(value.items())
        if isinstance(value, dict)
        else list(enumerate(value))
        if isinstance(value, list)
        else ()
    )
    return (
        f"a:{len(entries)}:{{{''.join(_dump_php(_php_key(key)) + _dump_php(item) for key, item in entries)}}}"
    )


def _php_key(key: object) -> object:
    """Return a key as PHP stores it: the text of a decimal integer is an integer."""
    return int(key) if isinstance(key, str) and re.fullmatch("-?[1-9][0-9]{0,17}|0", key) else key
