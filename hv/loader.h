/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guest images: Linux (bzImage), Multiboot 1, PVH and Twofold's own ELF64.
 *
 * A loader copies an image into a VM's RAM and says in which state its first processor starts. It
 * sees the RAM as `struct guest_ram` only, so the same code runs in tests and under the fuzzer. The
 * image is untrusted: nothing in it can make a loader read outside the module or write outside the
 * RAM.
 */
#ifndef HV_LOADER_H
#define HV_LOADER_H

#include "hv/guest_abi.h"
#include "hv/guest_pointer.h"
#include "hv/module.h"
#include "hv/settings.h"
#include "hv/types.h"
#include "hv/why.h"

/*
 * A VM's RAM: guest-physical [0, low) and [4 GiB, 4 GiB + high). Low RAM ends at 3 GiB at the
 * latest. One host block holds both, low first.
 */
#define GUEST_LOW_RAM_MAX GIB(3)

struct guest_ram {
    uint8_t *host;
    uint64_t low;  /* bytes */
    uint64_t high; /* bytes */
    /* paging = native: the machine's own addresses, in two pieces: [first, hole) and [hole_end,
     * low). 0 else. And the address of the function that stands for VMCALL. */
    uint64_t first, hole, hole_end;
    uint64_t native_call;
};

/* `size` bytes split into low and high RAM. */
struct guest_ram guest_ram_layout(uint8_t *host, uint64_t size);

/* The host's address of guest-physical [at, at + len), or NULL if any of it is not RAM. */
void GUEST *guest_ram_at(const struct guest_ram *ram, gpa_t at, uint64_t len);

/*
 * Where a guest finds its ACPI tables: the RSDP's guest-physical address, with the other tables
 * behind it in the legacy hole. Loaders only pass it on; the tables are written by others.
 */
#define GUEST_RSDP 0xe0000ull

enum entry_mode {
    ENTRY_LONG,      /* as hv/guest_abi.h has it */
    ENTRY_PROTECTED, /* 32-bit, unpaged, as Multiboot 1 and PVH have it */
    ENTRY_LINUX,     /* long mode with the selectors of Linux' 64-bit boot protocol */
};

/* How a VM's first processor starts. Registers that are not named here are 0. */
struct entry_state {
    enum entry_mode mode;
    gva_t rip;
    uint64_t rax, rbx, rsp, rsi, rdi;
    uint64_t cr3;       /* long mode: guest-physical address of the top table */
    uint64_t gdt_base;  /* long mode: guest-physical (and virtual) */
    uint64_t gdt_limit; /* bytes - 1 */
    uint64_t tss_base;  /* ENTRY_LONG */
};

/* Whether the processor starts in long mode. */
static inline bool entry_is_long(const struct entry_state *entry)
{
    return entry->mode != ENTRY_PROTECTED;
}

/*
 * Load `vm->image` and its modules into `ram`, which is zeroed. `tsc_hz` goes to the guest's
 * information. On failure *why names the image and the cause; the RAM's content is then undefined.
 *
 * The format is the first of these that the image's headers show: a Linux bzImage; Multiboot 1 (of
 * an ELF64 file only with load addresses in the header); an ELF file with a note that gives a PVH
 * entry point; ELF64.
 */
bool load_guest(const struct vm_settings *vm, const struct module_list *modules, uint64_t tsc_hz,
                const struct guest_ram *ram, struct entry_state *entry, struct why *why);

#endif
