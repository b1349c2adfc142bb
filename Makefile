# make run      install, then Porta with a PACS beside it, a study sent, its results verified
# make test     install with what the tests need, then all checks and tests
# make test-long    the tests of properties, with twenty times as many examples
# make attack   the attacks on the service in their long form, at most 30 minutes, with a table of what was measured
# make kills    300 kill -9 of service, worker, PACS and PostgreSQL under four senders, in an hour; KILLS=20 for fewer
# make sbom     what is installed, as a CycloneDX bill of materials: sbom.cdx.json
# make audit    whether a known weakness is in what is installed; it fails too where not every package could be looked up
# make lock     requirements.lock: what Porta needs to run, by version and sha256
# make install  install only

PYTHON ?= python3
PIP_INSTALL = .venv/bin/pip install --quiet -c constraints.txt
DEBIAN = orthanc orthanc-dicomweb dcmtk dicom3tools postgresql chromium gcc libc6-dev
OHIF_VERSION = 3.12.10
OHIF = $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/porta-hepatis/ohif-$(OHIF_VERSION)
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: run test test-long attack kills sbom audit lock pytest install install-test debian viewer lint clean

run: install
	.venv/bin/porta demo

install: .venv/.installed

test:
	@$(MAKE) --no-print-directory --jobs 2 install-test viewer
	@$(MAKE) --no-print-directory --jobs 2 lint pytest

# Two at a time have one thread each: more wait for each other, spinning. Those of one file are run by one process, which makes
# once what they share; files with many tests come first, those of the acceptance tests, which drive whole services, last.
PYTEST = OMP_NUM_THREADS=1 ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS=1 PORTA_OHIF=$(OHIF) .venv/bin/pytest --numprocesses 2
pytest: install-test
	$(PYTEST) --dist loadfile

PROPERTIES = $(shell grep -rl --include='*.py' '^@given' tests)
test-long: install-test
	$(PYTEST) --hypothesis-profile long --timeout 3600 $(PROPERTIES)

# Those of one file have one process, which prints what they measured at the end.
attack: install-test
	PORTA_ATTACK=long timeout 1800 $(PYTEST) --dist loadfile --timeout 1500 tests/attack

# Both kinds of ledger at once; the killing ends after half an hour for each, and then all must be delivered.
kills: install-test
	PORTA_ATTACK=long PORTA_KILLS=$(or $(KILLS),300) PORTA_KILLS_S=2000 $(PYTEST) tests/attack/test_kill_matrix.py

sbom: install-test
	.venv/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --of JSON -o sbom.cdx.json \
	  .venv/bin/python

audit: install-test
	@.venv/bin/pip-audit --strict --skip-editable || \
	  { echo "not audited: a weakness is named above, or the database could not be asked about every package"; exit 1; }

# torch and torchvision are left out: which build, for a CPU or a GPU, the site chooses by hashes of its own.
lock: .venv/.installed
	$(PIP_INSTALL) pip-tools
	.venv/bin/pip-compile --quiet --upgrade --generate-hashes --strip-extras --no-header \
	  --unsafe-package torch --unsafe-package torchvision --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
	  -c constraints.txt -o .venv/lock pyproject.toml
	@(head -1 requirements.lock; sed '/^# \(WARNING\|The following packages\)/,$$d' .venv/lock) > .venv/lock.whole
	@mv .venv/lock.whole requirements.lock

lint: install-test
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet -c constraints.txt torch
	.venv/bin/pip install --quiet -c constraints.txt -e .
	@touch $@

install-test: .venv/.installed-test

.venv/.installed-test: .venv/.installed
	$(PIP_INSTALL) -e ".[dev,train]"
	@touch $@

# Real peers and validators. Without root or apt the tests that need them say so and are skipped.
debian:
	@missing=; for name in $(DEBIAN); do \
	  dpkg -s $$name 2>/dev/null | grep -q '^Status: install ok' || missing="$$missing $$name"; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "installing$$missing"; \
	  apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	else \
	  echo "not installed (needs root and apt):$$missing - the tests that need them are skipped"; \
	fi

# The viewer that results are opened in by a test; kept beyond this folder.
viewer: debian
	@if [ -d $(OHIF)/dist ]; then exit 0; fi; \
	if ! command -v npm >/dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends npm >/dev/null; \
	fi; \
	if ! command -v npm >/dev/null; then \
	  echo "not fetched (needs npm): OHIF - the tests that need it are skipped"; exit 0; \
	fi; \
	rm -rf $(OHIF).part && mkdir -p $(OHIF).part && \
	archive=$$(cd $(OHIF).part && npm pack --silent @ohif/app@$(OHIF_VERSION)) && \
	tar xzf $(OHIF).part/$$archive -C $(OHIF).part --strip-components=1 && \
	rm $(OHIF).part/$$archive && mv $(OHIF).part $(OHIF)

clean:
	rm -rf .venv porta-demo build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
