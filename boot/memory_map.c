/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The firmware's memory map: read, turned into the hand-off's ranges, and with its key the end of
 * boot services (UEFI 2.10, 7.2 and 7.4.6).
 */
#include "boot/boot.h"

#define SPARE_DESCRIPTORS 32u /* the map grows by what is allocated for it */
#define LEAVE_TRIES       8u

struct map {
    EFI_MEMORY_DESCRIPTOR *first;
    UINTN bytes; /* of the buffer, then of the map */
    UINTN key;
    UINTN stride;
};

static EFI_MEMORY_DESCRIPTOR *descriptor(const struct map *map, UINTN i)
{
    return (EFI_MEMORY_DESCRIPTOR *)((char *)map->first + i * map->stride);
}

static EFI_STATUS read_map(struct map *map)
{
    UINT32 version;

    return uefi_call_wrapper(BS->GetMemoryMap, 5, &map->bytes, map->first, &map->key, &map->stride,
                             &version);
}

/* A buffer that the next maps fit in too. */
static EFI_STATUS make_buffer(struct map *map)
{
    *map = (struct map){0};
    EFI_STATUS status = read_map(map);
    if (status != EFI_BUFFER_TOO_SMALL)
        return FAIL(EFI_DEVICE_ERROR, L"the firmware gives no memory map (%r).", status);
    map->bytes += SPARE_DESCRIPTORS * map->stride;
    map->first = (EFI_MEMORY_DESCRIPTOR *)loader_pages(map->bytes, PAGE_BYTES);
    if (!map->first)
        return FAIL(EFI_OUT_OF_RESOURCES, L"too little memory for the memory map.");
    return EFI_SUCCESS;
}

static uint32_t range_type(UINT32 efi_type)
{
    switch (efi_type) {
    case EfiLoaderCode:
    case EfiLoaderData:
        return HANDOFF_LOADER;
    case EfiBootServicesCode:
    case EfiBootServicesData:
    case EfiConventionalMemory:
        return HANDOFF_FREE;
    case EfiACPIReclaimMemory:
        return HANDOFF_ACPI;
    case EfiMemoryMappedIO:
    case EfiMemoryMappedIOPortSpace:
        return HANDOFF_MMIO;
    default:
        return HANDOFF_FIRMWARE;
    }
}

EFI_STATUS find_ram_end(uint64_t *ram_end)
{
    struct map map;
    EFI_STATUS status = make_buffer(&map);

    if (failed(status))
        return status;
    if (failed(status = read_map(&map)))
        return FAIL(status, L"the firmware gives no memory map (%r).", status);
    *ram_end = 0;
    for (UINTN i = 0; i < map.bytes / map.stride; i++) {
        EFI_MEMORY_DESCRIPTOR *d = descriptor(&map, i);
        uint64_t end = d->PhysicalStart + d->NumberOfPages * PAGE_BYTES;
        if (range_type(d->Type) != HANDOFF_MMIO && end > *ram_end)
            *ram_end = end;
    }
    return EFI_SUCCESS;
}

/* Sort by address (few entries: insertion) and join neighbours of one type. */
static void fill_ranges(const struct map *map, struct handoff *handoff)
{
    struct handoff_range *range = (struct handoff_range *)handoff->ranges;
    uint64_t count = 0;

    for (UINTN i = 0; i < map->bytes / map->stride; i++) {
        EFI_MEMORY_DESCRIPTOR *d = descriptor(map, i);
        uint64_t at = count++;
        for (; at > 0 && range[at - 1].base > d->PhysicalStart; at--)
            range[at] = range[at - 1];
        range[at] = (struct handoff_range){
            .base = d->PhysicalStart, .pages = d->NumberOfPages, .type = range_type(d->Type)};
    }
    uint64_t kept = 0;
    for (uint64_t i = 0; i < count; i++) {
        struct handoff_range *last = kept > 0 ? &range[kept - 1] : NULL;
        if (last && last->type == range[i].type &&
            last->base + last->pages * PAGE_BYTES == range[i].base)
            last->pages += range[i].pages;
        else
            range[kept++] = range[i];
    }
    handoff->range_count = kept;
}

/*
 * The key goes stale when anything is allocated, by an event of the firmware's own too: then the
 * map is read anew, and after the first try nothing but GetMemoryMap and ExitBootServices may be
 * called.
 */
EFI_STATUS leave_boot_services(EFI_HANDLE image, struct handoff *handoff)
{
    struct map map;
    EFI_STATUS status = make_buffer(&map);

    if (failed(status))
        return status;
    UINTN room = map.bytes;
    handoff->ranges = loader_pages(room / map.stride * sizeof(struct handoff_range), PAGE_BYTES);
    if (!handoff->ranges)
        return FAIL(EFI_OUT_OF_RESOURCES, L"too little memory for the memory map.");
    for (unsigned i = 0; i < LEAVE_TRIES; i++) {
        map.bytes = room;
        if (failed(status = read_map(&map)))
            return status;
        status = uefi_call_wrapper(BS->ExitBootServices, 2, image, map.key);
        if (!failed(status)) {
            fill_ranges(&map, handoff);
            return EFI_SUCCESS;
        }
    }
    return status;
}
