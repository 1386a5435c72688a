"""Write an error: a line and a hint to standard error, and a document if JSON or a report is requested."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbctl.errors.base import DbctlError
from dbctl.errors.connection import OutputFailedError
from dbctl.render import streams
from dbctl.render.envelope import envelope

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbctl.render.options import Format


def show(
    error: DbctlError,
    output: Format,
    command: Sequence[str] = (),
    *,
    status: int | None = None,
    warnings: Sequence[str] = (),
) -> int:
    """Write the error of ``command`` and return the exit code; default: that of the error."""
    status = int(error.exit_status if status is None else status)
    streams.remark(f"dbctl: {error.args[0]}", "error")
    for detail in error.details:
        streams.remark(f"  {detail}")
    if error.hint:
        streams.remark(f"  hint: {error.hint}", "dim")
    if isinstance(error, OutputFailedError):
        return status
    if output.is_report:
        from dbctl.render.reports.report import report_failure
        from dbctl.render.reports.writers import write_report

        write_report(report_failure(command, error, status=status), output)
    elif output.structured:
        target = error.context.get("target")
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
