"""Names of places: a path of this machine, or a URI such as ``s3://bucket/sets/IC13``."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit


def is_uri(text: str) -> bool:
    """Whether a data root or a file is named by a URI (``s3://…``, ``gs://…``, ``file:///…``) rather than by a path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text) is not None


def local_path(uri: str) -> Path | None:
    """The path that a ``file://`` URI names; None for any other URI."""
    parts = urlsplit(uri)
    return Path(unquote(parts.path)) if parts.scheme == "file" and parts.netloc in ("", "localhost") else None


def under(uri: str, *names: str) -> str:
    """The URI of what lies under a place; the query stays behind: ``s3://bucket/runs/first?region=eu-west-1``."""
    parts = urlsplit(uri)
    return parts._replace(path="/".join((parts.path.rstrip("/"), *(quote(name) for name in names)))).geturl()
