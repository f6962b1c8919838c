# `make demo` and `make test`; all targets make the environment first.

PYTHON ?= python3
VENV := .venv
DVC := .venv-dvc
AUDIT := .venv-audit
# PyTorch for the machine at hand; the versions are the same
TORCH := $(if $(wildcard /dev/nvidiactl),requirements-cuda.lock,requirements-cpu.lock)
# nothing that is not in a lock, no file with another checksum
INSTALL := -m pip install --quiet --no-deps --require-hashes --requirement
DEMO := --quiet host reason --configfile config/demo.yaml

.PHONY: demo pull test test-dvc test-survival check-demo audit licences catalogue clean

demo: $(VENV)/installed
	$(VENV)/bin/snakemake $(DEMO)
	@echo
	@cat results/demo/tables/T1.md
	@echo
	@echo "Report:  results/demo/report.html"
	@echo "Tables:  results/demo/tables/     Figures: results/demo/figures/all/demo/"
	@echo "Maps and scores per image: results/demo/all/seed-0/demo/"

# The demo's data, networks and results out of the repository's own store; then, of these, what is too large for it: arrays,
# latents, maps. Correcting measures speeds anew, so at last the pulled ones, of which the tables speak, are put back. `make demo`
# trains nothing after it.
pull: $(VENV)/installed $(DVC)/installed
	$(DVC)/bin/dvc pull
	$(VENV)/bin/snakemake prepared $(DEMO)
	$(VENV)/bin/snakemake encoded $(DEMO)
	$(VENV)/bin/snakemake shown $(DEMO)
	$(DVC)/bin/dvc checkout --quiet --force

# the report's tests need Debian's Chromium: apt-get install chromium fonts-dejavu-core
test: $(VENV)/installed
ifeq ($(wildcard /usr/bin/chromium),)
	@echo "no /usr/bin/chromium: the tests of the report in a browser are left out"
	$(VENV)/bin/python -m pytest -m "not demo and not dvc and not survival and not slurm and not browser"
else
	$(VENV)/bin/python -m pytest -m "not demo and not dvc and not survival and not slurm"
endif

# DVC with Snakemake; those with a server of their own need Debian's nginx-light and openssh-server
test-dvc: $(VENV)/installed $(DVC)/installed
	$(VENV)/bin/python -m pytest -m dvc

# Kills, full disks, damaged files, about ten minutes; a SLURM of its own, which root installs from Debian's packages, not started
# and not configured
test-survival: $(VENV)/installed
	test -x /usr/sbin/slurmctld || { apt-get update -qq && RUNLEVEL=1 \
		apt-get install -y -qq --no-install-recommends slurmctld slurmd slurm-client munge; } || \
		echo "SLURM cannot be installed from Debian's packages here: its tests are skipped"
	$(VENV)/bin/python -m pytest -m "(survival or slurm) and not long"

# the results of `make demo` against what they must reach
check-demo: demo
	$(VENV)/bin/python -m pytest -m demo

$(VENV)/installed: requirements.lock $(TORCH) pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python $(INSTALL) $(TORCH)
	$(VENV)/bin/python $(INSTALL) requirements.lock
	$(VENV)/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# DVC does not go into the same environment
$(DVC)/installed: requirements-dvc.lock
	$(PYTHON) -m venv $(DVC)
	$(DVC)/bin/python $(INSTALL) requirements-dvc.lock
	touch $@

$(AUDIT)/installed: requirements-audit.lock
	$(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/python $(INSTALL) requirements-audit.lock
	touch $@

# known vulnerabilities of all that is installed
audit: $(AUDIT)/installed
	$(AUDIT)/bin/python .ci/audit.py

# docs/licences.md from what is installed
licences: $(VENV)/installed $(DVC)/installed $(AUDIT)/installed
	$(AUDIT)/bin/python .ci/licences.py $(VENV) $(DVC) > docs/licences.md

# docs/datasets.md from the registry; contact sheets are drawn of the prepared data sets named in PREPARED
catalogue: $(VENV)/installed
	$(VENV)/bin/decodiff datasets --output docs/datasets.md $(addprefix --prepared ,$(PREPARED))

# everything made except the environment
clean:
	rm -rf data models results logs .snakemake
