"""Pre-training of the language part of ABINet and MATRN: misspelt words of a list, back to what they are."""

from __future__ import annotations

import hashlib
import math
import string
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn

from kdltr_core.charset import Charset, Charset36
from kdltr_core.data.batch import encode_targets
from kdltr_core.data.sampler import EpochSampler
from kdltr_core.data.synth.vocabulary import words as bundled_words
from kdltr_core.device import autocast
from kdltr_core.files import NotWritten, remedy, whole_file
from kdltr_core.losses.recognition import recognition
from kdltr_core.recognizers.abinet import AbinetSize, LanguageModel
from kdltr_core.recognizers.decoding import decode_predictions
from kdltr_core.recognizers.weights import save_student
from kdltr_core.seeding import derive, seed_everything
from kdltr_core.train.checkpoint import CheckpointStore

LANGUAGE_FILE = "language.safetensors"
MAX_LENGTH = 25
_PREDICTIONS_A_WORD = 10
_CONSTANT_FRACTION = 7 / 8  # officially 70 of 80 epochs
_KEPT_CHECKPOINTS = 2
_FEWEST_WORDS = 20
# Of no, one, two and three places of a word to be misspelt; and of what happens there, else it is left out.
NUM_PLACES_FRACTIONS = (0.70, 0.15, 0.10, 0.05)
REPLACED_FRACTION, PRECEDED_FRACTION = 0.70, 0.15
# What may differ where a training resumes.
_FREE = ("num_steps", "checkpoint_every", "precision")


@dataclass(frozen=True)
class LanguageConfig:
    """A pre-training. Adam with ABINet's rates: full, then a tenth in the last eighth of the steps; clipped at 20."""

    num_steps: int = 10_000
    batch_size: int = 4096
    learning_rate: float = 1e-4
    held_out_fraction: float = 0.05
    checkpoint_every: int = 500
    precision: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("num_steps", "batch_size", "checkpoint_every", "learning_rate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected more than 0")
        if not 0 < self.held_out_fraction < 0.5:
            raise ValueError(f"held_out_fraction is {self.held_out_fraction}, expected more than 0 and less than 0.5")


def read_word_list(path: str | Path, charset: Charset, max_length: int = 25) -> tuple[str, ...]:
    """The words of a text file, one a line, as the alphabet writes them, each once; too long ones are left out.

    Raises: ValueError if the file cannot be read or has fewer than 20 words.
    """
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as UTF-8 text ({error}); give a file with one word a line") from error
    words = _usable(lines, charset, max_length)
    if len(words) < _FEWEST_WORDS:
        raise ValueError(f"{path} has {len(words)} usable words, expected at least {_FEWEST_WORDS}, one a line")
    return words


def bundled_word_list(charset: Charset, max_length: int = 25) -> tuple[str, ...]:
    """The list that comes with the package, of which rendered words are made as well."""
    return _usable(bundled_words(), charset, max_length)


def split_words(words: Sequence[str], held_out_fraction: float) -> tuple[list[str], list[str]]:
    """Words to train on, and words held out by their hash: the same in every order and company, one at the least."""
    hashes = {w: int.from_bytes(hashlib.blake2b(w.encode(), digest_size=8).digest(), "little") for w in words}
    limit = max(int(held_out_fraction * 2**64), min(hashes.values()))
    return [w for w in words if hashes[w] > limit], [w for w in words if hashes[w] <= limit]


def _usable(lines: Sequence[str], charset: Charset, max_length: int) -> tuple[str, ...]:
    normalised = dict.fromkeys(charset.normalise(line) for line in lines)
    return tuple(word for word in normalised if 0 < len(word) <= max_length)


def misspell(word: str, rng: np.random.Generator, max_length: int = 25) -> str:
    """A word as a careless reader gives it: most often itself, else characters replaced, put in or left out.

    The probabilities are those of ABINet's public implementation (Fang et al. 2021, its spelling mutation): a place is
    replaced by a random letter, preceded by one, or left out. Of words of two to four characters one place at most is
    touched, of longer ones half of them. A single character, and what is half digits, follows no spelling and stays.

    Args:
        word: one character or more.
        max_length: what is longer is cut off.

    Returns: between 1 and ``max_length`` characters.
    """
    num_digits = sum(character in string.digits for character in word)
    if len(word) < 2 or num_digits >= len(word) / 2:
        return word[:max_length]
    most = 1 if len(word) <= 4 else len(word) // 2
    num_places = min(int(rng.choice(len(NUM_PLACES_FRACTIONS), p=NUM_PLACES_FRACTIONS)), most)
    characters = list(word)
    for place in rng.choice(len(word), num_places, replace=False):
        chance, letter = rng.random(), string.ascii_lowercase[rng.integers(26)]
        if chance < REPLACED_FRACTION:
            characters[place] = letter
        elif chance < REPLACED_FRACTION + PRECEDED_FRACTION:
            characters[place] = letter + word[place]
        else:
            characters[place] = ""
    return "".join(characters)[:max_length]


@dataclass(frozen=True)
class Correction:
    """What became of the predictions of held-out words, wrong ones and right ones."""

    num_wrong: int
    num_corrected: int
    num_right: int
    num_kept: int

    def describe(self) -> str:
        corrected, kept = 100 * self.num_corrected / self.num_wrong, 100 * self.num_kept / self.num_right
        return (
            f"{corrected:.1f} % of {self.num_wrong} wrong predictions of held-out words corrected, "
            f"{kept:.1f} % of {self.num_right} right ones kept"
        )


def build_language_model(size: AbinetSize | None = None) -> LanguageModel:
    """As it is in the teachers and students of abinet and matrn."""
    return LanguageModel(size or AbinetSize())


def pretrain(
    model: LanguageModel,
    words: Sequence[str],
    config: LanguageConfig,
    folder: Path,
    *,
    device: torch.device | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Correction:
    """Train a language model to give the right word for a misread one, resuming from the newest checkpoint.

    Args:
        model: with its first weights; trained in place.
        words: of the alphabet, each once; some of them are held out.
        config: where a training resumes the same, but for number of steps, checkpoints and precision.
        folder: checkpoints/ are written here, and at the end ``language.safetensors``.
        progress: called with (done, total) steps.

    Returns: how it corrects the held-out words.
    Raises: ValueError where the folder is another training's, or the loss is not finite; NotWritten.
    """
    device = device or torch.device("cpu")
    train, held_out = split_words(words, config.held_out_fraction)
    seed_everything(config.seed, "language")
    model.to(device).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    sampler = EpochSampler(len(train), config.batch_size, config.seed)
    store = CheckpointStore(folder / "checkpoints", _KEPT_CHECKPOINTS)
    settings = {**asdict(config), "words": hashlib.blake2b(" ".join(words).encode(), digest_size=4).hexdigest()}
    start = _resume(store, model, optimiser, settings)
    for step in range(start, config.num_steps):
        rng = np.random.default_rng((config.seed, step))
        batch = [train[i] for i in sampler.indices(step)[0]]
        seed_everything(config.seed, "language", step)
        loss = _loss(model, batch, [misspell(word, rng, MAX_LENGTH) for word in batch], config.precision)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 20.0)
        rate = 1.0 if step < _CONSTANT_FRACTION * config.num_steps else 0.1
        for group in optimiser.param_groups:
            group["lr"] = rate * config.learning_rate
        optimiser.step()
        done = step + 1
        if done % config.checkpoint_every == 0 or done == config.num_steps:
            if not math.isfinite(loss.item()):
                raise ValueError(f"the loss is {loss.item()} at step {done}; give a lower learning_rate")
            state = {"step": done, "model": model.state_dict(), "optimiser": optimiser.state_dict()}
            store.save(done, {**state, "settings": settings}, best_step=done)
        if progress is not None:
            progress(done, config.num_steps)
    _export(folder / LANGUAGE_FILE, model)
    return correct(model, held_out, config)


@torch.inference_mode()
def correct(model: LanguageModel, words: Sequence[str], config: LanguageConfig) -> Correction:
    """How a language model corrects predictions of words, ten of each, the same ones whenever it is asked."""
    was_training = model.training
    model.eval()
    rng = np.random.default_rng(derive(config.seed, "held out"))
    pairs = [(word, misspell(word, rng, MAX_LENGTH)) for word in words for _ in range(_PREDICTIONS_A_WORD)]
    corrected: list[str] = []
    for first in range(0, len(pairs), config.batch_size):
        predictions = [before for _, before in pairs[first : first + config.batch_size]]
        probabilities, lengths = _as_input(predictions, next(model.parameters()).device)
        with autocast(probabilities.device, config.precision):
            _, logits = model(probabilities, lengths)
        corrected += decode_predictions(logits, Charset36)
    model.train(was_training)
    outcomes = [(before == word, after == word) for (word, before), after in zip(pairs, corrected, strict=True)]
    num_right = sum(before for before, _ in outcomes)
    return Correction(
        num_wrong=len(outcomes) - num_right,
        num_corrected=sum(after for before, after in outcomes if not before),
        num_right=num_right,
        num_kept=sum(after for before, after in outcomes if before),
    )


def _loss(model: LanguageModel, words: Sequence[str], predictions: Sequence[str], precision: str) -> Tensor:
    device = next(model.parameters()).device
    probabilities, lengths = _as_input(predictions, device)
    targets, valid = (tensor.to(device) for tensor in encode_targets(words, Charset36, MAX_LENGTH + 1))
    with autocast(device, precision):
        _, logits = model(probabilities, lengths)
    return recognition(logits[None], targets, valid)


def _as_input(predictions: Sequence[str], device: torch.device) -> tuple[Tensor, Tensor]:
    """Readings as the vision part would give them, were it quite sure: (N, T, classes) one-hot, and lengths (N,)."""
    targets, lengths = encode_targets(predictions, Charset36, MAX_LENGTH + 1)
    classes = targets[:, 1:].masked_fill(targets[:, 1:] == Charset36.pad_id, Charset36.end_id)
    return F.one_hot(classes, Charset36.num_classes).float().to(device), lengths.to(device)


def _resume(
    store: CheckpointStore, model: LanguageModel, optimiser: torch.optim.Optimizer, settings: dict[str, object]
) -> int:
    """The step to resume from."""
    state = store.newest()
    if state is None:
        return 0
    earlier = state["settings"]
    changed = [name for name in settings if name not in _FREE and settings[name] != earlier[name]]
    if changed:
        raise ValueError(
            f"the pre-training in {store.folder.parent} was begun with "
            + ", ".join(f"{name} {earlier[name]!r}, now {settings[name]!r}" for name in changed)
            + "; give another output folder, or the same values to resume"
        )
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    return int(state["step"])


def _export(path: Path, model: LanguageModel) -> None:
    notes = {"part": "language", "charset": Charset36.name, "format": "kdltr-1"}
    try:
        with whole_file(path) as writing:
            save_student(writing, model.state_dict(), notes)
    except (SafetensorError, OSError) as error:
        raise NotWritten(f"{path} could not be written ({error}); {remedy(error)}") from error
