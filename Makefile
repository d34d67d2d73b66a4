# SPDX-License-Identifier: MIT
# A thin front for CMake: `make help` lists what there is. Needs make alone; scripts/setup
# installs the rest, from the list in scripts/packages.txt.

JOBS := $(shell nproc 2>/dev/null || echo 2)
OUT ?= demo-out
# WERROR=ON or OFF says whether warnings stop the build; by default they do with gcc 12 and clang 14
WERROR ?=
PREFIX ?= /usr/local
SECONDS_EACH ?= 10
# a Python that has torch, numpy and safetensors; by default one is made under build/
BENCH_PYTHON ?=
# further options of bench/torch_baseline.py, such as --sections all
BENCH_ARGS ?=

configure = cmake --preset $(1) $(if $(WERROR),-DZSEM_WERROR=$(WERROR)) $(2) >build/$(1).log || { cat build/$(1).log; exit 1; }
compile = cmake --build build/$(1) --parallel $(JOBS) $(2)
run_tests = ctest --test-dir build/$(1) --parallel $(JOBS) --output-on-failure --no-tests=error

.PHONY: all help setup configure demo test ci bench bench-ops install format check-format asan fuzz-smoke \
	gpu-check clean
.DEFAULT_GOAL := all

all: configure
	@$(call compile,release,--target zsem)

help:
	@echo 'make              build/release/zsem, installing missing packages first'
	@echo 'make demo         build, then show what the shipped model does in $(OUT)/index.html'
	@echo 'make test         build and run every test'
	@echo 'make bench        zsem against PyTorch, row by row, into bench/RESULTS.md (installs PyTorch below build/)'
	@echo 'make bench-ops    the time of every operation, for work on kernels'
	@echo 'make install      into PREFIX ($(PREFIX)), below DESTDIR'
	@echo 'make format       clang-format; check-format only reports'
	@echo 'make asan         the tests under AddressSanitizer and UBSan'
	@echo 'make fuzz-smoke   each fuzz target for SECONDS_EACH ($(SECONDS_EACH)) seconds'
	@echo 'make gpu-check    build with CUDA, then test and measure everything on the GPU of this machine'
	@echo 'make ci           everything that has to pass before a change goes in'
	@echo 'make clean        remove build/'

setup:
	@scripts/setup build

configure: setup
	@mkdir -p build
	@[ -f build/release/build.ninja ] && [ -z '$(WERROR)' ] || { $(call configure,release); }

demo: all
	build/release/zsem demo --out $(OUT)
	@echo 'Open $(abspath $(OUT))/index.html'

test:
	@scripts/setup build test
	@mkdir -p build
	@$(call configure,release,-DZSEM_TESTS=ON)
	@$(call compile,release)
	@$(call run_tests,release)

ci:
	.ci/run

bench: all
	@scripts/bench-python build/bench-venv $(BENCH_PYTHON) >build/bench-python
	@"$$(cat build/bench-python)" bench/torch_baseline.py --zsem build/release/zsem $(BENCH_ARGS)

bench-ops:
	@scripts/setup build test
	@mkdir -p build
	@$(call configure,release,-DZSEM_TESTS=ON)
	@$(call compile,release)
	@for b in build/release/bench/bench_*; do [ ! -x "$$b" ] || "$$b" || exit 1; done

install: configure
	@$(call configure,release,-DCMAKE_INSTALL_PREFIX=$(PREFIX))
	@$(call compile,release)
	cmake --install build/release --prefix $(PREFIX)

format check-format:
	@scripts/setup ci
	@scripts/check-format $(if $(filter format,$@),--fix)

asan:
	@scripts/setup build test
	@mkdir -p build
	@$(call configure,asan,-DZSEM_TESTS=ON)
	@$(call compile,asan)
	@$(call run_tests,asan)

fuzz-smoke:
	@scripts/setup build test ci
	@mkdir -p build
	@$(call configure,fuzz,-DZSEM_TESTS=ON)
	@$(call compile,fuzz,--target fuzzers)
	@scripts/fuzz-smoke build/fuzz $(SECONDS_EACH)

gpu-check:
	@BENCH_PYTHON='$(BENCH_PYTHON)' scripts/gpu-check

clean:
	rm -rf build
