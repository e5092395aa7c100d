# make demo   set everything up and run the whole system on real bars (ARGS="--bars FILE" for your own)
# make test   set everything up and run every test
# make check  format, lint, types and unit tests: what pre-commit and CI run
# make bench  the measurements behind bench/README.md
# make soak   an hour at half load: memory, files, threads, latency (ARGS="--minutes 5" for less)
# make long   the long variants of tests, each printing JSON: random venue faults, chaos, soak
# make chaos  the whole system under 200 faults, compared with an undisturbed run (docs/chaos.md)
# make schemas  the JSON Schemas of all topics, in docs/schemas
# make lock   the hash-pinned locks of the images; make licences, make sbom, make audit: what they ship
.PHONY: demo setup test check unit bench soak long chaos wheel constraints lock schemas licences sbom audit clean
PY := .venv/bin/python

demo: setup
	@exec $(PY) -m cli demo $(ARGS)

setup:
	@bash scripts/setup.sh

unit: setup
	$(PY) -m pytest -m "not integration" -n 2 $(ARGS)

test: setup
	$(PY) -m pytest $(ARGS)

check: setup
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(PY) scripts/check_js.py
	$(PY) -m pytest -m "not integration" -n 2 -x

wheel: setup
	$(PY) -m build --wheel --no-isolation

bench: setup
	$(PY) bench/peers.py

soak: setup
	$(PY) bench/soak.py $(ARGS)

chaos: setup
	$(PY) -m tests.chaos $(ARGS)

long: setup
	$(PY) -m simulators.chaos --minutes 10 --seed 7
	$(PY) -m tests.chaos
	$(PY) bench/soak.py

constraints: setup
	@{ sed -n 1p constraints.txt; $(PY) -m pip freeze --exclude-editable; } > constraints.new && mv constraints.new constraints.txt

lock: setup
	$(PY) scripts/lock.py
	$(PY) scripts/k8s.py

schemas: setup
	$(PY) scripts/schemas.py

licences: setup
	$(PY) scripts/licences.py

sbom: setup
	$(PY) scripts/sbom.py

# Queries the advisory database of the package index: needs network access to it, and fails without.
audit: setup
	$(PY) -m pip_audit --strict --require-hashes --disable-pip -r requirements.lock

clean:
	rm -rf build dist *.egg-info .run
