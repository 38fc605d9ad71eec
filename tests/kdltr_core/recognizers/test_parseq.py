"""PARSeq's decoding orders, and what is computed at once against the same one by one."""

from __future__ import annotations

import pytest
import torch

from kdltr_core.recognizers import build_student
from kdltr_core.recognizers.permutations import sample_permutations
from tests.kdltr_core.small import STUDENTS, drawn_batch


def test_cached_decoding_equals_decoding_from_scratch_at_every_step() -> None:
    """Step t of the cached decoder is the permuted forward, left to right, on the characters read before t."""
    torch.manual_seed(0)
    model = STUDENTS["parseq_tiny"]().eval()
    images = torch.rand(3, 3, 16, 64)
    with torch.no_grad():
        greedy = model(images, num_refinements=0).logits
        read = greedy.argmax(-1)
        steps = read.shape[1]
        tokens = torch.cat([torch.full((3, 1), model.charset.begin_id), read], dim=1)
        order = torch.arange(steps + 1)[None]
        # Words end at different steps; without a pad or end mask the permuted forward sees what the decoder saw.
        tokens = torch.where(tokens == model.charset.end_id, 1, tokens)
        again = model.forward_training(images, tokens, order).logits[0]
    first_end = (read == model.charset.end_id).float().argmax(1)
    first_end[~(read == model.charset.end_id).any(1)] = steps - 1
    for row in range(3):
        upto = int(first_end[row]) + 1
        torch.testing.assert_close(greedy[row, :upto], again[row, :upto], rtol=1e-4, atol=1e-5)


def test_all_permutations_at_once_equal_one_at_a_time() -> None:
    torch.manual_seed(0)
    model = STUDENTS["parseq_tiny"]().eval()
    _, pixels, targets, _, permutations = drawn_batch(model, "Hello", "a", "kd-LTR7", num_orders=6)
    images = pixels / 255
    with torch.no_grad():
        together = model.forward_training(images, targets, permutations).logits
        alone = torch.cat([model.forward_training(images, targets, p[None]).logits for p in permutations])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_an_image_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(32, 128\) pixels, this recognizer reads \(16, 64\)"):
        build_student("parseq_tiny")(torch.rand(1, 3, 32, 128))


@pytest.mark.parametrize(
    ("num_characters", "asked", "given"),
    [(1, 6, 1), (2, 6, 2), (3, 6, 6), (4, 6, 6), (5, 6, 6), (25, 6, 6), (9, 2, 2), (9, 1, 1), (9, 3, 3)],
)
def test_permutations_are_distinct_mirrored_pairs(num_characters: int, asked: int, given: int) -> None:
    permutations = sample_permutations(num_characters, asked, torch.Generator().manual_seed(3))
    assert len(permutations) == given
    assert len({tuple(p.tolist()) for p in permutations}) == given
    everything = list(range(num_characters + 2))
    assert permutations[0].tolist() == everything
    for p in permutations:
        assert sorted(p.tolist()) == everything
        assert p[0] == 0
    if given > 1:
        assert permutations[1].tolist() == [0, *everything[:0:-1]]
    for pair in range(2, given - 1, 2):
        assert permutations[pair + 1, 1:-1].tolist() == permutations[pair, 1:-1].flip(0).tolist()
        assert permutations[pair, -1] == permutations[pair + 1, -1] == num_characters + 1
