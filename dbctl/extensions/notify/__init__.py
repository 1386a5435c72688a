"""Notifications: what each channel receives about runs, findings and overdue work, and the channels."""
