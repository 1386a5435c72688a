"""Commands on all instances of a fleet."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.cli._support.fleet.command import run_on_fleet
