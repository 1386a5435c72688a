"""The record of applied migrations, the journal of steps, and the state of each migration."""
