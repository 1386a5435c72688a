"""Values of the source that the destination of a transfer refuses or changes, found before anything is copied."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.services.transfer.values.checks import create_check
    from dbctl.services.transfer.values.duplicates import find_duplicates
    from dbctl.services.transfer.values.unstorable import (
        MAX_KEYS,
        find_changes,
        find_unstorable_values,
        format_key,
    )
