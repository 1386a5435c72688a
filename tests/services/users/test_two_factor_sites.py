"""After ``users reset-2fa``, the code of django-otp and of django-allauth, which Paperless-ngx uses, asks for the password alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.databases import empty_database

SITE = Path(__file__).with_name("two_factor_site.py")
#: By library, the login of its user, and the kinds that it registers.
LIBRARIES = {
    "otp": ("ann", {"totp", "recovery-codes", "static"}),
    "allauth": ("bo", {"totp", "recovery-codes"}),
}


@pytest.mark.slow
def test_users_sign_in_without_code_and_register_again(answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with empty_database("postgresql", tmp_path / "db.sqlite3") as db:

        def visit(*steps: str) -> dict[str, str]:
            """Do steps with each library, with its user; return the results by step."""
            words = [f"{step}-{name}:{login}" for name, (login, _) in LIBRARIES.items() for step in steps]
            words = [
                word.replace("code-otp", "otp-code").replace("code-allauth", "allauth-code") for word in words
            ]
            first = [] if db.tables() else ["install"]
            command = [sys.executable, str(SITE), db.url, *first, *words]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            results = dict(zip([*first, *words], json.loads(output), strict=True))
            return {word: result for word, result in results.items() if word != "install"}

        def assert_all(state: str, results: dict[str, str], step: str) -> None:
            states = {word: result for word, result in results.items() if word.startswith(step)}
            assert {*states.values()} == {state}, results

        enrolled = visit("sign-in", "enrol")
        assert_all("in", enrolled, "sign-in")
        assert_all("enrolled", enrolled, "enrol")
        with_code = visit("sign-in", "sign-in-code")
        assert_all("code", {word: with_code[word] for word in with_code if "code" not in word}, "sign-in")
        assert_all("in", {word: with_code[word] for word in with_code if "code" in word}, "sign-in")
        app = ["--profile", "django", "--url", f"main={db.url}"]
        findings = answer("apps", "check", *app)["data"]["findings"]
        assert not {finding["code"] for finding in findings} & {
            "owned-rows",
            "missing-column",
            "missing-table",
        }
        for name, (login, kinds) in LIBRARIES.items():
            state = answer("users", "show", login, *app)["data"]["second_factor"]
            assert (state["required"], {kind for kind, count in state["factors"].items() if count}) == (
                True,
                kinds,
            )
            data = answer("users", "reset-2fa", login, *app)["data"]
            assert {kind for kind, count in data["removed"].items() if count} == kinds, name
            assert data["ended_sessions"] >= 2
            assert answer("users", "show", login, *app)["data"]["tokens"]["valid"] == 0
        assert_all("in", visit("sign-in", "enrol"), "sign-in")
        again = visit("sign-in", "sign-in-code")
        assert {*again.values()} == {"code", "in"}
        answer("users", "delete", "ann", "bo", *app, "--yes")
        tables = [
            "otp_totp_totpdevice",
            "otp_static_staticdevice",
            "otp_static_statictoken",
            "mfa_authenticator",
        ]
        assert {count for table in tables for ((count,),) in [db.rows(f"select count(*) from {table}")]} == {
            0
        }
