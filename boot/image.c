/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The hypervisor's ELF64 file, laid out as linker.ld linked it, in one physically contiguous piece.
 * The file may be damaged: nothing is read or written outside what was checked.
 */
#include "boot/boot.h"
#include "hv/elf64.h"

#define IMAGE_ALIGN (2ull << 20)
#define IMAGE_MAX   (64ull << 20)
#define KERNEL_HALF 0xffff800000000000ull

/* The image may lie anywhere in the top 2 GiB (-mcmodel=kernel), but for their end, where an
 * address and what is added to it could pass 0. */
#define IMAGE_LAST 0xffffffffff000000ull

#define BAD(...) FAIL(EFI_LOAD_ERROR, L"\\twofold\\twofold.elf " __VA_ARGS__)

static const struct elf64_segment *segments_of(const struct elf64_header *header)
{
    return (const struct elf64_segment *)((const char *)header + header->e_phoff);
}

static EFI_STATUS check_header(const struct elf64_header *header, uint64_t size)
{
    if (size < sizeof(*header) || header->e_magic != ELF_MAGIC || header->e_class != ELF_CLASS_64 ||
        header->e_data != ELF_DATA_LSB)
        return BAD(L"is not an ELF64 file. Write the image anew ('make image').");
    if (header->e_machine != ELF_EM_X86_64 || header->e_type != ELF_ET_EXEC ||
        header->e_phentsize != sizeof(struct elf64_segment))
        return BAD(L"is not an x86-64 executable. Write the image anew ('make image').");
    if (header->e_phoff > size || header->e_phoff % 8 != 0 ||
        header->e_phnum * sizeof(struct elf64_segment) > size - header->e_phoff)
        return BAD(L"is truncated. Write the image anew ('make image').");
    return EFI_SUCCESS;
}

static EFI_STATUS check_segments(const struct elf64_header *header, uint64_t size,
                                 struct handoff *handoff, struct loaded_image *image)
{
    uint64_t low = ~0ull, high = 0;

    image->segment_count = 0;
    for (unsigned i = 0; i < header->e_phnum; i++) {
        const struct elf64_segment *s = &segments_of(header)[i];
        if (s->p_type != ELF_PT_LOAD || s->p_memsz == 0)
            continue;
        if (s->p_offset > size || s->p_filesz > size - s->p_offset || s->p_filesz > s->p_memsz)
            return BAD(L"is truncated. Write the image anew ('make image').");
        if (s->p_vaddr < KERNEL_HALF || s->p_vaddr % PAGE_BYTES != 0 || s->p_memsz > IMAGE_MAX ||
            s->p_vaddr + s->p_memsz < s->p_vaddr)
            return BAD(L"has a segment at 0x%lx, where none can be.", s->p_vaddr);
        if (image->segment_count == sizeof(image->segment) / sizeof(image->segment[0]))
            return BAD(L"has too many segments.");
        image->segment[image->segment_count++] = (struct loaded_segment){
            .start = s->p_vaddr,
            .bytes = (s->p_memsz + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1),
            .writable = (s->p_flags & ELF_PF_W) != 0,
            .executable = (s->p_flags & ELF_PF_X) != 0,
        };
        low = low < s->p_vaddr ? low : s->p_vaddr;
        high = high > s->p_vaddr + s->p_memsz ? high : s->p_vaddr + s->p_memsz;
    }
    if (image->segment_count == 0 || high - low > IMAGE_MAX || header->e_entry < low ||
        header->e_entry >= high)
        return BAD(L"has no segments that make sense. Write the image anew ('make image').");
    handoff->hv_virtual = low;
    handoff->hv_size = (high - low + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1);
    image->entry = header->e_entry;
    return EFI_SUCCESS;
}

/* Steps of a page. The seed has other uses: this one's numbers are its own. */
static void choose_slide(struct handoff *handoff, struct loaded_image *image)
{
    uint64_t room = IMAGE_LAST - handoff->hv_size - handoff->hv_virtual;

    if (handoff->seed == 0 || handoff->hv_virtual >= IMAGE_LAST - handoff->hv_size)
        return;
    handoff->hv_slide = loader_random() % (room / PAGE_BYTES) * PAGE_BYTES;
    handoff->hv_virtual += handoff->hv_slide;
    image->entry += handoff->hv_slide;
    for (uint64_t i = 0; i < image->segment_count; i++)
        image->segment[i].start += handoff->hv_slide;
}

EFI_STATUS load_image(struct handoff *handoff, struct loaded_image *image)
{
    const struct handoff_module *file = find_module(handoff, HYPERVISOR_FILE);
    EFI_STATUS status;

    if (!file)
        return FAIL(EFI_NOT_FOUND, L"\\twofold\\twofold.elf, the hypervisor, is missing on the EFI "
                                   L"partition. Write the image anew ('make image').");
    const struct elf64_header *header = (const struct elf64_header *)file->base;
    if (failed(status = check_header(header, file->size)) ||
        failed(status = check_segments(header, file->size, handoff, image)))
        return status;
    uint64_t linked = handoff->hv_virtual;
    choose_slide(handoff, image);
    handoff->hv_base = loader_pages(handoff->hv_size, IMAGE_ALIGN);
    if (!handoff->hv_base)
        return FAIL(EFI_OUT_OF_RESOURCES, L"too little memory for the hypervisor.");
    for (unsigned i = 0; i < header->e_phnum; i++) {
        const struct elf64_segment *s = &segments_of(header)[i];
        if (s->p_type == ELF_PT_LOAD)
            CopyMem((VOID *)(s->p_vaddr - linked + handoff->hv_base),
                    (VOID *)(file->base + s->p_offset), s->p_filesz);
    }
    return relocate_image(handoff, file);
}
