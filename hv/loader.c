/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * See loader.h. Everything that goes into a guest's RAM is claimed first: a claim outside the RAM
 * or on top of an earlier one ends the load, so that the formats need no other check before they
 * copy.
 */
#include "hv/loader.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "hv/loader_formats.h"

static const char segment_name[] = "segment";

/* --- RAM -------------------------------------------------------------------------------------- */

struct guest_ram guest_ram_layout(uint8_t *host, uint64_t size)
{
    uint64_t low = min_u64(size, GUEST_LOW_RAM_MAX);

    return (struct guest_ram){.host = host, .low = low, .high = size - low};
}

/* Here the mark is put on: by way of a number, which is what the compiler asks for. */
static void GUEST *marked(const struct guest_ram *ram, uint64_t offset)
{
    return (void GUEST *)(uintptr_t)(ram->host + offset);
}

void GUEST *guest_ram_at(const struct guest_ram *ram, gpa_t at, uint64_t len)
{
    if (at.v >= ram->hole_end && at.v < ram->low)
        return len <= ram->low - at.v ? marked(ram, at.v) : NULL;
    if (at.v < ram->hole)
        return at.v >= ram->first && len <= ram->hole - at.v ? marked(ram, at.v) : NULL;
    if (at.v < GIB(4) || at.v - GIB(4) >= ram->high)
        return NULL;
    uint64_t offset = at.v - GIB(4);
    return len <= ram->high - offset ? marked(ram, ram->low + offset) : NULL;
}

/* --- what the formats share ------------------------------------------------------------------- */

bool load_fail(struct load *load, const char *format, ...)
{
    char text[sizeof(load->why->text) - 72];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return why_set(load->why, "%s: %s", load->vm->image, text);
}

static const struct load_range *find_overlap(const struct load *load, uint64_t start, uint64_t end)
{
    for (unsigned i = 0; i < load->range_count; i++) {
        if (start < load->range[i].end && load->range[i].start < end)
            return &load->range[i];
    }
    return NULL;
}

bool load_claim(struct load *load, uint64_t start, uint64_t size, const char *what)
{
    unsigned long long from = start;
    unsigned long long bytes = size;

    if (size == 0)
        return true;
    if (!guest_ram_at(load->ram, gpa(start), size))
        return load_fail(load, "%s [0x%llx, +0x%llx) lies outside the VM's %llu MiB of RAM", what,
                         from, bytes, (unsigned long long)load->vm->memory >> 20);
    const struct load_range *other = find_overlap(load, start, start + size);
    if (other)
        return load_fail(load, "%s [0x%llx, +0x%llx) overlaps the %s [0x%llx, 0x%llx)", what, from,
                         bytes, other->what, (unsigned long long)other->start,
                         (unsigned long long)other->end);
    if (load->range_count == LOAD_RANGES_MAX)
        return load_fail(load, "more than %d segments and modules", LOAD_RANGES_MAX);
    load->range[load->range_count++] = (struct load_range){start, start + size, what};
    return true;
}

bool load_segment(struct load *load, uint64_t file_offset, uint64_t file_size, uint64_t start,
                  uint64_t memory_size)
{
    if (file_size > memory_size)
        return load_fail(load, "segment at 0x%llx has more bytes in the file than in memory",
                         (unsigned long long)start);
    if (file_offset > load->image->size || file_size > load->image->size - file_offset)
        return load_fail(load,
                         "truncated: segment at 0x%llx needs %llu bytes from offset %llu, "
                         "and the file has %zu",
                         (unsigned long long)start, (unsigned long long)file_size,
                         (unsigned long long)file_offset, load->image->size);
    if (!load_claim(load, start, memory_size, segment_name))
        return false;
    if (file_size > 0)
        memcpy(load_host(load, start), (const char *)load->image->data + file_offset, file_size);
    return true;
}

bool load_in_segment(const struct load *load, uint64_t at)
{
    const struct load_range *range = find_overlap(load, at, at + 1);

    return range && range->what == segment_name;
}

uint64_t load_place_below(struct load *load, uint64_t size, uint64_t limit, const char *what)
{
    uint64_t end = min_u64(limit, load->ram->low);

    size = align_up(size, PAGE_SIZE);
    while (end >= size) {
        uint64_t start = align_down(end - size, PAGE_SIZE);
        const struct load_range *other = find_overlap(load, start, start + size);
        if (!other)
            return load_claim(load, start, size, what) ? start : LOAD_NO_ROOM;
        end = other->start;
    }
    load_fail(load, "no room for the %s (%llu KiB) in the VM's %llu MiB of RAM", what,
              (unsigned long long)size >> 10, (unsigned long long)load->vm->memory >> 20);
    return LOAD_NO_ROOM;
}

uint64_t load_place(struct load *load, uint64_t size, const char *what)
{
    return load_place_below(load, size, load->ram->low, what);
}

void *load_host(const struct load *load, uint64_t at)
{
    return guest_plain(guest_ram_at(load->ram, gpa(at), 1)); /* no processor runs yet */
}

const struct module *load_module(struct load *load, unsigned i, uint64_t limit, uint64_t *at)
{
    const char *name = load->vm->module[i].name;
    const struct module *file = module_find(load->modules, name);

    if (!file) {
        load_fail(load, "module %s: there is no such file", name);
        return NULL;
    }
    *at = load_place_below(load, file->size, limit, "module");
    if (*at == LOAD_NO_ROOM)
        return NULL;
    if (file->size > 0)
        memcpy(load_host(load, *at), file->data, file->size);
    return file;
}

/* --- the map of a PC's memory ----------------------------------------------------------------- */

unsigned load_memory_map(const struct guest_ram *ram, uint64_t first, uint64_t end,
                         struct memory_range map[MEMORY_MAP_MAX])
{
    const struct {
        uint64_t start, end;
        uint32_t type;
    } ranges[MEMORY_MAP_MAX] = {
        {0, min_u64(ram->low, first), MEMORY_RESERVED},
        {first, min_u64(ram->low, end), MEMORY_AVAILABLE},
        {end, min_u64(ram->low, LEGACY_END), MEMORY_RESERVED},
        {LEGACY_END, ram->low, MEMORY_AVAILABLE},
        {GIB(4), GIB(4) + ram->high, MEMORY_AVAILABLE},
    };
    unsigned count = 0;

    for (unsigned i = 0; i < MEMORY_MAP_MAX; i++) {
        uint64_t start = ranges[i].start;
        if (ranges[i].end > start)
            map[count++] = (struct memory_range){start, ranges[i].end - start, ranges[i].type};
    }
    return count;
}

bool load_claim_legacy(struct load *load, uint64_t first, uint64_t end)
{
    if (load->ram->native_call)
        return load_fail(load, "paging = native runs ELF64 images only");
    return load_claim(load, 0, first, "PC's first page") &&
           load_claim(load, end, LEGACY_END - end, "PC's legacy hole");
}

/* --- which format ----------------------------------------------------------------------------- */

bool load_guest(const struct vm_settings *vm, const struct module_list *modules, uint64_t tsc_hz,
                const struct guest_ram *ram, struct entry_state *entry, struct why *why)
{
    struct load load = {.vm = vm,
                        .modules = modules,
                        .ram = ram,
                        .tsc_hz = tsc_hz,
                        .why = why,
                        .image = module_find(modules, vm->image)};
    struct elf_file elf;
    uint64_t pvh_entry;

    if (!load.image)
        return load_fail(&load, "there is no such file");
    *entry = (struct entry_state){.mode = ENTRY_LONG};
    if (linux_is_kernel(load.image))
        return load_linux(&load, entry);
    bool is_elf = elf_open(load.image, &elf);
    /* Multiboot 1 knows ELF32 and headers with addresses: an ELF64 file that has a header without
     * them is loaded as what it is. */
    struct multiboot_place header = multiboot_find_header(load.image);
    if (header.found && (header.has_addresses || !is_elf || !elf.is_64))
        return load_multiboot(&load, header.offset, entry);
    if (is_elf && pvh_find_entry(load.image, &elf, &pvh_entry))
        return load_pvh(&load, &elf, pvh_entry, entry);
    if (is_elf && elf.is_64)
        return load_elf64(&load, &elf, entry);
    return load_fail(&load,
                     "neither a Linux bzImage nor an ELF64 file, and without a Multiboot header or "
                     "a PVH note (%zu bytes)",
                     load.image->size);
}
