"""Parameters and multiply-accumulates, against formulae and the published figures."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F

from kdltr_core.config import RecognizerName
from kdltr_core.evaluation.complexity import count_complexity, multiply_accumulates
from pipelines.benchmark import BenchmarkConfig, main
from pipelines.measurement.table import recognizer_sizes

# PARSeq base: width, encoder depth, positions of the image, classes, and values of a 2×4 patch.
DIM, DEPTH, POSITIONS, CLASSES, PATCH = 384, 12, 128, 95, 24


ROWS = recognizer_sizes()
STUDENTS = {row["recognizer"]: row for row in ROWS if row["role"] == "student"}


@pytest.mark.slow
@pytest.mark.parametrize("kept", ROWS, ids=lambda row: f"{row['recognizer']}-{row['role']}")
def test_the_sizes_that_are_kept_are_those_that_are_counted(kept: dict[str, Any]):
    counted = asdict(count_complexity(kept["recognizer"], kept["role"])) | {"published": kept["published"]}
    assert json.loads(json.dumps(counted)) == kept


def test_a_convolution_takes_its_kernel_at_every_place():
    """3×5 kernel, stride (2, 1), 8 channels to 12 on 16×64: 8 × 62 places, the padding counted as values."""
    images, kernels = torch.rand(2, 8, 16, 64), torch.rand(12, 8, 3, 5)
    counted = multiply_accumulates(lambda: F.conv2d(images, kernels, stride=(2, 1), padding=1))
    assert counted == 2 * (8 * 62) * 12 * 8 * 3 * 5


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_attention_takes_scores_and_mixture(masked: bool, dropout: float):
    """2 images, 4 heads, 26 queries, 256 keys, width 64: two products; a mask or dropout changes nothing."""
    queries, keys = torch.rand(2, 4, 26, 64), torch.rand(2, 4, 256, 64)
    mask = torch.ones(26, 256, dtype=torch.bool) if masked else None
    counted = multiply_accumulates(lambda: F.scaled_dot_product_attention(queries, keys, keys, mask, dropout))
    assert counted == 2 * (2 * 4 * 26 * 256 * 64)


def encoder() -> int:
    """Patches, then joint projection (3), result (1) and feed-forward (8), and two products a layer."""
    layer = 12 * POSITIONS * DIM**2 + 2 * POSITIONS**2 * DIM
    return POSITIONS * PATCH * DIM + DEPTH * layer + 2 * POSITIONS * DIM**2


def decoder(num_queries: int, num_characters: int, num_pairs: int) -> int:
    """Two attentions, whose queries and results are projected, and feed-forward and head.

    The image's keys and values are the encoder's; those of the characters are made here.
    """
    projected = (4 + 8) * num_queries * DIM**2 + 2 * num_characters * DIM**2 + num_queries * DIM * CLASSES
    return projected + 2 * (num_pairs + num_queries * POSITIONS) * DIM


@pytest.mark.parametrize("length", [5, 25])
def test_a_reading_of_parseq_is_encoder_steps_and_refinement(length: int):
    """Every step makes keys and values of one character and looks at all before; the image's are made once."""
    steps = length + 1
    greedy = sum(decoder(1, 1, step) for step in range(1, steps + 1))
    assert STUDENTS["parseq"]["reading"][str(length)] == encoder() + greedy + decoder(steps, steps, steps**2)


@pytest.mark.parametrize("length", [5, 25])
def test_a_training_forward_of_parseq_reads_in_six_permutations(length: int):
    steps = length + 1
    assert STUDENTS["parseq"]["training"][str(length)] == encoder() + 6 * decoder(steps, steps, steps**2)


def test_a_counter_of_layers_makes_the_images_keys_anew_and_misses_products():
    """4 steps and the refinement. What it misses is as much as the 4 times that keys and values are made again."""
    missed, made_again = DEPTH * 2 * POSITIONS**2 * DIM, 4 * (2 * POSITIONS * DIM**2)
    passes = sum(decoder(1, step, step) for step in range(1, 5)) + decoder(4, 4, 16)
    normalised = (2 * DEPTH + 1) * POSITIONS + 5 * (4 + 4)
    assert STUDENTS["parseq"]["layers_only"] == encoder() - missed + made_again + passes + 2 * normalised * DIM
    assert missed == made_again


@pytest.mark.parametrize(
    ("name", "parameters", "multiply_accumulates"),
    [("abinet", 36.74, 5.46), ("matrn", 44.16, 9.86), ("parseq", 23.81, 2.93)],
)
def test_a_counter_of_layers_gives_the_published_figures(name: str, parameters: float, multiply_accumulates: float):
    row = STUDENTS[name]
    assert row["published"] == {"parameters": parameters, "multiply_accumulates": multiply_accumulates}
    assert round(row["parameters"] / 1e6, 2) == parameters
    assert round(row["layers_only"] / 1e9, 2) == multiply_accumulates


def test_the_language_part_adds_what_it_multiplies():
    """ABINet less its vision: in (37), four layers of cross-attention and feed-forward, out (37), gate, out (37)."""
    steps, dim, classes = 26, 512, 37
    layer = steps * dim * (4 * dim + 2 * 2048) + 2 * steps**2 * dim
    language = 3 * steps * classes * dim + 4 * layer + steps * 2 * dim * dim
    whole, vision = STUDENTS["abinet"], STUDENTS["abinet_vision"]
    for length in ("5", "25"):
        assert whole["reading"][length] - vision["reading"][length] == language
        assert whole["training"][length] - vision["training"][length] == language


def test_every_recognizer_and_role_has_a_row(tmp_path: Path):
    assert main(BenchmarkConfig(describe=True, num_threads=1, output=tmp_path)) == 0
    wanted = {(name, role) for name in get_args(RecognizerName) for role in ("teacher", "student")}
    assert {
        (row["recognizer"], row["role"]) for row in json.loads((tmp_path / "complexity.json").read_text())
    } == wanted
    text = (tmp_path / "complexity.md").read_text()
    assert text.count("\n| ") == len(wanted) + 1
    assert "| parseq | student | 23.81 | 23.81 | 0.00 | 2.93 | 3.02 | 2.99 | 3.25 | 2.93 | 2.93 |" in text
    assert "| parseq | teacher | 23.83 |  | 0.00 |" in text
