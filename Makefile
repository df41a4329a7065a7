# The index of this project's commands; what each one does is in scripts/.
# Every command installs what it needs and can be run alone.

SERIES ?= 6.1,6.12

export FROM TO LIMIT TIME USERS BOOT

.PHONY: help demo demo-clean test lint sanity unit integration kernel-tests molecule report-test metrics-check corpus fuzz faults package package-check awx-check docs bench-rollout

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## a fleet of four VMs: survey, build, rollout, proof, rollback
	@scripts/demo

demo-clean: ## stop and remove the demo's VMs
	@scripts/demo-clean

test: ## everything below, in order of cost
	@scripts/test

lint: ## ruff, mypy, yamllint, shellcheck, ansible-lint (production), C style
	@scripts/lint

sanity: ## ansible-test sanity on the collection as it is built (CORE=newest)
	@scripts/sanity

unit: ## unit tests; no kernel is booted
	@scripts/unit

integration: ## the rollout's gates against simulated hosts (CORE=newest: another ansible-core)
	@CORE='$(CORE)' scripts/integration

.PHONY: witness cycles debug-kernel-tests bench-core
witness: ## each consistency model under fire: what it promises, what it breaks (CYCLES=500)
	@SERIES='$(SERIES)' scripts/witness

cycles: ## a patch loaded, enabled, disabled and unloaded 1,000 times under load (CYCLES=1000)
	@SERIES='$(SERIES)' scripts/cycles

bench-core: ## what the core module costs beside the kernel's own means; writes docs/performance.md
	@SERIES='$(SERIES)' scripts/bench-core

.PHONY: bench-matrix
bench-matrix: ## a matrix of kernels and patches, built serially and in parallel (SERIES=6.1,6.12 ROUNDS=3)
	@SERIES='$(SERIES)' ROUNDS='$(ROUNDS)' scripts/bench-matrix

.PHONY: bench-build bench-peers
bench-build bench-peers: SERIES = 6.1
bench-build: ## what building a patch costs, stage by stage; writes docs/performance.md (REPEATS=1)
	@SERIES='$(SERIES)' REPEATS='$(REPEATS)' scripts/bench-build

bench-peers: ## Debian's kpatch-build and our builder side by side, an hour; the diff stage alone: STAGE=diff (REPEATS=10)
	@SERIES='$(SERIES)' REPEATS='$(REPEATS)' STAGE='$(STAGE)' scripts/bench-peers

.PHONY: own-kernel-tests
own-kernel-tests: ## the builder on a kernel that is no package's (its build takes ten minutes and more)
	@scripts/own-kernel-tests

debug-kernel-tests: ## the kernel tests in a kernel with KASAN, lockdep, kmemleak (its build takes a quarter of an hour)
	@scripts/debug-kernel-tests

kernel-tests: ## the core module in booted kernels (SERIES=5.10,6.1,6.12,6.12-deb13,7.2)
	@SERIES='$(SERIES)' scripts/kernel-tests

faults: ## faults and what has to hold meanwhile, simulated and on a booted machine (FAULT=name)
	@scripts/faults

bench-rollout: ## what a rollout costs the controller, beside a ping (HOSTS=100,1000, APPLIED=1)
	@scripts/bench-rollout

molecule: ## a scenario of molecule's on real kernels (SCENARIO=default)
	@scripts/molecule $(SCENARIO)

.PHONY: molecule-all
molecule-all: ## all of molecule's scenarios, one after the other
	@scripts/molecule all

report-test: ## the report in headless Chromium: sorts, filters, dark, print, axe
	@scripts/report-test

metrics-check: ## metrics, alert rules and dashboard against promtool
	@scripts/metrics-check

corpus: ## every fix of a Debian update as a patch (FROM=6.1.187-1 TO=6.1.190-1 LIMIT=n TIME=seconds USERS=n)
	@scripts/corpus

fuzz: ## damaged object files for the diff engine (TIME=60 seconds)
	@TIME='$(TIME)' scripts/fuzz

.PHONY: changelog
changelog: ## the changelog's entry of this version, made anew out of the fragments
	@scripts/changelog

package: ## the collection as one tarball in .cache/dist, the same bytes each time
	@scripts/package

package-check: ## licences, changelog, tarball, galaxy-importer, execution environment
	@scripts/package-check

awx-check: ## AWX's configuration without a server, its jobs with ansible-runner
	@scripts/awx-check

docs: ## the pages and the reference as a static site in .cache/site
	@scripts/docs
