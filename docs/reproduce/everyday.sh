#!/usr/bin/env bash
# A student for every kind of text and of low resolution. On a GPU: bash docs/reproduce/everyday.sh DATASETS
# On two CPU cores, an hour and a half: bash docs/reproduce/everyday.sh DATASETS --optim.batch-size 32 --num-steps 1300 \
#     --optim.learning-rate 1e-4 --optim.fast-learning-rate 1e-4 --data.num-rendered-beside-roots 12000
# Further options go to train.py, --data.unlabelled-roots for instance.
set -euo pipefail
datasets=${1:?give the folder with textzoom/ and train/}
python pipelines/train.py everyday_ltr --name everyday \
    --data.train-roots "$datasets/textzoom/train2" "$datasets"/train/{IC15,IIIT5K,SVT} \
    --data.benchmark-roots "$datasets"/textzoom/test/{easy,medium,hard} "${@:2}"
