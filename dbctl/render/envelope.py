"""The JSON object that ``-o json`` prints for results and errors; and the line and the hint of an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbctl.errors.base import DbctlError
from dbctl.errors.connection import OutputFailedError
from dbctl.render import streams
from dbctl.render.text import jsonable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbctl.render.streams import Format


def schema(command: Sequence[str]) -> str:
    """Return the schema name of a command: ``dbctl.users.list/1``."""
    return ".".join(["dbctl", *command]) + "/1"


def envelope(
    command: Sequence[str],
    data: object,
    *,
    status: int,
    target: str | None,
    warnings: Sequence[str] = (),
    error: DbctlError | None = None,
) -> str:
    """Return the object as one line; ``ok`` is true if ``exit_code`` is 0."""
    fields = {
        "schema": schema(command),
        "ok": int(status) == 0,
        "exit_code": int(status),
        "target": target,
        "data": jsonable(data),
        "warnings": list(warnings),
        "error": error and {"code": error.code, "message": str(error), "hint": error.hint},
    }
    return line(fields)


def line(value: object) -> str:
    """Return ``value`` as one line of JSON, in ASCII so that it does not depend on the locale."""
    import json

    return json.dumps(jsonable(value), allow_nan=False) + "\n"


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
        from dbctl.render.reports import report_failure, write_report

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
