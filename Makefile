# SPDX-License-Identifier: BSD-2-Clause
# Twofold. `make help` lists what there is.
#
# Each part's own rules are in its folder: boot/boot.mk, hv/libc.mk, guest-tests/guests.mk, tests/tests.mk.
# Everything that is made goes to build/, results of runs to out/.

SHELL    := /bin/bash
BUILD    := build
OUT      := out
CC       := gcc
HOSTCC   ?= $(CC)
MACHINE  ?= auto

.DELETE_ON_ERROR:
.SECONDARY:

all: hypervisor boot guests

WARNINGS := -Wall -Wextra -Wconversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wundef \
            -Wpointer-arith -Wcast-align -Wwrite-strings -Wvla -Wformat=2 -Wimplicit-fallthrough
ifdef WERROR
WARNINGS += -Werror
endif

# Machine code of the hypervisor and of the guests: no floating point, no red zone.
BARE := -std=gnu11 -g -ffreestanding -fno-pic -fno-pie -mno-red-zone -mgeneral-regs-only \
        -fno-asynchronous-unwind-tables -fno-omit-frame-pointer -fno-common

include hv/libc.mk
include boot/boot.mk
include guest-tests/guests.mk
include drivers/font.mk
include tests/tests.mk

# --- the hypervisor -------------------------------------------------------------------------------------

HV_CFLAGS  := $(BARE) $(WARNINGS) -O2 -mcmodel=kernel -fstack-protector-strong \
              -mstack-protector-guard=global -I. $(LIBC_CFLAGS)
HV_SOURCES := $(wildcard hv/*.c hv/paging/*.c hv/dev/*.c arch/x86_64/*.c arch/x86_64/*.S drivers/*.c drivers/*.S)
HV_OBJECTS := $(patsubst %,$(BUILD)/hv/%.o,$(basename $(HV_SOURCES)))

$(BUILD)/hv/%.o: %.c $(LIBC_READY)
	@mkdir -p $(@D)
	@echo "  CC      $<"
	@$(CC) $(HV_CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/hv/%.o: %.S
	@mkdir -p $(@D)
	@echo "  AS      $<"
	@$(CC) $(HV_CFLAGS) -D__ASSEMBLER__ -DFONT_FILE='"$(FONT)"' -MMD -MP -c -o $@ $<

$(BUILD)/twofold.elf: linker.ld $(HV_OBJECTS) $(LIBC_ARCHIVE) scripts/check-no-sse
	@echo "  LD      $@"
	@$(CC) -nostdlib -static -no-pie -z noexecstack -z max-page-size=4096 -Wl,--build-id=none \
	    -Wl,--gc-sections -T linker.ld -o $@ $(HV_OBJECTS) $(LIBC_ARCHIVE) -lgcc
	@scripts/check-no-sse $@

hypervisor: $(BUILD)/twofold.elf

-include $(HV_OBJECTS:.o=.d)

clean:
	rm -rf $(BUILD) $(OUT)

.PHONY: all hypervisor boot guests clean
