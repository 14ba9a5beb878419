/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Random guest programs. The guest's tables and data share a few frames, in which a few entries a
 * table are used, so that tables are shared, recursive, reused as data and met at several levels
 * all the time.
 *
 * Frames come in groups of four: roots, then a group a level, the last are data. Sensible entries
 * lead to the next group; others anywhere.
 */
#include "tests/oracle/processor.h"

#include <string.h>

#define FRAMES_PER_GROUP 4u

static unsigned random_slot(struct chance *chance)
{
    static const unsigned slots[] = {0, 1, 2, 511};

    return slots[below(chance, ARRAY_SIZE(slots))];
}

/* Where it is narrow, 0 but for one in `others`. */
static unsigned likely_slot(struct machine *m, bool narrow, unsigned others)
{
    return narrow && !one_in(&m->chance, others) ? 0 : random_slot(&m->chance);
}

static uint64_t random_gva(struct machine *m)
{
    uint64_t at = 0;

    for (unsigned level = m->levels; level >= 1; level--) {
        unsigned slot = likely_slot(m, m->narrow && level > 1, 6);
        at |= (uint64_t)slot << (PAGE_SHIFT + 9 * (level - 1));
    }
    at |= random_slot(&m->chance) * 8;
    unsigned unused = 64 - (PAGE_SHIFT + 9 * m->levels);
    return (uint64_t)((int64_t)(at << unused) >> unused);
}

static uint64_t random_target(struct machine *m, unsigned frame, bool large)
{
    struct chance *chance = &m->chance;

    if (large && !one_in(chance, 6))
        return (uint64_t)below(chance, 3) << PAGE_SHIFT_2M;
    if (!one_in(chance, m->orderly ? 400 : 40)) {
        unsigned group = frame / FRAMES_PER_GROUP + 1;
        bool anywhere = m->orderly ? group >= m->levels && !one_in(chance, 3) : one_in(chance, 4);
        unsigned to = anywhere
                          ? below(chance, HOT_FRAMES)
                          : group * FRAMES_PER_GROUP % LOW_FRAMES + below(chance, FRAMES_PER_GROUP);
        return hot_gpa(to);
    }
    switch (below(chance, 6)) {
    case 0:
        return RAM_BYTES + PAGE_SIZE; /* where there is no RAM */
    case 1:
        return GIB(4) + below(chance, 4) * PAGE_SIZE; /* high RAM */
    case 2:
        return cpt_node_window(m->cpt).v + below(chance, 4) * PAGE_SIZE;
    case 3:
        return cpt_alias(m->cpt, gpa(hot_gpa(below(chance, HOT_FRAMES)))).v;
    case 4:
        return (cpt_alias(m->cpt, gpa(0)).v | cpt_node_window(m->cpt).v) +
               below(chance, 2000) * PAGE_SIZE;
    default:
        return 1ull << PHYSICAL_BITS; /* a reserved bit */
    }
}

static uint64_t random_entry(struct machine *m, unsigned frame)
{
    struct chance *chance = &m->chance;
    bool neat = m->orderly || m->narrow;
    bool large = one_in(chance, neat ? 40 : 8);
    uint64_t e = random_target(m, frame, large);

    e |= !one_in(chance, 10) * PTE_P;
    e |= !one_in(chance, 5) * PTE_W;
    e |= !one_in(chance, 4) * PTE_U;
    e |= !one_in(chance, neat ? 4 : 2) * PTE_A;
    e |= one_in(chance, 2) * PTE_D;
    e |= large * PTE_PS;
    e |= one_in(chance, 8) * PTE_G;
    e |= one_in(chance, 8) * PTE_NX;
    e |= one_in(chance, 20) * (PTE_PWT | PTE_PCD);
    return e;
}

/* --- comparing -------------------------------------------------------------------------------- */

static void log_change(struct machine *m, uint64_t at, uint64_t old)
{
    if (m->changes == CHANGES_MAX) {
        m->forgotten = m->change[CHANGES_MAX / 2].time;
        memmove(m->change, m->change + CHANGES_MAX / 2, CHANGES_MAX / 2 * sizeof(*m->change));
        m->changes = CHANGES_MAX / 2;
    }
    m->change[m->changes++] = (struct change){m->now, at, old};
}

struct step {
    bool access; /* else `stored` is a plain store */
    unsigned cpu, kind;
    uint64_t gva;
    uint64_t stored, value; /* stored: guest-physical, ~0 for none */
};

static const unsigned slots_used[4] = {0, 1, 2, 511};
#define SLOTS 4u
#define WORDS (HOT_FRAMES * SLOTS)

static unsigned word_of(unsigned i)
{
    return i / SLOTS * PT_ENTRIES + slots_used[i % SLOTS];
}

static uint64_t gpa_of_word(unsigned word)
{
    return hot_gpa(word / PT_ENTRIES) + word % PT_ENTRIES * 8;
}

static uint64_t *ram_word(const struct machine *m, unsigned word)
{
    return machine_frame(m, word / PT_ENTRIES) + word % PT_ENTRIES;
}

static void check_change(struct machine *m, const struct step *s, uint64_t at, uint64_t old,
                         uint64_t now)
{
    if (at == s->stored) {
        if ((now ^ s->value) & ~(PTE_A | PTE_D))
            machine_wrong(m, "a store of 0x%lx left 0x%lx", (unsigned long)s->value,
                          (unsigned long)now);
        return;
    }
    if ((now & ~old & ~(PTE_A | PTE_D)) || (old & ~now) || !(now & PTE_P))
        machine_wrong(m, "word 0x%lx changed from 0x%lx to 0x%lx", (unsigned long)at,
                      (unsigned long)old, (unsigned long)now);
    if ((now & ~old & PTE_D) && !(s->access && (s->kind & WALK_WRITE) &&
                                  reference_may_dirty(m, s->cpu, s->gva, s->stored, at)))
        machine_wrong(m, "access 0x%x to 0x%lx set D of the entry at 0x%lx, from 0x%lx to 0x%lx",
                      s->kind, (unsigned long)s->gva, (unsigned long)at, (unsigned long)old,
                      (unsigned long)now);
}

/* Every word that is another than before must have a reason; then it is the past that may be
 * cached. */
static void check_changes(struct machine *m, const struct step *s)
{
    for (unsigned i = 0; i < WORDS; i++) {
        unsigned word = word_of(i);
        uint64_t at = gpa_of_word(word);
        uint64_t now = *ram_word(m, word);
        if (m->before[word] == now && at != s->stored)
            continue;
        log_change(m, at, m->before[word]);
        if (at == s->stored && (s->access || m->has_seen)) /* it may have been walked by before */
            log_change(m, at, m->before[word] | PTE_A | PTE_D);
        if (at == s->stored && now != s->value)
            log_change(m, at, s->value); /* A or D came after the store */
    }
    for (unsigned i = 0; i < WORDS; i++) {
        unsigned word = word_of(i);
        uint64_t old = m->before[word], now = *ram_word(m, word);
        if (old == now)
            continue;
        m->before[word] = now;
        check_change(m, s, gpa_of_word(word), old, now);
    }
}

/* All of the hot frames, for words that no program touches. */
static void check_untouched(struct machine *m)
{
    for (unsigned frame = 0; frame < HOT_FRAMES; frame++) {
        if (memcmp(m->before + frame * PT_ENTRIES, machine_frame(m, frame), PAGE_SIZE) != 0)
            machine_wrong(m, "a word changed that no step wrote");
    }
}

/* --- steps ------------------------------------------------------------------------------------ */

static void step_store(struct machine *m, struct step *s)
{
    unsigned frame = below(&m->chance, HOT_FRAMES);
    unsigned slot = likely_slot(m, m->narrow, 4);
    uint64_t old;

    if (m->orderly && !one_in(&m->chance, 4))
        frame = m->busy;
    if (m->orderly && one_in(&m->chance, 64))
        m->busy = (m->levels - 1) * FRAMES_PER_GROUP + below(&m->chance, FRAMES_PER_GROUP);
    if (m->narrow && one_in(&m->chance, 3)) /* what leads to leaf tables, and to those */
        frame = (m->levels - 2 - one_in(&m->chance, 3)) * FRAMES_PER_GROUP +
                below(&m->chance, FRAMES_PER_GROUP);

    s->stored = hot_gpa(frame) + slot * 8;
    old = machine_frame(m, frame)[slot];
    switch (below(&m->chance, 8)) {
    case 0:
        s->value = old & ~(PTE_A | PTE_D);
        break;
    case 1:
        s->value = old ^ PTE_W;
        break;
    case 2:
        s->value = 0;
        break;
    default:
        s->value = random_entry(m, frame);
        break;
    }
    machine_store(m, s->stored, s->value);
}

/* For people: the walk of the guest's tables as they are now, and what else may be cached. */
static void print_path(const struct machine *m, unsigned i, uint64_t gva)
{
    uint64_t table = m->cpu[i].cpt.cr3 & PTE_ADDRESS;

    for (unsigned level = m->levels; level >= 1 && hot_frame(table) < HOT_FRAMES; level--) {
        uint64_t at = table + pt_index((gva_t){gva}, level) * 8;
        uint64_t e = machine_frame(m, hot_frame(table))[at % PAGE_SIZE / 8];
        printf("  level %u: 0x%lx holds 0x%lx\n", level, (unsigned long)at, (unsigned long)e);
        for (unsigned n = 0; n < m->changes; n++) {
            if (m->change[n].at == at)
                printf("    0x%lx until %lu\n", (unsigned long)m->change[n].old,
                       (unsigned long)m->change[n].time);
        }
        if (!(e & PTE_P) || pt_is_leaf(e, level, 3))
            break;
        table = e & PTE_ADDRESS;
    }
    printf("  now %lu, CR3 0x%lx, last flush %lu\n", (unsigned long)m->now,
           (unsigned long)m->cpu[i].cpt.cr3, (unsigned long)m->cpu[i].flushed[m->cpu[i].pcid]);
}

static const char *const outcome_names[] = {"ok", "fault", "no RAM"};

static void step_access(struct machine *m, struct step *s)
{
    static const unsigned kinds[] = {
        WALK_READ,  WALK_READ | WALK_USER,  WALK_WRITE, WALK_WRITE | WALK_USER,
        WALK_FETCH, WALK_FETCH | WALK_USER, WALK_WRITE, WALK_READ,
    };
    struct processor *cpu;

    s->access = true;
    s->cpu = below(&m->chance, PROCESSORS);
    s->kind = kinds[below(&m->chance, ARRAY_SIZE(kinds))];
    s->gva = random_gva(m);
    s->value = random_entry(m, below(&m->chance, HOT_FRAMES));
    cpu = &m->cpu[s->cpu];
    enum cpt_state state = cpu->state;
    struct outcome got = machine_access(m, s->cpu, s->gva, s->kind, s->value);
    if ((s->kind & WALK_WRITE) && got.kind == OUTCOME_OK && hot_frame(got.gpa) < HOT_FRAMES)
        s->stored = got.gpa;
    check_changes(m, s);
    if (m->verbose && m->wrong[0])
        print_path(m, s->cpu, s->gva);
    if (!m->wrong[0] && !reference_allows(m, s->cpu, s->gva, s->kind, &got)) {
        print_path(m, s->cpu, s->gva);
        machine_wrong(m,
                      "%s: access 0x%x to 0x%lx: %s, error code 0x%x, 0x%lx: a bare machine cannot",
                      cpt_state_name(state), s->kind, (unsigned long)s->gva,
                      outcome_names[got.kind], got.error_code, (unsigned long)got.gpa);
    }
}

/* Change the hot frames' words with what they were before the step. */
static void swap_with_before(struct machine *m)
{
    for (unsigned i = 0; i < WORDS; i++) {
        uint64_t *now = ram_word(m, word_of(i)), *before = &m->before[word_of(i)], word = *now;
        *now = *before;
        *before = word;
    }
}

/* Now, or when the store that the hypervisor carries out had not come to memory yet: until the
 * instruction is over, nobody else can know. */
static bool allowed_within_step(struct machine *m, const struct seen *s)
{
    if (reference_allows(m, s->cpu, s->gva, WALK_READ, &s->got))
        return true;
    swap_with_before(m);
    bool allowed = reference_allows(m, s->cpu, s->gva, WALK_READ, &s->got);
    swap_with_before(m);
    return allowed;
}

/* See oracle.h. What exits waits for the hypervisor, and tells nothing. */
static void look_on(struct machine *m)
{
    struct chance chance = m->chance;

    m->chance = m->others; /* what others do does not change the program */
    unsigned i = below(&m->chance, PROCESSORS);
    uint64_t gva = random_gva(m);
    m->others = m->chance;
    m->chance = chance;
    if (i == m->exited || m->has_seen)
        return;
    struct processor *cpu = &m->cpu[i];
    struct attempt t = processor_try(m, cpu, gva, WALK_READ);
    struct outcome got = {.kind = OUTCOME_NO_RAM};
    if (t.kind == TRY_FAULT)
        processor_forget_address(cpu, gva, false);
    if (t.kind == TRY_VIOLATION ||
        (t.kind == TRY_FAULT && cpu->state == CPT_SHADOW && (t.error_code & PF_P)))
        return;
    if (t.kind == TRY_FAULT)
        got = (struct outcome){.kind = OUTCOME_FAULT, .error_code = t.error_code};
    else if (t.host != 0)
        got = (struct outcome){.kind = OUTCOME_OK, .gpa = machine_gpa_of_host(t.host)};
    m->seen = (struct seen){.cpu = i, .gva = gva, .state = cpu->state, .got = got};
    m->seen.allowed = allowed_within_step(m, &m->seen);
    m->has_seen = true;
    m->looked_on++;
}

static void judge_seen(struct machine *m)
{
    const struct seen *s = &m->seen;

    if (!m->has_seen)
        return;
    m->has_seen = false;
    if (m->wrong[0] || s->allowed || reference_allows(m, s->cpu, s->gva, WALK_READ, &s->got))
        return;
    print_path(m, s->cpu, s->gva);
    machine_wrong(m,
                  "%s, just before an invalidation: a read of 0x%lx: %s, error code 0x%x, 0x%lx: a "
                  "bare machine cannot",
                  cpt_state_name(s->state), (unsigned long)s->gva, outcome_names[s->got.kind],
                  s->got.error_code, (unsigned long)s->got.gpa);
}

#define OPERANDS_MAX 8u

static void step_instruction(struct machine *m)
{
    unsigned count = 2 + below(&m->chance, OPERANDS_MAX - 1);
    uint64_t gva[OPERANDS_MAX];

    for (unsigned n = 0; n < count; n++)
        gva[n] = random_gva(m);
    unsigned i = below(&m->chance, PROCESSORS), exits = 0;
    while (!machine_read_all(m, i, gva, count) && !m->wrong[0]) {
        if (++exits > count * EXITS_MAX)
            machine_wrong(m, "an instruction with %u operands, the first at 0x%lx, never ends",
                          count, (unsigned long)gva[0]);
    }
}

static void load_cr3(struct machine *m)
{
    unsigned i = below(&m->chance, PROCESSORS);
    unsigned root = below(&m->chance, PCIDS);
    bool pcid = m->cpu[i].cpt.pcid;

    /* A PCID is a root's own, so that what is kept under it is never another's. */
    machine_load_cr3(m, i, (uint64_t)root << PAGE_SHIFT | (pcid ? root : 0),
                     pcid && one_in(&m->chance, 2));
}

static void forget_everything(struct machine *m, struct processor *cpu)
{
    if (cpu->state == CPT_SHADOW && cpt_head(m->cpt)->unsync > 0)
        cpt_invalidated(m->cpt);
    memset(cpu->tlb, 0, sizeof(cpu->tlb));
    memset(cpu->psc, 0, sizeof(cpu->psc));
    for (unsigned p = 0; p < PCIDS; p++)
        cpu->flushed[p] = m->now;
    cpu->flushed_global = m->now;
}

/* MOV to CR4 that changes PGE: everything, of all PCIDs. */
static void flush_global(struct machine *m)
{
    unsigned i = below(&m->chance, PROCESSORS);
    struct processor *cpu = &m->cpu[i];

    m->exited = i;
    forget_everything(m, cpu);
}

static void change_registers(struct machine *m)
{
    unsigned i = below(&m->chance, PROCESSORS);
    struct processor *cpu = &m->cpu[i];

    m->exited = i;
    switch (below(&m->chance, 3)) {
    case 0:
        cpu->cpt.write_protect = !cpu->cpt.write_protect;
        break;
    case 1:
        cpu->ac = !cpu->ac;
        break;
    default:
        cpu->nxe = !cpu->nxe; /* every translation may mean another thing now */
        forget_everything(m, cpu);
        break;
    }
    machine_refresh(m, i);
}

static void forget_line(void *context, const char *text)
{
    unsigned *lines = context;

    *lines += text[0] != '\0';
}

/* What people see must hold together, and change nothing. */
static void ask(struct machine *m)
{
    unsigned i = below(&m->chance, PROCESSORS), lines = 0;
    const struct cpt_cpu *cpu = &m->cpu[i].cpt;
    struct cpt_audit audit;
    uint64_t cr3[4];

    if (cpt_audit(m->cpt, cpu, (gva_t){random_gva(m)}, &audit)) {
        bool alone = cpu->state == CPT_SHADOW && audit.switched == 0;
        unsigned most = alone ? m->levels + 2 : m->levels * 5 + 4;
        if (audit.references == 0 || audit.references > most || audit.switched > m->levels)
            machine_wrong(m, "%s: %u references, switched at %u", cpt_state_name(cpu->state),
                          audit.references, audit.switched);
        if ((cpu->state == CPT_NESTED) != (audit.switched == m->levels))
            machine_wrong(m, "%s, but switched at level %u", cpt_state_name(cpu->state),
                          audit.switched);
    }
    struct cpt_counts counts = cpt_count(m->cpt);
    if (counts.nodes[0] > NODES_MAX || counts.nodes[1] > NODES_MAX)
        machine_wrong(m, "more nodes than there are");
    cpt_print_map(m->cpt, cpu, forget_line, &lines);
    if (lines == 0 && cpu->state == CPT_NESTED)
        machine_wrong(m, "a map of nothing");
    if (cpt_hot_nested_roots(m->cpt, cr3, 4) > counts.roots[CPT_NESTED])
        machine_wrong(m, "more hot roots than there are");
}

static void one_step(struct machine *m)
{
    struct step s = {.stored = ~0ull};

    m->now++;
    m->trace.time = m->now;
    m->exited = EXITED_NONE;
    switch (below(&m->chance, 32)) {
    case 0:
        load_cr3(m);
        break;
    case 1:
        machine_invlpg(m, below(&m->chance, PROCESSORS), random_gva(m));
        break;
    case 2:
        if (one_in(&m->chance, 3))
            flush_global(m);
        else if (one_in(&m->chance, 4))
            ask(m);
        else if (m->programs < PROGRAMS_BEFORE_INSTRUCTIONS)
            step_instruction(m);
        break;
    case 3: {
        unsigned i = below(&m->chance, PROCESSORS);
        m->exited = i;
        cpt_tick(m->cpt, &m->cpu[i].cpt, m->now);
        machine_refresh(m, i);
        break;
    }
    case 4:
        if (one_in(&m->chance, 4))
            change_registers(m);
        else if (m->restless && one_in(&m->chance, 2))
            machine_change_policy(m);
        break;
    case 5:
        if (m->orderly) {
            machine_invlpg(m, below(&m->chance, PROCESSORS), random_gva(m));
            break;
        }
        step_store(m, &s);
        break;
    case 6:
    case 7:
    case 8:
    case 9:
    case 10:
    case 11:
    case 12:
        step_store(m, &s);
        break;
    default:
        step_access(m, &s);
        break;
    }
    check_changes(m, &s);
    judge_seen(m);
    m->exited = EXITED_NONE;
    cpt_stress(m->cpt);
    check_changes(m, &(struct step){.stored = ~0ull});
    judge_seen(m);
    if (m->kicked || one_in(&m->chance, 8)) {
        m->kicked = false;
        m->exited = EXITED_ALL;
        for (unsigned i = 0; i < PROCESSORS; i++)
            machine_refresh(m, i);
    }
}

/* Tables that make sense to begin with: random stores alone seldom make a whole path. */
static void build(struct machine *m)
{
    for (unsigned frame = 0; frame < 4 * m->levels; frame++) {
        static const unsigned slots[] = {0, 1, 2, 511};
        for (unsigned i = 0; i < ARRAY_SIZE(slots); i++)
            machine_frame(m, frame)[slots[i]] = random_entry(m, frame);
    }
    for (unsigned frame = 0; frame < HOT_FRAMES; frame++)
        memcpy(m->before + frame * PT_ENTRIES, machine_frame(m, frame), PAGE_SIZE);
}

/* The trace's events of this step. */
static void print_events(struct machine *m)
{
    const struct trace_event *e;

    while ((e = trace_next(&m->trace, &m->printed, NULL)) != NULL)
        printf("    %s 0x%lx 0x%x\n", trace_kind_name((enum trace_kind)e->kind),
               (unsigned long)e->value, e->detail);
}

bool program_run(struct machine *m, unsigned steps)
{
    struct chance apart = m->chance; /* what it decides leaves the program as it was */
    bool check_always;

    m->printed = (struct trace_cursor){0};
    m->look_on = look_on;
    m->others = m->chance;
    machine_reset(m);
    if (m->programs < PROGRAMS_BEFORE_FEW_LINKS && one_in(&apart, 4))
        machine_leave_links(m, 4 + below(&apart, 60));
    build(m);
    for (unsigned i = 0; i < PROCESSORS; i++)
        machine_load_cr3(m, i, 0, false);
    check_always = one_in(&m->chance, 16) || m->verbose;
    for (unsigned n = 0; n < steps && !m->wrong[0]; n++) {
        const char *broken;
        one_step(m);
        if (check_always || n % 256 == 255 || n + 1 == steps) {
            broken = cpt_check(m->cpt);
            if (broken)
                machine_wrong(m, "invariant: %s", broken);
            check_untouched(m);
        }
        if (m->verbose)
            print_events(m);
        if (m->chance.bytes && m->chance.left == 0)
            break;
    }
    return !m->wrong[0];
}
