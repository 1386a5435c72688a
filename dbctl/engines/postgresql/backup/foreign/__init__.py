"""Dumps of PostgreSQL that dbctl did not create, loaded by a role with limited rights."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.engines.postgresql.backup.foreign.filter import make_statement_filter
    from dbctl.engines.postgresql.backup.foreign.statements import StatementFilter, make_role_filter
