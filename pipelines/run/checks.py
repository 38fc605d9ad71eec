"""What can be found wrong with a run before anything is decoded or trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kdltr_core.config import RunConfig
from kdltr_core.data.dataset import Datasets, load_datasets
from kdltr_core.evaluation.table import check_judged
from kdltr_core.recognizers.registry import charset_of
from kdltr_core.remote import LMDB_FILE, check_there, fetch, is_uri
from kdltr_core.train.build import start_file, teacher_file
from kdltr_core.train.distiller import needs_teacher
from kdltr_core.train.teacher_readings import teacher_reader
from pipelines.run.progress import progress_bar, say, shown_path

if TYPE_CHECKING:
    from pipelines.run.folder import RunFolder

VALIDATED_ON_READINGS = (
    "Validation: no word has a label, so word accuracy on the held-out pictures is agreement with what the teacher "
    "reads in them at high resolution: enough to choose the best step by, but silent about what both misread."
)


def check_files(config: RunConfig) -> None:
    """Weights that are named by a URI are fetched, roots are only looked for.

    Raises: ValueError naming the option whose file or folder is not there; as ``fetch``.
    """
    recognizer, data = config.recognizer, config.data
    for option, roots, only in (
        ("train-roots", data.train_roots, LMDB_FILE),
        ("unlabelled-roots", data.unlabelled_roots, "*"),
        ("benchmark-roots", data.benchmark_roots, LMDB_FILE),
    ):
        for root in roots:
            if is_uri(root):
                check_there(root, only=only)
            elif not Path(root).is_dir():
                raise ValueError(f"--data.{option} names {root}, which is not a folder")
    if uses_teacher(config):
        teacher_file(config)
    start_file(config)
    if (language := recognizer.language_weights) and not fetch(language, data.cache_folder).is_file():
        raise ValueError(f"--recognizer.language-weights names {language}, which is not a file")


def uses_teacher(config: RunConfig) -> bool:
    """Whether the run asks or starts from its teacher's weights."""
    recognizer = config.recognizer
    starts_from_it = recognizer.student_start != "random" and not recognizer.student_weights
    return bool(config.data.unlabelled_roots) or needs_teacher(config.objective) or starts_from_it


def check_words(config: RunConfig, words: Datasets) -> None:
    """Raises: ValueError for a benchmark that cannot be scored, or fewer training pairs than a batch."""
    for name, pack in words.benchmarks.items():
        if len(pack) == 0:
            raise ValueError(
                f"the benchmark {name} has no word that can be read; leave it out of --data.benchmark-roots"
            )
    check_judged({name: pack.labels for name, pack in words.benchmarks.items()})
    if len(words.train) < config.optim.batch_size:
        raise ValueError(
            f"{len(words.train)} training pairs are fewer than optim.batch_size {config.optim.batch_size}; "
            "give more, or a smaller --optim.batch-size"
        )


def summary(words: Datasets) -> list[str]:
    """How many words there are for what, and what had to be left out."""
    sets = ", ".join(f"{name} {len(pack)}" for name, pack in words.benchmarks.items())
    rejected = [f"{root}: {report.describe()}" for root, report in words.rejected.items() if not report.is_clean]
    lines = [f"{len(words.train)} training pairs, {len(words.validation)} held out; benchmarks: {sets}"]
    lines += [f"{root}: {count} pictures labelled by what the teacher reads" for root, count in words.num_read.items()]
    return [*lines, *rejected, *([VALIDATED_ON_READINGS] if words.validates_on_readings else [])]


def prepare_words(config: RunConfig, folder: RunFolder) -> Datasets:
    """The words of a run, prepared here, said, and claimed for the folder.

    Raises: ValueError for words that cannot be trained with, or others than the folder's.
    """
    reader = teacher_reader(config, progress_bar("the teacher reads each picture once"))
    say(f"Preparing words (rendered and packed once, kept in {shown_path(config.data.cache_folder)}) …")
    words = load_datasets(config.data, charset_of(config), progress_bar("preparing words"), reader=reader)
    check_words(config, words)
    folder.claim_data(words.fingerprints)
    for sentence in summary(words):
        say(sentence)
    return words
