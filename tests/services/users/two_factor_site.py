"""A site of Django with django-otp and django-allauth: ``python two_factor_site.py ADDRESS STEP…``; prints the results as JSON.

Each step calls the views and commands of these libraries, as a browser does: ``install``; ``enrol-otp:LOGIN``, ``enrol-allauth:LOGIN``;
``sign-in-otp:LOGIN``, ``sign-in-allauth:LOGIN``: by the password alone, ``in`` or ``code``, which the site asks for; ``…-code:LOGIN``: also
with the code.
"""

from __future__ import annotations

import json
import sys
from typing import Any
from urllib.parse import unquote, urlsplit

import django
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import include, path

PASSWORD = "A-long-word-9"
PARTS = ("auth", "contenttypes", "sessions", "messages")


def configure(address: str) -> None:
    """Set up Django on a file of SQLite, or on a database of PostgreSQL or MySQL."""
    database: dict[str, object] = {"ENGINE": "django.db.backends.sqlite3", "NAME": address}
    if "://" in address:
        url = urlsplit(address)
        if url.scheme == "mysql":
            import pymysql

            pymysql.version_info = (2, 2, 8, "final", 0)
            pymysql.install_as_MySQLdb()
        database = {"ENGINE": f"django.db.backends.{url.scheme}", "NAME": unquote(url.path[1:]), "USER": url.username,
            "PASSWORD": url.password or "", "HOST": url.hostname, "PORT": url.port or ""}  # fmt: skip
    middleware = (
        "contrib.sessions.middleware.Session",
        "contrib.auth.middleware.Authentication",
        "contrib.messages.middleware.Message",
    )
    settings.configure(
        SECRET_KEY="only-for-tests",
        ALLOWED_HOSTS=["testserver"],
        DATABASES={"default": database},
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
        INSTALLED_APPS=[
            *(f"django.contrib.{name}" for name in PARTS),
            *("django_otp", "django_otp.plugins.otp_totp", "django_otp.plugins.otp_static"),
            *("allauth", "allauth.account", "allauth.mfa"),
        ],
        MIDDLEWARE=[
            *(f"django.{name}Middleware" for name in middleware),
            "django_otp.middleware.OTPMiddleware",
            "allauth.account.middleware.AccountMiddleware",
        ],
        AUTHENTICATION_BACKENDS=["django.contrib.auth.backends.ModelBackend"],
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
            }
        ],
        ACCOUNT_EMAIL_VERIFICATION="none",
        MFA_ALLOW_UNVERIFIED_EMAIL=True,
        LOGIN_URL="/otp/",
        LOGIN_REDIRECT_URL="/inside/",
        CACHES={"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}},
        USE_TZ=True,
    )
    django.setup()


def define_urls() -> tuple[object, ...]:
    from django.contrib.auth.decorators import login_required
    from django.contrib.auth.views import LoginView
    from django_otp.decorators import otp_required
    from django_otp.views import LoginView as OtpLoginView

    def answer(_request: HttpRequest) -> HttpResponse:
        return HttpResponse("inside")

    return (
        path("login/", LoginView.as_view(template_name="account/login.html", next_page="/guarded/")),
        path("otp/", OtpLoginView.as_view(template_name="account/login.html")),
        path("guarded/", otp_required(answer, if_configured=True)),
        path("inside/", login_required(answer)),
        path("accounts/", include("allauth.urls")),
    )


def install() -> None:
    from django.contrib.auth.models import User
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    for name in ("ann", "bo", "cy"):
        User.objects.create_user(name, f"{name}@example.org", PASSWORD)


def sign_in_otp(login: str) -> tuple[str, Any]:
    from django.test import Client

    client = Client()
    client.post("/login/", {"username": login, "password": PASSWORD})
    response = client.get("/guarded/")
    return ("in" if response.status_code == 200 else "code", client)


def enrol_otp(login: str) -> str:
    """Register an authenticator and recovery codes."""
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from django_otp.plugins.otp_totp.models import TOTPDevice

    device = TOTPDevice.objects.create(user=User.objects.get(username=login), name="phone", confirmed=False)
    device.confirmed = device.verify_token(compute_code(device))
    device.save()
    for _ in range(2):
        call_command("addstatictoken", login, stdout=sys.stderr)
    return "enrolled" if device.confirmed else "refused"


def compute_code(device: Any) -> int:
    from django_otp.oath import totp

    return totp(device.bin_key)


def sign_in_otp_code(login: str) -> str:
    """Sign in with a recovery code, because a code of the authenticator is valid once."""
    from django_otp.plugins.otp_static.models import StaticToken

    state, client = sign_in_otp(login)
    token = StaticToken.objects.filter(device__user__username=login).first()
    if state == "code" and token:
        client.post("/otp/", {"otp_token": token.token, "otp_device": token.device.persistent_id})
    return "in" if client.get("/guarded/").status_code == 200 else "refused"


def sign_in_allauth(login: str) -> tuple[str, Any]:
    from django.test import Client

    client = Client()
    response = client.post("/accounts/login/", {"login": login, "password": PASSWORD})
    is_inside = client.get("/inside/").status_code == 200
    return (
        "in" if is_inside else "code" if "2fa" in response.headers.get("Location", "") else "refused",
        client,
    )


def enrol_allauth(login: str) -> str:
    """Register an authenticator; allauth also generates recovery codes."""
    from allauth.mfa.totp.internal.auth import (
        SECRET_SESSION_KEY,
        format_hotp_value,
        hotp_value,
        yield_hotp_counters_from_time,
    )

    _, client = sign_in_allauth(login)
    client.post("/accounts/reauthenticate/", {"password": PASSWORD})
    client.get("/accounts/2fa/totp/activate/")
    secret = client.session[SECRET_SESSION_KEY]
    code = format_hotp_value(hotp_value(secret, next(iter(yield_hotp_counters_from_time()))))
    response = client.post("/accounts/2fa/totp/activate/", {"code": code})
    return "enrolled" if response.status_code == 302 else "refused"


def sign_in_allauth_code(login: str) -> str:
    from allauth.mfa.models import Authenticator

    _, client = sign_in_allauth(login)
    stored = Authenticator.objects.get(user__username=login, type="recovery_codes")
    client.post("/accounts/2fa/authenticate/", {"code": stored.wrap().get_unused_codes()[0]})
    return "in" if client.get("/inside/").status_code == 200 else "refused"


STEPS = {
    "enrol-otp": enrol_otp,
    "sign-in-otp": lambda login: sign_in_otp(login)[0],
    "sign-in-otp-code": sign_in_otp_code,
    "enrol-allauth": enrol_allauth,
    "sign-in-allauth": lambda login: sign_in_allauth(login)[0],
    "sign-in-allauth-code": sign_in_allauth_code,
}


def main(address: str, steps: list[str]) -> None:
    configure(address)
    settings.ROOT_URLCONF = define_urls()
    results = []
    for step in steps:
        name, _, login = step.partition(":")
        results.append(install() if name == "install" else STEPS[name](login))
    print(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
