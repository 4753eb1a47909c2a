# make demo   the whole job on a digital torso, in an environment without TensorFlow
# make test   lint, import contracts, types, site, doctests, README's code, tests (ten minutes)
# make test-all   make test, then the slow proofs, and those that install packages from the registry
# make bench  what a slice, a process, a job and a training's input cost here, beside the targets and RED-CNN (ten minutes)
# make soak   the DICOM node under load, killed again and again, out of disk, and for an hour (seventy-five minutes);
#             then an hour of damaged files for the reader: make fuzz MINUTES=1 for that alone, and shorter
# make locks  resolve the pinned requirements anew (after a change of dependencies in setup.py)
#
# Each makes its own environment from its lock file, once, and makes it anew when the lock, setup.py or the place of
# the checkout changes.

SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: demo test tests beside test-all test-torch bench soak fuzz locks clean

# The first Python that is new enough and can make environments (a distribution may ship one without ensurepip).
ifndef PYTHON
PYTHON := $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)
endif

DEMO := .venv-demo
TEST := .venv-test
TORCH := .venv-torch
LOCKS := .venv-locks

# An environment is as good as new while nothing that went into it has changed: the stamp's name is their digest.
digest = $(shell { echo '$(CURDIR)'; $(PYTHON) -c 'import sys; print(sys.executable, sys.version)'; \
	cat $(1) setup.py pyproject.toml; } 2>/dev/null | git hash-object --stdin)
DEMO_STAMP := $(DEMO)/made-$(call digest,requirements/demo.txt)
TEST_STAMP := $(TEST)/made-$(call digest,requirements/test.txt)
TORCH_STAMP := $(TORCH)/made-$(call digest,requirements/torch.txt)

# $(call environment,folder,lock): exactly what the lock names, then the checkout itself, built with the locked tools.
define environment
	@if [ -z '$(PYTHON)' ]; then \
		echo 'Expected Python 3.11 or newer with its venv module. Received: none on PATH;' \
			'install it (Debian: apt-get install python3 python3-venv) or say make PYTHON=/path/to/python' >&2; \
		exit 1; \
	fi
	@echo 'Making $(1) from $(2) (once) ...'
	@rm -rf $(1)
	@$(PYTHON) -m venv $(1)
	@$(1)/bin/python -m pip install -qq --disable-pip-version-check --require-hashes -r $(2)
	@$(1)/bin/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
endef

$(DEMO_STAMP):
	$(call environment,$(DEMO),requirements/demo.txt)

$(TEST_STAMP):
	$(call environment,$(TEST),requirements/test.txt)

$(TORCH_STAMP):
	$(call environment,$(TORCH),requirements/torch.txt)

demo: $(DEMO_STAMP)
	@$(DEMO)/bin/python -m kpn_tf.demo demo

# What `keras.ops` promises is held to: the core gives the same numbers on another backend.
CORE_TESTS := tests/test_ops.py tests/test_layers.py tests/test_losses.py tests/test_networks.py \
	tests/test_keras_user.py tests/test_keras_export.py

# $(call debian,command that succeeds where it is there,packages,what the tests do with it): where it is missing and
# cannot be had, the tests that need it skip with a reason.
define debian
if ! { $(1); } > /dev/null 2>&1; then \
	echo 'Installing $(2) (for the tests: $(3)) ...'; \
	{ [ "$$(id -u)" = 0 ] && apt-get update -qq && \
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(2); } > /dev/null 2>&1 \
	|| echo 'That failed (as root, on Debian: apt-get install $(2)): the tests that need it skip.'; \
fi
endef

# Prints the ten slowest.
PYTEST := $(TEST)/bin/python -m pytest --durations=10
# Three processes, for two cores: a third of their time they wait, for nodes, peers and browsers. A file's tests stay in
# one, in order. Files in order too: the last ones are short.
THREE := --numprocesses=3 --dist=loadfile --no-loadscope-reorder

SWIFTSHADER := /usr/lib/chromium/libvk_swiftshader.so

test: $(TEST_STAMP)
	@$(call debian,command -v dciodvfy,dicom3tools,dciodvfy checks written DICOM)
	@$(call debian,command -v Orthanc && command -v storescu,orthanc dcmtk,a scanner and an archive for the node)
	@$(call debian,command -v systemd-analyze,systemd,systemd checks the unit of the node)
	@$(call debian,command -v chromium,chromium,a browser for pages)
	@$(call debian,test -e $(SWIFTSHADER) && /sbin/ldconfig -p | grep libvulkan.so.1,chromium-common libvulkan1,a GPU in software)
	$(TEST)/bin/ruff check .
	$(TEST)/bin/ruff format --check .
	$(TEST)/bin/lint-imports --no-logo
	@$(MAKE) --no-print-directory --jobs=2 tests beside

tests:
	KPN_FUZZ_S=60 KERAS_BACKEND=tensorflow $(PYTEST) $(THREE) -m 'not slow and not registry'

# What computes and never waits; it speaks when it is done.
beside:
	@{ $(TEST)/bin/python -m mypy && \
	NO_MKDOCS_2_WARNING=1 $(TEST)/bin/python -m mkdocs build --strict --quiet; } > $(TEST)/beside.log 2>&1; \
	status=$$?; cat $(TEST)/beside.log; exit $$status

test-all: test
	KERAS_BACKEND=tensorflow $(PYTEST) $(THREE) -m 'slow or registry'
	KERAS_BACKEND=jax $(PYTEST) -m 'not slow' $(CORE_TESTS)
	@if $(MAKE) $(TORCH_STAMP); then $(MAKE) test-torch; \
	else echo 'No PyTorch for CPUs was found (requirements/torch.in): the tests of the core on it are left out.'; fi

# The core on a third backend: 1.2 GB in an environment of its own, twenty seconds of a core.
test-torch: $(TORCH_STAMP)
	KERAS_BACKEND=torch $(TORCH)/bin/python -m pytest -m 'not slow' $(CORE_TESTS)

# Of the last part of `make soak`, and of `make fuzz`.
MINUTES := 60

# The node under load, killed, out of disk, and for an hour.
soak: $(TEST_STAMP)
	@$(call debian,command -v Orthanc && command -v storescu,orthanc dcmtk,a scanner and an archive for the node)
	@KERAS_BACKEND=tensorflow $(TEST)/bin/python -m benchmarks.soak $(MINUTES)
	@$(MAKE) --no-print-directory fuzz

fuzz: $(TEST_STAMP)
	@$(TEST)/bin/python -m tests.reader_fuzzing $$((60 * $(MINUTES)))

bench: $(TEST_STAMP)
	@KERAS_BACKEND=tensorflow $(TEST)/bin/python -m benchmarks.latency

# $(call lock,output,further arguments): hashes of every file of every package, for any platform, naming no index.
lock = $(LOCKS)/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	--custom-compile-command 'make locks' setup.py requirements/checkout.in $(2) --output-file $(1)

locks:
	@$(PYTHON) -m venv $(LOCKS)
	@$(LOCKS)/bin/python -m pip install -qq --disable-pip-version-check uv==0.13.9
	$(call lock,requirements/demo.txt)
	$(call lock,requirements/test.txt,--extra train --extra export --extra baselines --extra figures --extra data --extra node --extra volumes --extra cluster --extra dev --constraint requirements/demo.txt)
	$(call lock,requirements/torch.txt,requirements/torch.in --constraint requirements/test.txt)

clean:
	rm -rf $(DEMO) $(TEST) $(TORCH) $(LOCKS) .venv-addons build dist *.egg-info .pytest_cache .ruff_cache .import_linter_cache .hypothesis
