"""Live values for the completion files of shells: ``dbctl __complete``, without the command tree."""
