"""Which commands are proven by replayed demonstrations, and whether the proofs are those of the live app and of the present profile."""

from __future__ import annotations

from collections.abc import Iterator

from dbctl.errors.base import Remedy
from dbctl.model import Finding
from dbctl.profiles import loader
from dbctl.services.app import proofs
from dbctl.services.app.evidence.subjects import Subject, check, require
from dbctl.services.migrations import status as migration_status


@check("commands-proven")
def check_proofs(subject: Subject) -> Iterator[Finding]:
    """Yield the proven commands, the others, and proofs of another profile or of another version of the app."""
    app = subject.app
    require(app.core.proven and subject.database == app.resolve_database(app.core.users))
    states = [*proofs.list_proofs(app)]
    profile = {"profile": loader.path_of(app.configured.profile)}
    if proven := [state.command for state in states if state.is_proven]:
        writes = dict.fromkeys(
            write for state in states if state.is_proven and state.proof for write in state.proof.shown
        )
        shown = f"; of settings: {', '.join(writes)}" if writes else ""
        message = f"proven by replayed demonstrations: {', '.join(proven)}{shown}"
        yield subject.finding("info", "commands-proven", message)
    if inferred := [state.command for state in states if state.proof is None]:
        hint = Remedy("`profiles learn ACTION --to {profile}`").write(facts=profile)
        yield subject.finding(
            "info", "commands-inferred", f"inferred, not proven: {', '.join(inferred)}", hint
        )
    replay = Remedy("`profiles prove {profile}`").write(facts=profile)
    if outdated := [state.command for state in states if state.is_outdated]:
        message = f"the profile has changed since the proof of {', '.join(outdated)}"
        yield subject.finding("warning", "proof-outdated", message, replay)
    version = migration_status.read_version(app, subject.database)
    others = {
        state.proof.ledger: state.command for state in states if state.proof and state.proof.ledger != version
    }
    for ledger, command in others.items():
        message = f"the last migration of the app is {version or 'unknown'}, but {command} was proven with {ledger or 'none'}"
        yield subject.finding("warning", "proof-superseded", message, replay)
