"""Learn what an app writes: compare its database before and after an action, and extend the profile by rules with evidence."""
