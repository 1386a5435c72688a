"""Parts of a database must implement their protocols."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from typing_extensions import get_protocol_members, is_protocol

from dbctl.engines import contract
from dbctl.engines.contract.database import Readable
from dbctl.engines.contract.streaming import StagingTables


def list_protocols() -> dict[str, type]:
    """Return the protocols of parts by their name."""
    modules = [
        import_module(f"{contract.__name__}.{module.name}")
        for module in pkgutil.iter_modules(contract.__path__)
    ]
    values = [value for module in modules for value in vars(module).values() if isinstance(value, type)]
    return {value.__name__: value for value in [*values, StagingTables] if is_protocol(value)}


def find_mismatches(reader: Readable) -> list[str]:
    """Return the members of protocols that the part of the protocol lacks."""
    protocols = list_protocols()
    parts = {name: reader.part(protocols[name]) for name in reader.PARTS}
    return [
        f"{name}.{member}"
        for name, part in parts.items()
        for member in get_protocol_members(protocols[name])
        if part is not None and not hasattr(part, member)
    ]
