"""What every HTTP request needs: verified TLS, the proxy of the environment, no redirects, and reasons of failures."""

from __future__ import annotations

import http.client
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Sequence

from dbctl.url import Endpoint

REDIRECT_STATUSES = range(300, 400)
RETRY_HINT = "Try again later."


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Redirect handler that ignores redirects, so that secrets are sent only to the configured service."""

    def redirect_request(self, *_words: object) -> None:
        return None


def create_opener(endpoint: Endpoint) -> urllib.request.OpenerDirector:
    """Return an opener that uses the proxy of the environment, except for loopback addresses, and follows no redirect."""
    proxies = {} if endpoint.is_loopback else urllib.request.getproxies()
    # the load of the authorities of this machine takes longer than a request; a proxy may be reached by TLS, too
    needs_authorities = endpoint.secure or proxies
    context = ssl.create_default_context() if needs_authorities else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return urllib.request.build_opener(
        urllib.request.ProxyHandler(proxies), urllib.request.HTTPSHandler(context=context), _NoRedirect()
    )


#: Reasons and hints by exception; the first match is used. An empty hint means that of the caller, who names the keys.
_FAILURES: Sequence[tuple[type[BaseException], str, str]] = (
    (
        ssl.SSLCertVerificationError,
        "its certificate is not trusted",
        "Check {address}, or set SSL_CERT_FILE to a file with the authorities to trust instead of those of this machine.",
    ),
    (ssl.SSLError, "it does not support TLS", "Check {tls}."),
    (socket.gaierror, "its host name cannot be resolved", ""),
    (TimeoutError, "it did not respond in time", ""),
    (ConnectionRefusedError, "connection refused", ""),
    (http.client.RemoteDisconnected, "the connection was interrupted", RETRY_HINT),
    (http.client.IncompleteRead, "the connection was interrupted", RETRY_HINT),
    (http.client.HTTPException, "the server does not support HTTP", ""),
    (ConnectionError, "the connection was interrupted", RETRY_HINT),
)


def explain_error(
    error: Exception, network_hint: str, *, address: str = "url", tls: str = "url: http:// or https://"
) -> tuple[str, str]:
    """Return the reason of a failed request, without its address, and a hint.

    Args:
        error: an error of ``urllib``, ``http.client``, ``ssl`` or a socket.
        network_hint: the hint for failures of the network.
        address: the key of the configuration with the address of the server.
        tls: the key that selects TLS.
    """
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    for kind, reason, hint in _FAILURES:
        if isinstance(cause, kind):
            return reason, hint.format(address=address, tls=tls) or network_hint
    if str(cause).startswith("Tunnel connection failed"):
        return "the proxy refuses the connection", "Check HTTPS_PROXY and NO_PROXY."
    return (cause.strerror if isinstance(cause, OSError) else "") or "the network failed", network_hint
