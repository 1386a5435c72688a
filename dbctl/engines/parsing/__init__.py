"""Parse SQL of any engine: tokens, statements, effects, lint, lineage."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.engines.parsing.effects import analyze_effect
    from dbctl.engines.parsing.lexer import Fragment, Token, TokenKind, split_parameters
    from dbctl.engines.parsing.lint import CodedMessage, Dialect, Linter
    from dbctl.engines.parsing.redact import redact_statement
    from dbctl.engines.parsing.scripts import ScriptSyntax, is_line_comment, read_comments, split_script
    from dbctl.engines.parsing.statements import Statement, Word, WordReader, find_default
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "effects": "analyze_effect",
            "lexer": "Fragment Token TokenKind split_parameters",
            "lint": "CodedMessage Dialect Linter",
            "redact": "redact_statement",
            "scripts": "ScriptSyntax is_line_comment read_comments split_script",
            "statements": "Statement Word WordReader find_default",
        },
    )
