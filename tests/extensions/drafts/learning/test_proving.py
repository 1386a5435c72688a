"""``profiles prove``: dbctl's commands write the rows that the app wrote, or the differences are named."""

from __future__ import annotations

import tomllib

import pytest

from dbctl.extensions.drafts.learning import replay
from dbctl.profiles.loader import BUILTIN
from tests.extensions.drafts.learning.demonstrations import Pair, list_pairs, select_server
from tests.extensions.drafts.learning.recorded_app import FORMAT, RecordedApp, hash_password

CREATED = "2026-03-04 05:06:07"
CREATE = f"""
    insert into users values (9, 'cy', 'cy@example.org', 'customer', '{hash_password()}', '{"0a" * 16}', 'free', 1, '{CREATED}');
    insert into carts values ('6d1d8a5b-0c6f-4b8f-8a53-1c11f5dca4f5', 9, 'user-9');
"""


@pytest.fixture
def shop(tmp_path):
    return RecordedApp(tmp_path)


@pytest.fixture
def prove(shop, answer):
    def run(*words: str, status: int = 0) -> dict:
        return answer("profiles", "prove", str(shop.profile), *words, status=status)["data"]

    return run


def record_creation(shop, statements: str = CREATE) -> None:
    shop.record("create-user", "cy", statements, email="cy@example.org")


def test_new_user_is_proven_with_other_keys_times_random_values_and_hash(shop, prove):
    record_creation(shop)
    (result,) = prove()["recordings"]
    assert (result["status"], result["rows"], result["differences"]) == ("proven", 2, [])


def test_command_has_no_hash_and_no_secret_field(shop, prove):
    shop.replace('active = "active"', 'active = "active"\ndigest = "hash"\ntoken = "token"')
    shop.replace('token = ":hex-32", ', "")
    shop.replace('needs = ["users"', 'secret = ["users.token"]\nneeds = ["users"')
    record_creation(shop)
    (result,) = prove()["recordings"]
    assert result["command"] == "users create --email=cy@example.org --set=token=*** --generate -- cy"
    assert result["status"] == "proven"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "column", "values"),
    [
        ('plan = "free"', 'plan = "paid"', "plan", ('"free"', '"paid"')),
        ('default = "customer"', 'default = "admin"', "role", ('"customer"', '"admin"')),
        ('":hex-32"', '":hex-40"', "token", ("***", "***")),
        ('"user-{id}"', '"user-{username}"', "owner", ('"user-9"', '"user-cy"')),
        ("$1000$", "$2000$", "hash", ("***", "***")),
    ],
)
def test_wrong_value_of_a_new_row_is_a_difference(shop, prove, old, new, column, values):
    record_creation(shop)
    shop.replace(old, new)
    (result,) = prove(status=4)["recordings"]
    (difference,) = result["differences"]
    assert (result["status"], difference["column"], difference["recorded"]) == ("failed", column, values[0])
    assert values[1] in (None, difference["replayed"])


def test_other_form_of_time_is_a_difference(shop, prove):
    shop.execute("update users set created = null")
    record_creation(shop)
    shop.replace('time = "sqlite-time"', 'time = "iso-ms"')
    (difference,) = prove(status=4)["recordings"][0]["differences"]
    assert (difference["column"], difference["recorded"]) == ("created", f'"{CREATED}"')


def test_missing_row_of_a_new_user_is_a_difference(shop, prove):
    record_creation(shop, CREATE + "insert into orders values (7, 9, 'welcome');")
    (difference,) = prove(status=4)["recordings"][0]["differences"]
    assert (difference["table"], difference["column"], difference["replayed"]) == ("main.orders", "", None)
    assert difference["recorded"] == 'added id=7 user_id=9 item="welcome"'


def test_time_far_from_the_others_is_a_difference(shop, prove):
    shop.execute("alter table users add expires text")
    shop.replace('plan = "free"', 'plan = "free", expires = ":now"')
    columns = "(id, username, email, role, hash, token, plan, active, created, expires)"
    record_creation(
        shop,
        CREATE.replace("into users", f"into users {columns}").replace(
            f"'{CREATED}'", f"'{CREATED}', '2026-03-05 05:06:07'"
        ),
    )
    (difference,) = prove(status=4)["recordings"][0]["differences"]
    assert difference["column"] in ("created", "expires")


@pytest.mark.slow
def test_password_is_proven_and_sign_ins_that_dbctl_ends_are_its_own(shop, prove):
    shop.record("set-password", "bo", f"update users set hash = '{hash_password('second')}' where id = 2")
    (result,) = prove()["recordings"]
    assert (result["status"], result["rows"], result["own"]) == ("proven", 1, 1)


@pytest.mark.slow
def test_deletion_is_proven_and_a_missing_cascade_fails(shop, prove):
    deletions = (
        "delete from orders where user_id = 2",
        "delete from carts where user_id = 2",
        "delete from users where id = 2",
    )
    shop.record("delete-user", "bo", ";".join([*deletions, "delete from sessions where user_id = 2"]))
    assert prove()["recordings"][0]["rows"] == 4
    shop.replace('cascade = ["orders.user_id", ', 'clear = ["orders.user_id"]\ncascade = [')
    differences = prove(status=4)["recordings"][0]["differences"]
    assert {(entry["table"], entry["key"]) for entry in differences} == {("main.orders", "id=2")}


@pytest.mark.slow
def test_deactivation_activation_and_role_are_proven(shop, prove):
    shop.record("deactivate", "bo", "update users set active = 0 where id = 2")
    shop.record("activate", "bo", "update users set active = 1 where id = 2")
    shop.record("set-role", "bo", "update users set role = 'admin' where id = 2", role="admin")
    assert [entry["status"] for entry in prove()["recordings"]] == ["proven"] * 3
    (result,) = prove("--action", "activate")["recordings"]
    assert (result["action"], result["command"]) == ("activate", "users activate -- bo")


def test_unrelated_changes_are_counted_and_not_compared(shop, prove):
    shop.record(
        "deactivate",
        "bo",
        "update users set active = 0 where id = 2; insert into log values (1, 'bo'); update users set created = 'x' where id = 1",
        unrelated=["log", "users.created"],
    )
    (result,) = prove()["recordings"]
    assert (result["status"], result["rows"], result["ignored"]) == ("proven", 1, 2)


def test_failure_of_the_command_is_the_reason(shop, prove):
    shop.record("delete-user", "ada", "delete from users where id = 1")
    (result,) = prove(status=4)["recordings"]
    assert (result["status"], result["differences"]) == ("failed", [])
    assert "no active 'admin' left" in result["reason"]


def test_action_without_a_command_is_neither_proven_nor_failed(shop, prove):
    shop.record("sign-in", "bo", "insert into sessions values ('s3', 2)")
    (result,) = prove()["recordings"]
    assert (result["status"], result["command"]) == ("not-possible", "")


def test_recording_of_an_unnamed_role_is_neither_proven_nor_failed(shop, prove):
    shop.record("set-role", "bo", "update users set role = 'admin' where id = 2")
    (result,) = prove()["recordings"]
    assert (result["status"], "--role" in result["reason"]) == ("not-possible", True)


def test_profile_without_recordings_is_not_proven(shop, answer):
    result = answer("profiles", "prove", str(shop.profile), status=5)
    assert result["error"]["code"] == "recordings-missing"


def read_proofs(shop) -> dict:
    return tomllib.loads(shop.profile.read_text()).get("proven", {}).get("sqlite", {})


@pytest.mark.slow
def test_proof_is_written_to_the_profile_and_checked(shop, prove, answer):
    record_creation(shop)
    text = shop.profile.read_text()
    assert prove("--dry-run")["written"] is False
    assert shop.profile.read_text() == text
    assert prove()["written"] is True
    proof = read_proofs(shop)["create-user"]
    assert (proof["recordings"], proof["rows"], proof["ledger"]) == (1, 2, "")
    options = ("--profile", str(shop.profile), "--url", str(shop.path))
    codes = [finding["code"] for finding in answer("apps", "check", *options)["data"]["findings"]]
    assert "commands-proven" in codes
    assert "proof-outdated" not in codes
    (note,) = answer("users", "create", "di", "--generate", "--dry-run", *options)["warnings"]
    assert note.startswith("users create is proven")


def append_secret(shop, folder, content: str | None):
    """Let the app append a secret to passwords; return the configuration with it, or without any."""
    shop.replace(f'writes = "{FORMAT}"', f'writes = "{FORMAT}", pepper = true')
    config = folder / "dbctl.toml"
    key = "" if content is None else 'pepper_file = "pepper"\n'
    (folder / "pepper").write_text(content or "")
    config.write_text(f'[apps.shop]\nprofile = "shop.toml"\n{key}[apps.shop.databases]\nmain = "shop.db"\n')
    return config


@pytest.mark.parametrize("content", ["fixture-pepper\n", ""], ids=["secret", "empty"])
def test_secret_of_passwords_is_that_of_the_configured_app(shop, prove, tmp_path, content):
    config = append_secret(shop, tmp_path, content)
    record_creation(shop)
    (result,) = prove("--config", str(config))["recordings"]
    assert (result["status"], result["reason"]) == ("proven", "")


@pytest.mark.parametrize("is_configured", [True, False])
def test_missing_secret_of_passwords_refuses_replays_that_set_one(
    shop, answer, tmp_path, monkeypatch, is_configured
):
    config = append_secret(shop, tmp_path, None)
    monkeypatch.chdir(tmp_path)
    if not is_configured:
        config.unlink()
    text = shop.profile.read_text()
    record_creation(shop)
    shop.record("deactivate", "bo", "update users set active = 0 where id = 2")
    error = answer("profiles", "prove", str(shop.profile), status=2)["error"]
    assert error["code"] == "pepper-missing"
    assert "[apps.shop]" in error["hint"]
    assert shop.profile.read_text() == text
    answer("profiles", "prove", str(shop.profile), "--action", "deactivate")


@pytest.mark.slow
def test_recordings_without_a_proof_are_found(shop, prove, answer):
    options = ("--profile", str(shop.profile), "--url", str(shop.path))

    def find():
        findings = answer("apps", "check", *options)["data"]["findings"]
        return [finding for finding in findings if finding["code"] == "recordings-unproven"]

    assert find() == []
    record_creation(shop)
    shop.record("deactivate", "bo", "update users set active = 0 where id = 2")
    shop.record("sign-in", "ada", "insert into sessions values ('s3', 1)")  # dbctl has no command for it
    (finding,) = find()
    assert finding["severity"] == "info"
    assert finding["message"] == "2 recordings without a proof: create-user, deactivate"
    assert f"profiles prove {shop.profile}" in finding["hint"]
    prove("--action", "deactivate")
    (finding,) = find()
    assert finding["message"] == "1 recording without a proof: create-user"
    prove()
    assert find() == []


@pytest.mark.slow
def test_failed_replay_removes_the_proof_of_its_action_alone(shop, prove):
    record_creation(shop)
    shop.record("deactivate", "bo", "update users set active = 0 where id = 2")
    prove()
    shop.replace('plan = "free"', 'plan = "paid"')
    prove("--action", "deactivate")
    assert read_proofs(shop).keys() == {"create-user", "deactivate"}
    prove(status=4)
    assert read_proofs(shop).keys() == {"deactivate"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("app", "number", "engine"), [("mlflow", 1, "postgresql"), ("uptime-kuma", 2, "mysql")]
)
def test_recording_of_a_server_is_replayed_on_one(tmp_path, learn, answer, app, number, engine):
    profile = tmp_path / f"{app}.toml"
    learn(app, number, profile, engine=engine)
    error = answer("profiles", "prove", str(profile), status=2)["error"]
    assert "--url" in error["message"]
    (result,) = answer("profiles", "prove", str(profile), *select_server(engine))["data"]["recordings"]
    assert (result["status"], result["engine"], result["rows"]) == ("proven", engine, 1)
    assert tomllib.loads(profile.read_text())["proven"].keys() == {engine}


@pytest.mark.slow
def test_recordings_of_two_engines_are_proofs_of_each(tmp_path, learn, answer):
    profile = tmp_path / "umbrella.toml"
    for engine in ("sqlite", "mysql"):
        profile.write_text((BUILTIN / "uptime-kuma.toml").read_text().partition("[proven")[0])
        learn("uptime-kuma", 2, profile, engine=engine)
    server = select_server("mysql")
    assert answer("profiles", "prove", str(profile), *server)["data"]["written"] is True
    proofs = tomllib.loads(profile.read_text())["proven"]
    assert {engine: (*proven,) for engine, proven in proofs.items()} == {
        "sqlite": ("set-password",),
        "mysql": ("set-password",),
    }


def test_learned_profile_of_an_application_is_proven(tmp_path, learn, answer):
    profile, pairs = tmp_path / "mlflow.toml", dict[str, Pair]()
    for pair in list_pairs("mlflow"):
        if pair.action in ("create-user", "set-password", "delete-user") and not pair.wrong:
            pairs.setdefault(pair.action, pair)
    for pair in pairs.values():
        learn("mlflow", pair.number, profile)
    results = answer("profiles", "prove", str(profile))["data"]["recordings"]
    assert {result["action"]: result["status"] for result in results} == dict.fromkeys(pairs, "proven")
    assert len(pairs) == 3


def test_command_that_does_not_end_fails(shop, prove, monkeypatch):
    record_creation(shop)
    monkeypatch.setattr(replay, "_TIME_LIMIT", 0.01)
    (result,) = prove(status=4)["recordings"]
    assert (result["status"], result["reason"]) == ("failed", "the command did not end within 0.01 seconds")
