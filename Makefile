# `make demo` and `make test`; both make the environment first.

PYTHON ?= python3
VENV := .venv

.PHONY: demo test check-demo catalogue clean

demo: $(VENV)/installed
	$(VENV)/bin/snakemake --quiet host reason --configfile config/demo.yaml
	@echo
	@cat results/demo/tables/T1.md
	@echo
	@echo "Report:  results/demo/report.html"
	@echo "Tables:  results/demo/tables/     Figures: results/demo/figures/all/demo/"
	@echo "Maps and scores per image: results/demo/all/seed-0/demo/"

# the report's tests need Debian's Chromium: apt-get install chromium fonts-dejavu-core
test: $(VENV)/installed
ifeq ($(wildcard /usr/bin/chromium),)
	@echo "no /usr/bin/chromium: the tests of the report in a browser are left out"
	$(VENV)/bin/python -m pytest -m "not demo and not browser"
else
	$(VENV)/bin/python -m pytest -m "not demo"
endif

# the results of `make demo` against what they must reach
check-demo: demo
	$(VENV)/bin/python -m pytest -m demo

$(VENV)/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --requirement requirements.lock
	$(VENV)/bin/python -m pip install --quiet --no-deps --editable .
	touch $@

# docs/datasets.md from the registry; contact sheets are drawn of the prepared data sets named in PREPARED
catalogue: $(VENV)/installed
	$(VENV)/bin/decodiff datasets --output docs/datasets.md $(addprefix --prepared ,$(PREPARED))

# everything made except the environment
clean:
	rm -rf data models results logs .snakemake
