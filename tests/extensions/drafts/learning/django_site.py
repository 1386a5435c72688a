"""A site of Django with the standard user model: ``python django_site.py ADDRESS COMMAND [LOGIN]``, on SQLite or PostgreSQL.

Each command submits a form of Django's admin site, as an admin does in a browser. It reads the login, the e-mail address and
the password of ``dbctl profiles learn`` from the environment. ``sign-in`` signs in as the user LOGIN, with this password.
"""

from __future__ import annotations

import os
import sys
from urllib.parse import parse_qs, urlsplit

import django
from django.conf import settings
from django.contrib import admin
from django.core.management import call_command
from django.urls import path

PASSWORD = "A-long-word-9"
PARTS = ("auth", "contenttypes", "sessions", "messages", "admin")


def configure(address: str) -> None:
    """Set up Django on a file of SQLite, or on a schema of PostgreSQL (``?options=-csearch_path=NAME``)."""
    database: dict[str, object] = {"ENGINE": "django.db.backends.sqlite3", "NAME": address}
    if address.startswith("postgresql:"):
        url = urlsplit(address)
        options = {name: values[0] for name, values in parse_qs(url.query).items()}
        database = {"ENGINE": "django.db.backends.postgresql", "NAME": url.path[1:], "USER": url.username,
            "HOST": url.hostname, "PORT": url.port or "", "OPTIONS": options}  # fmt: skip
    processors = ("auth.context_processors.auth", "messages.context_processors.messages")
    settings.configure(
        SECRET_KEY="only-for-tests",
        ALLOWED_HOSTS=["testserver"],
        DATABASES={"default": database},
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
        INSTALLED_APPS=[f"django.contrib.{name}" for name in PARTS],
        MIDDLEWARE=[
            f"django.contrib.{name}Middleware"
            for name in (
                "sessions.middleware.Session",
                "auth.middleware.Authentication",
                "messages.middleware.Message",
            )
        ],
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {
                    "context_processors": [
                        "django.template.context_processors.request",
                        *(f"django.contrib.{name}" for name in processors),
                    ]
                },
            }
        ],
        USE_TZ=True,
    )
    django.setup()
    settings.ROOT_URLCONF = (path("admin/", admin.site.urls),)


def install() -> None:
    """Create the tables, an admin, and users with groups and sessions."""
    from django.contrib.auth.models import Group, User
    from django.test import Client

    call_command("migrate", verbosity=0)
    group = Group.objects.create(name="editors")
    User.objects.create_superuser("root", "root@example.org", PASSWORD)
    assert Client().login(username="root", password=PASSWORD)
    for name in ("bo", "cy", "di", "ed"):
        user = User.objects.create_user(name, f"{name}@example.org", PASSWORD)
        user.groups.add(group)
        assert Client().login(username=name, password=PASSWORD)


def sign_in(login: str) -> None:
    """Sign in by the form of the admin site, as a user of it, and open a page."""
    from django.test import Client

    client = Client()
    fields = {"username": login, "password": os.environ["DBCTL_PASSWORD"], "next": "/admin/"}
    assert client.post("/admin/login/", fields).status_code == 302
    assert login in client.get("/admin/auth/user/").content.decode()


def submit(command: str, login: str) -> None:
    """Submit the form of a command as the admin ``root``."""
    from django.contrib.auth.models import User
    from django.test import Client
    from django.test.utils import setup_test_environment

    setup_test_environment()  # responses have the forms that they show
    client = Client()
    if command == "delete":  # the session of the admin has expired
        client.force_login(User.objects.get(username="root"))
    else:
        client.cookies["sessionid"] = find_session()
    if command == "add":
        login = os.environ["DBCTL_LOGIN"]
        post(
            client,
            "/admin/auth/user/add/",
            {"username": login, "usable_password": "true", **read_passwords()},
        )
    place = f"/admin/auth/user/{User.objects.get(username=login).pk}"
    if command == "set-password":
        post(client, f"{place}/password/", {"usable_password": "true", **read_passwords()})
    elif command == "delete":
        post(client, f"{place}/delete/", {"post": "yes"})
    else:
        changes = {
            "add": {"email": os.environ.get("DBCTL_EMAIL")},  # the form after that of a new user
            "deactivate": {"is_active": False},
            "activate": {"is_active": True},
            "set-role": {"is_staff": True, "is_superuser": True},
        }
        form = read_form(client.get(f"{place}/change/").context["adminform"].form)
        post(client, f"{place}/change/", form | changes[command])


def read_passwords() -> dict[str, str]:
    return dict.fromkeys(("password1", "password2"), os.environ["DBCTL_PASSWORD"])


def post(client, place: str, fields: dict[str, object]) -> None:
    """Submit a form, in which an unchecked box is absent."""
    sent = {name: value for name, value in fields.items() if value not in (False, None)}
    response = client.post(place, sent)
    assert response.status_code == 302, response.context["errors"]


def find_session() -> str:
    """Return the key of the session of ``root``, the first one."""
    from django.contrib.sessions.models import Session

    return next(
        each.session_key for each in Session.objects.all() if each.get_decoded()["_auth_user_id"] == "1"
    )


def read_form(form) -> dict[str, object]:
    """Return the values of a form of the admin site as a browser submits them."""
    fields: dict[str, object] = {}
    for bound in form:
        value = bound.value()
        if hasattr(value, "strftime"):
            fields |= {
                f"{bound.name}_0": value.strftime("%Y-%m-%d"),
                f"{bound.name}_1": value.strftime("%H:%M:%S"),
            }
        else:
            fields[bound.name] = (
                [getattr(each, "pk", each) for each in value] if isinstance(value, list) else value
            )
    return fields


def main(address: str, command: str, login: str = "") -> None:
    configure(address)
    if command == "install":
        install()
    elif command == "sign-in":
        sign_in(login)
    else:
        submit(command, login)


if __name__ == "__main__":
    main(*sys.argv[1:])
