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
MODULES = Support Tensors NN Models Images Rewards CFunctionReward RewardPluginKit DAGCore

.DEFAULT_GOAL := help
.PHONY: help setup build demo check test study benchmarks endurance fuzz docs install uninstall wheel format lint docs-tables clean

help:
	@echo 'make setup      install what the build needs: system packages, libtorch (SETUP_FLAGS="--cpu" or "--cuda" to choose)'
	@echo 'make build      build the programs, libdagcore.so and the reward plugins into $(BIN)'
	@echo 'make demo       setup (which may install Debian packages, with sudo), build, and train the little model that is shipped'
	@echo 'make check      build, style, and the quick Swift tests: two minutes on two cores once all is built'
	@echo 'make test       setup, build, and run all tests, Swift and Python'
	@echo 'make study      setup, build, and compare all algorithms (some hours on two cores): runs/study/report.html'
	@echo 'make benchmarks build the programs behind docs/results.md and docs/performance.md into $(BIN)'
	@echo 'make endurance  kills, full disks and an hour in one process, beyond what make test does: KILLS=1000 EVERY=1 MINUTES=60'
	@echo 'make fuzz       fuzz a parser: TARGET=safetensors SECONDS=600 (docs/reliability.md)'
	@echo 'make docs       pages of the Swift modules, by DocC, in .build/api'
	@echo 'make install    copy all that was built, and what it needs, to PREFIX (/usr/local); make uninstall removes it'
	@echo 'make wheel      a Python wheel with libdagcore.so and all that it needs, in python/dist'
	@echo 'make lint       check style: Swift, Python, shell, C and C++;  make format repairs what can be repaired'
	@echo 'make docs-tables  write the tables of docs from the settings and the shipped rewards'
	@echo 'make clean      remove what was built (libtorch, .venv and runs stay)'

setup:
	scripts/setup.sh $(SETUP_FLAGS)

build:
	swift build $(SWIFT_FLAGS)
	@scripts/manifests.sh "$$(swift build $(SWIFT_FLAGS) --show-bin-path)"

# A second demo goes to runs/demo-2, and so on: no run is ever written over.
demo: setup
	@$(MAKE) --no-print-directory build
	@output=runs/demo; n=2; while [ -e "$$output" ]; do output=runs/demo-$$n; n=$$((n + 1)); done; \
	echo "==> Training; the output goes to $$output"; \
	$(BIN)/dag-train --config examples/configs/tiny-sd-warmth.yaml --processes auto --output "$$output" && \
	echo "==> Done. Open $$output/report.html: curves, and images before and after."

check:
	scripts/setup.sh --lint $(SETUP_FLAGS)
	scripts/test.sh --lint --quick

test:
	scripts/setup.sh --python $(SETUP_FLAGS)
	scripts/test.sh

# A package of its own, in the same build folder: what both use is compiled once.
benchmarks: build
	swift build $(SWIFT_FLAGS) --package-path Benchmarks --scratch-path .build --disable-build-manifest-caching

study:
	scripts/setup.sh --study $(SETUP_FLAGS)
	@$(MAKE) --no-print-directory benchmarks
	.venv/bin/python Benchmarks/Study/study.py $(STUDY_FLAGS)

KILLS ?= 1000
EVERY ?= 1
MINUTES ?= 60
endurance: build
	DAG_BIN=$(BIN) .venv/bin/python Tests/endurance/kills.py $(KILLS)
	DAG_BIN=$(BIN) .venv/bin/python Tests/endurance/full_disk.py $(EVERY)
	DAGCORE_LIBRARY=$(abspath $(BIN))/libdagcore.so .venv/bin/python Tests/endurance/soak.py $(MINUTES)

SECONDS ?= 600
fuzz:
	scripts/fuzz.sh $(TARGET) $(SECONDS)

# Of what other modules see, `package` access included.
docs:
	DAG_DOCS=1 swift package --scratch-path .build/docs --allow-writing-to-directory .build/api generate-documentation \
		$(addprefix --target ,$(MODULES)) --enable-experimental-combined-documentation \
		--symbol-graph-minimum-access-level package --output-path .build/api --transform-for-static-hosting
	@echo "==> Look at them: python3 -m http.server -d .build/api, then http://localhost:8000/documentation"

install:
	scripts/install.sh $(abspath $(PREFIX))

uninstall:
	scripts/install.sh --uninstall $(abspath $(PREFIX))

wheel:
	scripts/wheel.sh

lint:
	scripts/lint.sh

format:
	scripts/lint.sh --repair

docs-tables:
	DAG_WRITE_DOCS=1 swift test $(SWIFT_FLAGS) --disable-xctest --filter 'ConfigurationTests/documentation|GalleryTests'

clean:
	rm -rf .build
