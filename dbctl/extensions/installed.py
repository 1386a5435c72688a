"""Which extensions are installed; it imports nothing, because ``dbctl --help`` asks it."""

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


def is_complete() -> bool:
    """Whether the packages of all extensions of dbctl itself are installed, which the generated ``names.txt`` lists."""
    folder = os.path.dirname(__file__)  # noqa: PTH120 - pathlib is slow to import
    with open(os.path.join(folder, "names.txt"), encoding="utf-8") as file:  # noqa: PTH118, PTH123
        names = file.read().split()
    return set(names) <= set(os.listdir(folder))  # noqa: PTH208
