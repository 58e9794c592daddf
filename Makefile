# Everything a developer runs. `make help` lists it.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
CODE := runtime ingestor moderator orchestrator audit gateway cli migrations tests bench tools

# A file's tests share its services. Files go out as folders come: those that take longest
# have few tests, and would all be left for the end.
PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup demo test coverage render check format gen lock conformance shadow train evaluate bench crash canary tamper released clean

help: ## This list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(VENV)/ready: requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Winnow needs Python 3.11 or newer; name one: make PYTHON=python3.12 …"; exit 1; }
	@echo "setting up $(VENV) …"
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "cannot make $(VENV): install your system's venv package (Debian: python3-venv)"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

setup: $(VENV)/ready ## Everything into .venv, from the hashed lock

demo: setup ## Two real reports through the whole system, from nothing
	@$(BIN)/python tools/demo.py

render: $(VENV)/can-render ## What renders the Helm chart, for its tests (110 MB)

$(VENV)/can-render: $(VENV)/ready requirements-deploy.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-deploy.lock
	@touch $@

test: setup check ## All checks, all tests
	@$(BIN)/python -m pytest $(PARALLEL)

coverage: setup ## All tests, and what of the code they run (takes twice as long)
	@$(BIN)/python -m pytest $(PARALLEL) --cov --cov-report=term:skip-covered

check: setup ## Format, lint, types, layers, contracts, generated code
	@$(BIN)/ruff format --check --quiet $(CODE) || { echo "run: make format"; exit 1; }
	@$(BIN)/ruff check --quiet $(CODE)
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo > .import_linter_cache.log || { cat .import_linter_cache.log; exit 1; }
	@$(BIN)/buf lint
	@$(BIN)/buf breaking protos --against protos/released.binpb
	@$(BIN)/python tools/check_gen.py
	@$(BIN)/bandit -q -r runtime ingestor moderator orchestrator audit gateway cli migrations tools bench --skip B101,B104,B105,B311,B404,B603,B607,B608
	@$(BIN)/python tools/check_advisories.py

format: setup ## Format the code
	@$(BIN)/ruff format --quiet $(CODE)
	@$(BIN)/ruff check --quiet --fix $(CODE)

gen: setup ## Regenerate gen/, docs/openapi.json, docs/event.schema.json, docs/formats.md, dashboards
	@$(BIN)/python tools/check_gen.py --write
	@$(BIN)/python -m gateway.event_schema > docs/event.schema.json
	@$(BIN)/python -m gateway.openapi > docs/openapi.json
	@$(BIN)/python -m ingestor.formats > docs/formats.md
	@$(BIN)/python -m tools.observability --write

released: setup ## Take the contracts as they are for released (after review)
	@$(BIN)/buf build protos --exclude-source-info -o protos/released.binpb

lock: setup ## Renew the hashed locks from pyproject.toml
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate pyproject.toml -o requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate pyproject.toml --group dev -o requirements-dev.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --group train -c requirements-dev.lock -o requirements-train.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --group deploy -c requirements-dev.lock -o requirements-deploy.lock

conformance: setup ## Read a collection of real reports: make conformance SAMPLES=folder
	@$(BIN)/python tools/conformance.py "$(SAMPLES)"

shadow: setup ## What a recalibrated model would change: make shadow FEEDBACK=feedback.jsonl
	@$(BIN)/python tools/shadow.py "$(FEEDBACK)" $(REPORTS)

$(VENV)/can-train: $(VENV)/ready requirements-train.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-train.lock
	@touch $@

train: $(VENV)/can-train ## Learn the moderator's models again: make train DATA="FOLDER …"
	@$(BIN)/python -m tools.training.train $(DATA)

evaluate: setup ## Measure the moderator and renew its card: make evaluate DATA=FOLDER
	@$(BIN)/python -m tools.training.evaluate $(DATA) --card docs/model-card.md --diagram docs/calibration.svg

crash: setup ## Let it die at every named point, over all three transports
	@$(BIN)/python -m tools.crash $(ARGS)

canary: setup ## Plant 500 secrets everywhere, and look for them everywhere
	@$(BIN)/python -m tools.canary --seed $(or $(SEED),1) $(ARGS)

tamper: setup ## Alter the audit log in every way, and see it found
	@$(BIN)/python tools/tamper.py --seed $(or $(SEED),1) $(ARGS)

bench: setup ## Speed and memory, each beside its limit
	@$(BIN)/python -m bench

clean: ## Remove .venv and caches
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage* build *.egg-info
