"""Settings, on the document variant (category and key) and on the deployed variant (a dotted key)."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing, contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbctl.config.sections import Selection
from dbctl.errors.usage import (
    FeatureMissingError,
    PlanChangedError,
    SchemaMismatchError,
    UsageError,
    UserMissingError,
    ValueInvalidError,
)
from dbctl.errors.users import SettingMissingError
from dbctl.model import PageRequest
from dbctl.profiles import loader
from dbctl.services.settings import queries
from dbctl.services.settings.changes import apply_file, compare_file, reset_setting, set_setting
from dbctl.services.settings.encodings import read_settings_file
from dbctl.services.settings.metadata import update_setting
from dbctl.services.settings.values import is_equal
from tests.services.flashpoint_app import (
    SHAPES,
    create_app,
    open_app,
    query_rows,
    read_all_rows,
    run_statements,
)
from tests.shapes import flashpoint_web

KEYS = {
    "document": {
        "site": "app.siteName",
        "closed": "app.maintenanceMode",
        "tries": "auth.maxLoginAttempts",
        "theme": "app.defaultTheme",
    },
    "deployed": {
        "site": "app.site_name",
        "closed": "app.maintenance_mode",
        "tries": "auth.max_login_attempts",
        "theme": "app.default_theme",
    },
}


@pytest.fixture(params=SHAPES)
def shape(request):
    return request.param


@pytest.fixture
def path(tmp_path, shape):
    return create_app(tmp_path / "app", shape)


@pytest.fixture
def key(shape):
    return KEYS[shape]


def read_stored_value(path, shape, key):
    where = "key = ?" if shape == "deployed" else "category || '.' || key = ?"
    ((value,),) = query_rows(path, f"select value from system_settings where {where}", key)
    return value


def store_column(path, shape, key, column, value):
    where = "key = ?" if shape == "deployed" else "category || '.' || key = ?"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"update system_settings set {column} = ? where {where}", (value, key))


def change_setting(path, key, text, **options):
    with open_app(path) as app:
        return set_setting(app, key, text, **options).apply()


def get_value(path, key, **options):
    with open_app(path) as app:
        return queries.get_setting(app, key, **options).value


def read_audit_entries(path):
    entries = query_rows(
        path, "select action, resource_id, details from activity_logs where resource = 'settings'"
    )
    return [(action, key, json.loads(details)) for action, key, details in entries]


# Queries ---------------------------------------------------------------------------------------------------------


def test_values_and_defaults_are_typed_in_both_variants(path, key):
    with open_app(path) as app:
        settings = {word: queries.get_setting(app, name) for word, name in key.items()}
    assert {word: (setting.value, setting.default) for word, setting in settings.items()} == {
        "site": ("Flashpoint Web", "Flashpoint Web"),
        "closed": (False, False),
        "tries": (5, 5),
        "theme": ("dark", "dark"),
    }
    assert settings["site"].public is True
    assert settings["tries"].public is False
    assert settings["site"].schema == {"type": "string", "minLength": 1, "maxLength": 100}
    assert settings["site"].category == "app"


def test_list_is_filtered_sorted_and_paginated(path, shape):
    with open_app(path) as app:
        page = queries.list_settings(app, PageRequest(limit=2), category="auth")
        public = queries.list_settings(app, PageRequest(), public=True)
        hidden = queries.list_settings(app, PageRequest(), public=False)
        last = queries.list_settings(app, PageRequest(sort="-key", limit=1))
        all_settings = queries.list_settings(app, PageRequest())
        with pytest.raises(UsageError, match="known: key"):
            queries.list_settings(app, PageRequest(sort="colour"))
    assert [setting.category for setting in page.items] == ["auth", "auth"]
    assert page.has_more
    assert page.total == (6 if shape == "deployed" else 4)
    assert public.total + hidden.total == all_settings.total == (28 if shape == "deployed" else 21)
    assert last.items[0].key == max(setting.key for setting in all_settings.items)


@pytest.mark.parametrize(
    "name", ["nix", "", "app", "app.", ".", "app.site_name ", "a'b", "\udcff", "x\ny", "%"]
)
def test_missing_setting_is_not_found(path, name):
    with open_app(path) as app, pytest.raises(SettingMissingError):
        queries.get_setting(app, name)


def test_setting_in_another_case_is_not_found_but_suggested(path, key):
    with open_app(path) as app, pytest.raises(SettingMissingError) as caught:
        queries.get_setting(app, key["site"].upper())
    assert key["site"] in caught.value.hint


def test_setting_contains_login_of_last_change(path, shape, key):
    store_column(path, shape, key["site"], "updated_by", 2)
    with open_app(path) as app:
        assert queries.get_setting(app, key["site"]).updated_by == "ann"
    run_statements(path, "pragma foreign_keys = off", "delete from users where id = 2")
    with open_app(path) as app:
        assert queries.get_setting(app, key["site"]).updated_by == "(unknown: 2)"


# Changes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "text", "typed_value", "stored_text"),
    [
        ("site", "-x value", "-x value", "-x value"),
        ("site", "Ünï [bold] 'x' \"y\" %_", "Ünï [bold] 'x' \"y\" %_", "Ünï [bold] 'x' \"y\" %_"),
        ("site", "123", "123", "123"),
        ("closed", "yes", True, "1"),
        ("closed", "TRUE", True, "1"),
        ("closed", "1", True, "1"),
        ("tries", "7", 7, "7"),
        ("tries", " +7 ", 7, "7"),
        ("theme", "system", "system", "system"),
    ],
)
def test_value_is_stored_in_the_format_of_the_app(path, shape, key, word, text, typed_value, stored_text):
    result = change_setting(path, key[word], text)
    assert (result.changed, result.setting.value) == (True, typed_value)
    assert read_stored_value(path, shape, key[word]) == stored_text
    assert type(get_value(path, key[word])) is type(typed_value)


@pytest.mark.parametrize(
    ("word", "text", "reason"),
    [
        ("site", "", "non-empty"),
        ("site", "x" * 101, "too long"),
        ("site", "x" * 1_000_000, "too long"),
        ("site", "a\x1bb", "unprintable"),
        ("site", "a\udcffb", "surrogate"),
        ("closed", "maybe", "neither true nor false"),
        ("closed", "2", "neither true nor false"),
        ("tries", "0", "minimum"),
        ("tries", "101", "maximum"),
        ("tries", "1.5", "type|integer"),
        ("tries", "1_0", "integer|number"),
        ("tries", "٣", "integer|number"),
        ("tries", "nan", "integer|number"),
        ("tries", "9" * 5000, "stored"),
        ("tries", "", "integer|number"),
        ("theme", "pink", "one of"),
        ("theme", "Dark", "one of"),
    ],
)
def test_value_of_wrong_type_or_against_schema_is_refused(path, key, word, text, reason):
    before = read_all_rows(path)
    with open_app(path) as app:
        change = set_setting(app, key[word], text)
        for action in (change.plan, change.apply):
            with pytest.raises(ValueInvalidError, match=reason) as caught:
                action()
            assert len(str(caught.value)) < 400
    assert read_all_rows(path) == before


@pytest.mark.parametrize("shape", ["document"])
def test_integer_in_exponent_notation_is_accepted(path, shape):
    change_setting(path, "auth.maxLoginAttempts", "1e1")
    assert read_stored_value(path, shape, "auth.maxLoginAttempts") == "10"
    with open_app(path) as app, pytest.raises(ValueInvalidError):
        set_setting(app, "auth.maxLoginAttempts", "1e999").plan()


def test_change_has_timestamp_and_audit_entry_without_user(path, shape, key):
    store_column(path, shape, key["site"], "updated_by", 2)
    store_column(path, shape, key["site"], "updated_at", "2020-01-01T00:00:00.000Z")
    result = change_setting(path, key["site"], "New")
    assert result.setting.updated_by is None
    assert result.setting.updated_at.year > 2020
    assert read_audit_entries(path) == [
        (
            "settings.update",
            key["site"],
            {"key": key["site"], "from": "Flashpoint Web", "to": "New", "by": "dbctl"},
        )
    ]


def test_setting_the_same_value_changes_nothing(path, key):
    before = read_all_rows(path)
    assert change_setting(path, key["site"], "Flashpoint Web").changed is False
    assert read_all_rows(path) == before


def test_reset_restores_the_default_of_the_table_or_the_profile(path, key):
    change_setting(path, key["tries"], "9")
    with open_app(path) as app:
        result = reset_setting(app, key["tries"]).apply()
    assert (result.before, result.setting.value) == (9, 5)


def test_reset_of_a_setting_without_a_default_is_refused(path, shape):
    columns = "category, key, value, value_type" if shape == "document" else "category, key, value, data_type"
    name = "extra" if shape == "document" else "app.extra"
    run_statements(path, f"insert into system_settings ({columns}) values ('app', '{name}', 'x', 'string')")
    with open_app(path) as app, pytest.raises(ValueInvalidError, match="default"):
        reset_setting(app, "app.extra").plan()


# Schemas of settings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ('{"type": ', "not JSON"),
        ("not json", "not JSON"),
        ("[1]", "not a valid JSON Schema"),
        ('{"type": "strng"}', "not a valid JSON Schema"),
        ('{"$ref": "http://127.0.0.1:9/x.json"}', "refers to 'http://127.0.0.1:9/x.json'"),
        ('{"$ref": "file:///etc/passwd"}', "refers to"),
        ('{"$ref": "#/nowhere"}', "refers to"),
        ('{"$ref": "#"}', "without end"),
        ("[" * 100_000, "not JSON"),
        ("false", "False schema"),
    ],
)
def test_unusable_schema_refuses_each_value_without_network_access(path, shape, key, schema, reason):
    store_column(path, shape, key["site"], "validation_schema", schema)
    with open_app(path) as app:
        with pytest.raises(ValueInvalidError, match=reason):
            set_setting(app, key["site"], "New").apply()
        assert queries.get_setting(app, key["site"]).value == "Flashpoint Web"
        (finding,) = queries.validate(app).findings
    assert key["site"] in finding.message


def test_large_schema_is_supported(path, shape, key):
    words = [f"word-{number}" for number in range(50_000)]
    store_column(path, shape, key["site"], "validation_schema", json.dumps({"enum": words}))
    assert change_setting(path, key["site"], "word-49999").changed


@pytest.mark.parametrize("schema", ["{}", "true"])
def test_permissive_schema_accepts_any_value_of_the_type(path, shape, key, schema):
    store_column(path, shape, key["tries"], "validation_schema", schema)
    assert change_setting(path, key["tries"], "4000").setting.value == 4000


@pytest.mark.parametrize("schema", [None, ""])
def test_setting_without_a_schema_is_validated_by_the_schema_of_the_profile(path, shape, key, schema):
    store_column(path, shape, key["tries"], "validation_schema", schema)
    with pytest.raises(ValueInvalidError, match="4000"):
        change_setting(path, key["tries"], "4000")


# Validation ------------------------------------------------------------------------------------------------------


def test_initial_settings_are_valid(path, shape):
    with open_app(path) as app:
        answer = queries.validate(app)
    assert (answer.checked, answer.findings) == (28 if shape == "deployed" else 21, [])


def test_stored_value_is_parsed_as_by_the_app(path, shape, key):
    for word, text in (("closed", "yes"), ("tries", "1_0"), ("theme", "pink")):
        store_column(path, shape, key[word], "value", text)
    assert (get_value(path, key["closed"]), get_value(path, key["tries"])) == ("yes", "1_0")
    with open_app(path) as app:
        answer = queries.validate(app)
    assert answer.has_errors
    assert sorted(finding.message.split(" ")[0] for finding in answer.findings) == sorted(
        [key["closed"], key["tries"], key["theme"]]
    )


@pytest.mark.parametrize(("text", "expected"), [("1", True), ("0", False), ("true", True), ("false", False)])
def test_booleans_are_read_in_both_formats(path, shape, key, text, expected):
    store_column(path, shape, key["closed"], "value", text)
    assert get_value(path, key["closed"]) is expected


def test_json_settings_accept_only_valid_json(path, shape, key):
    store_column(path, shape, key["site"], "value_type" if shape == "document" else "data_type", "json")
    store_column(path, shape, key["site"], "validation_schema", '{"type": ["array", "object", "null"]}')
    assert change_setting(path, key["site"], '["a", {"b": 1.5}]').setting.value == ["a", {"b": 1.5}]
    assert json.loads(read_stored_value(path, shape, key["site"])) == ["a", {"b": 1.5}]
    assert change_setting(path, key["site"], "null").setting.value is None
    for text in ("{", '{"a": 1, "a": 2}', "[NaN]", "[1e999]", "[" * 100_000, '["\\ud800"]', '"text"'):
        with open_app(path) as app, pytest.raises(ValueInvalidError):
            set_setting(app, key["site"], text).plan()


# Files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["create-only", "merge", "exact"])
def test_applying_an_export_changes_nothing(path, shape, key, mode):
    store_column(path, shape, key["closed"], "value", "yes")  # invalid values are exported unchanged
    store_column(path, shape, key["tries"], "value", "12")
    with open_app(path) as app:
        exported = json.loads(json.dumps(queries.export(app)))
        assert compare_file(app, exported).items == []
        change = apply_file(app, exported, mode)
        assert change.plan().is_empty
        before = read_all_rows(path)
        change.apply()
    assert read_all_rows(path) == before


def test_modes_add_change_and_remove(path, key):
    file_settings = {key["site"]: "New", "app.extra": 5, key["tries"]: 5}
    with open_app(path) as app:
        total = queries.list_settings(app, PageRequest()).total
        with pytest.raises(SettingMissingError) as caught:
            apply_file(app, file_settings, "create-only").plan()
        assert "--new-keys" in caught.value.hint
        created = apply_file(app, file_settings, "create-only", new_keys=True).apply()
        assert (list(created.added), list(created.changed), list(created.removed)) == (["app.extra"], [], [])
        assert not apply_file(app, file_settings, "merge").plan().destructive
        merged = apply_file(app, file_settings, "merge").apply()
        assert (list(merged.added), list(merged.changed)) == ([], [key["site"]])
        exact = apply_file(app, file_settings, "exact")
        assert exact.plan().destructive
        assert exact.plan().rows == {"system_settings": total - 2}
        assert len(exact.apply().removed) == total - 2
        assert queries.export(app) == file_settings


@pytest.mark.parametrize(
    "invalid",
    [
        {"tries": 101},
        {"tries": "5"},
        {"closed": 1},
        {"closed": "true"},
        {"site": 5},
        {"site": None},
        {"tries": True},
        {"site": "\ud800"},
    ],
)
def test_file_with_an_invalid_value_is_refused(path, key, invalid):
    ((word, value),) = invalid.items()
    before = read_all_rows(path)
    with open_app(path) as app, pytest.raises(ValueInvalidError, match=key[word]):
        apply_file(app, {key["theme"]: "light", key[word]: value}, "merge").apply()
    assert read_all_rows(path) == before


def test_outdated_plan_of_apply_is_refused(path, key):
    with open_app(path) as app:
        change = apply_file(app, {key["site"]: "New"}, "exact")
        confirmed = change.plan().digest
        run_statements(path, "delete from system_settings where category = 'metadata'")
        with pytest.raises(PlanChangedError):
            change.apply(confirmed=confirmed)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("f.json", '{"a.b": 1}', {"a.b": 1}),
        ("f.json", '\ufeff{"a.b": 1}', {"a.b": 1}),
        ("-", '{"a.b": {"c": [1]}}', {"a.b": {"c": [1]}}),
        ("f.json", '{"schema": "dbctl.settings.export/1", "data": {"a.b": 1}}', {"a.b": 1}),
        ("f.toml", '"a.b" = 1\n[c]\nd = true\n"e.f" = "g"\n', {"a.b": 1, "c.d": True, "c.e.f": "g"}),
        ("f.toml", "a.b.c = 1", {"a.b": {"c": 1}}),
        ("f.json", "{}", {}),
    ],
)
def test_settings_file_is_parsed(name, text, expected):
    assert read_settings_file(text.encode(), name) == expected


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("f.json", "", "not JSON"),
        ("f.json", "[1]", "keys and values"),
        ("f.json", '{"a": 1, "a": 2}', "duplicate"),
        ("f.json", '{"a": NaN}', "stored"),
        ("f.json", '{"a": -Infinity}', "stored"),
        ("f.json", '{"a": 1e999}', "stored"),
        ("f.json", "[" * 100_000, "deeply"),
        ("f.json", '{"schema": "dbctl.settings.list/1", "data": {}}', "another command"),
        ("f.json", '{"schema": "dbctl.settings.export/1", "data": []}', "keys and values"),
        ("f.toml", "a = 2026-01-01", "type of a"),
        ("f.toml", "a = [inf]", "type of a"),
        ("f.toml", "a = 1\na = 2", "line 2"),
    ],
)
def test_file_without_settings_is_refused(name, text, reason):
    with pytest.raises(UsageError, match=reason) as caught:
        read_settings_file(text.encode(), name)
    assert name in str(caught.value)


def test_file_that_is_not_utf_8_is_refused():
    with pytest.raises(UsageError, match="utf-8"):
        read_settings_file(b'{"a": "\xff"}', "f.json")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.text(), values),
)


@given(JSON)
def test_value_equals_its_json_round_trip(value):
    assert is_equal(value, json.loads(json.dumps(value)))


@pytest.mark.parametrize(
    ("first", "second"),
    [(1, True), (0, False), ([1], [True]), ({"a": 0}, {"a": False}), ("1", 1), (None, False), ([1], [1, 1])],
)
def test_different_values_are_not_equal(first, second):
    assert not is_equal(first, second)
    assert not is_equal(second, first)


# User settings ---------------------------------------------------------------------------------------------------


def test_missing_user_setting_is_added(path):
    assert change_setting(path, "card_size", "large", login="ANN").changed
    with open_app(path) as app:
        assert queries.export(app, login="ann") == {"theme_mode": "light", "card_size": "large"}
        assert queries.export(app, login="root") == {}
    assert read_audit_entries(path) == [
        ("settings.update", "card_size", {"user": "ann", "key": "card_size", "to": "large", "by": "dbctl"})
    ]


def test_reset_deletes_a_user_setting(path):
    with open_app(path) as app:
        reset_setting(app, "theme_mode", login="ann").apply()
        assert queries.export(app, login="ann") == {}
        with pytest.raises(SettingMissingError):
            reset_setting(app, "theme_mode", login="ann").plan()


@pytest.mark.parametrize(
    ("key", "text", "is_accepted"),
    [
        ("k" * 50, "v" * 500, True),
        ("k" * 51, "v", False),
        ("k", "v" * 501, False),
        ("", "v", False),
        ("k", "", True),
        ("a\nb", "v", False),
        ("k", "line\nline\ttab", True),
    ],
)
def test_user_settings_are_limited_as_in_the_app(path, key, text, is_accepted):
    if is_accepted:
        change_setting(path, key, text, login="ann")
        assert get_value(path, key, login="ann") == text
    else:
        with open_app(path) as app, pytest.raises(ValueInvalidError):
            set_setting(app, key, text, login="ann").plan()


def test_exported_user_settings_are_applied_to_another_user(path):
    with open_app(path) as app:
        exported = queries.export(app, login="ann")
        apply_file(app, exported, "exact", login="root").apply()
        assert queries.export(app, login="root") == exported
        with pytest.raises(UserMissingError):
            queries.export(app, login="nobody")


# Partially migrated databases ------------------------------------------------------------------------------------


@contextmanager
def open_partially_migrated_app(tmp_path, migrations, profile="flashpoint-web"):
    """Yield an app to whose database the first ``migrations`` of the document were applied."""
    from dbctl.services.app.session import open_app

    with closing(sqlite3.connect(tmp_path / "user.db")) as connection:
        for file in sorted(flashpoint_web.MIGRATIONS.glob("*.sql"))[:migrations]:
            connection.executescript(file.read_text(encoding="utf-8"))
    flashpoint_web.add_user(tmp_path / "user.db", "root", 1)
    with open_app(Selection(profile=profile, urls=[f"user={tmp_path / 'user.db'}"]), timeout=1) as app:
        yield app


def test_missing_settings_table_is_reported(tmp_path):
    with open_partially_migrated_app(tmp_path, 2) as app:
        for action in (
            lambda: queries.list_settings(app, PageRequest()),
            set_setting(app, "app.siteName", "x").plan,
            set_setting(app, "app.siteName", "x").apply,
            lambda: queries.export(app),
        ):
            with pytest.raises(SchemaMismatchError, match="table system_settings") as caught:
                action()
            assert "dbctl migrate status" in caught.value.hint
        assert queries.export(app, login="root") == {}


def test_only_types_are_checked_without_a_schema_column(tmp_path):
    with open_partially_migrated_app(tmp_path, 3) as app:
        assert set_setting(app, "auth.maxLoginAttempts", "4000").apply().setting.schema is None
        with pytest.raises(ValueInvalidError):
            set_setting(app, "auth.maxLoginAttempts", "many").plan()
        assert not queries.validate(app).has_errors


def test_missing_user_settings_are_reported(tmp_path):
    text = loader.path_of("flashpoint-web").read_text(encoding="utf-8")
    begin = text.index('[[settings]]\nscope = "user"')
    (tmp_path / "less.toml").write_text(text[:begin] + text[text.index("[audit]") :], encoding="utf-8")
    with open_partially_migrated_app(tmp_path, 4, str(tmp_path / "less.toml")) as app:
        with pytest.raises(FeatureMissingError, match="no user settings"):
            queries.export(app, login="root")
        assert queries.get_setting(app, "app.siteName").value == "Flashpoint Web"


# What is stored about a setting --------------------------------------------------------------------------------------


def read_metadata(path, shape, key):
    where = "key = ?" if shape == "deployed" else "category || '.' || key = ?"
    return query_rows(
        path, f"select description, is_public, validation_schema from system_settings where {where}", key
    )[0]


def test_description_and_public_change_without_the_value(path, shape, key):
    value = read_stored_value(path, shape, key["site"])
    with open_app(path) as app:
        result = update_setting(app, key["site"], {"description": "Name", "public": False}).apply()
        assert result.changed == ["description", "public"]
        assert (
            update_setting(app, key["site"], {"description": "Name", "public": False}).apply().changed == []
        )
    assert read_metadata(path, shape, key["site"])[:2] == ("Name", 0)
    assert read_stored_value(path, shape, key["site"]) == value
    (details,) = query_rows(path, "select details from activity_logs where action = 'settings.update'")[-1]
    assert json.loads(details)["changed"] == ["description", "public"]


@pytest.mark.parametrize("fields", [{"description": "a\udcff"}, {"schema": '{"title": "a\udcff"}'}])
def test_metadata_that_is_no_text_is_refused(path, key, fields):
    before = read_all_rows(path)
    with open_app(path) as app, pytest.raises(ValueInvalidError, match="UTF-8"):
        update_setting(app, key["site"], fields).apply()
    assert read_all_rows(path) == before


def test_schema_changes_only_to_one_that_accepts_the_value(path, shape, key):
    schema = '{"type": "number", "minimum": 3}'
    with open_app(path) as app:
        for text, reason in [
            ("{", "not JSON"),
            ('{"type": "nothing"}', "not a valid JSON Schema"),
            ('{"maximum": 0}', "violates it"),
        ]:
            with pytest.raises(ValueInvalidError, match=reason):
                update_setting(app, key["tries"], {"schema": text}).apply()
        update_setting(app, key["tries"], {"schema": schema}).apply()
        assert read_metadata(path, shape, key["tries"])[2] == schema
        with pytest.raises(ValueInvalidError):
            set_setting(app, key["tries"], "2").apply()
        update_setting(app, key["tries"], {"schema": "", "description": ""}).apply()
        assert read_metadata(path, shape, key["tries"])[0::2] == (None, None)
