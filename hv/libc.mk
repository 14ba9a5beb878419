# SPDX-License-Identifier: BSD-2-Clause
# The hypervisor's C library: the few functions that it calls, compiled from newlib's own sources (Debian's
# package newlib-source) with the hypervisor's flags. There is no heap and no locale: hv/libc/glue.c has
# what stands in for them.

NEWLIB_TARBALL := /usr/src/newlib/newlib-3.3.0.tar.xz
NEWLIB         := $(BUILD)/newlib
LIBC_READY     := $(NEWLIB)/.unpacked
LIBC_ARCHIVE   := $(BUILD)/libc/libc.a

# Compilers answer with a path only when a recipe runs: nothing is asked while make reads this.
LIBC_CFLAGS = -nostdinc -isystem $$($(CC) -print-file-name=include) -isystem $(NEWLIB)/libc/include

LIBC_NAMES := string/memchr string/memcmp string/memmove string/strcasecmp string/strchr string/strcmp \
              string/strlen string/strncasecmp string/strncmp string/strncpy string/strcpy string/strnlen string/strspn string/strcspn \
              stdlib/strtoull stdio/vsnprintf stdio/snprintf ctype/ctype_ reent/impure

LIBC_OBJECTS := $(patsubst %,$(BUILD)/libc/%.o,$(LIBC_NAMES) stdio/svfiprintf machine/x86_64/memcpy \
                  machine/x86_64/memset glue)

# The same library as position-independent code, for the UEFI application (boot/boot.mk), where GNU-EFI
# brings memcpy and memset.
LIBC_PIC_OBJECTS := $(patsubst $(BUILD)/libc/%,$(BUILD)/libc-pic/%,$(filter-out %/memcpy.o %/memset.o,$(LIBC_OBJECTS)))
LIBC_PIC_ARCHIVE := $(BUILD)/libc-pic/libc.a

# _svfprintf_r is the printf with floating point; the one without takes its place.
# newlib leaves %zu and its like out unless asked.
LIBC_BUILD := -O2 -w -ffunction-sections -D_svfprintf_r=_svfiprintf_r -D_WANT_IO_C99_FORMATS
LIBC_HV    := $(BARE) -mcmodel=kernel $(LIBC_BUILD)
LIBC_PIC   := $(filter-out -fno-pic -fno-pie,$(BARE)) -fpic $(LIBC_BUILD)

$(LIBC_READY): $(NEWLIB_TARBALL)
	@echo "  UNPACK  newlib"
	@rm -rf $(NEWLIB) && mkdir -p $(NEWLIB)
	@tar -xJf $< -C $(NEWLIB) --strip-components=2 --wildcards '*/newlib/libc'
	@touch $@

$(NEWLIB_TARBALL):
	@echo "$@ is missing: install Debian's package newlib-source (scripts/setup does)" >&2; exit 1

# $(1): build folder, $(2): flags
define LIBC_RULES
$(1)/stdio/svfiprintf.o: $(LIBC_READY) hv/libc.mk
	@mkdir -p $$(@D)
	@$(CC) $(2) $$(LIBC_CFLAGS) -DSTRING_ONLY -DINTEGER_ONLY -c -o $$@ $(NEWLIB)/libc/stdio/vfprintf.c

$(1)/machine/%.o: $(LIBC_READY) hv/libc.mk
	@mkdir -p $$(@D)
	@$(CC) $(2) $$(LIBC_CFLAGS) -c -o $$@ $(NEWLIB)/libc/machine/$$*.S

$(1)/glue.o: hv/libc/glue.c $(LIBC_READY) hv/libc.mk
	@mkdir -p $$(@D)
	@$(CC) $(2) $$(LIBC_CFLAGS) $(WARNINGS) -c -o $$@ $$<

$(1)/%.o: $(LIBC_READY) hv/libc.mk
	@mkdir -p $$(@D)
	@$(CC) $(2) $$(LIBC_CFLAGS) -c -o $$@ $(NEWLIB)/libc/$$*.c
endef
$(eval $(call LIBC_RULES,$(BUILD)/libc,$(LIBC_HV)))
$(eval $(call LIBC_RULES,$(BUILD)/libc-pic,$(LIBC_PIC)))

$(LIBC_ARCHIVE): $(LIBC_OBJECTS)
$(LIBC_PIC_ARCHIVE): $(LIBC_PIC_OBJECTS)
$(LIBC_ARCHIVE) $(LIBC_PIC_ARCHIVE):
	@echo "  AR      $@"
	@rm -f $@ && ar rcs $@ $^
