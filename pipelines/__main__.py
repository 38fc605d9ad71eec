"""The command ``kdltr COMMAND …``: every script of this folder by one name, with the same options."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import version

from kdltr_core.config import nearest

VERBS = {
    "train": ("train", "distil a student, or train a teacher"),
    "tune": ("tune", "search a run's best settings"),
    "compare": ("compare", "train with several objectives, and test their differences"),
    "evaluate": ("evaluate", "the benchmark table of finished students, and a report"),
    "predict": ("predict", "read words in images"),
    "serve": ("serve", "read words in images that come over HTTP"),
    "export": ("export", "a student as an ONNX file, a torch program, or a model in MLflow's registry"),
    "data": ("prepare_data", "verify, convert, pack and render data sets"),
    "ui": ("ui", "browse the recorded runs, in MLflow's pages"),
    "models": ("models", "list the pretrained models, which are called by name"),
}


def main() -> int:
    verb = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if verb == "--version":
        print(f"kdltr {version('kdltr')}")
        return 0
    if verb in ("-h", "--help"):
        print("usage: kdltr COMMAND …   (kdltr COMMAND --help lists its options)")
        print("       kdltr --version | --completion bash|zsh\n")
        print("\n".join(f"  {name:10} {meaning}" for name, (_, meaning) in VERBS.items()))
        return 0
    # tyro and pydantic take tenths of a second, which what is above need not wait for.
    from pipelines.run.command_line import answer_mistakes

    if verb == "--completion":
        from pipelines.run.completion import print_completion

        scripts = {name: script for name, (script, _) in VERBS.items()}
        return answer_mistakes(lambda: print_completion(*sys.argv[2:3], scripts=scripts))
    if verb not in VERBS:
        print(
            f"error: there is no command {verb!r}{nearest(verb, VERBS)}; commands: {', '.join(VERBS)}", file=sys.stderr
        )
        return 2
    sys.argv = [f"kdltr {verb}", *sys.argv[2:]]
    return answer_mistakes(import_module(f"pipelines.{VERBS[verb][0]}").main)


if __name__ == "__main__":
    sys.exit(main())
