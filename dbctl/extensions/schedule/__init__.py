"""Scheduled jobs: crontab lines, units of systemd, manifests for containers, and their status."""
