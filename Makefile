# Each target does its own set-up from Debian's python3 with venv, and works from any directory (make -C, make -f).
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
ROOT := $(dir $(abspath $(lastword $(MAKEFILE_LIST))))
override MAKEFLAGS += --no-print-directory
PYTHON ?= python3
VENV := $(ROOT).venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
JOBS ?= $(shell nproc)
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps

# Tests start hundreds of processes: none of them should compile again what stands compiled beside its source.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: test demo lint install deb wheel man test-systemd test-package debian-tree test-vllm test-vllm-systemd \
  test-gpu bench-gpu test-prometheus test-terminal test-browser test-proxies soak soak-gateway bench clean

REALVLLM := $(ROOT).cache/realvllm

$(READY): $(ROOT)requirements.txt $(ROOT)requirements-dev.txt $(ROOT)requirements-otel.txt $(ROOT)pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(f"sleepd needs Python 3.11 or newer, found {sys.version.split()[0]}; set PYTHON=") if sys.version_info < (3, 11) else None'
	@echo "setting up $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PIP) -r $(ROOT)requirements.txt -r $(ROOT)requirements-dev.txt -r $(ROOT)requirements-otel.txt
	@# The stand-in for libnvidia-ml.so.1 is C: where there is no compiler, a pinned one comes as a wheel.
	@command -v cc >/dev/null || $(PIP) -r $(ROOT)tests/fakenvml/requirements-zig.txt
	@$(PIP) --no-build-isolation -e $(ROOT)
	@touch $@

# Tests that need nothing which is not set up here.
ALONE := not vllm and not gpu and not soak and not prometheus and not proxies and not terminal and not browser and not systemd and not package

# More workers than cores, since they wait: for clocks now and then, and more than half of the time for processes.
test: $(READY)
	@cd $(ROOT) && $(BIN)/python -m pytest -q -n $$(($(JOBS) + 1)) --dist worksteal -m "$(ALONE)" --ignore tests/integration tests
	@# Real processes get the machine to themselves, not what the simulator leaves over. Handed out one by one, in order.
	@cd $(ROOT) && $(BIN)/python -m pytest -q -n $$(($(JOBS) + 2)) --dist load --maxschedchunk 1 -m "$(ALONE)" tests/integration

# Hours: a hundred thousand seeds of the simulator, then a daemon killed at every moment of every transition.
SEEDS ?= 100000
soak: $(READY)
	@cd $(ROOT) && SEEDS=$(SEEDS) $(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal tests/simulation
	@cd $(ROOT) && $(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal -m soak --ignore tests/integration/test_soak_gateway.py tests/integration

# Ten minutes: 200 clients of every sort and four models with room for one and a half, while the daemon is restarted and
# reloaded and engines are killed. Prints what became of every request.
SOAK_SECONDS ?= 600
soak-gateway: $(READY)
	@cd $(ROOT) && SOAK_SECONDS=$(SOAK_SECONDS) $(BIN)/python -m pytest -q -s -m soak tests/integration/test_soak_gateway.py

lint: $(READY)
	@cd $(ROOT) && $(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports --config pyproject.toml --no-logo

# The installer returns at once when nothing that it installs from has changed. Each worker has two servers of its own,
# and waits for them more than they compute.
test-vllm: $(READY)
	@$(PYTHON) $(ROOT)tests/realvllm/install.py $(REALVLLM)
	@$(PIP) -r $(ROOT)tests/realvllm/requirements-clients.txt
	@cd $(ROOT) && $(BIN)/python -m pytest -q -n 2 --dist loadfile -m "vllm and not systemd" tests/contract tests/realvllm

# As root: the program with all it needs, units, rules and an example configuration (docs/systemd.md says what comes next).
# DESTDIR: another root. INSTALL_PYTHON: which Python of that root runs it; not one below /home or /root.
INSTALL_PYTHON ?= /usr/bin/python3
install: $(READY)
	@BUILDER=$(BIN)/python $(ROOT)packaging/install.sh "$(DESTDIR)" $(INSTALL_PYTHON)

# dist/sleepd_VERSION_ARCH.deb, for the Python of the Debian that it is built on (docs/packaging.md). Needs debhelper.
deb: $(READY)
	@BUILDER=$(BIN)/python $(ROOT)packaging/deb.sh $(ROOT)dist

# dist/*.whl
wheel: $(READY)
	@$(BIN)/python -m pip wheel -qq --disable-pip-version-check --no-deps --no-build-isolation -w $(ROOT)dist $(ROOT)

# dist/man/sleepd.8, sleepctl.1, sleepd.toml.5, from the pages of the reference
man: $(READY)
	@cd $(ROOT) && $(BIN)/python -m sleepd.man_doc docs dist/man

# A real systemd, twice: Debian 12's own and a newer one. Needs root, unshare, and the packages systemd, dbus and polkitd.
test-systemd: $(READY)
	@$(BIN)/python $(ROOT)tests/system/run.py

# A real vLLM on a real GPU that nobody else uses meanwhile; what is needed is said where it is missing
# (docs/real-vllm.md). Five minutes once the models are made.
test-gpu: $(READY)
	@cd $(ROOT) && $(BIN)/python -m tests.gpu.gpu_server
	@cd $(ROOT) && $(BIN)/python -m pytest -q -m gpu tests/gpu

# What a sleep and a wake take there, as a table.
bench-gpu: $(READY)
	@cd $(ROOT) && $(BIN)/python -m benchmarks.gpu_sleep

# With real vLLM servers as units, sleepd from its package, and README's start with them on a clean Debian; some minutes.
test-vllm-systemd: deb debian-tree
	@$(PYTHON) $(ROOT)tests/realvllm/install.py $(REALVLLM)
	@$(BIN)/python $(ROOT)tests/system/run.py --real-vllm
	@cd $(ROOT) && SLEEPD_REALVLLM=$(REALVLLM) $(BIN)/python -m pytest -q -m "package and vllm" tests/package

# The Debian package in a clean Debian of its own: installed, upgraded, removed, and README's start word by word. Needs what
# test-systemd needs, and debhelper, lintian, mmdebstrap and man-db. With -j 2 both are made at once.
test-package: $(READY) deb debian-tree
	@cd $(ROOT) && $(BIN)/python -m pytest -q -n 2 --dist worksteal -m "package and not vllm" tests/package

debian-tree:
	@$(ROOT)tests/package/tree.sh $(ROOT).cache/package/tree

# Debian's Prometheus, unpacked into .cache: no service is installed. Under a minute.
test-prometheus: $(READY)
	@$(PYTHON) $(ROOT)tests/debian.py $(ROOT).cache/prometheus prometheus:prometheus,promtool
	@cd $(ROOT) && $(BIN)/python -m pytest -q -m prometheus tests/prometheus

# Debian's nginx and Caddy with the configurations of examples/forward-auth. Under half a minute.
test-proxies: $(READY)
	@$(PYTHON) $(ROOT)tests/debian.py $(ROOT).cache/proxies nginx:nginx caddy:caddy
	@cd $(ROOT) && $(BIN)/python -m pytest -q -n $(JOBS) -m proxies tests/proxies

# sleepctl top in tmux, and Tab in zsh and fish: Debian's packages of these names.
test-terminal: $(READY)
	@for p in tmux zsh fish; do command -v $$p >/dev/null || { echo "wanted $$p, found none: apt-get install tmux zsh fish" >&2; exit 1; }; done
	@cd $(ROOT) && $(BIN)/python -m pytest -q -n $(JOBS) -m terminal tests/terminal

# Debian's chromium and chromium-driver, headless. Under a minute.
test-browser: $(READY)
	@cd $(ROOT) && $(BIN)/python -m pytest -q -m browser tests/browser

demo: $(READY)
	@$(BIN)/sleepd demo

# About a quarter of an hour, much of it waiting for wakes. All print whether their goal was met; only a failure to
# measure fails the target.
bench: $(READY)
	@cd $(ROOT) && { $(BIN)/python benchmarks/turn.py || test $$? -eq 1; }
	@cd $(ROOT) && { $(BIN)/python benchmarks/cli.py || test $$? -eq 1; }
	@cd $(ROOT) && { $(BIN)/python benchmarks/wake_overhead.py || test $$? -eq 1; }
	@cd $(ROOT) && { $(BIN)/python benchmarks/gateway.py || test $$? -eq 1; }
	@cd $(ROOT) && { $(BIN)/python benchmarks/history.py || test $$? -eq 1; }
	@cd $(ROOT) && { $(BIN)/python benchmarks/footprint.py || test $$? -eq 1; }
	@cd $(ROOT) && $(BIN)/python benchmarks/switch.py
	@cd $(ROOT) && $(BIN)/python benchmarks/contention.py
	@cd $(ROOT) && $(BIN)/python -m benchmarks.restart

clean:
	@rm -rf $(VENV) $(ROOT).cache $(ROOT)build $(ROOT)dist $(ROOT).mypy_cache $(ROOT).ruff_cache $(ROOT).pytest_cache $(ROOT).hypothesis
