"""What goes along in other databases when rows are deleted, because the profile says that a link cascades."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from dbctl.engines.contract import AnyOf, Condition, Not, Readable, Where
from dbctl.errors import AlongUnreachableError
from dbctl.model import counted
from dbctl.profiles.model import CrossLink
from dbctl.services.app import App, Live, find_column, reaching, unconfigured
from dbctl.services.deletion.cascade import Touched

#: Values in one condition: each makes a statement longer, and what names many rows is asked for in parts.
BATCH = 2_000


class Beside:
    """Rows of other databases that name rows of one database which are about to be deleted."""

    def __init__(self, app: App, database: str, db: Readable, gone: Mapping[str, Sequence[Where]]) -> None:
        """Look for them.

        Args:
            app: the app.
            database: the one in which rows go.
            db: the same, opened.
            gone: conditions of what goes, by table; a row that meets one of them does.

        Raises:
            AlongUnreachableError: another database cannot be asked, or is there and not configured.
        """
        self._app, self._database, self._db, self._gone = app, database, db, gone
        #: by database and table: what is deleted there, one statement each
        self._found: dict[tuple[str, str], list[list[Where]]] = {}
        self._numbers: dict[tuple[str, str], int] = {}
        for link in [] if app.only else leading(app, database):
            self._look(link)

    def planned(self) -> Iterator[Touched]:
        """Yield what goes, table by table; a table is named with its database."""
        for (database, table), number in self._numbers.items():
            if number:
                step = f"delete {counted(number, 'row')} of {table} in {self._app.target(database)}"
                yield Touched(table=f"{database}/{table}", rows=number, step=step)

    def delete(self) -> None:
        """Delete it, in transactions that the change holds open."""
        for (database, table), statements in self._found.items():
            for where in statements:
                self._app.held(database).delete(table, where)

    def _look(self, link: CrossLink) -> None:
        values = list(dict.fromkeys(self._named(link)))
        if not values:
            return
        if link.database not in self._app.configured.databases:
            if stands := unconfigured.place_of(self._app, link.database):
                raise AlongUnreachableError(
                    target=self._app.target(link.database),
                    reason=unconfigured.SENTENCE.format(place=stands),
                    to=link.to,
                    instead=unconfigured.instead(self._app, link.database, stands),
                )
            return
        with reaching(self._app, link.database, link.to):
            there = self._app.reader(link.database)
            live = there.tables().get(link.table)
        if live is None and link.optional:
            return
        column = Live(self._app.profile, there, link.table, "deleting what names these rows").get(link.column)
        place = (link.database, link.table)
        known = self._found.setdefault(place, [])
        before: list[Where] = [AnyOf([one for where in known for one in where[:1]])] if known else []
        for at in range(0, len(values), BATCH):
            naming = Condition(column, "in", values[at : at + BATCH])
            where: list[Where] = [naming, *(Not(one) for one in before)]
            number = there.count(link.table, where)
            if number:
                known.append(where)
                self._numbers[place] = self._numbers.get(place, 0) + number

    def _named(self, link: CrossLink) -> Iterator[object]:
        """Yield what rows that go are called there, and were called before."""
        for one in [*link.among, *([link.formerly] if link.formerly else [])]:
            table, _, name = one.rpartition(".")
            column = find_column(self._db.tables().get(table), name)
            if table in self._gone and column:
                rows = self._db.select(table, [column], [AnyOf(self._gone[table])])
                yield from (value for (value,) in rows if value is not None)


def leading(app: App, database: str) -> list[CrossLink]:
    """Return the links by which rows of other databases go along with rows of this one."""
    return [link for link in app.profile.link if link.cascade and link.to == database]


def linked(app: App, database: str) -> list[CrossLink]:
    """Return those of configured databases."""
    return [link for link in leading(app, database) if link.database in app.configured.databases]


def written(app: App, database: str, tables: Sequence[str]) -> list[str]:
    """Return the other databases that are written when rows of these tables go."""
    if app.only:
        return []
    named = {
        link.database: None
        for link in linked(app, database)
        if any(place.rpartition(".")[0] in tables for place in link.among)
    }
    return list(named)


def left_alone(app: App, database: str) -> list[str]:
    """Return what somebody has to know who said that one database alone is meant."""
    if not app.only:
        return []
    targets = dict.fromkeys(app.target(link.database) for link in linked(app, database))
    return [f"what names these rows in {target} stays there: --db leaves it alone" for target in targets]
