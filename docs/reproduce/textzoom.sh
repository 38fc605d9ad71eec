#!/usr/bin/env bash
# Real low resolution: a student that enlarges its input itself, 160 updates of 32 on TextZoom's train2, minutes.
# bash docs/reproduce/textzoom.sh DATASETS
set -euo pipefail
datasets=${1:?give the folder with textzoom/}
python pipelines/train.py parseq_tiny_ltr --name textzoom --recognizer.student-form enlarging \
    --objective.name supervised --num-steps 160 --optim.batch-size 32 --optim.learning-rate 1e-4 \
    --optim.fast-learning-rate 1e-4 --optim.schedule constant --validate-every 40 --checkpoint-every 80 \
    --data.train-roots "$datasets/textzoom/train2" --data.benchmark-roots "$datasets"/textzoom/test/{easy,medium,hard}
