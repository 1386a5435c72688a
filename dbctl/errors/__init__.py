"""Every expected failure of dbctl: code, exit code, sentence and hint."""
