# SPDX-License-Identifier: BSD-2-Clause
# The bundled guests: each .c of bench/, checks/ and bad/ is an image of its own on the runtime in lib/.

GUESTS        := $(BUILD)/guests
GUEST_CFLAGS  := $(BARE) $(WARNINGS) -O2 -fno-stack-protector \
                 -fno-delete-null-pointer-checks -I.
GUEST_LIB     := $(patsubst %,$(BUILD)/%.o,$(basename $(wildcard guest-tests/lib/*.c guest-tests/lib/*.S)))
BENCH_NAMES   := exits touch churn mixed batch demand fork switch scan phases huge tables
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

# --- Multiboot: 32-bit images with a start-up of their own ----------------------------------------------

MULTIBOOT_CFLAGS := $(filter-out -mno-red-zone,$(BARE)) $(WARNINGS) -m32 -O2 -fno-stack-protector -I.
MULTIBOOT_LINK    = ld -m elf_i386 -z noexecstack --no-warn-rwx-segments -z max-page-size=4096 \
                    -T guest-tests/multiboot/multiboot.ld

$(BUILD)/guest-tests/multiboot/%.o: guest-tests/multiboot/%.c
	@mkdir -p $(@D)
	@echo "  CC      $<"
	@$(CC) $(MULTIBOOT_CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/guest-tests/multiboot/%.o: guest-tests/multiboot/%.S
	@mkdir -p $(@D)
	@echo "  AS      $<"
	@$(CC) $(MULTIBOOT_CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/guest-tests/multiboot/start-aout.o: guest-tests/multiboot/start.S
	@mkdir -p $(@D)
	@$(CC) $(MULTIBOOT_CFLAGS) -DAOUT_KLUDGE -c -o $@ $<

MULTIBOOT_LIB := $(BUILD)/guest-tests/multiboot/lib32.o

$(GUESTS)/modes.elf $(GUESTS)/mbinfo.elf: $(GUESTS)/%.elf: $(BUILD)/guest-tests/multiboot/start.o \
        $(BUILD)/guest-tests/multiboot/%.o $(MULTIBOOT_LIB) guest-tests/multiboot/multiboot.ld
	@mkdir -p $(@D)
	@echo "  GUEST   $@"
	@$(MULTIBOOT_LINK) -o $@ $(filter %.o,$^)

$(GUESTS)/mbinfo.bin: $(addprefix $(BUILD)/guest-tests/multiboot/,start-aout.o mbinfo.o lib32.o) guest-tests/multiboot/multiboot.ld
	@mkdir -p $(@D)
	@echo "  GUEST   $@"
	@$(MULTIBOOT_LINK) -o $(@:.bin=.aout.elf) $(filter %.o,$^)
	@objcopy -O binary -j .text -j .rodata -j .data $(@:.bin=.aout.elf) $@
	@rm $(@:.bin=.aout.elf)

# Those that use the machine's devices and processors; platform is of several files.
MACHINE_NAMES    := platform idle poweroff reset
MACHINE_LIB      := $(addprefix $(BUILD)/guest-tests/multiboot/,start.o lib32.o machine32_entry.o machine32.o acpi32.o)
PLATFORM_OBJECTS := $(patsubst %.c,$(BUILD)/%.o,$(wildcard guest-tests/multiboot/platform/*.c))

$(GUESTS)/platform.elf: $(MACHINE_LIB) $(PLATFORM_OBJECTS) guest-tests/multiboot/multiboot.ld
	@mkdir -p $(@D)
	@echo "  GUEST   $@"
	@$(MULTIBOOT_LINK) -o $@ $(filter %.o,$^)

$(filter-out %/platform.elf,$(MACHINE_NAMES:%=$(GUESTS)/%.elf)): $(GUESTS)/%.elf: $(MACHINE_LIB) \
        $(BUILD)/guest-tests/multiboot/%.o guest-tests/multiboot/multiboot.ld
	@mkdir -p $(@D)
	@echo "  GUEST   $@"
	@$(MULTIBOOT_LINK) -o $@ $(filter %.o,$^)

guests: $(addprefix $(GUESTS)/,mbinfo.elf mbinfo.bin modes.elf $(addsuffix .elf,$(MACHINE_NAMES)))

-include $(wildcard $(BUILD)/guest-tests/multiboot/*/*.d)

# --- checks: one image of several files, with the hypervisor's page walk as its expectation -------------

CHECKS_OBJECTS := $(patsubst %,$(BUILD)/%.o,$(basename $(wildcard guest-tests/checks/*.c guest-tests/checks/*.S))) \
                  $(BUILD)/guest-tests/hv-walk.o

$(BUILD)/guest-tests/hv-walk.o: hv/paging/walk.c
	@mkdir -p $(@D)
	@$(CC) $(GUEST_CFLAGS) -MMD -MP -c -o $@ $<

$(GUESTS)/checks.elf: $(CHECKS_OBJECTS) $(GUEST_LIB) guest-tests/guest.ld
	@mkdir -p $(@D)
	@echo "  GUEST   $@"
	@$(GUEST_LINK) $@ $(CHECKS_OBJECTS) $(GUEST_LIB)

guests: $(GUESTS)/checks.elf

# --- attacks: one image of several files that catches exceptions as the checks do; and its victim ---------

ATTACKS_SOURCES := $(filter-out %/victim.c,$(wildcard guest-tests/attacks/*.c guest-tests/attacks/*.S))
ATTACKS_OBJECTS := $(patsubst %,$(BUILD)/%.o,$(basename $(ATTACKS_SOURCES))) \
                   $(addprefix $(BUILD)/guest-tests/checks/,machine.o machine_stubs.o)

$(GUESTS)/attacks.elf: $(ATTACKS_OBJECTS) $(GUEST_LIB) guest-tests/guest.ld
	@mkdir -p $(@D)
	@echo "  GUEST   $@"
	@$(GUEST_LINK) $@ $(ATTACKS_OBJECTS) $(GUEST_LIB)

$(GUESTS)/victim.elf: $(BUILD)/guest-tests/attacks/victim.o $(GUEST_LIB) guest-tests/guest.ld
	@mkdir -p $(@D)
	@echo "  GUEST   $@"
	@$(GUEST_LINK) $@ $< $(GUEST_LIB)

guests: $(GUESTS)/attacks.elf $(GUESTS)/victim.elf

# --- fuzz: random exits from a seed ---------------------------------------------------------------------

FUZZ_GUEST_OBJECTS := $(patsubst %,$(BUILD)/%.o,$(basename $(wildcard guest-tests/fuzz/*.c guest-tests/fuzz/*.S)))

$(GUESTS)/fuzz.elf: $(FUZZ_GUEST_OBJECTS) $(GUEST_LIB) guest-tests/guest.ld
	@mkdir -p $(@D)
	@echo "  GUEST   $@"
	@$(GUEST_LINK) $@ $(FUZZ_GUEST_OBJECTS) $(GUEST_LIB)

guests: $(GUESTS)/fuzz.elf
