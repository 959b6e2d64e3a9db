# `make` lists what there is. LIBTORCH=<folder> uses a libtorch of yours instead of .libtorch.

ifdef LIBTORCH
override LIBTORCH := $(abspath $(LIBTORCH))
export LIBTORCH
endif
# scripts/test.sh builds with the same flags, so that `make test` after `make build` compiles the tests only.
SWIFT_FLAGS ?= -c release -Xswiftc -enable-testing
export SWIFT_FLAGS
SETUP_FLAGS ?=
BIN = .build/release
PREFIX ?= /usr/local
SWIFT_SOURCES = $(wildcard Package.swift Sources Tests Plugins Benchmarks examples)

.DEFAULT_GOAL := help
.PHONY: help setup build demo test study install uninstall wheel format lint docs-tables clean

help:
	@echo 'make setup    install what the build needs: system packages, libtorch (SETUP_FLAGS="--cpu" or "--cuda" to choose)'
	@echo 'make build    build the programs, libdagcore.so and the reward plugins into $(BIN)'
	@echo 'make demo     setup, build, and train the shipped little model'
	@echo 'make test     setup, build, and run all tests, Swift and Python'
	@echo 'make study    setup, build, and compare all objectives (some hours on two cores): runs/study/report.html'
	@echo 'make install  copy all that was built, and what it needs, to PREFIX (/usr/local); make uninstall removes it'
	@echo 'make wheel    a Python wheel with libdagcore.so and all that it needs, in python/dist'
	@echo 'make lint     check the formatting of the Swift code;  make format repairs it'
	@echo 'make docs-tables  write the tables of docs/configuration.md from the settings'
	@echo 'make clean    remove what was built (libtorch, .venv and runs stay)'

setup:
	scripts/setup.sh $(SETUP_FLAGS)

build:
	swift build $(SWIFT_FLAGS)

# A second demo goes to runs/demo-2, and so on: no run is ever written over.
demo: setup
	@$(MAKE) --no-print-directory build
	@output=runs/demo; n=2; while [ -e "$$output" ]; do output=runs/demo-$$n; n=$$((n + 1)); done; \
	echo "==> Training; the output goes to $$output"; \
	$(BIN)/dag-train --config examples/configs/tiny-sd-warmth.yaml --output "$$output" && \
	echo "==> Done. Look at the pictures in $$output/samples: epoch-0 is before training."

test:
	scripts/setup.sh --python $(SETUP_FLAGS)
	scripts/test.sh

study:
	scripts/setup.sh --study $(SETUP_FLAGS)
	@$(MAKE) --no-print-directory build
	.venv/bin/python Benchmarks/Study/study.py $(STUDY_FLAGS)

install:
	scripts/install.sh $(abspath $(PREFIX))

uninstall:
	scripts/install.sh --uninstall $(abspath $(PREFIX))

wheel:
	scripts/wheel.sh

lint:
	swift format lint --strict --recursive --parallel $(SWIFT_SOURCES)

format:
	swift format --in-place --recursive --parallel $(SWIFT_SOURCES)

docs-tables:
	DAG_WRITE_DOCS=1 swift test $(SWIFT_FLAGS) --disable-xctest --filter ConfigurationTests/documentation

clean:
	rm -rf .build
