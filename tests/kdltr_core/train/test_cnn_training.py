"""Training ABINet, its vision part and MATRN: whole steps, exact resume, non-finite steps, one worker or two."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from kdltr_core.charset import Charset36
from kdltr_core.config import ObjectiveConfig, RunConfig
from kdltr_core.data.batch import encode_targets, valid_rows
from kdltr_core.data.dataset import Datasets, load_datasets
from kdltr_core.distributed import DistributedContext
from kdltr_core.inference.weights_files import load_recognizer
from kdltr_core.losses import LossTerms
from kdltr_core.recognizers import Recognizer
from kdltr_core.recognizers.matrn import SemanticVisual
from kdltr_core.recognizers.permutations import sample_permutations
from kdltr_core.train.checkpoint import read_checkpoint
from kdltr_core.train.distiller import Distiller, teach
from kdltr_core.train.optim import Gradients
from kdltr_core.train.step import unused_parameters
from tests.kdltr_core.small import CNN_FAMILIES, STUDENTS, TEACHERS, build_small, read_words
from tests.kdltr_core.train import runs
from tests.kdltr_core.train.runs import LABELS, Interrupted, assert_same, leaves, run, write_words

WITH_LANGUAGE = ("abinet", "matrn")


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_words(tmp_path_factory.mktemp("words"), *CNN_FAMILIES)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    build_small(monkeypatch, dropout=0.1)


def config_of(roots: Path, family: str, **values: object) -> RunConfig:
    short = {"num_steps": 3, "validate_every": 3, "checkpoint_every": 1, "keep_last": 9}
    named = {"recognizer__name": family, "recognizer__teacher_weights": str(roots / f"{family}-0.pt")}
    return runs.config_of(roots, **(named | short | values))


def words_of(config: RunConfig) -> Datasets:
    return load_datasets(config.data, Charset36)


def weights_at(folder: Path, step: int) -> dict[str, Tensor]:
    return read_checkpoint(folder / f"checkpoints/step-{step:08d}")["distiller"]


def statistics(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    names = ("running_mean", "running_var", "num_batches_tracked")
    return {name: value for name, value in state.items() if name.endswith(names)}


@pytest.mark.parametrize("family", CNN_FAMILIES)
def test_in_bfloat16_the_terms_are_those_of_float32_but_for_rounding(family: str) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        distiller, rounded = step_on(family, DistributedContext(), slice(0, 6))
    _, exact = step_on(family, DistributedContext(), slice(0, 6))
    for name, term in exact.terms.items():
        assert rounded.terms[name].dtype == torch.float32
        torch.testing.assert_close(rounded.terms[name], term, rtol=0.05, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")
    assert any(not torch.equal(rounded.terms[name], term) for name, term in exact.terms.items())
    rounded.total.backward()
    assert all(p.grad.isfinite().all() and p.grad.dtype == p.dtype for p in distiller.parameters() if p.requires_grad)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("family", WITH_LANGUAGE)
def test_an_interrupted_run_ends_with_bitwise_the_same_state(family: str, roots: Path, tmp_path: Path) -> None:
    config = config_of(roots, family, optim__ema_decay=0.5)
    whole = run(config, tmp_path / "whole")[0]
    with pytest.raises(Interrupted):
        run(config, tmp_path / "cut", cut_at=2)
    assert run(config, tmp_path / "cut")[0] == whole
    expected, actual = (read_checkpoint(tmp_path / name / "checkpoints/step-00000003") for name in ("whole", "cut"))
    for part in ("distiller", "average"):
        assert_same(actual[part], expected[part])
    for number, state in expected["optimiser"]["state"].items():
        assert_same(actual["optimiser"]["state"][number], state)


@pytest.mark.usefixtures("small")
def test_a_step_that_is_not_finite_changes_nothing_and_is_counted(
    roots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Distiller.forward
    calls: list[int] = []

    def broken_once(self: Distiller, *args: object) -> object:
        calls.append(1)
        if len(calls) == 3:  # the first is not a step: it shows which weights the loss depends on
            # A batch that overflows the batch norms, too: their statistics are changed before anything is known.
            self.student.register_buffer("_mean", torch.full((3, 1, 1), float("nan")), persistent=False)
            loss = original(self, *args)  # type: ignore[arg-type]
            self.student.register_buffer("_mean", mean, persistent=False)
            assert not all(buffer.isfinite().all() for buffer in self.student.buffers())
            return loss
        return original(self, *args)  # type: ignore[arg-type]

    mean = STUDENTS["abinet_vision"]().get_buffer("_mean")
    monkeypatch.setattr(Distiller, "forward", broken_once)
    result, records = run(config_of(roots, "abinet_vision", optim__ema_decay=0.9), tmp_path)
    assert result.num_skipped == 1
    assert [records.values[step]["train/skipped_steps"] for step in (1, 2, 3)] == [0, 1, 1]
    first, second, third = (weights_at(tmp_path, step) for step in (1, 2, 3))
    assert_same(second, first)
    before, after = (read_checkpoint(tmp_path / f"checkpoints/step-0000000{step}") for step in (1, 2))
    assert_same(leaves(after["optimiser"]["state"]), leaves(before["optimiser"]["state"]))
    moved = {name for name in first if not torch.equal(first[name], third[name])}
    assert statistics(first).keys() < moved


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("family", WITH_LANGUAGE)
def test_of_several_shares_on_one_worker_the_first_gives_the_running_statistics(
    family: str, roots: Path, tmp_path: Path
) -> None:
    run(config_of(roots, family, workers=2, num_steps=1, validate_every=1), tmp_path / "both")
    run(config_of(roots, family, workers=1, num_steps=1, validate_every=1), tmp_path / "whole")
    before, after = (statistics(weights_at(tmp_path / "both", step)) for step in (0, 1))
    joined = statistics(weights_at(tmp_path / "whole", 1))
    counts = [name for name in after if name.endswith("num_batches_tracked")]
    # MATRN's enhancement is gone through three times in every forward pass.
    assert all(after[name] == before[name] + (3 if "semantic_visual" in name else 1) for name in counts)
    assert not torch.equal(after["student.vision.backbone.resnet.bn1.running_mean"],
                           joined["student.vision.backbone.resnet.bn1.running_mean"])  # fmt: skip


def step_on(
    family: str, world: DistributedContext, rows: slice, fixed_statistics: bool = False, by_ddp: bool = False
) -> tuple[nn.Module, LossTerms]:
    """Forward of one step on some rows of a batch of six words, and what has to live until its backward."""
    torch.manual_seed(0)
    distiller = Distiller(STUDENTS[family](), ObjectiveConfig()).train()
    teacher = TEACHERS[family]().eval()
    for module in distiller.modules():
        if fixed_statistics and isinstance(module, nn.BatchNorm2d):
            module.eval()
        if isinstance(module, SemanticVisual):
            module.training = False  # what it hides is drawn by each worker for itself
    generator = torch.Generator().manual_seed(7)
    high_res = torch.randint(0, 256, (6, 3, 32, 128), dtype=torch.uint8, generator=generator)
    low_res = torch.randint(0, 256, (6, 3, 16, 64), dtype=torch.uint8, generator=generator)
    student = STUDENTS[family]
    targets, lengths = encode_targets(LABELS[:6], student().charset, student().fixed_num_steps)
    permutations = sample_permutations(targets.shape[1] - 2, 6, generator)
    num_valid = world.all_reduce(lengths[rows].sum().float()) / world.size
    taught = teach(teacher, high_res[rows], targets[rows], permutations)
    contrasted = valid_rows(lengths[rows], targets.shape[1] - 1, 3)
    arguments = low_res[rows], targets[rows], lengths[rows], permutations, taught, num_valid, contrasted
    before = copy.deepcopy(distiller.state_dict())
    for name in unused_parameters(distiller, distiller(*arguments).total):
        distiller.get_parameter(name).requires_grad_(False)
    distiller.load_state_dict(before)
    model = nn.parallel.DistributedDataParallel(distiller) if by_ddp else distiller
    return model, model(*arguments)


def gradients(
    family: str, world: DistributedContext, rows: slice, fixed_statistics: bool, by_ddp: bool = False
) -> dict[str, Tensor]:
    model, loss = step_on(family, world, rows, fixed_statistics, by_ddp)
    if by_ddp:
        loss.total.backward()
    else:
        joined = Gradients(model)
        joined.add(loss.total / world.size)
        world.all_reduce(joined.joined)
    named = {name.removeprefix("module."): p.grad for name, p in model.named_parameters()}
    return {name: gradient.clone() for name, gradient in named.items() if gradient is not None}


def readings_with_statistics_of_their_own(world: DistributedContext, words: Datasets) -> list[str]:
    torch.manual_seed(3)
    student = reader()
    for name, buffer in student.named_buffers():
        if name.endswith("running_mean") and world.rank:
            buffer.normal_()
    return read_words(student, words.benchmarks["benchmark"], "low_res", batch_size=3, world=world)


def reader() -> Recognizer:
    """One whose readings differ from word to word."""
    torch.manual_seed(5)
    student = STUDENTS["abinet_vision"]().eval()
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.mul_(3)
    return student


def work(rank: int, rendezvous: str, roots: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    world = DistributedContext.current()
    rows = slice(3 * rank, 3 * rank + 3)
    found: dict[str, object] = {}
    with warnings.catch_warnings(record=True) as given, pytest.MonkeyPatch.context() as monkeypatch:
        warnings.simplefilter("always")
        build_small(monkeypatch)
        found["gradients parseq_tiny"] = gradients("parseq_tiny", world, rows, fixed_statistics=True)
        for family in WITH_LANGUAGE:
            found[f"gradients {family}"] = gradients(family, world, rows, fixed_statistics=True)
            for by_ddp in (False, True):
                found[f"{family} {by_ddp}"] = gradients(family, world, rows, False, by_ddp)
            config = config_of(roots, family, workers=2)
            result, records = run(config, folder / family, world=world)
            found[f"{family} ran"] = {"result": vars(result), "records": records.values}
        found["readings"] = readings_with_statistics_of_their_own(world, words_of(config))
    found["warnings"] = [str(warning.message) for warning in given]
    torch.save(found, folder / f"found-{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder_of_two(roots: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    mp.spawn(work, (str(folder / "rendezvous"), roots, folder), nprocs=2)
    return folder


@pytest.fixture(scope="module")
def two_workers(folder_of_two: Path) -> Iterator[list[dict[str, dict[str, Tensor]]]]:
    return [torch.load(folder_of_two / f"found-{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("family", ["parseq_tiny", *WITH_LANGUAGE])
def test_gradients_of_two_workers_are_those_of_one_on_the_joined_batch(
    family: str, two_workers: list[dict[str, dict[str, Tensor]]]
) -> None:
    alone = gradients(family, DistributedContext(), slice(0, 6), fixed_statistics=True)
    for found in two_workers:
        together = found[f"gradients {family}"]
        assert together.keys() == alone.keys()
        for name, value in alone.items():
            scale = float(value.abs().max())
            torch.testing.assert_close(
                together[name], value, rtol=1e-3, atol=1e-4 * scale + 1e-6, msg=lambda m, n=name: f"{n}: {m}"
            )


@pytest.mark.parametrize("family", WITH_LANGUAGE)
def test_gradients_of_two_workers_are_those_of_ddp(
    family: str, two_workers: list[dict[str, dict[str, Tensor]]]
) -> None:
    for found in two_workers:
        assert_same(found[f"{family} False"], found[f"{family} True"])


@pytest.mark.parametrize("family", WITH_LANGUAGE)
def test_two_workers_fit_and_agree(
    family: str, two_workers: list[dict[str, dict[str, Tensor]]], folder_of_two: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    first, second = (found[f"{family} ran"] for found in two_workers)
    assert first["result"] == second["result"]
    assert first["result"]["step"] == 3
    assert first["result"]["num_skipped"] == 0
    assert list(first["records"]) == [0, 1, 2, 3]
    assert second["records"] == {}
    # Torch warns of unused weights, and of gradients that lie otherwise in memory than their weights.
    assert [found["warnings"] for found in two_workers] == [[], []]
    build_small(monkeypatch)
    assert load_recognizer(folder_of_two / family).charset is Charset36


@pytest.mark.parametrize("family", WITH_LANGUAGE)
def test_one_worker_with_both_shares_has_the_running_statistics_of_two_workers(
    family: str, folder_of_two: Path, roots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_small(monkeypatch)
    run(config_of(roots, family, workers=2, num_steps=1, validate_every=1), tmp_path)
    alone, together = (
        statistics(weights_at(tmp_path, 1)),
        statistics(weights_at(folder_of_two / family, 1)),
    )
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value, rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


def test_both_workers_read_with_the_statistics_of_the_first(
    two_workers: list[dict[str, dict[str, Tensor]]], roots: Path
) -> None:
    pack = words_of(config_of(roots, "abinet_vision")).benchmarks["benchmark"]
    alone = read_words(reader(), pack, "low_res", batch_size=3)
    assert len(set(alone)) > 1
    assert [found["readings"] for found in two_workers] == [alone, alone]
