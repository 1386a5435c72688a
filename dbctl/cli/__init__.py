"""What did the person type? One module per command group: parse, call one service, emit its result."""
