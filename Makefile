# make run: the whole demo.  make test: the test suite.  Both set up what is missing first.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
KERNELS := build/kernels
.DEFAULT_GOAL := help

help:
	@echo "make run      a demo search on this machine, dashboard at http://127.0.0.1:8000"
	@echo "make test     the test suite (kernels, unit, integration, end to end)"
	@echo "make setup    virtual environment, pinned dependencies, C++ build (done by the others when missing)"
	@echo "make bench    the published benchmarks (BENCH=name for one)"
	@echo "make virtual-phone  a Galaxy S24 to try phones with, at 127.0.0.1:5555 (ARGS='--model s25')"
	@echo "make check    ruff, mypy, import contracts"
	@echo "make kernels  rebuild operators and runner"
	@echo "make clean    forget the demo's database and results (keeps $(VENV) and compiled blocks)"

setup:
	@./setup.sh

run: setup
	@$(BIN)/hilnas demo

test: setup
	@$(BIN)/ctest --test-dir $(KERNELS) --output-on-failure -j2
	@$(BIN)/python -m pytest $(ARGS)

check: setup
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

virtual-phone: setup
	@device_agents/virtual_phone/install.sh
	@$(BIN)/hilnas virtual-phone $(ARGS)

bench: setup
	@$(BIN)/hilnas bench $(BENCH)

kernels: setup
	@$(BIN)/cmake --build $(KERNELS)

clean:
	rm -rf var/demo

.PHONY: help setup run test check bench kernels clean virtual-phone
