#!/usr/bin/env bash
# Evaluate with several processes on one or more machines.
#
#   tools/dist_test.sh CONFIG CHECKPOINT GPUS [options of tools/test.py]
#   tools/dist_test.sh X2_CONFIG INSTANCE.pth SEMANTIC.pth GPUS [options]
#
# GPUS is the number of processes on this machine; without a GPU they run on
# the CPU. Environment: NNODES, NODE_RANK, MASTER_ADDR, PORT, PYTHON.
set -eu

usage() {
    echo "usage: $0 CONFIG CHECKPOINT [CHECKPOINT] GPUS" \
        "[options of tools/test.py]" >&2
    exit 2
}
[ $# -ge 3 ] || usage
CONFIG=$1
CHECKPOINTS=("$2")
shift 2
while [[ $# -gt 0 && $1 != -* && ! $1 =~ ^[0-9]+$ ]]; do
    CHECKPOINTS+=("$1")
    shift
done
[[ $# -gt 0 && $1 =~ ^[0-9]+$ ]] || usage
GPUS=$1
shift
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}" \
exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$GPUS" \
    "$ROOT/tools/test.py" "$CONFIG" "${CHECKPOINTS[@]}" \
    --launcher pytorch "$@"
