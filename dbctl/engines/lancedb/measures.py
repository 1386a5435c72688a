"""How much room a LanceDB takes, and what of it is for versions that nobody may need any more."""

from __future__ import annotations

from collections.abc import Sequence

from dbctl.engines.base import Measured, Storage
from dbctl.engines.lancedb.connection import LanceConnection
from dbctl.engines.lancedb.files import Files
from dbctl.engines.lancedb.history import History
from dbctl.engines.lancedb.manifest import Manifest, ManifestUnreadableError
from dbctl.engines.lancedb.place import SUFFIX
from dbctl.engines.server import Waste
from dbctl.errors import CorruptError


class LanceMeasures(LanceConnection):
    """Capability.MEASURE and Capability.BLOAT."""

    def storage(self) -> Storage:
        taken = sum(one.bytes for one in Files(self._place).below())
        return Storage(bytes=taken, tables=len(self.tables()), page_size=0)

    def measured(self, *, exact: bool = True, table: str = "") -> Sequence[Measured]:  # noqa: ARG002 - nothing of it takes long
        files = Files(self._place)
        return [self._table(name, History(files, name)) for name in self.tables() if table in ("", name)]

    def _table(self, table: str, history: History) -> Measured:
        told = self._manifest(table, history)
        sizes = history.sizes()
        indexes = sum(taken for path, taken in sizes.items() if path.startswith("_indices/"))
        return Measured(
            table=table,
            rows=told.rows,
            bytes=sum(sizes.values()),
            indexes=sorted({one.name for one in told.indexes}),
            table_bytes=told.bytes,
            index_bytes=indexes,
            dead_rows=told.deleted,
            fragments=len(told.fragments),
            versions=len(history.versions()),
            format=told.format,
        )

    def _manifest(self, table: str, history: History) -> Manifest:
        """Return what the version that is read is made of.

        Raises:
            ChangedWhileReadError: somebody took it away meanwhile.
            CorruptError: it cannot be read.
        """
        version = self.moment()[table]
        with self._told():
            try:
                return history.manifest(version)
            except ManifestUnreadableError as error:
                reason = f"{table}, version {version}: {error}"
                raise CorruptError(target=self.target, reason=reason) from error

    def wasted(self) -> Sequence[Waste]:
        files = Files(self._place)
        found = []
        for name in self.tables():
            history = History(files, name)
            told, sizes = self._manifest(name, history), history.sizes()
            used = sum(sizes.get(path, 0) for path in told.paths())
            used += sum(
                taken
                for path, taken in sizes.items()
                if any(path.startswith(f"_indices/{one.uuid}/") for one in told.indexes)
            )
            found.append(
                Waste(
                    table=name,
                    bytes=sum(sizes.values()),
                    wasted_bytes=sum(sizes.values()) - used,
                    dead_rows=told.deleted,
                    rows=told.rows,
                    estimated=False,
                    source=f"{name}{SUFFIX}: files that its newest version does not need",
                )
            )
        return found
