"""Write a private database into a new folder, which has one version of each table, without deleted rows and earlier values."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from dbctl import signals
from dbctl.engines.contract.database import Readable
from dbctl.engines.contract.monitoring import ColumnRewrite, Rebuilder
from dbctl.errors.databases import VectorIndexUnsuitableError
from dbctl.extensions.lancedb import swap
from dbctl.extensions.lancedb.location import Location
from dbctl.extensions.lancedb.manifest import LEGACY_FORMAT
from dbctl.extensions.lancedb.reader import LancePart
from dbctl.extensions.lancedb.values import VECTOR_BATCH_ROWS, to_python, type_family
from dbctl.extensions.lancedb.vector_indexes import LanceVectorIndexes, describe_index
from dbctl.extensions.lancedb.write_values import to_array
from dbctl.extensions.lancedb.writer import LanceWriter
from dbctl.files import temp
from dbctl.url import Url

if TYPE_CHECKING:
    import pyarrow as pa
    from lancedb.index import FTS, Bitmap, BTree, IndexConfig, LabelList

#: Parameters of full-text indexes that ``create_index`` has by other names than ``list_indices``.
FTS_NAMES = {"min_ngram_length": "ngram_min_length", "max_ngram_length": "ngram_max_length"}


class LanceRebuilder(LancePart, Rebuilder):
    def rebuild(self, rewrites: Mapping[str, Mapping[str, ColumnRewrite | None] | None]) -> Sequence[str]:
        folder = self._db.location.folder
        if folder is None:
            raise RuntimeError("a database in a bucket is not private")
        remarks = list[str]()
        with temp.folder(folder.parent, swap.temp_prefix(folder)) as temporary:
            new = temporary / "new"
            new.mkdir()
            location = Location(
                Url(engine="lancedb", path=str(new)), self._target, timeout=self._db.location.timeout
            )
            for table, columns in rewrites.items():
                with self._catalog.translate_errors():
                    self._write_table(location, table, columns)
            with closing(LanceWriter(location.url, self._target, timeout=location.timeout)) as writer:
                for table, columns in rewrites.items():
                    remarks += self._build_indexes(writer, table, columns)
            self._catalog.detach()
            shutil.rmtree(folder)
            new.rename(folder)
        return remarks

    def _write_table(
        self, location: Location, table: str, columns: Mapping[str, ColumnRewrite | None] | None
    ) -> None:
        import pyarrow as pa

        schema = self._catalog.arrow_schema(table)
        history = self._catalog.history(table)
        version = history.read_version(self._catalog.version(table))
        new = location.connection.create_table(
            table,
            schema=schema,
            storage_options={
                "new_table_data_storage_version": "legacy"
                if version.format == LEGACY_FORMAT
                else version.format
            },
        )
        if columns is None or not self._db.count(table):
            return
        source = self._catalog.open_table(table).search(None).to_batches(VECTOR_BATCH_ROWS)
        failures = list[BaseException]()  # which the library replaces by its own

        def rewrite() -> Iterator[pa.RecordBatch]:
            try:
                for batch in source:
                    yield _rewrite_batch(batch, schema, columns, self._target)
            except BaseException as error:
                failures.append(error)
                raise

        try:
            new.add(pa.RecordBatchReader.from_batches(schema, rewrite()))
        except (ValueError, RuntimeError, OSError) as error:
            raise (failures or [error])[0] from error

    def _build_indexes(
        self, writer: LanceWriter, table: str, columns: Mapping[str, ColumnRewrite | None] | None
    ) -> Iterator[str]:
        """Build the indexes of a table in the new database; yield a sentence for each one that is not."""
        vectors = {index.name: index for index in self._db.vectors.vector_indexes(table)}
        for index in self._catalog.open_table(table).list_indices():
            signals.raise_if_interrupted()
            reason = "it is of another kind"
            try:
                if index.name not in vectors:
                    if config := _configure(index):
                        with writer.catalog.translate_errors():
                            handle = writer.catalog.open_table(table)
                            handle.create_index(index.columns[0], config=config, name=index.name)
                        continue
                elif columns is None or any(
                    name in columns and columns[name] is None for name in index.columns
                ):
                    reason = "there are no vectors"
                else:
                    LanceVectorIndexes(writer).create_vector_index(describe_index(table, vectors[index.name]))
                    continue
            except VectorIndexUnsuitableError as error:
                reason = str(error.context["reason"])
            yield f"the index {index.name} of {table} ({index.index_type}) is not in the copy: {reason}"

    def read_values(self) -> Iterator[bytes]:
        for table in self._catalog.tables():
            with self._catalog.translate_errors():
                for batch in self._catalog.open_table(table).search(None).to_batches(VECTOR_BATCH_ROWS):
                    signals.raise_if_interrupted()
                    for column in batch.columns:
                        yield from _read_leaves(column)

    def read_schemas(self) -> Iterator[bytes]:
        for table in self._catalog.tables():
            for path in self._catalog.history(table).versions().values():
                yield self._db.location.files.read(path)


def _rewrite_batch(
    batch: pa.RecordBatch, schema: pa.Schema, columns: Mapping[str, ColumnRewrite | None], target: str
) -> pa.RecordBatch:
    import pyarrow as pa

    signals.raise_if_interrupted()
    arrays = []
    for field in schema:
        column = batch.column(field.name)
        if field.name not in columns:
            arrays.append(column)
        elif (rewrite := columns[field.name]) is None:
            arrays.append(_create_blank(field, len(column)))
        else:
            selectors = [to_python(batch.column(name)) for name in rewrite.by]
            old = to_python(column)
            new = list(map(rewrite.function, old, *selectors))
            if type_family(field.type) == "nested":
                new = [*map(_replace_texts, column.to_pylist(), new)]
            arrays.append(to_array(field, new, target))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _create_blank(field: pa.Field, count: int) -> pa.Array:
    """Return a column of vectors without values: NULL, or zeros where it is not allowed."""
    import pyarrow as pa

    if field.nullable:
        return pa.nulls(count, field.type)
    return pa.array([[0.0] * max(0, getattr(field.type, "list_size", 0))] * count, field.type)


def _replace_texts(value: object, new: object) -> object:
    """Return a document with the texts of ``new``, JSON of the same form, which has no exact values of other types."""
    document = json.loads(new) if isinstance(new, str) else new
    return _merge(value, document) if document is not None else None


def _merge(value: object, new: object) -> object:
    if isinstance(value, dict) and isinstance(new, dict):
        # names of fields are part of the schema
        items = zip(value.items(), new.values(), strict=True)
        return {name: _merge(item, other) for (name, item), other in items}
    if isinstance(value, list | tuple) and isinstance(new, list):
        return type(value)(_merge(item, other) for item, other in zip(value, new, strict=True))
    if isinstance(value, bytes) and isinstance(new, str):
        return new.encode() if new != value.hex() else value
    return new if isinstance(value, str) else value


def _read_leaves(column: pa.Array) -> Iterator[bytes]:
    """Yield the values of a column and of the columns inside it."""
    import pyarrow as pa
    from pyarrow import types

    arrow_type = column.type
    if isinstance(column, pa.ExtensionArray):
        yield from _read_leaves(column.storage)
    elif types.is_dictionary(arrow_type):
        yield from _read_leaves(column.dictionary_decode())
    elif types.is_struct(arrow_type):
        for child in column.flatten():
            yield from _read_leaves(child)
    elif types.is_map(arrow_type):
        yield from _read_leaves(column.keys)
        yield from _read_leaves(column.items)
    elif types.is_list(arrow_type) or types.is_large_list(arrow_type) or types.is_fixed_size_list(arrow_type):
        yield from _read_leaves(column.flatten())
    elif types.is_floating(arrow_type):
        yield column.drop_null().to_numpy(zero_copy_only=False).tobytes()
    elif type_family(arrow_type) in ("text", "bytes"):
        yield b"\n".join(column.drop_null().cast(pa.large_binary()).to_pylist())
    else:
        yield "\n".join(map(str, to_python(column.drop_null()))).encode()
    yield b"\n"


def _configure(index: IndexConfig) -> BTree | Bitmap | LabelList | FTS | None:
    """Return the configuration of an index of rows or words; None: its kind has none here."""
    from lancedb import index as kinds

    plain: Mapping[str, type[BTree | Bitmap | LabelList]] = {
        "BTree": kinds.BTree, "Bitmap": kinds.Bitmap, "LabelList": kinds.LabelList,
    }  # fmt: skip
    if index.index_type in plain:
        return plain[index.index_type]()
    if index.index_type != "FTS":
        return None
    details = {FTS_NAMES.get(name, name): value for name, value in (index.index_details or {}).items()}
    return kinds.FTS(
        **{name: value for name, value in details.items() if name in kinds.FTS.__dataclass_fields__}
    )


def create_parts(db: Readable) -> Sequence[object]:
    """Return the part that writes a database again; none of a reader."""
    return [LanceRebuilder(db)] if isinstance(db, LanceWriter) else []
