"""What a stream can show: width, colors and characters."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TextIO

from dbctl.model import Struct
from dbctl.render.options import supports_color, supports_drawing
from dbctl.render.terminal.roles import SIGNS, STYLES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbctl.render.terminal.layout import StyledLine

_DEFAULT_SIZE = (80, 24)
_MIN_WIDTH = 20  #: a narrower terminal breaks lines itself


class Screen(Struct, frozen=True, kw_only=True):
    """Properties of a stream at one time; ``width`` is None if lines have any length."""

    width: int | None
    height: int
    color: bool
    encodings: Sequence[str]  #: of the stream and of the locale, which may differ

    @classmethod
    def of(cls, stream: TextIO) -> Screen:
        """Return the properties of standard output or standard error."""
        is_drawn = supports_drawing(stream_is_terminal=stream.isatty())
        columns, lines = _read_size(stream) if is_drawn else (None, 0)
        return cls(
            width=columns and max(columns, _MIN_WIDTH),
            height=lines,
            color=supports_color(stream),
            encodings=_list_encodings(stream),
        )

    def sign(self, character: str) -> str:
        """Return a character of ``SIGNS``, or its substitute."""
        try:
            for encoding in self.encodings:
                character.encode(encoding)
        except (UnicodeEncodeError, LookupError):
            return SIGNS.get(character, character)
        return character

    def render(self, line: StyledLine) -> str:
        """Return a line as text, with the codes of its colors if the stream has colors."""
        if not self.color:
            return "".join(text for text, _ in line)
        return "".join(_color(text, STYLES[role] if role else "") for text, role in line)


def _color(text: str, style: str) -> str:
    if not (style and text):
        return text
    from rich.color import ColorSystem
    from rich.style import Style

    return Style.parse(style).render(text, color_system=ColorSystem.STANDARD)


def _read_size(stream: TextIO) -> tuple[int, int]:
    """Return columns and lines; the variables COLUMNS and LINES override the terminal."""
    try:
        size = tuple(os.get_terminal_size(stream.fileno()))
    except OSError:
        size = _DEFAULT_SIZE
    variables = os.environ.get("COLUMNS", ""), os.environ.get("LINES", "")
    columns, lines = (
        int(variable) if variable.isascii() and variable.isdigit() and int(variable) else value or default
        for variable, value, default in zip(variables, size, _DEFAULT_SIZE, strict=True)
    )
    return columns, lines


def _list_encodings(stream: TextIO) -> list[str]:
    import locale

    return [stream.encoding or "ascii", locale.getencoding()]
