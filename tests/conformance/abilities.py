"""Parts of a database must implement their protocols."""

from __future__ import annotations

from typing_extensions import get_protocol_members

from dbctl.engines import contract


def find_mismatches(reader: contract.Readable) -> list[str]:
    """Return the members of protocols that the part of the protocol lacks."""
    parts = {name: reader.part(getattr(contract, name)) for name in reader.PARTS}
    return [
        f"{name}.{member}"
        for name, part in parts.items()
        for member in get_protocol_members(getattr(contract, name))
        if part is not None and not hasattr(part, member)
    ]
