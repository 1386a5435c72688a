"""Shared code of the server engines: sessions, transactions, locks, times, values, checks."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.engines.servers.connection import CONNECT_SECONDS, ServerConnection
    from dbctl.engines.servers.engine import READER_PARTS, WRITER_PARTS, ServerEngine, locate_parts
    from dbctl.engines.servers.errors import CHECK_URL, ErrorContext
    from dbctl.engines.servers.monitoring import (
        LARGE_TABLE,
        LOCK_MISSING,
        SHORT_TIMEOUT,
        ServerChecks,
        describe_holders,
        find_problems,
    )
    from dbctl.engines.servers.restore import (
        COMPRESSION_RATIO,
        NO_BACKUP,
        RETAINED_SUFFIX,
        UNCHANGED,
        ServerRestoreTarget,
        copy_output,
        derived_name,
        failed_verification,
        new_scratch_name,
        require_row_counts,
        scratch_name_pattern,
    )
    from dbctl.engines.servers.roles import OMIT_SECRETS, parse_roles, refuse_missing_roles
    from dbctl.engines.servers.schema import (
        NamedRow,
        Rows,
        ServerSchemaReader,
        group_rows,
        sort_indexes,
        sort_references,
    )
    from dbctl.engines.servers.transactions import TRANSACTION_ENDED, ServerTransactions, wait_for_lock
    from dbctl.engines.servers.transfer import NativeNames, ServerRowSource, TableNames
    from dbctl.engines.servers.values import (
        LARGEST,
        MILLISECOND,
        SMALLEST,
        Formatters,
        compare_time,
        convert_row,
        format_integer,
        format_value,
        parse_time,
        roughly_before,
    )
    from dbctl.engines.servers.writer import ServerReader, ServerScripts, ServerWriter
