"""Types of Arrow by what can be done with their values."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    import pyarrow as pa

Family: TypeAlias = Literal[
    "text", "boolean", "whole", "fraction", "time", "bytes", "vector", "nested", "other"
]


@lru_cache(maxsize=256)
def family(kind: pa.DataType) -> Family:
    """Return the family of a type; a vector is a list of numbers with a fraction, and text may be kept once for many rows."""
    import pyarrow.types as types  # noqa: PLR0402 - comes with the library

    if (
        types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    ) and types.is_floating(kind.value_type):
        return "vector"
    if decoded(kind) != kind:
        return "text"
    tests: dict[Family, bool] = {
        "text": types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind),
        "boolean": types.is_boolean(kind),
        "whole": types.is_integer(kind),
        "fraction": types.is_floating(kind),
        "time": types.is_timestamp(kind) or types.is_date(kind),
        "bytes": types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind),
        "nested": types.is_nested(kind),
    }
    return next((name for name, holds in tests.items() if holds), "other")


def decoded(kind: pa.DataType) -> pa.DataType:
    """Return the type of text that is kept once for many rows, and any other as it is."""
    import pyarrow.types as types  # noqa: PLR0402 - as above

    kept_once = types.is_dictionary(kind) and family(kind.value_type) == "text"
    return kind.value_type if kept_once else kind
