#!/usr/bin/env bash
# How the teacher's patch kernel is made to fit low-resolution patches, before any training.
# bash docs/reproduce/patch_kernel.sh DATASETS
set -euo pipefail
datasets=${1:?give the folder with train/ and benchmark_degraded/}
runs=()
for how in nearest bilinear bicubic least_squares; do
    python pipelines/train.py parseq_tiny_ltr --name "start-$how" --num-steps 0 --recognizer.patch-resampling "$how" \
        --data.train-roots "$datasets/train" --data.benchmark-roots "$datasets/benchmark_degraded/CUTE80"
    runs+=("runs/start-$how")
done
python pipelines/evaluate.py "${runs[@]}" --no-teacher \
    --data.benchmark-roots "$datasets"/benchmark_degraded/{SVT,SVTP,CUTE80}
