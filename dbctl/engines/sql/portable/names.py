"""Names of indexes in a derived schema: unique, and short enough for the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import sha256
from itertools import chain, count

#: Characters of the digest at the end of a shortened name.
_DIGEST_LENGTH = 8


class IndexNames:
    """The names that are in use."""

    def __init__(
        self, names: Iterable[str], *, max_size: int, size_of: Callable[[str], int], ignores_case: bool
    ) -> None:
        """Begin with ``names``; ``max_size`` is in the unit of ``size_of``."""
        self._max_size, self._size_of, self._ignores_case = max_size, size_of, ignores_case
        self._used = set(map(self._fold, names))

    def create(self, table: str, base: str, *, is_global: bool) -> str:
        """Return a name like ``base`` that no other index has: of the schema, or only of the table."""
        scope = "" if is_global else f"{table}\0"
        numbered = (f"{table}_{base}_{number}" for number in count(2))
        candidates = map(self.shorten, chain([base, f"{table}_{base}"], numbered))
        name = next(name for name in candidates if self._fold(scope + name) not in self._used)
        self._used.add(self._fold(scope + name))
        return name

    def shorten(self, name: str) -> str:
        """Return a name that is short enough; different names remain different."""
        if self._size_of(name) <= self._max_size:
            return name
        digest = sha256(name.encode()).hexdigest()[:_DIGEST_LENGTH]
        start = name.encode()[: self._max_size - _DIGEST_LENGTH - 1].decode(errors="ignore")
        return f"{start}_{digest}"

    def _fold(self, name: str) -> str:
        return name.lower() if self._ignores_case else name
