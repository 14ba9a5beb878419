/* SPDX-License-Identifier: BSD-2-Clause */
/* See symbols.h. The file is the one that runs, so only its bounds are checked. */
#include "arch/x86_64/symbols.h"

#include "hv/elf64.h"

static const struct elf64_symbol *symbols;
static uint64_t symbol_count;
static const char *strings;
static uint64_t strings_size;
static uint64_t slide;

static bool in_file(uint64_t offset, uint64_t length, size_t size)
{
    return offset <= size && length <= size - offset;
}

uint64_t symbols_slide(void)
{
    return slide;
}

void symbols_set_slide(uint64_t by)
{
    slide = by;
}

void symbols_init(const void *file, size_t size)
{
    const struct elf64_header *header = file;
    const char *bytes = file;

    if (size < sizeof(*header) || header->e_shentsize != sizeof(struct elf64_section) ||
        !in_file(header->e_shoff, (uint64_t)header->e_shnum * sizeof(struct elf64_section), size))
        return;
    const struct elf64_section *section = (const void *)(bytes + header->e_shoff);
    for (unsigned i = 0; i < header->e_shnum; i++) {
        if (section[i].sh_type != ELF_SHT_SYMTAB || section[i].sh_link >= header->e_shnum)
            continue;
        const struct elf64_section *names = &section[section[i].sh_link];
        if (!in_file(section[i].sh_offset, section[i].sh_size, size) ||
            !in_file(names->sh_offset, names->sh_size, size))
            return;
        symbols = (const void *)(bytes + section[i].sh_offset);
        symbol_count = section[i].sh_size / sizeof(*symbols);
        strings = bytes + names->sh_offset;
        strings_size = names->sh_size;
    }
}

const char *symbols_find(uint64_t address, uint64_t *offset)
{
    address -= slide;
    for (uint64_t i = 0; i < symbol_count; i++) {
        const struct elf64_symbol *s = &symbols[i];
        if ((s->st_info & ELF_STT_MASK) != ELF_STT_FUNC || s->st_name >= strings_size)
            continue;
        if (address >= s->st_value && address - s->st_value < s->st_size) {
            *offset = address - s->st_value;
            return strings + s->st_name;
        }
    }
    return NULL;
}
