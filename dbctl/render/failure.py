"""A failure: one line and a hint on standard error, the same as JSON where JSON was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbctl.errors import DbctlError, OutputFailedError
from dbctl.render import streams
from dbctl.render.envelope import envelope

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbctl.render.options import Format


def show(
    error: DbctlError,
    look: Format,
    command: Sequence[str] = (),
    *,
    status: int | None = None,
    warnings: Sequence[str] = (),
) -> int:
    """Show ``error`` of the command with the name ``command``; return the exit status, its own by default."""
    status = int(error.exit_status if status is None else status)
    streams.remark(f"dbctl: {error.args[0]}")
    for detail in error.details:
        streams.remark(f"  {detail}")
    if error.hint:
        streams.remark(f"  hint: {error.hint}")
    if look.structured and not isinstance(error, OutputFailedError):
        target = error.facts.get("target")
        streams.write(
            envelope(
                command,
                None,
                status=status,
                target=target if isinstance(target, str) else None,
                warnings=warnings,
                error=error,
            ),
            utf8=True,
        )
    return status
