"""What a stream can show; a result that newer ones replace; and the user's pager for long output."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Self, TextIO

from dbctl.model import Struct, now
from dbctl.render import streams
from dbctl.render.result import closing_line
from dbctl.render.streams import supports_color, supports_drawing
from dbctl.render.tables import build_blocks
from dbctl.render.terminal.layout import lay_out, wrap_remark
from dbctl.render.terminal.roles import SIGNS, STYLES
from dbctl.render.text import escape

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

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
        is_drawn = supports_drawing(stream)
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


class LiveScreen:
    """Shows one result at a time; the last one remains. Lines below the end of the terminal are cut."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._live = Live(console=Console(highlight=False), auto_refresh=False, vertical_overflow="ellipsis")

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._live.stop()

    def show(self, result: object, messages: Sequence[str]) -> None:
        """Replace what is shown by a result, its closing line with the local time, and messages."""
        from rich.text import Text

        screen = Screen.of(sys.stdout)
        lines = [screen.render(line) for line in lay_out(build_blocks(result, drawn=True), screen)]
        closing = closing_line(result)
        lines.append(f"{closing} ({now().astimezone():%H:%M:%S})".lstrip())
        for message in messages:
            lines += map(screen.render, wrap_remark(escape(f"dbctl: {message}"), "error", screen))
        self._live.update(Text.from_ansi("\n".join(lines)), refresh=True)


#: The behavior of less: quit if the text fits on one screen, show colors, leave the text on the screen.
_LESS = "FRX"
#: Exit codes of a shell for a program that is missing or cannot run.
_NOT_RUN = (126, 127)


def show_in_pager(text: str) -> None:
    """Write ``text`` to the pager and wait until the user closes it; without a pager, write it to standard output.

    Closing the pager early is no error: the user has seen enough.

    Raises:
        OutputFailedError: standard output cannot be written.
    """
    command = os.environ.get("DBCTL_PAGER", os.environ.get("PAGER", "less")).strip()
    if (
        command in {"", "cat"}
        or _run(command, text.encode(sys.stdout.encoding, "backslashreplace")) in _NOT_RUN
    ):
        streams.write(text)


def _run(command: str, data: bytes) -> int:
    """Return the exit code of the pager."""
    streams.flush()
    # The variable is a command line of the user's shell, by convention: `less -S | tee log`. Nothing else is in it.
    process = subprocess.Popen(  # noqa: S602
        command,
        shell=True,
        stdin=subprocess.PIPE,
        stdout=sys.stdout,
        env={"LESS": _LESS, "LV": "-c", **os.environ},
    )
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C belongs to the pager
    try:
        process.communicate(data)
    except BaseException:
        process.terminate()
        process.wait()
        raise
    finally:
        signal.signal(signal.SIGINT, handler)
    return process.returncode
