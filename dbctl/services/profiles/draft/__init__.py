"""Draft a profile from the live schema and a bounded sample of the rows of a database."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.services.profiles.draft.draft import ProfileDraft, draft_profile, write_draft
