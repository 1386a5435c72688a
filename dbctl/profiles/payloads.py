"""Payloads of sessions, and paths from rows to a user: ``Rating.promptId -> Prompt.userId``, or ``roles.name=__user_{id}__``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from dbctl.model import Struct
from dbctl.profiles.codecs import PayloadCodec

MAX_DECODED_BYTES = 1 << 20  #: larger payloads are not read


def read_payload(codec: PayloadCodec, path: str, stored: object) -> str | None:
    """Return the text at a path (``passport.user``) of a payload; None if it contains none, or is not readable."""
    if stored is None:
        return None
    try:
        value: object = DECODERS[codec](stored)
    except (ValueError, RecursionError):
        return None
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None


def is_payload(codec: PayloadCodec, stored: object) -> bool:
    """Return whether a stored value has the form of a payload."""
    try:
        return isinstance(DECODERS[codec](stored), dict)
    except (ValueError, RecursionError):
        return False


def _json(stored: object) -> object:
    import json

    if isinstance(stored, dict):
        return stored
    return json.loads(stored if isinstance(stored, bytes) else str(stored))


def _django(stored: object) -> object:
    """Return the JSON of ``payload:timestamp:signature``; a payload that begins with a dot is compressed.

    Raises:
        ValueError: it has another form, such as that of Django before 3.1.
    """
    import zlib
    from base64 import urlsafe_b64decode

    payload, _, _ = str(stored).rsplit(":", 2)
    text = payload.removeprefix(".")
    raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if text != payload:
        decompressor = zlib.decompressobj()
        try:
            raw = decompressor.decompress(raw, MAX_DECODED_BYTES)
        except zlib.error as error:
            raise ValueError(str(error)) from error
        if decompressor.unconsumed_tail:
            raise ValueError("it is too large")
    return _json(raw)


DECODERS: Mapping[PayloadCodec, Callable[[object], object]] = {"json": _json, "django": _django}


#: The key of the user in a text.
KEY_IN_TEXT = "{id}"
_STEP = re.compile(
    r"(?P<table>[^.\[(]+?)(?P<optional>\?)?(?:\[(?P<filter>[^\]=]+)=(?P<value>[^\]]*)\])?(?:\((?P<key>[^)]+)\))?\.(?P<column>.+)",
    re.DOTALL,
)


class RowStep(Struct, frozen=True):
    """One step of a path: ``table?[filter=value](key).column``, and at the end ``=text`` if ``{id}`` in it is the key of the user."""

    table: str
    column: str  #: the column that refers to the next step, or to the user
    key: str  #: the column to which the step before refers; empty: the primary key
    filter: str  #: a column; only rows with ``value`` belong to the path; empty: all rows
    value: str
    is_optional: bool  #: whether deployments may lack the table: ``table?``
    text: str = ""  #: the value of the column, with ``{id}`` for the key of the user; empty: the key itself

    @property
    def path(self) -> str:
        """``table.column``."""
        return f"{self.table}.{self.column}"


def has_row_path(table: str, column: str) -> bool:
    """Return whether ``table.column`` is a path: names may contain the characters that separate its parts."""
    path = f"{table}.{column}"
    match = _STEP.fullmatch(path)
    return (
        match is not None
        and match["table"] == table
        and not {".", "?", "="} & set(column)
        and " -> " not in path
    )


def parse_row_path(text: str) -> list[RowStep]:
    """Return the steps of a path.

    Raises:
        ValueError: a step is not ``table.column``, or one before the last has a text.
    """
    steps, parts = [], text.split(" -> ")
    for part in parts:
        match = _STEP.fullmatch(part)
        if match is None:
            raise ValueError(f"{part!r} is not table.column")
        fields = match.groupdict(default="")
        is_optional = bool(fields.pop("optional"))
        if KEY_IN_TEXT in fields["column"]:
            fields["column"], _, fields["text"] = fields["column"].partition("=")
            if part is not parts[-1] or KEY_IN_TEXT not in fields["text"]:
                raise ValueError(
                    f"{part!r}: {KEY_IN_TEXT} is part of the value of a column, in the last step"
                )
        steps.append(RowStep(**fields, is_optional=is_optional))
    return steps
