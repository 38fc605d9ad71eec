"""What is compared: objectives by name, and the few fields of a run in which each differs from its neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kdltr_core.config import RunConfig, fields_marked, nearest

OBJECTIVES: Mapping[str, Mapping[str, Any]] = {
    **{name: {"objective.name": name} for name in ("supervised", "dfd", "a_skd", "unified", "dld", "distillation")},
    # PARSeq's published student has a patch embedding of its own; the other families start as published in any case.
    "distillation_published": {"objective.name": "distillation", "recognizer.student_start": "random_patch"},
}


def candidate_fields(text: str, config: RunConfig) -> dict[str, Any]:
    """The fields that ``text`` stands for: a name, then changes: ``distillation+objective.cross_entropy=0.5``.

    Args:
        config: that every candidate changes.

    Raises: ValueError for an unknown name, field or value, a field that is not the candidates' to change, or a
        candidate that this run cannot be.
    """
    name, *changes = text.split("+")
    if name not in OBJECTIVES:
        raise ValueError(f"--objectives names {name!r}; there are {', '.join(OBJECTIVES)}{nearest(name, OBJECTIVES)}")
    fields = dict(OBJECTIVES[name])
    for change in changes:
        field, equals, value = change.partition("=")
        field = field.replace("-", "_")
        if not equals:
            raise ValueError(f"--objectives has {text!r}; after a name, changes are +field=value")
        if field in RunConfig().flatten() and field not in fields_marked("compared"):
            raise ValueError(
                f"--objectives has {text!r}, and then runs could not be compared; "
                f"give {field} once for all, as --{field.replace('_', '-')}"
            )
        fields[field] = value
    try:
        flat = config.override(fields).flatten()
    except ValueError as error:
        raise ValueError(f"{text} cannot be compared here: {error}") from None
    return {field: flat[field] for field in fields}
