"""Parts of a database must have the classes that the contract states."""

from __future__ import annotations

from collections.abc import Mapping

from dbctl.engines.contract.database import Readable, Writable

#: The contract of each part: the class of its property, by name.
CONTRACTS: Mapping[str, str] = {
    name: value.fget.__annotations__["return"].removesuffix(" | None")
    for contract in (Readable, Writable)
    for name, value in vars(contract).items()
    if isinstance(value, property) and name != "extensions"
}


def find_mismatches(db: Readable) -> list[str]:
    """Return the parts of a database that do not have the class of their contract."""
    parts = {name: getattr(db, name, None) for name in CONTRACTS}
    return [
        name
        for name, part in parts.items()
        if part is not None
        and not any(
            base.__name__ == CONTRACTS[name] and base.__module__.startswith("dbctl.engines.contract.")
            for base in type(part).__mro__
        )
    ]
