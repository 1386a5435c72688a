"""Create the library's client for a bucket of each provider; describe failed requests.

Messages of the server or the library are not repeated, because they may contain keys.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from obstore.store import AzureStore, GCSStore, S3Store

from dbctl.config import s3
from dbctl.config.storage import Address, resolve_settings
from dbctl.model import Struct

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig, S3Config, S3Credential

#: Words of each provider that descriptions and hints contain.
_WORDS: Mapping[str, Mapping[str, str]] = {
    "s3": {
        "provider": "S3",
        "container": "bucket",
        "endpoint": "AWS_ENDPOINT_URL",
        "keys": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile",
        "token": "AWS_SESSION_TOKEN",
        "permissions": "ListBucket on the bucket, and GetObject, PutObject, DeleteObject and AbortMultipartUpload below the prefix",
        "missing_object": "NoSuchKey",
    },
    "az": {
        "provider": "Azure Blob Storage",
        "container": "container",
        "endpoint": "AZURE_STORAGE_ENDPOINT",
        "keys": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or the other keys of the account",
        "token": "AZURE_STORAGE_SAS_TOKEN",
        "permissions": "the role Storage Blob Data Contributor on the container, or a token with the permissions racwdl",
        "missing_object": "BlobNotFound",
    },
    "gs": {
        "provider": "Google Cloud Storage",
        "container": "bucket",
        "endpoint": "GOOGLE_BASE_URL",
        "keys": "GOOGLE_APPLICATION_CREDENTIALS, or the other keys",
        "token": "GOOGLE_BEARER_TOKEN",
        "permissions": "the role Storage Object User on the bucket",
        "missing_object": "NoSuchKey",
    },
}
_CHECK_KEY = "Check {keys}."
_TRY_LATER = "Try again later."
_CHECK_ENDPOINT = "Check {endpoint}, and the network."
_CHECK_PROVIDER = "Check that {endpoint} is an endpoint of {provider}."
_CHECK_CONTAINER = (
    "{container} not found: {bucket!r}",
    "Check the address, or create the {container}; dbctl does not create it.",
)
_LACKS_PERMISSION = ("the key lacks a permission", "It needs {permissions}.")
_RETAINED = ("an object is under retention", "Try again after its retention has ended.")
#: The server is not storage of this provider.
_FOREIGN = ("the server does not respond like {provider}", _CHECK_PROVIDER)
#: Error codes of servers, with the description and the hint.
CODES: Mapping[str, tuple[str, str]] = {
    "AccessDenied": _LACKS_PERMISSION,
    "AccountIsDisabled": ("the account is disabled", _CHECK_KEY),
    "AuthenticationFailed": ("the server does not accept the key, or the clock is wrong", _CHECK_KEY),
    "AuthorizationFailure": _LACKS_PERMISSION,
    "AuthorizationHeaderMalformed": ("the bucket is in another region", "Set AWS_REGION."),
    "AuthorizationPermissionMismatch": _LACKS_PERMISSION,
    "BlobArchived": ("an object is archived", "Restore it from the archive first."),
    "BlobImmutableDueToPolicy": _RETAINED,
    "ContainerNotFound": _CHECK_CONTAINER,
    "ExpiredToken": ("the session token has expired", "Sign in again, or renew {token}."),
    "InsufficientAccountPermissions": _LACKS_PERMISSION,
    "InvalidAccessKeyId": ("the server does not recognise the access key", _CHECK_KEY),
    "InvalidBucketName": ("the server does not accept this bucket name", "Check the address."),
    "InvalidObjectState": ("an object is archived", "Restore it from the archive first."),
    "InvalidResourceName": ("the server does not accept this container name", "Check the address."),
    "InvalidToken": ("the session token is not valid", "Sign in again, or renew {token}."),
    "NoSuchBucket": _CHECK_CONTAINER,
    "ObjectUnderActiveHold": ("an object is under a hold", "Release the hold first."),
    "PermanentRedirect": ("the bucket is in another region", "Set AWS_REGION."),
    "QuotaExceeded": ("the storage is full", "Prune backups, or increase the quota."),
    "RequestTimeTooSkewed": ("the clock of this machine is wrong", "Set the clock."),
    "RetentionPolicyNotMet": _RETAINED,
    "SignatureDoesNotMatch": ("the secret key does not belong to the access key", _CHECK_KEY),
    "XMinioStorageFull": ("the storage is full", "Prune backups, or add capacity."),
}
#: Texts of servers in responses without an error code, as those to a batch of deletions.
TEXTS: Mapping[str, tuple[str, str]] = {"immutable due to a policy": _RETAINED}
#: The text of the library for a timeout.
TIMED_OUT = "TimedOut"
#: Errors without a response: texts of the library, with the description and the hint.
CONNECTION_ERRORS: Mapping[str, tuple[str, str]] = {
    "dns error": ("its host name cannot be resolved", _CHECK_ENDPOINT),
    "ConnectionRefused": ("its endpoint refuses connections", _CHECK_ENDPOINT),
    "certificate": (
        "the certificate of its host is not trusted",
        "Check {endpoint}, and the issuer of the certificate.",
    ),
    "InvalidContentType": ("its endpoint does not support TLS", "Check {endpoint}: http:// or https://."),
    "UnknownIssuer": ("the certificate of its host is not trusted", "Check the issuer of the certificate."),
    "HandshakeFailure": ("its endpoint does not support a current version of TLS", _CHECK_ENDPOINT),
    "path segment": (
        "the key of an object is not a valid file name (// or ..)",
        "Delete the object, or store backups below another prefix.",
    ),
    "extract metadata": _FOREIGN,
    "InvalidListResponse": _FOREIGN,
    "NotPartial": ("the server does not support range requests", _CHECK_PROVIDER),
    "redirect": ("the bucket is in another region", "Set AWS_REGION, or the endpoint of that region."),
    "Parse(": ("the server at its endpoint does not support HTTP", _CHECK_ENDPOINT),
    TIMED_OUT: ("it did not respond in time", _CHECK_ENDPOINT),
}
#: HTTP statuses: the first of server errors; and the one for a range of an empty object.
SERVER_FAULT, EMPTY = 500, 416
#: Attempts of one request, and the pause before the second one.
MAX_ATTEMPTS, RETRY_PAUSE = 5, timedelta(milliseconds=100)
#: The most parts of an upload, and of providers with fewer ones, by the ends of their hosts.
MAX_PARTS, FEWER_PARTS = 10_000, {".scw.cloud": 1_000}
#: The longest time of a whole request.
REQUEST_TIMEOUT = timedelta(seconds=300)


class RequestFailure(Struct, frozen=True, kw_only=True):
    """The reason of a failed request."""

    reason: str
    hint: str  #: a hint for the user
    status: int = 0  #: HTTP status; 0 without a response
    cut: bool = False  #: whether the connection was interrupted
    silent: bool = False  #: whether no response came in time


def explain_foreign(address: Address) -> RequestFailure:
    """Return the reason for responses that are not those of the provider."""
    return _create_failure(address, *_FOREIGN)


def is_missing_object(text: str, address: Address) -> bool:
    """Whether the library's message for the status 404 means a missing object, and no missing bucket or foreign server."""
    return (
        "status code: 404" not in text or f"<Code>{_WORDS[address.scheme]['missing_object']}</Code>" in text
    )


def explain_failure(text: str, address: Address) -> RequestFailure:
    """Return the reason of a failed request from the library's message."""
    code_match = re.search(r"<Code>(\w{1,60})</Code>", text)
    status_match = re.search(r"(?:status |\()code: (\d{3})\b", text)
    status = int(status_match[1]) if status_match else 0
    if code_match and code_match[1] in CODES:
        return _create_failure(address, *CODES[code_match[1]], status=status)
    for text_mark, (reason, hint) in TEXTS.items():
        if text_mark in text:
            return _create_failure(address, reason, hint, status=status)
    if status:
        description = f"{status} ({code_match[1]})" if code_match else f"{status}"
        if status >= SERVER_FAULT:
            reason, hint = f"it responds with {description}, also to repeated requests", _TRY_LATER
        elif status in {401, 403}:
            reason, hint = f"it rejects the key ({description})", _CHECK_KEY
        else:
            reason, hint = f"it responds with {description}", _CHECK_PROVIDER
        return _create_failure(address, reason, hint, status=status)
    for text_mark, (reason, hint) in CONNECTION_ERRORS.items():
        if text_mark in text:
            return _create_failure(address, reason, hint, silent=text_mark == TIMED_OUT)
    return _create_failure(address, "the connection was interrupted", _TRY_LATER, cut=True)


def _create_failure(
    address: Address, reason: str, hint: str, *, status: int = 0, cut: bool = False, silent: bool = False
) -> RequestFailure:
    words = {**_WORDS[address.scheme], "bucket": address.bucket}
    return RequestFailure(
        reason=reason.format_map(words), hint=hint.format_map(words), status=status, cut=cut, silent=silent
    )


class Timeouts(Struct, frozen=True, kw_only=True):
    """Time limits of a client."""

    connect: timedelta
    read: timedelta  #: without a received byte
    retry: timedelta  #: after which no further attempt starts


#: Creates a client with these limits.
Connect = Callable[[Timeouts], "ObjectStore"]


def prepare_connection(address: Address) -> Connect:
    """Return the function that creates clients for a bucket; nothing is accessed yet.

    Raises:
        StorageKeysMissingError: no keys are configured.
        StorageSettingInvalidError: a setting is invalid.
    """
    return _PROVIDERS[address.scheme](address)


def count_parts(address: Address) -> int:
    """Return the most parts that an upload to a bucket may have."""
    endpoint = s3.resolve_access(address).endpoint if address.scheme == "s3" else ""
    host = urlsplit(endpoint).hostname or ""
    return next((count for end, count in FEWER_PARTS.items() if host.endswith(end)), MAX_PARTS)


def _prepare_s3(address: Address) -> Connect:
    access = s3.resolve_access(address)
    # Only AWS has a separate host for each bucket, and there no certificate covers a name with dots.
    hosted = not access.endpoint and "." not in address.bucket
    endpoint = access.endpoint or _aws_endpoint(access.region, address.bucket if hosted else "")
    settings: S3Config = {
        "region": access.region,
        # Otherwise the environment variables of these names would override a profile.
        "endpoint": endpoint,
        "aws_endpoint_url_s3": endpoint,
        "virtual_hosted_style_request": hosted,
        "skip_signature": False,
        "unsigned_payload": False,
        "disable_bulk_delete": True,  # many servers do not support it, and a folder has few files
    }
    keys, credentials = access.keys, {}
    if keys is not None:
        credential: S3Credential = {
            "access_key_id": keys.key,
            "secret_access_key": keys.secret.reveal(),
            "token": keys.token.reveal() if keys.token else None,
            "expires_at": None,
        }
        credentials["credential_provider"] = lambda: credential

    def connect(timeouts: Timeouts) -> S3Store:
        options = _client_options(endpoint, timeouts)
        if access.authorities:
            options["root_certificate"] = access.authorities
        return S3Store(
            address.bucket,
            config=settings,
            client_options=options,
            retry_config=_retry_options(timeouts),
            **credentials,  # type: ignore[arg-type]
        )

    return connect


def _prepare_from_settings(library: type[AzureStore | GCSStore]) -> Callable[[Address], Connect]:
    """Return the function for a provider whose settings are environment variables."""

    def prepare(address: Address) -> Connect:
        settings = resolve_settings(address)

        def connect(timeouts: Timeouts) -> AzureStore | GCSStore:
            config: Mapping[str, Any] = {name: value.reveal() for name, value in settings.values.items()}
            return library(
                address.bucket,
                config=config,  # type: ignore[arg-type]
                client_options=_client_options(settings.endpoint, timeouts),
                retry_config=_retry_options(timeouts),
            )

        return connect

    return prepare


_PROVIDERS: Mapping[str, Callable[[Address], Connect]] = {
    "s3": _prepare_s3,
    "az": _prepare_from_settings(AzureStore),
    "gs": _prepare_from_settings(GCSStore),
}


def _client_options(endpoint: str, timeouts: Timeouts) -> ClientConfig:
    return {
        "allow_http": endpoint.startswith("http://"),
        "connect_timeout": timeouts.connect,
        "read_timeout": timeouts.read,
        "timeout": REQUEST_TIMEOUT,
    }


def _retry_options(timeouts: Timeouts) -> RetryConfig:
    return {
        "max_retries": MAX_ATTEMPTS - 1,
        "retry_timeout": timeouts.retry,
        "backoff": {"init_backoff": RETRY_PAUSE, "max_backoff": timedelta(seconds=10), "base": 2},
    }


def _aws_endpoint(region: str, bucket: str) -> str:
    """Return the endpoint of AWS for a region, or for one bucket in it."""
    china = ".cn" if region.startswith("cn-") else ""
    return f"https://{bucket and f'{bucket}.'}s3.{region}.amazonaws.com{china}"
