"""Verify a folder of LanceDB tables: read all values and compute digests, or count rows from the manifests."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dbctl import signals
from dbctl.engines.contract.dumps import DumpVerification
from dbctl.extensions.lancedb.location import extract_reason
from dbctl.extensions.lancedb.manifest import VERSIONS_FOLDER
from dbctl.extensions.lancedb.snapshot import Snapshot
from dbctl.extensions.lancedb.values import VECTOR_BATCH_ROWS, to_python
from dbctl.files import atomic, temp
from dbctl.url import Url

if TYPE_CHECKING:
    import pyarrow as pa


#: The start of the names of folders with links to the files of a snapshot.
VIEW_PREFIX = ".dbctl-vectors-"
#: The open files of this process on Linux.
DESCRIPTORS = Path("/proc/self/fd")
NOT_READ = "the lancedb package is not installed, so rows were only counted from the manifests"


def is_readable() -> bool:
    """Whether the lancedb package is installed."""
    try:
        import lancedb  # noqa: F401 - takes a second, and only verifications call this
        import pyarrow as pa  # noqa: F401
    except ImportError:
        return False
    return True


def verify_snapshot(snapshot: Snapshot) -> DumpVerification:
    """Read all rows of a snapshot from its open files.

    Raises:
        DiskFullError, FileFailedError: links to the files cannot be created.
    """
    if not is_readable():
        return DumpVerification(tables=snapshot.rows, schema="", problems=())
    with _link_files(snapshot, Path(tempfile.gettempdir())) as folder:
        return verify_folder(folder, snapshot.rows)


def verify_folder(folder: Path, rows: Mapping[str, int]) -> DumpVerification:
    """Read all rows of all tables, if the package is installed; ``rows`` is the expected row count of each table."""
    if not is_readable():
        return DumpVerification(tables=rows, schema="", problems=())
    import lancedb

    tables, digests, problems = dict[str, int](), dict[str, str](), list[str]()
    with signals.defer_signals():  # threads of the library hold locks
        connection = lancedb.connect(folder)
        for name, expected_rows in rows.items():
            try:
                table = connection.open_table(name)
                row_count, digests[name] = _read_table(table)
                for index in table.list_indices():
                    table.index_stats(index.name)
            except signals.Interrupted:
                raise
            except Exception as error:  # noqa: BLE001 - the library raises many classes
                problems.append(f"{name}: {extract_reason(error)}")
                continue
            tables[name] = row_count
            if row_count != expected_rows:
                problems.append(
                    f"{name}: {row_count:,} rows can be read, but the manifest has {expected_rows:,}"
                )
        schema = "" if problems else _fingerprint(folder)
    return DumpVerification(tables=tables, schema=schema, problems=problems, digests=digests)


def _fingerprint(folder: Path) -> str:
    from dbctl.extensions.lancedb.catalog import LanceSchema
    from dbctl.extensions.lancedb.reader import LanceReader

    with closing(LanceReader(Url(engine="lancedb", path=str(folder)), str(folder), timeout=0)) as db:
        return LanceSchema(db).fingerprint()


@contextmanager
def _link_files(snapshot: Snapshot, parent: Path) -> Iterator[Path]:
    """Yield a temporary folder with links to the open files of a snapshot."""
    with atomic.translate_errors(parent, parent), temp.folder(parent, VIEW_PREFIX) as folder:
        for file in snapshot.files:
            link = folder / file.name
            link.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if f"/{VERSIONS_FOLDER}/" in file.name:  # copied, because the library ignores links here
                atomic.write_blocks(link, snapshot.blocks(file))
            elif file.descriptor is not None and DESCRIPTORS.is_dir():
                link.symlink_to(DESCRIPTORS / str(file.descriptor))
            else:
                link.symlink_to(file.path)
        yield folder


# Digests -----------------------------------------------------------------------------------------------------------


def _read_table(table: Any) -> tuple[int, str]:
    """Read all values of a table; return its row count and the digest of its values in stored order."""
    digest, rows = _ContentDigest(), 0
    for batch in table.search().to_batches(VECTOR_BATCH_ROWS):
        signals.raise_if_interrupted()
        rows += batch.num_rows
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            digest.update(name, column)
    return rows, digest.digest()


def _describe(column: pa.Array) -> Iterator[str]:
    """Yield each value as text; one of a time that Python cannot have as JSON."""
    for position, value in enumerate(column):
        try:
            yield ascii(value.as_py())
        except (ValueError, OverflowError):
            yield ascii(to_python(column.slice(position, 1))[0])


class _ContentDigest:
    """A digest of the values of columns that is independent of batches and Arrow versions."""

    def __init__(self) -> None:
        self._hashes = dict[tuple[str, str], Any]()

    def update(self, path: str, column: pa.Array) -> None:
        """Add values of a column; ``path`` names the column and nested fields."""
        import pyarrow as pa
        from pyarrow import types

        arrow_type = column.type
        if isinstance(column, pa.ExtensionArray):
            self.update(path, column.storage)
        elif types.is_dictionary(arrow_type):
            self.update(path, column.dictionary_decode())
        else:
            self._update_fixed_width(path, "valid", column.is_valid().cast(pa.uint8()))
            self._update_values(path, column)

    def _update_values(self, path: str, column: pa.Array) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc
        from pyarrow import types

        arrow_type = column.type
        if types.is_struct(arrow_type):
            for field, child in zip(arrow_type, column.flatten(), strict=True):
                self.update(f"{path}.{field.name}", child)
        elif types.is_fixed_size_list(arrow_type):
            self.update(f"{path}[]", column.flatten())
        elif types.is_list(arrow_type) or types.is_large_list(arrow_type):
            self._update_fixed_width(
                path, "length", pc.list_value_length(column).fill_null(0).cast(pa.int64())
            )
            self.update(f"{path}[]", column.flatten())
        elif (
            types.is_string(arrow_type)
            or types.is_binary(arrow_type)
            or types.is_large_string(arrow_type)
            or types.is_large_binary(arrow_type)
        ):
            present = column.drop_null().cast(pa.large_binary())
            self._update_fixed_width(path, "length", pc.binary_length(present))
            if len(present):
                starts = memoryview(present.buffers()[1]).cast("q")
                begin, end = starts[present.offset], starts[present.offset + len(present)]
                self._update_bytes(path, "data", memoryview(present.buffers()[2] or b"")[begin:end])
        elif types.is_boolean(arrow_type):
            self._update_fixed_width(path, "data", column.drop_null().cast(pa.uint8()))
        elif (
            types.is_primitive(arrow_type)
            or types.is_fixed_size_binary(arrow_type)
            or types.is_decimal(arrow_type)
        ):
            self._update_fixed_width(path, "data", column.drop_null())
        elif not types.is_null(arrow_type):
            self._update_bytes(path, "text", "".join(map("{}\n".format, _describe(column))).encode())

    def _update_fixed_width(self, path: str, part: str, values: pa.Array) -> None:
        """Add values of a fixed-width type without nulls."""
        if len(values):
            width = values.type.bit_width // 8
            begin = values.offset * width
            self._update_bytes(
                path, part, memoryview(values.buffers()[1])[begin : begin + len(values) * width]
            )

    def _update_bytes(self, path: str, part: str, data: bytes | memoryview) -> None:
        self._hashes.setdefault((path, part), sha256()).update(data)

    def digest(self) -> str:
        lines = [
            f"{path}\0{part}\0{hash_.hexdigest()}" for (path, part), hash_ in sorted(self._hashes.items())
        ]
        return sha256("\n".join(lines).encode()).hexdigest()
