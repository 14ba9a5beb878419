/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Linux: bzImage files by the x86 boot protocol (Documentation/arch/x86/boot.rst and zero-page.rst
 * of the kernel's source), version 2.12 or later, entered at the 64-bit entry point.
 *
 *   file:  boot sector and setup code, (setup_sects + 1) sectors; a header in them says what the
 *          kernel wants | the protected-mode code, which unpacks the kernel
 *   RAM:   the code where the kernel wants it, with the room that it unpacks itself into; and, as
 *          high as there is room, the initial RAM disk, command line, boot_params, GDT and tables
 *
 * The setup code is for BIOSes and is not run: boot_params has what it would have found out.
 */
#include <string.h>

#include "hv/loader_formats.h"

#define SECTOR              512u
#define SETUP_SECTS_DEFAULT 4u     /* what setup_sects = 0 stands for */
#define CODE_UNIT           16u    /* of syssize */
#define ENTRY_64            0x200u /* of the protected-mode code */

#define BOOT_FLAG        0xaa55u
#define HEADER_MAGIC     0x53726448u /* "HdrS", little end first */
#define VERSION_LEAST    0x020cu     /* the first with xloadflags */
#define XLF_KERNEL_64    (1u << 0)
#define LOADER_UNDEFINED 0xffu /* type_of_loader of a loader without a number of its own */
#define E820_ENTRIES_MAX 128u

/* SDM 3A 3.4.2: selectors of entries 2 and 3, __BOOT_CS and __BOOT_DS. */
#define GDT_BOOT_CODE 2u
#define GDT_BOOT_DATA 3u
#define GDT_ENTRIES   4u

/* The 64-bit protocol wants the kernel, boot_params and command line mapped: all below 4 GiB. */
#define MAPPED_GIB 4u

/* At offset 0x1f1 of the file and of boot_params. */
struct setup_header {
    uint8_t setup_sects;
    uint16_t root_flags;
    uint32_t syssize; /* of the protected-mode code, in 16 bytes */
    uint16_t ram_size, vid_mode, root_dev, boot_flag;
    uint8_t jump, jump_distance; /* the header ends where the jump goes */
    uint32_t header;
    uint16_t version;
    uint32_t realmode_swtch;
    uint16_t start_sys_seg, kernel_version;
    uint8_t type_of_loader, loadflags;
    uint16_t setup_move_size;
    uint32_t code32_start, ramdisk_image, ramdisk_size, bootsect_kludge;
    uint16_t heap_end_ptr;
    uint8_t ext_loader_ver, ext_loader_type;
    uint32_t cmd_line_ptr;
    uint32_t initrd_addr_max;  /* the last byte that the RAM disk may take */
    uint32_t kernel_alignment; /* of its address, if it is relocatable */
    uint8_t relocatable_kernel, min_alignment;
    uint16_t xloadflags;
    uint32_t cmdline_size; /* at most, without the NUL */
    uint32_t hardware_subarch;
    uint64_t hardware_subarch_data;
    uint32_t payload_offset, payload_length;
    uint64_t setup_data;
    uint64_t pref_address; /* where it likes to be, and never goes below */
    uint32_t init_size;    /* what it needs from there on, to unpack and run its first code */
} __attribute__((packed));

struct e820_entry {
    uint64_t start, size;
    uint32_t type;
} __attribute__((packed));

/* The "zero page"; what is not named here stays 0. */
struct boot_params {
    uint8_t screen_info[0x40]; /* 0 columns: there is no screen */
    uint8_t bios[0x30];
    uint64_t acpi_rsdp_addr;
    uint8_t disks[0x48];
    uint32_t ext_ramdisk_image, ext_ramdisk_size, ext_cmd_line_ptr; /* the upper halves */
    uint8_t firmware[0x11c];
    uint8_t e820_entries;
    uint8_t flags[6];
    uint8_t sentinel; /* 0: this structure was cleared before the header was copied into it */
    uint8_t unused;
    struct setup_header header;
    uint8_t header_rest[0x290 - 0x1f1 - sizeof(struct setup_header)]; /* of newer versions */
    uint8_t edd_signatures[0x40];
    struct e820_entry e820_table[E820_ENTRIES_MAX];
    uint8_t edd[0x330];
} __attribute__((packed));

_Static_assert(offsetof(struct boot_params, acpi_rsdp_addr) == 0x70 &&
                   offsetof(struct boot_params, ext_ramdisk_image) == 0xc0 &&
                   offsetof(struct boot_params, e820_entries) == 0x1e8 &&
                   offsetof(struct boot_params, sentinel) == 0x1ef &&
                   offsetof(struct boot_params, header) == 0x1f1 &&
                   offsetof(struct boot_params, header.boot_flag) == 0x1fe &&
                   offsetof(struct boot_params, header.header) == 0x202 &&
                   offsetof(struct boot_params, header.cmd_line_ptr) == 0x228 &&
                   offsetof(struct boot_params, header.xloadflags) == 0x236 &&
                   offsetof(struct boot_params, header.pref_address) == 0x258 &&
                   offsetof(struct boot_params, header_rest) == 0x264 &&
                   offsetof(struct boot_params, e820_table) == 0x2d0 &&
                   sizeof(struct boot_params) == PAGE_SIZE,
               "zero-page.rst");

#define HEADER_AT   offsetof(struct boot_params, header)
#define HEADER_ROOM (offsetof(struct boot_params, edd_signatures) - HEADER_AT)

/* All that the kernel is handed, in one placed piece; page tables follow. */
struct boot_data {
    struct boot_params params;
    uint64_t gdt[GDT_ENTRIES];
    char cmdline[sizeof(((struct vm_settings *)0)->args)];
};
#define TABLES_AT align_up(sizeof(struct boot_data), PAGE_SIZE)

/* --- the header ------------------------------------------------------------------------------- */

/* The header as far as it is named above; what the file lacks of it is 0. */
static struct setup_header read_header(const struct module *image)
{
    struct setup_header h = {0};

    if (image->size > HEADER_AT)
        memcpy(&h, (const char *)image->data + HEADER_AT,
               min_u64(sizeof(h), image->size - HEADER_AT));
    return h;
}

bool linux_is_kernel(const struct module *image)
{
    struct setup_header h = read_header(image);

    return h.boot_flag == BOOT_FLAG && h.header == HEADER_MAGIC;
}

/* How many bytes of the header this version has: up to where its jump goes. */
static uint64_t header_bytes(const struct setup_header *h)
{
    return offsetof(struct setup_header, header) + h->jump_distance;
}

static bool check_header(struct load *load, const struct setup_header *h)
{
    if (h->version < VERSION_LEAST)
        return load_fail(load,
                         "a Linux kernel of boot protocol %u.%02u, and 2.12 (Linux 3.8) is the "
                         "oldest that is known",
                         h->version >> 8, h->version & 0xffu);
    if (header_bytes(h) < sizeof(*h) || load->image->size - HEADER_AT < header_bytes(h))
        return load_fail(load, "truncated: the Linux header is too short for its version");
    if (!(h->xloadflags & XLF_KERNEL_64))
        return load_fail(load, "a Linux kernel without a 64-bit entry point");
    if (h->relocatable_kernel &&
        (h->kernel_alignment == 0 || (h->kernel_alignment & (h->kernel_alignment - 1))))
        return load_fail(load, "a Linux kernel to be aligned to 0x%x, which is no power of two",
                         h->kernel_alignment);
    return true;
}

/* --- the kernel ------------------------------------------------------------------------------- */

/*
 * Where the kernel runs: it moves itself up to pref_address from anywhere below, so there is no use
 * in loading it lower. ~0 when that is beyond all low RAM.
 */
static uint64_t kernel_start(const struct load *load, const struct setup_header *h)
{
    uint64_t start = h->pref_address;

    if (start >= load->ram->low)
        return LOAD_NO_ROOM;
    return h->relocatable_kernel ? align_up(max_u64(start, LEGACY_END), h->kernel_alignment)
                                 : start;
}

static bool load_kernel(struct load *load, const struct setup_header *h, uint64_t *start)
{
    uint64_t sectors = 1 + (h->setup_sects ? h->setup_sects : SETUP_SECTS_DEFAULT);
    uint64_t code_bytes = (uint64_t)h->syssize * CODE_UNIT;

    *start = kernel_start(load, h);
    if (*start > load->ram->low || load->ram->low - *start < h->init_size)
        return load_fail(load,
                         "the kernel unpacks itself into %llu MiB from 0x%llx on, and the VM has "
                         "%llu MiB of RAM",
                         (unsigned long long)align_up(h->init_size, MIB(1)) >> 20,
                         (unsigned long long)h->pref_address,
                         (unsigned long long)load->vm->memory >> 20);
    if (code_bytes <= ENTRY_64)
        return load_fail(load, "a Linux header that says there is no kernel");
    return load_segment(load, sectors * SECTOR, code_bytes, *start, h->init_size);
}

/* --- what it is handed ------------------------------------------------------------------------ */

/* The first module. It may be anywhere in low RAM up to the address that the header gives. */
static bool load_ramdisk(struct load *load, struct setup_header *h)
{
    uint64_t at;

    if (load->vm->module_count == 0)
        return true;
    if (load->vm->module_count > 1)
        return load_fail(load, "Linux takes one module, its initial RAM disk, and the VM has %u",
                         load->vm->module_count);
    const struct module *file = load_module(load, 0, (uint64_t)h->initrd_addr_max + 1, &at);
    if (!file)
        return false;
    h->ramdisk_image = (uint32_t)at; /* low RAM ends at 3 GiB */
    h->ramdisk_size = (uint32_t)file->size;
    return true;
}

static bool put_command_line(struct load *load, struct boot_data *data)
{
    size_t length = strlen(load->vm->args);

    if (length > data->params.header.cmdline_size)
        return load_fail(load, "args have %zu characters, and this kernel takes %u", length,
                         data->params.header.cmdline_size);
    strcpy(data->cmdline, load->vm->args);
    return true;
}

static void fill_map(struct boot_params *params, const struct guest_ram *ram)
{
    struct memory_range range[MEMORY_MAP_MAX];
    unsigned count = load_memory_map(ram, LEGACY_FIRST_PAGE, LEGACY_BIOS_DATA, range);

    for (unsigned i = 0; i < count; i++)
        params->e820_table[i] = (struct e820_entry){range[i].start, range[i].size, range[i].type};
    params->e820_entries = (uint8_t)count;
}

static bool fill_boot_params(struct load *load, const struct setup_header *h, uint64_t start,
                             struct boot_data *data, uint64_t data_at)
{
    struct boot_params *params = &data->params;

    memcpy((char *)params + HEADER_AT, (const char *)load->image->data + HEADER_AT,
           min_u64(header_bytes(h), HEADER_ROOM));
    params->header.type_of_loader = LOADER_UNDEFINED;
    params->header.code32_start = (uint32_t)start;
    params->header.cmd_line_ptr = (uint32_t)(data_at + offsetof(struct boot_data, cmdline));
    params->acpi_rsdp_addr = GUEST_RSDP;
    fill_map(params, load->ram);
    return put_command_line(load, data) && load_ramdisk(load, &params->header);
}

static bool build_boot_data(struct load *load, const struct setup_header *h, uint64_t start,
                            struct entry_state *entry)
{
    uint64_t at =
        load_place(load, TABLES_AT + load_tables_bytes(MAPPED_GIB), "boot parameters and tables");

    if (at == LOAD_NO_ROOM)
        return false;
    struct boot_data *data = load_host(load, at);
    data->gdt[GDT_BOOT_CODE] = GDT_CODE64;
    data->gdt[GDT_BOOT_DATA] = GDT_DATA;
    load_build_tables(load, at + TABLES_AT, MAPPED_GIB);
    *entry = (struct entry_state){
        .mode = ENTRY_LINUX,
        .rip = gva(start + ENTRY_64),
        .rsi = at + offsetof(struct boot_data, params),
        .cr3 = at + TABLES_AT,
        .gdt_base = at + offsetof(struct boot_data, gdt),
        .gdt_limit = sizeof(data->gdt) - 1,
    };
    return fill_boot_params(load, h, start, data, at);
}

bool load_linux(struct load *load, struct entry_state *entry)
{
    struct setup_header h = read_header(load->image);
    uint64_t start;

    return check_header(load, &h) && load_claim_legacy(load, LEGACY_FIRST_PAGE, LEGACY_BIOS_DATA) &&
           load_kernel(load, &h, &start) && build_boot_data(load, &h, start, entry);
}
