# Two commands do all the set-up: `make demo` and `make test`. The environment is .venv, or VENV=another/folder.
VENV ?= .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN = $(VENV)/bin

# Run a command that says little of itself, and say every eight seconds (in a log every minute) that it goes on, and the answer
# of a second one.
define telling
begun=$$(date +%s); $(1) & command=$$!; trap 'kill $$command 2>/dev/null' INT TERM; said=0; every=60; \
if [ -t 1 ]; then every=8; fi; \
while kill -0 $$command 2>/dev/null; do \
  sleep 0.5; now=$$(( $$(date +%s) - begun )); \
  if [ $$(( now - said )) -ge $$every ]; then said=$$now; echo "  $$now s: $$($(2))"; fi; \
done; wait $$command || exit; echo "  done in $$(( $$(date +%s) - begun )) s"
endef

# pip would compile on one core, and the packages' own tests too.
define compiling
$(BIN)/python -c 'import compileall, re; compileall.compile_dir("$(VENV)/lib", rx=re.compile("/tests?/"), quiet=2, workers=0)'
endef

.PHONY: demo test notebooks peers docs lint format benchmark clean

demo: $(VENV)/.demo
	$(BIN)/universality run analyses/quickstart/job.toml
	@echo "To look at it in a browser, and to submit jobs of your own: $(BIN)/universality serve"

# Each worker of the test run uses one thread: as many as there are cores and room for (3 GB each), two at least and four at most.
WORKERS ?= $(shell $(PYTHON) -c "import os; gb = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30; print(max(2, min(4, os.cpu_count() or 2, int(gb / 5))))")
test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

# Every notebook of analyses/, in a temporary folder: nothing is written into the checkout.
notebooks: $(VENV)/.dev
	@$(call telling,$(BIN)/python analyses/run_notebooks.py,echo running)

# Other packages as oracles; without them these tests are skipped.
peers: $(VENV)/.dev $(VENV)/.peers
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/peers

# The documentation site in site/; a broken link or a missing page is an error.
docs: $(VENV)/.dev $(VENV)/.docs
	@echo "Building the documentation in site/"
	@$(call telling,NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet,echo pages)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@$(call telling,$(BIN)/mypy,echo types)

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmark: $(VENV)/.demo
	$(BIN)/python tests/benchmarks/extraction_speed.py
	$(BIN)/python tests/benchmarks/demo_limit.py
	$(BIN)/python tests/benchmarks/all_pairs_speed.py
	$(BIN)/python tests/benchmarks/all_pairs_growth.py
	PYTHONPATH=tests $(BIN)/python tests/benchmarks/truth.py
	PYTHONPATH=tests $(BIN)/python tests/benchmarks/power.py
	$(BIN)/python tests/benchmarks/zoo_growth.py
	$(BIN)/python tests/benchmarks/expanded_weights.py

$(VENV)/.%: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "universality needs Python 3.11 or newer, '$(PYTHON)' is older; call make with PYTHON=..." >&2; exit 1; }
	@echo "Installing universality ($*) into $(VENV): minutes, and 6 to 7 GB if Torch with its GPU libraries is not there yet."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(call telling,$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --editable '.[$*]',du -sm $(VENV) | cut -f1 | sed 's/$$/ MB/')
	@echo "Compiling what was installed"
	@$(call telling,$(compiling),echo compiling)
	@touch $@

clean:
	rm -rf $(VENV) build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis
