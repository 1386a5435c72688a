"""The parts that the engines of servers have under the same names."""

from __future__ import annotations

from collections.abc import Mapping

#: Parts of readers and writers.
PARTS = {
    "NativeSchemas": "transfer.native:{}NativeSchemas",
    "PortableSchemas": "transfer.schema:{}PortableSchemas",
    "RowSource": "transfer.rows:{}RowSource",
}
READER_PARTS = PARTS
WRITER_PARTS = {**PARTS, "RowSink": "transfer.rows:{}RowSink"}


def locate_parts(
    package: str, class_prefix: str, parts: Mapping[str, str], **further: str
) -> Mapping[str, str]:
    """Return the parts of readers or writers: the shared ones, ``parts``, and those that only one engine has."""
    located = {name: f"{package}.{place}" for name, place in {**parts, **further}.items()}
    return {name: place.format(class_prefix) for name, place in located.items()}
