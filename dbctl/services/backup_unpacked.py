"""The files of backups as their engines read them: those that are packed, unpacked for a moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dbctl.errors import CorruptError
from dbctl.services.backup_manifest import Member
from dbctl.stores.base import Store


@contextmanager
def unpacking(store: Store) -> Iterator[Unpacked]:
    """Give what unpacks files, each once; all of them are gone when the block ends."""
    with ExitStack() as held:
        yield Unpacked(store, held)


class Unpacked:
    """Files of backups, unpacked where they are packed."""

    def __init__(self, store: Store, held: ExitStack) -> None:
        self._store, self._held = store, held
        self._ready = dict[tuple[str, str], Path]()

    @contextmanager
    def opened(self, folder: str, one: Member, target: str) -> Iterator[Path]:
        """Give a path at which a file of the backup ``folder`` can be read, and not be written.

        Raises:
            CorruptError: it does not unpack to what was packed.
            RoomMissingError, DiskFullError: what it unpacks to does not fit.
        """
        if one.compress == "none":
            with self._store.opened(folder, one.file) as path:
                yield path
            return
        key = (folder, one.file)
        if key not in self._ready:
            self._ready[key] = self._unpack(folder, one, target)
        yield self._ready[key]

    def _unpack(self, folder: str, one: Member, target: str) -> Path:
        from dbctl.engines import compression  # noqa: PLC0415 - few commands unpack

        place = self._held.enter_context(self._store.scratch(one.plain_bytes)) / one.file
        with self._store.opened(folder, one.file) as packed:
            sha256 = compression.unpack(packed, place, one.compress, most=one.plain_bytes, target=target)
        if sha256 != one.sha256:
            raise CorruptError(
                target=target, reason=f"{one.file}: its content is not what was written (SHA-256)"
            )
        return place
