/* SPDX-License-Identifier: BSD-2-Clause */
/* Between the parts of the loader (loader.h): what an image is loaded with, and the work they
 * share. */
#ifndef HV_LOADER_FORMATS_H
#define HV_LOADER_FORMATS_H

#include "hv/elf64.h"
#include "hv/loader.h"

#define LOAD_RANGES_MAX 32

/* One load: the request, and which guest memory is spoken for so far. */
struct load {
    const struct vm_settings *vm;
    const struct module_list *modules;
    const struct module *image;
    const struct guest_ram *ram;
    uint64_t tsc_hz;
    struct why *why;
    struct load_range {
        uint64_t start, end;
        const char *what;
    } range[LOAD_RANGES_MAX];
    unsigned range_count;
};

/* "IMAGE: " and a reason. Returns false. */
__attribute__((format(printf, 2, 3))) bool load_fail(struct load *load, const char *format, ...);

/*
 * Claim guest-physical [start, start + size) for `what` ("segment", "module"). False, with a
 * reason, when it is not wholly RAM or overlaps what was claimed before.
 */
bool load_claim(struct load *load, uint64_t start, uint64_t size, const char *what);

/* Claim [start, start + memory_size) and copy `file_size` bytes from offset `file_offset` of the
 * image there; the rest stays zero. */
bool load_segment(struct load *load, uint64_t file_offset, uint64_t file_size, uint64_t start,
                  uint64_t memory_size);

/* Whether `at` lies in claimed memory of an image's segment. */
bool load_in_segment(const struct load *load, uint64_t at);

/* Claim room of `size` bytes, page aligned, as high below `limit` in low RAM as it is free; without
 * a limit load_place. ~0 with a reason if none. */
#define LOAD_NO_ROOM ~0ull
uint64_t load_place_below(struct load *load, uint64_t size, uint64_t limit, const char *what);
uint64_t load_place(struct load *load, uint64_t size, const char *what);

/* The host's address of claimed guest memory. */
void *load_host(const struct load *load, uint64_t at);

/* Place the VM's module number `i` below `limit`: *at is its guest-physical address. The module's
 * file, or NULL with a reason. */
const struct module *load_module(struct load *load, unsigned i, uint64_t limit, uint64_t *at);

/* --- the map of a PC's memory ----------------------------------------------------------------- */

#define MEMORY_AVAILABLE  1u /* the numbers that BIOS call E820 and its heirs use */
#define MEMORY_RESERVED   2u
#define MEMORY_MAP_MAX    5u
#define LEGACY_END        0x100000ull
#define LEGACY_VIDEO      0xa0000ull /* video memory and ROMs of a PC, up to LEGACY_END */
#define LEGACY_BIOS_DATA  0x9fc00ull /* the last KiB below it: the BIOS' extended data area */
#define LEGACY_FIRST_PAGE PAGE_SIZE  /* interrupt vectors and BIOS data */

struct memory_range {
    uint64_t start, size;
    uint32_t type;
};

/* The VM's RAM as a guest is to see it: of the first MiB [first, end) is available, all else in it
 * is reserved. Sorted, without gaps in RAM, none empty. Returns how many. */
unsigned load_memory_map(const struct guest_ram *ram, uint64_t first, uint64_t end,
                         struct memory_range map[MEMORY_MAP_MAX]);

/* Claim what of the first MiB such a map reserves, for a guest that takes its VM for a PC. */
bool load_claim_legacy(struct load *load, uint64_t first, uint64_t end);

/* --- long mode -------------------------------------------------------------------------------- */

/* SDM 3A figure 3-8, as 64-bit mode reads them; the data segment is flat for 32-bit code too. */
#define GDT_CODE64 0x00af9b000000ffffull
#define GDT_DATA   0x00cf93000000ffffull

/* Page tables that map guest-physical [0, gib GiB) one to one in 2-MiB pages, at most 512 GiB:
 * their size in bytes, and to write them to claimed, zeroed memory at `at`, the top table first. */
uint64_t load_tables_bytes(uint64_t gib);
void load_build_tables(const struct load *load, uint64_t at, uint64_t gib);

/* --- ELF files -------------------------------------------------------------------------------- */

/* An ELF file's header, of either class. */
struct elf_file {
    bool is_64;
    uint8_t data;
    uint16_t type, machine;
    uint64_t entry;
    uint64_t offset; /* of the program headers in the file */
    uint16_t size;   /* of one */
    uint16_t count;
};

/* Read the header of `image`. False when it is no ELF file of a known class. */
bool elf_open(const struct module *image, struct elf_file *elf);

/* Whether there are program headers, of the known size and in the file; load_check_elf says why
 * not. */
bool elf_has_segments(const struct module *image, const struct elf_file *elf);
bool load_check_elf(struct load *load, const struct elf_file *elf);

/* Program header number `i` of a file that was checked, a 32-bit one widened. */
struct elf64_segment elf_segment(const struct module *image, const struct elf_file *elf,
                                 unsigned i);

/* Whether the segment takes memory. */
bool elf_is_loaded(const struct elf64_segment *s);

/* Load all segments by their physical addresses. */
bool load_elf_segments(struct load *load, const struct elf_file *elf);

/* --- the formats ------------------------------------------------------------------------------ */

bool load_elf64(struct load *load, const struct elf_file *elf, struct entry_state *entry);
bool load_linux(struct load *load, struct entry_state *entry);
bool load_pvh(struct load *load, const struct elf_file *elf, uint64_t entry_point,
              struct entry_state *entry);
bool load_multiboot(struct load *load, uint64_t header_offset, struct entry_state *entry);

/* Where a Multiboot 1 header lies: in the image's first 8 KiB, with a right checksum. */
struct multiboot_place {
    bool found;
    bool has_addresses; /* the header says itself where the image goes (the a.out kludge) */
    uint64_t offset;
};
struct multiboot_place multiboot_find_header(const struct module *image);

/* Whether the image is a Linux bzImage, of whatever version. */
bool linux_is_kernel(const struct module *image);

/* The entry point that a PVH note gives: a guest-physical address. False when there is no such
 * note. */
bool pvh_find_entry(const struct module *image, const struct elf_file *elf, uint64_t *entry_point);

#endif
