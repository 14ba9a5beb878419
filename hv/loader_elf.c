/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ELF files for all loaders, of both classes: headers are read once, checked, and widened to those
 * of ELF64 (System V ABI, chapters 4 and 5).
 */
#include <string.h>

#include "hv/loader_formats.h"

struct elf32_header {
    uint32_t e_magic;
    uint8_t e_class, e_data, e_ident_version, e_ident_rest[9];
    uint16_t e_type, e_machine;
    uint32_t e_version, e_entry, e_phoff, e_shoff, e_flags;
    uint16_t e_ehsize, e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx;
};

struct elf32_segment {
    uint32_t p_type, p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_flags, p_align;
};
_Static_assert(sizeof(struct elf32_header) == 52 && sizeof(struct elf32_segment) == 32, "ELF32");

static uint16_t header_size(const struct elf_file *elf)
{
    return elf->is_64 ? sizeof(struct elf64_segment) : sizeof(struct elf32_segment);
}

static bool open_64(const struct module *image, struct elf_file *elf)
{
    struct elf64_header h;

    if (image->size < sizeof(h))
        return false;
    memcpy(&h, image->data, sizeof(h));
    *elf = (struct elf_file){.is_64 = true,
                             .data = h.e_data,
                             .type = h.e_type,
                             .machine = h.e_machine,
                             .entry = h.e_entry,
                             .offset = h.e_phoff,
                             .size = h.e_phentsize,
                             .count = h.e_phnum};
    return true;
}

static bool open_32(const struct module *image, struct elf_file *elf)
{
    struct elf32_header h;

    if (image->size < sizeof(h))
        return false;
    memcpy(&h, image->data, sizeof(h));
    *elf = (struct elf_file){.is_64 = false,
                             .data = h.e_data,
                             .type = h.e_type,
                             .machine = h.e_machine,
                             .entry = h.e_entry,
                             .offset = h.e_phoff,
                             .size = h.e_phentsize,
                             .count = h.e_phnum};
    return true;
}

bool elf_open(const struct module *image, struct elf_file *elf)
{
    struct elf32_header h; /* both classes begin alike */

    if (image->size < sizeof(h))
        return false;
    memcpy(&h, image->data, sizeof(h));
    if (h.e_magic != ELF_MAGIC)
        return false;
    if (h.e_class == ELF_CLASS_64)
        return open_64(image, elf);
    return h.e_class == ELF_CLASS_32 && open_32(image, elf);
}

static bool headers_in_file(const struct module *image, const struct elf_file *elf)
{
    return elf->offset <= image->size &&
           (uint64_t)elf->count * elf->size <= image->size - elf->offset;
}

bool elf_has_segments(const struct module *image, const struct elf_file *elf)
{
    return elf->size == header_size(elf) && elf->count > 0 && headers_in_file(image, elf);
}

bool load_check_elf(struct load *load, const struct elf_file *elf)
{
    if (elf->size != header_size(elf) || elf->count == 0)
        return load_fail(load, "no program headers, or of an unknown size");
    if (!headers_in_file(load->image, elf))
        return load_fail(load, "truncated: the program headers lie beyond the file's %zu bytes",
                         load->image->size);
    return true;
}

struct elf64_segment elf_segment(const struct module *image, const struct elf_file *elf, unsigned i)
{
    const char *at = (const char *)image->data + elf->offset + (uint64_t)i * elf->size;
    struct elf64_segment wide;
    struct elf32_segment s;

    if (elf->is_64) {
        memcpy(&wide, at, sizeof(wide));
        return wide;
    }
    memcpy(&s, at, sizeof(s));
    return (struct elf64_segment){.p_type = s.p_type,
                                  .p_flags = s.p_flags,
                                  .p_offset = s.p_offset,
                                  .p_vaddr = s.p_vaddr,
                                  .p_paddr = s.p_paddr,
                                  .p_filesz = s.p_filesz,
                                  .p_memsz = s.p_memsz,
                                  .p_align = s.p_align};
}

bool elf_is_loaded(const struct elf64_segment *s)
{
    return s->p_type == ELF_PT_LOAD && s->p_memsz > 0;
}

bool load_elf_segments(struct load *load, const struct elf_file *elf)
{
    for (unsigned i = 0; i < elf->count; i++) {
        struct elf64_segment s = elf_segment(load->image, elf, i);
        if (elf_is_loaded(&s) && !load_segment(load, s.p_offset, s.p_filesz, s.p_paddr, s.p_memsz))
            return false;
    }
    return true;
}
