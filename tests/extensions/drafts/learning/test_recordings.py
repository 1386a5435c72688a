"""Recordings and the profile next to other processes: nothing of them is replaced, deleted or counted."""

from __future__ import annotations

import pytest

from dbctl.extensions.drafts.learning.errors import ProfileChangedError
from dbctl.extensions.drafts.learning.profile_file import replace_profile
from dbctl.extensions.drafts.learning.recordings import create_folder, list_recordings


@pytest.mark.parametrize("original", ["title = 'old'", None])
def test_profile_of_another_process_is_not_replaced(tmp_path, original):
    profile = tmp_path / "app.toml"
    profile.write_text("title = 'edited'")
    with pytest.raises(ProfileChangedError):
        replace_profile(profile, original, "title = 'proven'")
    assert profile.read_text() == "title = 'edited'"


def test_folder_of_a_killed_process_is_no_recording(tmp_path):
    profile = tmp_path / "app.toml"
    first = create_folder(profile, "create-user")
    (first / "main.zst").write_bytes(b"part")
    assert list_recordings(profile) == []
    assert create_folder(profile, "create-user").name == "02-create-user"
    assert (first / "main.zst").read_bytes() == b"part"
