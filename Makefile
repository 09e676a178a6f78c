# Two targets that start from nothing but Python 3.11 or newer and a package index: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
BITS ?= 4

.PHONY: demo test test-fast test-lowest test-onnxruntime fuzz test-arm test-real bench-peers clients clients-js lint clean

demo: $(VENV)/.demo
	$(BIN)/edge-deploy export --bits 32 --overwrite
	$(BIN)/edge-deploy export --bits $(BITS) --overwrite
	$(BIN)/edge-deploy evaluate exported/whisper-tiny.en-w$(BITS)

test: $(VENV)/.dev lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

# A minute of tests that touch every part of the package, see tests/support/fast.py.
test-fast: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m fast -n 2

# The fast tests on the lowest versions that pyproject.toml admits for the base install.
LOWEST = .venv-lowest
test-lowest: $(LOWEST)/.done
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest -m fast -n 2

$(LOWEST)/.done: tests/lowest.txt pyproject.toml
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/pip install --quiet --disable-pip-version-check -r tests/lowest.txt pytest pytest-timeout pytest-xdist hypothesis
	$(LOWEST)/bin/pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

# Hostile files, bundles, caches, archives, checkpoints and recipes; goes on where it was stopped. See tests/fuzz.
MINUTES ?= 10
SEED ?= 0
fuzz: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m tests.fuzz --minutes $(MINUTES) --seed $(SEED)

# The runtime on emulated Cortex-A72 and A76, see docs/design/arm.md; ARM_TESTS="arm and not real" leaves real checkpoints out.
ARM_TESTS ?= arm
test-arm: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/arm -m "$(ARM_TESTS)" -rs

# The whole acceptance table: four real checkpoints, all speech of EDGE_ASR_DATA. Takes hours on two cores.
test-real: $(VENV)/.models
	$(BIN)/python -m pytest -m "(real or real_full) and not arm" --timeout 7200

# Our bundles beside other runtimes on the same checkpoints, see docs/log/peers.md. Stopped, it goes on where it was.
# MODELS, BUNDLES (a folder; else they are exported), OURS (bundles and options, separated by semicolons),
# ROUNDS, FRESH=1 (time anew), WER=1 (also hear all evaluation speech: hours).
PEERS = .venv-peers
MODELS ?= whisper-tiny.en moonshine-tiny
BUNDLES ?=
OURS ?= w4;w8;w3
WORK ?= exported/peers
ROUNDS ?= 3
PEERS_ARGUMENTS = --work $(WORK) --python $(PEERS)/bin/python $(MODELS:%=--model %) $(if $(BUNDLES),--bundles $(BUNDLES)) $(call each,--ours,$(OURS))
each = $(shell printf "%s" "$(2)" | sed "s/ *; */\" $(1) \"/g; s/^..*\$$/$(1) \"&\"/")
bench-peers: $(VENV)/.models $(PEERS)/.done
	$(BIN)/python -m benchmarks prepare $(PEERS_ARGUMENTS)
	$(BIN)/python -m benchmarks time $(PEERS_ARGUMENTS) --rounds $(ROUNDS) $(if $(FRESH),--fresh)
	$(if $(WER),$(BIN)/python -m benchmarks wer $(PEERS_ARGUMENTS))
	$(BIN)/python -m benchmarks report --work $(WORK) --output docs/log/peers.md

$(PEERS)/.done: benchmarks/requirements.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip install --quiet --disable-pip-version-check -r $<
	$(PEERS)/bin/pip install --quiet --disable-pip-version-check --force-reinstall --no-deps --no-binary pywhispercpp $$(grep pywhispercpp $<) || echo "no C++ compiler: whisper.cpp stays the portable wheel"
	touch $@

# Bundles on every minor release of onnxruntime that pyproject.toml admits (RELEASES=1.25,1.32: on these); ARM=1: under
# emulation, too. Prints a table, see docs/guide/install.md.
RELEASES ?=
test-onnxruntime: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.versions --releases "$(RELEASES)" $(if $(ARM),--arm)

# Other people's engines, which tests/clients runs on our bundles.
CLIENTS = .clients
clients: $(CLIENTS)/.done

$(CLIENTS)/.done: tests/clients/requirements.txt
	$(PYTHON) -m venv $(CLIENTS)
	$(CLIENTS)/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

# transformers.js in Node and in Chromium, for tests/clients/javascript; and the archives of the page's engine.
CLIENTS_JS = .clients/javascript
ENGINE = const locked = require("./package-lock.json").packages; for (const name of ["@huggingface/transformers", "onnxruntime-web"]) console.log(name + "@" + locked["node_modules/" + name].version)
clients-js: $(CLIENTS_JS)/.done

$(CLIENTS_JS)/.done: tests/clients/javascript/package-lock.json
	mkdir -p $(CLIENTS_JS)
	cp tests/clients/javascript/package.json tests/clients/javascript/package-lock.json $(CLIENTS_JS)
	cd $(CLIENTS_JS) && npm ci --ignore-scripts --no-audit --no-fund --silent && npm pack --silent $$(node -e '$(ENGINE)')
	touch $@

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# torch comes first and alone: the CPU wheel is pinned, so that nothing pulls in gigabytes of CUDA.
$(VENV)/.torch:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0
	touch $@

$(VENV)/.demo: $(VENV)/.torch pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[export,demo]"
	touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[export,demo,dev,report,fit,cluster,live,serve,leaderboard]"
	touch $@

$(VENV)/.models: $(VENV)/.dev
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[export,models,dev,report,fit,cluster,live,serve,leaderboard]"
	touch $@

clean:
	rm -rf $(VENV) $(LOWEST) $(PEERS) $(CLIENTS) build *.egg-info .mypy_cache .ruff_cache .pytest_cache
