"""Contract: the parts of an open database. A capability of an engine is the presence of a part."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, ClassVar, TypeVar, cast

from dbctl.errors import NotSupportedError

if TYPE_CHECKING:
    from dbctl.engines.contract.reader import Readable

P = TypeVar("P")


class PartOwner:
    """An open database whose parts are created on first use."""

    #: the parts: for the name of each protocol, the class that fulfils it, as ``module:Class``; it is called with the database
    PARTS: ClassVar[Mapping[str, str]] = {}

    def part(self, kind: type[P]) -> P | None:
        """Return the part with the protocol ``kind``; None if the database lacks this capability."""
        parts: dict[str, object] = self.__dict__.setdefault("_parts", {})
        name = kind.__name__
        if name in self.PARTS and name not in parts:
            module, _, class_name = self.PARTS[name].partition(":")
            parts[name] = getattr(import_module(module), class_name)(self)
        return cast("P | None", parts.get(name))


def require_part(db: Readable, kind: type[P], feature: str, hint: str) -> P:
    """Return the part of ``db`` with the protocol ``kind``.

    Raises:
        NotSupportedError: the database lacks this capability.
    """
    part = db.part(kind)
    if part is None:
        raise NotSupportedError(feature=feature, subject=db.target, hint=hint)
    return part
