"""``dbctl init`` and ``dbctl config``: create a configuration for an app, and explain its keys."""
