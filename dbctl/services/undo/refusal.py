"""The refusal of an operation that cannot be undone, with the command that reverts it otherwise."""

from __future__ import annotations

from collections.abc import Mapping

from dbctl.errors.base import Remedy
from dbctl.errors.operations import UndoImpossibleError
from dbctl.services.events.changes.records import OperationDetails

_LEDGER = Remedy(
    "It changed only the ledger. Correct it with: `migrate mark NAME --applied`; or: `migrate mark NAME --pending`"
)
#: Commands whose changes are reverted otherwise, by their name or its first word, and how.
REMEDIES: Mapping[str, Remedy | str] = {
    **dict.fromkeys(("migrate baseline", "migrate mark", "migrate repair"), _LEDGER),
    "migrate down": Remedy(
        "Apply migrations with: `migrate up`; or restore a backup from before it; list backups with: `backup list`"
    ),
    "migrate": Remedy(
        "Revert migrations with: `migrate down`; or restore a backup from before it; list backups with: `backup list`"
    ),
    # Not `restore undo`: it reverts the last restore that replaced data, which may be an earlier one.
    "restore": Remedy(
        "If it replaced rows, a backup from before it exists; list these with: `backup list --kind safety`; then run: `restore apply ID`"
    ),
    "transfer": "Transfer it again, or switch back to the previous database.",
}
REMEDY = Remedy(
    "Restore a backup from before it; list backups with: `backup list`; then run: `restore apply ID`;"
    " or for one table, without its secrets: `restore apply ID --table TABLE --merge replace`"
)


def refuse(operation: OperationDetails, reason: str) -> UndoImpossibleError:
    """Return the error of an operation that cannot be undone, with the way to revert it otherwise."""
    command = operation.command
    hint = REMEDIES.get(command) or REMEDIES.get(command.partition(" ")[0], REMEDY)
    return UndoImpossibleError(number=operation.operation, command=command, reason=reason, hint=hint)
