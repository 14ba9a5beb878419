/* SPDX-License-Identifier: BSD-2-Clause */
/* See kernel.h. */
#include "tests/walksim/kernel.h"

#include <stdlib.h>
#include <string.h>

#include "hv/paging/pte.h"

#define LEVELS     4u
#define TABLE_BITS (PTE_P | PTE_W | PTE_U | PTE_A)
#define USED_BITS  (PTE_P | PTE_U | PTE_A | PTE_D)
#define USER_SLOTS (PT_ENTRIES / 2)

/* Instructions of the kernel's own work, beside its stores: round figures of the order that Linux
 * takes. */
#define FAULT_INSTRUCTIONS   1000u
#define COPY_INSTRUCTIONS    600u /* of a 4-KiB page */
#define CLEAR_INSTRUCTIONS   300u
#define ENTRY_INSTRUCTIONS   20u
#define SYSCALL_INSTRUCTIONS 300u
#define SWITCH_INSTRUCTIONS  1500u
#define FLUSH_BY_PAGE_MAX    33u /* as Linux' tlb_single_page_flush_ceiling */

static bool fail(struct kernel *k, const char *why)
{
    if (!k->wrong)
        k->wrong = why;
    return false;
}

static struct process *current(struct kernel *k)
{
    return &k->process[k->current];
}

/* --- frames -------------------------------------------------------------------------------------
 */

static uint64_t small_alloc(struct kernel *k)
{
    if (k->free_smalls > 0)
        return k->free_small[--k->free_smalls];
    if (k->next >= k->end) {
        fail(k, "the guest's RAM is used up: --ram");
        return 0;
    }
    k->next += PAGE_SIZE;
    return k->next - PAGE_SIZE;
}

static uint64_t large_alloc(struct kernel *k)
{
    if (k->free_larges > 0)
        return k->free_large[--k->free_larges];
    if (k->end - k->next < 2 * PAGE_SIZE_2M)
        return 0;
    k->end -= PAGE_SIZE_2M;
    return k->end;
}

static void put_frame(struct kernel *k, uint64_t frame, bool large)
{
    if (--k->references[frame >> PAGE_SHIFT] > 0)
        return;
    if (large)
        k->free_large[k->free_larges++] = frame;
    else
        k->free_small[k->free_smalls++] = frame;
}

/* --- tables -------------------------------------------------------------------------------------
 */

static void set_entry(struct kernel *k, uint64_t at, uint64_t value)
{
    machine_run(k->machine, ENTRY_INSTRUCTIONS);
    machine_store(k->machine, at, value);
}

static uint64_t entry_at(const struct kernel *k, uint64_t at)
{
    return *machine_word(k->machine, at);
}

/* An empty table. Its page may still be write-protected for what it was. */
static uint64_t table_alloc(struct kernel *k)
{
    uint64_t table = small_alloc(k);

    machine_run(k->machine, CLEAR_INSTRUCTIONS);
    for (unsigned i = 0; i < PT_ENTRIES && table; i++) {
        if (entry_at(k, table + i * 8) != 0)
            machine_store(k->machine, table + i * 8, 0);
    }
    return table;
}

static void table_free(struct kernel *k, uint64_t table)
{
    k->free_small[k->free_smalls++] = table;
}

/* Where the entry of `level` for `va` lies; tables above it are made, or 0 when one is missing and
 * not to be made, or a large page is in the way. */
static uint64_t find_entry(struct kernel *k, const struct process *p, uint64_t va, unsigned level,
                           bool make)
{
    uint64_t table = p->root;

    for (unsigned l = LEVELS; l > level; l--) {
        uint64_t at = table + pt_index((gva_t){va}, l) * 8;
        uint64_t e = entry_at(k, at);
        if (!(e & PTE_P) && !make)
            return 0;
        if (!(e & PTE_P)) {
            uint64_t fresh = table_alloc(k);
            if (!fresh)
                return 0;
            e = fresh | TABLE_BITS;
            set_entry(k, at, e);
        }
        if (e & PTE_PS)
            return 0;
        table = e & PTE_ADDRESS;
    }
    return table + pt_index((gva_t){va}, level) * 8;
}

static void flush(struct kernel *k)
{
    machine_load_cr3(k->machine, current(k)->root);
}

static uint64_t build_direct_map(struct kernel *k)
{
    uint64_t pdpt = small_alloc(k);

    for (uint64_t at = 0; at < k->machine->options.ram; at += PAGE_SIZE_2M) {
        uint64_t *entry =
            machine_word(k->machine, pdpt + pt_index((gva_t){DIRECT_MAP + at}, 3) * 8);
        if (!*entry)
            *entry = small_alloc(k) | PTE_P | PTE_W | PTE_A;
        uint64_t *large = machine_word(k->machine, (*entry & PTE_ADDRESS) +
                                                       pt_index((gva_t){DIRECT_MAP + at}, 2) * 8);
        *large = at | PTE_P | PTE_W | PTE_A | PTE_D | PTE_G | PTE_PS;
    }
    return pdpt | PTE_P | PTE_W | PTE_A;
}

/* --- areas --------------------------------------------------------------------------------------
 */

static struct area *area_of(struct process *p, uint64_t va)
{
    if (p->last < p->areas && va >= p->area[p->last].from && va < p->area[p->last].to)
        return &p->area[p->last];
    for (unsigned i = 0; i < p->areas; i++) {
        if (va >= p->area[i].from && va < p->area[i].to) {
            p->last = i;
            return &p->area[i];
        }
    }
    return NULL;
}

static bool area_add(struct kernel *k, struct process *p, struct area area)
{
    if (p->areas == AREAS_MAX)
        return fail(k, "more areas than a process may have");
    p->area[p->areas++] = area;
    return true;
}

/* Take [from, to) out of the areas. */
static bool area_cut(struct kernel *k, struct process *p, uint64_t from, uint64_t to)
{
    for (unsigned i = 0; i < p->areas;) {
        struct area a = p->area[i];
        if (to <= a.from || from >= a.to) {
            i++;
            continue;
        }
        p->area[i] = p->area[--p->areas];
        if (a.from < from && !area_add(k, p, (struct area){a.from, from, a.writable}))
            return false;
        if (a.to > to && !area_add(k, p, (struct area){to, a.to, a.writable}))
            return false;
    }
    return true;
}

/* --- page faults --------------------------------------------------------------------------------
 */

static bool map_large(struct kernel *k, struct process *p, const struct area *area, uint64_t va)
{
    uint64_t base = align_down(va, PAGE_SIZE_2M);

    if (!k->large || base < area->from || base + PAGE_SIZE_2M > area->to)
        return false;
    uint64_t at = find_entry(k, p, va, 2, true);
    if (!at || entry_at(k, at) != 0)
        return false;
    uint64_t frame = large_alloc(k);
    if (!frame)
        return false;
    k->references[frame >> PAGE_SHIFT] = 1;
    machine_run(k->machine, (uint64_t)PT_ENTRIES * CLEAR_INSTRUCTIONS);
    set_entry(k, at, frame | USED_BITS | PTE_PS | (area->writable ? PTE_W : 0));
    return true;
}

static bool map_small(struct kernel *k, struct process *p, const struct area *area, uint64_t va)
{
    uint64_t at = find_entry(k, p, va, 1, true);
    uint64_t frame = at ? small_alloc(k) : 0;

    if (!frame)
        return fail(k, "a page that cannot be mapped");
    k->references[frame >> PAGE_SHIFT] = 1;
    machine_run(k->machine, CLEAR_INSTRUCTIONS);
    set_entry(k, at, frame | USED_BITS | (area->writable ? PTE_W : 0));
    return true;
}

/* A write to a page that is shared: a copy, or the page itself when it is shared no longer. */
static bool copy_on_write(struct kernel *k, uint64_t at, uint64_t va, bool large)
{
    uint64_t e = entry_at(k, at), frame = e & PTE_ADDRESS;

    if (k->references[frame >> PAGE_SHIFT] > 1) {
        uint64_t fresh = large ? large_alloc(k) : small_alloc(k);
        if (!fresh)
            return fail(k, "no memory for a copy");
        machine_run(k->machine, (large ? (uint64_t)PT_ENTRIES : 1) * COPY_INSTRUCTIONS);
        k->references[fresh >> PAGE_SHIFT] = 1;
        put_frame(k, frame, large);
        frame = fresh;
    }
    set_entry(k, at, frame | (e & ~PTE_ADDRESS) | PTE_W | PTE_A | PTE_D);
    machine_invlpg(k->machine, va);
    return true;
}

static bool page_fault(struct kernel *k, uint64_t va, bool write)
{
    struct process *p = current(k);
    struct area *area = area_of(p, va);

    k->machine->counts.page_faults++;
    machine_run(k->machine, FAULT_INSTRUCTIONS);
    if (!area && k->lenient) {
        uint64_t page = align_down(va, PAGE_SIZE);
        if (!area_add(k, p, (struct area){page, page + PAGE_SIZE, true}))
            return false;
        area = &p->area[p->areas - 1];
    }
    if (area && write && !area->writable && k->lenient)
        area->writable = true;
    if (!area || (write && !area->writable))
        return fail(k, "the trace touches what it has not mapped");
    uint64_t at = find_entry(k, p, va, 1, false);
    uint64_t upper = find_entry(k, p, va, 2, false);
    if (upper && (entry_at(k, upper) & PTE_PS))
        return write ? copy_on_write(k, upper, va, true) : fail(k, "a fault at a mapped page");
    if (!at || !(entry_at(k, at) & PTE_P))
        return map_large(k, p, area, va) || map_small(k, p, area, va);
    return write ? copy_on_write(k, at, va, false) : fail(k, "a fault at a mapped page");
}

static bool access_page(struct kernel *k, const struct event *e)
{
    bool write = e->access == ACCESS_WRITE;

    machine_run(k->machine, e->instructions);
    for (unsigned tries = 0; tries < 4; tries++) {
        switch (machine_access(k->machine, e->address, write, true)) {
        case ACCESS_OK:
            k->machine->counts.accesses += e->repeats;
            return true;
        case ACCESS_FAULT:
            if (!page_fault(k, e->address, write))
                return false;
            break;
        case ACCESS_BROKEN:
            return fail(k, k->machine->wrong);
        }
    }
    return fail(k, "a page fault that does not end");
}

/* --- mapping and unmapping ----------------------------------------------------------------------
 */

/* A large page of which a part is to change: as 512 small ones. */
static bool split_large(struct kernel *k, uint64_t at)
{
    uint64_t e = entry_at(k, at), frame = e & PTE_ADDRESS, table = table_alloc(k);

    if (!table)
        return false;
    for (uint64_t i = 0; i < PT_ENTRIES; i++) {
        machine_store(k->machine, table + i * 8,
                      (frame + i * PAGE_SIZE) | (e & ~(PTE_ADDRESS | PTE_PS)));
        k->references[(frame >> PAGE_SHIFT) + i] = k->references[frame >> PAGE_SHIFT];
    }
    set_entry(k, at, table | TABLE_BITS);
    return true;
}

typedef void change_entry(struct kernel *k, uint64_t at, bool large, bool writable);

static void drop_entry(struct kernel *k, uint64_t at, bool large, bool writable)
{
    uint64_t e = entry_at(k, at);

    (void)writable;
    set_entry(k, at, 0);
    put_frame(k, e & PTE_ADDRESS & ~(large ? PAGE_SIZE_2M - 1 : 0), large);
}

static void protect_entry(struct kernel *k, uint64_t at, bool large, bool writable)
{
    uint64_t e = entry_at(k, at), frame = e & PTE_ADDRESS;
    bool shared = k->references[frame >> PAGE_SHIFT] > 1;

    (void)large;
    if (writable && !shared)
        e |= PTE_W;
    if (!writable)
        e &= ~PTE_W;
    if (e != entry_at(k, at))
        set_entry(k, at, e);
}

/* Free tables of level 1 that [from, to) emptied, and what leads to them. */
static void free_tables(struct kernel *k, const struct process *p, uint64_t from, uint64_t to)
{
    for (uint64_t va = align_up(from, PAGE_SIZE_2M); va + PAGE_SIZE_2M <= to; va += PAGE_SIZE_2M) {
        uint64_t at = find_entry(k, p, va, 2, false);
        uint64_t e = at ? entry_at(k, at) : 0;
        if (!(e & PTE_P) || (e & PTE_PS))
            continue;
        set_entry(k, at, 0);
        table_free(k, e & PTE_ADDRESS);
    }
}

/* Change every mapped page of [from, to) of the current process; then flush as Linux does. */
static bool change_range(struct kernel *k, uint64_t from, uint64_t to, change_entry *change,
                         bool writable)
{
    struct process *p = current(k);
    uint64_t changed[FLUSH_BY_PAGE_MAX], count = 0;

    for (uint64_t va = from; va < to;) {
        uint64_t at = find_entry(k, p, va, 2, false),
                 next = align_down(va, PAGE_SIZE_2M) + PAGE_SIZE_2M;
        uint64_t e = at ? entry_at(k, at) : 0;
        if (!(e & PTE_P)) {
            va = next;
            continue;
        }
        bool large = (e & PTE_PS) != 0;
        if (large && (va % PAGE_SIZE_2M != 0 || to < next)) {
            if (!split_large(k, at))
                return false;
            large = false;
        }
        if (!large)
            at = find_entry(k, p, va, 1, false);
        if (at && (entry_at(k, at) & PTE_P)) {
            change(k, at, large, writable);
            if (count < FLUSH_BY_PAGE_MAX)
                changed[count] = va;
            count++;
        }
        va = large ? next : va + PAGE_SIZE;
    }
    for (uint64_t i = 0; i < count && count < FLUSH_BY_PAGE_MAX; i++)
        machine_invlpg(k->machine, changed[i]);
    if (count >= FLUSH_BY_PAGE_MAX)
        flush(k);
    return true;
}

static bool unmap(struct kernel *k, uint64_t from, uint64_t to)
{
    machine_run(k->machine, SYSCALL_INSTRUCTIONS);
    if (!area_cut(k, current(k), from, to) || !change_range(k, from, to, drop_entry, false))
        return false;
    free_tables(k, current(k), from, to);
    return true;
}

static bool map(struct kernel *k, uint64_t from, uint64_t to, bool writable)
{
    machine_run(k->machine, SYSCALL_INSTRUCTIONS);
    return unmap(k, from, to) && area_add(k, current(k), (struct area){from, to, writable});
}

static bool protect(struct kernel *k, uint64_t from, uint64_t to, bool writable)
{
    machine_run(k->machine, SYSCALL_INSTRUCTIONS);
    return area_cut(k, current(k), from, to) &&
           area_add(k, current(k), (struct area){from, to, writable}) &&
           change_range(k, from, to, protect_entry, writable);
}

/* --- processes ----------------------------------------------------------------------------------
 */

static bool process_new(struct kernel *k, unsigned number)
{
    struct process *p = &k->process[number];

    if (number >= PROCESSES_MAX || p->used)
        return fail(k, "a process that is there already, or too many");
    *p = (struct process){.used = true, .area = calloc(AREAS_MAX, sizeof(struct area))};
    p->root = table_alloc(k);
    if (!p->area || !p->root)
        return fail(k, "no memory for a process");
    set_entry(k, p->root + pt_index((gva_t){DIRECT_MAP}, LEVELS) * 8, k->direct_map);
    return true;
}

/* Entries of the parent's table are shared read-only with the child's. */
static bool fork_table(struct kernel *k, uint64_t parent, uint64_t child, unsigned level)
{
    unsigned count = level == LEVELS ? USER_SLOTS : PT_ENTRIES;

    for (uint64_t i = 0; i < count; i++) {
        uint64_t at = parent + i * 8, e = entry_at(k, at);
        if (!(e & PTE_P))
            continue;
        if (!pt_is_leaf(e, level, 2)) {
            uint64_t table = table_alloc(k);
            if (!table)
                return false;
            set_entry(k, child + i * 8, table | TABLE_BITS);
            if (!fork_table(k, e & PTE_ADDRESS, table, level - 1))
                return false;
            continue;
        }
        k->references[(e & PTE_ADDRESS) >> PAGE_SHIFT]++;
        if (e & PTE_W)
            set_entry(k, at, e & ~PTE_W);
        set_entry(k, child + i * 8, e & ~PTE_W);
    }
    return true;
}

static bool fork_process(struct kernel *k, unsigned child)
{
    struct process *p = current(k);

    machine_run(k->machine, SYSCALL_INSTRUCTIONS);
    if (!process_new(k, child) || !fork_table(k, p->root, k->process[child].root, LEVELS))
        return fail(k, "fork: no memory");
    memcpy(k->process[child].area, p->area, p->areas * sizeof(struct area));
    k->process[child].areas = p->areas;
    flush(k);
    return true;
}

static void exit_table(struct kernel *k, uint64_t table, unsigned level)
{
    unsigned count = level == LEVELS ? USER_SLOTS : PT_ENTRIES;

    for (uint64_t i = 0; i < count; i++) {
        uint64_t at = table + i * 8, e = entry_at(k, at);
        if (!(e & PTE_P))
            continue;
        set_entry(k, at, 0);
        if (pt_is_leaf(e, level, 2)) {
            put_frame(k, e & PTE_ADDRESS, level > 1);
            continue;
        }
        exit_table(k, e & PTE_ADDRESS, level - 1);
        table_free(k, e & PTE_ADDRESS);
    }
}

/* It goes on with another process, whose tables are used meanwhile. */
static bool exit_process(struct kernel *k)
{
    struct process *p = current(k);
    unsigned other = 0;

    machine_run(k->machine, SYSCALL_INSTRUCTIONS);
    while (other < PROCESSES_MAX && (!k->process[other].used || other == k->current))
        other++;
    if (other == PROCESSES_MAX)
        return fail(k, "the last process ends");
    machine_load_cr3(k->machine, k->process[other].root);
    k->current = other;
    exit_table(k, p->root, LEVELS);
    set_entry(k, p->root + pt_index((gva_t){DIRECT_MAP}, LEVELS) * 8, 0);
    table_free(k, p->root);
    free(p->area);
    *p = (struct process){0};
    return true;
}

static bool switch_process(struct kernel *k, unsigned to)
{
    if (to >= PROCESSES_MAX || (!k->process[to].used && !process_new(k, to)))
        return fail(k, "a switch to a process that cannot be");
    machine_run(k->machine, SWITCH_INSTRUCTIONS);
    k->current = to;
    flush(k);
    return true;
}

/* --- all of it ----------------------------------------------------------------------------------
 */

bool kernel_event(struct kernel *k, const struct event *e)
{
    uint64_t to = e->address + (e->pages << PAGE_SHIFT);
    bool good = true;

    switch (e->kind) {
    case EVENT_ACCESS:
        good = access_page(k, e);
        break;
    case EVENT_MMAP:
        good = map(k, e->address, to, e->writable);
        break;
    case EVENT_MUNMAP:
        good = unmap(k, e->address, to);
        break;
    case EVENT_MPROTECT:
        good = protect(k, e->address, to, e->writable);
        break;
    case EVENT_FORK:
        good = fork_process(k, e->process);
        break;
    case EVENT_EXIT:
        good = exit_process(k);
        break;
    case EVENT_SWITCH:
        good = switch_process(k, e->process);
        break;
    default:
        good = fail(k, "an event that cannot be");
        break;
    }
    if (k->machine->wrong)
        fail(k, k->machine->wrong);
    return good && !k->wrong;
}

bool kernel_create(struct kernel *k, struct machine *m, bool large, bool lenient)
{
    uint64_t frames = m->options.ram >> PAGE_SHIFT;

    *k = (struct kernel){.machine = m, .large = large, .lenient = lenient};
    k->next = PAGE_SIZE; /* 0 means none */
    k->end = m->options.ram;
    k->free_small = malloc(frames * sizeof(uint64_t));
    k->free_large = malloc((frames / PT_ENTRIES + 1) * sizeof(uint64_t));
    k->references = calloc(frames, sizeof(uint16_t));
    if (!k->free_small || !k->free_large || !k->references)
        return false;
    k->direct_map = build_direct_map(k);
    /* The first root is made before any processor walks by it. */
    uint64_t root = small_alloc(k);
    k->process[0] = (struct process){
        .used = true, .root = root, .area = calloc(AREAS_MAX, sizeof(struct area))};
    *machine_word(m, root + pt_index((gva_t){DIRECT_MAP}, LEVELS) * 8) = k->direct_map;
    machine_load_cr3(m, root);
    return k->process[0].area != NULL;
}

void kernel_destroy(struct kernel *k)
{
    for (unsigned i = 0; i < PROCESSES_MAX; i++)
        free(k->process[i].area);
    free(k->free_small);
    free(k->free_large);
    free(k->references);
}

uint64_t kernel_entry_of(const struct kernel *k, unsigned process, uint64_t va)
{
    uint64_t table = k->process[process].root;

    for (unsigned level = LEVELS;; level--) {
        uint64_t e = entry_at(k, table + pt_index((gva_t){va}, level) * 8);
        if (!(e & PTE_P) || pt_is_leaf(e, level, 2))
            return e & PTE_P ? e : 0;
        table = e & PTE_ADDRESS;
    }
}
