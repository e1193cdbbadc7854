# The two commands: `make demo` and `make test`. Everything they need is installed into .venv, from locked requirements.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
ARGS ?=
SEEDS ?= 10000

.PHONY: help demo test chaos simulate mutations bench soak performance image-check chart-check alerts-check manifests fuzz hostile worst audit sbom lint lock build clean
.DEFAULT_GOAL := help

help: ## Show this help.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name one with PYTHON=…"; exit 2; }
	@$(PYTHON) -c 'import ensurepip' || { echo "this Python can't make environments: install its venv package (Debian: python3-venv)"; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo.stamp: requirements/demo.txt pyproject.toml | $(BIN)/python
	@echo "installing what the demo needs …"
	@$(PIP) install --quiet --require-hashes -r requirements/demo.txt
	@$(PIP) install --quiet --no-deps --no-build-isolation --no-index -e .
	@touch $@

$(VENV)/dev.stamp: requirements/dev.txt pyproject.toml | $(BIN)/python
	@echo "installing what the tests need …"
	@$(PIP) install --quiet --require-hashes -r requirements/dev.txt
	@$(PIP) install --quiet --no-deps --no-build-isolation --no-index -e .
	@touch $@

$(VENV)/bench.stamp: requirements/bench.txt pyproject.toml | $(BIN)/python
	@echo "installing what the benchmark needs …"
	@$(PIP) install --quiet --require-hashes -r requirements/bench.txt
	@$(PIP) install --quiet --no-deps --no-build-isolation --no-index -e .
	@touch $@

$(VENV)/fuzz.stamp: requirements/fuzz.txt pyproject.toml | $(BIN)/python
	@echo "installing what the fuzzer needs …"
	@$(PIP) install --quiet --require-hashes -r requirements/fuzz.txt
	@$(PIP) install --quiet --no-deps --no-build-isolation --no-index -e .
	@touch $@

demo: $(VENV)/demo.stamp ## The whole way of a message on this machine; nothing but Python is needed.
	@$(BIN)/integration-audit demo

lint: $(VENV)/dev.stamp ## Linters, types, layers, SQL.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/squawk consumer/postgres/migrations/*.sql consumer/postgres/migrations/versions/*.sql

manifests: $(VENV)/dev.stamp ## Render deploy/kubernetes from the chart, then check as chart-check does.
	@$(BIN)/python -m tests.deploy.chart_check --write

chart-check: $(VENV)/dev.stamp ## The Helm chart and its variants by helm itself, which is built once (needs Go).
	@$(BIN)/python -m tests.deploy.chart_check

alerts-check: $(VENV)/dev.stamp ## Alert rules by promtool, the runbook and the dashboard (Debian's prometheus is fetched once).
	@$(BIN)/python -m pytest -q tests/deploy/test_alerts.py

test: lint ## The whole suite (ARGS="-k name" for a part); Kafka tests need Java and Maven.
	$(BIN)/python -m pytest $(or $(ARGS),--numprocesses 2 --dist loadfile)

chaos: $(VENV)/dev.stamp ## Random faults on a real Kafka and PostgreSQL, then the verdict: MINUTES=5 SEED=n WORKERS=3, and more in CONTRIBUTING.
	@$(BIN)/python -m tests.chaos --minutes $(or $(MINUTES),5) --workers $(or $(WORKERS),3) --rate $(or $(RATE),300) \
		$(if $(SEED),--seed $(SEED)) $(if $(PROTOCOL),--protocol $(PROTOCOL)) $(if $(JSON),--json $(JSON))

mutations: $(VENV)/dev.stamp ## Break the worker in one way at a time, and see that a test catches each.
	@$(BIN)/python -m tests.mutations

simulate: $(VENV)/dev.stamp ## Random schedules of the worker (SEEDS=100000 for more, SEED=123 to see one again).
	@$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED) --trace,--seeds $(SEEDS))

bench: $(VENV)/bench.stamp ## Throughput, latency, memory, recovery: ONLY=drain,latency QUICK=1 EVENTS=n JSON=file; see docs/performance.md.
	@$(BIN)/python -m tests.bench $(if $(ONLY),--only $(ONLY)) $(if $(QUICK),--quick) $(if $(EVENTS),--events $(EVENTS)) \
		$(if $(JSON),--json $(JSON))

soak: $(VENV)/bench.stamp ## One worker under load for MINUTES=30: its memory stays as it is.
	@$(BIN)/python -m tests.bench --only soak --minutes $(or $(MINUTES),30) --json $(or $(JSON),soak.json)

performance: $(VENV)/bench.stamp ## Tables and plots of docs/performance.md out of JSON="bench.json soak.json".
	@$(BIN)/python -m tests.bench.report $(or $(JSON),bench.json)

image-check: $(VENV)/dev.stamp ## Build the container image and run it for real, locked down (as root; needs podman, runc and debootstrap).
	@$(BIN)/python -m tests.deploy.image_check

fuzz: $(VENV)/fuzz.stamp ## Inputs against framing, schema and datum for MINUTES=10, by the code that they reach; what is found goes into tests/fuzz/corpus.
	@$(BIN)/python -m tests.fuzz --minutes $(or $(MINUTES),10)

hostile: $(VENV)/dev.stamp ## MESSAGES=1000000 hostile messages, good ones among them, through a worker on the real parts.
	@$(BIN)/python -m tests.hostile --messages $(or $(MESSAGES),1000000) $(if $(SEED),--seed $(SEED))

worst: $(VENV)/dev.stamp ## What the most expensive messages cost: none more than 50 ms of the worker's time.
	@$(BIN)/python -m tests.fuzz.worst

audit: $(VENV)/dev.stamp ## The locked dependencies: hashes, licences, nothing besides; without network.
	@$(BIN)/python -m tests.audit

sbom: $(VENV)/dev.stamp ## What a worker is made of, with licences and what needs what, as CycloneDX (validated): SBOM=sbom.cdx.json.
	@rm -rf $(VENV)/run && $(BIN)/python -m venv --without-pip $(VENV)/run
	@$(PIP) --python $(VENV)/run/bin/python install --quiet --require-hashes -r requirements/run.txt
	$(BIN)/cyclonedx-py environment $(VENV)/run/bin/python --pyproject pyproject.toml --output-reproducible --of JSON --validate \
		-o $(or $(SBOM),sbom.cdx.json)

lock: $(VENV)/dev.stamp ## Make the locked requirements anew (needs uv).
	uv pip compile pyproject.toml --universal --python-version 3.11 --group dev --extra demo --extra parquet --extra otel --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-header --quiet -o requirements/dev.txt
	uv pip compile pyproject.toml requirements/build.in --universal --python-version 3.11 --extra demo --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-header --quiet -c requirements/dev.txt -o requirements/demo.txt
	uv pip compile pyproject.toml --universal --python-version 3.11 --group bench --extra demo --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-header --quiet -c requirements/dev.txt -o requirements/bench.txt
	uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-header --quiet -c requirements/dev.txt -o requirements/run.txt
	uv pip compile pyproject.toml --universal --python-version 3.11 --extra parquet --extra otel --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-header --quiet -c requirements/dev.txt -o requirements/run-extras.txt
	uv pip compile requirements/image.in --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-header --quiet -c requirements/dev.txt -o requirements/image.txt
	uv pip compile pyproject.toml --universal --python-version 3.11 --group fuzz --extra demo --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-header --quiet -c requirements/dev.txt -o requirements/fuzz.txt

build: $(VENV)/dev.stamp ## Wheel and sdist into dist/.
	$(BIN)/python -m build --no-isolation

clean: ## Remove what was made.
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
