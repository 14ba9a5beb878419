/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ELF64 guests: loaded by physical address, entered in long mode as hv/guest_abi.h has it. Stack,
 * page tables, GDT, TSS and the guest's information are placed in one piece as high in low RAM as
 * there is room.
 */
#include <string.h>

#include "hv/elf64.h"
#include "hv/loader_formats.h"

#define STACK_BYTES KIB(16)
#define GDT_ENTRIES 5u /* null, code, data, TSS (two) */
#define TSS_BYTES   104u

/* SDM 3A figure 3-8, as 64-bit mode reads them; the data segment is flat for 32-bit code too. */
#define GDT_CODE64   0x00af9b000000ffffull
#define GDT_DATA     0x00cf93000000ffffull
#define GDT_TSS_BUSY 0x00008b0000000000ull

#define PTE_P     (1ull << 0)
#define PTE_W     (1ull << 1)
#define PTE_LARGE (1ull << 7)
#define ENTRIES   512u

/* The reserved area's parts, each page aligned. */
struct reserved {
    uint64_t base, size;
    uint64_t info;   /* struct tf_guest_info, then modules, then strings */
    uint64_t gdt;    /* then the TSS */
    uint64_t tables; /* PML4, PDPT, then page directories */
    uint64_t stack;
    uint64_t directories; /* count: GiB that are mapped */
};

static uint64_t mapped_gib(const struct guest_ram *ram)
{
    uint64_t end = ram->high ? GIB(4) + ram->high : ram->low;

    return max_u64(4, align_up(end, GIB(1)) / GIB(1));
}

static bool reserve(struct load *load, struct reserved *r)
{
    r->directories = mapped_gib(load->ram);
    if (r->directories > ENTRIES)
        return load_fail(load, "more than 512 GiB of RAM for an ELF64 guest");
    uint64_t info_bytes =
        align_up(sizeof(struct tf_guest_info) + VM_MODULES_MAX * sizeof(struct tf_guest_module) +
                     sizeof(load->vm->args) + VM_MODULES_MAX * sizeof(load->vm->module[0].name),
                 PAGE_SIZE);
    uint64_t table_bytes = (2 + r->directories) * PAGE_SIZE;

    r->size = info_bytes + PAGE_SIZE + table_bytes + STACK_BYTES;
    r->base = load_place(load, r->size, "reserved area");
    if (r->base == LOAD_NO_ROOM)
        return false;
    r->info = r->base;
    r->gdt = r->info + info_bytes;
    r->tables = r->gdt + PAGE_SIZE;
    r->stack = r->tables + table_bytes;
    return true;
}

/* Guest-physical addresses one to one, in 2-MiB pages. */
static void build_tables(const struct load *load, const struct reserved *r)
{
    uint64_t *pml4 = load_host(load, r->tables);
    uint64_t *pdpt = load_host(load, r->tables + PAGE_SIZE);
    uint64_t first_directory = r->tables + 2 * PAGE_SIZE;

    pml4[0] = (r->tables + PAGE_SIZE) | PTE_P | PTE_W;
    for (uint64_t g = 0; g < r->directories; g++) {
        uint64_t *directory = load_host(load, first_directory + g * PAGE_SIZE);
        pdpt[g] = (first_directory + g * PAGE_SIZE) | PTE_P | PTE_W;
        for (uint64_t i = 0; i < ENTRIES; i++)
            directory[i] = (g * GIB(1) + i * PAGE_SIZE_2M) | PTE_P | PTE_W | PTE_LARGE;
    }
}

static void build_gdt(const struct load *load, const struct reserved *r, uint64_t tss)
{
    uint64_t *gdt = load_host(load, r->gdt);

    gdt[1] = GDT_CODE64;
    gdt[2] = GDT_DATA;
    gdt[3] = GDT_TSS_BUSY | (TSS_BYTES - 1) | (tss & 0xffffff) << 16 | (tss >> 24 & 0xff) << 56;
    gdt[4] = tss >> 32;
}

/* Copy a string to the next free place of the information area; returns its guest address. */
static uint64_t put_string(const struct load *load, uint64_t *next, const char *text)
{
    uint64_t at = *next;
    size_t bytes = strlen(text) + 1;

    memcpy(load_host(load, at), text, bytes);
    *next += bytes;
    return at;
}

static bool load_modules(struct load *load, struct tf_guest_module *list, uint64_t *strings)
{
    for (unsigned i = 0; i < load->vm->module_count; i++) {
        const char *name = load->vm->module[i].name;
        const struct module *file = module_find(load->modules, name);
        if (!file)
            return load_fail(load, "module %s: there is no such file", name);
        uint64_t at = load_place(load, file->size, "module");
        if (at == LOAD_NO_ROOM)
            return false;
        memcpy(load_host(load, at), file->data, file->size);
        list[i] = (struct tf_guest_module){at, file->size, put_string(load, strings, name)};
    }
    return true;
}

static bool build_info(struct load *load, const struct reserved *r)
{
    struct tf_guest_info *info = load_host(load, r->info);
    uint64_t modules = r->info + sizeof(*info);
    uint64_t strings = modules + VM_MODULES_MAX * sizeof(struct tf_guest_module);

    *info = (struct tf_guest_info){
        .magic = TF_GUEST_MAGIC,
        .version = TF_ABI_VERSION,
        .size = sizeof(*info),
        .args = put_string(load, &strings, load->vm->args),
        .tsc_hz = load->tsc_hz,
        .reserved_base = r->base,
        .reserved_size = r->size,
        .module_count = load->vm->module_count,
        .modules = modules,
        .ram_count = load->ram->high ? 2 : 1,
        .ram = {{0, load->ram->low}, {GIB(4), load->ram->high}},
        .native_call = load->ram->native_call,
    };
    if (load->ram->native_call) {
        info->ram_count = 2;
        info->ram[0] = (struct tf_range){load->ram->first, load->ram->hole - load->ram->first};
        info->ram[1] = (struct tf_range){load->ram->hole_end, load->ram->low - load->ram->hole_end};
    }
    return load_modules(load, load_host(load, modules), &strings);
}

static bool check_header(struct load *load, const struct elf64_header *header)
{
    if (header->e_data != ELF_DATA_LSB || header->e_machine != ELF_EM_X86_64)
        return load_fail(load, "an ELF64 file, but not for x86-64");
    if (header->e_type != ELF_ET_EXEC)
        return load_fail(load,
                         "an ELF64 file, but not an executable with fixed addresses (ET_EXEC)");
    if (header->e_phentsize != sizeof(struct elf64_segment) || header->e_phnum == 0)
        return load_fail(load, "no program headers, or of an unknown size");
    if (header->e_phoff > load->image->size ||
        (uint64_t)header->e_phnum * sizeof(struct elf64_segment) >
            load->image->size - header->e_phoff)
        return load_fail(load, "truncated: the program headers lie beyond the file's %zu bytes",
                         load->image->size);
    return true;
}

/* Load the segments; true also says that the entry point is executable code. */
static bool load_segments(struct load *load, const struct elf64_header *header)
{
    bool entry_found = false;

    for (unsigned i = 0; i < header->e_phnum; i++) {
        struct elf64_segment s;
        memcpy(&s, (const char *)load->image->data + header->e_phoff + i * sizeof(s), sizeof(s));
        if (s.p_type != ELF_PT_LOAD || s.p_memsz == 0)
            continue;
        if (!load_segment(load, s.p_offset, s.p_filesz, s.p_paddr, s.p_memsz))
            return false;
        /* Entered with addresses mapped one to one: what counts is where the code lies. */
        if ((s.p_flags & ELF_PF_X) && header->e_entry >= s.p_paddr &&
            header->e_entry - s.p_paddr < s.p_memsz)
            entry_found = true;
    }
    if (!entry_found)
        return load_fail(load, "entry point 0x%llx lies in no executable segment",
                         (unsigned long long)header->e_entry);
    return true;
}

bool load_elf64(struct load *load, struct entry_state *entry)
{
    struct elf64_header header;
    struct reserved r = {0};

    memcpy(&header, load->image->data, sizeof(header));
    if (!check_header(load, &header) || !load_segments(load, &header) || !reserve(load, &r) ||
        !build_info(load, &r))
        return false;

    uint64_t tss = r.gdt + GDT_ENTRIES * sizeof(uint64_t);
    build_tables(load, &r);
    build_gdt(load, &r, tss);
    *entry = (struct entry_state){
        .mode = ENTRY_LONG,
        .rip = gva(header.e_entry),
        .rdi = r.info,
        .rsp = r.stack + STACK_BYTES - sizeof(uint64_t),
        .cr3 = r.tables,
        .gdt_base = r.gdt,
        .gdt_limit = GDT_ENTRIES * sizeof(uint64_t) - 1,
        .tss_base = tss,
    };
    return true;
}
