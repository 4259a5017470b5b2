# Two commands to begin with: `make demo` and `make test`. Everything else is in `make help`.
PYTHON ?= python3
VENV   ?= .venv
RUN     = $(VENV)/bin/python
STAMP   = $(VENV)/.ready

# One thread a test process: the processes, not the matrix products, share the cores.
TESTS = OMP_NUM_THREADS=1 $(RUN) -m pytest

.DEFAULT_GOAL := help
.PHONY: help setup demo test oracles parity bench rl pipeline semantic book nightly clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## create .venv and install what is needed (does nothing when up to date)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: Python 3.11 or newer is needed; name one with make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

demo: setup  ## train a small model on real text, look at it, let NumPy read it, reward it for sorting
	$(RUN) -m parity_tests.demo

test: setup  ## every test
	$(TESTS) -n 2 parity_tests

oracles: setup  ## compare with transformers, tokenizers and tiktoken (installs the extra hf)
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,hf]'
	$(TESTS) -n 2 parity_tests/test_*_oracles.py

parity: setup  ## prove the two sides equal: table and heat map in runs/parity/
	OMP_NUM_THREADS=1 $(RUN) -m parity_tests

bench: setup  ## measure both sides (PEERS=1: other projects too): report in bench/results/
ifdef PEERS
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[peers]'
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps litgpt
endif
	$(RUN) -m bench $(if $(PEERS),--peers)

rl: setup  ## reinforcement learning that works, three seeds: report in bench/results/rl/ (LADDER=1: harder tasks too)
	OMP_NUM_THREADS=1 $(RUN) -m bench.reinforcement $(if $(LADDER),--ladder)

pipeline: setup  ## pretraining, fine-tuning, a reward model, PPO and GRPO, chat: a page in runs/pipeline/
	$(RUN) -m bench.pipeline

semantic: setup  ## concept models, thoughts, context, hyperbolic space, tokenizations: a page in runs/semantic/
	$(RUN) -m bench.semantic

book: setup  ## the lessons and every component as pages to read, in runs/book/
	$(RUN) -m lessons book

nightly: setup  ## the long checks: thousands of examples, every component compiled
	$(TESTS) -n 2 parity_tests --hypothesis-profile nightly

clean:  ## remove what the other commands made, checkpoints in runs/ included
	rm -rf runs .hypothesis .pytest_cache build *.egg-info
