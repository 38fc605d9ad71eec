#!/usr/bin/env bash
# Students of 1,200 updates beside enlarging and a general recognizer (needs the extra detect); calibration.
# bash docs/reproduce/two_stages.sh DATASETS
set -euo pipefail
datasets=${1:?give the folder with train/ and benchmark_degraded/}
for objective in distillation supervised; do
    python pipelines/train.py parseq_tiny_ltr --recognizer.student-form published \
        --name "$objective-1200" --objective.name "$objective" \
        --num-steps 1200 --optim.batch-size 32 --validate-every 100 \
        --data.train-roots "$datasets/train" --data.benchmark-roots "$datasets/benchmark_degraded"
done
python pipelines/evaluate.py runs/distillation-1200 runs/supervised-1200 --two-stage --report report \
    --data.benchmark-roots "$datasets/benchmark_degraded"
