"""``migrate down``: migrations taken back by their own ways down, the newest first."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from dbctl.engines import registry
from dbctl.errors import (
    DownAllRefusedError,
    LedgerForeignError,
    LedgerMissingError,
    MigrationBrokenError,
    MigrationChangedError,
    MigrationOneWayError,
    MigrationsOutOfOrderError,
    PlanChangedError,
    UsageError,
)
from dbctl.model import Page, Plan, Value, counted
from dbctl.services.app import App
from dbctl.services.migrations import row_loss
from dbctl.services.migrations.executor import Work, listed, migrating, refuse_doubt
from dbctl.services.migrations.files import MigrationFile, Steps, place_of
from dbctl.services.migrations.ledger import Ledger, Migration, Standing, Track, journal, standing
from dbctl.services.migrations.safety_backup import Safety
from dbctl.services.migrations.status import tracks
from dbctl.services.migrations.up import Applied, meant, refuse_strangers, settled

NOTHING_APPLIED = "nothing to do: no migration is applied"


class TakenBack(Applied, frozen=True, kw_only=True):
    """One migration that this run took back."""


class Reach(Value, frozen=True, kw_only=True):
    """How many migrations are taken back: the last one, unless one of these says otherwise."""

    steps: int = 0  #: so many
    to: str = ""  #: all that came after this one
    everything: bool = False


class Downgrade:
    """What ``migrate down`` is about to do, database by database, each under the lock of dbctl's writers."""

    def __init__(
        self,
        app: App,
        reach: Reach,
        asked: str = "",
        given: Path | None = None,
        *,
        shape: str = "",
        safety: Safety | None = None,
    ) -> None:
        """Read the folders.

        Args:
            app: the app.
            reach: how many are taken back.
            asked: the database.
            given: the folder, in place of the configured one.
            shape: the one that the database is to have, where the migrations come in several.
            safety: where what is destroyed is kept first; without it, as the configuration says.

        Raises:
            UsageError: it is not clear how many, or of which database.
            DownAllRefusedError: all of a protected app.
        """
        self.app, self.protected = app.name, app.protected
        if (reach.steps > 0) + bool(reach.to) + reach.everything > 1:
            raise UsageError(detail="give one of --steps, --to and --all")
        if reach.everything and app.protected:
            raise DownAllRefusedError(app=app.name)
        self._opened, self._reach = app, reach
        self._tracks = tracks(app, asked, given, shape=shape)
        if len(self._tracks) > 1 and not reach.everything:
            names = ", ".join(one.database for one in self._tracks)
            raise UsageError(detail=f"say of which database: --db {names}, or --all")
        self._safety = safety or Safety(app)
        self.target = self._tracks[0].target if len(self._tracks) == 1 else app.name

    def plan(self) -> Plan:
        """Return which would be taken back, and what is lost with them; raises what ``apply`` would refuse with."""
        steps: list[str] = []
        rows: dict[str, int] = {}
        number = 0
        for track in self._tracks:
            self._names(track)
            url = self._opened.url(track.database)
            with closing(registry.open_for_reading(url, track.target, timeout=self._opened.timeout)) as db:
                chosen = _chosen(standing(track, db), self._reach)
                effects = [one for _, back in chosen for one in back.effects]
                at_risk = row_loss.at_risk(db, effects)
            rows |= {one.table: rows.get(one.table, 0) + one.before for one in at_risk}
            steps += self._safety.steps(track, [file.name for file, _ in chosen])
            where = f"{track.database}/" if len(self._tracks) > 1 else ""
            steps += [
                f"take {where}{file.name} back ({counted(len(back.statements), 'statement')})"
                for file, back in chosen
            ]
            number += len(chosen)
        title = f"Take back {counted(number, 'migration')}"
        return Plan(title=title, target=self.target, steps=steps, rows=rows, destructive=True)

    def apply(self, seen: str | None = None) -> Page[TakenBack]:
        """Take them back, each in one transaction with its row in the ledger.

        Raises:
            PlanChangedError: what would be done is no longer what was ``seen``; nothing was done.
            MigrationFailedError: one of them did not work; it was rolled back, those before it stay taken back.
            MigrationHalfDoneError: the same, and what it had done stays, too.
        """
        if seen is not None and self.plan().digest != seen:
            raise PlanChangedError(target=self.target)
        done: list[TakenBack] = []
        for track in self._tracks:
            names = self._names(track)
            if not names:
                continue
            with (
                self._safety.kept(track, names) as backup,
                self._opened.writer(track.database, "migrate down", create=True) as db,
            ):
                ready, found = migrating(db), standing(track, db)
                shaped = found.track
                chosen = _chosen(found, self._reach)
                if [file.name for file, _ in chosen] != names:
                    raise PlanChangedError(target=track.target)
                ledger = Ledger(shaped, db)
                try:
                    for number, (file, steps) in enumerate(chosen):
                        work = Work(
                            shaped,
                            ready,
                            ledger,
                            file,
                            steps,
                            way="down",
                            half=found.unfinished.get(file.name),
                            before=[one.name for one in done],
                            rest=names[number + 1 :],
                        )
                        if ran := work.run():
                            done.append(TakenBack.of(shaped, file, steps, ran, backup))
                finally:
                    journal.close(ready)
        names_of = TakenBack.__struct_fields__
        return Page(items=done, total=len(done), names=names_of, nothing=NOTHING_APPLIED)

    def _names(self, track: Track) -> list[str]:
        return settled(self._opened, track, lambda: self._seen(track))

    def _seen(self, track: Track) -> list[str]:
        url = self._opened.url(track.database)
        with closing(registry.open_for_reading(url, track.target, timeout=self._opened.timeout)) as db:
            return [file.name for file, _ in _chosen(standing(track, db), self._reach)]


def _chosen(found: Standing, reach: Reach) -> list[tuple[MigrationFile, Steps]]:
    """Return what is taken back, the newest first, or raise what ``Downgrade.apply`` refuses with."""
    track = found.track
    _refuse(found)
    applied = [
        one
        for one in reversed(found.migrations)
        if one.state in ("applied", "baseline", "retired") or one.name in found.unfinished
    ]
    if reach.to:
        last = meant(track.folder, reach.to, [one.name for one in reversed(applied)])
        applied = [one for one in applied if place_of(one.name) > place_of(last)]
    elif not reach.everything:
        applied = applied[: reach.steps or 1]
    return [_way_back(found, one) for one in applied]


def _refuse(found: Standing) -> None:
    """Refuse a database of which it is not clear what it has had."""
    track = found.track
    if track.foreign:
        raise LedgerForeignError(target=track.target, runner=track.foreign.runner)
    refuse_strangers(track, found)
    if not found.recorded:
        raise LedgerMissingError(target=track.target, table=track.ledger.table)
    if broken := [name for name in found.named("failed") if name not in found.unfinished]:
        raise MigrationBrokenError(target=track.target, names=listed(broken))
    if changed := found.named("changed"):
        raise MigrationChangedError(target=track.target, names=listed(changed))
    if late := found.named("out-of-order"):
        newest = [name for name in found.named("applied") if name in track.folder.files][-1]
        raise MigrationsOutOfOrderError(target=track.target, names=listed(late), newest=newest)


def _way_back(found: Standing, one: Migration) -> tuple[MigrationFile, Steps]:
    """Return what takes a migration back.

    Raises:
        MigrationOneWayError: nothing does.
        MigrationUnknownError, MigrationStepsChangedError: it is taken back in part, and it is not clear how far.
    """
    track = found.track

    def refusal(reason: str) -> MigrationOneWayError:
        return MigrationOneWayError(target=track.target, name=one.name, reason=reason)

    file, half = track.folder.files.get(one.name), found.unfinished.get(one.name)
    if file is None or one.state == "baseline":
        raise refusal("it has no file" if file is None else "it has no row of its own in the ledger")
    if half and half.way == "up":
        raise refusal(f"it is applied in part ({one.detail}); dbctl migrate up completes it")
    steps = file.down(registry.language(track.engine))
    if steps is None:
        raise refusal("it has no way down, or one without a statement")
    own = {name.lower() for name in track.ledgers if name}
    if any(name.lower() in own for judged in steps.effects for name in judged.drops):
        raise refusal(f"its way down would drop the ledger ({track.ledger.table})")
    if half:
        refuse_doubt(track, file, steps, half)
    return file, steps
