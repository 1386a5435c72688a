"""The command line: one module per command group, which parses, calls one service, and emits its result."""
