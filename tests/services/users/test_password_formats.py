"""Users of apps whose password hashes have other formats than bcrypt, in one column or in several."""

from __future__ import annotations

import sqlite3

import pytest

from dbctl.config.sections import Selection
from dbctl.errors.usage import PlanChangedError
from dbctl.model import Secret
from dbctl.profiles.passwords import compute_hmac, hash_password, identify_format, verify_password
from dbctl.services.app.session import open_app
from dbctl.services.app.user_table import open_users
from dbctl.services.users import create

PASSWORD = "a long passphrase"
PROFILE = """
schema = "dbctl.profile/1"
name = "forge"
title = "Forge"
[databases.main]
engines = ["sqlite"]
needs = ["people"]
[users]
admin = false
table = "people"
id = {{ column = "id" }}
login = ["login"]
password = {{ column = "passwd", {password} }}
fields = {{ login = "login" }}
"""
GITEA = 'prefix_columns = ["algo", "salt"], writes = "pbkdf2$9$50$"'
WORDPRESS = 'writes = "$wp$2y$04$", accepts = ["bcrypt", "phpass"]'
PHPASS_HASH = "$P$BGHR2eF0FJayiZ7exgYlpQHY6Tezsu0"
DJANGO_HASH = f"pbkdf2_sha256$9$salt${'a' * 43}="
MASK = "***"


class Forge:
    """The app, in the working directory."""

    def __init__(self, folder) -> None:
        self._folder, self._path, self._profiles = folder, folder / "forge.db", 0
        self.run(
            "create table people (id integer primary key, login text not null, passwd text, algo text not null"
            " default '', salt text not null default '')"
        )
        (folder / "password").write_text(f"{PASSWORD}\n")
        (folder / "password").chmod(0o600)

    def declare(self, password: str, option: str = "") -> None:
        """Write the profile and the configuration; each profile has its own file, because a process reads a file once."""
        self._profiles += 1
        self.profile = self._folder / f"forge{self._profiles}.toml"
        self.profile.write_text(PROFILE.format(password=password))
        (self._folder / "dbctl.toml").write_text(
            f'[apps.forge]\nprofile = "{self.profile}"\n{option}\n[apps.forge.databases]\nmain = "sqlite:///{self._path}"\n'
        )

    def run(self, sql: str, *values: object) -> list[tuple[object, ...]]:
        db = sqlite3.connect(self._path)
        try:
            rows = db.execute(sql, values).fetchall()
            db.commit()
        finally:
            db.close()
        return rows

    def add(self, login: str, passwd: str | None, algo: str = "", salt: str = "") -> None:
        self.run(
            "insert into people (login, passwd, algo, salt) values (?, ?, ?, ?)", login, passwd, algo, salt
        )

    def rows(self) -> list[tuple[object, ...]]:
        return self.run("select * from people order by id")


@pytest.fixture
def forge(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Forge(tmp_path)


def list_codes(result) -> set[tuple[str, str]]:
    return {(finding["severity"], finding["code"]) for finding in result["data"]["findings"]}


WRITES = [
    ("users", "create", "bo", "--password-file", "password", "--yes"),
    ("users", "ensure", "bo", "--password-file", "password", "--yes"),
    ("users", "set-password", "ann", "--password-file", "password", "--yes"),
    ("users", "import", "users.csv", "--yes"),
]


def write_users_file(folder, **values: str) -> None:
    (folder / "users.csv").write_text(",".join(values) + "\n" + ",".join(values.values()) + "\n")


@pytest.mark.parametrize(
    ("password", "name"),
    [
        (WORDPRESS, "wordpress-bcrypt"),
        ('writes = "pbkdf2_sha256$9$"', "django-pbkdf2"),
        ('writes = "3|$argon2id$v=19$m=64,t=1,p=1$"', "nextcloud-argon2"),
        (GITEA, "gitea-pbkdf2"),
    ],
)
def test_passwords_are_written_in_the_declared_format(answer, forge, tmp_path, password, name):
    forge.declare(password)
    answer("users", "create", "ann", "--generate", "--yes")
    write_users_file(tmp_path, login="cy", password=PASSWORD)
    for words in WRITES:
        answer(*words, status=None)
    rows = forge.run("select login, algo, salt, passwd from people order by id")
    assert [row[0] for row in rows] == ["ann", "bo", "cy"]
    for login, *parts in rows:
        assert identify_format("$".join(part for part in parts if part)) == name
        answer("users", "check-password", login, "--password-file", "password")
    answer("apps", "check")
    assert answer("integrity", "check", status=None)["exit_code"] in (0, 4)


def test_hash_in_several_columns_is_exported_and_imported(answer, forge, tmp_path):
    forge.declare(GITEA)
    answer("users", "create", "ann", "--password-file", "password", "--yes")
    (user,) = answer("users", "export", "--secrets")["data"]["items"]
    assert identify_format(user["password_hash"]) == "gitea-pbkdf2"
    write_users_file(tmp_path, login="bo", password_hash=user["password_hash"])
    answer("users", "import", "users.csv", "--yes")
    assert forge.rows()[0][2:] == forge.rows()[1][2:]
    answer("users", "check-password", "bo", "--password-file", "password")


def test_hash_in_several_columns_is_secret_and_checked_as_a_whole(answer, forge):
    forge.declare(GITEA)
    answer("users", "create", "ann", "--password-file", "password", "--yes")
    before = forge.rows()
    (row,) = answer("data", "rows", "people")["data"]["items"]
    assert [row[name] for name in ("passwd", "algo", "salt")] == [MASK] * 3
    for column in ("salt", "passwd", "algo"):
        result = answer("data", "set", "people", "1", f"{column}=abc", "--yes", status=None)
        assert result["exit_code"] != 0
    assert forge.rows() == before


def test_redmine_hash_is_only_verified(answer, forge, tmp_path):
    forge.declare('prefix_columns = ["salt"], accepts = ["redmine-sha1"], unusable = ["*$"]')
    forge.add("ann", "bf0c63f9ca0cf510ce2d66482a43d19f3869bb08", salt="4571430df544de5d10033f0788162d26")
    forge.add("ldap", "")
    (tmp_path / "password").write_text("admin-pw-1\n")
    answer("users", "check-password", "ann", "--password-file", "password")
    (tmp_path / "password").write_text("admin-pw-2\n")
    answer("users", "check-password", "ann", "--password-file", "password", status=1)
    answer("apps", "check")
    before = forge.rows()
    for words in WRITES[:3]:
        for option in ([], ["--dry-run"]):
            assert answer(*words, *option, status=2)["error"]["code"] == "not-supported"
    write_users_file(tmp_path, login="cy", password=PASSWORD)
    error = answer("users", "import", "users.csv", "--dry-run", status=2)["error"]
    assert "setting passwords is not supported" in error["message"]
    assert forge.rows() == before


def test_incomplete_hash_of_several_columns_is_refused(answer, forge, tmp_path):
    forge.declare(f'{GITEA}, unusable = ["!*"]')
    for stored in ("!none", "!$none"):
        write_users_file(tmp_path, login="bo", password_hash=stored)
        error = answer("users", "import", "users.csv", "--yes", status=2)["error"]
        assert (error["code"], "algo, salt, passwd" in error["message"]) == ("import-invalid", True)
    write_users_file(tmp_path, login="bo", password_hash="!$$")
    answer("users", "import", "users.csv", "--yes")
    assert forge.run("select algo, salt, passwd from people") == [("!", "", "")]


@pytest.mark.parametrize("hashed", ["plain words", DJANGO_HASH, "$2b$31$" + "a" * 53])
def test_clear_text_and_other_formats_and_costs_are_refused(answer, forge, tmp_path, hashed):
    forge.declare(WORDPRESS)
    forge.add("ann", PHPASS_HASH)
    before = forge.rows()
    write_users_file(tmp_path, login="bo", password_hash=hashed)
    result = answer("users", "import", "users.csv", "--yes", status=None)
    assert result["error"]["code"] == "import-invalid"
    (tmp_path / "rows.csv").write_text(f"login,passwd\nbo,{hashed}\n")
    result = answer("data", "import", "people", "rows.csv", "--yes", status=None)
    assert result["exit_code"] != 0
    assert forge.rows() == before


# Stored hashes that the profile does not declare -------------------------------------------------------------------


def test_undeclared_format_is_an_error_and_passwords_are_refused(answer, forge, tmp_path):
    forge.declare(WORDPRESS)
    forge.add("ann", DJANGO_HASH)
    write_users_file(tmp_path, login="cy", password=PASSWORD)
    before = forge.rows()
    result = answer("apps", "check", status=4)
    assert ("error", "password-format") in list_codes(result)
    (finding,) = (entry for entry in result["data"]["findings"] if entry["code"] == "password-format")
    assert "users.password" in finding["message"]
    assert "django-pbkdf2 (1 of 1)" in finding["message"]
    for words in WRITES:
        for option in ([], ["--dry-run"]):
            result = answer(*words, *option, status=6)
            assert result["error"]["code"] == "password-format"
            assert "django-pbkdf2" in result["error"]["hint"]
    assert forge.rows() == before

    forge.declare(WORDPRESS.replace('"phpass"', '"phpass", "django-pbkdf2"'))
    assert not list_codes(answer("apps", "check"))
    answer(*WRITES[2])
    assert forge.rows()[0][2].startswith("$wp$2y$04$")


@pytest.mark.parametrize("hashes", [["", None], [PHPASS_HASH, "invited"], [PHPASS_HASH, None], []])
def test_values_in_no_known_format_do_not_refuse_passwords(answer, forge, hashes):
    forge.declare(WORDPRESS)
    for number, stored in enumerate(hashes):
        forge.add(f"user{number}", stored)
    codes = list_codes(answer("apps", "check"))
    assert codes == ({("info", "password-unknown")} if "invited" in hashes else set())
    answer(*WRITES[0])
    answer("users", "check-password", "bo", "--password-file", "password")


@pytest.mark.parametrize("hashes", [[":B:1234:0123456789abcdef"], ["!none", "", None]])
def test_passwords_are_refused_if_no_stored_value_has_a_declared_format(answer, forge, tmp_path, hashes):
    forge.declare(WORDPRESS)
    forge.add("ann", hashes[0])
    for number, stored in enumerate(hashes[1:]):
        forge.add(f"user{number}", stored)
    write_users_file(tmp_path, login="cy", password=PASSWORD)
    before = forge.rows()
    assert ("error", "password-format") in list_codes(answer("apps", "check", status=4))
    for words in WRITES:
        assert answer(*words, status=6)["error"]["code"] == "password-unknown"
    assert forge.rows() == before

    forge.declare(f'{WORDPRESS}, unusable = ["{hashes[0][:2]}*"]')
    assert not list_codes(answer("apps", "check"))
    answer(*WRITES[0])


@pytest.mark.parametrize(
    "unknown",
    ["$balloon$v=1$s=64,t=3$bGV0dGVycw$aGFzaG9mc29tZWxlbmd0aA", "{SSHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g5"],
)
def test_users_with_hashes_of_an_unknown_algorithm_are_not_damaged_and_keep_them(answer, forge, unknown):
    forge.declare('writes = "$2b$04$"')
    forge.add("old", hash_password(Secret(PASSWORD), "$2b$04$"))
    for number in range(3):
        forge.add(f"user{number}", unknown)
    before = forge.rows()
    for words in WRITES[0], ("users", "set-password", "user1", "--generate"):
        assert answer(*words, status=6)["error"]["code"] == "password-unknown"
    assert forge.rows() == before
    for words in ("integrity", "check"), ("doctor",):
        findings = answer(*words, status=None)["data"]["findings"]
        passwords = [item for item in findings if item["code"].startswith("password")]
        assert [(item["severity"], item["code"]) for item in passwords] == [("info", "password-unknown")]
        assert "set-password" not in str(passwords)


def test_hash_without_its_other_parts_refuses_passwords_as_a_whole_one_does(answer, forge):
    forge.declare(GITEA)
    forge.add("ann", DJANGO_HASH)  # without an algorithm and a salt
    forge.add("invited", "")
    error = answer(*WRITES[0], status=6)["error"]
    assert (error["code"], "1 of 1" in error["message"]) == ("password-unknown", True)


def test_newest_of_many_users_are_in_the_sample(answer, forge):
    forge.declare(WORDPRESS)
    forge.run(
        "with recursive numbers (n) as (select 1 union all select n + 1 from numbers where n < 1200)"
        " insert into people (login, passwd) select 'user' || n, iif(n = 1200, ?, ?) from numbers",
        DJANGO_HASH,
        PHPASS_HASH,
    )
    (finding,) = answer("apps", "check", status=4)["data"]["findings"]
    assert "django-pbkdf2 (1 of 1000)" in finding["message"]


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ('writes = "$2b$10"', "no known hash begins with it"),
        ('writes = "$2b$31$"', "its cost is too high"),
        ('prefix_columns = ["salt"]', "it requires writes or accepts"),
    ],
)
def test_invalid_format_in_the_profile_is_reported(answer, forge, password, reason):
    forge.declare(password)
    (finding,) = answer("apps", "check", str(forge.profile), status=2)["data"]["findings"]
    assert "users.password" in finding["message"]
    assert reason in finding["message"]


def test_invalid_prefix_refuses_passwords_with_its_line(answer, forge):
    forge.declare('writes = "$2b$10"')
    result = answer(*WRITES[0], status=2)
    assert result["error"]["code"] == "profile-invalid"
    assert "users.password.writes" in result["error"]["message"]
    assert forge.rows() == []


def test_plan_counts_the_row_before_the_hash_is_computed(answer, forge):
    forge.declare('writes = "$2b$04$"')
    forge.add("ann", None)
    plan = answer("users", "set-password", "ann", "--password-file", "password", "--dry-run")["data"]["plan"]
    assert plan["rows"] == {"people": 1}


def test_expensive_stored_hash_is_not_computed(answer, forge):
    forge.declare('writes = "$2b$04$"')
    forge.add("ann", "$2b$31$" + "a" * 53)
    result = answer("users", "check-password", "ann", "--password-file", "password", status=6)
    assert result["error"]["code"] == "hash-expensive"


# Peppers -----------------------------------------------------------------------------------------------------------

SYNAPSE = 'writes = "$2b$04$", pepper = true, normal_form = "NFKC"'


def test_pepper_of_a_file_follows_the_password(answer, forge, tmp_path):
    forge.declare(SYNAPSE, "pepper_file = 'pepper'")
    (tmp_path / "pepper").write_text("fixture-pepper\n")
    forge.add("ann", "$2b$06$Fw8hitM/P/CBm/4I65fzGuSrN9Ju1dG46.75oQFk4BKh9edP6DYz6")
    (tmp_path / "password").write_text("\uff41dmin-pw-1\n")  # NFKC changes the first letter to an ordinary a
    answer("users", "check-password", "ann", "--password-file", "password")
    answer(*WRITES[0])
    ((stored,),) = forge.run("select passwd from people where login = 'bo'")
    assert verify_password(Secret("admin-pw-1fixture-pepper"), stored, ["bcrypt"])


@pytest.mark.parametrize("option", ["", "pepper_file = 'missing'"])
def test_missing_pepper_refuses_passwords_and_their_plans(answer, forge, tmp_path, option):
    forge.declare(SYNAPSE, option)
    forge.add("ann", "$2b$06$Fw8hitM/P/CBm/4I65fzGuSrN9Ju1dG46.75oQFk4BKh9edP6DYz6")
    before = forge.rows()
    for words in (WRITES[0], WRITES[2], ("users", "check-password", "ann", "--password-file", "password")):
        assert answer(*words, status=2)["error"]["code"] == "pepper-missing"
    write_users_file(tmp_path, login="bo", password=PASSWORD)
    for words in (("create", "bo"), ("set-password", "ann", "--generate"), ("import", "users.csv")):
        planned = answer("users", *words, "--dry-run", status=2)
        assert planned["error"]["code"] == "pepper-missing"
    assert forge.rows() == before


def test_byte_order_mark_is_no_part_of_a_pepper(answer, forge, tmp_path):
    forge.declare(SYNAPSE, "pepper_file = 'pepper'")
    (tmp_path / "pepper").write_bytes(b"\xef\xbb\xbffixture-pepper\r\n")
    answer(*WRITES[0])
    ((stored,),) = forge.run("select passwd from people")
    assert verify_password(Secret(PASSWORD + "fixture-pepper"), stored, ["bcrypt"])


def test_long_pepper_is_refused_and_not_shortened(answer, forge, tmp_path):
    forge.declare(SYNAPSE, "pepper_file = 'pepper'")
    (tmp_path / "pepper").write_text("x" * 5000)
    assert answer(*WRITES[0], status=2)["error"]["code"] == "pepper-missing"
    assert forge.rows() == []


def test_empty_pepper_file_is_an_app_without_pepper(answer, forge, tmp_path):
    forge.declare(SYNAPSE, "pepper_file = 'pepper'")
    (tmp_path / "pepper").write_text("")
    answer(*WRITES[0])
    ((stored,),) = forge.run("select passwd from people")
    assert verify_password(Secret(PASSWORD), stored, ["bcrypt"])


def test_sample_of_users_without_passwords_is_bounded(answer, forge):
    forge.declare(WORDPRESS)
    forge.run(
        "with recursive numbers (n) as (select 1 union all select n + 1 from numbers where n < 1200)"
        " insert into people (login, passwd) select 'user' || n, iif(n = 600, ?, null) from numbers",
        DJANGO_HASH,
    )
    assert (
        answer("apps", "check")["data"]["findings"] == []
    )  # the user is in no sample of 500 rows at each end
    forge.run("update people set passwd = ? where id = 500", DJANGO_HASH)
    (finding,) = answer("apps", "check", status=4)["data"]["findings"]
    assert "django-pbkdf2 (1 of 1)" in finding["message"]


def test_one_hash_of_an_unknown_algorithm_among_declared_ones_refuses_passwords(answer, forge):
    forge.declare('writes = "$2b$04$"')
    forge.add("old", hash_password(Secret(PASSWORD), "$2b$04$"))
    forge.add("new", "{SSHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g5")
    assert answer(*WRITES[0], status=6)["error"]["code"] == "password-unknown"


def test_user_without_a_password_matches_none(answer, forge):
    forge.declare('writes = "$2b$04$"')
    forge.add("invited", None)
    error = answer("users", "check-password", "invited", "--password-file", "password", status=1)["error"]
    assert error["code"] == "password-wrong"


# Keys of an HMAC, and columns that change with the password --------------------------------------------------------------

KEY = "k3y-of-the-hmac"
KEYED = 'writes = "$pbkdf2-sha512$9$", normal_form = "NFKD", hmac_key = { table = "keys", column = "value", only = { name = "SALT" } }'


@pytest.fixture
def keyed(forge):
    forge.run("create table keys (name text primary key, value text)")
    forge.run("insert into keys values ('SALT', ?), ('OTHER', 'x')", KEY)
    forge.declare(KEYED)
    return forge


def test_password_is_hashed_after_hmac_with_stored_key(answer, keyed, tmp_path):
    answer("users", "create", "ann", "--generate", "--yes")
    write_users_file(tmp_path, login="cy", password=PASSWORD)
    for words in WRITES:
        answer(*words, status=None)
    for login, stored in keyed.run("select login, passwd from people"):
        assert verify_password(compute_hmac(PASSWORD, Secret(KEY)), stored, ["passlib-pbkdf2"]), login
        assert not verify_password(Secret(PASSWORD), stored, ["passlib-pbkdf2"])
        answer("users", "check-password", login, "--password-file", "password")
    assert {row["value"] for row in answer("data", "rows", "keys")["data"]["items"]} == {MASK}
    answer("apps", "check")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("delete from keys where name = 'SALT'", "no row"),
        ("update keys set value = '' where name = 'SALT'", "an empty value"),
        ("update keys set value = null where name = 'SALT'", "an empty value"),
    ],
)
def test_missing_key_of_hmac_is_refused(answer, keyed, change, reason):
    answer("users", "create", "ann", "--password-file", "password", "--yes")
    keyed.run(change)
    before = keyed.rows()
    for words in (*WRITES[:1], WRITES[2], ("users", "check-password", "ann", "--password-file", "password")):
        error = answer(*words, status=6)["error"]
        assert (error["code"], reason in error["message"]) == ("password-key-missing", True)
    assert keyed.rows() == before


def test_key_that_changes_after_the_hash_is_refused(keyed):
    with open_app(Selection(app="forge"), timeout=1) as app:
        hashed = create.hash_password(app, Secret(PASSWORD))
        keyed.run("update keys set value = 'another one' where name = 'SALT'")
        new = create.NewUser(fields={"login": "ann"}, password_hash=hashed)
        with pytest.raises(PlanChangedError):
            create.CreateUser(open_users(app), new)


def test_format_that_cuts_an_hmac_is_not_written(answer, forge):
    forge.declare(KEYED.replace("$pbkdf2-sha512$9$", "$2b$04$"))
    error = answer("users", "list", status=2)["error"]
    assert (error["code"], "HMAC" in error["message"]) == ("profile-invalid", True)


def test_columns_change_with_the_password(answer, forge):
    for column in (
        "changed_at text",
        "must_change integer default 1",
        "version integer default 4",
        "note text",
    ):
        forge.run(f"alter table people add column {column}")
    also = 'also = { changed_at = ":now", must_change = 0, version = ":next", note = ":null" }'
    forge.declare(f'writes = "$pbkdf2-sha512$9$", {also}')
    answer("users", "create", "ann", "--password-file", "password", "--yes")
    forge.run("update people set note = 'x'")
    (plan,) = [
        step for step in answer(*WRITES[2], "--dry-run")["data"]["plan"]["steps"] if "must_change" in step
    ]
    assert "version" in plan
    answer(*WRITES[2])
    ((changed_at, *values),) = forge.run("select changed_at, must_change, version, note from people")
    assert changed_at
    assert values == [0, 5, None]


@pytest.mark.parametrize(
    ("typed", "hashed"),
    [("trimmed", """o'neil "two" \\ ways"""), ("slashed", """o\\'neil \\"two\\" \\\\ ways""")],
)
@pytest.mark.parametrize("prefix", ["$P$5", "$2b$04$"])
def test_password_is_hashed_as_the_form_of_the_app_changes_it(answer, forge, tmp_path, typed, hashed, prefix):
    forge.declare(f'writes = "{prefix}", typed = "{typed}"')
    (tmp_path / "password").write_text(""" \to'neil "two" \\ ways  \n""")
    answer(*WRITES[0])
    ((stored,),) = forge.run("select passwd from people")
    assert verify_password(Secret(hashed), stored, ["phpass", "bcrypt"])
    for text in (""" \to'neil "two" \\ ways  \n""", """o'neil "two" \\ ways\n"""):
        (tmp_path / "password").write_text(text)
        answer("users", "check-password", "bo", "--password-file", "password")


def test_rules_apply_to_a_password_without_its_whitespace(answer, forge, tmp_path):
    forge.declare('writes = "$2b$04$", typed = "trimmed" }\nrules = { password = { length = [8, 72] }')
    for text, status in (("         ", 2), ("     short", 2), (" long enough", 0)):
        (tmp_path / "password").write_text(f"{text}\n")
        answer(*WRITES[1], status=status)
