# SPDX-License-Identifier: BSD-2-Clause
# Twofold. `make help` lists what there is.
#
# Each part's own rules are in its folder: boot/boot.mk, hv/libc.mk, guest-tests/guests.mk, tests/tests.mk.
# Everything that is made goes to build/, results of runs to out/.

SHELL    := /bin/bash
BUILD    ?= build
OUT      := out
CC       := gcc
HOSTCC   ?= $(CC)
MACHINE  ?= auto

.DELETE_ON_ERROR:
.SECONDARY:

all: hypervisor boot guests
.DEFAULT_GOAL := all

WARNINGS := -Wall -Wextra -Wconversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wundef \
            -Wpointer-arith -Wcast-align -Wwrite-strings -Wvla -Wformat=2 -Wimplicit-fallthrough
ifdef WERROR
WARNINGS += -Werror
endif

# Machine code of the hypervisor and of the guests: no floating point, no red zone.
BARE := -std=gnu11 -g -ffreestanding -fno-pic -fno-pie -mno-red-zone -mgeneral-regs-only \
        -fno-asynchronous-unwind-tables -fno-omit-frame-pointer -fno-common

# FAULTS=1, with a BUILD of its own: what can fail does when the settings say so (hv/faults.h).
ifdef FAULTS
BARE += -DFAULTS
endif

include hv/libc.mk
include boot/boot.mk
include guest-tests/guests.mk
include drivers/font.mk
include tests/tests.mk
include tests/fuzz/fuzz.mk
include tests/walksim/walksim.mk
include tests/kvm/kvm.mk

# --- the hypervisor -------------------------------------------------------------------------------------

HV_CFLAGS  := $(BARE) $(WARNINGS) -O2 -mcmodel=kernel -fstack-protector-strong \
              -mstack-protector-guard=global -I. $(LIBC_CFLAGS)
HV_SOURCES := $(filter-out $(if $(FAULTS),,hv/faults.c),$(wildcard hv/*.c hv/paging/*.c hv/dev/*.c arch/x86_64/*.c arch/x86_64/*.S drivers/*.c drivers/*.S))
HV_OBJECTS := $(patsubst %,$(BUILD)/hv/%.o,$(basename $(HV_SOURCES)))

$(BUILD)/hv/%.o: %.c $(LIBC_READY)
	@mkdir -p $(@D)
	@echo "  CC      $<"
	@$(CC) $(HV_CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/hv/%.o: %.S
	@mkdir -p $(@D)
	@echo "  AS      $<"
	@$(CC) $(HV_CFLAGS) -D__ASSEMBLER__ -DFONT_FILE='"$(FONT)"' -MMD -MP -c -o $@ $<

# With its relocations, by which the loader moves it (boot/relocate.c).
$(BUILD)/twofold.debug.elf: linker.ld $(HV_OBJECTS) $(LIBC_ARCHIVE) scripts/check-no-sse
	@echo "  LD      $@"
	@$(CC) -nostdlib -static -no-pie -z noexecstack -z max-page-size=4096 -Wl,--build-id=none \
	    -Wl,--gc-sections -Wl,--emit-relocs -T linker.ld -o $@ $(HV_OBJECTS) $(LIBC_ARCHIVE) -lgcc
	@objcopy --remove-relocations='.debug*' $@
	@scripts/check-no-sse $@

# What is loaded, hashed and signed keeps its symbols, for back traces, and leaves the rest to debuggers.
$(BUILD)/twofold.elf: $(BUILD)/twofold.debug.elf
	@objcopy --strip-debug $< $@

hypervisor: $(BUILD)/twofold.elf

-include $(HV_OBJECTS:.o=.d)

# --- what people call --------------------------------------------------------------------------------------

help:
	@echo 'make run        install what is missing, build, boot on the best machine there is, run the benchmarks'
	@echo 'make run GUEST=linux  Debian'\''s Linux with a shell on the terminal (docs/linux.md)'
	@echo 'make test       the same set-up, then all tests; the last line counts them'
	@echo 'make test-linux  Linux in every way of paging, on one and four processors; takes hours'
	@echo 'make test-long  that, attacks and random exits by more seeds, the suite with other EPT pages'
	@echo 'make workloads  Linux programs in each way of paging, and a table of them (docs/linux.md)'
	@echo 'make faults     what can fail in the start and in whole runs fails, one after another; takes an hour'
	@echo 'make soak       an hour of VMs that come and go, watched for losses; MINUTES=N (docs/robustness.md)'
	@echo 'make bench      the evaluation: all microbenchmarks, natively and in each way of paging, and its report'
	@echo 'make bench-kvm  the same guests under Linux'\'' KVM on the same machine; takes long (docs/kvm.md)'
	@echo 'make walksim    traces of programs through hv/paging and a model of translation caches (docs/walksim.md)'
	@echo 'make walksim-record  recordings of real programs for it; some minutes'
	@echo 'make fuzz       all fuzz harnesses under libFuzzer for FUZZ_SECONDS=60 each (docs/fuzzing.md)'
	@echo 'make report     out/report.html from what runs left in out/'
	@echo 'make image      build/twofold.img, a disk image to write on a USB stick'
	@echo 'make image SIGN_KEY=KEY.pem SIGN_CERT=CERTIFICATE.pem  the same, signed (docs/secure-boot.md)'
	@echo 'make check      format, static analysis, spelling, warnings as errors, dependencies'
	@echo 'make all        the hypervisor, the loader, the guests'
	@echo 'make clean      remove build/ and out/'
	@echo
	@echo 'MACHINE=bochs|qemu|kvm chooses the machine; scripts/run --help has more.'

setup-%:
	@scripts/setup $*

# GUEST=linux or a file: one guest; its SYSTEM=shell|test|workloads, PAGING=nested|shadow|compound, CPUS=N virtual
# processors, PROCESSORS=N of the emulated machine, MEMORY=256M. ARGS: more for scripts/run.
RUN_ARGS = $(GUEST:%=--guest %) $(SYSTEM:%=--system %) $(PAGING:%=--paging %) $(CPUS:%=--cpus %) \
           $(PROCESSORS:%=--processors %) $(MEMORY:%=--memory %) $(ARGS)

# A make of its own, so that what setup installed is there when the rest is looked at.
run: setup-run $(if $(filter linux,$(GUEST)),setup-linux)
	@$(MAKE) --no-print-directory all
	@MACHINE=$(MACHINE) scripts/run $(RUN_ARGS)

# BENCH=NAMES: only these, separated by commas; ARGS: more for scripts/bench.
bench: setup-bench
	@$(MAKE) --no-print-directory all
	@MACHINE=$(MACHINE) scripts/bench $(BENCH:%=--bench %) $(ARGS)

report: setup-report
	@scripts/report

test: setup-test setup-linux
	@scripts/test

# ARGS: more for scripts/workloads.
workloads: setup-run setup-linux
	@$(MAKE) --no-print-directory all
	@MACHINE=$(MACHINE) scripts/workloads $(PAGING:%=--paging %) $(ARGS)

# Linux in every way of paging, on one and four processors; hours.
test-linux: setup-test setup-linux
	@$(MAKE) --no-print-directory all
	@python3 tests/boot/run.py --long $(or $(ONLY),linux workloads)

# All boots that `make test` has no time for: these, attacks and the fuzz guest by other seeds, the suite with
# other EPT pages. ONLY=NAME chooses.
test-long: setup-test setup-linux
	@$(MAKE) --no-print-directory all
	@python3 tests/boot/run.py --long $(ONLY)

# The hypervisor and the loader with faults to inject: build/faults.
faults-build:
	@$(MAKE) --no-print-directory hypervisor boot FAULTS=1 BUILD=build/faults

# Each allocation and each capability of the start, and of whole runs, fails once; an hour.
faults: setup-test
	@$(MAKE) --no-print-directory all faults-build
	@python3 tests/boot/faults.py $(ONLY)

# One long boot in which VMs come and go: SOAK_HOURS= or MINUTES=, 60 minutes by default.
MINUTES ?= $(if $(SOAK_HOURS),$(shell echo $$(( $(SOAK_HOURS) * 60 ))),60)
soak: setup-test setup-linux
	@$(MAKE) --no-print-directory all
	@scripts/soak --machine $(MACHINE) --minutes $(MINUTES) $(ARGS)

check: setup-check
	@scripts/check

STICK_VMS := $(BENCH_NAMES) checks
STICK_FILES = $(BUILD)/twofold.elf $(BUILD)/twofold.ini $(addprefix $(GUESTS)/,$(addsuffix .elf,$(STICK_VMS)))
image: setup-run $(if $(SIGN_KEY),setup-sign)
	@$(MAKE) --no-print-directory $(BUILD)/twofold.img

# SIGN_KEY, SIGN_CERT: PEM files. The loader is then signed, with a list of the files beside it (docs/secure-boot.md).
$(BUILD)/twofold.img: all $(BUILD)/twofold.ini scripts/image
	@echo "  IMAGE   $@"
ifdef SIGN_KEY
	@scripts/sign $(SIGN_KEY) $(SIGN_CERT) $(BUILD)/BOOTX64.EFI $(BUILD)/signed.efi $(STICK_FILES)
endif
	@scripts/image $@ $(BUILD)/$(if $(SIGN_KEY),signed.efi,BOOTX64.EFI) $(STICK_FILES)
	@echo "Write it on a stick, whose content is lost, with:"
	@echo "  sudo dd if=$@ of=/dev/sdX bs=4M conv=fsync      (X: the stick's letter, see lsblk)"

$(BUILD)/twofold.ini: Makefile guest-tests/guests.mk
	@mkdir -p $(@D)
	@{ printf '; The bundled guests, one after another. README.md explains the keys.\n[twofold]\nat_end = stay\n'; \
	   for vm in $(STICK_VMS); do printf '\n[%s]\nimage = %s.elf\nmemory = 1G\n' $$vm $$vm; done; } > $@

clean:
	rm -rf $(BUILD) $(OUT)

.PHONY: all hypervisor boot guests help run bench report workloads test test-linux test-long faults faults-build soak check image clean
