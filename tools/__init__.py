"""Scripts for developers of dbctl; they are not part of the wheel."""
