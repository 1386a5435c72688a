"""The section of the extension in ``dbctl.toml``."""

import msgspec


class Toy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[apps.NAME.toy]``."""

    greeting: str = "from another distribution"
