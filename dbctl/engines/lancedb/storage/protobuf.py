"""Read messages of protobuf without their schema."""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_LENGTHS = {_FIXED64: 8, _FIXED32: 4}
_MAX_BITS = 64


class MessageError(ValueError):
    """A message is truncated or invalid; the text is the reason."""


class Message:
    """The fields of a message. A missing field is 0 or empty, as in protobuf."""

    def __init__(self, content: bytes) -> None:
        """Parse the message.

        Raises:
            MessageError: it is truncated or invalid; also raised by the methods, for a field of another type.
        """
        self._values = dict[int, list[int | bytes]]()
        for field, value, _ in iterate_fields(content):
            self._values.setdefault(field, []).append(value)

    def __contains__(self, field: int) -> bool:
        return field in self._values

    def number(self, field: int) -> int:
        """Return a field that is a number."""
        value = self._values.get(field, [0])[-1]
        if not isinstance(value, int):
            raise MessageError(f"field {field} is not a number")
        return value

    def data(self, field: int) -> bytes:
        """Return a field that is not a number."""
        return self._all_data(field)[-1] if field in self._values else b""

    def text(self, field: int) -> str:
        """Return a text field."""
        return self.data(field).decode()

    def message(self, field: int) -> Message:
        """Return a field that is a message."""
        return Message(self.data(field))

    def messages(self, field: int) -> list[Message]:
        """Return all values of a repeated field of messages."""
        return [Message(content) for content in self._all_data(field)]

    def _all_data(self, field: int) -> list[bytes]:
        values = [value for value in self._values.get(field, []) if isinstance(value, bytes)]
        if len(values) < len(self._values.get(field, [])):
            raise MessageError(f"field {field} is a number")
        return values


def iterate_fields(content: bytes) -> Iterator[tuple[int, int | bytes, int]]:
    """Yield number, value and end offset of each field of a message: an integer, or bytes for all other types.

    Raises:
        MessageError: the message is truncated or invalid.
    """
    offset, end = 0, len(content)
    while offset < end:
        key, offset = _decode_varint(content, offset)
        field, wire_type = key >> 3, key & 7
        if wire_type == _VARINT:
            number, offset = _decode_varint(content, offset)
            yield field, number, offset
            continue
        if wire_type == _BYTES:
            length, offset = _decode_varint(content, offset)
        elif wire_type in _FIXED_LENGTHS:
            length = _FIXED_LENGTHS[wire_type]
        else:
            raise MessageError("invalid message")
        if offset + length > end:
            raise MessageError("truncated message")
        yield field, content[offset : offset + length], offset + length
        offset += length


def encode_number(field: int, value: int) -> bytes:
    """Return a field that is a number."""
    return _encode_varint(field << 3 | _VARINT) + _encode_varint(value)


def _decode_varint(content: bytes, offset: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, _MAX_BITS, 7):
        if offset >= len(content):
            raise MessageError("truncated message")
        byte = content[offset]
        offset += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, offset
    raise MessageError("a number is too long")


def _encode_varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits of a byte count
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
