"""What a folder of LanceDB tables holds: opened, read to the last value and told in 64 digits, or counted by its manifests."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dbctl import signals
from dbctl.engines.contract import Proof
from dbctl.engines.lancedb.backup.snapshot import Snapshot
from dbctl.engines.lancedb.errors import reason_of
from dbctl.engines.lancedb.location import VERSIONS
from dbctl.errors import DiskFullError, FileFailedError
from dbctl.files import atomic, temp
from dbctl.url import Url

if TYPE_CHECKING:
    import pyarrow as pa

#: Rows that are read at a time.
BATCH = 1024
#: What the folders begin with in which a snapshot is looked at.
VIEW = ".dbctl-vectors-"
#: Where Linux names the files that this process has open.
DESCRIPTORS = Path("/proc/self/fd")
MISSING = "the lancedb package is not installed, so its rows were counted by its manifests, and not read"


def is_readable() -> bool:
    """Whether the package is there that reads tables."""
    try:
        import lancedb  # noqa: F401 - it costs a second, and only proofs ask
        import pyarrow as pa  # noqa: F401 - as above
    except ImportError:
        return False
    return True


def of(snapshot: Snapshot) -> Proof:
    """Read a snapshot whole, through the files that it holds open.

    Raises:
        DiskFullError, FileFailedError: there is no room for links to them.
    """
    if not is_readable():
        return Proof(tables=snapshot.rows, schema="", problems=())
    with _view(snapshot, Path(tempfile.gettempdir())) as folder:
        return of_folder(folder, snapshot.rows)


def of_folder(folder: Path, rows: Mapping[str, int]) -> Proof:
    """Read tables whole; ``rows`` is how many rows each must have, by its manifest."""
    import lancedb

    tables, digests, problems = dict[str, int](), dict[str, str](), list[str]()
    with signals.held():  # the library has threads with locks of their own
        connection = lancedb.connect(folder)
        for name, number in rows.items():
            try:
                table = connection.open_table(name)
                counted, digests[name] = _read(table)
                for index in table.list_indices():
                    table.index_stats(index.name)
            except signals.Interrupted:
                raise
            except Exception as error:  # noqa: BLE001 - the library raises what it likes
                problems.append(f"{name}: {reason_of(error)}")
                continue
            tables[name] = counted
            if counted != number:
                problems.append(f"{name}: {counted:,} rows can be read, and its manifest tells of {number:,}")
        schema = "" if problems else _fingerprint(folder)
    return Proof(tables=tables, schema=schema, problems=problems, digests=digests)


def _fingerprint(folder: Path) -> str:
    from dbctl.engines.lancedb.catalog import LanceDescribes

    with closing(LanceDescribes(Url(engine="lancedb", path=str(folder)), str(folder), timeout=0)) as db:
        return db.fingerprint()


@contextmanager
def _view(snapshot: Snapshot, place: Path) -> Iterator[Path]:
    """Give a folder in which the files that a snapshot holds open have names again."""
    try:
        with temp.folder(place, VIEW) as folder:
            for one in snapshot.files:
                link = folder / one.name
                link.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                if f"/{VERSIONS}/" in one.name:  # the library lists these, and lists no links
                    atomic.filled(link, snapshot.blocks(one))
                elif one.descriptor is not None and DESCRIPTORS.is_dir():
                    link.symlink_to(DESCRIPTORS / str(one.descriptor))
                else:
                    link.symlink_to(one.path)
            yield folder
    except OSError as error:
        if atomic.is_full(error):
            raise DiskFullError(target=str(place)) from error
        raise FileFailedError(path=error.filename or place, reason=error.strerror or str(error)) from error


# Content -----------------------------------------------------------------------------------------------------------


def _read(table: Any) -> tuple[int, str]:
    """Read a table to its last value; return how many rows it has, and the digest of all in the order of its files."""
    content, rows = _Content(), 0
    for batch in table.search().to_batches(BATCH):
        signals.check()
        rows += batch.num_rows
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            content.feed(name, column)
    return rows, content.digest()


class _Content:
    """The values of some columns, however they are parted into batches, and whichever version of Arrow parts them."""

    def __init__(self) -> None:
        self._made = dict[tuple[str, str], Any]()

    def feed(self, path: str, column: pa.Array) -> None:
        """Take more values of a column."""
        import pyarrow as pa
        from pyarrow import types

        kind = column.type
        if isinstance(column, pa.ExtensionArray):
            self.feed(path, column.storage)
        elif types.is_dictionary(kind):
            self.feed(path, column.dictionary_decode())
        else:
            self._bytes(path, "valid", column.is_valid().cast(pa.uint8()))
            self._values(path, column)

    def _values(self, path: str, column: pa.Array) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc
        from pyarrow import types

        kind = column.type
        if types.is_struct(kind):
            for field, inner in zip(kind, column.flatten(), strict=True):
                self.feed(f"{path}.{field.name}", inner)
        elif types.is_fixed_size_list(kind):
            self.feed(f"{path}[]", column.flatten())
        elif types.is_list(kind) or types.is_large_list(kind):
            self._bytes(path, "length", pc.list_value_length(column).fill_null(0).cast(pa.int64()))
            self.feed(f"{path}[]", column.flatten())
        elif (
            types.is_string(kind)
            or types.is_binary(kind)
            or types.is_large_string(kind)
            or types.is_large_binary(kind)
        ):
            there = column.drop_null().cast(pa.large_binary())
            self._bytes(path, "length", pc.binary_length(there))
            if len(there):
                starts = memoryview(there.buffers()[1]).cast("q")
                begin, end = starts[there.offset], starts[there.offset + len(there)]
                self._update(path, "data", memoryview(there.buffers()[2] or b"")[begin:end])
        elif types.is_boolean(kind):
            self._bytes(path, "data", column.drop_null().cast(pa.uint8()))
        elif types.is_primitive(kind) or types.is_fixed_size_binary(kind) or types.is_decimal(kind):
            self._bytes(path, "data", column.drop_null())
        elif not types.is_null(kind):
            self._update(path, "text", "".join(f"{one!a}\n" for one in column.to_pylist()).encode())

    def _bytes(self, path: str, part: str, values: pa.Array) -> None:
        """Take values of a width of their own, none of them null."""
        if len(values):
            width = values.type.bit_width // 8
            begin = values.offset * width
            self._update(path, part, memoryview(values.buffers()[1])[begin : begin + len(values) * width])

    def _update(self, path: str, part: str, data: bytes | memoryview) -> None:
        self._made.setdefault((path, part), sha256()).update(data)

    def digest(self) -> str:
        """Return it, hexadecimal."""
        told = [f"{path}\0{part}\0{made.hexdigest()}" for (path, part), made in sorted(self._made.items())]
        return sha256("\n".join(told).encode()).hexdigest()
