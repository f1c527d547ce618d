#!/usr/bin/env bash
# Make and complete .venv, one step after another.
#
#   tools/setup_env.sh runtime    what training and evaluation need
#   tools/setup_env.sh tests      and what the tests need
#   tools/setup_env.sh docs       only the generator of the site
#   tools/setup_env.sh machine    only look for a usable Python and for what
#                                 Debian has to provide; changes nothing
#
# A finished step leaves a stamp, .venv/.stamps/STEP: the checksum of what it
# was made from (the Python, its requirement files, the step before). A step
# whose stamp is missing or differs is done again, so an interrupted set-up
# continues where it stopped and a changed pin is followed. With all stamps
# valid nothing is run.
#
# ONEDL=1       the maintained forks (requirements/onedl.txt) in .venv-onedl
# TORCH_INDEX   package index for torch alone (default: the usual one)
# MAX_JOBS      compilers that run at once (default: by cores and memory)
# FORCE_CUDA=1  compile mmcv's CUDA operators although no GPU is visible
set -euo pipefail
cd "$(dirname "$0")/.."
VENV=.venv${ONEDL:+-onedl}
STAMPS=$VENV/.stamps
PY=$VENV/bin/python

say() { echo "set-up: $*"; }
die() { echo "set-up: $*" >&2; exit 1; }

supported() {  # PYTHON: runs and is 3.10, 3.11 or 3.12
  "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' \
    >/dev/null 2>&1
}

find_python() {
  local name found=
  for name in python3 python3.12 python3.11 python3.10; do
    if supported "$name"; then echo "$name"; return; fi
    if "$name" -V >/dev/null 2>&1; then found+=" $("$name" -V 2>&1) ($name)"; fi
  done
  die "Python 3.10, 3.11 or 3.12 is needed; found:${found:- none}. Debian 12," \
    'Ubuntu 22.04 and 24.04: apt-get install python3 python3-venv python3-dev;' \
    'elsewhere put one of them on PATH (pyenv, conda, uv).'
}

check_machine() {  # PYTHON
  "$1" tools/check_env.py machine || die 'install that and run make again.'
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
  supported "$PY" || die "$PY does not run, or is not Python 3.10 to 3.12" \
    '(was the Python it was made with replaced?): run make clean-env.'
  mkdir -p "$STAMPS"
}

# The stamp of a step is a checksum over what comes before it, too.
key=
next_key() {  # [FILE...]
  key=$({ echo "$key"; [ $# = 0 ] || cat "$@"; } | sha256sum | cut -c1-64)
}

step() {  # NAME DESCRIPTION FUNCTION [REQUIREMENT FILE...]
  local name=$1 description=$2 function=$3 start=$SECONDS
  shift 3
  next_key "$@"
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

install_build() { pip_logged build install -r requirements/build.txt; }

install_torch() {
  pip_logged torch install -r requirements/torch.txt \
    ${TORCH_INDEX:+--index-url "$TORCH_INDEX"}
}

jobs_that_fit() {  # one compiler takes up to 1.5 GB
  local cores memory
  cores=$(nproc)
  memory=$(awk '/MemAvailable/ {print int($2 / 1500000)}' /proc/meminfo)
  echo $((memory < 1 ? 1 : memory < cores ? memory : cores))
}

torch_version() {  # warns of the numpy that comes later
  "$PY" -W ignore -c 'import torch; print(torch.__version__)'
}

install_mmcv() {
  # Now, and not after ten minutes of compiling.
  check_machine "$PY"
  "$PY" tools/check_env.py build || die 'stopped before the build of mmcv.'
  local torch rebuild=()
  torch=$(torch_version)
  # pip takes an mmcv that is installed, or a wheel that it built earlier,
  # for good, whatever torch it was compiled for.
  if [ "$(cat "$STAMPS/mmcv-torch" 2>/dev/null || echo "$torch")" != "$torch" ] ||
    [ -n "${FORCE_CUDA:-}" ]; then
    rebuild=(--no-cache-dir --force-reinstall --no-deps)
  fi
  rm -f "$STAMPS/mmcv-torch"
  compile_mmcv "${rebuild[@]}"
  if ! "$PY" -c 'import mmcv.ops' 2>/dev/null; then
    say 'mmcv: the wheel in the cache of pip does not fit, compiling'
    compile_mmcv --no-cache-dir --force-reinstall --no-deps
    "$PY" -c 'import mmcv.ops'
  fi
  echo "$torch" >"$STAMPS/mmcv-torch"
}

compile_mmcv() {  # PIP OPTIONS
  MMCV_WITH_OPS=1 MAX_JOBS=${MAX_JOBS:-$(jobs_that_fit)} pip_logged mmcv \
    install --no-build-isolation "$@" -c requirements/runtime.txt \
    -r requirements/mmcv.txt
}

install_runtime() { pip_logged runtime install -r requirements/runtime.txt; }

# The forks have the import names of these three.
install_runtime_of_forks() {
  grep -vE '^(mmengine|mmdet|mmsegmentation)==' requirements/runtime.txt \
    >"$STAMPS/runtime.txt"
  pip_logged runtime install -r "$STAMPS/runtime.txt"
}

install_forks() {
  MMCV_WITH_OPS=1 MAX_JOBS=${MAX_JOBS:-$(jobs_that_fit)} pip_logged forks \
    install --no-deps --no-build-isolation -r requirements/onedl.txt
  "$PY" -c 'import mmcv.ops' || die 'onedl-mmcv has no operators: another' \
    'torch compiled it? run make clean-env ONEDL=1 with PIP_NO_CACHE_DIR=1.'
}

# --no-deps: the steps before have installed what it needs.
install_project() {
  pip_logged project install --no-deps --no-build-isolation -e .
}

check_runtime() {
  "$PY" tools/check_env.py || die 'the environment is not usable, see above.'
}

install_tests() {
  pip_logged tests install -c requirements/runtime.txt -r requirements/tests.txt
}

install_docs() {
  pip_logged docs install -c requirements/runtime.txt -r requirements/docs.txt
}

install_oracle() {
  pip_logged oracle install --no-deps -r requirements/oracle.txt
}

case ${1:-} in
  runtime | tests | docs) ;;
  machine) python=$(find_python); check_machine "$python"; exit ;;
  *) echo "usage: $0 runtime|tests|docs|machine" >&2; exit 2 ;;
esac

# Two makes at once would install into one environment: the second waits.
if command -v flock >/dev/null; then
  exec 9<"$0"
  flock -n 9 || { say 'another set-up is running, waiting'; flock 9; }
fi

make_venv
key=$("$PY" -V)
if [ "$1" = docs ]; then
  step docs 'the generator of the site' install_docs requirements/docs.txt
  exit
fi
step build 'pip, setuptools and what compiles mmcv' install_build \
  requirements/build.txt
step torch 'about 200 MB for CPUs, several GB with CUDA; minutes' \
  install_torch requirements/torch.txt
if [ -n "${ONEDL:-}" ]; then
  step runtime 'what the forks need; a minute' install_runtime_of_forks \
    requirements/runtime.txt
  step forks "compiling onedl-mmcv's operators, 12 minutes on 2 cores (seconds \
where pip kept the wheel)" install_forks requirements/onedl.txt
else
  step mmcv "compiling its operators, 12 minutes on 2 cores (seconds where pip \
kept the wheel)" install_mmcv requirements/mmcv.txt
  step runtime 'mmengine, mmdet, mmsegmentation and the rest; a minute' \
    install_runtime requirements/runtime.txt
fi
step project "this repository's packages, in place" install_project \
  setup.cfg pyproject.toml
step check 'every package is imported once' check_runtime
if [ "$1" = tests ]; then
  step tests 'pytest, flake8, isort, and what optional tools need; a minute' \
    install_tests requirements/{tests,browser,webdemo,onnx,paper}.txt
  step oracle 'panopticapi, which the tests compare with' install_oracle \
    requirements/oracle.txt
fi
