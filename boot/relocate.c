/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Relocation of the hypervisor's image. It is linked at fixed addresses, with the relocations that
 * the linker has applied kept in the file (--emit-relocs): where one holds an address of the image,
 * the slide is added. As in image.c, the file may be damaged.
 */
#include "boot/boot.h"
#include "hv/elf64.h"

#define BAD(...) FAIL(EFI_LOAD_ERROR, L"\\twofold\\twofold.elf " __VA_ARGS__)

struct file {
    const char *bytes;
    uint64_t size;
    const struct elf64_section *section;
    uint16_t section_count;
};

static BOOLEAN is_inside(const struct file *f, const struct elf64_section *s)
{
    return s->sh_offset <= f->size && s->sh_size <= f->size - s->sh_offset && s->sh_offset % 8 == 0;
}

static BOOLEAN open_file(const struct handoff_module *module, struct file *f)
{
    const struct elf64_header *header = (const struct elf64_header *)module->base;

    *f = (struct file){.bytes = (const char *)module->base, .size = module->size};
    if (header->e_shentsize != sizeof(struct elf64_section) || header->e_shoff > f->size ||
        header->e_shoff % 8 != 0 ||
        header->e_shnum * sizeof(struct elf64_section) > f->size - header->e_shoff)
        return FALSE;
    f->section = (const struct elf64_section *)(f->bytes + header->e_shoff);
    f->section_count = header->e_shnum;
    return TRUE;
}

/* Where `bytes` of linked address `at` lie now; NULL: not in the image. */
static char *place(const struct handoff *handoff, uint64_t at, uint64_t bytes)
{
    uint64_t offset = at - (handoff->hv_virtual - handoff->hv_slide);

    if (offset > handoff->hv_size || bytes > handoff->hv_size - offset)
        return NULL;
    return (char *)(handoff->hv_base + offset);
}

static BOOLEAN add_slide_64(const struct handoff *handoff, uint64_t at)
{
    char *to = place(handoff, at, sizeof(uint64_t));
    uint64_t value;

    if (!to)
        return FALSE;
    CopyMem(&value, to, sizeof(value));
    value += handoff->hv_slide;
    CopyMem(to, &value, sizeof(value));
    return TRUE;
}

/* The upper half is the sign's: a sum that leaves the top 2 GiB would be another address. */
static BOOLEAN add_slide_32s(const struct handoff *handoff, uint64_t at)
{
    char *to = place(handoff, at, sizeof(int32_t));
    int32_t value;

    if (!to)
        return FALSE;
    CopyMem(&value, to, sizeof(value));
    int64_t sum = value + (int64_t)handoff->hv_slide;
    if (value >= 0 || sum >= 0)
        return FALSE;
    value = (int32_t)sum;
    CopyMem(to, &value, sizeof(value));
    return TRUE;
}

/* What is relative to its own place moves with it. */
static BOOLEAN apply(const struct handoff *handoff, const struct elf64_rela *r,
                     const struct elf64_symbol *symbol)
{
    BOOLEAN moves = symbol->st_shndx != ELF_SHN_UNDEF && symbol->st_shndx != ELF_SHN_ABS;

    switch (r->r_type) {
    case ELF_R_NONE:
    case ELF_R_PC32:
    case ELF_R_PLT32:
    case ELF_R_PC64:
        return TRUE;
    case ELF_R_64:
        return !moves || add_slide_64(handoff, r->r_offset);
    case ELF_R_32S:
        return !moves || add_slide_32s(handoff, r->r_offset);
    default:
        return FALSE;
    }
}

static BOOLEAN relocate_section(const struct handoff *handoff, const struct file *f,
                                const struct elf64_section *s)
{
    if (s->sh_link >= f->section_count || !is_inside(f, s) ||
        !is_inside(f, &f->section[s->sh_link]) || s->sh_entsize != sizeof(struct elf64_rela))
        return FALSE;
    const struct elf64_rela *rela = (const struct elf64_rela *)(f->bytes + s->sh_offset);
    const struct elf64_symbol *symbol =
        (const struct elf64_symbol *)(f->bytes + f->section[s->sh_link].sh_offset);
    uint64_t symbols = f->section[s->sh_link].sh_size / sizeof(*symbol);

    for (uint64_t i = 0; i < s->sh_size / sizeof(*rela); i++) {
        if (rela[i].r_symbol >= symbols || !apply(handoff, &rela[i], &symbol[rela[i].r_symbol]))
            return FALSE;
    }
    return TRUE;
}

EFI_STATUS relocate_image(const struct handoff *handoff, const struct handoff_module *module)
{
    struct file f;
    UINTN done = 0;

    if (handoff->hv_slide == 0)
        return EFI_SUCCESS;
    if (!open_file(module, &f))
        return BAD(L"is truncated. Write the image anew ('make image').");
    for (unsigned i = 0; i < f.section_count; i++) {
        const struct elf64_section *s = &f.section[i];
        if (s->sh_type != ELF_SHT_RELA || s->sh_info >= f.section_count ||
            !(f.section[s->sh_info].sh_flags & ELF_SHF_ALLOC))
            continue;
        if (!relocate_section(handoff, &f, s))
            return BAD(L"has a relocation that cannot be. Write the image anew ('make image').");
        done++;
    }
    if (done == 0)
        return BAD(L"has no relocations, which 'kaslr = on' needs.");
    return EFI_SUCCESS;
}
