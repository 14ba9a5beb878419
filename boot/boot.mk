# SPDX-License-Identifier: BSD-2-Clause
# The loader: a UEFI application by GNU-EFI, with the hypervisor's settings parser inside.

EFI_LIB     := /usr/lib
EFI_CFLAGS  := -std=gnu11 -g -O2 $(filter-out -Wconversion -Wcast-align -Wvla -Wundef -Wwrite-strings,$(WARNINGS)) -ffreestanding -fpic \
               -fshort-wchar -fno-stack-protector -mno-red-zone -mgeneral-regs-only -maccumulate-outgoing-args \
               -fno-strict-aliasing -DGNU_EFI_USE_MS_ABI -isystem /usr/include/efi -isystem /usr/include/efi/x86_64 -I.
EFI_SOURCES := $(wildcard boot/*.c)
EFI_OBJECTS := $(patsubst %.c,$(BUILD)/efi/%.o,$(EFI_SOURCES))

# Portable parts of the hypervisor, compiled as for the hypervisor, but position independent.
EFI_SHARED         := hv/settings.c hv/settings_keys.c hv/paging/policy.c hv/module.c hv/why.c
EFI_SHARED_OBJECTS := $(patsubst %.c,$(BUILD)/efi/%.o,$(EFI_SHARED))
EFI_SHARED_CFLAGS   = $(filter-out -fno-pic -fno-pie,$(BARE)) -fpic -O2 $(WARNINGS) -I. $(LIBC_CFLAGS)

$(BUILD)/efi/boot/%.o: boot/%.c
	@mkdir -p $(@D)
	@echo "  CC      $<"
	@$(CC) $(EFI_CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/efi/hv/%.o: hv/%.c $(LIBC_READY)
	@mkdir -p $(@D)
	@echo "  CC      $< (loader)"
	@$(CC) $(EFI_SHARED_CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/boot.so: $(EFI_OBJECTS) $(EFI_SHARED_OBJECTS) $(LIBC_PIC_ARCHIVE)
	@ld -nostdlib -znocombreloc -znoexecstack -T $(EFI_LIB)/elf_x86_64_efi.lds -shared -Bsymbolic \
	    --no-undefined -o $@ $(EFI_LIB)/crt0-efi-x86_64.o $^ -L$(EFI_LIB) -lgnuefi -lefi

$(BUILD)/BOOTX64.EFI: $(BUILD)/boot.so
	@echo "  EFI     $@"
	@objcopy -j .text -j .sdata -j .data -j .rodata -j .dynamic -j .dynsym -j .rel -j .rela -j '.rel.*' \
	    -j '.rela.*' -j .reloc --target efi-app-x86_64 --subsystem=10 $< $@

boot: $(BUILD)/BOOTX64.EFI

-include $(EFI_OBJECTS:.o=.d) $(EFI_SHARED_OBJECTS:.o=.d)
