"""Column types of PostgreSQL, and the values in them."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.engines.postgresql.types.codec import PostgreSQLCodec, exact_reader
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
        is_extreme_time,
        kind_of,
    )
    from dbctl.engines.postgresql.types.values import (
        UNDECLARED,
        UNUSED_PARAMETER,
        bind_parameters,
        encode_statement,
        encode_value,
        format_array,
        register_plain_types,
    )
