/* SPDX-License-Identifier: BSD-2-Clause */
/* See memory.h. */
#include "arch/x86_64/memory.h"

#include <string.h>

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/descriptors.h"
#include "arch/x86_64/processor.h"
#include "hv/arch.h"
#include "hv/console.h"
#include "hv/faults.h"
#include "hv/memory.h"

#define DIRECT_FIRST  0xffff800000000000ull
#define DIRECT_END    0xffffc00000000000ull
#define STACKS_FIRST  0xffffc00000000000ull
#define DEVICE_FIRST  0xffffd00000000000ull
#define SHADOW_OFFSET (4ull << 40) /* of shadow stacks, from the first stack */
/* The first stack and the first device are among so many places; far more is left behind them. */
#define STACKS_PLACES 0x100000000ull /* 16 TiB of pages */
#define DEVICE_PLACES 0x1000000ull   /* 32 TiB of 2 MiB */

/* SDM 3A tables 4-14 to 4-19 */
#define PTE_P   BIT(0)
#define PTE_W   BIT(1)
#define PTE_PWT BIT(3)
#define PTE_PCD BIT(4)
#define PTE_A   BIT(5)
#define PTE_D   BIT(6)
#define PTE_NX  BIT(63)

/* Leaves carry A, and D where it counts, from the start, so that the processor never writes to
 * these tables. What is dirty without being writable is a shadow stack, SDM 3A 4.6.1. */
#define MAP_TEXT   (PTE_P | PTE_A)
#define MAP_RODATA (PTE_P | PTE_A | PTE_NX)
#define MAP_DATA   (PTE_P | PTE_W | PTE_A | PTE_D | PTE_NX)
#define MAP_SHADOW (PTE_P | PTE_A | PTE_D | PTE_NX)

/*
 * Memory types by the PWT and PCD bits, SDM 3A 12.12.3. Entry 1 is write-combining instead of the
 * reset value's write-through; entries 4 to 7 repeat 0 to 3.
 */
#define HOST_PAT   0x0007010600070106ull /* WB, WC, UC-, UC */
#define MAP_WC     (MAP_DATA | PTE_PWT)
#define MAP_DEVICE (MAP_DATA | PTE_PWT | PTE_PCD)

static const struct ptab_format host_format = {.present = PTE_P, .table = PTE_P | PTE_W | PTE_A};

/* linker.ld */
extern char image_start[], text_start[], text_end[], rodata_start[], rodata_end[], data_start[],
    data_end[], image_end[];

/* For the tables and for what of the windows is taken. Look-ups need none: nothing that is mapped
 * ever changes under them. */
static struct lock map_lock;
static struct ptab host_tables;
static uint64_t direct_base;               /* 0 while the loader's tables are in use */
static uint64_t direct_map = DIRECT_FIRST; /* what it is then */
static uint64_t first_stack = STACKS_FIRST;
static uint64_t next_stack;
static uint64_t next_shadow; /* SHADOW_OFFSET behind the stacks */
static uint64_t next_device = DEVICE_FIRST;
static const struct handoff_range *ranges;
static uint64_t range_count;
static hpa_t image_base;
static uint64_t image_size;

void *host_ptr(hpa_t at)
{
    return (void *)(direct_base + at.v);
}

hpa_t host_hpa(const void *in_direct_map)
{
    return hpa((uint64_t)in_direct_map - direct_base);
}

#define NO_TABLES "no memory for the hypervisor's page tables"

/* With the lock, once there are other processors. False without memory for tables. */
static bool try_map(uint64_t from, uint64_t size, hpa_t to, uint64_t attributes)
{
    if (ptab_map(&host_tables, from, size, to, attributes))
        return true;
    /* What was mapped of it; where there is no table there is nothing to undo. */
    (void)ptab_unmap(&host_tables, from, size);
    return false;
}

static void map(uint64_t from, uint64_t size, hpa_t to, uint64_t attributes)
{
    if (!try_map(from, size, to, attributes))
        panic(NO_TABLES);
}

/* Where bundled guests are linked (guest-tests/guest.ld): kept for native ones, if all of it is
 * free. */
#define NATIVE_FROM MIB(2)
#define NATIVE_TO   MIB(4)

static uint64_t native_free; /* bytes of it that are */

static bool add_free(uint64_t from, uint64_t to)
{
    return from >= to || frames_add(&host_frames, hpa(from), to - from);
}

/* Where other processors start: a start-up IPI holds 8 bits of page number, of which a0h to bfh
 * are reserved (SDM 3A 11.6.1); the first page is the real mode's own. */
#define LOW_FROM  PAGE_SIZE
#define LOW_TO    KIB(640)
#define LOW_BYTES (2 * PAGE_SIZE)

static hpa_t low_pages;

/* The highest: firmware is known to write to the lowest 64 KiB when it should not. */
static void choose_low_pages(void)
{
    low_pages = HPA_NONE;
    for (uint64_t i = 0; i < range_count; i++) {
        uint64_t from = max_u64(ranges[i].base, LOW_FROM);
        uint64_t to = min_u64(ranges[i].base + ranges[i].pages * PAGE_SIZE, LOW_TO);
        if (ranges[i].type == HANDOFF_FREE && from + LOW_BYTES <= to)
            low_pages = hpa(to - LOW_BYTES);
    }
}

hpa_t memory_low_pages(void)
{
    return low_pages;
}

/* Without what lies in [from_kept, to_kept). */
static bool add_around(uint64_t from, uint64_t to, uint64_t from_kept, uint64_t to_kept)
{
    bool all = add_free(from, min_u64(to, from_kept));

    return add_free(max_u64(from, to_kept), to) && all;
}

/* The area for native guests lies above the low pages: a range that holds both is parted first. */
static bool add_range(uint64_t from, uint64_t to)
{
    uint64_t first = max_u64(from, NATIVE_FROM), last = min_u64(to, NATIVE_TO);

    if (first < last)
        native_free += last - first;
    uint64_t kept = hpa_is_none(low_pages) ? LOW_TO : low_pages.v;
    bool all = add_around(min_u64(from, LOW_TO), min_u64(to, LOW_TO), kept, kept + LOW_BYTES);
    return add_around(max_u64(from, LOW_TO), max_u64(to, LOW_TO), NATIVE_FROM, NATIVE_TO) && all;
}

bool arch_native_area(hpa_t *from, hpa_t *to)
{
    *from = hpa(NATIVE_FROM);
    *to = hpa(NATIVE_TO);
    return native_free == NATIVE_TO - NATIVE_FROM;
}

static void collect_free_memory(const struct handoff *handoff)
{
    uint64_t unused = 0;

    frames_init(&host_frames, host_ptr);
    ranges = (const void *)handoff->ranges;
    range_count = handoff->range_count;
    image_base = hpa(handoff->hv_base);
    image_size = handoff->hv_size;
    choose_low_pages();
    for (uint64_t i = 0; i < range_count; i++) {
        uint64_t bytes = ranges[i].pages * PAGE_SIZE;
        if (ranges[i].type == HANDOFF_FREE && !add_range(ranges[i].base, ranges[i].base + bytes))
            unused += bytes;
    }
    if (unused > 0)
        log_line("memory: %llu KiB in too many pieces, not used", (unsigned long long)unused >> 10);
}

static bool is_ram(uint32_t type)
{
    return type != HANDOFF_MMIO;
}

/* splitmix64's step and mix */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15ull;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

static uint64_t ram_end(void)
{
    uint64_t end = 0;

    for (uint64_t i = 0; i < range_count; i++) {
        if (is_ram(ranges[i].type))
            end = max_u64(end, ranges[i].base + ranges[i].pages * PAGE_SIZE);
    }
    return end;
}

/* Steps that keep large pages large. A machine whose RAM fills the window has it at its beginning.
 */
static void choose_windows(uint64_t seed)
{
    uint64_t needed = align_up(ram_end(), PAGE_SIZE_1G);
    uint64_t room = DIRECT_END - DIRECT_FIRST;

    next_stack = first_stack;
    next_shadow = first_stack + SHADOW_OFFSET;
    if (seed == 0)
        return;
    if (needed < room)
        direct_map += next_random(&seed) % ((room - needed) / PAGE_SIZE_1G) * PAGE_SIZE_1G;
    first_stack += next_random(&seed) % (STACKS_PLACES / 2) * PAGE_SIZE;
    next_stack = first_stack;
    next_shadow = first_stack + SHADOW_OFFSET;
    next_device += next_random(&seed) % (DEVICE_PLACES / 2) * PAGE_SIZE_2M;
}

static void map_image_section(const struct handoff *handoff, const char *start, const char *end,
                              uint64_t attributes)
{
    uint64_t from = (uint64_t)start;
    uint64_t to = (uint64_t)end;

    map(from, to - from, hpa(from - handoff->hv_virtual + handoff->hv_base), attributes);
}

/* RAM without the image; what the firmware keeps is read only. */
static void map_ram(const struct handoff *handoff)
{
    for (uint64_t i = 0; i < range_count; i++) {
        const struct handoff_range *r = &ranges[i];
        uint64_t size = r->pages * PAGE_SIZE;
        if (!is_ram(r->type) || r->base + size > DIRECT_END - direct_map)
            continue;
        map(direct_map + r->base, size, hpa(r->base),
            r->type == HANDOFF_FIRMWARE ? MAP_RODATA : MAP_DATA);
    }
    if (!ptab_unmap(&host_tables, direct_map + handoff->hv_base, handoff->hv_size))
        panic(NO_TABLES);
}

/* CR0.WP makes read-only mean read-only for the hypervisor too, SDM 3A 4.1.3. */
static void load_tables(void)
{
    wrmsr(MSR_PAT, HOST_PAT);
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_NXE);
    write_cr0((read_cr0() | CR0_WP | CR0_NE | CR0_MP) & ~(CR0_EM | CR0_TS | CR0_CD | CR0_NW));
    write_cr4(read_cr4() & ~(CR4_PGE | CR4_PCIDE));
    write_cr3(host_tables.root.v);
    write_cr4(read_cr4() | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT);
}

void memory_init(const struct handoff *handoff)
{
    bool has_1g =
        (cpuid(0x80000001, 0).edx & CPUID_EXT1_EDX_1G) != 0 && !fault_capability("1-GiB pages");

    collect_free_memory(handoff);
    choose_windows(handoff->seed);
    if (!ptab_init(&host_tables, &host_format, &host_ptab_memory, 4, has_1g ? 3 : 2))
        panic(NO_TABLES);
    map_image_section(handoff, text_start, text_end, MAP_TEXT);
    map_image_section(handoff, rodata_start, rodata_end, MAP_RODATA);
    map_image_section(handoff, data_start, data_end, MAP_DATA);
    map_ram(handoff);
    load_tables();
    direct_base = direct_map;
    ranges = host_ptr(hpa(handoff->ranges));
    for (unsigned slot = 1; slot <= IST_COUNT; slot++)
        descriptors_set_stack(&this_processor()->descriptors, slot, memory_need_stack());
}

static uint64_t protections; /* memory_protections */

/* SDM 3A 4.6: the hypervisor has no user pages, so none of these ever has to give way. */
void memory_protect(bool want_smep, bool want_smap)
{
    struct cpuid_regs features = {0};

    if (cpuid(0, 0).eax >= 7)
        features = cpuid(7, 0);
    bool smep = want_smep && (features.ebx & CPUID7_EBX_SMEP) && !fault_capability("SMEP");
    bool smap = want_smap && (features.ebx & CPUID7_EBX_SMAP) && !fault_capability("SMAP");
    bool umip = (features.ecx & CPUID7_ECX_UMIP) != 0;

    protections = (smep ? CR4_SMEP : 0) | (smap ? CR4_SMAP : 0) | (umip ? CR4_UMIP : 0);
    write_cr4(read_cr4() | protections);
    log_line("memory: W^X, NX, SMEP %s, SMAP %s, UMIP %s", smep ? "on" : "off", smap ? "on" : "off",
             umip ? "on" : "off");
}

uint64_t memory_protections(void)
{
    return protections;
}

uint64_t memory_new_stack(void)
{
    hpa_t frames = host_run_alloc(STACK_SIZE, PAGE_SIZE);

    if (hpa_is_none(frames))
        return 0;
    memset(host_ptr(frames), 0, STACK_SIZE);
    lock_take(&map_lock);
    uint64_t bottom = next_stack + PAGE_SIZE; /* the guard page */
    uint64_t top = bottom + STACK_SIZE;
    bool mapped = try_map(bottom, STACK_SIZE, frames, MAP_DATA);
    if (mapped)
        __atomic_store_n(&next_stack, top, __ATOMIC_RELEASE);
    lock_release(&map_lock);
    if (!mapped)
        host_run_free(frames, STACK_SIZE);
    return mapped ? top : 0;
}

uint64_t memory_need_stack(void)
{
    uint64_t top = memory_new_stack();

    if (top == 0)
        panic("no memory for a stack");
    return top;
}

/* The token is its own address: nobody uses the stack yet. */
uint64_t memory_new_shadow_stack(void)
{
    uint64_t *page = host_pages_alloc(1);

    if (!page)
        return 0;
    lock_take(&map_lock);
    uint64_t bottom = next_shadow + PAGE_SIZE; /* the guard page */
    uint64_t token = bottom + PAGE_SIZE - sizeof(uint64_t);
    page[PAGE_SIZE / sizeof(uint64_t) - 1] = token;
    bool mapped = try_map(bottom, PAGE_SIZE, host_hpa(page), MAP_SHADOW) &&
                  ptab_unmap(&host_tables, (uint64_t)page, PAGE_SIZE);
    next_shadow = bottom + PAGE_SIZE;
    lock_release(&map_lock);
    invlpg(page);
    return mapped ? token : 0;
}

bool memory_stack(unsigned n, uint64_t *bottom, uint64_t *top)
{
    *bottom = first_stack + n * (PAGE_SIZE + STACK_SIZE) + PAGE_SIZE;
    *top = *bottom + STACK_SIZE;
    return *top <= __atomic_load_n(&next_stack, __ATOMIC_ACQUIRE);
}

const struct handoff_range *memory_ranges(uint64_t *count)
{
    *count = range_count;
    return ranges;
}

hpa_t memory_image(uint64_t *size)
{
    *size = image_size;
    return image_base;
}

void memory_free_stack(uint64_t top)
{
    hpa_t frames = ptab_lookup(&host_tables, top - STACK_SIZE).to;

    lock_take(&map_lock);
    (void)ptab_unmap(&host_tables, top - STACK_SIZE, STACK_SIZE); /* small pages: none is split */
    if (next_stack == top)
        next_stack = top - STACK_SIZE - PAGE_SIZE;
    lock_release(&map_lock);
    for (uint64_t at = top - STACK_SIZE; at < top; at += PAGE_SIZE)
        invlpg((const void *)at);
    host_run_free(frames, STACK_SIZE);
}

bool memory_map_identity(hpa_t frame)
{
    lock_take(&map_lock);
    bool mapped = try_map(frame.v, PAGE_SIZE, frame, MAP_TEXT);
    lock_release(&map_lock);
    return mapped;
}

void memory_unmap_identity(hpa_t frame)
{
    lock_take(&map_lock);
    if (!ptab_unmap(&host_tables, frame.v, PAGE_SIZE))
        panic(NO_TABLES);
    lock_release(&map_lock);
    invlpg((const void *)frame.v);
}

/* CR3, CR0 and EFER.NXE are right already. The change of PGE empties the TLB, SDM 3A 4.10.4.1. */
void memory_enter(uint64_t cr4)
{
    wrmsr(MSR_PAT, HOST_PAT);
    write_cr4(cr4 & ~CR4_PGE);
    write_cr4(cr4);
}

bool memory_is_stack(uint64_t at, uint64_t len)
{
    if (at < first_stack || at >= __atomic_load_n(&next_stack, __ATOMIC_ACQUIRE) ||
        !is_aligned(at, sizeof(uint64_t)))
        return false;
    return ptab_lookup(&host_tables, at).present && ptab_lookup(&host_tables, at + len - 1).present;
}

bool memory_is_ram(uint64_t at, uint64_t len)
{
    for (uint64_t i = 0; i < range_count; i++) {
        uint64_t size = ranges[i].pages * PAGE_SIZE;
        if (is_ram(ranges[i].type) && at >= ranges[i].base && at - ranges[i].base < size &&
            len <= size - (at - ranges[i].base))
            return true;
    }
    return false;
}

bool memory_has_free(uint64_t at, uint64_t len)
{
    for (uint64_t i = 0; i < range_count; i++) {
        const struct handoff_range *r = &ranges[i];
        if ((r->type == HANDOFF_FREE || r->type == HANDOFF_LOADER) &&
            at < r->base + r->pages * PAGE_SIZE && r->base < at + len)
            return true;
    }
    return false;
}

/* NULL without memory for tables. */
static void *map_window(hpa_t at, uint64_t size, uint64_t attributes)
{
    uint64_t first = align_down(at.v, PAGE_SIZE);
    uint64_t bytes = align_up(at.v + size, PAGE_SIZE) - first;

    lock_take(&map_lock);
    /* Keep the alignment within 2 MiB, so that large windows get large pages. */
    uint64_t window = align_up(next_device, PAGE_SIZE_2M) + first % PAGE_SIZE_2M;

    bool mapped = try_map(window, bytes, hpa(first), attributes);
    if (mapped)
        next_device = window + bytes;
    lock_release(&map_lock);
    return mapped ? (void *)(window + (at.v - first)) : NULL;
}

void *host_map_device(hpa_t at, uint64_t size)
{
    void *mapped = map_window(at, size, MAP_DEVICE);

    if (!mapped)
        panic("no memory to map a device's registers at 0x%llx", (unsigned long long)at.v);
    return mapped;
}

void *host_map_framebuffer(hpa_t at, uint64_t size)
{
    return map_window(at, size, MAP_WC);
}
