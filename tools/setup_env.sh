#!/usr/bin/env bash
# Make and complete .venv, one step after another.
#
#   tools/setup_env.sh runtime    what training and evaluation need
#   tools/setup_env.sh tests      and what the tests need
#   tools/setup_env.sh machine    only look for a usable Python and for what
#                                 Debian has to provide; changes nothing
#
# A finished step leaves a stamp, .venv/.stamps/STEP: the checksum of what it
# was made from (the Python, its requirement files, the step before). A step
# whose stamp is missing or differs is done again, so an interrupted set-up
# continues where it stopped and a changed pin is followed. With all stamps
# valid nothing is run.
#
# OPERATORS     who computes NMS and RoIAlign. The choice is remembered in
#               .venv/.stamps/operators, and the environment follows a new one.
#     lite          mmcv-lite, nothing compiled (default); where a GPU is
#                   visible this means torchvision
#     torchvision   mmcv-lite, and torchvision beside torch
#     mmcv          mmcv with all of its operators, compiled: g++, python3-dev
#                   and 12 minutes on 2 cores
# ONEDL=1       the maintained forks (requirements/onedl.txt) in .venv-onedl
# TORCH_INDEX   package index for torch and torchvision (default: the usual one)
# MAX_JOBS      compilers that run at once (default: by cores and memory)
# FORCE_CUDA=1  compile mmcv's CUDA operators although no GPU is visible
set -euo pipefail
cd "$(dirname "$0")/.."
VENV=.venv${ONEDL:+-onedl}
STAMPS=$VENV/.stamps
PY=$VENV/bin/python

say() { echo "set-up: $*"; }
die() { echo "set-up: $*" >&2; exit 1; }

supported() {  # PYTHON: runs and is 3.10 to 3.13
  "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' \
    >/dev/null 2>&1
}

find_python() {
  local name found=
  for name in python3 python3.13 python3.12 python3.11 python3.10; do
    if supported "$name"; then echo "$name"; return; fi
    if "$name" -V >/dev/null 2>&1; then found+=" $("$name" -V 2>&1) ($name)"; fi
  done
  die "Python 3.10 to 3.13 is needed; found:${found:- none}. Debian 12 and 13," \
    'Ubuntu 22.04 and 24.04: apt-get install python3 python3-venv;' \
    'elsewhere put one of them on PATH (pyenv, conda, uv).'
}

check_machine() {  # PYTHON
  OPERATORS=$operators "$1" tools/check_env.py machine ||
    die 'install that and run make again.'
}

gpu_visible() {
  [ "${CUDA_VISIBLE_DEVICES-all}" ] && [[ $(nvidia-smi -L 2>&1) == *'GPU 0'* ]]
}

choose_operators() {
  remembered=$(cat "$STAMPS/operators" 2>/dev/null) || true
  # From before there was a choice: compiled.
  if [ -e "$STAMPS/mmcv-torch" ] || [ -e "$STAMPS/forks" ]; then
    : "${remembered:=mmcv}"
  fi
  operators=${OPERATORS:-${remembered:-lite}}
  case $operators in
    lite | torchvision | mmcv) ;;
    *) die "OPERATORS=$operators: it is lite, torchvision or mmcv." ;;
  esac
  if [ "$operators" = lite ] && [ "$remembered" != lite ] && gpu_visible; then
    operators=torchvision
  fi
}

# Every mmcv writes the same files: the old one goes before another comes. So
# do the stamps of the steps that install one, or an interrupted switch, and a
# switch there and back, would find them valid and leave no mmcv.
remember_operators() {
  if [ "$operators" != "$remembered" ]; then
    check_machine "$PY"
    rm -f "$STAMPS"/{runtime,mmcv,forks}
    pip_logged uninstall uninstall -y mmcv mmcv-lite onedl-mmcv
  fi
  echo "$operators" >"$STAMPS/operators"
}

make_venv() {
  # The marker distinguishes a folder interrupted here from one that the
  # user made: only the first is removed.
  if [ -e "$STAMPS/unfinished" ]; then
    say "$VENV was left half made: starting it again"
    rm -rf "$VENV"
  fi
  if [ ! -e "$VENV" ]; then
    local python
    python=$(find_python)
    check_machine "$python"
    local active=${VIRTUAL_ENV:-${CONDA_PREFIX:-}}
    if [ -n "$active" ]; then
      say "$active is active and stays as it is; make ... PYTHON=python uses it"
    fi
    say "making $VENV with $("$python" -V)"
    mkdir -p "$STAMPS"
    touch "$STAMPS/unfinished"
    "$python" -m venv "$VENV"
    rm "$STAMPS/unfinished"
  fi
  supported "$PY" || die "$PY does not run, or is not Python 3.10 to 3.13" \
    '(was the Python it was made with replaced?): run make clean-env.'
  mkdir -p "$STAMPS"
}

step() {  # NAME DESCRIPTION FUNCTION [REQUIREMENT FILE...]
  local name=$1 description=$2 function=$3 start=$SECONDS
  shift 3
  # a checksum over what comes before, too
  key=$({ echo "$key"; [ $# = 0 ] || cat "$@"; } | sha256sum | cut -c1-64)
  if [ "$(cat "$STAMPS/$name" 2>/dev/null)" = "$key" ]; then return; fi
  say "$name: $description"
  rm -f "$STAMPS/$name"
  "$function"
  echo "$key" >"$STAMPS/$name"
  say "$name: done in $((SECONDS - start)) s"
}

# Run pip with its output in a log. A line a minute shows that it is alive;
# after an error the end of the log is shown. The sleep outlives the loop, so
# it must not hold the terminal, or a pipe that someone reads to its end.
# --no-compile: Python compiles the few of 11,000 modules that are imported.
pip_logged() {  # LOG ARGUMENTS
  local log=$STAMPS/$1.log start=$SECONDS
  shift
  ( while sleep 60 >/dev/null && kill -0 $$; do
      echo "set-up:   $(((SECONDS - start) / 60)) min so far, log: $log"
    done ) 2>/dev/null </dev/null 9>&- &
  local beat=$! code=0
  trap "kill $beat 2>/dev/null" EXIT
  "$PY" -m pip --disable-pip-version-check --no-input "$@" >"$log" 2>&1 9>&- ||
    code=$?
  kill $beat 2>/dev/null || true
  trap - EXIT
  [ $code = 0 ] || { tail -n 40 "$log" >&2; die "pip failed, whole log: $log"; }
}

# Without what stands in for it: a compiled mmcv, or the forks.
install_runtime() {
  local replaced='^$'
  if [ "$operators" = mmcv ]; then replaced='^mmcv-lite=='; fi
  if [ -n "${ONEDL:-}" ]; then
    replaced='^(mmengine|mmcv-lite|mmdet|mmsegmentation)=='
  fi
  grep -vE "$replaced" requirements/runtime.txt >"$STAMPS/runtime.txt"
  pip_logged runtime install --no-compile -r "$STAMPS/runtime.txt"
}

install_torch() {
  pip_logged torch install --no-compile "${torch[@]/#/-r}" \
    ${TORCH_INDEX:+--index-url "$TORCH_INDEX"}
}

jobs_that_fit() {  # one compiler takes up to 1.5 GB
  local cores memory
  # the threads that OpenMP may use are not meant
  cores=$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc)
  memory=$(awk '/MemAvailable/ {print int($2 / 1500000)}' /proc/meminfo)
  echo $((memory < 1 ? 1 : memory < cores ? memory : cores))
}

build_mmcv() {  # PIP OPTIONS
  MMCV_WITH_OPS=1 MAX_JOBS=${MAX_JOBS:-$(jobs_that_fit)} pip_logged mmcv \
    install --no-deps --no-build-isolation -r "$mmcv" "$@"
}

# pip takes an mmcv that is installed, or a wheel that it built earlier, for
# good, whatever torch and operators it was compiled for.
install_mmcv() {
  if [ "$operators" != mmcv ]; then
    # built in isolation, without torch, onedl-mmcv has no operators
    pip_logged mmcv install --no-deps --no-cache-dir -r "$mmcv"
    return
  fi
  local torch options=() again=(--no-cache-dir --force-reinstall)
  torch=$("$PY" -c 'import torch; print(torch.__version__)')
  if [ "$(cat "$STAMPS/mmcv-torch" 2>/dev/null || echo "$torch")" != "$torch" ] ||
    [ "${FORCE_CUDA:-}" ]; then
    options=("${again[@]}")
  fi
  rm -f "$STAMPS/mmcv-torch"
  say 'mmcv: compiling, 12 minutes on 2 cores (seconds where pip kept the wheel)'
  pip_logged build install -r requirements/build.txt
  build_mmcv "${options[@]}"
  if ! "$PY" -c 'import mmcv.ops' 2>/dev/null; then
    say 'mmcv: the wheel in the cache of pip does not fit, compiling'
    build_mmcv "${again[@]}"
    "$PY" -c 'import mmcv.ops'
  fi
  echo "$torch" >"$STAMPS/mmcv-torch"
}

# --no-deps: the steps before have installed what it needs.
install_project() {
  pip_logged project install --no-deps --no-build-isolation -e .
}

check_runtime() {
  "$PY" tools/check_env.py || die 'the environment is not usable, see above.'
}

install_tests() {
  pip_logged tests install --no-compile -c requirements/runtime.txt \
    -r requirements/tests.txt
  pip_logged oracle install --no-deps -r requirements/oracle.txt
}

case ${1:-} in
  runtime | tests | machine) ;;
  *) echo "usage: $0 runtime|tests|machine" >&2; exit 2 ;;
esac
choose_operators
if [ "$1" = machine ]; then
  python=$(find_python)
  check_machine "$python"
  exit
fi

# Two makes at once would install into one environment: the second waits.
if command -v flock >/dev/null; then
  exec 9<"$0"
  flock -n 9 || { say 'another set-up is running, waiting'; flock 9; }
fi

make_venv
remember_operators
key="$("$PY" -V) $operators"
torch=(requirements/torch.txt)
if [ "$operators" = torchvision ]; then torch+=(requirements/torchvision.txt); fi

step runtime 'mmengine, mmdet, mmsegmentation and the rest; half a minute' \
  install_runtime requirements/runtime.txt
step torch 'about 200 MB for CPUs, several GB with CUDA; minutes' \
  install_torch "${torch[@]}"
mmcv=requirements/mmcv.txt
if [ -n "${ONEDL:-}" ]; then mmcv=requirements/onedl.txt; fi
if [ "$operators" = mmcv ] || [ -n "${ONEDL:-}" ]; then
  step mmcv 'with its operators, or of the maintained forks' \
    install_mmcv requirements/build.txt "$mmcv"
fi
step project "this repository's packages, in place" install_project \
  setup.cfg pyproject.toml
step check 'every package is imported once' check_runtime
if [ "$1" = tests ]; then
  step tests 'pytest, flake8, isort, and what optional tools need; a minute' \
    install_tests requirements/*.txt
fi
