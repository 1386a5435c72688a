"""Column types of MySQL and MariaDB, and the values in them."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.engines.mysql.types.codec import (
        MySQLCodec,
        exact_expression,
        exact_reader,
        keep_exact_values,
    )
    from dbctl.engines.mysql.types.columns import (
        KINDS,
        NATIVE,
        TIMES,
        UNICODE_CHARSETS,
        Kind,
        MySQLColumn,
        MySQLTable,
        charset_of,
        comparable_value,
        encode_for_column,
        is_binary,
        kind_of,
        normalize_type,
        parse_labels,
    )
    from dbctl.engines.mysql.types.values import CONVERTERS, bind_parameters, encode_value, format_literal
