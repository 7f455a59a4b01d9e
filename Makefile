# Everything happens in .venv, which the first call makes; later calls need no network.
#   make ablate   the main job: the student taught by two teachers against the student alone
#   make test     every test                  make lint    style and types
#   make bench    benchmarks                  make ui      the runs in MLflow's pages
#   make docs     docs/ as pages, in site/    make lab     the notebooks in JupyterLab, on your latest study
#   make notebooks  executes the notebooks on the published studies and saves their outputs
#   make published  reports/published anew, from the studies in reports/; then make notebooks
#   make clean    removes .venv and caches, keeps results

VENV := .venv
BIN := $(VENV)/bin
FITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
CANDIDATES := python3.13 python3.12 python3.11 python3
PYTHON ?= $(shell for p in $(CANDIDATES); do $$p -c '$(FITS)' 2>/dev/null && echo $$p && break; done)
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet --no-compile -c constraints.txt
# pip itself compiles one module after the other; modules that are not meant for this Python are skipped silently
COMPILE := $(BIN)/python -m compileall -q -j 0 -x /tests/ $(VENV)/lib >/dev/null 2>&1 || true

.DELETE_ON_ERROR:
.PHONY: ablate test lint bench docs published ui lab lab-user notebooks install dev clean

ablate: $(VENV)/installed
	$(BIN)/tal-bench ablate --variant both

test: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/installed-dev
	THP_MEM_ALLOC_ENABLE=1 $(BIN)/python -m pytest tests/benchmarks --benchmark-only

docs: $(VENV)/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo 'site/index.html; its search needs a server: $(BIN)/python -m http.server --bind 127.0.0.1 --directory site'

# After the studies have ended: tal-bench ablate --variant all, the same with --dataset hapt --trials 1, and tal-bench
# ablate methods. A published study whose runs are not in reports/ stays as it is; the comparison needs the first two.
COMPARED := $(wildcard reports/two-by-two-sprites reports/two-by-two-hapt)
STUDIES := $(COMPARED) $(wildcard reports/methods-sprites)
PUBLISHED := reports/published

published: $(VENV)/installed
	$(BIN)/tal-bench publish $(STUDIES) --out $(PUBLISHED)
	$(BIN)/tal-bench compare $(COMPARED) --out $(PUBLISHED)/comparison \
		$(COMPARED:reports/two-by-two-%=--detections framewise=$(PUBLISHED)/comparison/framewise-%.csv)
	$(BIN)/tal-bench leaderboard $(PUBLISHED) --out $(PUBLISHED)/leaderboard.html
	PYTHONPATH=tests $(BIN)/python tests/unit/docs/test_readme.py

ui: $(VENV)/installed
	$(BIN)/tal-bench ui

# Kernels run in the folder of the notebooks.
ifdef TAL_BENCH_STUDY
export TAL_BENCH_STUDY := $(abspath $(TAL_BENCH_STUDY))
endif
# Flags for JupyterLab, such as make lab JUPYTER_FLAGS=--allow-root
JUPYTER_FLAGS ?=
# Notebooks that read a study
READERS := $(wildcard notebooks/0[1-57]*.ipynb)
# Without encryption, every kernel warns that others on this machine can read along.
KERNELS := --KernelManager.transport_encryption=auto
CHOOSE := import sys, tal_bench; sys.tracebacklimit = 0; chosen = tal_bench.choose_study(); print("The notebooks read", chosen); sys.exit(3 if chosen.published else 0)

# Notebooks that one has executed are copies in my_notebooks, which every call makes anew. The outputs on a published
# study are saved already. An error does not keep the other notebooks from being executed; its notebook is named.
lab: lab-user $(VENV)/installed-notebooks
	@folder=my_notebooks; \
	$(BIN)/python -c '$(CHOOSE)'; \
	case $$? in \
	0)	echo "executing them, into $$folder; this takes a minute or two"; \
		$(BIN)/python -m nbconvert --log-level ERROR --to notebook --execute --allow-errors $(KERNELS) \
			--output-dir $$folder $(READERS) || exit 1; \
		for name in $(notdir $(READERS)); do \
			if grep -q '"output_type": "error"' "$$folder/$$name"; then \
				echo "error: a cell of $$folder/$$name failed; the notebook shows why" >&2; \
			fi; \
		done;; \
	3)	folder=notebooks;; \
	*)	exit 1;; \
	esac; \
	$(BIN)/jupyter lab --ServerApp.ip=127.0.0.1 --ServerApp.root_dir=. --LabApp.news_url=None $(KERNELS) \
		--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate $(JUPYTER_FLAGS) $$folder/01_quickstart.ipynb

lab-user:
	@case "$$(id -u) $(JUPYTER_FLAGS)" in \
	"0 "*--allow-root*) ;; \
	"0 "*) echo "error: JupyterLab refuses to run as root; say make lab JUPYTER_FLAGS=--allow-root, or be another user" >&2; exit 2;; \
	esac

notebooks: $(VENV)/installed-dev
	PYTHONPATH=tests $(BIN)/python tests/notebooks/test_notebooks.py

install: $(VENV)/installed

dev: $(VENV)/installed-dev

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11, 3.12 or 3.13 found; install one, or say make PYTHON=/path/to/python" >&2; exit 2; }
	@$(PYTHON) -c '$(FITS)' 2>/dev/null || { echo "error: '$(PYTHON)' is not Python 3.11, 3.12 or 3.13" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "error: $(PYTHON) has no venv module; install python3-venv" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

define install
@echo "installing into $(VENV); the first time takes some minutes"
$(PIP) -e '.$(1)'
@$(COMPILE)
@touch $(VENV)/installed $@
endef

# An installation with extras serves the main job as well.
$(VENV)/installed: pyproject.toml setup.py constraints.txt | $(BIN)/python
	$(call install,)

$(VENV)/installed-dev: pyproject.toml setup.py constraints.txt | $(BIN)/python
	$(call install,[dev])

$(VENV)/installed-docs: pyproject.toml setup.py constraints.txt | $(BIN)/python
	$(call install,[docs])

$(VENV)/installed-notebooks: pyproject.toml setup.py constraints.txt | $(BIN)/python
	$(call install,[notebooks])

clean:
	rm -rf site $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
