"""SQL text of any engine: tokens, statements, effects, lint, lineage."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.engines.parsing.effects import effect_of
    from dbctl.engines.parsing.lexer import Kind, Piece, Token, pieces
    from dbctl.engines.parsing.lint import Dialect, Judge, Told
    from dbctl.engines.parsing.redact import shown
    from dbctl.engines.parsing.scripts import Reading, is_line, remarked, taken_apart
    from dbctl.engines.parsing.statements import Statement, Word, Words, default_of
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "effects": "effect_of",
            "lexer": "Kind Piece Token pieces",
            "lint": "Dialect Judge Told",
            "redact": "shown",
            "scripts": "Reading is_line remarked taken_apart",
            "statements": "Statement Word Words default_of",
        },
    )
