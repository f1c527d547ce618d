#!/usr/bin/env bash
# Evaluate with several processes on one or more machines.
#
#   tools/dist_test.sh CONFIG CHECKPOINT GPUS [options of tools/test.py]
#   tools/dist_test.sh X2_CONFIG INSTANCE.pth SEMANTIC.pth GPUS [options]
#
# GPUS is the number of processes on this machine; without a GPU they run on
# the CPU. Environment: NNODES, NODE_RANK, MASTER_ADDR, PORT, PYTHON.
set -eu

if [ $# -lt 3 ]; then
    echo "usage: $0 CONFIG CHECKPOINT GPUS [options of tools/test.py]" >&2
    exit 2
fi
CONFIG=$1
CHECKPOINTS=("$2")
shift 2
while [ $# -gt 0 ] && ! [[ $1 =~ ^[0-9]+$ ]]; do
    CHECKPOINTS+=("$1")
    shift
done
GPUS=${1:?the number of processes is missing}
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
