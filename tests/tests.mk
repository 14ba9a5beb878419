# SPDX-License-Identifier: BSD-2-Clause
# Tests on the host: each tests/host/NAME_test.c is a program, linked with the parts of the hypervisor that
# NAME_SOURCES lists, under AddressSanitizer and UndefinedBehaviorSanitizer. `make host-tests` runs them all.

TEST_CFLAGS := -std=gnu11 -g -O1 $(WARNINGS) -fsanitize=address,undefined -fno-sanitize-recover=all \
               -fno-omit-frame-pointer -I. -MMD -MP

settings_SOURCES := hv/settings.c hv/settings_keys.c hv/paging/policy.c hv/module.c hv/why.c
frames_SOURCES   := hv/frames.c hv/lock.c tests/host/clock.c
lock_SOURCES     := hv/lock.c tests/host/clock.c
lock_LIBS        := -pthread
watchdog_SOURCES := hv/watchdog.c
faults_SOURCES   = hv/faults.c $(settings_SOURCES)
faults_LIBS      := -DFAULTS
ptab_SOURCES     := hv/ptab.c
memory_SOURCES   := hv/memory.c hv/frames.c hv/lock.c tests/host/clock.c
loader_SOURCES   := $(wildcard hv/loader*.c) hv/module.c hv/why.c hv/settings.c hv/settings_keys.c hv/paging/policy.c
devices_SOURCES  := $(wildcard hv/dev/*.c) $(loader_SOURCES)
virtio_SOURCES   = hv/dev/virtio.c hv/dev/virtio_entropy.c $(loader_SOURCES)
virtio_block_SOURCES   = hv/dev/virtio.c hv/dev/virtio_block.c $(loader_SOURCES)
virtio_console_SOURCES = hv/dev/virtio.c hv/dev/virtio_console.c hv/dev/lines.c $(loader_SOURCES)
acpi_pm_SOURCES  := hv/dev/acpi_pm.c hv/dev/pci.c
smbios_guest_SOURCES := hv/smbios_guest.c
acpi_guest_SOURCES := hv/acpi_guest.c drivers/acpi.c
monitor_SOURCES  := hv/monitor.c hv/monitor_command.c hv/dev/lines.c $(settings_SOURCES)
uart_SOURCES     := hv/dev/uart.c hv/dev/lines.c
pic_SOURCES      := hv/dev/pic.c
pit_SOURCES      := hv/dev/pit.c
rtc_SOURCES      := hv/dev/rtc.c
ioapic_SOURCES   := hv/dev/ioapic.c
lapic_SOURCES    := $(wildcard hv/dev/lapic*.c)
lapic_shared_SOURCES := $(wildcard hv/dev/lapic*.c)
interrupts_SOURCES := hv/dev/interrupts.c $(wildcard hv/dev/lapic*.c) hv/dev/ioapic.c hv/dev/pic.c
walk_SOURCES     := hv/paging/walk.c
trace_SOURCES    := hv/paging/trace.c
acpi_SOURCES     := drivers/acpi.c
sha256_SOURCES   := boot/sha256.c
hash_list_SOURCES := boot/hash_list.c boot/sha256.c
pmu_SOURCES      := hv/pmu.c hv/pmu_text.c hv/why.c
screen_SOURCES   := drivers/screen.c drivers/font.c drivers/font_data.S
speculation_SOURCES := arch/x86_64/speculation.c
decode_SOURCES   := arch/x86_64/decode.c
emulate_SOURCES  := arch/x86_64/decode.c arch/x86_64/emulate.c
walksim_SOURCES  := $(filter-out tests/walksim/main.c,$(wildcard tests/walksim/*.c)) $(wildcard hv/paging/*.c)
decode_LIBS      := -lZydis -lZycore
oracle_SOURCES   := $(addprefix tests/oracle/,processor.c machine.c reference.c program.c) $(wildcard hv/paging/*.c)
peer_SOURCES     := tests/kvm/counters.c tests/kvm/record.c $(wildcard hv/loader*.c) hv/module.c hv/why.c hv/paging/walk.c
peer_LIBS        := -I$(BUILD)/kvm

TESTS := $(patsubst tests/host/%_test.c,%,$(wildcard tests/host/*_test.c))
TEST_PROGRAMS := $(TESTS:%=$(BUILD)/tests/%)

.SECONDEXPANSION:
$(TEST_PROGRAMS): $(BUILD)/tests/%: tests/host/%_test.c tests/host/panic.c $$($$*_SOURCES) $(FONT)
	@mkdir -p $(@D)
	@echo "  TEST    $*"
	@$(HOSTCC) $(TEST_CFLAGS) -DFONT_FILE='"$(FONT)"' -o $@ $(filter %.c %.S,$^) $($*_LIBS)

# Each goes on when another fails; each prints its own lines. Status 3 (tests/host/test.h): it has said what
# failed; any other is a crash.
host-tests: $(TEST_PROGRAMS)
	@all=0; for test in $(TEST_PROGRAMS); do \
	    timeout 300 $$test; status=$$?; \
	    [ $$status -eq 0 ] || all=1; \
	    [ $$status -eq 0 ] || [ $$status -eq 3 ] || echo "FAIL $$test: the program ended with status $$status"; \
	done; exit $$all

# --- the oracle, longer than `make test` has time for --------------------------------------------------------

OPERATIONS     ?= 50000000
SEED           ?= 1
ORACLE_CFLAGS  := -std=gnu11 -g -O2 $(WARNINGS) -I.
ORACLE_MAIN    := tests/oracle/main.c $(oracle_SOURCES)
ORACLE_HEADERS := $(wildcard hv/paging/*.h tests/oracle/*.h)
# One for each RULE() in hv/paging; what each breaks stands there.
BROKEN_RULES   := $(shell seq 1 22)
# For each: some rules need a state that is rare. Seconds are for a slow machine.
BROKEN_OPERATIONS := 60000000
BROKEN_SECONDS    := 300

# Two halves side by side, with seeds that do not meet.
oracle: $(BUILD)/oracle/oracle
	@half=$$(( $(OPERATIONS) / 2 )); \
	$< $$half $(SEED) & first=$$!; \
	$< $$half $$(( $(SEED) + 1000000000 )) & second=$$!; \
	wait $$first && wait $$second

$(BUILD)/oracle/oracle: $(ORACLE_MAIN) $(ORACLE_HEADERS)
	@mkdir -p $(@D)
	@echo "  TEST    $@"
	@$(HOSTCC) $(ORACLE_CFLAGS) -o $@ $(ORACLE_MAIN)

$(BUILD)/oracle/broken-%: $(ORACLE_MAIN) $(ORACLE_HEADERS)
	@mkdir -p $(@D)
	@$(HOSTCC) $(ORACLE_CFLAGS) -DCPT_BREAK=$* -o $@ $(ORACLE_MAIN)

# Every broken build must be caught: by a difference (status 1) or by ruin (a signal), within the time.
oracle-broken: $(BROKEN_RULES:%=$(BUILD)/oracle/broken-%)
	@all=0; for rule in $(BROKEN_RULES); do \
	    said=$$(timeout $(BROKEN_SECONDS) $(BUILD)/oracle/broken-$$rule $(BROKEN_OPERATIONS) 2>&1); status=$$?; \
	    if [ $$status -eq 0 ] || [ $$status -eq 124 ]; then \
	        echo "FAIL oracle_catches_broken_rule_$$rule: it did not"; all=1; \
	    else \
	        echo "ok oracle_catches_broken_rule_$$rule ($$(grep -m 1 -o "difference.*" <<<"$$said" || echo "status $$status"))"; \
	    fi; \
	done; exit $$all

# Lines of hv/paging that the oracle's host test, half a million more operations and the walker's own test reach.
COVERAGE := $(HOSTCC) -std=gnu11 -O0 --coverage -I$(CURDIR)
oracle-coverage: $(ORACLE_HEADERS)
	@rm -rf $(BUILD)/coverage && mkdir -p $(BUILD)/coverage/objects
	@cd $(BUILD)/coverage && for file in $(CURDIR)/hv/paging/*.c; do \
	    $(COVERAGE) -c -o objects/$$(basename $$file .c).o $$file || exit 1; done
	@cd $(BUILD)/coverage && $(HOSTCC) -std=gnu11 -I$(CURDIR) --coverage -o oracle $(CURDIR)/tests/oracle/main.c \
	    $(addprefix $(CURDIR)/tests/oracle/,processor.c machine.c reference.c program.c) objects/*.o && \
	$(HOSTCC) -std=gnu11 -I$(CURDIR) --coverage -o oracle_test $(CURDIR)/tests/host/oracle_test.c \
	    $(addprefix $(CURDIR)/tests/oracle/,processor.c machine.c reference.c program.c) objects/*.o && \
	$(HOSTCC) -std=gnu11 -I$(CURDIR) --coverage -o walk_test $(CURDIR)/tests/host/walk_test.c objects/walk.o && \
	./oracle 500000 && ./oracle_test && ./walk_test >/dev/null && \
	gcov -r -s $(CURDIR) objects/*.gcda | awk '/^File .hv\/paging/ {name = $$2} /^Lines/ && name { \
	    split($$2, a, /[:%]/); print a[2] "% of " $$4 " lines", name; hit += a[2] * $$4; all += $$4; name = ""} \
	    END {printf "%.1f%% of hv/paging\n", hit / all}'

.PHONY: host-tests oracle oracle-broken oracle-coverage

-include $(TEST_PROGRAMS:=.d)
