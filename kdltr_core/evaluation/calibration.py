"""Calibration: whether a reader is as often right as it says, and the temperature that makes it so."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from kdltr_core.distributed import DistributedContext
from kdltr_core.inference.batched import EVALUATION_BATCH, WordBatch, logits_reader, read_set
from kdltr_core.metrics import is_correct
from kdltr_core.recognizers import Recognizer
from kdltr_core.recognizers.decoding import decode_predictions

NUM_BINS = 10
# Words that a temperature is fitted on: fewer say too little, more would not change it.
FEWEST_WORDS, MOST_WORDS = 50, 2000
# Between which a temperature is looked for.
LOWEST, HIGHEST = 0.2, 20.0
# Below and above which no confidence is taken, so that one word that is wrong for sure costs no infinity.
_CERTAIN = 1e-6
# The 95 % point of its distribution with one degree of freedom.
_CHI_SQUARE = 3.84


@dataclass(frozen=True)
class ConfidenceBin:
    """Words whose confidence is in one tenth of [0, 1]; means in [0, 1]."""

    confidence: float
    accuracy: float
    count: int


@dataclass(frozen=True)
class Calibration:
    """A reliability diagram; bins without words are left out.

    Attributes:
        error: expected calibration error, in [0, 1].
        confidence: mean of all words.
    """

    bins: tuple[ConfidenceBin, ...]
    error: float
    confidence: float


def calibrate(confidences: Sequence[float], correct: np.ndarray) -> Calibration:
    """Expected calibration error with equal bins (Guo et al. 2017, eq. 3): sum over bins of n_b / n |acc_b - conf_b|.

    Args:
        confidences: N > 0, in [0, 1].
        correct: (N,) bool.
    """
    values = np.asarray(confidences, float)
    # The border between two bins belongs to the lower, as in the paper: (0, 0.1], (0.1, 0.2], …
    places = np.clip(np.ceil(values * NUM_BINS).astype(int) - 1, 0, NUM_BINS - 1)
    bins = tuple(
        ConfidenceBin(float(values[here].mean()), float(correct[here].mean()), int(here.sum()))
        for here in (places == place for place in range(NUM_BINS))
        if here.any()
    )
    error = sum(b.count * abs(b.accuracy - b.confidence) for b in bins) / len(values)
    return Calibration(bins, error, float(values.mean()))


@dataclass(frozen=True)
class FittedTemperature:
    """A temperature, the held-out words it was fitted on, and the calibration on them without and with it."""

    value: float
    num_words: int
    before: Calibration
    after: Calibration

    @property
    def sentence(self) -> str:
        error = f"calibration error {100 * self.before.error:.1f} points"
        if self.value == 1:
            why = f"fewer than {FEWEST_WORDS}" if self.num_words < FEWEST_WORDS else "no temperature fits them better"
            return f"confidences stay as they are: {self.num_words} held-out words, {why}; {error}"
        return (
            f"temperature {self.value:.2f}, fitted on {self.num_words} held-out words: {error}, "
            f"{100 * self.after.error:.1f} with it"
        )


def fit_temperature(words: Sequence[Tensor], correct: np.ndarray) -> FittedTemperature:
    """Temperature scaling (Guo et al. 2017, section 4.2): one number that all logits are divided by.

    It minimises the negative log-likelihood of what a word's confidence claims, that the word is right. It stays 1 for
    fewer than ``FEWEST_WORDS``, and where a likelihood-ratio test (5 %) cannot tell it from 1.

    Args:
        words: logits (steps, classes) of every word, its end included.
        correct: (N,) bool, which are right.
    """
    steps = pad_sequence([word.float() for word in words], batch_first=True)
    inside = torch.arange(steps.shape[1]) < torch.tensor([[len(word)] for word in words])
    outcome = torch.from_numpy(correct).float()

    def confidences(temperature: float) -> Tensor:
        return ((steps / temperature).log_softmax(-1).amax(-1) * inside).sum(1).exp()

    def cost(log_temperature: float) -> float:
        claimed = confidences(math.exp(log_temperature)).clamp(_CERTAIN, 1 - _CERTAIN)
        return float(F.binary_cross_entropy(claimed, outcome))

    before = calibrate(confidences(1.0).tolist(), correct)
    if len(words) < FEWEST_WORDS:
        return FittedTemperature(1.0, len(words), before, before)
    # Not at the top: it takes a second to import, for which a training need not wait.
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(cost, bounds=(math.log(LOWEST), math.log(HIGHEST)), method="bounded")
    is_told = 2 * len(words) * (cost(0.0) - float(found.fun)) > _CHI_SQUARE
    value = round(math.exp(found.x), 4) if is_told else 1.0
    return FittedTemperature(value, len(words), before, calibrate(confidences(value).tolist(), correct))


def fit_on_pairs(
    module: Recognizer,
    sets: Sequence[Any],
    image: str,
    *,
    batch_size: int = EVALUATION_BATCH,
    world: DistributedContext,
    precision: str = "float32",
) -> FittedTemperature:
    """The temperature of a recognizer in evaluation mode on the images of held-out sets, ``MOST_WORDS`` of each.

    Args:
        image, batch_size, world, precision: as ``read_with_recognizer`` takes them.
    """
    logits_of = logits_reader(module, image, world.device, precision)

    def read(batch: WordBatch) -> list[Tensor]:
        logits = logits_of(batch).half().cpu()
        texts = decode_predictions(logits, module.charset)
        return [of_word[: len(text) + 1].clone() for text, of_word in zip(texts, logits, strict=True)]

    words: list[Tensor] = []
    correct: list[bool] = []
    for pairs in sets:
        rows = np.linspace(0, len(pairs) - 1, min(len(pairs), MOST_WORDS)).astype(int)
        found = read_set(read, pairs, rows=rows, batch_size=batch_size, world=world)
        texts = decode_predictions(pad_sequence(found, batch_first=True), module.charset)
        correct += (is_correct(text, pairs.labels[row]) for text, row in zip(texts, rows, strict=True))
        words += found
    return fit_temperature(words, np.array(correct))
