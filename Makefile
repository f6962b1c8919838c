# `make demo` and `make test`; all targets make the environment first.

PYTHON ?= python3
VENV := .venv
TOOLS := .venv-tools
DOCS := .venv-docs
# PyTorch for the machine at hand; the versions are the same
TORCH := $(if $(wildcard /dev/nvidiactl),requirements-cuda.lock,requirements-cpu.lock)
# Python compiles what is used when it is first used, and keeps that where an image of containers would have it not (each process
# would compile anew, most of the time that a small job takes)
unexport PYTHONDONTWRITEBYTECODE
# nothing that is not in a lock, no file with another checksum; by uv, as pip is slow with so many packages
LOCKED := --quiet --no-deps --require-hashes --requirement
UV := $(VENV)/bin/uv
INSTALL := $(UV) pip install --system-certs --python
# two at a time, a file's tests one after the other; threads that wait leave the processor to the others
TESTS := OMP_WAIT_POLICY=PASSIVE $(VENV)/bin/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --durations 25
DEMO := --workflow-profile profiles/cpu --configfile config/demo.yaml

.PHONY: demo demo-all show pull test test-dvc test-slow test-survival check-demo audit lint types docs licences catalogue configuration \
	commands clean
	clean

demo: $(VENV)/installed
	@$(VENV)/bin/decodiff run $(DEMO)
	@echo
	@cat results/demo/tables/T1.md
	@echo
	@echo "Report:  results/demo/report.html (make show)"
	@echo "Tables:  results/demo/tables/     Figures: results/demo/figures/all/demo/"
	@echo "Maps and scores per image: results/demo/all/seed-0/demo/"

# the demo with further comparisons, T5 and T6, for which it trains three more networks
demo-all: $(VENV)/installed
	@$(VENV)/bin/decodiff run $(DEMO) config/demo-all.yaml
	@echo "Report:  results/demo/report.html (make show)"

# the report in a browser
show:
	@test -f results/demo/report.html || { echo "results/demo/report.html: not there yet; make demo, or make pull"; exit 1; }
	@$(VENV)/bin/python -c "import sys, webbrowser; sys.exit(not webbrowser.open('file://$(CURDIR)/results/demo/report.html'))" || \
		{ echo "no browser here; open $(CURDIR)/results/demo/report.html"; exit 1; }

# the demo's data, networks, tables, figures and report out of the repository's own store, in place of `make demo`
pull: $(VENV)/installed-dvc
	@$(VENV)/bin/decodiff pull
	@echo "Report:  results/demo/report.html"

# the report's tests need Debian's Chromium: apt-get install chromium fonts-dejavu-core
test: $(VENV)/installed-test
ifeq ($(wildcard /usr/bin/chromium),)
	@echo "no /usr/bin/chromium: the tests of the report in a browser are left out"
	$(TESTS) -m "not demo and not dvc and not survival and not slurm and not slow and not browser"
else
	$(TESTS) -m "not demo and not dvc and not survival and not slurm and not slow"
endif

# DVC with Snakemake; those with a server of their own need Debian's nginx-light and openssh-server
test-dvc: $(VENV)/installed-test $(VENV)/installed-dvc
	$(VENV)/bin/python -m pytest -m "dvc and not slow"

# whole runs whose parts other tests hold, seven minutes; one of them is deployed by snakedeploy
test-slow: $(VENV)/installed-test $(VENV)/installed-dvc $(TOOLS)/installed
	$(VENV)/bin/python -m pytest -m slow

# Kills, full disks, damaged files, about ten minutes; a SLURM of its own, which root installs from Debian's packages, not started
# and not configured
test-survival: $(VENV)/installed-test
	test -x /usr/sbin/slurmctld || { apt-get update -qq && RUNLEVEL=1 \
		apt-get install -y -qq --no-install-recommends slurmctld slurmd slurm-client munge; } || \
		echo "SLURM cannot be installed from Debian's packages here: its tests are skipped"
	$(VENV)/bin/python -m pytest -m "(survival or slurm) and not long"

# the results of `make demo` against what they must reach
check-demo: $(VENV)/installed-test demo
	$(VENV)/bin/python -m pytest -m demo

# pip, which is told in its own settings of other places for files, brings uv, and PyTorch, whose file such a place may have
$(UV): requirements-uv.lock
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --no-compile $(LOCKED) $<
	touch $@

$(VENV)/installed: requirements.lock $(TORCH) pyproject.toml $(UV)
	$(VENV)/bin/python -m pip install --no-compile $(LOCKED) $(TORCH) & torch=$$!; \
		$(INSTALL) $(VENV)/bin/python $(LOCKED) requirements.lock && wait $$torch
	$(INSTALL) $(VENV)/bin/python --quiet --no-deps --no-build-isolation --editable .
	touch $@

# beside it what tests need (-test), DVC (-dvc), and the extras `export` and `app` (-extras)
$(VENV)/installed-test $(VENV)/installed-dvc $(VENV)/installed-extras: $(VENV)/installed-%: requirements-%.lock $(VENV)/installed
	$(INSTALL) $(VENV)/bin/python $(LOCKED) $<
	touch $@

# environments of their own
$(TOOLS)/installed $(DOCS)/installed: .venv-%/installed: requirements-%.lock $(UV)
	$(PYTHON) -m venv $(@D)
	$(INSTALL) $(@D)/bin/python $(LOCKED) $<
	touch $@

# known vulnerabilities of all that is installed
audit: $(TOOLS)/installed
	$(TOOLS)/bin/python .ci/audit.py

# style of Python and of the workflow; `ruff format` and `snakefmt` mend most of it
lint: $(TOOLS)/installed
	$(TOOLS)/bin/ruff check
	$(TOOLS)/bin/ruff format --check
	$(TOOLS)/bin/snakefmt --check Snakefile workflow

# types, of the libraries as they are installed; mypy finds its stubs by the path
types: $(VENV)/installed-extras $(VENV)/installed-dvc $(TOOLS)/installed
	PYTHONPATH=$(TOOLS)/lib/python3.11/site-packages $(TOOLS)/bin/mypy --python-executable $(VENV)/bin/python

# the site of the documents, site/index.html; a broken link or anchor ends it (not with --quiet, which drops warnings before they count)
docs: $(DOCS)/installed
	$(DOCS)/bin/mkdocs build --strict

# docs/licences.md from what is installed
licences: $(VENV)/installed-test $(VENV)/installed-dvc $(VENV)/installed-extras $(TOOLS)/installed
	$(TOOLS)/bin/python .ci/licences.py $(VENV) > docs/licences.md

# docs/datasets.md from the registry; contact sheets are drawn of the prepared data sets named in PREPARED
catalogue: $(VENV)/installed
	$(VENV)/bin/decodiff datasets --output docs/datasets.md $(addprefix --prepared ,$(PREPARED))

# the tables of config/README.md from the definition of the configuration
configuration: $(VENV)/installed
	$(VENV)/bin/python .ci/configuration.py config/README.md > config/README.md.new
	mv config/README.md.new config/README.md

# docs/commands.md from the command line's own help
commands: $(VENV)/installed
	$(VENV)/bin/python -m typer decodiff.cli utils docs --name decodiff --output docs/commands.md

# everything made except the environment
clean:
	rm -rf data models logs site .snakemake $(filter-out results/README.md,$(wildcard results/*))
