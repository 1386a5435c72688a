"""Every purpose of a writer declares the facts of a profile by which it writes."""

from dbctl.services.app import write_paths


def test_every_purpose_declares_its_facts():
    assert write_paths.FACTS_BY_PURPOSE.keys() == write_paths.PATHS.keys()
    declared = {fact for facts in write_paths.FACTS_BY_PURPOSE.values() for fact in facts}
    assert declared <= set(write_paths.FACTS)
