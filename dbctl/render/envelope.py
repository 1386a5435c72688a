"""The one JSON object that ``-o json`` prints, whatever happens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbctl.render.values import jsonable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbctl.errors import DbctlError


def schema(command: Sequence[str]) -> str:
    """Return the name of a command's schema: ``dbctl.users.list/1``."""
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
    """Return the object as one line; ``ok`` is whether ``exit_code`` is 0."""
    answer = {
        "schema": schema(command),
        "ok": int(status) == 0,
        "exit_code": int(status),
        "target": target,
        "data": jsonable(data),
        "warnings": list(warnings),
        "error": error and {"code": error.code, "message": str(error), "hint": error.hint},
    }
    return line(answer)


def line(value: object) -> str:
    """Return ``value`` as one line of JSON, in ASCII so that no locale can spoil it."""
    import json

    return json.dumps(jsonable(value), allow_nan=False) + "\n"
