"""The whole of a run, as frozen and validated values: what is trained, on what, how, and where it is written."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

RecognizerName = Literal["abinet_vision", "abinet", "matrn", "parseq", "parseq_tiny"]
ObjectiveName = Literal["distillation", "supervised", "dfd", "a_skd", "unified", "dld"]
StudentForm = Literal["enlarging", "published"]
DegradationName = Literal["published", "camera", "mixed", "interlaced", "none"]
TextKind = Literal["words", "names", "numbers", "plates", "codes", "prices", "dates", "meters", "random"]
Trained = Literal["student", "teacher"]
TrainedColumn = Literal["student_low_res", "teacher_high_res"]

WITH_LANGUAGE = ("abinet", "matrn")
TEXT_SHARES: dict[TextKind, float] = {
    "words": 0.42,
    "names": 0.12,
    "numbers": 0.1,
    "plates": 0.08,
    "codes": 0.08,
    "prices": 0.06,
    "dates": 0.06,
    "meters": 0.04,
    "random": 0.04,
}
HIGH_RES_SIZE = (32, 128)
LOW_RES_SIZE = (16, 64)
# Samples with longer labels are rejected and reported: recognizers have 26 steps, one of them for the end.
MAX_LABEL_LENGTH = 25


# What a field, or a section for all of its fields that do not, says of itself in its ``json_schema_extra``.
#   free: a run that resumes may give another value and is still the same run.
#   searched: a sweep may search it: how a student learns, not what it is or which words it is compared on.
Mark = Literal["free", "searched"]


def _field(default: Any, marks: dict[str, Any], **properties: Any) -> Any:
    return Field(default, json_schema_extra=marks, **properties)


def _free(default: Any, **properties: Any) -> Any:
    return _field(default, {"free": True}, **properties)


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class DataConfig(_Section):
    """Where the words come from and how they are prepared."""

    train_roots: tuple[str, ...] = Field(
        (),
        description="LMDB folders, folders of them, or URIs such as s3://bucket/IC13; none, and no unlabelled_roots: "
        "words are rendered",
    )
    benchmark_roots: tuple[str, ...] = Field(
        (), description="LMDB folders, or their URIs, that the finished student is evaluated on, one set each"
    )
    unlabelled_roots: tuple[str, ...] = Field(
        (),
        description="folders of pictures of single words without labels, plain or LMDBs (whose labels are ignored), "
        "or URIs: the teacher reads each picture's high_res once, and its reading is the label",
    )
    unlabelled_min_confidence: float = Field(
        0.5, ge=0, le=1, description="readings with a lower confidence are not used"
    )
    unlabelled_weight: float = _field(
        1.0,
        {"searched": True},
        ge=0,
        description="weight of a teacher's reading in cross entropy, where a label has 1",
    )
    unlabelled_overlap: Literal["refuse", "leave_out"] = Field(
        "refuse", description="what is done with unlabelled pictures that are also in a benchmark"
    )
    validation_fraction: float = Field(
        0.05,
        gt=0,
        lt=0.5,
        description="fraction of the training set held out, by the hash of the image, to choose the best checkpoint",
    )
    train_degradation: DegradationName = _field(
        "published",
        {"searched": True},
        description="what makes low_res of single training images worse, anew in every epoch: published: as in the "
        "published benchmarks; camera: what a camera does to small text, set by TextZoom; mixed: camera, published and "
        "none, for half, a quarter and a quarter of the images",
    )
    benchmark_degradation: DegradationName = Field(
        "published", description="what makes low_res of single benchmark images worse, fixed for each image"
    )
    max_rejected_fraction: float = Field(0.02, ge=0, le=1, description="rejecting more of a set is an error")
    cache_folder: str = _free("~/.cache/kdltr", description="where packs, rendered words and what is fetched are kept")
    num_rendered_train: int = Field(6000, ge=64, description="pairs rendered for training where no train root is given")
    num_rendered_beside_roots: int = _field(
        0,
        {"searched": True},
        ge=0,
        description="pairs rendered and joined to the train roots; none of them is held out",
    )
    num_rendered_benchmark: int = Field(
        600, ge=16, description="pairs rendered as benchmark where no benchmark root is given"
    )
    text_shares: dict[TextKind, Annotated[float, Field(ge=0)]] = Field(
        TEXT_SHARES, description="how much of each kind of text is rendered, as parts of their sum"
    )
    teacher_cache: Literal["off", "on"] = Field(
        "off",
        description="on: what the teacher computes from each training image is computed once, kept in cache_folder "
        "(bfloat16) and used by every run with the same words and teacher",
    )


class RecognizerConfig(_Section):
    """Teacher and student."""

    model_config = ConfigDict(json_schema_extra={"searched": True})

    name: RecognizerName = _field("parseq_tiny", {"searched": False}, description="family and size of the student")
    resolution: Literal["low_res", "high_res"] = _field(
        "low_res",
        {"searched": False},
        description="images that the trained model reads: low_res makes a student; high_res, with the objective "
        "supervised, makes a teacher that students can be distilled from",
    )
    teacher_name: RecognizerName | Literal[""] = _field(
        "", {"searched": False}, description="family and size of the teacher; empty: the student's own"
    )
    teacher_weights: str = Field(
        "bundled",
        description="checkpoint of the teacher, a file, URI or name of a pretrained model; 'bundled': that which comes "
        "with the package",
    )
    student_form: StudentForm = Field(
        "enlarging",
        description="enlarging: the student enlarges its input and then has its teacher's architecture and weights; "
        "published: its first layers are made for small images, as in the published students' files",
    )
    student_start: Literal["teacher", "random_patch", "random"] = Field(
        "teacher",
        description="the student's first weights: the teacher's (in the published form its patch kernel resampled), "
        "the teacher's with a random patch kernel (the published form), or all random",
    )
    student_weights: str = Field(
        "",
        description="checkpoint of the student's own recognizer, for its images or high_res, to start from in place of "
        "its teacher's, for instance where that is larger: given as teacher_weights",
    )
    language_weights: str = Field(
        "",
        description="checkpoint file of the language part of abinet and matrn, such as the official one, that training "
        "starts from",
    )
    num_iterations: int = Field(
        0,
        ge=0,
        description="times that abinet and matrn correct a prediction, of student and teacher; 0: once in abinet and "
        "3 times in matrn, as the published students do",
    )

    @property
    def trained(self) -> Trained:
        """What the run makes; its folder and its file are called so."""
        return "teacher" if self.resolution == "high_res" else "student"

    @property
    def trained_column(self) -> TrainedColumn:
        """The column of the benchmark table that belongs to what is trained."""
        return "teacher_high_res" if self.resolution == "high_res" else "student_low_res"


class ObjectiveConfig(_Section):
    """The terms of the loss and their weights; a term of weight 0 is not computed."""

    model_config = ConfigDict(json_schema_extra={"searched": True})

    name: ObjectiveName = Field(
        "distillation",
        description="distillation: all four terms; supervised: cross entropy only, no teacher; dfd, a_skd, unified, "
        "dld: published baselines, each cross entropy and its own terms",
    )
    visual_focus: float = Field(4.0, ge=0, description="weight of the term")
    semantic_contrast: float = Field(2.0, ge=0, description="weight of the term")
    soft_logits: float = Field(20.0, ge=0, description="weight of the term")
    cross_entropy: float = Field(0.025, ge=0, description="weight of the term")
    soft_temperature: float = Field(4.0, gt=0, description="temperature of the soft logits")
    contrast_temperature: float = Field(0.1, gt=0, description="temperature of the semantic contrast")
    sequence_mix: float = Field(
        0.2, ge=0, le=1, description="fraction of the sequence-level distribution in the soft target"
    )
    num_permutations: int = Field(
        6, ge=1, description="permutations of the characters in every step, mirrored ones counted (PARSeq)"
    )


class OptimConfig(_Section):
    """Adam with the published groups and schedule; cosine and warm-up as options."""

    model_config = ConfigDict(json_schema_extra={"searched": True})

    batch_size: int = Field(64, ge=1, description="pairs per step, over all workers")
    learning_rate: float = Field(5e-5, gt=0, description="learning rate of the student")
    fast_learning_rate: float = Field(1e-4, gt=0, description="learning rate of the patch embedding and the projector")
    beta1: float = Field(0.5, ge=0, lt=1, description="Adam's first beta; the second is 0.999")
    schedule: Literal["step", "cosine", "constant"] = Field(
        "step", description="step: decays ×0.1 every decay_epochs; cosine: to zero at the last step"
    )
    decay_epochs: float = Field(25.0, gt=0, description="epochs between two decays of the step schedule")
    warmup_steps: int = Field(0, ge=0, description="steps in which the rates rise linearly from zero")
    clip_norm: float = Field(0.25, gt=0, description="largest gradient norm")
    ema_decay: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="exponential moving average of the student, which is then evaluated and exported; 0: none",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="autocast type; auto: bfloat16 on a GPU or a CPU that multiplies it natively, else float32"
    )


class RunConfig(_Section):
    """A training run."""

    name: str = Field(
        "", description="name of the run and of its folder; empty: the recipe's. The same name again resumes the run"
    )
    recipe: str = _free("", description="the recipe this config came from")
    output_folder: str = _free(
        "runs", description="run folders are made here; a path, or a URI such as s3://bucket/runs"
    )
    seed: int = Field(0, ge=0, description="seed of the order, permutations, dropout and degradation")
    workers: int = _free(1, ge=1, description="data-parallel workers (Ray Train), and micro-batches of every batch")
    min_workers: int = _free(
        0,
        ge=0,
        description="fewest workers to continue with when machines are lost, each then computing several "
        "micro-batches; 0: wait for all",
    )
    num_epochs: float = _free(100.0, ge=0, description="passes over the training pairs")
    num_steps: int | None = _free(None, ge=0, description="steps instead of epochs")
    selection_words: int = Field(
        200,
        ge=0,
        description="rendered texts of every kind that the best student is chosen on, beside the held-out words and as "
        "much as on those; 0: on the held-out words alone",
    )
    harm_words: int = _free(
        200,
        ge=0,
        description="words of each cell of the matrix that shows at the end where the student is less accurate than "
        "its enlarged teacher; 0: no matrix",
    )
    validate_every: int = Field(400, ge=1, description="steps between two evaluations on the validation split")
    checkpoint_every: int = Field(400, ge=1, description="steps between two checkpoints")
    log_every: int = _free(10, ge=1, description="steps between two records of the loss")
    keep_last: int = _free(2, ge=1, description="checkpoints kept besides the best")
    tracking_uri: str = _free("sqlite:///mlflow.db", description="MLflow server or database; empty: none")
    experiment: str = _free("kdltr", description="MLflow experiment")

    data: DataConfig = DataConfig()
    recognizer: RecognizerConfig = RecognizerConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    optim: OptimConfig = OptimConfig()

    @model_validator(mode="after")
    def _fits_together(self) -> RunConfig:
        recognizer, optim, workers = self.recognizer, self.optim, self.workers
        with_language = " or ".join(WITH_LANGUAGE)
        if self.min_workers > workers:
            raise ValueError(f"min_workers {self.min_workers} is more than workers {workers}; give as many or fewer")
        if optim.batch_size % workers:
            raise ValueError(
                f"optim.batch_size {optim.batch_size} does not divide by workers {workers}; "
                f"the nearest that does is {round(optim.batch_size / workers) * workers or workers}"
            )
        if recognizer.trained == "teacher" and self.objective.name != "supervised":
            raise ValueError(
                f"recognizer.resolution high_res makes a teacher, which objective.name {self.objective.name} does "
                "not; give supervised, or resolution low_res"
            )
        if recognizer.trained == "teacher" and recognizer.student_start != "random":
            raise ValueError(
                f"recognizer.resolution high_res makes a teacher, whose start cannot be the student_start "
                f"{recognizer.student_start}; give random, and recognizer.student_weights to start from a "
                "checkpoint of the very same recognizer"
            )
        if recognizer.language_weights and recognizer.name not in WITH_LANGUAGE:
            raise ValueError(
                f"recognizer.language_weights are given and {recognizer.name} has no language part; "
                f"leave them out, or give recognizer.name {with_language}"
            )
        if recognizer.num_iterations and not {recognizer.name, recognizer.teacher_name} & set(WITH_LANGUAGE):
            raise ValueError(
                f"recognizer.num_iterations is {recognizer.num_iterations} and {recognizer.name} corrects no "
                f"predictions; leave it 0, or give recognizer.name {with_language}"
            )
        return self

    def override(self, values: Mapping[str, Any]) -> RunConfig:
        """A copy with dotted fields changed: ``{"optim.learning_rate": 3e-5}``.

        Raises: ValueError for an unknown field (naming the nearest) or a value that the field does not take.
        """
        tree = self.model_dump()
        for dotted, value in values.items():
            *sections, last = dotted.split(".")
            node = tree
            for section in sections:
                node = node.get(section) if isinstance(node, dict) else None  # type: ignore[assignment]
            if not isinstance(node, dict) or last not in node:
                raise ValueError(f"unknown field {dotted!r}{nearest(dotted, self.flatten())}")
            node[last] = value
        return _validated(tree)

    def flatten(self) -> dict[str, Any]:
        """Dotted names and values, in order; what MLflow records as parameters."""
        flat: dict[str, Any] = {}
        for name, value in self.model_dump(mode="json").items():
            if isinstance(value, dict):
                flat.update({f"{name}.{inner}": v for inner, v in value.items()})
            else:
                flat[name] = value
        return flat

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)

    @classmethod
    def from_yaml(cls, path: str | Path) -> RunConfig:
        """Raises: ValueError if the file is not a mapping, or names a field or value that does not exist."""
        try:
            tree = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise ValueError(f"{path} cannot be read as YAML: {error}") from error
        if not isinstance(tree, dict):
            raise ValueError(
                f"{path} holds {type(tree).__name__}, expected the fields of a run as in a run's config.yaml"
            )
        return _validated(tree, f"{path}: ")


@cache
def fields_marked(mark: Mark) -> frozenset[str]:
    """Dotted names of the fields of a run that carry a mark."""

    def carries(of: Any, otherwise: bool = False) -> bool:
        return (of if isinstance(of, dict) else {}).get(mark, otherwise)

    marked = set()
    for name, field in RunConfig.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, _Section):
            otherwise = carries(section.model_config.get("json_schema_extra"))
            inner = section.model_fields.items()
            marked |= {f"{name}.{n}" for n, f in inner if carries(f.json_schema_extra, otherwise)}
        elif carries(field.json_schema_extra):
            marked.add(name)
    return frozenset(marked)


def nearest(name: str, known: Any) -> str:
    """ "; did you mean 'x'?" for the known name that is closest, or nothing."""
    close = difflib.get_close_matches(name, [str(k) for k in known], n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def _validated(tree: Mapping[str, Any], where: str = "") -> RunConfig:
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        raise ValueError(where + "; ".join(_explain(e) for e in error.errors())) from None


def _explain(error: Any) -> str:
    dotted = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"unknown field {dotted!r}{nearest(dotted, RunConfig().flatten())}"
    if error["type"] == "literal_error":
        choices = [c.strip("' ") for c in error["ctx"]["expected"].replace(" or ", ",").split(",")]
        expected = error["ctx"]["expected"] + nearest(str(error["input"]), choices)
        return f"{dotted} is {error['input']!r}, expected {expected}"
    message = error["msg"].removeprefix("Value error, ")
    return f"{dotted} is {error['input']!r}: {message}" if dotted else message
