"""What the distribution adds to dbctl."""

from dbctl.extensions.base import Extension

EXTENSION = Extension(
    name="toy",
    groups={"toy": "dbctl_toy.commands"},
    commands={"data toy": "dbctl_toy.data"},
)
