"""The rules of each action: from the rows that it changed to keys of the profile."""
