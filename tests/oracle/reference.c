/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a bare machine may answer. Its processor may use, for each entry that a walk meets, the
 * value that is in memory, or one that was there at some time since it last had to forget: a value
 * that was present, not reserved, and whose A was set (and D, for a write by it), for only such
 * values are cached (SDM 3A 4.10.2, 4.10.3, 4.8). All combinations are tried.
 */
#include "tests/oracle/oracle.h"

#define COMBINATIONS_MAX 20000u
#define NO_LEAF          ~0ull

struct search {
    const struct machine *m;
    const struct processor *cpu;
    uint64_t gva;
    unsigned access;
    const struct outcome *got;
    uint64_t since;    /* changes after this may still be cached, */
    uint64_t upper;    /* and after this those of entries that lead to tables */
    bool global_only;  /* leaves without G do not count */
    uint64_t dirty_at; /* not NO_LEAF: look for a leaf there instead */
    unsigned tried;
    bool not_judged; /* it passes for want of knowledge */
};

static bool cannot_judge(struct search *s)
{
    s->not_judged = true;
    return true;
}

static uint64_t current(const struct machine *m, uint64_t at, bool *ram)
{
    *ram = at < RAM_BYTES || (at >= GIB(4) && at < GIB(4) + RAM_HIGH);
    if (!*ram)
        return ~0ull;
    return *(const uint64_t *)(m->ram + (at < RAM_BYTES ? at : at - GIB(4) + RAM_BYTES));
}

static bool same_fault(const struct search *s, uint32_t cause)
{
    return s->got->kind == OUTCOME_FAULT &&
           s->got->error_code == fault_code(s->cpu, s->access, cause);
}

static bool leaf_matches(const struct search *s, uint64_t e, unsigned level, uint64_t at,
                         struct rights r, bool marked)
{
    uint64_t inside = pt_span(level) - 1;
    uint64_t to = (e & PTE_ADDRESS & ~inside) | (s->gva & inside);
    bool ram;

    if (s->global_only && !(e & PTE_G))
        return false;
    if (s->dirty_at != NO_LEAF)
        return at == s->dirty_at && rights_allow(s->cpu, r, s->access);
    if (!rights_allow(s->cpu, r, s->access))
        return same_fault(s, PF_P);
    if (!marked || !(e & PTE_A) || ((s->access & WALK_WRITE) && !(e & PTE_D)))
        if (at != s->got->gpa || !(s->access & WALK_WRITE))
            return false;
    current(s->m, to, &ram);
    if (ram)
        return s->got->kind == OUTCOME_OK && s->got->gpa == to;
    /* The windows are there for a guest that points at them from a nested-handled table: read-only.
     */
    if (to >= cpt_node_window(s->m->cpt).v && s->got->kind == OUTCOME_OK)
        return !(s->access & WALK_WRITE);
    return s->got->kind == OUTCOME_NO_RAM;
}

static bool explore(struct search *s, unsigned level, uint64_t table, struct rights r, bool marked);

/* Go on with `e` as the entry at `at`. `cached`: it is an older value. */
static bool explore_value(struct search *s, unsigned level, uint64_t at, uint64_t e,
                          struct rights r, bool marked, bool cached)
{
    bool bad = reserved_entry(s->m, s->cpu, e, level);

    if (cached && (!(e & PTE_P) || bad || (!(e & PTE_A) && at != s->got->gpa)))
        return false;
    if (!(e & PTE_P))
        return s->dirty_at == NO_LEAF && same_fault(s, 0);
    if (bad)
        return s->dirty_at == NO_LEAF && same_fault(s, PF_P | PF_RSVD);
    r.writable &= (e & PTE_W) != 0;
    r.user &= (e & PTE_U) != 0;
    r.execute &= !(e & PTE_NX);
    if (pt_is_leaf(e, level, 3))
        return leaf_matches(s, e, level, at, r, marked);
    return explore(s, level - 1, e & PTE_ADDRESS, r, marked && ((e & PTE_A) || at == s->got->gpa));
}

static bool explore(struct search *s, unsigned level, uint64_t table, struct rights r, bool marked)
{
    uint64_t at = table + pt_index((gva_t){s->gva}, level) * 8;
    bool ram;
    uint64_t e = current(s->m, at, &ram);

    if (s->tried++ > COMBINATIONS_MAX)
        return cannot_judge(s);
    /* A nested-handled table leads to our windows: the guest's own doing, and nothing but its own
     * memory is there. */
    if (at >= cpt_node_window(s->m->cpt).v)
        return cannot_judge(s);
    if (explore_value(s, level, at, e, r, marked, false))
        return true;
    for (unsigned i = s->m->changes; i-- > 0 && s->m->change[i].time > s->upper;) {
        const struct change *change = &s->m->change[i];
        if (change->at != at || (change->time <= s->since && pt_is_leaf(change->old, level, 3)))
            continue;
        if (explore_value(s, level, at, change->old, r, marked, true))
            return true;
    }
    return false;
}

static uint64_t invlpg_time(const struct machine *m, unsigned i, uint64_t gva, bool global)
{
    uint64_t time = 0;
    unsigned count = m->invlpgs[i] < 64 ? m->invlpgs[i] : 64;

    for (unsigned n = 0; n < count; n++) {
        bool tag = global || m->invlpg[i][n].pcid == m->cpu[i].pcid;
        if (tag && m->invlpg[i][n].page == (gva & ~(PAGE_SIZE - 1)))
            time = max_u64(time, m->invlpg[i][n].time);
    }
    return time;
}

/* Of accesses by processor `i`; the rest of *s says what to look for. */
static bool search(struct search *s, unsigned i)
{
    const struct machine *m = s->m;
    const struct processor *cpu = &m->cpu[i];
    const struct rights all = {true, true, true};

    s->cpu = cpu;
    s->since = max_u64(cpu->flushed[cpu->pcid], invlpg_time(m, i, s->gva, false));
    s->upper = s->since;
    if (s->since < m->forgotten) /* the list of changes does not reach back so far */
        return cannot_judge(s);
    if (explore(s, m->levels, cpu->cpt.cr3 & PTE_ADDRESS, all, true))
        return true;
    /* Global translations outlive CR3, and are found under any PCID. */
    s->global_only = true;
    s->since = max_u64(cpu->flushed_global, invlpg_time(m, i, s->gva, true));
    /* INVLPG of another PCID left the pointers to tables by which they were found. */
    s->upper = cpu->flushed_global;
    if (s->upper < m->forgotten)
        return cannot_judge(s);
    for (unsigned r = 0; r < PCIDS; r++) {
        if (explore(s, m->levels, (uint64_t)r << PAGE_SHIFT, all, true))
            return true;
    }
    return false;
}

bool reference_allows(struct machine *m, unsigned i, uint64_t gva, unsigned access,
                      const struct outcome *got)
{
    struct search s = {.m = m, .gva = gva, .access = access, .got = got, .dirty_at = NO_LEAF};
    bool allowed = search(&s, i);

    m->judged++;
    m->not_judged += s.not_judged;
    return allowed;
}

static bool may_dirty(const struct machine *m, unsigned i, uint64_t gva, unsigned access,
                      uint64_t stored, uint64_t at)
{
    const struct outcome none = {.kind = OUTCOME_OK, .gpa = stored};
    struct search s = {.m = m, .gva = gva, .access = access, .got = &none, .dirty_at = at};

    return search(&s, i);
}

bool reference_may_dirty(const struct machine *m, unsigned i, uint64_t gva, uint64_t stored,
                         uint64_t at)
{
    return may_dirty(m, i, gva, WALK_WRITE, stored, at) ||
           may_dirty(m, i, gva, WALK_WRITE | WALK_USER, stored, at);
}
