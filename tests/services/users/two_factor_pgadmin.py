"""pgAdmin 4 in server mode: ``python two_factor_pgadmin.py FOLDER ADDRESS``; answers each line of its input with a line.

Each line is a step, which calls the views of pgAdmin as a browser does: ``create``: the user; ``enrol``: register an authenticator;
``sign-in``, ``sign-in-code``, ``sign-in-wrong-code``: ``in``, or ``code``, which pgAdmin asks for; ``session``: whether the last session
with a code is still ``in``.
"""

from __future__ import annotations

import builtins
import os
import sys
from pathlib import Path
from typing import Any

LOGIN, PASSWORD = "ann@example.org", "A-long-word-9"
INSIDE, METHOD = "/browser/", "authenticator"


def create_app(folder: Path, address: str) -> Any:
    """Create the app, and its tables in an empty database, with another user."""
    import pgadmin4

    sys.path.insert(0, pgadmin4.__path__[0])
    builtins.SERVER_MODE = True  # type: ignore[attr-defined]
    import config

    config.SQLITE_PATH = address
    if "://" in address:
        config.SQLITE_PATH, config.CONFIG_DATABASE_URI = str(folder / "none.db"), address
    for name in ("DATA_DIR", "SESSION_DB_PATH", "STORAGE_DIR", "AZURE_CREDENTIAL_CACHE_DIR", "KERBEROS_CCACHE_DIR"):  # fmt: skip
        setattr(config, name, str(folder / name))
        (folder / name).mkdir()
    config.LOG_FILE = str(folder / "log")
    config.UPGRADE_CHECK_ENABLED = config.MASTER_PASSWORD_REQUIRED = config.WTF_CSRF_ENABLED = False
    os.environ |= {"PGADMIN_SETUP_EMAIL": "root@example.org", "PGADMIN_SETUP_PASSWORD": PASSWORD}
    from pgadmin import create_app

    return create_app()


class Browser:
    """A user who signs in, in a new session each time."""

    def __init__(self, app: Any) -> None:
        self._app, self._secret, self._session = app, "", None

    def create(self) -> str:
        from pgadmin.tools.user_management import create_user

        form = {"email": LOGIN, "role": "2", "active": True, "auth_source": "internal"}
        with self._app.test_request_context():
            created, reason = create_user(form | {"newPassword": PASSWORD, "confirmPassword": PASSWORD})
        return "created" if created else str(reason)

    def enrol(self) -> str:
        _, client = self._open("")
        client.post("/mfa/register", data={METHOD: "SETUP", "next": "internal"})
        with client.session_transaction() as session:
            self._secret = session["mfa_authenticator_opt"]
        form = {METHOD: "SETUP", "VALIDATE": "1", "code": self._compute_code(), "next": "internal"}
        client.post("/mfa/register", data=form)
        return "enrolled" if self.sign_in() == "code" else "refused"

    def sign_in(self) -> str:
        return self._open("")[0]

    def sign_in_code(self) -> str:
        state, self._session = self._open(self._compute_code())
        return state

    def sign_in_wrong_code(self) -> str:
        return self._open("12345")[0]

    def session(self) -> str:
        return self._read_state(self._session)

    def _compute_code(self) -> str:
        import pyotp

        return pyotp.TOTP(self._secret).now()

    def _open(self, code: str) -> tuple[str, Any]:
        """Sign in with a password, and a code unless it is empty; return the state and the client."""
        client = self._app.test_client()
        form = {"email": LOGIN, "password": PASSWORD, "internal_button": "Login"}
        client.post("/authenticate/login", data=form)
        if code:
            client.post("/mfa/validate", data={"mfa_method": METHOD, "code": code, "next": INSIDE})
        return self._read_state(client), client

    def _read_state(self, client: Any) -> str:
        response = client.get(INSIDE)
        asks = "/mfa/validate" in response.headers.get("Location", "")
        return "in" if response.status_code == 200 else "code" if asks else "refused"


def main(folder: str, address: str) -> None:
    output, sys.stdout = sys.stdout, sys.stderr
    browser = Browser(create_app(Path(folder), address))
    for line in sys.stdin:
        print(getattr(browser, line.strip().replace("-", "_"))(), file=output, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
