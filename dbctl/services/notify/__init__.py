"""Notifications: pings, push messages, requests and e-mail about failed, overdue and recovered jobs."""
