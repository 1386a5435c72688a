"""What the engines of servers share: opening their databases with a driver that may be missing."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from dbctl.engines.contract import Engine, fill_no_columns, require_driver

if TYPE_CHECKING:  # most commands only read a database
    from dbctl.engines.contract import FillRow, LockHolder, Readable, RestoreTarget, Writable
    from dbctl.url import Url


class ServerEngine(Engine):
    """Databases on servers. The methods ``…_class`` and ``lock_holders`` import modules that require the driver."""

    driver: str  #: the name of the package; the extra of dbctl that installs it has the name of the engine

    @abstractmethod
    def reader_class(self) -> Callable[..., Readable]: ...

    @abstractmethod
    def writer_class(self) -> Callable[..., Writable]: ...

    @abstractmethod
    def scratch_class(self) -> Callable[[Url, str], Writable]: ...

    @abstractmethod
    def restore_target_class(self) -> Callable[[Url, str], RestoreTarget]: ...

    @abstractmethod
    def lock_holders(self) -> Callable[[Url, str], Sequence[LockHolder]]: ...

    def require_driver(self, target: str) -> AbstractContextManager[None]:
        """Translate a failed import of the driver."""
        return require_driver(target, driver=self.driver, extra=self.name)

    def open_for_reading(
        self,
        url: Url,
        target: str,
        *,
        timeout: float,
        traceless: bool = False,
        use_external_indexes: bool = False,
        keys: Mapping[str, Sequence[str]] = {},
    ) -> Readable:
        del traceless, use_external_indexes, keys
        with self.require_driver(target):
            reader_class = self.reader_class()
        return reader_class(url, target, timeout=timeout)

    def open_for_writing(
        self,
        url: Url,
        target: str,
        *,
        timeout: float,
        pragmas: Mapping[str, str] = {},
        create: Mapping[str, str] | None = None,
        keys: Mapping[str, Sequence[str]] = {},
        fill: FillRow = fill_no_columns,
    ) -> Writable:
        del pragmas, create, keys, fill
        with self.require_driver(target):
            writer_class = self.writer_class()
        return writer_class(url, target, timeout=timeout)

    def open_scratch(self, url: Url, target: str) -> Writable:
        with self.require_driver(target):
            scratch_class = self.scratch_class()
        return scratch_class(url, target)

    def list_lock_holders(self, url: Url, target: str) -> Sequence[LockHolder]:
        with self.require_driver(target):
            lock_holders = self.lock_holders()
        return lock_holders(url, target)

    def restore_target(self, url: Url, target: str) -> RestoreTarget:
        with self.require_driver(target):
            restore_target_class = self.restore_target_class()
        return restore_target_class(url, target)
