"""Which commands are proven by replayed demonstrations, and whether the proofs are those of the live app and of the present profile."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from dbctl.errors.base import Remedy
from dbctl.model import Finding
from dbctl.services.app import proofs
from dbctl.services.app.evidence.subjects import Subject, check, require
from dbctl.services.migrations import status as migration_status


@check("commands-proven")
def check_proofs(subject: Subject) -> Iterator[Finding]:
    """Yield the proven commands, the others, and proofs of another profile or of another version of the app."""
    app = subject.app
    require(app.core.proven and subject.database == app.resolve_database(app.core.users))
    states = [*proofs.list_proofs(app)]
    profile, first = proofs.locate_profile(app)
    facts = {"profile": profile, "first": first}
    if proven := [state.command for state in states if state.is_proven]:
        writes = dict.fromkeys(
            write for state in states if state.is_proven and state.proof for write in state.proof.shown
        )
        shown = f"; of settings: {', '.join(writes)}" if writes else ""
        message = f"proven by replayed demonstrations: {', '.join(proven)}{shown}"
        yield subject.finding("info", "commands-proven", message)
    unproven = _group((state.describe_others(), state.command) for state in states if state.proof is None)
    for others, inferred in unproven.items():
        message = f"inferred, not proven{others}: {', '.join(inferred)}"
        hint = Remedy("{first}Record an action with: `profiles learn ACTION --to {profile}`")
        yield subject.finding("info", "commands-inferred", message, hint, **facts)
    if outdated := [state.command for state in states if state.is_outdated]:
        message = f"the profile has changed since the proof of {', '.join(outdated)}"
        hint = Remedy("`profiles prove {profile}`")
        yield subject.finding("warning", "proof-outdated", message, hint, **facts)
    version = migration_status.read_version(app, subject.database)
    proven_by_ledger = _group((state.proof.ledger, state.command) for state in states if state.proof)
    for ledger, commands in proven_by_ledger.items():
        if ledger != version:
            message = f"the last migration of the app is {version or 'unknown'}, not {ledger or 'none'}, with which these were proven: {', '.join(commands)}"
            hint = Remedy(
                "{first}Record the actions in this version with: `profiles learn ACTION --to {profile}`;"
                " then replay them with: `profiles prove {profile}`"
            )
            yield subject.finding("warning", "proof-superseded", message, hint, **facts)


def _group(items: Iterable[tuple[str, str]]) -> Mapping[str, Sequence[str]]:
    """Return the second values by the first."""
    groups = defaultdict[str, list[str]](list)
    for name, value in items:
        groups[name].append(value)
    return groups
