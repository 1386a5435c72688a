"""``apps`` lists the configured apps, and checks files and live databases against profiles."""

from __future__ import annotations

import shutil
import sqlite3

import pytest

from dbctl.config.sections import Selection
from dbctl.errors.usage import ConfigInvalidError
from dbctl.profiles import loader
from dbctl.services import profiles
from dbctl.url import list_engines
from tests.services.flashpoint_app import SHAPES, create_app, open_app, run_statements
from tests.shapes import flashpoint_web as shapes

BUILT_IN = loader.path_of("flashpoint-web").read_text(encoding="utf-8")


def check_profile(tmp_path, *replacements, **selection):
    """Return the errors in the profile of Flashpoint Web after replacements."""
    text = BUILT_IN
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new, 1)
    path = tmp_path / "p.toml"
    path.write_text(text, encoding="utf-8")
    return [finding.message for finding in profiles.check_files(Selection(**selection), str(path)).findings]


def line_number(text):
    return BUILT_IN[: BUILT_IN.index(text)].count("\n") + 1


@pytest.mark.parametrize("name", loader.names())
def test_built_in_profiles_are_valid(name):
    assert not profiles.check_files(Selection(), name).findings


@pytest.mark.parametrize("variant", SHAPES)
def test_built_in_profile_matches_both_variants(tmp_path, variant):
    from dbctl.services.checks.run import check_live

    with open_app(create_app(tmp_path / "app", variant)) as app:
        report = check_live(app)
    assert report.findings == []
    assert report.checked > 60


@pytest.mark.parametrize("build", [shapes.document_flashpoint_db, shapes.launcher_flashpoint_db])
def test_every_search_key_works_on_both_schemas(tmp_path, build):
    from dbctl.services.app.session import open_app
    from dbctl.services.checks.run import check_live

    path = build(tmp_path / "flashpoint.sqlite")
    with open_app(Selection(profile="flashpoint-web", urls=[f"flashpoint={path}"]), timeout=1) as app:
        findings = check_live(app).findings
    assert [(finding.code, finding.severity) for finding in findings] == [
        ("database-not-configured", "warning")
    ]


def test_inconsistency_has_line_and_key(tmp_path):
    fields = line_number('value = "setting_value"')  # one line less and one line more
    assert check_profile(
        tmp_path,
        ('engines = ["sqlite"]', 'engines = ["sqlight"]'),
        ('login = ["username", "email"]', 'login = ["nick", "email"]'),
        ('admin = "admin"', 'admin = "admin"\ndatabase = "people"'),
        ("[users.rules]\nusername", "[users.rules]\nnick"),
        ('fields = { name = "name", description', "fields = { description"),
        ('[settings.fields]\nvalue = "setting_value"', "[settings.fields]\nvalu = 'x'"),
    ) == [
        f"line {line_number('engines = ')}, databases.user.engines: no engine 'sqlight'; known: {', '.join(dict(list_engines()))}",
        f"line {line_number('login = ')}, users.login: nick is not in users.fields",
        f"line {line_number('admin = ') + 1}, users.database: no section [databases.people]",
        f"line {line_number('[users.rules]') + 2}, users.rules.nick: nick is not in users.fields",
        f"line {line_number('fields = { name') + 1}, roles.fields: name is missing",
        f"line {fields}, settings[1].fields: value is missing",
    ]


def test_commands_refuse_an_inconsistent_profile(answer, tmp_path):
    """A mistake in one section does not prevent a backup."""
    sqlite3.connect(tmp_path / "notes.db").executescript(
        "create table settings (name text primary key, value text)"
    )
    (tmp_path / "notes.toml").write_text(
        """schema = "dbctl.profile/1"
name = "notes"
title = "Notes"
[databases.main]
engines = ["sqlite"]
[[settings]]
scope = "system"
table = "settings"
fields = { value = "value" }
"""
    )
    selection = ("--profile", str(tmp_path / "notes.toml"), "--url", str(tmp_path / "notes.db"))
    for words in (["settings", "list"], ["settings", "set", "title", "x"], ["data", "rows", "settings"]):
        error = answer(*words, *selection, status=2)["error"]
        assert (error["code"], "notes.toml, line 6, settings[0]" in error["message"]) == (
            "profile-invalid",
            True,
        )
    assert answer("backup", "create", "--repository", str(tmp_path / "backups"), *selection)["data"]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('older_than = "24h" }\nset', 'older_than = "3h" }\nset', "4h may be in the future for a row that is only 3h old"),
        ('older_than = "24h" }\nset', 'older_than = "1001y" }\nset', "1001y is too long"),
        ('same_transaction = "user_id"', 'same_transaction = "user_id"\ndelete = true', "exactly one of: set, delete = true"),
        ('table = "user_stats"\nkey = ["user_id"]\ncol', 'table = "users"\nkey = ["id"]\ncol', "no section `after` has into = 'users'"),
        ('name = "revoked-tokens"', 'name = "expired-tokens"', "expired-tokens is a duplicate"),
        ('table = "user_playlists"\noptional = true', 'table = "user_playlists"', "search playlists is always used"),
        ('name = "abandoned-plays"', 'name = "left-plays"', "no [[cleanup]] rule abandoned-plays"),
    ],
)  # fmt: skip
def test_inconsistent_cleanup_rule_is_reported(tmp_path, old, new, expected):
    mistakes = check_profile(tmp_path, (old, new))
    assert any(expected in mistake for mistake in mistakes), mistakes


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("old", "old"), "migrations.variant[6].name: old is a duplicate"),
        (("old", "../old"), "migrations.variant[6].name: "),
        (("", "old"), "migrations.variant[5].name: "),
    ],
)
def test_migration_variants_have_unique_valid_names(tmp_path, names, expected):
    variants = "".join(
        f'[[databases.user.migrations.variant]]\nname = "{name}"\nneeds = ["users"]\n' for name in names
    )
    ledger = "[databases.user.migrations.ledger]"
    (mistake,) = check_profile(tmp_path, (ledger, f"{variants}\n{ledger}"))
    assert expected in mistake


def test_all_structural_mistakes_are_reported_together(tmp_path):
    mistakes = check_profile(
        tmp_path,
        ('time = "iso-ms"', 'time = "iso"'),
        ('table = "refresh_tokens"', 'tabel = "refresh_tokens"'),
        ('language = "fpa"', "language = 7"),
    )
    assert mistakes == [
        f"line {line_number('time = ')}, time: 'iso' is not one of epoch-ms, epoch-s, iso-ms, sqlite-time",
        f"line {line_number('[[users.signed_in]]')}, users.signed_in[0].table: it is missing",
        f"line {line_number('[[users.signed_in]]') + 1}, users.signed_in[0].tabel: unknown key (did you mean 'table'?)",
        f"line {line_number('language = ')}, search[0].language: 7 is not one of fpa, words",
    ]


def test_invalid_keys_of_tables_are_reported_with_line(tmp_path):
    section = "[databases.user.migrations.ledger]"
    keys = '[undecided]\nlogn = ["x"]\n[databases."a b"]\nengines = ["sqlite"]'
    mistakes = check_profile(tmp_path, (section, f"{keys}\n{section}"))
    start = line_number(section)
    assert mistakes == [
        f"line {start + 1}, undecided.logn: unknown key (did you mean 'login'?)",
        f"line {start + 2}, databases.a b: 'a b' does not match '^\\\\w[\\\\w.-]*$'",
    ]


def test_missing_tables_and_columns_are_reported_with_line(tmp_path):
    from dbctl.services.checks.run import check_live

    path = create_app(tmp_path / "app", "deployed")
    run_statements(path, "drop table login_attempts", "alter table users rename column email to mail")
    with open_app(path) as app:
        findings = check_live(app).findings
    assert [(finding.code, finding.severity, finding.message.partition(" (")[0]) for finding in findings] == [
        ("schema-mismatch", "error", "no column users.email"),
        ("schema-mismatch", "error", "no table login_attempts"),  # for the lockout
        ("schema-mismatch", "error", "no table login_attempts"),  # for the cleanup
        ("column-uncovered", "error", "users.mail requires a value, but the profile has none"),
    ]
    assert f"(quick.toml, line {line_number('email = ')}, users.fields.email)" in findings[0].message
    assert findings[0].target == "fp/user"


def test_settings_of_unknown_variant_are_reported(tmp_path):
    from dbctl.services.checks.run import check_live

    path = create_app(tmp_path / "app", "deployed")
    run_statements(path, "alter table system_settings rename column data_type to kind")
    with open_app(path) as app:
        (finding,) = check_live(app).findings
    assert "system_settings has no column data_type or value_type" in finding.message


def test_database_of_another_app_is_a_finding(tmp_path):
    from dbctl.services.checks.run import check_live

    path = create_app(tmp_path / "app", "deployed")
    config = path.with_name("dbctl.toml")
    config.write_text(config.read_text(encoding="utf-8") + 'flashpoint = "user.db"\n', encoding="utf-8")
    with open_app(path) as app:
        findings = check_live(app).findings
    assert [(finding.target, finding.code) for finding in findings] == [("fp/flashpoint", "wrong-app")]


def check_configuration(tmp_path, text):
    (tmp_path / "dbctl.toml").write_text(text, encoding="utf-8")
    return profiles.check_files(Selection(config=str(tmp_path / "dbctl.toml")), "")


def test_configuration_is_checked_with_its_profiles(tmp_path):
    shutil.copyfile(loader.path_of("flashpoint-web"), tmp_path / "good.toml")
    (tmp_path / "bad.toml").write_text("", encoding="utf-8")
    report = check_configuration(
        tmp_path,
        '[apps.a]\nprofile = "nix"\n[apps.b]\nprofile = "flashpoint-web"\n[apps.b.databases]\n'
        'user = "mysql://u:pw@h/x"\nnix = "y"\n[apps.b.migrations]\nnix = "z"\n[apps.c]\nprofile = "bad.toml"\n'
        '[apps.d]\nprofile = "good.toml"\n[apps.e]\nprofile = "missing.toml"\n[apps.f]\nprofile = "bad.toml"\n',
    )
    assert [
        (finding.target.rpartition("/")[2], finding.message.partition(":")[0]) for finding in report.findings
    ] == [
        ("bad.toml", "line 1, schema"),
        ("bad.toml", "line 1, name"),
        ("bad.toml", "line 1, title"),
        ("bad.toml", "line 1, databases"),
        ("dbctl.toml", "line 2, apps.a.profile"),
        ("dbctl.toml", "line 6, apps.b.databases.user"),
        ("dbctl.toml", "line 7, apps.b.databases.nix"),
        ("dbctl.toml", "line 9, apps.b.migrations.nix"),
        ("dbctl.toml", "line 15, apps.e.profile"),
    ]
    assert "pw" not in "".join(finding.message for finding in report.findings)


def test_empty_configuration_is_valid(tmp_path):
    assert check_configuration(tmp_path, "").findings == []


def test_list_of_apps_masks_passwords(tmp_path):
    (tmp_path / "dbctl.toml").write_text(
        '[apps.a]\nprofile = "flashpoint-web"\nprotected = true\ndatabases.user = "postgresql://u:hunter2@h/d"\n',
        encoding="utf-8",
    )
    page = profiles.list_apps(Selection(config=str(tmp_path / "dbctl.toml"))).page
    (app,) = page.items
    assert (app.name, app.protected, app.summary()["databases"]) == ("a", True, ["user"])
    assert app.databases[0].url == "postgresql://u:***@h/d"
    (tmp_path / "dbctl.toml").write_text("[apps", encoding="utf-8")
    with pytest.raises(ConfigInvalidError, match="line 1"):
        profiles.list_apps(Selection(config=str(tmp_path / "dbctl.toml")))


def test_profile_is_shown_with_features():
    output = profiles.show_profile("flashpoint-web")
    assert list(output.features) == [
        "users",
        "passwords",
        "lockout",
        "roles",
        "permissions",
        "settings",
        "user settings",
        "migrations",
        "search",
        "sessions",
        "cleanup",
        "audit",
        "statistics",
        "cross checks",
        "reports",
    ]
    assert [(database.name, database.mode, database.optional) for database in output.databases] == [
        ("user", "read-write", False),
        ("flashpoint", "read-only", True),
    ]
    assert list(output.searches) == ["games", "tags", "playlists"]


# The SQL of a profile ------------------------------------------------------------------------------------------------


def check_sql(folder, variant, old, new):
    """Return the findings about SQL in the profile of Flashpoint Web after a replacement, and the changed text."""
    from dbctl.services.checks.run import check_live

    path = create_app(folder, variant)
    profile = folder / "quick.toml"
    text = profile.read_text(encoding="utf-8")
    assert text.count(old) == 1, text.count(old)
    changed = text.replace(old, new)
    profile.write_text(changed, encoding="utf-8")
    with open_app(path) as app:
        findings = check_live(app).findings
    sql_errors = [
        finding
        for finding in findings
        if finding.code in {"sql-fails", "key-not-unique", "report-idle", "invalid-entry"}
    ]
    return [(finding.severity, finding.code, finding.message) for finding in sql_errors], changed


def find_line(text, part):
    return text[: text.index(part)].count("\n") + 1


@pytest.mark.parametrize("variant", SHAPES)
@pytest.mark.parametrize(
    ("old", "new", "key", "reason"),
    [
        ("select game_id, max(game_title), sum(total_plays) as plays", "select game_id, max(title), sum(total_plays) as plays", "report[0].variant[0].sql", "no such column: title"),
        ("select game_id, max(game_title), sum(total_plays) as plays,", "select sum(total_plays) as plays,", "report[0].variant[0].sql", "table the_statement has 3 values for 5 columns"),
        ("from user_game_stats group by game_id order by plays desc, game_id\nlimit :limit", "from user_game_stats group by game_id order by plays desc, game_id\nlimit :most", "report[0].variant[0].sql", "You did not supply a value for binding"),
        ("from user_game_stats group by game_id order by plays", "from user_game_stats group by game_id order bye plays", "report[0].variant[0].sql", 'near "bye": syntax error'),
        ("where l.game_count <> coalesce(g.number, 0)", "where l.game_counts <> coalesce(g.number, 0)", "recount[0].sql", "no such column: l.game_counts"),
        ("select l.id, l.game_count as kept", "delete from user_playlists; select l.id, l.game_count as kept", "recount[0].sql", 'near "delete": syntax error'),
        ("select user_id, game_id, max(game_title), count(*), sum(duration_seconds), :now, :now\n", "select user_id, game_id, max(game_title), count(*), sum(duration_seconds), :now\n", "cleanup[0].after[0].select", "table the_statement has 6 values for 7 columns"),
        ("from user_game_plays where id in :picked group by user_id, game_id", "from user_game_plays where id in :chosen group by user_id, game_id", "cleanup[0].after[0].select", 'near ":chosen": syntax error'),
        ("       max(game_title), min(started_at), max(coalesce(ended_at, started_at))\nfrom", "       max(game_title), min(started_at)\nfrom", "rebuild[0].select", "table the_count has 6 values for 7 columns"),
        ("select game_id, max(game_title), sum(total_plays) as plays", 'select "game_ids", max(game_title), sum(total_plays) as plays', "report[0].variant[0].sql", "no column game_ids"),
    ],
)  # fmt: skip
def test_invalid_sql_is_reported_with_line(tmp_path, variant, old, new, key, reason):
    findings, text = check_sql(tmp_path, variant, old, new)
    # the line of the start of the statement, above the error
    start = text[: text.index(new)].rindex('= """')
    line = text[:start].count("\n") + 1
    if key.startswith("recount") and variant == "document":
        assert findings == [], "the variant has no playlists"
        return
    ((severity, code, message),) = findings
    assert (severity, code) == ("error", "sql-fails")
    assert message.startswith(reason)
    assert message.endswith(f"(quick.toml, line {line}, {key})")


def test_statements_are_prepared_but_not_run(tmp_path):
    from dbctl.services.checks.run import check_live

    path = create_app(tmp_path, "deployed")
    before = path.read_bytes()
    with open_app(path) as app:
        check_live(app)
    assert path.read_bytes() == before
    assert [path.name for path in path.parent.iterdir() if path.name.startswith("user.db")] == ["user.db"]


def test_key_without_unique_index_and_unusable_report_are_reported(tmp_path):
    from dbctl.services.checks.run import check_live

    path = create_app(tmp_path, "document")
    run_statements(path, "drop index idx_user_game_stats_user_id_game_id")
    profile = tmp_path / "quick.toml"
    text = profile.read_text(encoding="utf-8").replace(
        'needs = ["user_game_plays", "users"]', 'needs = ["plays"]'
    )
    profile.write_text(text, encoding="utf-8")
    with open_app(path) as app:
        findings = check_live(app).findings
    assert [(finding.severity, finding.code, finding.message.partition(" (")[0]) for finding in findings] == [
        ("error", "key-not-unique", "no unique index of user_game_stats covers user_id, game_id"),
        ("error", "key-not-unique", "no unique index of user_game_stats covers user_id, game_id"),
        ("warning", "report-idle", "no variant of the report recent-plays fits: plays"),
    ]
    line = find_line(text, 'key = ["user_id", "game_id"]')
    assert f"line {line}, cleanup[0].after[0].key" in findings[0].message
