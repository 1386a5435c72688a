"""The writer that captures each change of a database, and records it in the event store."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.services.audit.capture import RecordedWriter
    from dbctl.services.audit.images import KEYS_PER_QUERY, describe_unrecorded, match_keys
    from dbctl.services.audit.recorder import Author, OperationRecorder
