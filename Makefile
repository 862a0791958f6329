# make run: the whole demo.  make test: the test suite.  Both set up what is missing first.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
KERNELS := build/kernels
.DEFAULT_GOAL := help

help:
	@echo "make run      a demo search on this machine, dashboard at http://127.0.0.1:8000"
	@echo "make test     the test suite (kernels, unit, integration, end to end); ARGS='-k word' for a part of it"
	@echo "make test-all the same with the tests that repeat at length what shorter ones show (marked slow_ci)"
	@echo "make setup    virtual environment, pinned dependencies, C++ build (done by the others when missing)"
	@echo "make bench    the published benchmarks (BENCH=name for one)"
	@echo "make virtual-phone  a Galaxy S24 to try phones with, at 127.0.0.1:5555 (ARGS='--model s25')"
	@echo "make check    ruff, mypy, import contracts"
	@echo "make llama-cpp  llama.cpp from source for its parity tests (4-10 minutes, once)"
	@echo "make kernels  rebuild operators and runner"
	@echo "make clean    forget the demo's database and results (keeps $(VENV) and compiled blocks)"

setup:
	@./setup.sh

run: setup
	@$(BIN)/hilnas demo

test: test-kernels test-python

# slow_ci: a full storage and a revoked key in tests/e2e/test_phone_faults.py, a minute each;
# tests/contract/test_transports.py shows both on every transport, the wrong clock shows how an agent waits for a phone
test-all: test-kernels
	@tests/run $(ARGS)

test-kernels: setup
	@$(BIN)/ctest --test-dir $(KERNELS) --output-on-failure -j2

test-python: setup
	@tests/run --without-slow-ci $(ARGS)

check: setup
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

virtual-phone: setup
	@virtual_phone/install.sh
	@$(BIN)/hilnas virtual-phone $(ARGS)

bench: setup
	@$(BIN)/hilnas bench $(BENCH)

kernels: setup
	@$(BIN)/cmake --build $(KERNELS)

# Portable instructions: built native inside a virtual machine with AMX it crashed. The wheel is kept in build/.
LLAMA_CPP := llama-cpp-python==0.3.36
LLAMA_CPP_OFF := GGML_NATIVE GGML_OPENMP MTMD_BUILD LLAVA_BUILD LLAMA_BUILD_TOOLS LLAMA_BUILD_SERVER LLAMA_BUILD_EXAMPLES
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
llama-cpp: setup
	@ls build/llama-cpp/*.whl >/dev/null 2>&1 || CMAKE_ARGS="$(LLAMA_CPP_OFF:%=-D%=OFF)" CMAKE_BUILD_PARALLEL_LEVEL=$$(nproc) \
	  nice $(PIP) wheel --no-deps --no-cache-dir --no-binary llama-cpp-python $(LLAMA_CPP) -w build/llama-cpp
	@$(PIP) install diskcache==5.6.3
	@$(PIP) install --no-deps --no-index --find-links build/llama-cpp $(LLAMA_CPP)

clean:
	rm -rf var/demo

.PHONY: help setup run test test-all test-kernels test-python check bench kernels clean virtual-phone llama-cpp
