# SPDX-License-Identifier: BSD-2-Clause
# Tests on the host: each tests/host/NAME_test.c is a program, linked with the parts of the hypervisor that
# NAME_SOURCES lists, under AddressSanitizer and UndefinedBehaviorSanitizer. `make host-tests` runs them all.

TEST_CFLAGS := -std=gnu11 -g -O1 $(WARNINGS) -fsanitize=address,undefined -fno-sanitize-recover=all \
               -fno-omit-frame-pointer -I. -MMD -MP

settings_SOURCES := hv/settings.c hv/paging/policy.c hv/module.c hv/why.c
frames_SOURCES   := hv/frames.c
ptab_SOURCES     := hv/ptab.c
loader_SOURCES   := hv/loader.c hv/loader_elf64.c hv/loader_multiboot.c hv/module.c hv/why.c hv/settings.c \
                    hv/paging/policy.c
devices_SOURCES  := hv/dev/pio.c hv/dev/uart.c
walk_SOURCES     := hv/paging/walk.c
acpi_SOURCES     := drivers/acpi.c
screen_SOURCES   := drivers/screen.c drivers/font.c drivers/font_data.S
decode_SOURCES   := arch/x86_64/decode.c
emulate_SOURCES  := arch/x86_64/decode.c arch/x86_64/emulate.c
decode_LIBS      := -lZydis -lZycore

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

.PHONY: host-tests

-include $(TEST_PROGRAMS:=.d)
