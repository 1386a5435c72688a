"""Portable schemas: what the SQL engines share to read them and to derive statements from them."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.engines.sql.portable.derivation import Derivation
    from dbctl.engines.sql.portable.expressions import UntranslatableError
    from dbctl.engines.sql.portable.read import (
        interpret_constraints,
        list_triggers,
        parse_declared,
        split_generated,
        strip_parentheses,
    )
    from dbctl.engines.sql.portable.screen import (
        EXPONENT_DIGITS,
        FLOAT_DIGITS,
        MAX_TERMS,
        SqlValueScreen,
        limit_decimal,
        limit_integer,
        match_labels,
        match_large_numbers,
        split_parts,
    )
