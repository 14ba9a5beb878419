/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mbinfo: prints the boot information that a Multiboot 1 loader gives (specification 0.6.96, 3.3)
 * and checks that it is complete and agrees with itself. Ends with value 0 on the debug-exit port,
 * or 1 after "FAIL ..."; with "shutdown" among its arguments through Bochs' port instead.
 */
#include "guest-tests/multiboot/lib32.h"

#define BOOTLOADER_MAGIC 0x2badb002u

#define INFO_MEMORY      (1u << 0)
#define INFO_CMDLINE     (1u << 2)
#define INFO_MODULES     (1u << 3)
#define INFO_MEMORY_MAP  (1u << 6)
#define INFO_LOADER_NAME (1u << 9)

#define CR0_PE (1u << 0)
#define CR0_PG (1u << 31)

struct info {
    uint32_t flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr, syms[4];
    uint32_t mmap_length, mmap_addr, drives_length, drives_addr, config_table, boot_loader_name;
};

struct mod {
    uint32_t start, end, string, reserved;
};

struct map_entry {
    uint32_t size;
    uint64_t base, length;
    uint32_t type;
} __attribute__((packed));

void main(uint32_t magic, const struct info *info);

static void field(const char *name, uint64_t value)
{
    put_text(name);
    put_hex(value);
}

static const char *text_at(uint32_t address)
{
    return (const char *)(uintptr_t)address;
}

static bool contains(const char *text, const char *word)
{
    for (; *text; text++) {
        const char *a = text, *b = word;
        while (*b && *a == *b) {
            a++;
            b++;
        }
        if (!*b)
            return true;
    }
    return false;
}

static void check_state(uint32_t magic)
{
    uint32_t cr0, eflags;

    __asm__ volatile("mov %%cr0, %0" : "=r"(cr0));
    __asm__ volatile("pushf; pop %0" : "=r"(eflags));
    check(magic == BOOTLOADER_MAGIC, "EAX is not the boot loader's magic number");
    check((cr0 & CR0_PE) && !(cr0 & CR0_PG), "CR0: protected mode without paging is due");
    check(!(eflags & (1u << 9)) && !(eflags & (1u << 17)), "EFLAGS: IF and VM must be clear");
}

/* Returns the bytes of usable RAM in the map. */
static uint64_t print_map(const struct info *info)
{
    uint64_t usable = 0, last_end = 0;

    for (uint32_t at = info->mmap_addr; at < info->mmap_addr + info->mmap_length;) {
        const struct map_entry *e = (const struct map_entry *)(uintptr_t)at;
        field("map base=", e->base);
        field(" length=", e->length);
        field(" type=", e->type);
        put('\n');
        check(e->size == sizeof(*e) - sizeof(e->size), "map: size of an entry");
        check(e->base >= last_end, "map: entries overlap or are not sorted");
        last_end = e->base + e->length;
        usable += e->type == 1 ? e->length : 0;
        at += e->size + (uint32_t)sizeof(e->size);
    }
    return usable;
}

static void print_modules(const struct info *info)
{
    const struct mod *mods = (const struct mod *)(uintptr_t)info->mods_addr;

    for (uint32_t i = 0; i < info->mods_count; i++) {
        field("module start=", mods[i].start);
        field(" end=", mods[i].end);
        put_text(" string=");
        put_text(text_at(mods[i].string));
        put_text(" content=");
        for (uint32_t at = mods[i].start; at < mods[i].end && at < mods[i].start + 16; at++)
            put(*text_at(at) >= ' ' && *text_at(at) <= '~' ? *text_at(at) : '.');
        put('\n');
        check(mods[i].start % 4096 == 0, "module: not page aligned");
        check(mods[i].end > mods[i].start, "module: empty");
    }
}

void main(uint32_t magic, const struct info *info)
{
    check_state(magic);
    field("flags=", info->flags);
    put('\n');
    check(info->flags & INFO_MEMORY, "no memory sizes");
    check(info->flags & INFO_MEMORY_MAP, "no memory map");
    check(info->flags & INFO_CMDLINE, "no command line");
    check(info->flags & INFO_LOADER_NAME, "no boot loader name");
    field("mem_lower=", info->mem_lower);
    field(" mem_upper=", info->mem_upper);
    put('\n');
    put_text("cmdline=");
    put_text(text_at(info->cmdline));
    put_text("\nloader=");
    put_text(text_at(info->boot_loader_name));
    put('\n');
    uint64_t usable = print_map(info);
    check(info->mem_lower == 640, "mem_lower is not 640 KiB");
    check(usable >= ((uint64_t)info->mem_lower + info->mem_upper) << 10, "map and sizes disagree");
    if (info->flags & INFO_MODULES)
        print_modules(info);
    if (contains(text_at(info->cmdline), "shutdown")) {
        for (const char *c = "Shutdown"; *c; c++)
            outb(0x8900, (uint8_t)*c);
    }
    end(0);
}
