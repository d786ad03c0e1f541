# make help lists what there is to type.

# Debian keeps nft, iptables and runc where a plain user's PATH does not look.
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin

# Tools are built from their own modules into bin/tools, one version for all.
TOOLS                 := $(CURDIR)/bin/tools
GOLANGCI_LINT_VERSION := v2.15.0
GOFUMPT_VERSION       := v0.9.2
GOLANGCI_LINT         := $(TOOLS)/golangci-lint-$(GOLANGCI_LINT_VERSION)
GOFUMPT               := $(TOOLS)/gofumpt-$(GOFUMPT_VERSION)
# The last one whose modules for rpm are where the module proxy keeps them.
NFPM_VERSION          := v2.43.0
NFPM                  := $(TOOLS)/nfpm-$(NFPM_VERSION)

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
COMMIT  := $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.Version=$(VERSION) -X main.Commit=$(COMMIT)

# COMMAND:PACKAGE, as hack/debian-install.sh reads them.
RUN_DEPS   := containerd:containerd runc:runc static:busybox:busybox-static \
	nft:nftables iptables:iptables ip:iproute2 nsenter:util-linux
# gcc is for the race detector; docker.io and docker-compose for clients of the API (a
# `docker` of version 28 or later, which Debian does not have, must be there already).
TEST_DEPS  := $(RUN_DEPS) ping:iputils-ping conntrack:conntrack sysctl:procps /usr/bin/docker:docker.io gcc:gcc \
	firewalld:firewalld dbus-daemon:dbus-daemon ufw:ufw curl:curl docker-compose:docker-compose \
	tini-static:tini systemd-analyze:systemd tcpdump:tcpdump tshark:tshark \
	/usr/include/stdlib.h:libc6-dev
LINT_DEPS  := shellcheck:shellcheck
BENCH_DEPS := $(RUN_DEPS) dockerd:docker.io /usr/bin/docker:docker.io \
	/usr/lib/podman/netavark:netavark /usr/lib/cni/bridge:containernetworking-plugins \
	/usr/bin/podman:podman /usr/lib/podman/aardvark-dns:aardvark-dns
ATTACK_DEPS := $(BENCH_DEPS) ping:iputils-ping

# Packages whose tests need neither root nor the kernel's network: make check.
PLAIN = ./network/spec/... ./network/ipam/... ./network/plan/... ./network/apply/... ./network/ports/... \
	./ruleset/... ./api/... ./cli/... ./engine/cgroup/... ./engine/files/... ./engine/image/... ./engine/oci/... \
	./store/... ./proxy/... ./internal/fdpass/... ./bench/... ./docs/... ./topology ./doctor ./exposure ./capture/pcapng ./capture/decode
# Packages with goroutines that share state: tested under the race detector.
RACE = ./network ./network/apply/... ./network/ports/... ./store/... ./engine/... ./daemon/... \
	./relay/... ./proxy/... ./streams/... ./internal/fdpass/... ./capture
# Those of ./network run without it whose processor time is judged, and those that do one
# thing after the other a thousand times.
UNRACED = ^Test(RestoreOfAThousand$$|Fault)
# Without the detector in what packs and unpacks: bytes in one goroutine, which it makes ten
# times as slow. The flags come after -race, and the last one counts.
RACEFLAGS = -race $(foreach p,compress github.com/klauspost/compress github.com/ulikunitz/xz,-gcflags=$(p)/...=-race=false)
# Further flags of `go test`: make test TESTFLAGS=-v
TESTFLAGS ?=
# How long `make fuzz` looks at each decoder, and how many it looks at side by side.
FUZZTIME ?= 10m
FUZZJOBS ?= 2
# How often `make soak` attaches and detaches, and for how many seconds it kills daemons.
CYCLES   ?= 50000
CHAOS    ?= 600
# $(call want,NAME,PATTERN,WHAT) ends make where the value of NAME is not like the pattern.
want = $(if $(shell printf %s '$($1)' | grep -xE '$2'),,$(error $1=$($1): want $3))
SHELL_SCRIPTS := hack/*.sh .ci/run packaging/build.sh packaging/scripts/*
# What is packaged, and where the packages go.
PACKAGED ?= bin/fairlead
DIST     ?= dist

.DEFAULT_GOAL := help
.PHONY: help build deps run stop test walkthroughs attack faults soak check fuzz lint fmt bench bench-short bench-attacks package clean race-packages

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build the static binary bin/fairlead
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/fairlead ./cmd/fairlead

deps: ## install what is missing to run: containerd, runc, a static busybox, … (root)
	@hack/debian-install.sh $(RUN_DEPS)

run: deps build ## start the daemon and a web server in a container, and fetch its page; PORT=8080 (root)
	@hack/run.sh

stop: ## remove all containers and networks, stop the daemon, undo its changes (root)
	@[ -x bin/fairlead ] || $(MAKE) --no-print-directory build
	@hack/stop.sh

# Six at once, whatever the number of CPUs: the tests on hosts wait more than they
# compute (that nothing comes is known after a second). make lint vets.
test: build ## run every test, installing what they need (root)
	@hack/debian-install.sh $(TEST_DEPS)
	@status=0; export FAIRLEAD_BIN=$(CURDIR)/bin/fairlead; \
	race=$$(go list $(RACE)) && rest=$$(go list ./... | grep -vxF "$$race") || exit 1; \
	unraced=$$(mktemp); trap 'rm -f "$$unraced"' EXIT; \
	go test -vet=off -count=1 -timeout 10m -run '$(UNRACED)' $(TESTFLAGS) ./network >"$$unraced" 2>&1 & \
	go test -vet=off $(RACEFLAGS) -count=1 -parallel 4 -timeout 15m -skip '$(UNRACED)' $(TESTFLAGS) $$race || status=1; \
	wait $$! || status=1; cat "$$unraced"; \
	go test -vet=off -count=1 -parallel 6 -timeout 24m $(TESTFLAGS) $$rest || status=1; \
	exit $$status

walkthroughs: build ## walk docs/walkthroughs and write their output anew (root)
	@hack/debian-install.sh $(TEST_DEPS)
	FAIRLEAD_BIN=$(CURDIR)/bin/fairlead go test -count=1 ./e2e -run '^TestWalkthroughs$$' -update

# One line for each, for hack/again.sh.
race-packages:
	@go list $(RACE)

check: lint ## before a commit: lint, build, and the tests that need no root
	@$(MAKE) --no-print-directory build
	go test $(TESTFLAGS) $(PLAIN)

fuzz: ## feed each decoder with whatever comes to mind; FUZZTIME=10m is how long each
	$(call want,FUZZTIME,([0-9]+(h|m|s|ms))+|[0-9]+x,a time such as 10m or a number of inputs such as 1000x)
	$(call want,FUZZJOBS,[1-9][0-9]*,a number)
	@grep -rl --include='*_test.go' '^func Fuzz' . | xargs grep -Ho '^func Fuzz[A-Za-z0-9]*' | \
	  sed 's|/[^/]*_test.go:func | |' | sort -u | \
	  xargs -P $(FUZZJOBS) -L 1 hack/fuzz.sh $(FUZZTIME)

# Every form that there is: each back end, each moment, each fault (make test runs some).
attack: build ## run every attack, beside every other firewall, at every moment (root)
	@hack/debian-install.sh $(TEST_DEPS)
	FAIRLEAD_BIN=$(CURDIR)/bin/fairlead FAIRLEAD_FULL_MATRIX=1 go test -count=1 -parallel 4 -timeout 2h $(TESTFLAGS) ./e2e -run '^Test(Attack|B1Plan$$|B3$$|C4$$|Exposure$$|Firewalld$$|UFW$$|Neighbours$$)'

faults: build ## kill, fail and break everything at every step (root)
	@hack/debian-install.sh $(TEST_DEPS)
	FAIRLEAD_BIN=$(CURDIR)/bin/fairlead FAIRLEAD_FULL_MATRIX=1 go test -count=1 -parallel 4 -timeout 2h $(TESTFLAGS) ./network ./e2e -run '^Test(Crash|DaemonAway$$|Fault|LargeRanges$$|Recover|SharedNetworkStays$$|ManyStartedAtOnce|HundredAtOnce)'

soak: ## attach and detach CYCLES=50000 times, kill daemons for CHAOS=600 seconds; 0 for not (root)
	$(call want,CYCLES,[0-9]+,a number; 0 leaves them out)
	$(call want,CHAOS,[0-9]+,a number of seconds; 0 leaves it out)
	@hack/debian-install.sh $(TEST_DEPS)
	go build -race -o bin/race/fairlead ./cmd/fairlead
	[ $(CYCLES) -eq 0 ] || FAIRLEAD_SOAK_CYCLES=$(CYCLES) go test -count=1 -timeout 4h -v ./network -run '^TestSoak'
	[ $(CHAOS) -eq 0 ] || FAIRLEAD_BIN=$(CURDIR)/bin/race/fairlead FAIRLEAD_CHAOS=$(CHAOS) go test -count=1 -timeout 4h -v ./e2e -run '^TestChaos$$'

lint: $(GOLANGCI_LINT) ## run golangci-lint and shellcheck as pinned and set here
	@hack/debian-install.sh $(LINT_DEPS)
	$(GOLANGCI_LINT) run ./...
	cd e2e/testcontainers && go vet ./...
	shellcheck $(SHELL_SCRIPTS)

fmt: $(GOFUMPT) ## format the code
	$(GOFUMPT) -w .

bench: build ## compare with CNI, netavark and Docker; writes bench/RESULTS.md (root)
	@hack/debian-install.sh $(BENCH_DEPS)
	go run ./bench $(BENCHFLAGS)

bench-short: build ## see that everything in the comparison runs, and no ratio against the floor has doubled (root)
	@hack/debian-install.sh $(BENCH_DEPS)
	go run ./bench -short $(BENCHFLAGS)

bench-attacks: build ## put Docker and Podman to the same attacks; writes bench/ATTACKS.md (root)
	@hack/debian-install.sh $(ATTACK_DEPS)
	go run ./bench/attacks $(BENCHFLAGS)

package: $(NFPM) ## make dist/: packages for Debian and Fedora, a tar archive, and their checksums
	@[ "$(PACKAGED)" != bin/fairlead ] || $(MAKE) --no-print-directory build
	@packaging/build.sh $(PACKAGED) $(NFPM) $(DIST)

clean: ## remove what was built
	rm -rf bin dist

# The version is in the file's name: a new pin is another file, made once.
$(GOLANGCI_LINT):
	GOBIN=$(TOOLS) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	mv $(TOOLS)/golangci-lint $@

$(GOFUMPT):
	GOBIN=$(TOOLS) go install mvdan.cc/gofumpt@$(GOFUMPT_VERSION)
	mv $(TOOLS)/gofumpt $@

$(NFPM):
	GOBIN=$(TOOLS) go install github.com/goreleaser/nfpm/v2/cmd/nfpm@$(NFPM_VERSION)
	mv $(TOOLS)/nfpm $@
