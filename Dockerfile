# The README's two steps in a container, for CPUs:
#
#   docker build -t panoptic-fpn .
#   docker run --rm -it --shm-size 2g panoptic-fpn make demo
#
# For GPUs, a base whose `python` has torch and torchvision, which it keeps:
#
#   docker build -t panoptic-fpn --build-arg BASE=pytorch/pytorch:TAG .
#   docker run --rm -it --shm-size 2g --gpus all panoptic-fpn make demo PYTHON=python
#
# Other bases: Debian 12 and 13, Ubuntu 22.04 and 24.04. TORCH_INDEX: the CPU
# wheels that pytorch.org names make the image several GB smaller.
ARG BASE=debian:12-slim
FROM ${BASE}
ARG TORCH_INDEX=
RUN apt-get update && \
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        make python3-venv libgl1 libglib2.0-0 && \
    rm -rf /var/lib/apt/lists/*
RUN useradd --create-home user
USER user
WORKDIR /home/user/panoptic-fpn
COPY --chown=user . .
RUN if python -c 'import torch, torchvision' 2>/dev/null; then \
        export PIP_BREAK_SYSTEM_PACKAGES=1 && \
        pip install -r requirements/runtime.txt && \
        pip install --no-deps -e .; \
    else make env; fi
