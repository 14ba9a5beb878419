/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ELF64 guests: loaded by physical address, entered in long mode as hv/guest_abi.h has it. Stack,
 * page tables, GDT, TSS and the guest's information are placed in one piece as high in low RAM as
 * there is room.
 */
#include <string.h>

#include "hv/loader_formats.h"

#define STACK_BYTES KIB(16)
#define GDT_ENTRIES 5u /* null, code, data, TSS (two) */
#define TSS_BYTES   104u

/* SDM 3A figure 7-4: a present 64-bit TSS, busy. */
#define GDT_TSS_BUSY 0x00008b0000000000ull

#define GIB_MAX 512u /* what one PDPT maps */

/* The reserved area's parts, each page aligned. */
struct reserved {
    uint64_t base, size;
    uint64_t info; /* struct tf_guest_info, then modules, then strings */
    uint64_t gdt;  /* then the TSS */
    uint64_t tables;
    uint64_t stack;
    uint64_t gib; /* that the tables map */
};

static uint64_t mapped_gib(const struct guest_ram *ram)
{
    uint64_t end = ram->high ? GIB(4) + ram->high : ram->low;

    return max_u64(4, align_up(end, GIB(1)) / GIB(1));
}

static bool reserve(struct load *load, struct reserved *r)
{
    r->gib = mapped_gib(load->ram);
    if (r->gib > GIB_MAX)
        return load_fail(load, "more than 512 GiB of RAM for an ELF64 guest");
    uint64_t info_bytes =
        align_up(sizeof(struct tf_guest_info) + VM_MODULES_MAX * sizeof(struct tf_guest_module) +
                     sizeof(load->vm->args) + VM_MODULES_MAX * sizeof(load->vm->module[0].name),
                 PAGE_SIZE);
    uint64_t table_bytes = load_tables_bytes(r->gib);

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
        uint64_t at;
        const struct module *file = load_module(load, i, load->ram->low, &at);
        if (!file)
            return false;
        list[i] = (struct tf_guest_module){at, file->size,
                                           put_string(load, strings, load->vm->module[i].name)};
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

static bool check_header(struct load *load, const struct elf_file *elf)
{
    if (elf->data != ELF_DATA_LSB || elf->machine != ELF_EM_X86_64)
        return load_fail(load, "an ELF64 file, but not for x86-64");
    if (elf->type != ELF_ET_EXEC)
        return load_fail(load,
                         "an ELF64 file, but not an executable with fixed addresses (ET_EXEC)");
    return load_check_elf(load, elf);
}

/* Entered with addresses mapped one to one: what counts is where the code lies. */
static bool check_entry(struct load *load, const struct elf_file *elf)
{
    for (unsigned i = 0; i < elf->count; i++) {
        struct elf64_segment s = elf_segment(load->image, elf, i);
        if (elf_is_loaded(&s) && (s.p_flags & ELF_PF_X) && elf->entry >= s.p_paddr &&
            elf->entry - s.p_paddr < s.p_memsz)
            return true;
    }
    return load_fail(load, "entry point 0x%llx lies in no executable segment",
                     (unsigned long long)elf->entry);
}

bool load_elf64(struct load *load, const struct elf_file *elf, struct entry_state *entry)
{
    struct reserved r = {0};

    if (!check_header(load, elf) || !load_elf_segments(load, elf) || !check_entry(load, elf) ||
        !reserve(load, &r) || !build_info(load, &r))
        return false;

    uint64_t tss = r.gdt + GDT_ENTRIES * sizeof(uint64_t);
    load_build_tables(load, r.tables, r.gib);
    build_gdt(load, &r, tss);
    *entry = (struct entry_state){
        .mode = ENTRY_LONG,
        .rip = gva(elf->entry),
        .rdi = r.info,
        .rsp = r.stack + STACK_BYTES - sizeof(uint64_t),
        .cr3 = r.tables,
        .gdt_base = r.gdt,
        .gdt_limit = GDT_ENTRIES * sizeof(uint64_t) - 1,
        .tss_base = tss,
    };
    return true;
}
