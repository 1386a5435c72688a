"""The audit log: an append-only, hash-chained record of every write of dbctl to the databases of apps."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.services.audit.capture import RecordedWriter
    from dbctl.services.audit.files import FILE_NAME
    from dbctl.services.audit.history import (
        OperationFilter,
        export_lines,
        export_records,
        list_operations,
        show_operation,
    )
    from dbctl.services.audit.images import KEYS_PER_QUERY, describe_unrecorded, match_keys
    from dbctl.services.audit.log import AuditLog
    from dbctl.services.audit.recorder import Author, OperationRecorder
    from dbctl.services.audit.records import (
        COMMITTED,
        Anchor,
        Operation,
        OperationDetails,
        RowImage,
        TableChange,
        describe_value,
        describe_values,
        parse_anchor,
    )
    from dbctl.services.audit.values import (
        compute_digest,
        decode_old_value,
        is_restorable,
        is_rounded,
        is_secret,
    )
    from dbctl.services.audit.verify import AuditChecked, verify_log
