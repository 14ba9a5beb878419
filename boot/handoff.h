/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the loader hands to the hypervisor: one versioned structure.
 *
 * State at the hypervisor's entry point (the ELF header's e_entry, a virtual address):
 *   - 64-bit mode, interrupts off, boot services left, SSE as the firmware had it
 *   - RDI = physical address of struct handoff (also mapped at that virtual address)
 *   - RSP = a 16-KiB stack of the loader's, 16-byte aligned as at a function's entry
 *   - CR3 = the loader's tables: RAM and the first 4 GiB mapped one to one (writable, executable),
 * and the hypervisor's image at its linked virtual addresses plus hv_slide, to which the loader has
 * relocated it, with each segment's own permissions
 *     (EFER.NXE set when the processor has NX)
 *   - the image is one physically contiguous piece at hv_base: a virtual address v of the image is
 * at physical address v - hv_virtual + hv_base, .bss included and zeroed
 *
 * All pointers here are physical addresses. Everything the loader allocated is in ranges of type
 * HANDOFF_LOADER: the hypervisor may reuse such a range once it needs nothing in it any more.
 */
#ifndef BOOT_HANDOFF_H
#define BOOT_HANDOFF_H

#include <stdint.h>

#define HANDOFF_MAGIC   0x44464f2d48464f54ull /* "TOFH-OFD", little end first */
#define HANDOFF_VERSION 4u

enum handoff_range_type {
    HANDOFF_FREE = 1,     /* RAM nobody uses */
    HANDOFF_LOADER = 2,   /* RAM with the hypervisor's image, modules, tables, this structure */
    HANDOFF_ACPI = 3,     /* RAM with ACPI tables (reclaimable) */
    HANDOFF_FIRMWARE = 4, /* RAM the firmware keeps: runtime services, ACPI NVS, reserved, bad */
    HANDOFF_MMIO = 5,     /* memory-mapped devices */
};

struct handoff_range {
    uint64_t base;  /* page aligned */
    uint64_t pages; /* of 4 KiB */
    uint32_t type;  /* enum handoff_range_type */
    uint32_t reserved;
};

#define HANDOFF_NAME_MAX   64
#define HANDOFF_HASH_BYTES 32 /* SHA-256 */

/* Bits of what was done with a module before anything was done by it */
#define HANDOFF_HASHED   (1u << 0) /* `sha256` is that of the content */
#define HANDOFF_EXTENDED (1u << 1) /* the TPM took it */
#define HANDOFF_LISTED   (1u << 2) /* it is as the list in the signed loader has it */

struct handoff_module {
    char name[HANDOFF_NAME_MAX]; /* NUL-terminated file name without directory: printable ASCII
                                    without quotation mark and backslash */
    uint64_t base;               /* page aligned; a NUL byte follows the content */
    uint64_t size;               /* bytes */
    uint8_t sha256[HANDOFF_HASH_BYTES];
    uint32_t measured; /* HANDOFF_HASHED, ... */
    uint32_t reserved;
};

enum handoff_tpm {
    HANDOFF_TPM_NONE = 0,     /* the firmware offers no TPM 2.0 */
    HANDOFF_TPM_EXTENDED = 1, /* it took all files */
    HANDOFF_TPM_FAILED = 2,   /* it took those with HANDOFF_EXTENDED and then failed */
    HANDOFF_TPM_OFF = 3,      /* the settings want none but themselves measured */
};

/* What a TPM was given. */
struct handoff_measurement {
    uint32_t tpm;         /* enum handoff_tpm */
    uint32_t pcr;         /* the register that was extended */
    uint32_t pcr_known;   /* `pcr_sha256` is its value afterwards, in the SHA-256 bank */
    uint32_t secure_boot; /* the firmware verified the loader's signature */
    uint8_t pcr_sha256[HANDOFF_HASH_BYTES];
};

enum handoff_pixel_format {
    HANDOFF_PIXEL_NONE = 0, /* no linear framebuffer */
    HANDOFF_PIXEL_RGBX = 1, /* byte 0 red, 1 green, 2 blue, 3 unused */
    HANDOFF_PIXEL_BGRX = 2,
};

struct handoff_framebuffer {
    uint64_t base;
    uint64_t size;   /* bytes */
    uint32_t width;  /* pixels */
    uint32_t height; /* pixels */
    uint32_t stride; /* pixels a scan line */
    uint32_t format; /* enum handoff_pixel_format */
};

struct handoff {
    uint64_t magic;
    uint32_t version;
    uint32_t size; /* of this structure, bytes */
    uint64_t hv_base;
    uint64_t hv_virtual;
    uint64_t hv_size; /* bytes in memory, page aligned */
    uint64_t rsdp;    /* ACPI RSDP, or 0 */
    struct handoff_framebuffer framebuffer;
    uint64_t ranges; /* struct handoff_range[], sorted by base, not overlapping, joined */
    uint64_t range_count;
    uint64_t modules; /* struct handoff_module[]; the hypervisor's own file is one of them */
    uint64_t module_count;
    uint64_t
        wall_seconds;  /* the time of day when the firmware was left, since 1970, UTC; 0: unknown */
    uint64_t wall_tsc; /* TSC then */
    struct handoff_measurement measurement;
    uint64_t hv_slide; /* what the image's addresses are above those that it was linked at */
    uint64_t seed; /* random, for the hypervisor's other addresses; 0: the same at every start */
};

_Static_assert(sizeof(struct handoff_range) == 24, "hand-off layout");
_Static_assert(sizeof(struct handoff_module) == 120, "hand-off layout");
_Static_assert(sizeof(struct handoff) == 192, "hand-off layout");

#endif
