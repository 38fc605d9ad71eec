#!/usr/bin/env bash
# Parameters and multiply-accumulates of every recognizer, beside the published figures.
set -euo pipefail
python pipelines/models.py --sizes
