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
        base_type,
        comparable_value,
        encode_for_column,
        kind_of,
    )
    from dbctl.engines.postgresql.types.text_values import csv_parser, json_parser
    from dbctl.engines.postgresql.types.values import (
        UNDECLARED,
        UNUSED_PARAMETER,
        ExactNumberLoader,
        NumberLoader,
        bind_parameters,
        encode_statement,
        encode_value,
        format_array,
        register_plain_types,
    )
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "columns": "CASTS KINDS Kind NATIVE PostgreSQLColumn TIMES base_type comparable_value encode_for_column kind_of",
            "text_values": "csv_parser json_parser",
            "values": (
                "ExactNumberLoader NumberLoader UNDECLARED UNUSED_PARAMETER bind_parameters encode_statement "
                "encode_value format_array register_plain_types"
            ),
        },
    )
