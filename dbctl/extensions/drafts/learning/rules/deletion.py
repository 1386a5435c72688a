"""What the deletion of a user deletes, clears, transfers and keeps: rows by their paths to the user, children before parents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from dbctl.engines.contract.schema import SchemaReference
from dbctl.extensions.drafts import usual_names
from dbctl.extensions.drafts.databases import draft_owned_rows
from dbctl.extensions.drafts.document import Decision, Value, join_names
from dbctl.extensions.drafts.learning.rules.user_rows import RECORD, UserRule
from dbctl.extensions.drafts.learning.scene import ChangedRow, LearnedKey, Lesson, Scene, decode_changes
from dbctl.extensions.drafts.new_users import find_value_references
from dbctl.model import format_count
from dbctl.profiles.payloads import parse_row_path
from dbctl.services.app.evidence import references, subjects
from dbctl.services.app.evidence.references import find_user_references

REASON = "as in the app"  #: why rows keep the key of a deleted user
#: Rows of a path that are compared with those that the action deleted.
MOST_ROWS = 2_000
#: What a foreign key does with rows, so that their parents are deleted before them.
_HANDLED = ("CASCADE", "SET NULL", "SET DEFAULT")


class DeletionRule(UserRule):
    """The rows that went, and the references that changed, with one user."""

    def __init__(self, scene: Scene) -> None:
        """Find the rows.

        Raises:
            DemonstrationWrongError: the row of the user remains.
        """
        super().__init__(scene)
        if self.own.after is not None:
            state = f"only {', '.join(self.own.after)} changed" if self.own.after else "nothing in it changed"
            raise scene.create_error(
                f"the row of {scene.subject.login!r} remains, and {state}",
                "If the app keeps the rows of users, learn deactivate instead.",
            )
        self._deleted = dict[str, list[ChangedRow]]()
        for row in self.rows:
            if row.after is None and row.table != self.users.table:
                self._deleted.setdefault(row.table, []).append(row)
        self._explained = self.paths.explain(self._deleted)
        self._cleared, self._transferred = dict[str, None](), dict[str, Counter[object]]()

    def learn(self) -> Lesson:
        """Return the keys about the rows of deleted users."""
        scene = self.scene
        self._explain_changes()
        self._explain_added()
        shown = list(self._list_deleted())
        contradicted = [path for path in self.users.cascade if self._is_contradicted(path)]
        watched = {parse_row_path(path)[0].table for path in contradicted} & self._list_earlier()
        if watched:
            # An app may delete users in several ways: one demonstration does not revoke what another one shows.
            contradicted = [path for path in contradicted if parse_row_path(path)[0].table not in watched]
            text = f"the app kept rows of {join_names(sorted(watched))}, and deleted them in an earlier demonstration"
            self._leave_open(text)
        cascade = self._order([*(path for path in self.users.cascade if path not in contradicted), *shown])
        retained = self._list_retained(contradicted, cascade)
        former = [path for path in self.users.clear if self._is_deleted(path)]
        clear = list(
            dict.fromkeys([*(path for path in self.users.clear if path not in former), *self._cleared])
        )
        lists = [
            ("cascade", self.users.cascade, cascade, shown),
            ("clear", self.users.clear, clear, list(self._cleared)),
        ]
        keys = [
            scene.create_key("users", name, value=value or None, shown=own)
            for name, earlier, value, own in lists
            if own or list(earlier) != value
        ]
        removed = [path for path in self.users.retained if self._is_deleted(path)]
        further = [path for path in self.users.retained if path not in removed]
        keys += [scene.create_key("users", "retained", path, value=REASON) for path in retained]
        keys += [scene.create_key("users", "retained", path, value=None) for path in removed]
        keys += self._learn_transfer()
        self._describe_deleted()
        rest = self._draft_rest(cascade, [*clear, *retained, *further, *self._transferred])
        if "deletion" in scene.profile.undecided:
            self.decisions += [entry for entry in rest if entry.topic == "deletion"]
        names_keys = any(entry.topic == "rights" for entry in rest)
        return self.create_lesson(keys, ["deletion"] if names_keys else ["deletion", "rights"])

    def _leave_open(self, text: str) -> None:
        self.leave_open("deletion", text)

    # Deleted rows -----------------------------------------------------------------------------------------------------

    def _list_deleted(self) -> Iterator[str]:
        """Yield the paths of deleted rows, without those that foreign keys delete in a right order."""
        for table, paths in self._explained.items():
            targets = [
                reference.table
                for reference in self.evidence.tables[table].references
                if reference.on_delete not in _HANDLED
            ]
            is_blocking = any(target in self._deleted and target != table for target in targets)
            yield from (path for path in paths if is_blocking or not self._is_cascaded(path))
        unexplained = [table for table in self._deleted if table not in self._explained]
        if unexplained:
            self._leave_open(
                f"the app deletes rows of {join_names(unexplained)}, whose columns do not show the user"
            )

    def _is_cascaded(self, path: str) -> bool:
        """Return whether a foreign key deletes the rows of a path with those to which they refer."""
        step, *later = parse_row_path(path)
        reference = self.paths.find_reference(step.table, step.column)
        parent = later[0].table if later else self.users.table
        return (
            bool(reference and reference.on_delete == "CASCADE" and reference.table == parent)
            and not step.filter
            and not step.text
        )

    def _list_earlier(self) -> set[str]:
        """Return the tables whose rows earlier demonstrations deleted."""
        changes = [change for recording in self.scene.earlier for change in recording.changes]
        return {row.table for row in decode_changes(changes) if row.after is None}

    def _is_contradicted(self, path: str) -> bool:
        """Return whether rows of a path existed and were not deleted."""
        selected = self._select(path)
        return bool(selected - self._list_keys(path))

    def _is_deleted(self, path: str) -> bool:
        """Return whether rows of a path existed and were all deleted."""
        selected = self._select(path)
        return bool(selected) and selected <= self._list_keys(path)

    def _select(self, path: str) -> set[tuple[str, ...]]:
        known = self.paths.is_known(path)
        return (self.paths.select(path, most=MOST_ROWS) or set()) if known else set()

    def _list_keys(self, path: str) -> set[tuple[str, ...]]:
        table = parse_row_path(path)[0].table
        return {self.paths.identify(table, row.before or {}) for row in self._deleted.get(table, ())}

    def _order(self, paths: Sequence[str]) -> list[str]:
        """Return paths so that rows are deleted before those to which they refer; rows of one table go together."""
        steps = {path: [step.table for step in parse_row_path(path)] for path in paths}
        tables = list(dict.fromkeys(names[0] for names in steps.values()))
        above = {
            table: {
                *(name for names in steps.values() if names[0] == table for name in names[1:]),
                *(reference.table for reference in self._list_references(table)),
            }
            - {table}
            for table in tables
        }
        ordered = list[str]()
        while tables:
            # In a cycle, no table is first: the order of the profile remains.
            free = (name for name in tables if all(name not in above[other] for other in tables))
            table = next(free, tables[0])
            tables.remove(table)
            ordered += [path for path in steps if steps[path][0] == table]
        return ordered

    def _list_references(self, table: str) -> Sequence[SchemaReference]:
        evidence = self.evidence.tables.get(table)
        return evidence.references if evidence else ()

    def _describe_deleted(self) -> None:
        """Note the rows of other users that went because they refer to rows of this user."""
        key, users = self.users.id.column, self.users.table
        for table, rows in self._deleted.items():
            owners = [
                reference.columns[0]
                for reference in self._list_references(table)
                if reference.table == users and list(reference.to) == [key] and len(reference.columns) == 1
            ]
            others = [
                row
                for row in rows
                if row.before and any(row.before[column] not in (None, self.key) for column in owners)
            ]
            if others and table in self._explained:
                path = join_names(self._explained[table])
                self.notes.append(
                    f"with a user go {format_count(len(others), 'row')} of {table} of other users: {path}"
                )

    # Changed and added rows -------------------------------------------------------------------------------------------

    def _explain_changes(self) -> None:
        rest = Counter[str]()
        for row in self.rows:
            if row.before is None or row.after is None:
                continue
            paths = {column: self._find_path(row.table, column, old) for column, old in row.before.items()}
            for column, path in paths.items():
                if path:
                    rest[f"{row.table}.{column}"] += not self._explain_reference(row, column, path)
                elif not self._is_time(row, column):
                    rest[f"{row.table}.{column}"] += 1
                elif not any(paths.values()):  # dbctl completes the time of a change
                    self.unrelated[f"{row.table}.{column}"] = "a time in rows that do not refer to the user"
        for place, count in (+rest).items():
            text = f"the app changes {place} in {format_count(count, 'row')}, which is not explained"
            self._leave_open(text)
        for path in [path for path in self._cleared if self.paths.count_after(path)]:
            del self._cleared[path]
            self._leave_open(f"the app clears {path} in some rows, and keeps it in others")

    def _explain_reference(self, row: ChangedRow, column: str, path: str) -> bool:
        """Add a reference that was cleared, or given to another user; return whether it was."""
        value = (row.after or {})[column]
        if value is None:
            reference = self.paths.find_reference(row.table, column)
            if reference is None or reference.on_delete != "SET NULL":
                self._cleared[path] = None
            return True
        is_transferred = path == f"{row.table}.{column}" and self.paths.is_user(value)
        if is_transferred:
            self._transferred.setdefault(path, Counter())[value] += 1
        return is_transferred

    def _is_time(self, row: ChangedRow, column: str) -> bool:
        definition = self.evidence.tables[row.table].columns.get(column)
        return definition is not None and subjects.is_time(definition, [(row.after or {})[column]])

    def _find_path(self, table: str, column: str, value: object) -> str:
        """Return the path of a changed column that had the key of the user, or of a deleted row; empty: it had neither."""
        if path := self.paths.find_column(table, column, value):
            return path
        reference = self.paths.find_reference(table, column)
        if reference is None or reference.table not in self._explained:
            return ""
        parent, target = self.evidence.tables[reference.table], reference.to[0]
        stored = [row.before[target] for row in self._deleted[reference.table] if row.before]
        if value not in stored:
            return ""
        evidence = self.evidence.tables[table]
        return references.extend_path(parent, self._explained[reference.table][0], evidence, reference)

    def _explain_added(self) -> None:
        changed = {row.table for row in self.rows if row.before is not None}
        for table in dict.fromkeys(row.table for row in self.rows if row.before is None):
            if table in self.users.sign_in_tables and table not in changed:
                self.unrelated[table] = "it signs a user in"
            elif usual_names.is_log(table) and table not in changed:
                self.unrelated[table] = RECORD
            else:
                self._leave_open(f"the app adds rows to {table}")
        others = {row.database for row in self.scene.list_rows()} - {self.scene.users_database}
        if others:
            self._leave_open(f"the app changes rows of other databases: {join_names(sorted(others))}")

    def _learn_transfer(self) -> Iterator[LearnedKey]:
        """Yield the rows that another user got, and leave open who gets them next time."""
        if not self._transferred:
            return
        known = {f"{item.table.removesuffix('?')}.{item.column}": item for item in self.users.transfer}
        entries = list[Value]()
        for path in dict.fromkeys([*known, *self._transferred]):
            table, _, column = path.partition(".")
            once = list(known[path].once) if path in known else []
            name = known[path].table if path in known else table
            entries.append({"table": name, "column": column} | ({"once": once} if once else {}))
        if any(path not in known for path in self._transferred):
            yield self.scene.create_key("users", "transfer", value=entries)
        heirs = Counter[object]()
        for counts in self._transferred.values():
            heirs.update(counts)
        self._leave_open(
            f"rows of {join_names(list(self._transferred))} went to {format_count(len(heirs), 'other user')}:"
            " name the user with --transfer-to, or in users.successor if the app always chooses the same"
        )

    # Rows that remain -------------------------------------------------------------------------------------------------

    def _list_retained(self, contradicted: Sequence[str], cascade: Collection[str]) -> list[str]:
        """Return the paths of columns that still have the key of the user."""
        evidence, users = self.scene.evidence[self.scene.users_database], self.table
        owned = list(find_user_references(evidence, users, self.users.id.column))
        blocked = {reference.path for reference in owned if reference.deletion == "blocked"}
        copied = find_value_references(evidence, self.paths.before, users, self.paths.logins, ())
        places = {parse_row_path(path)[0].path for path in [*cascade, *self._cleared, *self._transferred]}
        candidates = [
            *contradicted,
            *(reference.path for reference in owned if reference.deletion != "handled"),
            *(f"{item.table.removesuffix('?')}.{item.column}" for item in self.users.transfer),
            *(reference.path for reference in copied if reference.path),
        ]
        retained = list[str]()
        for path in dict.fromkeys(candidates):
            if parse_row_path(path)[0].path in places or not self.paths.is_known(path):
                continue
            if not self.paths.count_after(path):
                continue
            if path in blocked:
                self._leave_open(f"rows keep the key in {path}, which a foreign key prevents in dbctl")
            else:
                retained.append(path)
        return retained

    def _draft_rest(self, cascade: Sequence[str], retained: Sequence[str]) -> Sequence[Decision]:
        """Return the decisions about rows that this user did not have."""
        section, role = self.users, self.users.role
        places = [steps[0].path for path in (*cascade, *retained) if len(steps := parse_row_path(path)) == 1]
        tables = [item.table for item in section.create]
        tables += [item.table for item in (role.members, role.metadata) if item] if role else []
        draft = draft_owned_rows(
            self.scene.evidence[self.scene.users_database],
            self.paths.before,
            self.table,
            logins=self.paths.logins,
            signed_in=section.sign_in_tables,
            described=[table.removesuffix("?") for table in tables],
            cascade=cascade,
            retained=[*retained, *places],
        )
        return draft.decisions
