"""Parse SQL of any engine: tokens, statements, effects, lint, lineage."""
