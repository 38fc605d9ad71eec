#!/usr/bin/env bash
# The student that comes with the package: every kind of text, real and synthetic low resolution. An hour on one CPU core.
# bash docs/reproduce/everyday.sh DATASETS
# On a GPU, with millions of images: bash docs/reproduce/everyday.sh DATASETS --optim.batch-size 256 --num-steps 8000 \
#     --optim.learning-rate 2e-4 --optim.fast-learning-rate 2e-4 --data.num-rendered-beside-roots 300000
# Further options go to train.py, --data.unlabelled-roots for instance.
set -euo pipefail
datasets=${1:?give the folder with textzoom/ and train/}
cp -rn "$datasets/textzoom/train2" train2-again # a root that is named twice counts once
python pipelines/train.py everyday_ltr --name everyday --validate-every 200 --checkpoint-every 200 \
    --data.train-roots "$datasets/textzoom/train2" train2-again "$datasets"/train/{IC15,IIIT5K,SVT} \
    --data.benchmark-roots "$datasets"/textzoom/test/{easy,medium,hard} "${@:2}"
