# Everything works from a fresh clone: `make demo`, `make test`.
#
# PYTHON       `make demo PYTHON=python`: an environment of your own, e.g. with
#              a CUDA build of torch. It is checked and never changed.
#              Default: .venv, made here, whatever else is activated.
# OPERATORS    who computes NMS and RoIAlign; later makes keep the choice.
#              lite: mmcv-lite, nothing compiled (default); torchvision: and
#              torchvision beside torch; mmcv: mmcv's own, compiled
# ONEDL=1      `make test ONEDL=1`: the maintained forks, in .venv-onedl
# TORCH_INDEX  where .venv takes torch from, e.g. the CPU wheels of pytorch.org
# COVERAGE=1   `make test COVERAGE=1`: and report what the tests have not run
# JOBS         `make test JOBS=8`: tests side by side; default: one per core
# DEMO_CONFIG, DEMO_DIR, PYTEST_ARGS, BENCHMARK_ARGS, CHECK_GPU_ARGS
#
# Why so little here: tools/setup_env.sh keeps one stamp per finished step and
# returns at once when there is nothing to do.

DEMO_CONFIG ?= configs/synthetic/panoptic-fpn_tiny_synthetic.py
DEMO_DIR    ?= work_dirs/demo
PYTEST_ARGS ?=
JOBS        ?= logical
BENCHMARK_ARGS ?=
CHECK_GPU_ARGS ?=

# Only from the command line: a PYTHON that a shell exports does not count.
ifneq ($(origin PYTHON),command line)
  PYTHON  := .venv$(if $(ONEDL),-onedl)/bin/python
  runtime := tools/setup_env.sh runtime
  tests   := tools/setup_env.sh tests
  docs    := $(tests)
  made    := $(runtime)
else
  runtime := $(PYTHON) tools/check_env.py
  tests   := $(runtime)
  docs    := true
  made    := true
endif
sources  := projects configs tools tests benchmarks
coverage := --cov --cov-config=setup.cfg --cov-report=term --cov-report=html
export OPERATORS TORCH_INDEX ONEDL

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow benchmark check-gpu docs lint check env clean-env

help: ## Print this
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 18

demo: ## Train, evaluate and draw on synthetic data
	@$(runtime)
	$(PYTHON) tools/train.py $(DEMO_CONFIG) --work-dir $(DEMO_DIR)
	$(PYTHON) tools/test.py $(DEMO_CONFIG) \
		"$$(ls -t $(DEMO_DIR)/best_*.pth | head -n 1)" \
		--work-dir $(DEMO_DIR) --show-dir $(DEMO_DIR)/pictures \
		--cfg-options default_hooks.visualization.test_num_images=24

test: ## Run the tests (PYTEST_ARGS="-k merge" for some)
	@$(tests)
	$(PYTHON) -m pytest -n $(JOBS) $(if $(COVERAGE),$(coverage)) $(PYTEST_ARGS)

test-slow: ## Run the slow tests, which `make test` leaves out
	@$(tests)
	$(PYTHON) -m pytest -m slow $(if $(COVERAGE),$(coverage)) $(PYTEST_ARGS)

benchmark: ## Time, memory, launches and waits beside mmdet's
	@$(tests)
	$(PYTHON) -m benchmarks.run $(BENCHMARK_ARGS)

check-gpu: ## Check a GPU: is it right, is it as fast as mmdet? (docs/gpu.md)
	@$(made) # a given PYTHON may lack what training needs
	$(PYTHON) tools/check_gpu.py $(CHECK_GPU_ARGS)

# Links that leave docs/ lead to repo_url of zensical.toml, or to this checkout;
# with a `?`, or the generator looks for a page of its own behind `x.md`.
repository = $(shell sed -n 's|^repo_url = "\(.*\)"|\1/blob/main|p' zensical.toml)
docs: ## Build the site of docs/: build/site
	@$(docs)
	rm -rf build/docs build/site
	mkdir -p build
	cp -r docs zensical.toml build
	sed -i 's#](\.\./\([^)#]*\)#]($(or $(repository),file://$(CURDIR))/\1?#g' build/docs/*.md
	$(PYTHON) -m zensical build --strict --config-file build/zensical.toml

lint: ## Check style, order of imports, spelling and types
	@$(tests)
	$(PYTHON) -m flake8 $(sources)
	$(PYTHON) -m isort --check-only --diff $(sources)
	$(PYTHON) -m codespell_lib $(sources) docs requirements *.md Makefile
	$(PYTHON) -m mypy

env: ## Only make or complete the environment
	@$(tests)

check: ## Print versions and what would not work
	@$(PYTHON) tools/check_env.py

clean-env: ## Remove .venv (ONEDL=1: that of the forks)
	rm -rf .venv$(if $(ONEDL),-onedl)
