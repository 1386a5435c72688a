"""Configured apps, and whether files and live databases agree."""

from __future__ import annotations

import shutil

import pytest

from dbctl.config import Selection
from dbctl.errors import ConfigInvalidError
from dbctl.profiles import loader
from dbctl.services.app import app as apps
from dbctl.services.profiles import inventory
from tests.services.flashpoint_app import SHAPES, opened, run, settle
from tests.shapes import flashpoint_web as shapes

BUILT_IN = loader.path_of("flashpoint-web").read_text(encoding="utf-8")


def check(tmp_path, *replaced, **said):
    """Return what is wrong with Flashpoint Web's profile after replacements."""
    text = BUILT_IN
    for old, new in replaced:
        assert old in text
        text = text.replace(old, new, 1)
    path = tmp_path / "p.toml"
    path.write_text(text, encoding="utf-8")
    return [one.message for one in inventory.check_files(Selection(**said), str(path)).findings]


def line(text):
    return BUILT_IN[: BUILT_IN.index(text)].count("\n") + 1


@pytest.mark.parametrize("name", loader.names())
def test_a_built_in_profile_has_no_mistake(name):
    assert not inventory.check_files(Selection(), name).findings


@pytest.mark.parametrize("shape", SHAPES)
def test_a_database_of_either_shape_has_what_the_built_in_profile_names(tmp_path, shape):
    with opened(settle(tmp_path / "app", shape)) as app:
        answer = inventory.check_live(app)
    assert answer.findings == []
    assert answer.checked > 60


@pytest.mark.parametrize("build", [shapes.document_flashpoint_db, shapes.launcher_flashpoint_db])
def test_games_of_either_schema_can_be_searched_by_every_key(tmp_path, build):
    path = build(tmp_path / "flashpoint.sqlite")
    with apps.opened(Selection(profile="flashpoint-web", urls=[f"flashpoint={path}"]), timeout=1) as app:
        findings = inventory.check_live(app).findings
    assert [(one.code, one.severity) for one in findings] == [("database-unset", "warning")]


def test_a_mistake_of_sense_is_told_with_its_line_like_one_of_form(tmp_path):
    fields = line('value = "setting_value"')  # one line above, and one was added
    assert check(
        tmp_path,
        ('login = ["username", "email"]', 'login = ["nick", "email"]'),
        ('admin = "admin"', 'admin = "admin"\ndatabase = "people"'),
        ("[users.rules]\nusername", "[users.rules]\nnick"),
        ('fields = { name = "name", description', "fields = { description"),
        ('[settings.fields]\nvalue = "setting_value"', "[settings.fields]\nvalu = 'x'"),
    ) == [
        f"line {line('login = ')}, users.login: nick is none of users.fields",
        f"line {line('admin = ') + 1}, users.database: there is no [databases.people]",
        f"line {line('[users.rules]') + 2}, users.rules.nick: nick is none of users.fields",
        f"line {line('fields = { name') + 1}, roles.fields: name is missing",
        f"line {fields}, settings[1].fields: value is missing",
    ]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('older_than = "24h" }\nset', 'older_than = "3h" }\nset', "4h may lie ahead of a row that is only 3h old"),
        ('older_than = "24h" }\nset', 'older_than = "1001y" }\nset', "1001y is longer than anything is old"),
        ('together = "user_id"', 'together = "user_id"\ndelete = true', "either what to set, or delete = true"),
        ('table = "user_stats"\nkey = ["user_id"]\ncol', 'table = "users"\nkey = ["id"]\ncol', "nothing is brought into users"),
        ('name = "revoked-tokens"', 'name = "expired-tokens"', "expired-tokens is there already"),
        ('table = "user_playlists"\noptional = true', 'table = "user_playlists"', "search playlists is always used"),
        ('name = "abandoned-plays"', 'name = "left-plays"', "there is no [[cleanup]] abandoned-plays"),
    ],
)  # fmt: skip
def test_a_cleanup_rule_that_makes_no_sense_is_told(tmp_path, old, new, told):
    found = check(tmp_path, (old, new))
    assert any(told in one for one in found), found


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("old", "old"), "migrations.shape[6].name: old is there already"),
        (("old", "../old"), "migrations.shape[6].name: "),
        (("", "old"), "migrations.shape[5].name: "),
    ],
)
def test_shapes_of_migrations_are_told_apart_by_names_that_a_folder_can_have(tmp_path, names, told):
    shapes = "".join(
        f'[[databases.user.migrations.shape]]\nname = "{name}"\nneeds = ["users"]\n' for name in names
    )
    ledger = "[databases.user.migrations.ledger]"
    (found,) = check(tmp_path, (ledger, f"{shapes}\n{ledger}"))
    assert told in found


def test_every_mistake_of_form_is_told_at_once(tmp_path):
    told = check(
        tmp_path,
        ('time = "iso-ms"', 'time = "iso"'),
        ('table = "refresh_tokens"', 'tabel = "refresh_tokens"'),
        ('language = "fpa"', "language = 7"),
    )
    assert told == [
        f"line {line('time = ')}, time: 'iso' is none of epoch-ms, epoch-s, iso-ms, sqlite-time",
        f"line {line('[[users.signed_in]]')}, users.signed_in[0].table: it is missing",
        f"line {line('[[users.signed_in]]') + 1}, users.signed_in[0].tabel: unknown key; did you mean table?",
        f"line {line('language = ')}, search[0].language: 7 is none of fpa, words",
    ]


def test_what_a_live_database_lacks_is_told_with_the_place_that_names_it(tmp_path):
    path = settle(tmp_path / "app", "deployed")
    run(path, "drop table login_attempts", "alter table users rename column email to mail")
    with opened(path) as app:
        findings = inventory.check_live(app).findings
    assert [(one.code, one.severity, one.message.partition(" (")[0]) for one in findings] == [
        ("schema-lacks", "error", "there is no column users.email"),
        ("schema-lacks", "error", "there is no table login_attempts"),  # for the lockout
        ("schema-lacks", "error", "there is no table login_attempts"),  # for the cleanup
        ("column-uncovered", "error", "users.mail wants a value, and the profile has none for it"),
    ]
    assert f"(quick.toml, line {line('email = ')}, users.fields.email)" in findings[0].message
    assert findings[0].target == "fp/user"


def test_settings_of_no_known_shape_are_told(tmp_path):
    path = settle(tmp_path / "app", "deployed")
    run(path, "alter table system_settings rename column data_type to kind")
    with opened(path) as app:
        (finding,) = inventory.check_live(app).findings
    assert "system_settings has no column data_type or value_type" in finding.message


def test_a_database_that_cannot_be_opened_is_a_finding_beside_the_others(tmp_path):
    path = settle(tmp_path / "app", "deployed")
    config = path.with_name("dbctl.toml")
    config.write_text(config.read_text(encoding="utf-8") + 'flashpoint = "user.db"\n', encoding="utf-8")
    with opened(path) as app:
        findings = inventory.check_live(app).findings
    assert [(one.target, one.code) for one in findings] == [("fp/flashpoint", "wrong-app")]


def configured(tmp_path, text):
    (tmp_path / "dbctl.toml").write_text(text, encoding="utf-8")
    return inventory.check_files(Selection(config=str(tmp_path / "dbctl.toml")), "")


def test_a_configuration_is_checked_with_every_profile_that_it_names(tmp_path):
    shutil.copyfile(loader.path_of("flashpoint-web"), tmp_path / "good.toml")
    (tmp_path / "bad.toml").write_text("", encoding="utf-8")
    answer = configured(
        tmp_path,
        '[apps.a]\nprofile = "nix"\n[apps.b]\nprofile = "flashpoint-web"\n[apps.b.databases]\n'
        'user = "mysql://u:pw@h/x"\nnix = "y"\n[apps.b.migrations]\nnix = "z"\n[apps.c]\nprofile = "bad.toml"\n'
        '[apps.d]\nprofile = "good.toml"\n[apps.e]\nprofile = "missing.toml"\n[apps.f]\nprofile = "bad.toml"\n',
    )
    assert [(one.target.rpartition("/")[2], one.message.partition(":")[0]) for one in answer.findings] == [
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
    assert "pw" not in "".join(one.message for one in answer.findings)


def test_an_empty_configuration_has_no_mistake(tmp_path):
    assert configured(tmp_path, "").findings == []


def test_a_list_of_apps_shows_addresses_without_passwords(tmp_path):
    (tmp_path / "dbctl.toml").write_text(
        '[apps.a]\nprofile = "flashpoint-web"\nprotected = true\ndatabases.user = "postgresql://u:hunter2@h/d"\n',
        encoding="utf-8",
    )
    page = inventory.list_apps(Selection(config=str(tmp_path / "dbctl.toml")))
    (one,) = page.items
    assert (one.name, one.protected, one.brief()["databases"]) == ("a", True, ["user"])
    assert one.databases[0].url == "postgresql://u:***@h/d"
    (tmp_path / "dbctl.toml").write_text("[apps", encoding="utf-8")
    with pytest.raises(ConfigInvalidError, match="line 1"):
        inventory.list_apps(Selection(config=str(tmp_path / "dbctl.toml")))


def test_a_profile_is_shown_as_it_was_understood():
    shown = inventory.show_profile("flashpoint-web")
    assert list(shown.abilities) == [
        "users",
        "passwords",
        "lockout",
        "roles",
        "permissions",
        "settings",
        "settings of users",
        "migrations",
        "search",
        "sessions",
        "cleanup",
        "audit",
        "statistics",
        "cross checks",
        "reports",
    ]
    assert [(one.name, one.mode, one.optional) for one in shown.databases] == [
        ("user", "read-write", False),
        ("flashpoint", "read-only", True),
    ]
    assert list(shown.searches) == ["games", "playlists"]


# The SQL of a profile ------------------------------------------------------------------------------------------------


def sql_findings(folder, shape, old, new):
    """Return what is found of the SQL in Flashpoint Web's profile after a replacement, and the line of ``new``."""
    path = settle(folder, shape)
    profile = folder / "quick.toml"
    text = profile.read_text(encoding="utf-8")
    assert text.count(old) == 1, text.count(old)
    changed = text.replace(old, new)
    profile.write_text(changed, encoding="utf-8")
    with opened(path) as app:
        found = inventory.check_live(app).findings
    mine = [one for one in found if one.code in {"sql-fails", "key-not-unique", "report-idle", "mistake"}]
    return [(one.severity, one.code, one.message) for one in mine], changed


def line_of(text, part):
    return text[: text.index(part)].count("\n") + 1


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("old", "new", "key", "reason"),
    [
        ("select game_id, max(game_title), sum(total_plays) as plays", "select game_id, max(title), sum(total_plays) as plays", "report[0].shape[0].sql", "no such column: title"),
        ("select game_id, max(game_title), sum(total_plays) as plays,", "select sum(total_plays) as plays,", "report[0].shape[0].sql", "table the_statement has 3 values for 5 columns"),
        ("from user_game_stats group by game_id order by plays desc, game_id\nlimit :limit", "from user_game_stats group by game_id order by plays desc, game_id\nlimit :most", "report[0].shape[0].sql", "You did not supply a value for binding"),
        ("from user_game_stats group by game_id order by plays", "from user_game_stats group by game_id order bye plays", "report[0].shape[0].sql", 'near "bye": syntax error'),
        ("where l.game_count <> coalesce(g.number, 0)", "where l.game_counts <> coalesce(g.number, 0)", "recount[0].sql", "no such column: l.game_counts"),
        ("select l.id, l.game_count as kept", "delete from user_playlists; select l.id, l.game_count as kept", "recount[0].sql", 'near "delete": syntax error'),
        ("select user_id, game_id, max(game_title), count(*), sum(duration_seconds), :now, :now\n", "select user_id, game_id, max(game_title), count(*), sum(duration_seconds), :now\n", "cleanup[0].then[0].select", "table the_statement has 6 values for 7 columns"),
        ("from user_game_plays where id in :picked group by user_id, game_id", "from user_game_plays where id in :chosen group by user_id, game_id", "cleanup[0].then[0].select", 'near ":chosen": syntax error'),
        ("       max(game_title), min(started_at), max(coalesce(ended_at, started_at))\nfrom", "       max(game_title), min(started_at)\nfrom", "rebuild[0].select", "table the_count has 6 values for 7 columns"),
        ("select game_id, max(game_title), sum(total_plays) as plays", 'select "game_ids", max(game_title), sum(total_plays) as plays', "report[0].shape[0].sql", "there is no column game_ids; in double quotes SQLite would read it as a text"),
    ],
)  # fmt: skip
def test_a_statement_that_the_live_database_would_refuse_is_told_with_its_place(
    tmp_path, shape, old, new, key, reason
):
    found, text = sql_findings(tmp_path, shape, old, new)
    # the line on which the statement begins, which is above the mistake
    begins = text[: text.index(new)].rindex('= """')
    line = text[:begins].count("\n") + 1
    if key.startswith("recount") and shape == "document":
        assert found == [], "it has no playlists"
        return
    ((severity, code, message),) = found
    assert (severity, code) == ("error", "sql-fails")
    assert message.startswith(reason)
    assert message.endswith(f"(quick.toml, line {line}, {key})")


def test_nothing_is_run_while_statements_are_tried(tmp_path):
    path = settle(tmp_path, "deployed")
    before = path.read_bytes()
    with opened(path) as app:
        inventory.check_live(app)
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir() if one.name.startswith("user.db")] == ["user.db"]


def test_a_key_that_no_unique_index_covers_and_a_report_that_fits_nowhere_are_told(tmp_path):
    path = settle(tmp_path, "document")
    run(path, "drop index idx_user_game_stats_user_id_game_id")
    profile = tmp_path / "quick.toml"
    text = profile.read_text(encoding="utf-8").replace(
        'needs = ["user_game_plays", "users"]', 'needs = ["plays"]'
    )
    profile.write_text(text, encoding="utf-8")
    with opened(path) as app:
        found = inventory.check_live(app).findings
    assert [(one.severity, one.code, one.message.partition(" (")[0]) for one in found] == [
        ("error", "key-not-unique", "no unique index of user_game_stats covers user_id, game_id"),
        ("error", "key-not-unique", "no unique index of user_game_stats covers user_id, game_id"),
        ("warning", "report-idle", "no shape of the report recent-plays fits: plays"),
    ]
    line = line_of(text, 'key = ["user_id", "game_id"]')
    assert f"line {line}, cleanup[0].then[0].key" in found[0].message
