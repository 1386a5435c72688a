"""Compare a profile with a live database: every check of ``apps check`` that opens a database, in one shape."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from dbctl.engines.contract import Readable
from dbctl.errors import PrivilegeMissingError
from dbctl.model import Severity, Struct
from dbctl.services.app import App
from dbctl.services.app.evidence import (
    UNREADABLE,
    Contradiction,
    find_contradictions,
    find_uncovered_rows,
)
from dbctl.services.profiles import (
    consistency,
    live_check,
    owned_rows,
    password_check,
    readability,
    role_check,
    sql_check,
    stored_forms,
)
from dbctl.services.profiles.consistency import Problem

_Check: TypeAlias = Callable[[App, str, Readable], Iterator[Contradiction]]


class _Rule(Struct, frozen=True):
    """A check all of whose problems have the same code, severity and remedy."""

    code: str
    severity: Severity
    find: Callable[[App, str, Readable], Iterator[Problem]]
    remedy: str

    def check(self, app: App, database: str, live: Readable) -> Iterator[Contradiction]:
        for key, reason in self.find(app, database, live):
            yield Contradiction(
                key=key, code=self.code, reason=reason, remedy=self.remedy, severity=self.severity
            )


_RULES = (
    _Rule(
        "schema-mismatch",
        "error",
        lambda app, database, live: consistency.find_missing(app.profile, database, live, app.main()),
        "Migrations may be pending (dbctl migrate status). Mark optional names with a trailing ?",
    ),
    _Rule(
        "column-uncovered",
        "error",
        lambda app, database, live: consistency.find_uncovered_columns(
            app.profile, database, live, app.main()
        ),
        "Add it to [users.fields] or, with a value, to [users.new] or [[users.create]].",
    ),
    _Rule(
        "search-key-idle",
        "warning",
        lambda app, database, live: consistency.find_unusable_search_keys(app.profile, database, live),
        "Explain with `missing` why a deployment may lack it.",
    ),
    _Rule(
        "key-not-unique",
        "error",
        sql_check.find_keys_without_index,
        "Without one, existing rows cannot be distinguished from new rows.",
    ),
    _Rule(
        "variant-unknown",
        "error",
        lambda app, database, live: live_check.find_unknown_variants(app.profile, database, live, app.main()),
        "Add a variant with the columns of this deployment.",
    ),
    _Rule(
        "stored-form",
        "error",
        stored_forms.find_wrong_forms,
        "Declare the form that the app writes: dbctl neither reads nor writes values in other forms.",
    ),
    _Rule(
        "role-form",
        "error",
        role_check.find_role_problems,
        "Correct it: dbctl refuses to change roles, and to delete or deactivate users, until it matches.",
    ),
    _Rule(
        "report-idle",
        "warning",
        sql_check.find_unusable_reports,
        "A deployment without these cannot run it.",
    ),
)


def find_open_decisions(app: App, database: str, _live: Readable) -> Iterator[Contradiction]:
    """Yield what the profile leaves open, with the main database."""
    if database != app.main():
        return
    for topic, decisions in app.profile.undecided.items():
        for index, decision in enumerate(decisions):
            yield Contradiction(
                key=("undecided", topic, index),
                code="decision-open",
                reason=f"undecided: {decision}",
                remedy=f"Decide it in the profile, then delete the entry {topic} from [undecided].",
                severity="info",
            )
    users = app.profile.users
    if users and users.admin == "":
        yield Contradiction(
            key=("users",),
            code="admin-undecided",
            reason="the profile does not say which users are admins: dbctl deletes, deactivates and demotes none",
            remedy="Name the role in users.admin, or write admin = false if the app has no admins among its users.",
            severity="warning",
        )


_CHECKS: tuple[_Check, ...] = (
    readability.find_unreadable_tables,
    find_open_decisions,
    *(rule.check for rule in _RULES),
    sql_check.find_failing_statements,
    password_check.find_format_problems,
    owned_rows.find_unlisted_rows,
    find_contradictions,
    find_uncovered_rows,
)


def find_problems(app: App, database: str, live: Readable) -> Iterator[Contradiction]:
    """Yield what does not match; a check omits tables that the role may not read, and each of them is reported once."""
    denials = set[str]()
    for check in _CHECKS:
        try:
            for problem in check(app, database, live):
                if problem.code != UNREADABLE:
                    yield problem
                elif problem.reason not in denials:
                    denials.add(problem.reason)
                    yield problem
        except PrivilegeMissingError:
            if not denials:  # otherwise ``find_unreadable_tables`` has reported the table
                raise
