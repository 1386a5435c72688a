"""Payloads of sessions: read the user from the data that an app stores with a session."""

from __future__ import annotations

from collections.abc import Callable, Mapping

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
