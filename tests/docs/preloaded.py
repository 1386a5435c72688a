"""Import the modules of every command, for processes that are forked to run commands."""

from tests.crash import forge

forge.import_modules()
