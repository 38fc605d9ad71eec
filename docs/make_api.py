"""docs/api.md from the docstrings:  python docs/make_api.py"""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

PUBLIC = {
    "kdltr_core": ("load_student", "Reader", "Prediction", "UnreadableImage"),
    "kdltr_core.inference.pictures": ("PictureReader", "FoundWord"),
    "kdltr_core.recognizers": ("build_student", "build_teacher"),
    "kdltr_core.recognizers.recognizer": ("Recognizer", "RecognizerOutput"),
    "kdltr_core.recognizers.weights": ("load_weights",),
    "kdltr_core.losses.sequence_targets": ("sequence_targets",),
    "kdltr_core.evaluation.table": ("BenchmarkTable",),
}


def api_markdown() -> str:
    """A heading for each module, and of each name its signature and docstring."""
    lines = ["# Python API", "", "Written from the docstrings by `python docs/make_api.py`.", ""]
    for module, names in PUBLIC.items():
        lines += [f"## {module}", ""]
        for name in names:
            lines += _entry(name, getattr(importlib.import_module(module), name), "###")
    return "\n".join(lines).rstrip() + "\n"


def _entry(name: str, thing: Any, heading: str) -> list[str]:
    docstring = inspect.getdoc(thing) or ""
    lines = [f"{heading} {name}", "", "```python", f"{name}{_signature(thing)}", "```", ""]
    if docstring:
        lines += ["```text", docstring, "```", ""]
    if inspect.isclass(thing):
        for method, value in vars(thing).items():
            if inspect.isfunction(value) and not method.startswith("_") and value.__doc__:
                lines += _entry(f"{name}.{method}", value, "####")
    return lines


def _signature(thing: Any) -> str:
    try:
        # Annotations are strings here, and read better without their quotes.
        return re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(inspect.signature(thing)))
    except ValueError:
        return "(…)"


if __name__ == "__main__":
    Path(__file__).with_name("api.md").write_text(api_markdown(), encoding="utf-8")
