# Each kind of benchmark is a target of its own that bench depends on. Nothing else should run meanwhile.
.PHONY: bench
bench: bench-load bench-go ## run the load generator's figures (docs/BENCHMARKS.md) and Go's benchmarks

# What the load generator measures (bench/README.md): one JSON line a run and one of medians for each that takes part, into
# bin/bench-*.jsonl. A void run ends make. For a quick look: make bench-wires ROUNDS=1 TIME=1s MEMBERS=200
ROUNDS  ?= 5
TIME    ?= 5s
MEMBERS ?= 2000
LOAD     = bin/bench
RUN      = -rounds $(ROUNDS) -time $(TIME) -out bin/$@.jsonl
POMELOD  = timeout 900 bin/pomelod
FLOOR    = timeout 900 bin/floor
OURS     = -server 'pomelod=$(POMELOD)'
FLOORS   = -server 'floor=$(FLOOR)' -server 'floor-tick=$(FLOOR) -tick'

LOADS = bench-broadcast bench-wires bench-mixed bench-requests bench-connect bench-frozen bench-neighbour bench-loops bench-idle
.PHONY: bench-load $(LOADS)
bench-load: $(LOADS)
$(LOADS): build bin/bench bin/floor

bench-broadcast:
	@rm -f bin/$@.jsonl
	$(LOAD) broadcast -members $(MEMBERS) -inflight 1 -wire tcp $(RUN) $(OURS) $(FLOORS)
	$(LOAD) broadcast -members $(MEMBERS) -inflight 16 -wire tcp $(RUN) $(OURS) $(FLOORS)
	$(LOAD) broadcast -members $(MEMBERS) -inflight 16 -wire ws $(RUN) $(OURS) -server 'floor=$(FLOOR) -ws' -server 'floor-tick=$(FLOOR) -ws -tick'

# Rooms of one kind of client each, compared with hybrid WebSocket.
WIRES = -wire ws -wire sio09 -wire eio3 -wire eio4 -wire sio09-polling -wire eio3-polling -wire eio4-polling
bench-wires:
	@rm -f bin/$@.jsonl
	$(LOAD) broadcast -members $(MEMBERS) -inflight 1 $(WIRES) $(RUN) $(OURS)
	$(LOAD) broadcast -members $(MEMBERS) -inflight 16 $(WIRES) $(RUN) $(OURS)

# One room of hybrid, hybrid with dictionary and protobuf, and every socket.io, compared with as many hybrid ones.
MIXES   = -wire hybrid=ws -wire hybrids=ws,ws@2 -wire mixed=ws,ws@2,sio09,eio3,eio4
PROJECT = -server 'pomelod=$(POMELOD) -config bench/config -bind 127.0.0.1' -server-args '-admin='
bench-mixed:
	@rm -f bin/$@.jsonl
	$(LOAD) broadcast -members $(MEMBERS) -inflight 1 $(MIXES) $(RUN) $(PROJECT)
	$(LOAD) broadcast -members $(MEMBERS) -inflight 16 $(MIXES) $(RUN) $(PROJECT)

bench-requests:
	@rm -f bin/$@.jsonl
	$(LOAD) echo -conns 200 -wire tcp $(RUN) $(OURS) -server 'floor=$(FLOOR)'
	$(LOAD) broadcast -members 200 -rooms 200 -wire tcp $(RUN) $(OURS) -server 'floor=$(FLOOR)'

CONNS ?= 18000
bench-connect:
	@rm -f bin/$@.jsonl
	$(LOAD) connect -few 400 -conns $(CONNS) -room-size 20 $(RUN) $(OURS) -server 'floor=$(FLOOR) -ws -announce'

FROZEN ?= 60s
bench-frozen:
	@rm -f bin/$@.jsonl
	$(LOAD) frozen -members $(MEMBERS) -frozen $$(($(MEMBERS) / 100)) $(RUN) -time $(FROZEN) $(OURS)

ROOM ?= 4000
bench-neighbour:
	@rm -f bin/$@.jsonl
	$(LOAD) neighbour -members $(ROOM) $(RUN) $(OURS)

# All loops on the one cpu that the server is pinned to.
LOOPS = -server 'loops1=$(POMELOD) -loops 1' -server 'loops4=$(POMELOD) -loops 4'
bench-loops:
	@rm -f bin/$@.jsonl
	$(LOAD) rooms -rooms 500 -room-size 20 -rate 4000 $(RUN) $(LOOPS)
	$(LOAD) rooms -rooms 2500 -room-size 4 -rate 4000 $(RUN) $(LOOPS)

IDLE    ?= 19000
PERIODS ?= 2
bench-idle:
	@rm -f bin/$@.jsonl
	$(LOAD) idle -members $(IDLE) -room-size 20 -periods $(PERIODS) $(RUN) $(OURS)
	$(LOAD) idle -members $(IDLE) -room-size 1 -periods $(PERIODS) $(RUN) $(OURS)
	$(LOAD) idle -members $(IDLE) -room-size $(ROOM) -periods $(PERIODS) $(RUN) $(OURS)

.PHONY: bin/bench
bin/bench:
	CGO_ENABLED=0 $(GO) build -trimpath $(BUILDVCS) -o $@ ./bench

bin/floor: bench/floor/floor.c bench/floor/wire.h
	@mkdir -p bin
	cc -O2 -Wall -Wextra -o $@ $<

.PHONY: bench-go
bench-go:
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem ./...

# What the files say, as bench/report/report.md with its pictures. bin/bench-config.json is what pomelod -print-config printed.
.PHONY: bench-report
bench-report: bin/bench
	$(LOAD) report -o bench/report -config bin/bench-config.json bin/bench-*.jsonl

# Is this tree's pomelod slower than that of a revision? make bench-compare BASE=HEAD~1
.PHONY: bench-compare
bench-compare: ROUNDS = 7
bench-compare: MEMBERS = 1000
bench-compare:
	@test -n '$(BASE)' || { echo 'Say which revision to compare with: make bench-compare BASE=HEAD~1' >&2; exit 2; }
	GO='$(GO)' ROUNDS='$(ROUNDS)' TIME='$(TIME)' MEMBERS='$(MEMBERS)' sh scripts/bench-compare.sh '$(BASE)'
