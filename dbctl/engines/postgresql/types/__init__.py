"""Column types of PostgreSQL, and the values in them."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.engines.postgresql.types.columns import (
        CASTS,
        KINDS,
        NATIVE,
        TIMES,
        Kind,
        PostgreSQLColumn,
        base_of,
        fitting,
        kind_of,
        storable,
    )
    from dbctl.engines.postgresql.types.text_values import of_csv, of_json
    from dbctl.engines.postgresql.types.values import (
        UNDECLARED,
        UNMENTIONED,
        Exact,
        Number,
        array,
        encoded,
        make_plain,
        stored,
        translated,
    )
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "columns": "CASTS KINDS Kind NATIVE PostgreSQLColumn TIMES base_of fitting kind_of storable",
            "text_values": "of_csv of_json",
            "values": "Exact Number UNDECLARED UNMENTIONED array encoded make_plain stored translated",
        },
    )
