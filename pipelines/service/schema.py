"""The API of a reading service as an OpenAPI document."""

from __future__ import annotations

from typing import Any

from pipelines.service.limits import ServiceLimits

_ERRORS = {
    400: "the body is not what its content type says",
    408: "the request was not sent in time",
    413: "too many bytes or images",
    415: "another content type",
    422: "no image of the request can be read; images says why of each",
    503: "busy, too slow, or no replica there; ask again after Retry-After seconds",
}
_SHARE = {"type": "number", "minimum": 0, "maximum": 1}
_WORD = {
    "type": "object",
    "description": "What was read of one image; error alone if it cannot be read.",
    "properties": {
        "name": {"type": "string", "description": "of the file, in multipart/form-data"},
        "text": {"type": "string"},
        "confidence": {**_SHARE, "description": "probability of the whole reading"},
        "character_confidences": {"type": "array", "items": _SHARE, "description": "one for each character of text"},
        "seen": {"type": "string", "contentEncoding": "base64", "contentMediaType": "image/png"},
        "error": {"type": "string"},
    },
}


def describe_api(limits: ServiceLimits, has_token: bool) -> dict[str, Any]:
    """OpenAPI 3.1, as JSON values."""
    most = limits.images_per_request
    file = {"type": "string", "contentMediaType": "application/octet-stream"}
    texts = {"type": "array", "maxItems": most, "items": {"type": "string", "contentEncoding": "base64"}}
    bodies = {
        "image/*": {},
        "multipart/form-data": {
            "schema": {"type": "object", "properties": {"images": {"type": "array", "maxItems": most, "items": file}}}
        },
        "application/json": {"schema": {"type": "object", "required": ["images"], "properties": {"images": texts}}},
    }
    errors = _ERRORS | ({401: "the token is missing or another"} if has_token else {})
    seen = {"name": "seen", "in": "query", "schema": {"enum": ["png"]}, "description": "png: also what the model saw"}
    read = {
        "summary": "Read the word in each image",
        "description": f"At most {most} images and {limits.body_megabytes:g} MB in a request.",
        "parameters": [seen],
        "requestBody": {"required": True, "content": bodies},
        "responses": {
            "200": _answer("one entry for each image, in their order", "Words"),
            **{str(status): _answer(text, "Error") for status, text in sorted(errors.items())},
        },
        **({"security": [{"token": []}]} if has_token else {}),
    }
    health = {"summary": "Whether a replica answers", "responses": {"200": {"description": "ready"}}}
    health["responses"]["503"] = _answer("no replica answers", "Error")  # type: ignore[index]
    words = {"type": "array", "items": {"$ref": "#/components/schemas/Word"}}
    error = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}, "images": words}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Word reader", "version": "1"},
        "paths": {
            "/read": {"post": read},
            "/health": {"get": health},
            "/": {"get": {"summary": "A page to try it", "responses": {"200": {"description": "HTML"}}}},
        },
        "components": {
            "schemas": {
                "Word": _WORD,
                "Words": {"type": "object", "required": ["images"], "properties": {"images": words}},
                "Error": error,
            },
            **({"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}} if has_token else {}),
        },
    }


def _answer(description: str, schema: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"description": description, "content": content}
