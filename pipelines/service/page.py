"""The page of a reading service: one document that asks nothing of any other place."""

from __future__ import annotations

import base64
import hashlib
import json
from importlib.resources import files

from pipelines.service.limits import ServiceLimits


class Page:
    """The document and the headers it is sent with: its own script and style run, and no others.

    Attributes:
        html: with style, script and the limits of the service put in.
    """

    def __init__(self, limits: ServiceLimits) -> None:
        style, script = _asset("service_page.css"), _asset("service_page.js")
        given = {"images": limits.images_per_request, "bytes": limits.body_bytes}
        html = _asset("service_page.html").replace("LIMITS", json.dumps(given).replace('"', "&quot;"))
        self.html = html.replace("/* STYLE */", style).replace("/* SCRIPT */", script)
        policy = {
            "default-src": "'none'",
            "style-src": _hash(style),
            "script-src": _hash(script),
            "img-src": "data: blob:",
            "connect-src": "'self'",
            "base-uri": "'none'",
            "form-action": "'none'",
            "frame-ancestors": "'none'",
        }
        self.headers = {
            "content-security-policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cache-control": "no-cache",
        }


def _asset(name: str) -> str:
    return files("pipelines.service").joinpath("assets", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
