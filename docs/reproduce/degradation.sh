#!/usr/bin/env bash
# Single images for training, real low resolution for the test: low_res made by `mixed` or by `published`.
# Cross entropy, 160 updates of 32; the last weights of each.  bash docs/reproduce/degradation.sh DATASETS
set -euo pipefail
datasets=${1:?give the folder with train/ and textzoom/}
tests=("$datasets"/textzoom/test/{easy,medium,hard})
for degradation in mixed published; do
    python pipelines/train.py parseq_tiny_ltr --name "degradation-$degradation" --data.train-degradation "$degradation" \
        --objective.name supervised --num-steps 160 --optim.batch-size 32 --optim.learning-rate 1e-4 \
        --optim.fast-learning-rate 1e-4 --optim.schedule cosine --optim.warmup-steps 10 \
        --validate-every 1000 --checkpoint-every 1000 \
        --data.train-roots "$datasets"/train/{IC15,IIIT5K,SVT} --data.benchmark-roots "${tests[@]}"
done
python - <<'PYTHON'
import shutil
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

for name in ("mixed", "published"):
    run, last = Path(f"runs/degradation-{name}"), Path(f"last-{name}")
    state = torch.load(run / "checkpoints/step-00000160/state.pt", map_location="cpu", weights_only=False)["distiller"]
    with safe_open(run / "student/student.safetensors", "pt") as chosen:
        weights = {key: state[f"student.{key}"].contiguous() for key in chosen.keys()}
        last.mkdir(exist_ok=True)
        save_file(weights, last / "student.safetensors", metadata=chosen.metadata())
    shutil.copy(run / "student/config.yaml", last)
PYTHON
python pipelines/evaluate.py last-mixed last-published --data.benchmark-roots "${tests[@]}" --output-folder degradation
