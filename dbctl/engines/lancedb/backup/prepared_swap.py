"""A prepared restore, which only has to swap two folders."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from dbctl import signals
from dbctl.engines.contract import LoadResult
from dbctl.engines.lancedb.backup import swap
from dbctl.engines.lancedb.errors import translate_file_errors

#: The remark about processes with open files.
OPEN_FILES = "{names} had open files during the swap: restart these processes"


class UnchangedSwap:
    """A swap without work: an interrupted restore did not replace this database."""

    def __init__(self, root: Path, prepared: Path) -> None:
        self._root, self._prepared = root, prepared

    def write_marker(self, retained: Mapping[str, str]) -> None:
        """Do nothing: the prepared folder already is a marker."""

    def remove_marker(self) -> None:
        """Do nothing: the prepared folder remains the marker."""

    def swap(self, retained: Mapping[str, str]) -> LoadResult:
        """Remove the prepared folder: all databases of the app are in their previous state."""
        del retained
        remarks = []
        try:
            swap.drop_prepared(self._prepared, self._root)
        except OSError as error:
            remarks.append(
                f"{self._prepared}, the prepared folder, could not be removed: {error.strerror or error}"
            )
        return LoadResult(method="in place", remarks=remarks)


class FolderSwap:
    """Swap the database folder with an extracted and verified, or a retained, folder."""

    def __init__(self, root: Path, folder: Path, describe_holders: Callable[[], str]) -> None:
        self._root, self._folder, self._describe_holders = root, folder, describe_holders
        self._prepared: Path | None = None

    def write_marker(self, retained: Mapping[str, str]) -> None:
        """Rename the new folder, durably, to the name that the replaced folder will get."""
        name = retained.get("kept") or swap.sibling_path(self._root, secrets.token_hex(4)).name
        with translate_file_errors(self._root.parent):
            self._prepared = swap.mark_prepared(self._folder, self._root.with_name(name))

    def remove_marker(self) -> None:
        """Restore the previous name of the new folder."""
        if self._prepared is not None:
            with suppress(OSError):  # a remaining folder is reported
                swap.cancel_prepared(self._prepared, self._folder)
            self._prepared = None

    def swap(self, retained: Mapping[str, str]) -> LoadResult:
        """Swap the folders in one step."""
        if self._prepared is None:
            raise RuntimeError("write_marker was not called")
        remarks = []
        if os.path.lexists(self._root) and (names := self._describe_holders()):
            remarks.append(OPEN_FILES.format(names=names))
        with translate_file_errors(self._root.parent), signals.block_signals():
            replaced = swap.exchange(self._prepared, self._root)
            prepared, self._prepared = self._prepared, None
            try:  # errors after the swap are only remarks
                swap.make_durable(self._root)
                if replaced and not retained.get("kept"):
                    swap.remove(prepared)
            except OSError as error:
                remarks.append(f"{error.filename or self._root.parent}: {error.strerror or error}")
        return LoadResult(method="swapped" if replaced else "new", remarks=remarks)
