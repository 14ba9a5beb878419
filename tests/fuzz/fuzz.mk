# SPDX-License-Identifier: BSD-2-Clause
# The fuzz harnesses (docs/fuzzing.md): each tests/fuzz/NAME.c that FUZZERS lists is one, linked with what
# NAME_FUZZED lists. Three builds of each: by clang for libFuzzer, by the host's compiler to replay inputs, and to
# count lines.

FUZZERS := settings loader acpi decode emulate virtio devices monitor trace paging

settings_FUZZED := $(settings_SOURCES)
loader_FUZZED   := $(loader_SOURCES)
acpi_FUZZED     := $(acpi_SOURCES)
decode_FUZZED   := $(decode_SOURCES)
decode_LINKED   := $(decode_LIBS)
emulate_FUZZED  := $(emulate_SOURCES)
virtio_FUZZED   := hv/dev/virtio.c hv/dev/virtio_block.c hv/dev/virtio_console.c hv/dev/virtio_entropy.c \
                   hv/dev/lines.c $(loader_SOURCES)
devices_FUZZED  := $(devices_SOURCES)
monitor_FUZZED  := $(monitor_SOURCES)
trace_FUZZED    := $(trace_SOURCES) tests/walksim/trace.c
paging_FUZZED   := $(oracle_SOURCES)

# Bytes of the longest input that is tried.
settings_LENGTH := 3000
loader_LENGTH   := 8192
acpi_LENGTH     := 4096
decode_LENGTH   := 16
emulate_LENGTH  := 24
virtio_LENGTH   := 2048
devices_LENGTH  := 2048
monitor_LENGTH  := 400
trace_LENGTH    := 2048
paging_LENGTH   := 4096

FUZZ_CFLAGS := -std=gnu11 -g $(WARNINGS) -I. -MMD -MP
SANITIZED   := -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer

fuzz_objects = $(patsubst %.c,$(BUILD)/fuzz/$(1)/%.o,tests/fuzz/$(2).c $($(2)_FUZZED) $(3))

# $(call fuzz_build,NAME,COMPILER AND FLAGS,FLAGS TO LINK,MORE SOURCES)
define fuzz_build
$(BUILD)/fuzz/$(1)/%.o: %.c
	@mkdir -p $$(@D)
	@$(2) $$(FUZZ_CFLAGS) -c -o $$@ $$<

$(FUZZERS:%=$(BUILD)/fuzz/$(1)/%): $(BUILD)/fuzz/$(1)/%: $$$$(call fuzz_objects,$(1),$$$$*,$(4))
	@echo "  FUZZ    $$@"
	@$(2) $(3) -o $$@ $$^ $$($$*_LINKED)
endef

$(eval $(call fuzz_build,libfuzzer,clang -Wno-cast-align $(SANITIZED) -fsanitize=fuzzer-no-link,-fsanitize=fuzzer,))
$(eval $(call fuzz_build,replay,$(HOSTCC) $(SANITIZED),,tests/fuzz/replay.c))
$(eval $(call fuzz_build,coverage,$(HOSTCC) -O0 --coverage,,tests/fuzz/replay.c))

-include $(foreach name,$(FUZZERS),$(foreach build,libfuzzer replay coverage,\
    $(patsubst %.o,%.d,$(call fuzz_objects,$(build),$(name),tests/fuzz/replay.c))))

# --- what people call -----------------------------------------------------------------------------------

FUZZ_SECONDS ?= 60
FUZZ_CHOSEN  := $(filter $(if $(ONLY),$(ONLY),%),$(FUZZERS))
FUZZ_WORDS   := $(foreach name,$(FUZZ_CHOSEN),$(name):$($(name)_LENGTH))

# All harnesses, or those that ONLY names, for FUZZ_SECONDS each, two at a time.
fuzz: setup-fuzz
	@$(MAKE) --no-print-directory fuzz-programs
	@scripts/fuzz run $(FUZZ_SECONDS) $(FUZZ_WORDS)

fuzz-programs: $(FUZZ_CHOSEN:%=$(BUILD)/fuzz/libfuzzer/%)

# The corpus in the repository anew, as small as it can be, from it and what `make fuzz` has found.
fuzz-merge: fuzz-programs
	@scripts/fuzz merge $(FUZZ_WORDS)

# The corpus, and what once failed: a part of `make test`.
fuzz-regress: $(FUZZ_CHOSEN:%=$(BUILD)/fuzz/replay/%)
	@all=0; for name in $(FUZZ_CHOSEN); do \
	    timeout 300 $(BUILD)/fuzz/replay/$$name $$name tests/fuzz/corpus/$$name tests/fuzz/found/$$name; status=$$?; \
	    [ $$status -eq 0 ] || { all=1; echo "FAIL fuzz_$$name: the program ended with status $$status"; }; \
	done; exit $$all

# Lines of each file that the corpus reaches.
fuzz-coverage: $(FUZZ_CHOSEN:%=$(BUILD)/fuzz/coverage/%)
	@find $(BUILD)/fuzz/coverage -name '*.gcda' -delete
	@for name in $(FUZZ_CHOSEN); do \
	    $(BUILD)/fuzz/coverage/$$name $$name tests/fuzz/corpus/$$name tests/fuzz/found/$$name || exit 1; done
	@cd $(BUILD)/fuzz/coverage && find . -path './arch/*.gcda' -o -path './drivers/*.gcda' -o -path './hv/*.gcda' | sort | xargs gcov -n -r -s $(CURDIR) 2>/dev/null | \
	    awk '/^File .(arch|drivers|hv)\/.*\.c/ {gsub("\x27", ""); name = $$2} \
	    /^Lines/ && name {split($$2, a, /[:%]/); print a[2] "% of " $$4 " lines", name; \
	    hit += a[2] * $$4; all += $$4; name = ""} END {printf "%.1f%% of %d lines in all\n", hit / all, all}'

.PHONY: fuzz fuzz-programs fuzz-merge fuzz-regress fuzz-coverage
