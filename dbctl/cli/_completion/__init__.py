"""Live values for the completion files of shells: ``dbctl __complete``, without the command tree."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.cli._completion.bash import decode_word, quote_rest
    from dbctl.cli._completion.command import complete
