"""Actions with hooks and maintenance mode."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.cli._support.hooks.action import (
        apply_operation,
        begin_action,
        combine_findings,
        create_hook_context,
        find_status,
        note_programs,
    )
