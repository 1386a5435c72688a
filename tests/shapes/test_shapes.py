"""The databases in the variants that other tests use, and the four migrations of Flashpoint Web's document."""

import json
import re
import sqlite3
from contextlib import closing

import bcrypt
import jsonschema
import pytest

from tests.shapes import flashpoint_web

DOCUMENT_TABLES = {
    "users", "roles", "permissions", "role_permissions", "refresh_tokens", "activity_logs", "system_settings",
    "login_attempts", "user_game_plays", "user_game_stats", "user_stats", "user_settings",
}  # fmt: skip
DOCUMENT_SETTINGS = {
    "auth": {"guestAccessEnabled", "userRegistrationEnabled", "maxLoginAttempts", "lockoutDurationMinutes"},
    "app": {"siteName", "maintenanceMode", "defaultTheme", "defaultPrimaryColor"},
    "metadata": {"autoSyncEnabled", "syncIntervalMinutes", "syncTags", "syncPlatforms"},
    "features": {
        "enablePlaylists",
        "enableFavorites",
        "enableStatistics",
        "enableActivityLog",
        "enableUserProfiles",
    },
    "game": {"defaultScaleMode", "defaultVolume", "enableFlash", "enableHtml5"},
}
#: The columns of each index, by table; ``!`` marks a unique index.
DOCUMENT_INDEXES = {
    "users": {"username!", "email!", "role_id", "is_active"},
    "roles": {"name!"},
    "permissions": {"name!", "resource,action"},
    "role_permissions": {"role_id", "permission_id", "role_id,permission_id!"},
    "refresh_tokens": {"token!", "user_id", "expires_at"},
    "activity_logs": {"user_id", "action", "resource", "created_at"},
    "system_settings": {"category,key!", "category", "is_public"},
    "login_attempts": {"username", "ip_address", "attempted_at"},
    "user_game_plays": {"session_id!", "user_id", "game_id", "started_at"},
    "user_game_stats": {"user_id", "game_id", "total_plays", "total_playtime_seconds", "user_id,game_id!"},
    "user_stats": {"total_playtime_seconds"},
    "user_settings": {"user_id", "setting_key", "user_id,setting_key!"},
}


@pytest.fixture
def document(tmp_path):
    with closing(
        sqlite3.connect(flashpoint_web.document_user_db(tmp_path / "user.db"), isolation_level=None)
    ) as connection:
        connection.execute("pragma foreign_keys = on")
        yield connection


@pytest.fixture
def deployed(tmp_path):
    with closing(
        sqlite3.connect(flashpoint_web.deployed_user_db(tmp_path / "deployed.db"), isolation_level=None)
    ) as connection:
        connection.execute("pragma foreign_keys = on")
        yield connection


def list_objects(connection, kind):
    rows = connection.execute(
        "select name from sqlite_master where type = ? and name not like 'sqlite_%'", (kind,)
    )
    return {name for (name,) in rows}


def fetch_row(connection, sql, *parameters):
    return connection.execute(sql, parameters).fetchone()[0]


def list_migrations():
    return sorted(flashpoint_web.MIGRATIONS.glob("*.sql"))


def split_statements(text):
    parsed, buffer = [], ""
    for piece in text.split(";")[:-1]:
        buffer += piece + ";"
        if sqlite3.complete_statement(buffer):
            parsed.append(buffer)
            buffer = ""
    return parsed


def normalize(statement):
    return re.sub(r"--[^\n]*", "", statement).strip().upper()


# Migrations of the document ----------------------------------------------------------------------------------------


def test_migrations_are_those_of_the_document():
    assert [file.stem for file in list_migrations()] == [
        "001_user-schema", "002_create-user-settings", "003_create-system-settings", "004_add-validation-schemas",
    ]  # fmt: skip


def test_migrations_create_exactly_the_tables_of_the_document(document):
    assert list_objects(document, "table") == DOCUMENT_TABLES


@pytest.mark.parametrize("table", sorted(DOCUMENT_INDEXES))
def test_migrations_create_the_named_indexes_of_the_document(document, table):
    indexes = set()
    for _seq, name, unique, origin, partial in document.execute(f"pragma index_list({table})").fetchall():
        columns = ",".join(row[2] for row in document.execute(f"pragma index_info({name})"))
        indexes.add(columns + ("!" if unique else ""))
        assert (origin, partial) == ("c", 0)
        assert name == f"idx_{table}_{columns.replace(',', '_')}"
    assert indexes == DOCUMENT_INDEXES[table]


@pytest.mark.parametrize("file", list_migrations(), ids=lambda file: file.stem)
def test_migration_follows_the_guidelines_of_the_app(file):
    text = file.read_text(encoding="utf-8")
    assert text.startswith("-- "), "the first line is a comment"
    for statement in map(normalize, split_statements(text)):
        assert not statement.startswith(
            ("BEGIN", "COMMIT", "ROLLBACK", "PRAGMA", "SAVEPOINT", "ATTACH", "VACUUM")
        )
        if statement.startswith("CREATE"):
            assert "IF NOT EXISTS" in statement.partition("(")[0].partition("\n")[0], statement
        if statement.startswith("INSERT"):
            assert statement.startswith("INSERT OR IGNORE"), statement


def test_migrations_run_statement_by_statement_in_one_transaction(tmp_path):
    with closing(sqlite3.connect(tmp_path / "user.db", isolation_level=None)) as connection:
        for file in list_migrations():
            connection.execute("begin immediate")
            for statement in split_statements(file.read_text(encoding="utf-8")):
                connection.execute(statement)
            assert connection.in_transaction
            connection.execute("commit")
        assert list_objects(connection, "table") == DOCUMENT_TABLES


def test_second_run_of_migrations_changes_no_row(document):
    # "insert or ignore" consumes keys of the sequence even if it inserts no row
    def rows():
        return [line for line in document.iterdump() if "sqlite_sequence" not in line]

    before = rows()
    for file in list_migrations()[:3]:
        document.executescript(file.read_text(encoding="utf-8"))
    # SQLite has no "add column if not exists": the last migration fails at its first statement
    with pytest.raises(sqlite3.OperationalError, match="duplicate column name: validation_schema"):
        document.executescript(list_migrations()[3].read_text(encoding="utf-8"))
    assert rows() == before


def test_third_migration_creates_no_validation_schema(tmp_path):
    with closing(sqlite3.connect(tmp_path / "user.db")) as connection:
        for file in list_migrations()[:3]:
            connection.executescript(file.read_text(encoding="utf-8"))
        assert "validation_schema" not in {
            row[1] for row in connection.execute("pragma table_info(system_settings)")
        }


def test_roles_and_permissions_are_those_of_the_document(document):
    assert document.execute("select id, name, priority from roles order by id").fetchall() == [
        (1, "admin", 100), (2, "user", 50), (3, "guest", 0),
    ]  # fmt: skip
    granted = "select count(*) from role_permissions where role_id = ?"
    assert [fetch_row(document, granted, role) for role in (1, 2, 3)] == [18, 7, 2]
    guest = "select p.name from permissions p join role_permissions on permission_id = p.id where role_id = 3 order by 1"
    assert document.execute(guest).fetchall() == [("games.read",), ("playlists.read",)]
    assert (
        fetch_row(
            document,
            "select count(*) from permissions where name <> resource || '.' || action or description is null",
        )
        == 0
    )


def test_settings_are_those_of_the_document(document):
    settings = {}
    for category, key in document.execute("select category, key from system_settings"):
        settings.setdefault(category, set()).add(key)
    assert settings == DOCUMENT_SETTINGS
    assert (
        fetch_row(document, "select count(*) from system_settings where description is null or value is null")
        == 0
    )


def test_setting_conforms_to_its_validation_schema(document):
    parsers = {"boolean": lambda text: {"1": True, "0": False}[text], "number": json.loads, "string": str}
    for key, value, kind, schema in document.execute(
        "select key, value, value_type, validation_schema from system_settings"
    ):
        rule = json.loads(schema)
        jsonschema.Draft202012Validator.check_schema(rule)
        jsonschema.validate(parsers[kind](value), rule)
        assert set(rule) <= {"type", "enum", "minimum", "maximum", "minLength", "maxLength"}, key


def test_validation_schema_rejects_invalid_values(document):
    rule = json.loads(
        fetch_row(document, "select validation_schema from system_settings where key = 'maxLoginAttempts'")
    )
    for invalid in (0, 101, 1.5, "5"):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(invalid, rule)


def test_login_limits_are_not_public(document):
    assert (
        fetch_row(
            document,
            "select count(*) from system_settings where is_public and key in ('maxLoginAttempts', 'lockoutDurationMinutes')",
        )
        == 0
    )


@pytest.mark.parametrize("shape", ["document", "deployed"])
def test_user_names_and_addresses_are_case_insensitive(shape, request):
    connection = request.getfixturevalue(shape)
    add = "insert into users (username, email, password_hash, role_id) values (?, ?, 'x', 2)"
    connection.execute(add, ("Mara", "mara@example.org"))
    with pytest.raises(sqlite3.IntegrityError, match=r"UNIQUE constraint failed: users\.username"):
        connection.execute(add, ("mARA", "other@example.org"))
    with pytest.raises(sqlite3.IntegrityError, match=r"UNIQUE constraint failed: users\.email"):
        connection.execute(add, ("other", "MARA@example.org"))
    assert fetch_row(connection, "select id from users where username = 'MARA'") == 1


@pytest.mark.parametrize("shape", ["document", "deployed"])
def test_role_with_users_is_not_deleted_and_deleting_user_cascades(shape, request):
    connection = request.getfixturevalue(shape)
    connection.execute(
        "insert into users (id, username, email, password_hash, role_id) values (7, 'a', 'a@b.c', 'x', 2)"
    )
    connection.execute(
        "insert into refresh_tokens (user_id, token, expires_at) values (7, 't', '2030-01-01T00:00:00.000Z')"
    )
    connection.execute("insert into activity_logs (user_id, username, action) values (7, 'a', 'login')")
    connection.execute("update system_settings set updated_by = 7 where id = 1")
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY constraint failed"):
        connection.execute("delete from roles where id = 2")
    connection.execute("delete from users where id = 7")
    assert fetch_row(connection, "select count(*) from refresh_tokens") == 0
    assert connection.execute("select user_id, username from activity_logs").fetchall() == [(None, "a")]
    assert fetch_row(connection, "select updated_by from system_settings where id = 1") is None


def test_times_default_to_iso_8601_with_milliseconds(document):
    document.execute(
        "insert into users (username, email, password_hash, role_id) values ('a', 'a@b.c', 'x', 2)"
    )
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", fetch_row(document, "select created_at from users")
    )


CHANGES = {
    "users": "email = 'new@example.org'",
    "roles": "description = 'other'",
    "user_settings": "setting_value = 'light'",
    "system_settings": "value = '7'",
}


@pytest.mark.parametrize("table", CHANGES)
def test_trigger_sets_updated_at_unless_the_statement_sets_it(document, table):
    document.execute("pragma recursive_triggers = on")
    document.execute(
        "insert into users (id, username, email, password_hash, role_id) values (1, 'a', 'a@b.c', 'x', 2)"
    )
    document.execute(
        "insert into user_settings (user_id, setting_key, setting_value) values (1, 'theme_mode', 'dark')"
    )
    document.execute(f"update {table} set updated_at = 'old'")
    document.execute(f"update {table} set {CHANGES[table]} where id = 1")
    assert fetch_row(document, f"select updated_at from {table} where id = 1") > "2026"
    document.execute(f"update {table} set {CHANGES[table]}, updated_at = 'explicit' where id = 1")
    assert fetch_row(document, f"select updated_at from {table} where id = 1") == "explicit"


def test_login_does_not_change_updated_at(document):
    document.execute(
        "insert into users (username, email, password_hash, role_id, updated_at) values ('a', 'a@b.c', 'x', 2, 'old')"
    )
    document.execute("update users set last_login_at = '2026-01-01T00:00:00.000Z'")
    assert fetch_row(document, "select updated_at from users") == "old"


def test_second_migration_inserts_missing_default_settings_of_existing_users(tmp_path):
    with closing(sqlite3.connect(tmp_path / "user.db")) as connection:
        first, second = (file.read_text(encoding="utf-8") for file in list_migrations()[:2])
        connection.executescript(first)
        connection.execute(
            "insert into users (username, email, password_hash, role_id) values ('a', 'a@b.c', 'x', 2)"
        )
        connection.executescript(second)
        connection.execute(
            "update user_settings set setting_value = 'light' where setting_key = 'theme_mode'"
        )
        connection.executescript(second)
        settings = dict(
            connection.execute("select setting_key, setting_value from user_settings where user_id = 1")
        )
    assert settings == {
        "theme_mode": "light",
        "primary_color": "blue",
        "card_size": "medium",
        "view_mode": "grid",
        "sidebar_collapsed": "false",
    }


# Deployed variant --------------------------------------------------------------------------------------------------


def test_deployed_variant_has_objects_and_rows_of_deployed_databases(deployed):
    assert len(list_objects(deployed, "table")) == 17 + 1
    assert len(list_objects(deployed, "index")) == 58 + 2
    assert list_objects(deployed, "trigger") == {"trg_playlist_games_insert", "trg_playlist_games_delete"}
    kinds = dict(deployed.execute("select data_type, count(*) from system_settings group by 1"))
    assert kinds == {"boolean": 13, "integer": 8, "string": 7}
    assert fetch_row(deployed, "select count(*) from system_settings where value is not default_value") == 0
    assert fetch_row(deployed, "select count(*) from permissions") == 18
    granted = "select count(*) from role_permissions where role_id = ?"
    assert [fetch_row(deployed, granted, role) for role in (1, 2, 3)] == [18, 7, 3]
    assert "priority" not in {row[1] for row in deployed.execute("pragma table_info(roles)")}
    assert deployed.execute("select name, checksum from migrations").fetchall() == [
        ("001_complete_schema", flashpoint_web.HEAD_CHECKSUM)
    ]


@pytest.mark.parametrize(
    ("sql", "refusal"),
    [
        ("update system_settings set data_type = 'number'", "CHECK constraint failed: data_type in"),
        ("insert into user_playlists (user_id, title) values (1, '')", "CHECK constraint failed: length"),
        ("insert into roles (name, priority) values ('x', 1)", "table roles has no column named priority"),
        (
            "insert into domains (hostname, is_default) values ('a', 1), ('b', 1)",
            r"UNIQUE constraint failed: domains\.is_default",
        ),
    ],
)
def test_deployed_variant_rejects_invalid_rows(deployed, sql, refusal):
    deployed.execute(
        "insert into users (id, username, email, password_hash, role_id) values (1, 'a', 'a@b.c', 'x', 1)"
    )
    with pytest.raises(sqlite3.Error, match=refusal):
        deployed.execute(sql)


def test_triggers_of_deployed_variant_count_games_of_playlists(deployed):
    deployed.execute(
        "insert into users (id, username, email, password_hash, role_id) values (1, 'a', 'a@b.c', 'x', 1)"
    )
    deployed.execute("insert into user_playlists (id, user_id, title) values (1, 1, 'Mine')")
    deployed.execute("insert into user_playlist_games (playlist_id, game_id) values (1, 'x'), (1, 'y')")
    deployed.execute("delete from user_playlist_games where game_id = 'x'")
    assert fetch_row(deployed, "select game_count from user_playlists") == 1


@pytest.mark.parametrize("era", flashpoint_web.LEDGERS)
def test_database_of_each_era_has_its_ledger_tables_and_columns(tmp_path, era):
    path = flashpoint_web.deployed_user_db(tmp_path / "user.db", era=era)
    with closing(sqlite3.connect(path)) as connection:
        assert (
            connection.execute("select name, checksum from migrations order by id").fetchall()
            == flashpoint_web.LEDGERS[era]
        )
        assert ("domains" in list_objects(connection, "table")) == (era in ("D'", "E"))
        assert ("priority" in {row[1] for row in connection.execute("pragma table_info(roles)")}) == (
            era != "E"
        )


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_journal_mode_is_unchanged(tmp_path, journal):
    path = flashpoint_web.deployed_user_db(tmp_path / "user.db", journal=journal)
    with closing(sqlite3.connect(path)) as connection:
        assert fetch_row(connection, "pragma journal_mode") == journal


def test_users_are_added_to_both_variants_with_the_sample_password(tmp_path):
    for path in (
        flashpoint_web.deployed_user_db(tmp_path / "a.db"),
        flashpoint_web.document_user_db(tmp_path / "b.db"),
    ):
        assert flashpoint_web.add_user(path, "mara", 1) == 1
    assert bcrypt.checkpw(flashpoint_web.PASSWORD.encode(), flashpoint_web.PASSWORD_HASH.encode())


# Games -------------------------------------------------------------------------------------------------------------


def test_games_of_the_document_cover_every_filter(tmp_path):
    with closing(
        sqlite3.connect(flashpoint_web.document_flashpoint_db(tmp_path / "flashpoint.sqlite"))
    ) as connection:
        assert fetch_row(connection, "select count(*) from game") == 48
        assert connection.execute("pragma foreign_key_check").fetchall() == []
        for column in ("broken", "extreme"):
            values = {value for (value,) in connection.execute(f"select distinct {column} from game")}
            assert values == {None, 0, 1}
        assert {value for (value,) in connection.execute("select distinct presentOnDisk from game_data")} == {
            None,
            0,
            1,
        }
        lengths = {
            length for (length,) in connection.execute("select distinct length(releaseDate) from game")
        }
        assert lengths == {None, 0, 4, 7, 10}
        assert fetch_row(connection, "select count(*) from game where parentGameId is not null") == 1
        assert fetch_row(connection, "select count(*) from game where orderTitle = ''") == 2
        assert (
            fetch_row(connection, "select max(n) from (select count(*) n from game_tags_tag group by gameId)")
            == 3
        )
        assert (
            fetch_row(connection, "select max(n) from (select count(*) n from game_data group by gameId)")
            == 3
        )


def test_database_with_few_games_has_valid_references(tmp_path):
    with closing(
        sqlite3.connect(flashpoint_web.document_flashpoint_db(tmp_path / "few.sqlite", games=3))
    ) as connection:
        assert fetch_row(connection, "select count(*) from game") == 3
        assert connection.execute("pragma foreign_key_check").fetchall() == []


@pytest.mark.parametrize(
    ("make", "games"),
    [(flashpoint_web.launcher_flashpoint_db, 1200), (flashpoint_web.launcher_extras_db, 60)],
)
def test_games_of_the_launcher_are_in_the_schema_of_the_launcher(tmp_path, make, games):
    with closing(sqlite3.connect(make(tmp_path / "Data" / "flashpoint.sqlite"))) as connection:
        assert fetch_row(connection, "select count(*) from game") == games
        assert fetch_row(connection, "pragma user_version") == 14
        assert {"tag_alias", "platform_alias", "game_redirect"} <= list_objects(connection, "table")
        assert "playlist" not in list_objects(connection, "table")


def test_extras_of_the_launcher_contain_rare_rows(tmp_path):
    with closing(
        sqlite3.connect(flashpoint_web.launcher_extras_db(tmp_path / "flashpoint.sqlite"))
    ) as connection:
        for sql in (
            "select count(*) from additional_app",
            "select count(*) from game_redirect",
            "select count(*) from game where broken",
            "select count(*) from game where extreme",
            "select count(*) from game where playtime > 0 and lastPlayed is not null",
            "select count(*) from game where activeDataId is null",
            "select count(*) from game where activeDataId = -1",
            "select count(*) from game where platformsStr like '%; %'",
            "select count(*) from tag_alias a join tag t on t.id = a.tagId where a.id <> t.primaryAliasId",
        ):
            assert fetch_row(connection, sql) > 0, sql


# Larder ------------------------------------------------------------------------------------------------------------


def test_larder_shares_no_table_or_column_name_with_flashpoint_web(tmp_path, document, deployed):
    with closing(sqlite3.connect(flashpoint_web.larder_db(tmp_path / "larder.db"))) as connection:
        assert connection.execute("pragma foreign_key_check").fetchall() == []
        tables = list_objects(connection, "table")
        assert not tables & (list_objects(document, "table") | list_objects(deployed, "table"))
        columns = {row[1] for row in connection.execute("pragma table_info(members)")}
        assert not columns & {row[1] for row in document.execute("pragma table_info(users)")}
        assert fetch_row(connection, 'select count("a ""pinch""") from recipes') == 3
        assert fetch_row(connection, 'select count(*) from "order"') == 2
        hashes = connection.execute("select distinct secret_hash from members").fetchall()
        assert hashes == [(flashpoint_web.PASSWORD_HASH,)]
