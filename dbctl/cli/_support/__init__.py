"""What the command groups share: options, the opened app, output, confirmation."""
