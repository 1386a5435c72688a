"""What the distribution adds to dbctl."""

from dbctl.extensions.base import Extension, SectionEntry
from dbctl.url import EngineEntry

EXTENSION = Extension(
    name="toy",
    groups={"toy": "dbctl_toy.commands"},
    commands={"data toy": "dbctl_toy.data"},
    checks={"doctor": ["dbctl_toy.checks:check_size"], "profile": ["dbctl_toy.checks:check_size"]},
    profiles="dbctl_toy.profiles",
    engines={"toy": EngineEntry(place="dbctl_toy.engine:ENGINE", kind="file")},
    app_sections={
        "toy": SectionEntry(kind="dbctl_toy.section:Toy", meaning="the text of a command", after="search")
    },
    channels={
        "toyfile": SectionEntry(kind="dbctl_toy.channel:ToyFile", meaning="a file of titles", after="apprise")
    },
    profile_sections={
        "toy": SectionEntry(kind="dbctl_toy.section:ToySection", meaning="a table of goods", after="search")
    },
)
