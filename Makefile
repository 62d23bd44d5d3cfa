# Two commands on a fresh machine: `make table1` and `make test`. Everything they need lands in .venv and data/cache.
PROFILE ?= quick
SEED ?= 0
PYTHON ?= python3
BIN := .venv/bin
ARGS := --profile $(PROFILE) --seed $(SEED) $(if $(CLIPS),--clips $(CLIPS)) $(if $(SYSTEMS),--systems $(SYSTEMS)) \
        $(if $(STEPS),--steps $(STEPS)) \
        $(if $(filter no,$(PARAMETRIC)),--no-parametric)$(if $(filter yes,$(PARAMETRIC)),--parametric)
GRID_ARGS := $(strip --profile $(PROFILE) $(if $(CLIPS),--clips $(CLIPS)) $(if $(WORKERS),--workers $(WORKERS)) \
                     $(if $(SCHEDULER),--scheduler $(SCHEDULER)))

.PHONY: help table1 gallery grid reports ablation claims book test test-fast moving lab data bench export notebooks \
        clean-runs
help:            ## This list
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## ?/\t/' | expand -t 18
	@echo 'Settings: PROFILE=smoke|quick|standard|paper  CLIPS=folder of videos  SEED=n  SYSTEMS=a,b  STEPS=n' \
	      ' PARAMETRIC=yes|no  RETRAIN=1  WORKERS=n  SCHEDULER=tcp://host:port'

.venv/installed: constraints.txt settings.ini setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))' || { \
	    echo 'facestudy needs Python 3.11 or newer; call make with PYTHON=/path/to/python3.11'; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --progress-bar on -c constraints.txt -e '.[dev]'
	@touch $@

table1: .venv/installed ## Measure the released weights (RETRAIN=1: train everything again), render reports/table1.html
	$(BIN)/facestudy report $(ARGS)$(if $(RETRAIN), --no-released)

gallery: .venv/installed ## The gallery of rendered people, reports/gallery.html
	$(BIN)/facestudy gallery

grid: .venv/installed   ## Train and measure the ablation grid, as far as it is missing (WORKERS=n, SCHEDULER=address)
	$(BIN)/facestudy ablation $(GRID_ARGS)

reports: .venv/installed ## Render every page again from the stored rows
	$(BIN)/facestudy reports

ablation: .venv/installed ## Render reports/ablation.html from the stored rows
	$(BIN)/facestudy reports ablation

claims: .venv/installed  ## Render reports/claims.html, every claim and its verdict, from the stored rows
	$(BIN)/facestudy reports claims

book: .venv/installed   ## Every page and notebook as one site, _site/index.html
	$(BIN)/facestudy book

test: .venv/installed   ## All tests: notebooks, package, smoke study twice
	$(BIN)/python -m pytest -q -n 2 tests

test-fast: .venv/installed ## The loop at the desk: tests that need neither notebooks nor trainings
	$(BIN)/python -m pytest -q -n 2 -m 'not slow' tests

moving: .venv/installed ## The looped pictures of README and Table 1, from the released weights
	$(BIN)/python -c 'from facestudy.pages.moving import readme_picture, systems_picture; print(readme_picture(), systems_picture())'
	$(BIN)/python -c 'from facestudy.puppet import whole_picture; print(whole_picture("data/checkpoints/wild/improved.safetensors"))'

lab: .venv/installed    ## JupyterLab, with "Start here" open
	$(BIN)/jupyter lab --notebook-dir=nbs nbs/00_start_here.ipynb

data: .venv/installed   ## Fetch the embedded clips
	$(BIN)/facestudy data

bench: .venv/installed  ## Parameters, multiply-adds, times, memory of every system
	$(BIN)/facestudy bench

export: .venv/installed ## Notebooks -> package, notebooks cleaned, README, departures
	$(BIN)/nbdev_clean
	$(BIN)/nbdev_export
	$(BIN)/python -c 'from facestudy.pages.readme import departures_page, readme; readme(); departures_page()'

notebooks: export       ## Run every component notebook and keep its outputs
	cd nbs && for nb in [0-9]*.ipynb */[0-9]*.ipynb; do echo $$nb; \
	    ../$(BIN)/nbdev_clean --clear_all --fname $$nb; FACESTUDY_PROGRESS=0 ../$(BIN)/exec_nb $$nb --dest $$nb --exc_stop || exit 1; done
	$(BIN)/nbdev_clean
