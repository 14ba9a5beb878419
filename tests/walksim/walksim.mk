# SPDX-License-Identifier: BSD-2-Clause
# walksim, the trace-driven simulator: hv/paging as it is in the hypervisor, with a model of a processor's translation
# caches. docs/walksim.md says what it can tell.

WALKSIM         := $(BUILD)/walksim
WALKSIM_SOURCES := $(wildcard tests/walksim/*.c) $(wildcard hv/paging/*.c)
WALKSIM_HEADERS := $(wildcard tests/walksim/*.h hv/paging/*.h)

$(WALKSIM): $(WALKSIM_SOURCES) $(WALKSIM_HEADERS)
	@mkdir -p $(@D)
	@echo "  CC      $@"
	@$(HOSTCC) -std=gnu11 -g -O2 $(WARNINGS) -I. -o $@ $(WALKSIM_SOURCES)

$(BUILD)/walksim-lackey: tests/walksim/record/lackey.c tests/walksim/trace.c tests/walksim/trace.h
	@mkdir -p $(@D)
	@echo "  CC      $@"
	@$(HOSTCC) -std=gnu11 -g -O2 $(WARNINGS) -I. -o $@ $(filter %.c,$^)

walksim-program: $(WALKSIM) $(BUILD)/walksim-lackey

# All generators and the recordings that are in out/traces; ARGS: more for scripts/walksim.
walksim: setup-walksim
	@$(MAKE) --no-print-directory walksim-program
	@scripts/walksim $(ARGS)

# Recordings of real programs, for make walksim: some minutes.
walksim-record: setup-walksim-record
	@$(MAKE) --no-print-directory walksim-program
	@scripts/walksim-record $(ARGS)

.PHONY: walksim-program walksim walksim-record
