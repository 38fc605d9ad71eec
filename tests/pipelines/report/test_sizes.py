"""The recognizers' sizes that are kept as data, against torch's counter, formulae and the published figures."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from kdltr_core.config import RecognizerName
from kdltr_core.recognizers import build_student, build_teacher
from kdltr_core.recognizers.permutations import sample_permutations
from pipelines.models import list_models
from pipelines.report.sizes import recognizer_sizes

# PARSeq base: width, encoder depth, positions of the image, classes, and values of a 2×4 patch.
DIM, DEPTH, POSITIONS, CLASSES, PATCH = 384, 12, 128, 95, 24

ROWS = recognizer_sizes()
STUDENTS = {row["recognizer"]: row for row in ROWS if row["role"] == "student"}


@pytest.mark.parametrize("kept", ROWS, ids=lambda row: f"{row['recognizer']}-{row['role']}")
def test_the_sizes_that_are_kept_are_those_that_torch_counts(kept: dict[str, Any]):
    """By shapes alone. PARSeq's reading waits for its predictions and has a formula below."""
    with torch.device("meta"):
        name = kept["recognizer"]
        model = (build_teacher(name) if kept["role"] == "teacher" else build_student(name, "published")).eval()
        model.requires_grad_(False)
        image = torch.empty(1, 3, *model.image_size)
    assert sum(p.numel() for p in model.parameters()) == kept["parameters"]
    assert sum(b.numel() for b in model.buffers()) == kept["buffers"]
    counts = dict(kept["training"])
    if model.fixed_num_steps:  # whatever the word, and in training as in reading
        count = counts.pop("25")
        assert kept["reading"] == {"5": count, "25": count} == kept["training"]
    for length, count in counts.items():
        orders = sample_permutations(int(length), 6, torch.Generator().manual_seed(0)).to("meta")
        targets = torch.ones(1, int(length) + 2, dtype=torch.int64, device="meta")
        # As two products, which the counter sees everywhere, and the fused attention on a CPU it does not.
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            model.forward_training(image, targets, orders)
        assert counter.get_total_flops() // 2 == count


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


def test_a_counter_of_layers_makes_the_images_keys_anew_and_misses_products():
    """4 steps and the refinement. What it misses is as much as the 4 times that keys and values are made again."""
    missed, made_again = DEPTH * 2 * POSITIONS**2 * DIM, 4 * (2 * POSITIONS * DIM**2)
    passes = sum(decoder(1, step, step) for step in range(1, 5)) + decoder(4, 4, 16)
    normalised = (2 * DEPTH + 1) * POSITIONS + 5 * (4 + 4)
    assert STUDENTS["parseq"]["layers_only"] == encoder() - missed + made_again + passes + 2 * normalised * DIM
    assert missed == made_again


def test_published_figures_and_a_row_for_every_recognizer_and_role_are_printed(capsys: pytest.CaptureFixture[str]):
    assert list_models(sizes=True) == 0
    text = capsys.readouterr().out
    assert text.count("\n| ") == 2 * len(get_args(RecognizerName)) + 1
    assert "| parseq | student | 23.81 | 23.81 | 0.00 | 2.93 | 3.02 | 2.99 | 3.25 | 2.93 | 2.93 |" in text
    assert "| parseq | teacher | 23.83 |  | 0.00 |" in text
    for name, parameters, products in (("abinet", 36.74, 5.46), ("matrn", 44.16, 9.86), ("parseq", 23.81, 2.93)):
        row = STUDENTS[name]
        assert row["published"] == {"parameters": parameters, "multiply_accumulates": products}
        assert (round(row["parameters"] / 1e6, 2), round(row["layers_only"] / 1e9, 2)) == (parameters, products)
