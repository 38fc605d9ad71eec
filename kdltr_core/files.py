"""Files that are there whole or not at all."""

from __future__ import annotations


class NotWritten(OSError):
    """A checkpoint or a student could not be written; what was there before is untouched."""
