#!/usr/bin/env bash
# Six objectives, two seeds, half an epoch each: about an hour on one core.
# bash docs/reproduce/objectives.sh DATASETS
set -euo pipefail
datasets=${1:?give the folder with train/ and benchmark_degraded/}
python pipelines/compare.py parseq_tiny_ltr --recognizer.student-form published \
        --name objectives --seeds 0 1 \
    --objectives supervised dfd a_skd unified dld distillation \
    --num-steps 200 --optim.batch-size 16 --optim.warmup-steps 20 --validate-every 100 --data.validation-fraction 0.1 \
    --data.train-roots "$datasets/train" --data.benchmark-roots "$datasets"/benchmark_degraded/{SVT,SVTP,CUTE80}
