"""What the engines of servers share: a driver, which may be missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbctl.engines.contract.engine import Engine
from dbctl.errors.usage import require_driver

if TYPE_CHECKING:  # most commands only read a database
    from contextlib import AbstractContextManager


class ServerEngine(Engine):
    """Databases on servers; each method imports the driver with the modules that need it.

    The methods of two engines differ only in these imports, which editors and type checkers follow.
    """

    driver: str  #: the package of the driver, with its extras

    def _require_driver(self, target: str) -> AbstractContextManager[None]:
        return require_driver(target, driver=self.driver, extra=self.name)
