# Other servers beside pomelod, the clients of each on its own wire (bench/peers/README.md): one JSON line a run, into
# bin/bench-peers.jsonl. Nothing else should run meanwhile. About a quarter of an hour.
PEER = timeout 900 bin/peers
NODE = timeout 900 node bench/peers/node

POMELO_WIRE  = -server 'nano@ws=$(PEER)/nano' -server 'pomelo@ws=$(NODE)/pomelo.js' -server 'pomelo-nodelay@ws=$(NODE)/pomelo.js -nodelay'
OTHER_WIRES  = -server 'centrifuge@centrifuge=$(PEER)/centrifuge' -server 'gws@plain=$(PEER)/gws' -server 'nbio@plain=$(PEER)/nbio' \
	-server 'socketio@sio4=$(NODE)/socketio.js'

# MEMBERS has another default for what has no slow peer in it. They need patience: what is in flight waits for a thousand writes.
PEER_MEMBERS = $(if $(filter file,$(origin MEMBERS)),1000,$(MEMBERS))
PEERS_RUN    = -members $(PEER_MEMBERS) -patience 30s $(RUN) -base pomelod

# A void run is no reason to go without the second row.
define run-peers
	@rm -f bin/$@.jsonl
	$(LOAD) broadcast -row broadcast-peers-w1 -inflight 1 $(PEERS_RUN) $(OURS) $(POMELO_WIRE); first=$$?; \
	$(LOAD) broadcast -row broadcast-peers-w16 -inflight 16 $(PEERS_RUN) $(OURS) $(POMELO_WIRE) $(OTHER_WIRES) && exit $$first
endef

PEERS = bench-peers bench-peers-smoke
.PHONY: $(PEERS)
$(PEERS): build bin/bench bin/peers bench/peers/node/node_modules/.package-lock.json

bench-peers: ## measure other servers beside pomelod (needs Node.js; bench/peers/README.md)
	$(run-peers)

# Whether every peer starts, and loses nothing. Its figures mean little.
bench-peers-smoke: override ROUNDS = 1
bench-peers-smoke: override TIME = 1s
bench-peers-smoke: override PEER_MEMBERS = 50
bench-peers-smoke:
	$(run-peers)

# A module of its own: ./... does not see it, and the server's go.mod knows nothing of what it needs.
.PHONY: bin/peers
bin/peers:
	cd bench/peers && $(GO) vet ./... && $(GO) test ./... && CGO_ENABLED=0 $(GO) build -trimpath $(BUILDVCS) -o '$(CURDIR)/bin/peers/' ./...

bench/peers/node/node_modules/.package-lock.json: bench/peers/node/package-lock.json | node
	cd bench/peers/node && npm ci --no-audit --no-fund
