/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * See ptab.h. Every change is one recursive descent over the range, which splits the leaves and
 * makes the tables that it needs on its way; `struct edit` says what happens to the leaves it
 * arrives at.
 */
#include "hv/ptab.h"

#include "hv/frames.h"

enum edit_kind { EDIT_MAP, EDIT_CHANGE, EDIT_UNMAP };

struct edit {
    enum edit_kind kind;
    uint64_t offset; /* EDIT_MAP: what to add to a `from` address to get the physical one */
    uint64_t clear;
    uint64_t set;
};

static bool is_present(const struct ptab *ptab, uint64_t entry)
{
    return (entry & ptab->format->present) != 0;
}

static bool is_leaf(uint64_t entry, unsigned level)
{
    return level == 1 || (entry & PTAB_LARGE) != 0;
}

static uint64_t *table_of(const struct ptab *ptab, uint64_t entry)
{
    return ptab->memory->map(ptab->memory->context, hpa(entry & PTAB_ADDRESS_MASK));
}

static unsigned slot_of(uint64_t at, unsigned level)
{
    return (unsigned)(at >> (PAGE_SHIFT + 9 * (level - 1))) % PTAB_ENTRIES;
}

static hpa_t new_table(struct ptab *ptab)
{
    hpa_t table = ptab->memory->alloc(ptab->memory->context);

    if (!hpa_is_none(table))
        ptab->tables++;
    return table;
}

/* Free what `entry` of `level` points to, if it is a table, with all below it. */
static void free_below(struct ptab *ptab, uint64_t entry, unsigned level)
{
    if (!is_present(ptab, entry) || is_leaf(entry, level))
        return;
    uint64_t *table = table_of(ptab, entry);
    for (unsigned i = 0; i < PTAB_ENTRIES; i++)
        free_below(ptab, table[i], level - 1);
    ptab->memory->free(ptab->memory->context, hpa(entry & PTAB_ADDRESS_MASK));
    ptab->tables--;
}

/*
 * Make *entry, of `level`, point to a table: an empty one, or if it was a leaf, one of smaller
 * leaves that translates the same. The entry changes in one store, so that a walk sees the one or
 * the other.
 */
static bool make_table(struct ptab *ptab, uint64_t *entry, unsigned level)
{
    hpa_t table = new_table(ptab);

    if (hpa_is_none(table))
        return false;
    if (is_present(ptab, *entry)) {
        uint64_t *slot = ptab->memory->map(ptab->memory->context, table);
        uint64_t leaf = level - 1 == 1 ? *entry & ~PTAB_LARGE : *entry;
        for (unsigned i = 0; i < PTAB_ENTRIES; i++)
            slot[i] = leaf + i * ptab_span(level - 1);
    }
    __atomic_store_n(entry, table.v | ptab->format->table, __ATOMIC_RELEASE);
    return true;
}

/* Whether `edit` can be done in an entry of `level` that it covers wholly, at address `from`. */
static bool fits_leaf(const struct ptab *ptab, const struct edit *edit, uint64_t entry,
                      unsigned level, uint64_t from)
{
    switch (edit->kind) {
    case EDIT_MAP:
        return level <= ptab->max_leaf && is_aligned(from + edit->offset, ptab_span(level));
    case EDIT_CHANGE:
        return is_present(ptab, entry) && is_leaf(entry, level);
    case EDIT_UNMAP:
        return true;
    }
    return false;
}

static uint64_t edited_leaf(const struct edit *edit, uint64_t entry, unsigned level, uint64_t from)
{
    switch (edit->kind) {
    case EDIT_MAP:
        return (from + edit->offset) | edit->set | (level > 1 ? PTAB_LARGE : 0);
    case EDIT_CHANGE:
        return (entry & ~edit->clear) | edit->set;
    case EDIT_UNMAP:
        break;
    }
    return 0;
}

/* Apply `edit` to [from, from + size), which lies within the reach of `table`, of `level`. */
static bool edit_range(struct ptab *ptab, uint64_t *table, unsigned level, uint64_t from,
                       uint64_t size, const struct edit *edit)
{
    uint64_t span = ptab_span(level);

    while (size > 0) {
        uint64_t *entry = &table[slot_of(from, level)];
        uint64_t part = min_u64(size, span - (from & (span - 1)));

        if (part == span && fits_leaf(ptab, edit, *entry, level, from)) {
            uint64_t old = *entry;
            __atomic_store_n(entry, edited_leaf(edit, old, level, from), __ATOMIC_RELEASE);
            free_below(ptab, old, level);
        } else if (is_present(ptab, *entry) || edit->kind == EDIT_MAP) {
            if (!is_present(ptab, *entry) || is_leaf(*entry, level)) {
                if (!make_table(ptab, entry, level))
                    return false;
            }
            if (!edit_range(ptab, table_of(ptab, *entry), level - 1, from, part, edit))
                return false;
        }
        from += part;
        size -= part;
    }
    return true;
}

static bool edit_tree(struct ptab *ptab, uint64_t from, uint64_t size, const struct edit *edit)
{
    return edit_range(ptab, table_of(ptab, ptab->root.v), ptab->levels, from, size, edit);
}

bool ptab_init(struct ptab *ptab, const struct ptab_format *format,
               const struct ptab_memory *memory, unsigned levels, unsigned max_leaf)
{
    *ptab =
        (struct ptab){.format = format, .memory = memory, .levels = levels, .max_leaf = max_leaf};
    ptab->root = new_table(ptab);
    return !hpa_is_none(ptab->root);
}

void ptab_destroy(struct ptab *ptab)
{
    if (hpa_is_none(ptab->root))
        return;
    free_below(ptab, ptab->root.v | ptab->format->table, ptab->levels + 1);
    ptab->root = HPA_NONE;
}

bool ptab_map(struct ptab *ptab, uint64_t from, uint64_t size, hpa_t to, uint64_t attributes)
{
    struct edit edit = {.kind = EDIT_MAP, .offset = to.v - from, .set = attributes};

    return edit_tree(ptab, from, size, &edit);
}

bool ptab_change(struct ptab *ptab, uint64_t from, uint64_t size, uint64_t clear, uint64_t set)
{
    struct edit edit = {.kind = EDIT_CHANGE, .clear = clear, .set = set};

    return edit_tree(ptab, from, size, &edit);
}

bool ptab_unmap(struct ptab *ptab, uint64_t from, uint64_t size)
{
    struct edit edit = {.kind = EDIT_UNMAP};

    return edit_tree(ptab, from, size, &edit);
}

struct ptab_leaf ptab_lookup(const struct ptab *ptab, uint64_t at)
{
    uint64_t entry = ptab->root.v;
    unsigned level = ptab->levels + 1;

    do {
        uint64_t *table = table_of(ptab, entry);
        level--;
        entry = __atomic_load_n(&table[slot_of(at, level)], __ATOMIC_ACQUIRE);
    } while (is_present(ptab, entry) && !is_leaf(entry, level));

    uint64_t inside = at & (ptab_span(level) - 1);
    return (struct ptab_leaf){
        .present = is_present(ptab, entry),
        .level = level,
        .entry = entry,
        .to = hpa((entry & PTAB_ADDRESS_MASK & ~(ptab_span(level) - 1)) + inside),
    };
}

uint64_t *ptab_entry(struct ptab *ptab, uint64_t at, unsigned level)
{
    uint64_t *entry = table_of(ptab, ptab->root.v) + slot_of(at, ptab->levels);

    for (unsigned l = ptab->levels; l > level; l--) {
        if (is_present(ptab, *entry) && is_leaf(*entry, l))
            return NULL;
        if (!is_present(ptab, *entry) && !make_table(ptab, entry, l))
            return NULL;
        entry = table_of(ptab, *entry) + slot_of(at, l - 1);
    }
    return entry;
}
