# SPDX-License-Identifier: BSD-2-Clause
# The peer: a small VMM on Linux' KVM, static, as the first process of an initramfs. docs/kvm.md says how it
# is used, scripts/bench-kvm does.

KVM        := $(BUILD)/kvm
KVM_SHARED := $(wildcard hv/loader*.c) hv/module.c hv/why.c hv/paging/walk.c $(wildcard hv/dev/*.c)
KVM_SOURCES := $(wildcard tests/kvm/*.c) $(KVM_SHARED)
KVM_OBJECTS := $(patsubst %.c,$(KVM)/%.o,$(KVM_SOURCES))
KVM_CFLAGS  := -std=gnu11 -g -O2 $(WARNINGS) -I. -I$(KVM)

# Names of exit reasons, from the one table that has them.
EXIT_NAMES := $(KVM)/exit_names.inc

$(EXIT_NAMES): arch/x86_64/exit.c
	@mkdir -p $(@D)
	@sed -n 's/^ *\[\(EXIT_[A-Z0-9_]*\)\] = {\("[a-z0-9_]*"\),.*/[\1] = \2,/p' $< > $@
	@grep -q EXIT_IO $@

$(BUILD)/tests/peer: $(EXIT_NAMES)

$(KVM)/%.o: %.c $(EXIT_NAMES)
	@mkdir -p $(@D)
	@echo "  CC      $< (KVM)"
	@$(HOSTCC) $(KVM_CFLAGS) -MMD -MP -c -o $@ $<

# Without symbols: results that are kept belong to one content of this file (scripts/bench-kvm).
$(KVM)/init: $(KVM_OBJECTS)
	@echo "  LD      $@"
	@$(HOSTCC) -static -s -o $@ $^

kvm-vmm: $(KVM)/init

# BENCH=NAME: one benchmark; ARGS: more for scripts/bench-kvm, as --again.
bench-kvm: setup-kvm
	@$(MAKE) --no-print-directory all kvm-vmm
	@scripts/bench-kvm $(BENCH:%=--bench %) $(ARGS)

.PHONY: kvm-vmm bench-kvm

-include $(KVM_OBJECTS:.o=.d)
