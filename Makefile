# voxline: `make run` builds everything and serves; `make test` runs every check there is.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run web test tools lint audit rust rules web-test browser openai-python openai-node embedding bench screenshots clean

CARGO ?= cargo
NPM := npm --no-fund --no-audit --no-update-notifier
STAGE := tests/stage
# Builds target/debug/voxline as the Rust tests do: another choice of targets would be another
# choice of features, and build most crates again.
RELAY := $(CARGO) test --locked --no-run --quiet
VENV := target/openai_python
# Tests that measure, and whose figures are for reading.
FIGURES := truncation echo bargein
WEB_SOURCES := $(shell find web-demo -type f -not -path '*/node_modules/*' -not -path '*/dist/*')

help: ## Show this
	@echo "voxline: a realtime voice relay that keeps the conversation going"
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1 \t\2/p' Makefile | expand -t 24
	@echo
	@echo 'Flags of the relay go into ARGS: make run ARGS="--listen 127.0.0.1:9000"'

run: web ## Build all, web page too, and serve it on http://127.0.0.1:8080
	$(CARGO) run --locked -- $(ARGS)

web: web-demo/dist/index.html ## Build the web page

test: tools lint audit rust rules web-test browser openai-python openai-node embedding ## Install what the tests need, then run all of them
	@$(STAGE) --total

tools:
	@$(STAGE) "Tools" tests/tools

lint: ## Check formatting and lints, warnings denied
	@$(STAGE) "Rust formatting" $(CARGO) fmt --check
	@$(STAGE) "Clippy" $(CARGO) clippy --locked --all-targets -- -D warnings

audit: ## Check licences and advisories of all dependencies
	@$(STAGE) "Dependencies" tests/dependencies/check
	@$(STAGE) "Dependency check's own test" tests/dependencies/selftest

rust: ## Run the Rust tests
	@$(STAGE) "Rust tests" $(CARGO) test --locked
	@$(STAGE) "Figures" $(CARGO) test --locked --quiet $(addprefix --test ,$(FIGURES)) -- --nocapture --test-threads 1

rules: ## Check and test the alert rules, and the page of metrics, with Prometheus' own tool
	@$(STAGE) "Metrics" $(CARGO) test --locked --quiet --test server metrics::
	@$(STAGE) "Prometheus rules" tests/rules

web-test: ## Check and test the web page's code, and build the page
	@$(STAGE) "Web packages" $(MAKE) --no-print-directory web-demo/node_modules/.package-lock.json
	@$(STAGE) "Web checks" $(NPM) --prefix web-demo run check
	@$(STAGE) "Web tests" $(NPM) --prefix web-demo test
	@$(STAGE) "Web page" $(MAKE) --no-print-directory web

browser: web ## Talk to the relay in a real browser
	@$(STAGE) "Browser packages" $(MAKE) --no-print-directory tests/browser/node_modules/.package-lock.json
	@$(STAGE) "Relay" $(RELAY)
	@$(STAGE) "Browser test" $(NPM) --prefix tests/browser test

openai-python: ## Talk to the relay with OpenAI's own Python client
	@$(STAGE) "Python packages" $(MAKE) --no-print-directory $(VENV)/installed
	@$(STAGE) "Relay" $(RELAY)
	@$(STAGE) "openai-python" $(VENV)/bin/python tests/openai_python/talk.py target/debug/voxline

openai-node: ## Talk to the relay, over TLS, with OpenAI's own Node.js client
	@$(STAGE) "Node.js packages" $(MAKE) --no-print-directory tests/openai_node/node_modules/.package-lock.json
	@$(STAGE) "Relay" $(RELAY)
	@$(STAGE) "openai-node" $(NPM) --prefix tests/openai_node test

embedding: ## Run the examples of docs/EMBEDDING.md
	@$(STAGE) "Packages of the examples" $(MAKE) --no-print-directory $(VENV)/installed \
		$(patsubst %,%/node_modules/.package-lock.json,web-demo tests/browser tests/openai_node)
	@$(STAGE) "Relay" $(RELAY)
	@$(STAGE) "Embedding" node --test --test-reporter=spec tests/embedding/embedding.test.mjs

bench: ## Measure the latency that the relay adds
	$(CARGO) bench --locked

screenshots: web tests/browser/node_modules/.package-lock.json ## Take the pictures of the dashboard anew
	$(RELAY)
	node tests/browser/shots.mjs

clean: ## Remove everything that was built
	$(CARGO) clean
	rm -rf web-demo/dist web-demo/node_modules tests/browser/node_modules tests/openai_node/node_modules

web-demo/dist/index.html: web-demo/node_modules/.package-lock.json $(WEB_SOURCES)
	$(NPM) --prefix web-demo run build
	@touch $@

%/node_modules/.package-lock.json: %/package-lock.json
	@command -v npm >/dev/null || { echo "Missing: Node.js 20 or later, with npm." >&2; exit 1; }
	$(NPM) --prefix $* ci
	@touch $@

$(VENV)/installed: tests/openai_python/requirements.txt
	python3 -m venv --clear $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r $<
	@touch $@
