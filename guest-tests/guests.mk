# SPDX-License-Identifier: BSD-2-Clause
# The bundled guests: each .c of bench/, checks/ and bad/ is an image of its own on the runtime in lib/.

GUESTS        := $(BUILD)/guests
GUEST_CFLAGS  := $(BARE) $(WARNINGS) -O2 -fno-stack-protector -I.
GUEST_LIB     := $(patsubst %,$(BUILD)/%.o,$(basename $(wildcard guest-tests/lib/*.c guest-tests/lib/*.S)))
BENCH_NAMES   := exits touch churn mixed demand fork switch scan phases huge
GUEST_NAMES   := $(notdir $(basename $(wildcard guest-tests/bench/*.c guest-tests/bad/*.c)))
GUEST_IMAGES  := $(addprefix $(GUESTS)/,$(addsuffix .elf,$(GUEST_NAMES)))

$(BUILD)/guest-tests/%.o: guest-tests/%.c
	@mkdir -p $(@D)
	@echo "  CC      $<"
	@$(CC) $(GUEST_CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/guest-tests/%.o: guest-tests/%.S
	@mkdir -p $(@D)
	@echo "  AS      $<"
	@$(CC) $(GUEST_CFLAGS) -MMD -MP -c -o $@ $<

GUEST_LINK = $(CC) -nostdlib -static -no-pie -z noexecstack -z max-page-size=4096 -Wl,--build-id=none \
             -Wl,--no-warn-rwx-segments -T guest-tests/guest.ld -o

$(GUESTS)/%.elf: $(BUILD)/guest-tests/bench/%.o $(GUEST_LIB) guest-tests/guest.ld
	@mkdir -p $(@D)
	@echo "  GUEST   $@"
	@$(GUEST_LINK) $@ $< $(GUEST_LIB)

$(GUESTS)/%.elf: $(BUILD)/guest-tests/bad/%.o $(GUEST_LIB) guest-tests/guest.ld
	@mkdir -p $(@D)
	@echo "  GUEST   $@"
	@$(GUEST_LINK) $@ $< $(GUEST_LIB)

guests: $(GUEST_IMAGES)

-include $(wildcard $(BUILD)/guest-tests/*/*.d)
