# One truth for people and for CI. A line with ## is what `make` alone prints.

GO          ?= go
FUZZTIME    ?= 10s
GOBENCH     ?= .
STATICCHECK ?= honnef.co/go/tools/cmd/staticcheck@v0.7.0

# From git where there is one, else whoever packages says it: make build VERSION=1.2.3
GITVERSION := $(shell git describe --tags --always --dirty 2>/dev/null)
VERSION    := $(or $(VERSION),$(GITVERSION),devel)

# Without a usable git (none installed, or the checkout is somebody else's) Go must not ask it either.
BUILDVCS := $(if $(GITVERSION),,-buildvcs=false)
BUILD     = CGO_ENABLED=0 $(GO) build -trimpath $(BUILDVCS) -ldflags '-s -w -X github.com/pomelod/pomelod/server.Version=$(VERSION)'

# What is tested is compiled as what is shipped, so that one entry of Go's cache serves the tests, the binary, and those that tests build. The race detector needs cgo.
export CGO_ENABLED ?= 0
export GOFLAGS     := $(strip $(filter-out -trimpath $(BUILDVCS),$(shell $(GO) env GOFLAGS)) -trimpath $(BUILDVCS))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## show this list
	@echo 'pomelod: make TARGET'
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/pomelod, a static binary
	$(BUILD) -o bin/pomelod ./cmd/pomelod

.PHONY: run
run: build ## build and start pomelod, whose lobby shows newcomers what was said before; flags go into ARGS, as in make run ARGS=-help
	@bin/pomelod -history-open lobby $(ARGS)

# Not from Go's cache: some tests start what others have built. make lint vets all of it, once.
TEST = $(GO) test -count=1 -vet=off

# Those that take longest begin first, so that none of them runs alone in the end.
LONGEST = ./router ./server ./cluster ./bench ./channel

.PHONY: test
test: test-go test-fleet test-json abuse interop ## run all tests: Go, a fleet of processes, the second JSON engine, hostile clients, real clients

.PHONY: test-go
test-go: ## run the Go tests alone, in a few minutes
	$(TEST) -timeout 30m $(LONGEST) $$($(GO) list ./... | grep -v /test/abuse)

# A module of its own, for nats-server.
.PHONY: test-fleet
test-fleet: ## run fleets of real processes with a real nats-server
	cd test/fleet && $(TEST) -timeout 30m ./...

.PHONY: test-json
test-json:
	$(TEST) -timeout 30m -tags pomelod_stdjson ./codec ./router

# Not beside other tests: it judges how soon the witnesses hear.
.PHONY: abuse
abuse: ## attack pomelod in some forty ways while others chat (test/abuse)
	$(TEST) -timeout 30m ./test/abuse

.PHONY: abuse-long
abuse-long: ## make some of the attacks as large as they were when they did harm, and judge how late others hear; wants 4 GB of memory
	$(GO) test -count=1 -timeout 30m -v -run 'TestLong$$' ./test/abuse -long

# UPGRADES of the server while a CROWD of clients of all wires chats; CI does it three times, with a small one.
# CHURN others come, say something and go all the time. For as many as a machine has descriptors: ulimit -n 65536; make upgrades CROWD='-members 19000 -rooms 950 -rate 1900'
UPGRADES ?= 100
CROWD    ?= -members 2000 -rooms 100 -rate 500
CHURN    ?= 2
.PHONY: upgrades
upgrades: ## replace pomelod UPGRADES (100) times while clients chat: nobody may notice
	$(GO) test -count=1 -timeout 30m -v -run 'TestUpgrades$$' ./bench -upgrades '$(UPGRADES)' -upgrade-crowd '$(CROWD)' -upgrade-churn '$(CHURN)'

.PHONY: upgrades-soak
upgrades-soak: ## the same 200 times, while many come and go (CHURN=20)
	$(MAKE) upgrades UPGRADES=200 CHURN=20

# With the race detector, pauses not counted: they add about 12 s to each of 20 rounds.
SOAK ?= 10m
.PHONY: soak
soak: ## let clients come, go, flood and fail for SOAK (10m): nothing may grow
	CGO_ENABLED=1 $(GO) test -race -timeout 0 -count=1 -v -run TestSoak ./test/abuse -soak '$(SOAK)'

.PHONY: race
race: ## run the Go tests with the race detector (needs gcc)
	CGO_ENABLED=1 $(TEST) -race -timeout 60m $(LONGEST) $$($(GO) list ./... | grep -v -e /test/abuse -e /deploy/pack)

.PHONY: race-abuse
race-abuse: ## attack a pomelod that was built with the race detector, in about six minutes
	CGO_ENABLED=1 $(TEST) -race -timeout 30m ./test/abuse

# The tests of make test-fleet, all of them: guests, networks, and what speaks to NATS are looked at for races. pomelod itself is as it is shipped, in both.
.PHONY: race-fleet
race-fleet: ## run fleets of real processes, and look at their clients and the bus for races
	cd test/fleet && CGO_ENABLED=1 $(TEST) -race -timeout 30m ./...

# Two thousand take two cores a minute or two. One seed again, told in full: bin/sim.test -test.run 'TestSim$$' -test.v -sim.from N -sim.seeds 1 -sim.trace
SEEDS ?= 2000
.PHONY: sim
sim: ## simulate SEEDS (2000) fleets of processes, with random faults, under virtual time
	@mkdir -p bin
	$(GO) test -c -o bin/sim.test ./cluster
	@bin/sim.test -test.run 'TestSim$$' -test.timeout 0 -sim.seeds '$(SEEDS)'

# Figures want a machine that has nothing else to do. A part of it, without bars, is in make test-fleet.
FAULTS ?= .
TIMES  ?= 1
.PHONY: fleet
fleet: ## let everything go wrong in fleets of real processes, TIMES (1) times each (FAULTS=NATS, a regexp), and hold times to their bars
	cd test/fleet && $(GO) test -count=1 -timeout 0 -v -run TestFaults -faults -fault '$(FAULTS)' -rounds '$(TIMES)'

# Each process has a fifth of the members and wants as many files (ulimit -n 20000). It takes a few minutes.
MEMBERS ?= 95000
.PHONY: fleet-many
fleet-many: ## have MEMBERS (95000) enter one room on five connectors, and tell what a push to them costs on the links, and how late they hear it
	cd test/fleet && $(GO) test -count=1 -timeout 0 -v -run TestRoomOnFiveConnectors -members '$(MEMBERS)'

# Plain runs have one seed a test; these have EXPLORE new ones.
EXPLORE ?= 20
.PHONY: explore
explore: ## run the random tests of rooms, wires, loops and fleets with EXPLORE (20) seeds of their own
	$(GO) test -count='$(EXPLORE)' -timeout 0 -run 'Model|Random|Faults|RoundTrip|Links|Plan|History|SplitAnywhere|HandOver' $$(grep -rl --include='*_test.go' internal/seed . | xargs -n1 dirname | sort -u | grep -v test/abuse) -seed time

.PHONY: interop
interop: build asone chromium interop/node_modules/.package-lock.json bin/interop-go bin/interop-libpomelo2 ## drive bin/pomelod with real clients of many languages, and a browser
	POMELOD='$(CURDIR)/bin/pomelod' scripts/interop.sh

# Those that are about rooms. ASONE_FLEET=pair: against one of two nodes that do everything.
INTEROP_FLEET ?= test/rooms.test.js test/chat.test.js test/enter.test.js test/order.test.js test/leave.test.js
.PHONY: interop-fleet
interop-fleet: build asone interop/node_modules/.package-lock.json bin/interop-go bin/interop-libpomelo2 ## drive a gate, a connector and a chat node with those of these clients that are about rooms
	cd interop && ASONE_BINARY='$(CURDIR)/bin/pomelod' POMELOD='$(CURDIR)/bin/pomelod-asone' node --test $(INTEROP_FLEET)

# CUTS=20 takes a quarter of a minute; with more, networks are frozen for up to 40 s, and 2,000 take half an hour. The last line of each test has sums. SEED=N has other ones.
CUTS ?= 2000
.PHONY: cuts
cuts: build interop/node_modules/.package-lock.json ## cut real clients off CUTS (2000) times while somebody speaks: who returns may miss nothing
	cd interop && POMELOD='$(CURDIR)/bin/pomelod' CUTS='$(CUTS)' node --test --test-reporter=spec test/cuts.test.js

# DEATHS=1 is what each run of the tests has. Twenty take about ten minutes.
DEATHS ?= 20
.PHONY: deaths
deaths: build asone interop/node_modules/.package-lock.json ## kill the connector of real clients, the owner of their room, and both, DEATHS (20) times each: they may miss nothing
	cd interop && POMELOD='$(CURDIR)/bin/pomelod' DEATHS='$(DEATHS)' node --test --test-reporter=spec test/deaths.test.js

# A fleet that looks like one process, of a module that has nats-server.
.PHONY: asone
asone:
	cd test/fleet && $(GO) build -o ../../bin/pomelod-asone ./asone

.PHONY: try-proxies
try-proxies: build chromium interop/node_modules/.package-lock.json ## try what docs/OPERATIONS.md says of nginx, HAProxy and Caddy, which must be installed
	scripts/try-proxies.sh bin/pomelod

interop/node_modules/.package-lock.json: interop/package-lock.json | node
	cd interop && npm ci --no-audit --no-fund

# The clients that are not JavaScript; those of Python need no building.
bin/interop-go: $(wildcard interop/clients/go/*.go) go.sum
	$(GO) build -o $@ ./interop/clients/go

bin/interop-libpomelo2: interop/clients/libpomelo2.c | clients
	@mkdir -p bin
	gcc -std=c11 -D_POSIX_C_SOURCE=200809L -O1 -g -Wall -Wextra -Werror -o $@ $< -luv -ljansson -lz

.PHONY: clients
clients:
	@sh scripts/ensure-clients.sh

.PHONY: node
node:
	@sh scripts/ensure-node.sh

.PHONY: chromium
chromium:
	@sh scripts/ensure-chromium.sh

# Not in CI, where make test-go runs the seeds: what a search by chance finds belongs to no commit. It is mended, and its input becomes a seed.
.PHONY: fuzz
fuzz: ## search with every fuzz target for FUZZTIME (10s)
	@GO='$(GO)' scripts/fuzz.sh '$(FUZZTIME)'

# Not in CI: it builds and runs a package's tests for each of more than a hundred bugs, which takes most of an hour.
MUTANTS ?= .
.PHONY: mutants
mutants: ## plant bugs, one at a time, and tell which no test notices (MUTANTS=netpoll, a regexp)
	@$(GO) run ./test/mutants -only '$(MUTANTS)'

include bench/bench.mk
include bench/peers/peers.mk

.PHONY: lint
lint: ## check format, go vet and staticcheck
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "run gofmt -w on:" $$unformatted >&2; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags pomelod_stdjson ./codec ./router
	$(GO) run $(STATICCHECK) ./...
	cd test/fleet && $(GO) vet ./... && $(GO) run $(STATICCHECK) ./...

.PHONY: cover
cover: ## tell which part of the code the Go tests run (bin/cover.html)
	@mkdir -p bin
	$(GO) test -count=1 -coverpkg=./... -coverprofile=bin/cover.out ./...
	@$(GO) tool cover -html=bin/cover.out -o bin/cover.html
	@$(GO) tool cover -func=bin/cover.out | tail -n 1

# Tarballs, deb, rpm, container images and SBOMs of both kinds of machines, with checksums. Of one commit and one Go they are the same to the byte, wherever they are made.
ARCHES ?= amd64 arm64
DIST   ?= dist
NFPM   ?= $(GO) run $(NFPMTOOL)
NFPMTOOL = github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.43.0
.PHONY: dist
dist: build ## make tarballs, deb, rpm, container images and SBOMs for amd64 and arm64, with checksums (dist/)
	rm -rf '$(DIST)'
	set -e; for arch in $(ARCHES); do \
		GOOS=linux GOARCH=$$arch $(BUILD) -o "$(DIST)/bin/$$arch/pomelod" ./cmd/pomelod; \
		$(MAKE) --no-print-directory package ARCH=$$arch BINARY="$(DIST)/bin/$$arch/pomelod" TOOL=bin/pomelod VERSION='$(VERSION)'; \
		$(PACK) image -arch $$arch -binary "$(DIST)/bin/$$arch/pomelod" -version '$(VERSION)' -out "$(DIST)/pomelod-$(VERSION)-linux-$$arch.oci.tar"; \
		$(PACK) sbom -binary "$(DIST)/bin/$$arch/pomelod" -version '$(VERSION)' -out "$(DIST)/pomelod-$(VERSION)-linux-$$arch.cdx.json"; \
	done
	rm -r '$(DIST)/bin'
	cd '$(DIST)' && sha256sum pomelod-* >SHA256SUMS

# What is packed has the time of the last commit.
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
export SOURCE_DATE_EPOCH
PACK = $(GO) run ./deploy/pack
.PHONY: image
image: ## make a container image for ARCH (amd64) without a daemon (dist/; docker load -i FILE, podman load -i FILE)
	@mkdir -p bin/image '$(DIST)'
	GOOS=linux GOARCH=$(ARCH) $(BUILD) -o bin/image/pomelod ./cmd/pomelod
	$(PACK) image -arch $(ARCH) -binary bin/image/pomelod -version '$(VERSION)' -out '$(DIST)/pomelod-$(VERSION)-linux-$(ARCH).oci.tar'

# One binary that is there already; TOOL is one that runs here.
ARCH ?= amd64
TOOL ?= $(BINARY)
.PHONY: package
package:
	TOOL='$(TOOL)' NFPM='$(NFPM)' scripts/package.sh '$(ARCH)' '$(BINARY)' '$(VERSION)' '$(DIST)'

.PHONY: packages
packages: ## make the packages twice, install them into an empty root, and remove them
	@mkdir -p bin
	@GOBIN='$(CURDIR)/bin' $(GO) install $(NFPMTOOL) || echo 'deb and rpm are not tried: nfpm cannot be had' >&2
	NFPM='$(CURDIR)/bin/nfpm' $(GO) test -count=1 -run 'TestPackages$$' ./server

# Elsewhere than on Linux pomelod only says that it needs Linux; that must compile too.
.PHONY: arm64
arm64: ## compile for arm64, and for a system that is not Linux, with the tests of programs
	CGO_ENABLED=0 GOOS=linux GOARCH=arm64 $(GO) build ./...
	CGO_ENABLED=0 GOOS=darwin GOARCH=arm64 $(GO) vet ./cmd/pomelod ./app/apptest ./examples/matchmaking ./examples/filter

# Not in CI: it is emulated, and its package is not on every machine. ARM64=FILE runs another binary, as that of a package.
ARM64 ?= bin/pomelod-arm64
.PHONY: arm64-run
arm64-run: ## run an arm64 pomelod under qemu-user while two clients talk, where that can be had (ARM64=FILE: that of a package)
	$(if $(filter bin/pomelod-arm64,$(ARM64)),GOOS=linux GOARCH=arm64 $(BUILD) -o bin/pomelod-arm64 ./cmd/pomelod)
	@GO='$(GO)' scripts/arm64-run.sh '$(ARM64)'

# Skipped, with a sentence, where the database cannot be reached. What the licences are, a test of deploy/pack says.
GOVULNCHECK ?= golang.org/x/vuln/cmd/govulncheck@v1.1.4
.PHONY: vuln
vuln: ## look for known vulnerabilities in what pomelod is built of (govulncheck)
	@GO='$(GO)' GOVULNCHECK='$(GOVULNCHECK)' scripts/vuln.sh

.PHONY: check
check: lint test race race-fleet sim arm64 vuln ## everything that CI runs

.PHONY: clean
clean: ## remove what was built and downloaded here
	rm -rf bin dist interop/node_modules bench/peers/node/node_modules

# BINARY is for who has built elsewhere. What an operator has written into the environment file is never touched.
PREFIX  ?= /usr/local
BINARY  ?= bin/pomelod
UNITS    = $(DESTDIR)$(PREFIX)/lib/systemd/system
ENVFILE  = $(DESTDIR)/etc/default/pomelod
.PHONY: install
install: ## install bin/pomelod and its systemd units, after make build (PREFIX=/usr/local, DESTDIR)
	@test -x '$(BINARY)' || { echo 'There is no $(BINARY): run make build first.' >&2; exit 1; }
	install -D -m 755 '$(BINARY)' '$(DESTDIR)$(PREFIX)/bin/pomelod'
	install -d '$(UNITS)' '$(DESTDIR)/etc/default'
	sed 's|/usr/local/bin/|$(PREFIX)/bin/|' deploy/pomelod.service >'$(UNITS)/pomelod.service'
	sed 's|/usr/local/bin/|$(PREFIX)/bin/|' deploy/pomelod@.service >'$(UNITS)/pomelod@.service'
	chmod 644 '$(UNITS)/pomelod.service' '$(UNITS)/pomelod@.service'
	install -m 644 deploy/pomelod.socket '$(UNITS)/pomelod.socket'
	test -e '$(ENVFILE)' || install -m 644 deploy/pomelod.env '$(ENVFILE)'
	test -e '$(ENVFILE)-fleet' || install -m 600 deploy/pomelod-fleet.env '$(ENVFILE)-fleet'

.PHONY: uninstall
uninstall: ## remove what make install has installed; an environment file that was edited stays
	rm -f '$(DESTDIR)$(PREFIX)/bin/pomelod' '$(UNITS)/pomelod.service' '$(UNITS)/pomelod@.service' '$(UNITS)/pomelod.socket'
	! cmp -s deploy/pomelod.env '$(ENVFILE)' || rm '$(ENVFILE)'
	! cmp -s deploy/pomelod-fleet.env '$(ENVFILE)-fleet' || rm '$(ENVFILE)-fleet'
