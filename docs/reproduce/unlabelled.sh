#!/usr/bin/env bash
# A tenth of TextZoom's train2 with labels, alone and beside the other nine tenths without: what the teacher reads there.
# Two seeds, 60 updates of 32, from the student that enlarges.  bash docs/reproduce/unlabelled.sh DATASETS
set -euo pipefail
datasets=${1:?give the folder with textzoom/}
python - "$datasets/textzoom/train2" tenth/train2 <<'PYTHON'
import sys
from pathlib import Path

from kdltr_core.data.lmdb_store import LmdbStore, write_lmdb

source, output = LmdbStore.open(sys.argv[1]), Path(sys.argv[2])
numbers = range(1, len(source) + 1, 10)
if not output.exists():
    samples = (((source.image(i, 0), source.image(i, 1)), source.label(i)) for i in numbers)
    write_lmdb(output, samples, len(numbers))
PYTHON
for seed in 0 1; do
    for arm in tenth unlabelled; do
        # A picture that has a label is trained on with its label; the other nine tenths' labels are not looked at.
        more=(); [ "$arm" = tenth ] || more=(--data.unlabelled-roots "$datasets/textzoom/train2")
        python pipelines/train.py parseq_tiny_ltr --name "$arm-seed$seed" --seed "$seed" \
            --recognizer.student-form enlarging --objective.cross-entropy 1.0 --num-steps 60 --optim.batch-size 32 \
            --optim.learning-rate 1e-4 --optim.fast-learning-rate 1e-4 --optim.schedule constant \
            --validate-every 60 --checkpoint-every 60 --data.validation-fraction 0.25 \
            --data.train-roots tenth/train2 --data.benchmark-roots "$datasets"/textzoom/test/{easy,medium,hard} "${more[@]}"
    done
done
python - <<'PYTHON'
import pyarrow.parquet as pq

from kdltr_core.metrics import mcnemar

for seed in (0, 1):
    right = []
    for arm in ("tenth", "unlabelled"):
        column = pq.read_table(f"runs/{arm}-seed{seed}/evaluation/predictions.parquet")["student_low_res_correct"]
        right.append([bool(word) for word in column.to_pylist() if word is not None])
    shares = [f"{100 * sum(of_arm) / len(of_arm):.2f}" for of_arm in right]
    print(f"seed {seed}: a tenth {shares[0]} %, with unlabelled {shares[1]} %; {mcnemar(right[1], right[0])}")
PYTHON
