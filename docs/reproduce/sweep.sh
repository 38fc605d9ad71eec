#!/usr/bin/env bash
# Fourteen points of the loss weights, the best confirmed with three seeds: about an hour and a half on one core.
# bash docs/reproduce/sweep.sh DATASETS
set -euo pipefail
datasets=${1:?give the folder with train/ and benchmark_degraded/}
python pipelines/tune.py parseq_tiny_ltr --recognizer.student-form published \
        --space loss_weights --num-trials 14 --trial-steps 100 \
    --confirm 2 --confirm-seeds 3 --num-steps 150 --optim.batch-size 24 --optim.warmup-steps 10 \
    --validate-every 25 --checkpoint-every 1000 --data.validation-fraction 0.1 \
    --data.train-roots "$datasets/train" --data.benchmark-roots "$datasets/benchmark_degraded"
