/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The loader, a UEFI application: main.c tells the story, each other file does one part of it. A
 * part that fails prints the cause and the cure on the firmware's console and returns the status
 * that the firmware gets.
 */
#ifndef BOOT_BOOT_H
#define BOOT_BOOT_H

#include <efi.h>
#include <efilib.h>

#include "boot/handoff.h"

#define MODULE_FOLDER   L"\\twofold"
#define HYPERVISOR_FILE "twofold.elf"
#define PAGE_BYTES      4096ull

/* Print "Twofold: ..." with a line feed, and return `status`. */
#define FAIL(status, ...) (Print(L"Twofold: " __VA_ARGS__), Print(L"\r\n"), (status))

/* EFI_ERROR for an expression: GNU-EFI's macro does not bracket its argument. */
static inline BOOLEAN failed(EFI_STATUS status)
{
    return EFI_ERROR(status);
}

/* Pages that survive the loader (EfiLoaderData), zeroed; `align` a power of two. 0: no memory. */
uint64_t loader_pages(uint64_t bytes, uint64_t align);

/* machine.c: whether this processor can run the hypervisor, and guests if `needs_vmx`. */
EFI_STATUS check_machine(BOOLEAN needs_vmx);

/* modules.c: read every file of \twofold\ of the volume that holds this application. */
EFI_STATUS load_modules(EFI_HANDLE image, struct handoff *handoff);
/* The module called `name`, or NULL. */
struct handoff_module *find_module(const struct handoff *handoff, const char *name);

/* settings.c: whether the settings file parses, by the hypervisor's own parser; *checked is then
 * what it says. */
struct settings;
EFI_STATUS check_settings(const struct handoff *handoff, const struct settings **checked);

/*
 * verify.c: whether all files are as the list in this loader's image has them; that it has one if
 * the firmware verified its signature (Secure Boot). A loader without a list takes any file.
 */
EFI_STATUS verify_modules(EFI_HANDLE image, struct handoff *handoff);

/*
 * measure.c: the files' SHA-256, into the hand-off and the TPM. The settings file comes first,
 * before it is parsed, whatever it says; then the others as it says. A TPM that fails is told, and
 * is an error with `measure = required` only.
 */
void hash_module(struct handoff_module *module);
void measure_settings(struct handoff *handoff);
EFI_STATUS measure_modules(struct handoff *handoff, const struct settings *settings);

/* random.c: 64 random bits, of the processor where it has a source, else of its clock. */
uint64_t loader_random(void);

/* image.c: the hypervisor's ELF file, laid out in memory, at random virtual addresses if the
 * hand-off has a seed. */
struct loaded_image {
    uint64_t entry; /* virtual */
    uint64_t segment_count;
    struct loaded_segment {
        uint64_t start, bytes; /* virtual, whole pages */
        BOOLEAN writable, executable;
    } segment[16];
};
EFI_STATUS load_image(struct handoff *handoff, struct loaded_image *image);
/* relocate.c: let the image, which lies at hv_base, be right at its linked addresses plus hv_slide.
 * `file` is the ELF file, whose headers are checked. */
EFI_STATUS relocate_image(const struct handoff *handoff, const struct handoff_module *file);

/* tables.c: the page tables that boot/handoff.h promises. *cr3 gets their root. `ram_end`: one to
 * one up to there. */
EFI_STATUS build_tables(const struct handoff *handoff, const struct loaded_image *image,
                        uint64_t ram_end, uint64_t *cr3);

/* memory_map.c */
/* The end of RAM, by the firmware's present map. */
EFI_STATUS find_ram_end(uint64_t *ram_end);
/* Leave boot services and fill handoff->ranges. After success nothing of the firmware may be
 * called. */
EFI_STATUS leave_boot_services(EFI_HANDLE image, struct handoff *handoff);

#endif
