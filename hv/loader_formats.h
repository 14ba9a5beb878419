/* SPDX-License-Identifier: BSD-2-Clause */
/* Between the parts of the loader (loader.h): what an image is loaded with, and the work they
 * share. */
#ifndef HV_LOADER_FORMATS_H
#define HV_LOADER_FORMATS_H

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

/* Claim room of `size` bytes, page aligned, as high in low RAM as it is free. ~0 with a reason if
 * none. */
#define LOAD_NO_ROOM ~0ull
uint64_t load_place(struct load *load, uint64_t size, const char *what);

/* The host's address of claimed guest memory. */
void *load_host(const struct load *load, uint64_t at);

bool load_elf64(struct load *load, struct entry_state *entry);
bool load_multiboot(struct load *load, uint64_t header_offset, struct entry_state *entry);

/* Where a Multiboot 1 header lies: in the image's first 8 KiB, with a right checksum. */
struct multiboot_place {
    bool found;
    bool has_addresses; /* the header says itself where the image goes (the a.out kludge) */
    uint64_t offset;
};
struct multiboot_place multiboot_find_header(const struct module *image);

#endif
