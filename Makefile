# `make study` and `make test` install what they need into .venv, again only when pyproject.toml has changed.
# Options are passed on: make study ARGS="--preset smoke", make test ARGS="-k adahessian".

SHELL := /bin/sh
ARGS :=
PYTHONS := python3.13 python3.12 python3.11 python3
BIN := .venv/bin
INSTALLED := .venv/installed-in

# An active environment's paths would lead this one's Python to other packages.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV

.DEFAULT_GOAL := help
.PHONY: help install study test campaign lint docs lock image image-check audit secrets

help:  ## Say what there is (the default)
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

study: $(INSTALLED)  ## Compare the optimizers on MNIST: tune, retrain, print the table
	$(BIN)/optstudy study $(ARGS)

test campaign: export OMP_NUM_THREADS := 1
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4

test: $(INSTALLED)  ## Run the tests
	$(PYTEST) -m "not campaign" $(ARGS)

campaign: $(INSTALLED)  ## Run the tests that repeat what `make test` does once: many kills, matrices and draws
	$(PYTEST) -m campaign $(ARGS)

lint: $(INSTALLED)  ## Check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: $(INSTALLED)  ## Build the documentation into docs/_build/html; a broken link or reference fails
	$(BIN)/python docs/reference_pages.py
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --nitpicky $(ARGS) docs docs/_build/html

install: $(INSTALLED)  ## Only make .venv

# Keeps the versions that the file has, but where pyproject.toml asks for others.
lock: export CUSTOM_COMPILE_COMMAND := make lock  (all to their newest versions: make lock ARGS=--upgrade)
lock: $(INSTALLED)  ## Write requirements.lock anew from pyproject.toml
	@$(BIN)/python -c 'import platform as p, sys; sys.exit((p.python_version()[:4], p.system(), p.machine()) != ("3.11", "Linux", "x86_64"))' \
	  || { echo "requirements.lock is for Python 3.11 on x86-64 Linux: make install PYTHONS=python3.11 there" >&2; exit 1; }
	$(BIN)/python -m piptools compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-emit-options \
	  --extra ray --extra server --build-deps-for wheel --output-file requirements.lock $(ARGS) pyproject.toml

image:  ## Build the image optstudy with docker, podman or buildah
	sh deploy/image.sh $(ARGS)

image-check: $(INSTALLED)  ## Build the image on a base made here and look into it: Debian, root, buildah, mmdebstrap
	@OPTSTUDY_USER=10001:10001 $(BIN)/podman-compose --dry-run --file compose.yaml --profile study config >/dev/null
	@echo "ok   compose.yaml parses"
	$(BIN)/python deploy/image_check.py $(ARGS)

audit: $(INSTALLED)  ## Look up known vulnerabilities of what requirements.lock names
	$(BIN)/python -m pip install --quiet --group audit
	sh deploy/audit.sh $(BIN)/pip-audit $(ARGS)

secrets:  ## Make the passwords that compose.yaml needs
	sh deploy/secrets.sh

# An environment does not survive a move: one made in another folder is made again here.
ifneq ($(shell cat $(INSTALLED) 2>/dev/null),$(CURDIR))
.PHONY: $(INSTALLED)
endif

# A command of the right name may be too old, lack venv, or only say that some version manager does not use it.
$(INSTALLED): pyproject.toml
	@if [ -e $@ ] && [ "$$(cat $@)" != "$(CURDIR)" ]; then rm -rf .venv; fi
	@for python in $(PYTHONS); do \
	  if $$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "Installing into .venv with $$($$python --version)"; exec $$python -m venv .venv; \
	  fi; \
	done; \
	echo "optstudy needs Python 3.11 or newer with its venv module; none of $(PYTHONS) is that" >&2; exit 1
	$(BIN)/python -m pip install --upgrade 'pip>=25.1'  # the first with --group
	$(BIN)/python -m pip install --editable '.[ray,safetensors,server]' --group dev --group docs
	@echo "$(CURDIR)" > $@
