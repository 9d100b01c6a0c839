# `make run` and `make test` set up everything they need in .venv on first use.

PYTHON ?= python3
# Without a CUDA device: make run TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
TORCH_INDEX_URL ?=

BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check \
       $(if $(TORCH_INDEX_URL),--extra-index-url $(TORCH_INDEX_URL))
CODE := app.py at_once.py aws_lambda.py bootstrap.py clock.py config.py error_handlers.py errors.py worker.py benchmarks cli client models routers schemas server services telemetry tests tools notebooks
PYTEST := $(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder --durations 10
RIE_PACKAGE := aws-sam-cli==1.170.0
MUTATION_PACKAGE := cosmic-ray==8.4.3

.PHONY: help run test coverage check lint types format client default-model demo dashboard docs fuzz-api peers mcp ray sam deploy mutants requirements sbom audit clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

# Without internet, forecasts of two indices then come from the sample. PRICE_SOURCE in the shell or in .env wins.
run: .venv/.run ## Serve API and page on HOST and PORT (127.0.0.1:8000)
	@grep -Eqis "^ *(export +)?PRICE_SOURCE *= *['\"]?[a-z]" .env || export PRICE_SOURCE="$${PRICE_SOURCE:-yahoo,sample}"; \
		exec $(BIN)/python app.py

# as many processes as there is room for: threads of each beside them would only wait for one another
test coverage: export OMP_NUM_THREADS := 1
# the tests start some hundred processes, each of which would compile the program again
test coverage: export PYTHONDONTWRITEBYTECODE :=
test: .venv/.dev ## Run the whole test suite
	$(PYTEST)

coverage: .venv/.dev ## The same, with a coverage report; fails below the floor in pyproject.toml
	$(PYTEST) --cov --cov-report=term:skip-covered

check: lint types test ## What CI runs

lint: .venv/.dev ## ruff
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)

types: .venv/.dev ## mypy, strict
	$(BIN)/mypy

format: .venv/.dev ## Let ruff mend what it can
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

client: .venv/.dev ## Generate the Python client's models and synchronous client from the application
	$(BIN)/python -m tools.client_code

default-model: .venv/.dev ## Train the bundled model on UNIVERSE=DIR; HELD_OUT=DIR measures it on later sessions
	@test -n "$(UNIVERSE)" || { echo "expected the folder of TICKER.csv files: make default-model UNIVERSE=DIR"; exit 2; }
	$(BIN)/python -m tools.default_model "$(UNIVERSE)" $(if $(HELD_OUT),--held-out "$(HELD_OUT)")

demo: .venv/.run ## Train, forecast, backtest and draw on sample prices, without a network
	bin/stock-forecast demo

dashboard: .venv/.dev ## Write the Grafana dashboard
	$(BIN)/python -m tools.dashboard

docs: .venv/docs/.installed .venv/.run ## Build the documentation site into site/; open site/index.html
	$(BIN)/python -m tools.docs_site build/docs
	NO_MKDOCS_2_WARNING=1 .venv/docs/bin/mkdocs build --quiet

fuzz-api: .venv/fuzz/.installed .venv/.dev ## Test the API with schemathesis; EXAMPLES=100 for each route and phase
	$(BIN)/python -m tools.fuzz_api --max-examples $(or $(EXAMPLES),100)

peers: .venv/peers/.installed .venv/.dev ## Compare with statsforecast, neuralforecast and Prophet on DATA=DIR; takes about 15 minutes
	@test -n "$(DATA)" || { echo "expected the folder of TICKER.csv files: make peers DATA=DIR"; exit 2; }
	$(BIN)/python -m benchmarks.peers --data "$(DATA)"

mcp: .venv/.mcp ## Install what `bin/stock-forecast mcp` needs, for AI assistants

ray: .venv/ray/.installed ## Install Ray, in an environment of its own

sam: .venv/sam/.installed ## Install the AWS SAM CLI, in an environment of its own

deploy: .venv/sam/.installed ## Build, push and deploy to AWS; PARAMETERS="NAME=VALUE …", see docs/deploy.md
	PATH="$$PATH:$(CURDIR)/.venv/sam/bin" deploy/deploy.sh $(PARAMETERS)

mutants: .venv/.dev .venv/mutation/.installed ## Mutation tests of FOLDER: SAMPLE=100 mutants, drawn with SEED=0
	@test -n "$(FOLDER)" || { echo "expected a folder of the program: make mutants FOLDER=models"; exit 2; }
	OMP_NUM_THREADS=1 PYTHONPATH=.venv/mutation $(BIN)/python -m tools.mutants $(FOLDER) \
		--sample $(or $(SAMPLE),100) --seed $(or $(SEED),0) $(if $(NEAREST),--nearest)

requirements: .venv/.dev ## Compile the pinned requirements from their .in files
	$(call compile,serve.in,requirements/serve.txt,--generate-hashes $(NOT_SERVED:%=--unsafe-package=%))
	sed -i -e 's/^# WARNING: The following packages.*/# Left out, because forecasting never imports them:/' \
		-e '/^# pinned when the requirements/d; /^# satisfied by a package/d' requirements/serve.txt
	$(call compile,train.in,requirements.txt)
	$(call compile,dev.in,requirements/dev.txt)
	$(call compile,docs.in,requirements/docs.txt,--generate-hashes --allow-unsafe)
	$(call compile,fuzz.in,requirements/fuzz.txt)
	$(call compile,mcp.in,requirements/mcp.txt)
	$(call compile,ray.in,requirements/ray.txt)
	$(call compile,peers.in,requirements/peers.txt)
	$(call compile,deploy.in,requirements/deploy.txt,--generate-hashes --allow-unsafe)
	$(call compile,supply.in,requirements/supply.txt,--generate-hashes --allow-unsafe)

sbom: .venv/supply/.installed ## Write the bills of materials (CycloneDX) of the two lists that images install, to build/
	mkdir -p build
	.venv/supply/bin/cyclonedx-py requirements --output-file build/sbom.json requirements.txt
	.venv/supply/bin/cyclonedx-py requirements --output-file build/sbom-serve.json requirements/serve.txt

audit: .venv/supply/.installed ## Look the pinned versions up among known vulnerabilities; needs the internet
	.venv/supply/bin/pip-audit --strict --disable-pip --no-deps --requirement requirements.txt --requirement requirements/serve.txt

clean: ## Remove the environment and all caches, but no data
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What forecasting never imports, though `arch` asks for it: only the sample prices inside `arch` are read. What it takes
# to backtest a model, or to fit most kinds, is in the full list alone.
NOT_SERVED := formulaic interface-meta narwhals patsy scipy statsmodels wrapt

# Packages that are "unsafe" to pip-compile are left out of what it writes, and named at its end.
# A local build of torch is pinned by its public version: which build pip takes is the machine's business.
define compile
	$(BIN)/pip-compile --quiet --strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
		--no-emit-options --no-header $(or $(3),--allow-unsafe) --output-file $(2) requirements/$(1)
	sed -i 's/^\(torch==[0-9.]*\)+cpu/\1/' $(2)
endef

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed; say which: make PYTHON=python3.12 …"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.run: requirements.txt requirements/page.txt | .venv/bin/python
	$(PIP) -r requirements.txt
	$(PIP) --no-deps --require-hashes -r requirements/page.txt
	touch $@

.venv/.dev: requirements/dev.txt requirements/page.txt | .venv/bin/python
	$(PIP) -r requirements/dev.txt
	$(PIP) --no-deps --require-hashes -r requirements/page.txt
	@$(MAKE) --no-print-directory .venv/bin/aws-lambda-rie || echo "the Lambda emulator is not available: its tests will skip"
	touch $@ .venv/.run

.venv/.mcp: requirements/mcp.txt | .venv/.run
	$(PIP) -r requirements/mcp.txt
	touch $@

# The emulator of Lambda's runtime interface is an executable inside the wheel of aws-sam-cli.
.venv/bin/aws-lambda-rie:
	$(BIN)/python -m pip download --quiet --no-deps --dest .venv/rie $(RIE_PACKAGE)
	$(BIN)/python -m zipfile -e .venv/rie/*.whl .venv/rie
	install -m 755 .venv/rie/samcli/local/rapid/aws-lambda-rie-x86_64 $@
	rm -rf .venv/rie

# The list is complete, hence --no-deps: pip refuses a dependency with extras, which a list with hashes cannot state.
.venv/sam/.installed: requirements/deploy.txt | .venv/bin/python
	$(BIN)/python -m venv .venv/sam
	.venv/sam/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/deploy.txt
	touch $@

# Only its operators are used, which need no more than parso, and that the notebook's kernel brings along.
.venv/mutation/.installed: Makefile | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target .venv/mutation $(MUTATION_PACKAGE)
	touch $@

.venv/docs/.installed: requirements/docs.txt | .venv/bin/python
	$(BIN)/python -m venv .venv/docs
	.venv/docs/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/docs.txt
	touch $@

.venv/supply/.installed: requirements/supply.txt | .venv/bin/python
	$(BIN)/python -m venv .venv/supply
	.venv/supply/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/supply.txt
	touch $@

# Ray in addition to .venv, which it finds by a .pth file: pip installs only what is not there.
.venv/ray/.installed: requirements/ray.txt requirements/dev.txt | .venv/.dev
	$(BIN)/python -m venv .venv/ray
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		> "$$(.venv/ray/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/everything_else.pth"
	.venv/ray/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/ray.txt
	touch $@

.venv/fuzz/.installed: requirements/fuzz.txt | .venv/bin/python
	$(BIN)/python -m venv .venv/fuzz
	.venv/fuzz/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/fuzz.txt
	touch $@

.venv/peers/.installed: requirements/peers.txt | .venv/bin/python
	$(BIN)/python -m venv .venv/peers
	.venv/peers/bin/python -m pip install --quiet --disable-pip-version-check \
		$(if $(TORCH_INDEX_URL),--extra-index-url $(TORCH_INDEX_URL)) -r requirements/peers.txt
	touch $@
