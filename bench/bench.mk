# Nothing else should run meanwhile. BENCH=quick: one round of short windows and smaller crowds, in about ten minutes, without verdicts.
.PHONY: bench
bench: bench-clean bench-load bench-go ## measure against the floor, in about an hour, into bench/report (BENCH=quick: ten minutes; docs/BENCHMARKS.md)
	@$(MAKE) --no-print-directory bench-report

# What the load generator measures (bench/README.md): one JSON line a run, into bin/bench-*.jsonl, and a table of medians on the
# terminal. A void run ends make. For a quick look: make bench-wires ROUNDS=1 TIME=1s MEMBERS=200
ifeq ($(BENCH),quick)
ROUNDS  ?= 1
TIME    ?= 1s
FROZEN  ?= 5s
NEIGHBOUR ?= 2s
PERIODS ?= 0.3
GOTIME  ?= 10x
else
ROUNDS  ?= 5
TIME    ?= 4s
FROZEN  ?= 60s
NEIGHBOUR ?= 10s
PERIODS ?= 2
GOTIME  ?= 100ms
endif
MEMBERS ?= 1000
SLICES  ?= 8
LOAD     = bin/bench
RUN      = -rounds $(ROUNDS) -time $(TIME) -out bin/$@.jsonl
SLICED   = $(RUN) -slices $(SLICES) -warm 200ms
POMELOD  = timeout 900 bin/pomelod -limits off
FLOOR    = timeout 900 bin/floor
OURS     = -server 'pomelod=$(POMELOD)'
FLOORS   = -server 'floor=$(FLOOR)' -server 'floor-tick=$(FLOOR) -tick'

LOADS = bench-broadcast bench-rooms bench-requests bench-connect bench-mixed bench-neighbour bench-frozen bench-idle bench-growth bench-latency
.PHONY: bench-load bench-wires bench-clean $(LOADS)
bench-load: $(LOADS)
$(LOADS) bench-wires: build bin/bench bin/floor

bench-clean:
	@rm -f bin/bench-*.jsonl

bench-broadcast:
	@rm -f bin/$@.jsonl
	$(LOAD) broadcast -row broadcast-w1 -members $(MEMBERS) -inflight 1 -wire tcp $(SLICED) $(OURS) $(FLOORS)
	$(LOAD) broadcast -row broadcast-w16 -members $(MEMBERS) -inflight 16 -wire tcp $(SLICED) $(OURS) $(FLOORS)
	$(LOAD) broadcast -row broadcast-w16-ws -members $(MEMBERS) -inflight 16 -wire ws $(SLICED) $(OURS) -server 'floor=$(FLOOR) -ws' -server 'floor-tick=$(FLOOR) -ws -tick'

# All loops on the one cpu that the server is pinned to. Their clients together are too many for slices.
LOOPS4 = -server 'loops4=$(POMELOD) -loops 4'
bench-rooms:
	@rm -f bin/$@.jsonl
	$(LOAD) rooms -row rooms-20 -rooms 500 -room-size 20 -rate 4000 -wire tcp $(RUN) $(OURS) -server 'floor=$(FLOOR)' $(LOOPS4)
	$(LOAD) rooms -row rooms-4 -rooms 2500 -room-size 4 -rate 4000 -wire tcp $(RUN) $(OURS) $(LOOPS4)

bench-requests:
	@rm -f bin/$@.jsonl
	$(LOAD) echo -row echo -conns 200 -wire tcp $(SLICED) $(OURS) -server 'floor=$(FLOOR)'
	$(LOAD) broadcast -row room-of-one -members 200 -rooms 200 -wire tcp $(SLICED) $(OURS) -server 'floor=$(FLOOR)'

CONNS ?= 18000
bench-connect:
	@rm -f bin/$@.jsonl
	$(LOAD) connect -row connect -few 400 -conns $(CONNS) -room-size 20 $(RUN) $(OURS) -server 'floor=$(FLOOR) -ws -announce'

# One room of hybrid, hybrid with dictionary and protobuf, and every socket.io, compared with as many hybrid ones.
MIXES   = -wire hybrid=ws -wire mixed=ws,ws@2,sio09,eio3,eio4
PROJECT = -server 'pomelod=$(POMELOD) -config bench/config -bind 127.0.0.1' -server-args '-admin='
bench-mixed:
	@rm -f bin/$@.jsonl
	$(LOAD) broadcast -row mixed-w1 -members $(MEMBERS) -inflight 1 $(MIXES) $(SLICED) $(PROJECT)
	$(LOAD) broadcast -row mixed-w16 -members $(MEMBERS) -inflight 16 $(MIXES) $(SLICED) $(PROJECT)

# Rooms of one kind of client each, compared with hybrid WebSocket. Not part of make bench.
WIRES = -wire ws -wire sio09 -wire eio3 -wire eio4 -wire sio09-polling -wire eio3-polling -wire eio4-polling
bench-wires:
	@rm -f bin/$@.jsonl
	$(LOAD) broadcast -row wires-w1 -members $(MEMBERS) -inflight 1 $(WIRES) $(SLICED) $(OURS)
	$(LOAD) broadcast -row wires-w16 -members $(MEMBERS) -inflight 16 $(WIRES) $(SLICED) $(OURS)

# What a fleet costs, with the cpu of all of its processes and of nats-server, on one cpu together: one process, a gate with a connector and a chat node (1+1+1), and two nodes that do
# everything, of which each follows the other. Not part of make bench.
FLEETS = -base one -server 'one=$(POMELOD)' \
	-server 'spread=timeout 900 env ASONE_BINARY=bin/pomelod bin/pomelod-asone -limits off' \
	-server 'pair=timeout 900 env ASONE_BINARY=bin/pomelod ASONE_FLEET=pair bin/pomelod-asone -limits off'
.PHONY: bench-fleet
bench-fleet: build asone bin/bench ## measure one process beside fleets: latency and cpu of messages and enters, into bin/bench-fleet.jsonl
	@rm -f bin/$@.jsonl
	$(LOAD) broadcast -row hop-1000 -rooms 2 -members 2000 -rate 200 $(RUN) $(FLEETS)
	$(LOAD) rooms -row hop-20 -rooms 100 -room-size 20 -rate 2000 $(RUN) $(FLEETS)
	$(LOAD) rooms -row hop-4 -rooms 500 -room-size 4 -rate 2000 $(RUN) $(FLEETS)
	$(LOAD) connect -row hop-enter -few 100 -conns 1000 -room-size 20 -inflight 1 $(RUN) $(FLEETS)

ROOM ?= 4000
bench-neighbour:
	@rm -f bin/$@.jsonl
	$(LOAD) neighbour -row neighbour -members $(ROOM) $(RUN) -time $(NEIGHBOUR) $(OURS)

bench-frozen:
	@rm -f bin/$@.jsonl
	$(LOAD) frozen -row frozen -members 2000 -frozen 20 -before 15s $(RUN) -time $(FROZEN) $(OURS)

IDLE ?= 19000
bench-idle:
	@rm -f bin/$@.jsonl
	$(LOAD) idle -row idle-20 -members $(IDLE) -room-size 20 -periods $(PERIODS) $(RUN) $(OURS)
	$(LOAD) idle -row idle-1 -members $(IDLE) -room-size 1 -periods $(PERIODS) $(RUN) $(OURS)
	$(LOAD) idle -row idle-4000 -members $(IDLE) -room-size $(ROOM) -periods $(PERIODS) $(RUN) $(OURS)

# Curves: one room that grows; 10,000 members in ever more rooms, all of which are due 40,000 deliveries a second; longer messages; more loops.
CURVE = -rounds $(CURVE_ROUNDS) -time $(TIME) -out bin/$@.jsonl
CURVE_ROUNDS ?= $(if $(filter-out 1,$(ROUNDS)),3,1)
bench-growth:
	@rm -f bin/$@.jsonl
	for n in 10 30 100 300 1000 4000; do \
		$(LOAD) broadcast -row curve-members-$$n -members $$n -inflight 1 -wire tcp $(CURVE) -slices $(SLICES) -warm 200ms $(OURS) -server 'floor=$(FLOOR)' || exit; done
	for n in 1 10 100 1000 10000; do \
		$(LOAD) rooms -row curve-rooms-$$n -rooms $$n -room-size $$((10000 / n)) -rate $$((4 * n)) -wire tcp $(CURVE) $(OURS) || exit; done
	for n in 19 64 256 1024 4096 16384 65536; do \
		$(LOAD) broadcast -row curve-size-$$n -members 200 -size $$n -inflight 1 -wire tcp $(CURVE) -slices $(SLICES) -warm 200ms $(OURS) -server 'floor=$(FLOOR)' || exit; done
	for n in 1 2 4; do \
		$(LOAD) rooms -row curve-loops-$$n -rooms 500 -room-size 20 -rate 4000 -wire tcp $(CURVE) -server 'pomelod=$(POMELOD) -loops '$$n || exit; done

# Latency over offered load, up to what is more than the server can do and refuses: a room of 1,000 and messages of 4 KB.
bench-latency:
	@rm -f bin/$@.jsonl
	for n in 25 50 100 200 400 800 1200 1600 2400 3200; do \
		$(LOAD) broadcast -row curve-load-$$n -members 1000 -size 4096 -rate $$n -wire tcp $(CURVE) -patience 20s $(OURS) || exit; done

# What hold saves: rooms in which messages come at random times, beside the same server without it.
HELD = -wire tcp -poisson $(RUN) $(OURS)
.PHONY: bench-hold
bench-hold: build bin/bench ## measure rooms with hold beside the same rooms without it, into bin/bench-hold.jsonl
	@rm -f bin/$@.jsonl
	for t in 5ms 20ms; do echo '{"rooms":[{"match":"*","hold":"'$$t'"}]}' >bin/hold-$$t.json || exit; done
	$(LOAD) rooms -row hold-250 -rooms 1 -room-size 250 -rate 400 $(HELD) -server 'hold=$(POMELOD) -rooms-file bin/hold-5ms.json'
	$(LOAD) rooms -row hold-1000 -rooms 1 -room-size 1000 -rate 100 $(HELD) -server 'hold=$(POMELOD) -rooms-file bin/hold-20ms.json'

# TLS beside the same without it, and beside a library of WebSocket on crypto/tls, with and without it. The clients of all shake hands for themselves. Not part of
# make bench, as it needs bin/peers.
SECURE  = -server 'pomelod-tls@tls+ws=$(POMELOD) -tls-self -tls-listen 127.0.0.1:0 -tls-gate 127.0.0.1:0'
CODERS  = -server 'coder@plain=$(PEER)/coder' -server 'coder-tls@tls+plain=$(PEER)/coder -tls'
PEOPLE ?= 10000
.PHONY: bench-tls
bench-tls: build bin/bench bin/peers ## measure TLS beside plain pomelod and coder/websocket, in about twenty minutes
	@rm -f bin/$@.jsonl
	$(LOAD) broadcast -row tls-w1 -members $(MEMBERS) -inflight 1 $(SLICED) $(OURS) $(SECURE) $(CODERS)
	$(LOAD) broadcast -row tls-w16 -members $(MEMBERS) -inflight 16 $(SLICED) $(OURS) $(SECURE) $(CODERS)
	$(LOAD) idle -row tls-idle -members $(PEOPLE) -room-size 20 -periods $(PERIODS) $(RUN) $(OURS) $(SECURE) $(CODERS)

.PHONY: bin/bench
bin/bench:
	CGO_ENABLED=0 $(GO) build -trimpath $(BUILDVCS) -o $@ ./bench

bin/floor: bench/floor/floor.c bench/floor/wire.h
	@mkdir -p bin
	cc -O2 -Wall -Wextra -o $@ $<

.PHONY: bench-go
bench-go:
	@mkdir -p bin
	$(GO) test -run '^$$' -bench '$(GOBENCH)' -benchtime $(GOTIME) -benchmem ./... >bin/bench-go.txt; code=$$?; cat bin/bench-go.txt; exit $$code

.PHONY: bench-report
bench-report: bin/bench ## write bench/report/report.md of what the last runs left in bin
	$(LOAD) report bin/bench-*.jsonl >bin/report.md
	mv bin/report.md bench/report/report.md

# Is this tree's pomelod slower than that of a revision? make bench-compare BASE=HEAD~1
.PHONY: bench-compare
bench-compare: ROUNDS = 7
bench-compare: ## tell whether this tree is slower than a revision: make bench-compare BASE=HEAD~1
	@test -n '$(BASE)' || { echo 'Say which revision to compare with: make bench-compare BASE=HEAD~1' >&2; exit 2; }
	GO='$(GO)' ROUNDS='$(ROUNDS)' TIME='$(TIME)' MEMBERS='$(MEMBERS)' sh scripts/bench-compare.sh '$(BASE)'
