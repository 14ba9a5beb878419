/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Multiboot 1 guests (Multiboot specification 0.6.96): ELF32 files, and any file whose header has
 * the load addresses itself (the "a.out kludge"). Entered in 32-bit protected mode without paging.
 */
#include <string.h>

#include "hv/loader_formats.h"

#define HEADER_MAGIC    0x1badb002u
#define HEADER_SEARCH   8192u /* bytes of the file in which the header must lie, 3.1 */
#define HEADER_ALIGN    4u
#define BOOTLOADER_EAX  0x2badb002u
#define FLAG_PAGE_ALIGN (1u << 0)
#define FLAG_MEMORY     (1u << 1)
#define FLAG_VIDEO      (1u << 2)
#define FLAG_ADDRESSES  (1u << 16)
#define FLAGS_REQUIRED  0xffffu /* unknown ones among these mean: refuse */
#define FLAGS_KNOWN     (FLAG_PAGE_ALIGN | FLAG_MEMORY | FLAG_VIDEO)

#define INFO_MEMORY      (1u << 0)
#define INFO_CMDLINE     (1u << 2)
#define INFO_MODULES     (1u << 3)
#define INFO_MEMORY_MAP  (1u << 6)
#define INFO_LOADER_NAME (1u << 9)

#define LOADER_NAME "Twofold"

struct header {
    uint32_t magic, flags, checksum;
    /* with FLAG_ADDRESSES: */
    uint32_t header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr;
};
#define HEADER_BASE_BYTES 12u

struct info {
    uint32_t flags;
    uint32_t mem_lower, mem_upper;
    uint32_t boot_device;
    uint32_t cmdline;
    uint32_t mods_count, mods_addr;
    uint32_t syms[4];
    uint32_t mmap_length, mmap_addr;
    uint32_t drives_length, drives_addr;
    uint32_t config_table;
    uint32_t boot_loader_name;
    uint32_t apm_table;
    uint8_t vbe_and_framebuffer[44];
};
_Static_assert(sizeof(struct info) == 116, "Multiboot 3.3");

struct mod {
    uint32_t start, end, string, reserved;
};

struct map_entry {
    uint32_t size; /* of the rest */
    uint64_t base, length;
    uint32_t type;
} __attribute__((packed));

/* All that the guest is told, in one placed piece. */
struct boot_data {
    struct info info;
    struct mod mods[VM_MODULES_MAX];
    struct map_entry map[MEMORY_MAP_MAX];
    char loader_name[sizeof(LOADER_NAME)];
    char
        cmdline[sizeof(((struct vm_settings *)0)->image) + sizeof(((struct vm_settings *)0)->args)];
    char strings[VM_MODULES_MAX][sizeof(struct vm_module) + 1];
};

/* --- ELF32 ------------------------------------------------------------------------------------ */

/*
 * The entry point is a virtual address where a segment's virtual address differs from its physical
 * one, and the image starts unpaged: turn it into a physical one by the segment that holds it.
 */
static bool load_elf32(struct load *load, struct entry_state *entry)
{
    struct elf_file elf;

    if (!elf_open(load->image, &elf) || elf.is_64 || elf.machine != ELF_EM_386 ||
        elf.data != ELF_DATA_LSB || elf.type != ELF_ET_EXEC)
        return load_fail(load,
                         "a Multiboot header without load addresses (flag 16), and not an ELF32 "
                         "executable for i386");
    if (!load_check_elf(load, &elf) || !load_elf_segments(load, &elf))
        return false;
    for (unsigned i = 0; i < elf.count; i++) {
        struct elf64_segment s = elf_segment(load->image, &elf, i);
        if (!elf_is_loaded(&s) || elf.entry < s.p_vaddr || elf.entry - s.p_vaddr >= s.p_memsz)
            continue;
        entry->rip = gva(elf.entry - s.p_vaddr + s.p_paddr);
        return true;
    }
    return load_fail(load, "entry point 0x%llx lies in no segment", (unsigned long long)elf.entry);
}

/* --- the header's own addresses --------------------------------------------------------------- */

/* Multiboot 3.1.3: a load_end_addr of 0 means to the file's end, a bss_end_addr of 0 no bss. */
static bool load_by_addresses(struct load *load, const struct header *h, uint64_t header_offset,
                              struct entry_state *entry)
{
    uint64_t before = (uint64_t)h->header_addr - h->load_addr;

    if (h->load_addr > h->header_addr || before > header_offset)
        return load_fail(load,
                         "Multiboot load address 0x%x does not fit header address 0x%x at "
                         "offset %llu",
                         h->load_addr, h->header_addr, (unsigned long long)header_offset);
    uint64_t offset = header_offset - before;
    uint64_t bytes = load->image->size - offset;
    if (h->load_end_addr != 0) {
        if (h->load_end_addr < h->load_addr)
            return load_fail(load, "Multiboot load end address 0x%x below the load address 0x%x",
                             h->load_end_addr, h->load_addr);
        bytes = h->load_end_addr - h->load_addr;
    }
    uint64_t memory = bytes;
    if (h->bss_end_addr != 0) {
        if (h->bss_end_addr < h->load_addr + bytes)
            return load_fail(load, "Multiboot bss end address 0x%x below the end of the data",
                             h->bss_end_addr);
        memory = h->bss_end_addr - h->load_addr;
    }
    if (!load_segment(load, offset, bytes, h->load_addr, memory))
        return false;
    if (!load_in_segment(load, h->entry_addr))
        return load_fail(load, "entry point 0x%x lies outside the image", h->entry_addr);
    entry->rip = gva(h->entry_addr);
    return true;
}

/* --- boot information ------------------------------------------------------------------------- */

static uint32_t fill_map(struct map_entry *map, const struct guest_ram *ram)
{
    struct memory_range range[MEMORY_MAP_MAX];
    unsigned count = load_memory_map(ram, 0, LEGACY_VIDEO, range);

    for (unsigned i = 0; i < count; i++)
        map[i] = (struct map_entry){
            .size = sizeof(struct map_entry) - sizeof(uint32_t),
            .base = range[i].start,
            .length = range[i].size,
            .type = range[i].type,
        };
    return count;
}

/* "NAME ARGS", or "NAME" when there are none; `room` holds both. */
static void join(char *to, const char *name, const char *args)
{
    strcpy(to, name);
    if (args[0] == '\0')
        return;
    to += strlen(to);
    *to++ = ' ';
    strcpy(to, args);
}

static bool load_mods(struct load *load, struct boot_data *data, uint32_t data_at)
{
    for (unsigned i = 0; i < load->vm->module_count; i++) {
        const struct vm_module *m = &load->vm->module[i];
        uint64_t at;
        const struct module *file = load_module(load, i, load->ram->low, &at);
        if (!file)
            return false;
        join(data->strings[i], m->name, m->args);
        data->mods[i] = (struct mod){
            .start = (uint32_t)at,
            .end = (uint32_t)(at + file->size),
            .string = data_at + (uint32_t)offsetof(struct boot_data, strings[0]) +
                      i * (uint32_t)sizeof(data->strings[0]),
        };
    }
    return true;
}

static bool build_boot_data(struct load *load, struct entry_state *entry)
{
    uint64_t place = load_place(load, sizeof(struct boot_data), "boot information");

    if (place == LOAD_NO_ROOM)
        return false;
    uint32_t at = (uint32_t)place; /* low RAM ends at 3 GiB */
    struct boot_data *data = load_host(load, place);
    uint32_t map_entries = fill_map(data->map, load->ram);
    uint64_t upper = load->ram->low > LEGACY_END ? load->ram->low - LEGACY_END : 0;

    strcpy(data->loader_name, LOADER_NAME);
    join(data->cmdline, load->vm->image, load->vm->args);
    data->info = (struct info){
        .flags = INFO_MEMORY | INFO_CMDLINE | INFO_MODULES | INFO_MEMORY_MAP | INFO_LOADER_NAME,
        .mem_lower = (uint32_t)(min_u64(load->ram->low, LEGACY_VIDEO) >> 10),
        .mem_upper = (uint32_t)(upper >> 10),
        .cmdline = at + (uint32_t)offsetof(struct boot_data, cmdline),
        .mods_count = load->vm->module_count,
        .mods_addr = at + (uint32_t)offsetof(struct boot_data, mods),
        .mmap_length = map_entries * (uint32_t)sizeof(struct map_entry),
        .mmap_addr = at + (uint32_t)offsetof(struct boot_data, map),
        .boot_loader_name = at + (uint32_t)offsetof(struct boot_data, loader_name),
    };
    entry->rbx = at;
    return load_mods(load, data, at);
}

/* --- the whole -------------------------------------------------------------------------------- */

struct multiboot_place multiboot_find_header(const struct module *image)
{
    uint64_t end = min_u64(image->size, HEADER_SEARCH);

    for (uint64_t at = 0; at + HEADER_BASE_BYTES <= end; at += HEADER_ALIGN) {
        struct header h;
        memcpy(&h, (const char *)image->data + at, HEADER_BASE_BYTES);
        if (h.magic == HEADER_MAGIC && h.magic + h.flags + h.checksum == 0)
            return (struct multiboot_place){true, (h.flags & FLAG_ADDRESSES) != 0, at};
    }
    return (struct multiboot_place){.found = false};
}

bool load_multiboot(struct load *load, uint64_t header_offset, struct entry_state *entry)
{
    struct header h = {0};
    uint64_t room = load->image->size - header_offset;
    const char *at = (const char *)load->image->data + header_offset;

    memcpy(&h, at, min_u64(room, sizeof(h)));
    if (h.flags & FLAGS_REQUIRED & ~FLAGS_KNOWN)
        return load_fail(load, "Multiboot header requires features 0x%x, which are not known",
                         h.flags & FLAGS_REQUIRED & ~FLAGS_KNOWN);
    if ((h.flags & FLAG_ADDRESSES) && room < sizeof(h))
        return load_fail(load, "truncated: the Multiboot header's addresses are missing");
    if (!load_claim_legacy(load, 0, LEGACY_VIDEO))
        return false;
    entry->mode = ENTRY_PROTECTED;
    entry->rax = BOOTLOADER_EAX;
    bool loaded = h.flags & FLAG_ADDRESSES ? load_by_addresses(load, &h, header_offset, entry)
                                           : load_elf32(load, entry);
    return loaded && build_boot_data(load, entry);
}
