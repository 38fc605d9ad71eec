#!/usr/bin/env bash
# Students of 600 updates, distilled and by cross entropy, two seeds each, beside the enlarged teacher.
# bash docs/reproduce/first_table.sh DATASETS
set -euo pipefail
datasets=${1:?give the folder with train/ and benchmark_degraded/}
for seed in 0 1; do
    for objective in distillation supervised; do
        python pipelines/train.py parseq_tiny_ltr --recognizer.student-form published \
        --name "$objective-seed$seed" --seed "$seed" \
            --objective.name "$objective" --num-steps 600 --optim.batch-size 32 --validate-every 100 \
            --checkpoint-every 100 --data.train-roots "$datasets/train" \
            --data.benchmark-roots "$datasets/benchmark_degraded"
    done
done
python pipelines/train.py parseq_tiny_ltr --recognizer.student-form published \
        --name untrained --num-steps 0 \
    --data.train-roots "$datasets/train" --data.benchmark-roots "$datasets/benchmark_degraded"
python pipelines/evaluate.py runs/untrained runs/distillation-seed{0,1} runs/supervised-seed{0,1} \
    --data.benchmark-roots "$datasets/benchmark_degraded"
