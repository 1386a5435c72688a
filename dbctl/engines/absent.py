"""The engine of an extension that is not installed, which opens no database."""

from __future__ import annotations

from typing import NoReturn

from dbctl.engines.contract.engine import Engine
from dbctl.errors.usage import NotSupportedError


class AbsentEngine(Engine):
    """An engine whose databases have an error each, so that a command can continue with the others."""

    def __init__(self, name: str, hint: str) -> None:
        self.name = self.title = name
        self._hint = hint

    def _refuse(self, *_values: object, **_options: object) -> NoReturn:
        """Refuse what needs a database or a dump.

        Raises:
            NotSupportedError: always.
        """
        raise NotSupportedError(
            feature=f"the engine {self.name}", subject="this installation of dbctl", hint=self._hint
        )

    create_reader = create_writer = _refuse
    list_lock_holders = restore_target = _refuse
    verify_dump = _refuse
