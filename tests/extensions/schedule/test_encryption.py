"""Jobs of an app whose backups are encrypted."""

from __future__ import annotations

from dbctl.config.sections import Selection
from dbctl.extensions.schedule import jobs
from tests.services.backup.test_encryption import deployed, encrypt_backups, encrypted_app

__all__ = ["deployed", "encrypted_app"]


def test_crontab_contains_drills_only_with_available_key(encrypted_app):
    selections = [Selection(config=str(encrypted_app.with_name("dbctl.toml")))]
    assert "drill" in [job.name for job in jobs.list_jobs(selections)]
    encrypt_backups(encrypted_app, with_identity=False)
    assert "drill" not in [job.name for job in jobs.list_jobs(selections)]
    assert "backup" in [job.name for job in jobs.list_jobs(selections)]
