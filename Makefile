# Each target sets up what it needs: a virtual environment in .venv with everything installed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATAFLOW := .venv-dataflow
INSTALLED := $(VENV)/.installed

.PHONY: help demo test test-slow test-dataflow test-flink test-versions model-garden fuzz bench lint types format proto clean

help:
	@echo "make demo    render drives, build a dataset, validate it, train on it"
	@echo "make test    run the tests"
	@echo "make bench   measure how fast datasets are built and read, beside peers and limits"
	@echo "make lint types format    check style, check types, rewrite to style"

$(INSTALLED): setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[trainer,dev]'
	touch $@

demo: $(INSTALLED)
	$(BIN)/python examples/demo.py --output demo_output

test: $(INSTALLED)
	$(BIN)/python -m pytest -m "not slow and not flink" -n 2

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow -n 2

# Wants Java and Maven, which fetches Flink once, into its own repository outside this one.
test-flink: $(INSTALLED)
	$(BIN)/python -m pytest tests/flink --obtain_engines

# Submits with reelbeam[gcp], which nothing else needs; the worker is installed from wheels, without a network.
$(DATAFLOW)/.installed: setup.py
	$(PYTHON) -m venv $(DATAFLOW)
	$(DATAFLOW)/bin/python -m pip install --quiet --upgrade pip
	$(DATAFLOW)/bin/python -m pip install --quiet --editable '.[gcp]'
	$(DATAFLOW)/bin/python -m pip download --quiet --dest $(DATAFLOW)/wheels . setuptools wheel
	touch $@

test-dataflow: $(INSTALLED) $(DATAFLOW)/.installed
	REELBEAM_DATAFLOW=$(CURDIR)/$(DATAFLOW) $(BIN)/python -m pytest tests/pipelines/runners/test_dataflow.py

# Each Python that setup.py allows and this machine has, with the newest packages and with the lowest; or
# some: make test-versions VERSIONS='--python 3.12 --resolution lowest'.
VERSIONS ?=
test-versions: $(INSTALLED)
	$(BIN)/python tests/versions.py $(VERSIONS)

# Each parser for so long, guided by coverage; what is found lies in .fuzz.
FUZZ_SECONDS ?= 600
fuzz: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --editable '.[fuzz]'
	mkdir -p .fuzz
	for target in $$($(BIN)/python tests/fuzz/fuzz.py --list); do \
	  echo "== $$target"; \
	  $(BIN)/python tests/fuzz/fuzz.py $$target -max_total_time=$(FUZZ_SECONDS) -artifact_prefix=.fuzz/ \
	    -print_final_stats=0 -verbosity=0 || exit 1; \
	done

# How much of the usual footage: a tenth takes about ten minutes on two CPUs, all of it about an hour.
BENCH_PART ?= 0.1
bench: $(INSTALLED)
	$(BIN)/python benchmarks/build.py --part $(BENCH_PART)
	$(BIN)/python benchmarks/reader.py
	$(BIN)/python benchmarks/validation.py --records 1000

# Another reader of our records. Without what it depends on: it needs little of that for reading.
model-garden: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --no-deps tf-models-official tf-keras tf-slim gin-config immutabledict

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(INSTALLED)
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The generated module must run on every protobuf that setup.py allows, so it is made by a compiler that is older
# than all of them, which wants an environment of its own.
proto:
	$(PYTHON) -m venv .venv-proto
	.venv-proto/bin/python -m pip install --quiet grpcio-tools==1.62.3 setuptools
	.venv-proto/bin/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. tfrecords_schema/example.proto
	rm -r .venv-proto

clean:
	rm -rf .fuzz $(VENV) $(DATAFLOW) .venv-versions .venv-proto demo_output build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
