"""Parse SQL of any engine: tokens, statements, effects, lint, lineage."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.engines.parsing.effects import analyze_effect
    from dbctl.engines.parsing.lexer import Fragment, Lexer, Token, TokenKind, TokenPattern, split_parameters
    from dbctl.engines.parsing.lint import CodedMessage, Linter, parse_rules
    from dbctl.engines.parsing.redact import redact_statement
    from dbctl.engines.parsing.scripts import SqlScripts
    from dbctl.engines.parsing.statements import (
        Statement,
        Word,
        WordReader,
        find_default,
        read_words,
        unquote_name,
    )
