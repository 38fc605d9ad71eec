"""Student and teacher against the rows of a picture: python -m benchmarks.picture_height RUN ROOT…

Crops of at least 24 rows, brought to fewer (Lanczos, the aspect kept), read at 16×64 and at 32×128.
"""

from __future__ import annotations

import sys

import numpy as np
from PIL import Image

from kdltr_core.data.images import decode_image
from kdltr_core.data.lmdb_store import LmdbStore
from kdltr_core.evaluation.table import is_judged
from kdltr_core.inference.reader import Reader, load_student
from kdltr_core.metrics import is_correct, mcnemar

HEIGHTS, NUM_WORDS, LEAST_HEIGHT = (8, 10, 12, 14, 16, 20, 24, 32), 400, 24


def main() -> None:
    run, *roots = sys.argv[1:]
    student = load_student(run, "cpu")
    assert student.teacher is not None
    readers = Reader(student.recognizer, "cpu"), Reader(student.teacher, "cpu")
    places = [(store, i) for store in map(LmdbStore.open, roots) for i in range(1, len(store) + 1)]
    np.random.default_rng(0).shuffle(places)
    words = [(decode_image(store.image(i), str(i)), store.label(i)) for store, i in places if is_judged(store.label(i))]
    words = [(picture, label) for picture, label in words if picture.height >= LEAST_HEIGHT][:NUM_WORDS]
    for rows in HEIGHTS:
        here = [(picture, label) for picture, label in words if picture.height >= rows]
        small = [p.resize((max(1, round(p.width * rows / p.height)), rows), Image.Resampling.LANCZOS) for p, _ in here]
        right = [[is_correct(w.text, label) for w, (_, label) in zip(r(small), here, strict=True)] for r in readers]
        test, shares = mcnemar(*right), [100 * np.mean(of_one) for of_one in right]
        print(
            f"{rows} rows, {len(here)} words: student {shares[0]:.1f} %, teacher {shares[1]:.1f} %; only the student "
            f"{test.only_first}, only the teacher {test.only_second}, p = {test.p:.2g}",
            flush=True,
        )


if __name__ == "__main__":
    main()
