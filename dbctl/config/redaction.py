"""Remove secrets from addresses, arguments and messages before they are shown, logged, recorded or sent."""

import re

MASK = "***"
#: A value that names a variable is no secret.
_VARIABLE = r"(?!\$\{\w+\})"
#: The password of an address.
_PASSWORD = re.compile(rf"(://[^:@/?#]*:){_VARIABLE}.*(?=@)")
#: The parameter of an address, the option or header of a program, or the key of an object, with its value.
_ASSIGNED = re.compile(
    r"(?i)(?<![\w.-])((?:[\w.-]*(?:passw|passphrase|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key"
    r"|credential|signature|authorization|cookie|bearer)[\w.-]*|(?:--?)?(?:key|sig|auth|pass))"
    rf"[\"']?\s*[=:]\s*[\"']?){_VARIABLE}(?!//|\s*$)[^&#\"']+"
)
#: A header or an option of a program, after which its value is the next argument.
_OPTION = re.compile(r"(?i)--?[\w-]*(?:password|passwd|passphrase|pwd|secret|token|key|auth|credentials?)")
_LOGIN = re.compile(rf"(?<=:){_VARIABLE}.+")
_LOGIN_OPTIONS = frozenset({"-u", "--user", "--proxy-user"})
_SCHEME = re.compile(rf"(?i)\b((?:bearer|basic)\s+){_VARIABLE}\S+")
_SECRETS = (_PASSWORD, _ASSIGNED, _SCHEME)
#: An address in a sentence.
_ADDRESS = re.compile(r"[A-Za-z][\w+.-]*://\S+")


def redact_text(text: str) -> str:
    """Return an address or an argument with passwords, tokens and the values of secret parameters as ``***``."""
    for pattern in _SECRETS:
        text = pattern.sub(rf"\1{MASK}", text)
    return text


def list_secrets(text: str) -> list[str]:
    """Return what ``redact_text`` replaces."""
    secrets = list[str]()
    for pattern in _SECRETS:
        secrets += [match[0][len(match[1]) :] for match in pattern.finditer(text)]
        text = pattern.sub(rf"\1{MASK}", text)
    return [secret for secret in secrets if secret != MASK]


def redact_message(text: str) -> str:
    """Return a sentence with its addresses as ``redact_text`` returns them."""
    return _ADDRESS.sub(lambda match: redact_text(match[0]), text)


def redact_channel(value: object) -> object:
    """Return a value of ``[notify]`` with only scheme and host of addresses, whose other parts may be secret."""
    if isinstance(value, list):
        return [redact_channel(item) for item in value]
    if not isinstance(value, str) or "://" not in value:
        return value
    scheme, _, rest = value.partition("://")
    host = re.match(r"[^/?#@]*(?=[/?#]|$)", rest) if scheme in ("http", "https") else None
    return f"{scheme}://{host[0]}/{MASK}" if host else f"{scheme}://{MASK}"


def redact_value(value: object) -> object:
    """Return a value of the configuration without secrets; a list is a list of addresses, or the words of a program."""
    if isinstance(value, str):
        return redact_text(value)
    if not isinstance(value, list):
        return value
    shown = list[object]()
    for before, item in zip(["", *value], value, strict=False):
        is_text = isinstance(before, str) and isinstance(item, str)
        if is_text and _OPTION.fullmatch(before):
            shown.append(item if re.fullmatch(r"\$\{\w+\}", item) else MASK)
        elif is_text and before in _LOGIN_OPTIONS:
            shown.append(_LOGIN.sub(MASK, item))
        else:
            shown.append(redact_value(item))
    return shown
