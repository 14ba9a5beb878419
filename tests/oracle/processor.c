/* SPDX-License-Identifier: BSD-2-Clause */
/* See oracle.h: the model processor, by SDM 3A chapter 4 and SDM 3C chapter 28. */
#include "tests/oracle/processor.h"

#include <string.h>

#include "hv/paging/internal.h"

/* --- physical memory -------------------------------------------------------------------------- */

bool machine_ram_offset(uint64_t gpa, uint64_t *offset)
{
    if (gpa < RAM_BYTES)
        *offset = gpa;
    else if (gpa >= GIB(4) && gpa < GIB(4) + RAM_HIGH)
        *offset = gpa - GIB(4) + RAM_BYTES;
    else
        return false;
    return true;
}

uint64_t *machine_frame(const struct machine *m, unsigned frame)
{
    uint64_t offset = 0;

    machine_ram_offset(hot_gpa(frame), &offset);
    return (uint64_t *)(m->ram + offset);
}

struct place processor_ept(const struct machine *m, const struct processor *cpu, uint64_t gpa)
{
    uint64_t window = cpt_node_window(m->cpt).v, alias = cpt_alias(m->cpt, (gpa_t){0}).v, offset;
    uint64_t plain = gpa & ~7ull;

    if (machine_ram_offset(plain, &offset)) {
        unsigned hot = hot_frame(plain);
        bool writable = hot == HOT_FRAMES || m->ept_writable[hot] || cpu->ept_stale_writable[hot];
        return (struct place){(uint64_t *)(m->ram + offset), RAM_BASE + offset, true, writable};
    }
    if (plain >= window && plain < window + NODES_MAX * PAGE_SIZE)
        return (struct place){m->nodes[CPT_FORMAT_COMPOUND] + (plain - window) / 8, 0, true, false};
    if (plain >= alias && plain < alias + window && machine_ram_offset(plain - alias, &offset))
        return (struct place){(uint64_t *)(m->ram + offset), RAM_BASE + offset, true, false};
    return (struct place){0};
}

uint64_t machine_gpa_of_host(uint64_t host)
{
    uint64_t offset = host - RAM_BASE;

    return offset < RAM_BYTES ? offset : offset - RAM_BYTES + GIB(4);
}

/* --- rights ----------------------------------------------------------------------------------- */

bool rights_allow(const struct processor *cpu, struct rights r, unsigned access)
{
    bool user = access & WALK_USER;

    if (access & WALK_FETCH) {
        if (!r.execute)
            return false;
        return user ? r.user : !(r.user && cpu->smep);
    }
    if (user)
        return r.user && (!(access & WALK_WRITE) || r.writable);
    if (r.user && cpu->smap && !cpu->ac)
        return false;
    return !(access & WALK_WRITE) || r.writable || !cpu->cpt.write_protect;
}

uint32_t fault_code(const struct processor *cpu, unsigned access, uint32_t cause)
{
    if (access & WALK_WRITE)
        cause |= PF_W;
    if (access & WALK_USER)
        cause |= PF_U;
    if ((access & WALK_FETCH) && (cpu->nxe || cpu->smep))
        cause |= PF_I;
    return cause;
}

bool reserved_entry(const struct machine *m, const struct processor *cpu, uint64_t e,
                    unsigned level)
{
    (void)m;
    if (e & (0x000fffffffffffffull & ~((1ull << PHYSICAL_BITS) - 1)))
        return true;
    if (!cpu->nxe && (e & PTE_NX))
        return true;
    if (level >= 4 && (e & PTE_PS))
        return true;
    if (level == 3 && (e & PTE_PS))
        return (e & 0x3fffe000ull) != 0;
    if (level == 2 && (e & PTE_PS))
        return (e & 0x1fe000ull) != 0;
    return false;
}

/* --- caches ----------------------------------------------------------------------------------- */

static bool tlb_matches(const struct processor *cpu, const struct tlb_entry *t, uint64_t gva)
{
    return t->valid && t->without_ept == (cpu->state == CPT_SHADOW) &&
           (t->global || t->pcid == cpu->pcid) && gva - t->page < t->span;
}

static uint64_t prefix_of(uint64_t gva, unsigned table_level)
{
    return gva >> (PAGE_SHIFT + 9 * table_level);
}

void processor_forget_address(struct processor *cpu, uint64_t gva, bool invlpg)
{
    for (unsigned i = 0; i < TLB_ENTRIES; i++) {
        struct tlb_entry *t = &cpu->tlb[i];
        bool mode = invlpg || t->without_ept == (cpu->state == CPT_SHADOW);
        if (mode && (t->global || t->pcid == cpu->pcid) && gva - t->page < t->span)
            t->valid = false;
    }
    for (unsigned i = 0; i < TLB_ENTRIES; i++) {
        struct psc_entry *p = &cpu->psc[i];
        bool address = invlpg || cpu->forgetful || p->prefix == prefix_of(gva, p->level);
        if (address && p->pcid == cpu->pcid)
            p->valid = false;
    }
}

void processor_forget_pcid(struct processor *cpu, unsigned pcid)
{
    for (unsigned i = 0; i < TLB_ENTRIES; i++) {
        if (cpu->tlb[i].pcid == pcid && !cpu->tlb[i].global)
            cpu->tlb[i].valid = false;
        if (cpu->psc[i].pcid == pcid)
            cpu->psc[i].valid = false;
    }
}

void processor_forget_all(struct processor *cpu)
{
    memset(cpu->tlb, 0, sizeof(cpu->tlb));
    memset(cpu->psc, 0, sizeof(cpu->psc));
    memset(cpu->ept_stale_writable, 0, sizeof(cpu->ept_stale_writable));
}

static void remember(struct processor *cpu, struct tlb_entry entry)
{
    cpu->tlb[cpu->tlb_next++ % TLB_ENTRIES] = entry;
}

static void remember_table(struct processor *cpu, uint64_t gva, unsigned level, uint64_t table,
                           struct rights r)
{
    cpu->psc[cpu->psc_next++ % TLB_ENTRIES] = (struct psc_entry){
        .valid = true,
        .without_ept = cpu->state == CPT_SHADOW,
        .level = level,
        .prefix = prefix_of(gva, level),
        .table = table,
        .pcid = cpu->pcid,
        .writable = r.writable,
        .user = r.user,
        .execute = r.execute,
    };
}

/* --- one try ---------------------------------------------------------------------------------- */

static struct attempt fault(const struct processor *cpu, unsigned access, uint32_t cause)
{
    return (struct attempt){.kind = TRY_FAULT, .error_code = fault_code(cpu, access, cause)};
}

struct attempt processor_violation(struct processor *cpu, uint64_t gva, uint64_t gpa,
                                   unsigned access, bool final)
{
    unsigned hot = hot_frame(gpa);

    processor_forget_address(cpu, gva, false);
    if (hot < HOT_FRAMES)
        cpu->ept_stale_writable[hot] = false;
    return (struct attempt){
        .kind = TRY_VIOLATION,
        .a = {.gva = {gva}, .gpa = {gpa}, .access = access, .final = final},
    };
}

/* Set bits in an entry, as the walker does; false when EPT does not let it. */
static bool walker_sets(struct machine *m, const struct place *p, uint64_t bits)
{
    if ((*p->word & bits) == bits)
        return true;
    if (!p->writable && !m->kind_walker)
        return false;
    *p->word |= bits;
    return true;
}

static const struct tlb_entry *find_tlb(struct machine *m, struct processor *cpu, uint64_t gva)
{
    const struct tlb_entry *found = NULL;

    if (!m->reuse && !one_in(&m->chance, 3))
        return NULL;
    for (unsigned i = 0; i < TLB_ENTRIES; i++) {
        if (tlb_matches(cpu, &cpu->tlb[i], gva) && (!found || one_in(&m->chance, 2)))
            found = &cpu->tlb[i];
    }
    return found;
}

static const struct psc_entry *find_psc(struct machine *m, struct processor *cpu, uint64_t gva)
{
    const struct psc_entry *found = NULL;

    if (!m->reuse && !one_in(&m->chance, 3))
        return NULL;
    for (unsigned i = 0; i < TLB_ENTRIES; i++) {
        const struct psc_entry *p = &cpu->psc[i];
        if (p->valid && p->pcid == cpu->pcid && p->without_ept == (cpu->state == CPT_SHADOW) &&
            p->prefix == prefix_of(gva, p->level) && (!found || one_in(&m->chance, 3)))
            found = p;
    }
    return found;
}

/* SHADOW: a table of host-physical address. */
static struct place shadow_table(const struct machine *m, uint64_t host)
{
    if (host >= NODE_HPA && host < NODE_HPA + NODES_MAX * PAGE_SIZE)
        return (struct place){m->nodes[CPT_FORMAT_SHADOW] + (host - NODE_HPA) / 8, host, true,
                              true};
    return (struct place){0};
}

static struct attempt walk_tables(struct machine *m, struct processor *cpu, uint64_t gva,
                                  unsigned access)
{
    bool shadow = cpu->state == CPT_SHADOW;
    struct rights r = {true, true, true};
    unsigned level = m->levels;
    uint64_t table = cpu->processor_cr3 & PTE_ADDRESS;
    const struct psc_entry *cached = find_psc(m, cpu, gva);

    if (cached) {
        level = cached->level;
        table = cached->table;
        r = (struct rights){cached->writable, cached->user, cached->execute};
    }
    for (;; level--) {
        uint64_t at = table + pt_index((gva_t){gva}, level) * 8;
        struct place p = shadow ? shadow_table(m, at) : processor_ept(m, cpu, at);
        if (shadow && !p.mapped) {
            machine_wrong(m, "a walk in SHADOW leads to host-physical 0x%lx", (unsigned long)at);
            return fault(cpu, access, 0);
        }
        if (!p.mapped)
            return processor_violation(cpu, gva, at, access & ~(unsigned)WALK_WRITE, false);
        uint64_t e = *p.word;
        if (!(e & PTE_P))
            return fault(cpu, access, 0);
        if (reserved_entry(m, cpu, e, level))
            return fault(cpu, access, PF_P | PF_RSVD);
        r.writable &= (e & PTE_W) != 0;
        r.user &= (e & PTE_U) != 0;
        r.execute &= !(e & PTE_NX);
        bool leaf = pt_is_leaf(e, level, 3);
        if (!leaf) {
            if (!walker_sets(m, &p, PTE_A))
                return processor_violation(cpu, gva, at, access | WALK_WRITE, false);
            table = e & PTE_ADDRESS;
            remember_table(cpu, gva, level - 1, table, r);
            continue;
        }
        if (!rights_allow(cpu, r, access))
            return fault(cpu, access, PF_P);
        if (!walker_sets(m, &p, PTE_A | (access & WALK_WRITE ? PTE_D : 0)))
            return processor_violation(cpu, gva, at, access | WALK_WRITE, false);

        uint64_t span = pt_span(level);
        uint64_t base = e & PTE_ADDRESS & ~(span - 1);
        uint64_t to = base + (gva & (span - 1));
        struct place final = {0};
        if (shadow) {
            if (base < RAM_BASE || base + span > RAM_BASE + RAM_BYTES + RAM_HIGH) {
                machine_wrong(m, "SHADOW leads to host-physical 0x%lx", (unsigned long)to);
                return fault(cpu, access, 0);
            }
            final = (struct place){(uint64_t *)(m->ram + (to - RAM_BASE)), to, true, true};
        } else {
            final = processor_ept(m, cpu, to);
            if (!final.mapped || ((access & WALK_WRITE) && !final.writable))
                return processor_violation(cpu, gva, to, access, true);
            if (!final.host) /* a node, read by the guest through a mapping of its own: not RAM to
                                it */
                return (struct attempt){.kind = TRY_OK, .host = 0};
            if (hot_frame(to) < HOT_FRAMES && final.writable)
                cpu->ept_stale_writable[hot_frame(to)] = true;
        }
        /* EPT pages may be smaller than the guest's: the entry is of the smaller of the two. */
        remember(cpu, (struct tlb_entry){
                          .valid = true,
                          .without_ept = shadow,
                          .global = (e & PTE_G) != 0,
                          .page = shadow ? gva & ~(span - 1) : gva & ~(PAGE_SIZE - 1),
                          .span = shadow ? span : PAGE_SIZE,
                          .to = shadow ? base : final.host & ~(PAGE_SIZE - 1),
                          .pcid = cpu->pcid,
                          .writable = r.writable,
                          .user = r.user,
                          .execute = r.execute,
                          .dirty = (*p.word & PTE_D) != 0,
                          .ept_writable = final.writable,
                      });
        return (struct attempt){.kind = TRY_OK, .host = final.host};
    }
}

struct attempt processor_try(struct machine *m, struct processor *cpu, uint64_t gva,
                             unsigned access)
{
    const struct tlb_entry *t = find_tlb(m, cpu, gva);

    if (t && (!(access & WALK_WRITE) || t->dirty)) {
        struct rights r = {t->writable, t->user, t->execute};
        if (!rights_allow(cpu, r, access))
            return fault(cpu, access, PF_P);
        /* A violation would have to tell the guest-physical address, which the TLB does not hold: a
         * processor walks again. */
        if ((access & WALK_WRITE) && !t->ept_writable)
            return walk_tables(m, cpu, gva, access);
        return (struct attempt){.kind = TRY_OK, .host = t->to + (gva - t->page)};
    }
    return walk_tables(m, cpu, gva, access);
}
