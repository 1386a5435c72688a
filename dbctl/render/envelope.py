"""The JSON object that ``-o json`` prints for results and errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbctl.render.values import jsonable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbctl.errors.base import DbctlError


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
