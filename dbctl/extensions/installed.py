"""Whether other distributions extend dbctl; it imports nothing, because ``dbctl --help`` asks it."""

import os
import sys


def has_third_parties() -> bool:
    """Whether a distribution is installed whose name begins with ``dbctl-``, as that of every extension of dbctl must.

    A listing of the folders of the interpreter takes a millisecond; reading the entry points of all distributions takes fifty.
    """
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")  # noqa: PTH208 - pathlib is slow to import
        except OSError:
            continue  # as the interpreter does
        if any(name.startswith("dbctl_") and name.endswith((".dist-info", ".egg-info")) for name in names):
            return True
    return False
