"""``profiles prove``: replay each recording of a profile by dbctl's own command, and compare the rows that both changed."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

from msgspec import structs

from dbctl.config.loader import find_app
from dbctl.config.secrets import MASK, read_pepper
from dbctl.config.sections import Selection
from dbctl.errors.base import Exit
from dbctl.errors.usage import ConfigMissingError
from dbctl.errors.users import PepperMissingError
from dbctl.extensions.drafts.document import Value
from dbctl.extensions.drafts.learning.errors import RecordingsMissingError
from dbctl.extensions.drafts.learning.learn import read_changes
from dbctl.extensions.drafts.learning.matching import Comparer, Difference
from dbctl.extensions.drafts.learning.profile_file import extend_profile, replace_profile
from dbctl.extensions.drafts.learning.recordings import (
    SETS_PASSWORD,
    Action,
    Recording,
    StoredRecording,
    list_recordings,
    read_engine,
)
from dbctl.extensions.drafts.learning.replay import (
    CommandRunner,
    Replayed,
    describe_command,
    describe_obstacle,
    find_command,
    find_owner,
    is_secret,
)
from dbctl.extensions.drafts.learning.scene import ChangedRow, LearnedKey, Lesson, decode_changes
from dbctl.extensions.drafts.learning.states import PREFIX, State, StateOptions, open_databases, open_state
from dbctl.files import temp, toml
from dbctl.model import Closing, Row, Secret, Struct, format_count, format_counts, now
from dbctl.profiles import loader
from dbctl.profiles.model.profile import Profile
from dbctl.services.app.app import App
from dbctl.services.app.proofs import SETTING, compute_digest, find_database
from dbctl.services.migrations.status import read_version
from dbctl.services.settings.changes import set_setting
from dbctl.url import Url

#: ``not-possible``: no command of dbctl does the action; the reason states why.
Status: TypeAlias = Literal["proven", "failed", "not-possible"]


class ProveRequest(Struct, frozen=True, kw_only=True):
    """What is proven."""

    profile: Path
    action: Action | None = None  #: only its recordings
    server: Url | None = None  #: where dumps of servers are loaded
    timeout: float
    selection: Selection = Selection()  #: of the app whose configuration has the secret for passwords
    stored: bool = True  #: whether the result is written to the profile


class RecordingProved(Struct, frozen=True, kw_only=True):
    """The replay of one recording."""

    recording: str  #: the name of its folder
    action: Action
    engine: str  #: of the database that the action changes
    status: Status
    command: str = ""  #: the command of dbctl, without options that select the app; empty: there is none
    rows: int = 0  #: compared rows
    ignored: int = 0  #: rows of the recording that do not belong to the action
    own: int = 0  #: further rows that dbctl changed by its own rules: sign-ins that it ended, and its record of the change
    ledger: str = ""  #: the last migration of the app in the state before the action
    shown: Sequence[str] = ()  #: change-setting: what it shows of the writes of settings
    reason: str = ""  #: why it failed before rows were compared, or why there is no command
    differences: Sequence[Difference] = ()

    def summary(self) -> Row:
        names = ("recording", "action", "status", "command", "rows", "ignored", "own", "ledger", "reason")
        return {name: getattr(self, name) for name in names} | {"differences": len(self.differences)}


class ProfileProved(Struct, frozen=True, kw_only=True):
    """Result of ``profiles prove``."""

    profile: str  #: the file
    recordings: Sequence[RecordingProved]
    written: bool  #: whether the proofs in the profile have changed

    def summary(self) -> Sequence[Row]:
        return [entry.summary() for entry in self.recordings]

    def sections(self) -> dict[str, Sequence[object]]:
        return {entry.recording: entry.differences for entry in self.recordings if entry.differences}

    @property
    def status(self) -> Exit:
        is_failed = any(entry.status == "failed" for entry in self.recordings)
        return Exit.CHECK_FAILED if is_failed else Exit.OK

    @property
    def closing(self) -> Closing:
        counts = {"failed": "failed", "without a command of dbctl": "not-possible"}
        details = {
            text: sum(entry.status == status for entry in self.recordings) for text, status in counts.items()
        }
        return Closing(
            f"Replayed {format_count(len(self.recordings), 'recording')}",
            format_counts(details) or ["all proven"],
            is_timed=True,
        )


def prove(request: ProveRequest) -> ProfileProved:
    """Replay the recordings of a profile.

    Raises:
        RecordingsMissingError: it has none.
        RecordingInvalidError: a recording is damaged.
        PepperMissingError: the app appends a secret to passwords, and no configuration has it.
        ProfileChangedError: another process wrote the profile during the replays; it has no proof of them.
        NotSupportedError: the installation or the engine cannot compare rows.
        Others, as ``open_state`` and ``loader.load``.
    """
    profile = loader.load(str(request.profile.absolute()))
    text = toml.read_text(request.profile)
    recordings = [
        stored
        for stored in list_recordings(request.profile)
        if request.action in (None, stored.recording.action)
    ]
    if not recordings:
        raise RecordingsMissingError(path=request.profile, action=request.action or "any action")
    pepper = _read_pepper(request, profile, [stored.recording.action for stored in recordings])
    results = [_prove_recording(request, profile, stored, pepper) for stored in recordings]
    written = request.stored and _store(request.profile, text, results)
    return ProfileProved(profile=str(request.profile), recordings=results, written=written)


def _read_pepper(request: ProveRequest, profile: Profile, actions: Sequence[Action]) -> Secret | None:
    """Return the secret that the app appends to passwords, if a command sets one; raises as ``prove``."""
    password = profile.users.password if profile.users else None
    if not (password and password.pepper and SETS_PASSWORD.intersection(actions)):
        return None
    try:
        return read_pepper(find_app(request.selection))
    except ConfigMissingError as error:
        raise PepperMissingError(app=profile.name, reason=str(error)) from error


def _store(path: Path, text: str, results: Sequence[RecordingProved]) -> bool:
    """Write the proofs of the replayed actions to the profile, and remove those of failed ones; return whether it changed.

    ``text`` is that of the replays: a profile that was edited since then has no proof.
    """
    earlier = loader.parse(text).proven
    keys = list[LearnedKey]()
    for engine, action in dict.fromkeys((result.engine, result.action) for result in results):
        replayed = [result for result in results if (result.engine, result.action) == (engine, action)]
        is_proven = all(result.status == "proven" for result in replayed)
        if not is_proven and action not in earlier.get(engine, {}):
            continue
        proof: dict[str, Value] = {
            "at": now().date().isoformat(),
            "ledger": replayed[-1].ledger,
            "recordings": len(replayed),
            "rows": sum(result.rows for result in replayed),
            "digest": compute_digest(text, action),
        }
        if action == SETTING:
            proof["shown"] = [*dict.fromkeys(write for result in replayed for write in result.shown)]
        value = proof if is_proven else None
        keys.append(LearnedKey(path=("proven", engine, action), value=value, evidence="profiles prove"))
    changed = extend_profile(text, Lesson(keys=keys))
    if changed == text:
        return False
    replace_profile(path, text, changed)
    return True


def _prove_recording(
    request: ProveRequest, profile: Profile, stored: StoredRecording, pepper: Secret | None
) -> RecordingProved:
    recording = stored.recording
    result = RecordingProved(
        recording=stored.folder.name,
        action=recording.action,
        engine=read_engine(stored.folder, find_database(profile, [recording.action])),
        status="failed",
    )
    words = find_command(recording, profile)
    if words is None:
        obstacle = describe_obstacle(recording, profile)
        return structs.replace(result, status="not-possible", reason=obstacle)
    options = StateOptions(profile=request.profile, server=request.server, timeout=request.timeout)
    with ExitStack() as stack:
        folder = stack.enter_context(temp.folder(Path(tempfile.gettempdir()), PREFIX))
        before, copy = (stack.enter_context(open_state([stored.folder], options)) for _ in range(2))
        runner = CommandRunner(request.profile, copy, folder, timeout=request.timeout, pepper=pepper)
        replayed = runner.run(words)
        reason = replayed.failure or _check_password(runner, stored, replayed)
        command = describe_command(words, recording, profile)
        result = structs.replace(result, command=command, reason=reason)
        return result if reason else _compare(request, result, stored, profile, before, copy)


def _check_password(runner: CommandRunner, stored: StoredRecording, replayed: Replayed) -> str:
    """Return why the password that the command set cannot be checked; empty: it is correct, or there is none."""
    password = replayed.data.get("password")
    if not password:
        return ""
    words = ["users", "check-password", "--password-stdin", "--", stored.recording.subject.login]
    return runner.run(words, Secret(password)).failure


def _compare(
    request: ProveRequest,
    result: RecordingProved,
    stored: StoredRecording,
    profile: Profile,
    before: State,
    copy: State,
) -> RecordingProved:
    changes = [*read_changes(before, copy)]
    comparer = Comparer(stored.recording.unrelated, is_own=partial(_is_own, profile))
    compared = comparer.compare([*decode_changes(stored.recording.changes)], [*decode_changes(changes)])
    path = request.profile.absolute()
    with open_databases(before.urls, str(path), path.parent, timeout=request.timeout) as app:
        database = app.resolve_database(profile.users)
        ledger = read_version(app, database) if database in before.urls else ""
        shown = _list_shown(app, stored.recording) if stored.recording.action == SETTING else ()
    return structs.replace(
        result,
        status="failed" if compared.differences else "proven",
        rows=compared.rows,
        ledger=ledger,
        shown=shown,
        ignored=compared.ignored,
        own=compared.own,
        differences=[
            _mask(difference) if is_secret(stored.recording, profile) else difference
            for difference in compared.differences
        ],
    )


def _mask(difference: Difference) -> Difference:
    sides = (side if side is None else MASK for side in (difference.recorded, difference.replayed))
    return structs.replace(difference, **dict(zip(("recorded", "replayed"), sides, strict=True)))


def _list_shown(app: App, recording: Recording) -> Sequence[str]:
    """Return what the write of a recorded setting shows, in the state before it."""
    subject, owner = recording.subject, find_owner(recording, app.profile)
    return set_setting(app, subject.setting, subject.value, login=owner).list_writes()


def _is_own(profile: Profile, row: ChangedRow) -> bool:
    """Whether a row is dbctl's record of the change, or a sign-in, which dbctl ends even if the app does not."""
    audit, users = profile.audit, profile.users
    if row.before is None:
        return audit is not None and row.table == audit.table
    return users is not None and row.table in users.sign_in_tables
