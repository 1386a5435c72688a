"""A result that is replaced on the terminal by newer ones."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Self

from dbctl.model import now
from dbctl.render.escaping import escape
from dbctl.render.grid import build_blocks
from dbctl.render.result import closing_line
from dbctl.render.terminal.layout import lay_out, wrap_remark
from dbctl.render.terminal.screen import Screen

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType


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
