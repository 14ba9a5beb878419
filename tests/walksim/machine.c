/* SPDX-License-Identifier: BSD-2-Clause */
/* See machine.h. The walks are those of the model processor in tests/oracle, without its malice. */
#include "tests/walksim/machine.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "hv/paging/pte.h"
#include "hv/paging/walk.h"

#define LEVELS        4u
#define PHYSICAL_BITS 46u
#define RAM_BASE      0x10000000000ull /* host-physical */
#define NODE_HPA      0x18000000000ull
#define NODES_SHARE   64u /* of RAM for nodes, as the hypervisor's default */
#define WINDOW_LEVELS 2u  /* the node window is one 1-GiB EPT page */
#define TRIES_MAX     64u
#define CR0_BITS      (1ull << 31 | 1ull << 16)
#define CR4_PAE       (1ull << 5)
#define EFER_BITS     (1ull << 10 | 1ull << 11)

const char *const technique_names[TECHNIQUES] = {
    "native", "nested", "shadow", "shsp", "compound", "compound-threshold", "ideal"};
const char *const exit_names[EXIT_KINDS] = {"table_write", "sync_table", "sync_leaf",
                                            "guest_fault", "cr3",        "invlpg"};

/* --- what hv/paging asks ------------------------------------------------------------------------
 */

static bool protect(void *context, gpa_t page, bool protect_it)
{
    struct machine *m = context;
    uint64_t frame = page.v >> PAGE_SHIFT;

    if (m->is_protected[frame] == protect_it)
        return true;
    m->is_protected[frame] = protect_it;
    uint16_t *count = &m->protected_in[page.v >> PAGE_SHIFT_2M];
    *count = (uint16_t)(protect_it ? *count + 1 : *count - 1);
    return true;
}

static void invalidate(void *context)
{
    struct machine *m = context;

    tlb_clear(&m->tlb);
}

/* EPT levels that are read for a guest-physical address: a 2-MiB page that holds a protected one is
 * split. */
static unsigned ept_levels(const struct machine *m, uint64_t at)
{
    if (at >= m->options.ram)
        return WINDOW_LEVELS;
    return m->options.large_ept && m->protected_in[at >> PAGE_SHIFT_2M] == 0 ? LEVELS - 1 : LEVELS;
}

static unsigned ept_references(void *context, gpa_t at)
{
    return ept_levels(context, at.v);
}

/* --- one walk -----------------------------------------------------------------------------------
 */

struct walked {
    enum { WALKED, WALK_FAULTED, WALK_VIOLATED } end;
    struct walk_path path;
    unsigned level;    /* of the entry at which it ended */
    unsigned switched; /* level of the first guest table that was walked itself; 0: none */
    uint64_t gpa;      /* VIOLATED: where */
    bool final;        /* VIOLATED: the access itself */
    bool marks;        /* VIOLATED: A or D could not be set */
    uint32_t error;    /* FAULTED */
    bool large, global, writable;
};

struct place { /* of an entry or a page */
    uint64_t *word;
    bool mapped, writable, guest;
};

/* `at`: host-physical in SHADOW, else guest-physical. */
static struct place place_of(const struct machine *m, uint64_t at)
{
    if (m->state == CPT_SHADOW) {
        if (at >= NODE_HPA)
            return (struct place){m->nodes[CPT_FORMAT_SHADOW] + (at - NODE_HPA) / 8, true, true,
                                  false};
        return (struct place){machine_word(m, at - RAM_BASE), true, true, false};
    }
    if (at < m->options.ram)
        return (struct place){machine_word(m, at), true, !m->is_protected[at >> PAGE_SHIFT], true};
    if (!m->cpt)
        return (struct place){0};
    uint64_t window = cpt_node_window(m->cpt).v, alias = cpt_alias(m->cpt, (gpa_t){0}).v;
    if (at >= window && at < window + (uint64_t)m->node_count * PAGE_SIZE)
        return (struct place){m->nodes[CPT_FORMAT_COMPOUND] + (at - window) / 8, true, false,
                              false};
    if (at >= alias && at - alias < m->options.ram)
        return (struct place){machine_word(m, at - alias), true, false, false};
    return (struct place){0};
}

/* Whether addresses go through EPT. */
static bool has_ept(const struct machine *m)
{
    return m->options.technique != NATIVE && m->state != CPT_SHADOW;
}

static struct walk_step step_to(const struct machine *m, uint64_t at)
{
    uint64_t alias = m->cpt ? cpt_alias(m->cpt, (gpa_t){0}).v : ~0ull;

    if (at >= alias && at - alias < m->options.ram) /* mapped as the RAM is, by tables of its own */
        return (struct walk_step){at, has_ept(m) ? ept_levels(m, at - alias) : 0};
    return (struct walk_step){at, has_ept(m) ? ept_levels(m, at) : 0};
}

static struct walked fault(struct walked w, uint32_t error, bool write, bool user)
{
    w.end = WALK_FAULTED;
    w.error = error | (write ? PF_W : 0) | (user ? PF_U : 0);
    return w;
}

static struct walked violation(struct walked w, uint64_t gpa, bool final, bool marks)
{
    w.end = WALK_VIOLATED;
    w.gpa = gpa;
    w.final = final;
    w.marks = marks;
    return w;
}

static bool is_reserved(uint64_t e)
{
    return (e & 0x000ffffffffff000ull & ~((1ull << PHYSICAL_BITS) - 1)) != 0;
}

static struct walked walk_once(struct machine *m, uint64_t va, bool write, bool user)
{
    uint64_t table = (m->state == CPT_NESTED ? m->cr3 : m->cpu.node_cr3) & PTE_ADDRESS;
    struct walked w = {.writable = true};
    bool user_ok = true;

    for (w.level = LEVELS;; w.level--) {
        uint64_t at = table + pt_index((gva_t){va}, w.level) * 8;
        struct place p = place_of(m, at);
        if (!p.mapped)
            return violation(w, at, false, false);
        w.path.table[w.path.count++] = step_to(m, at);
        if (p.guest && w.switched == 0)
            w.switched = w.level;
        uint64_t e = *p.word;
        if (!(e & PTE_P))
            return fault(w, 0, write, user);
        if (is_reserved(e))
            return fault(w, PF_P | PF_RSVD, write, user);
        w.writable &= (e & PTE_W) != 0;
        user_ok &= (e & PTE_U) != 0;
        bool leaf = pt_is_leaf(e, w.level, 3);
        if (leaf && ((write && !w.writable) || (user && !user_ok)))
            return fault(w, PF_P, write, user);
        uint64_t marks = PTE_A | (leaf && write ? PTE_D : 0);
        if ((e & marks) != marks) {
            if (!p.writable)
                return violation(w, at, false, true);
            *p.word |= marks;
        }
        if (!leaf) {
            table = e & PTE_ADDRESS;
            continue;
        }
        uint64_t inside = pt_span(w.level) - 1, to = (e & PTE_ADDRESS & ~inside) | (va & inside);
        struct place page = place_of(m, to);
        if (!page.mapped || (write && !page.writable))
            return violation(w, to, true, false);
        w.path.data = step_to(m, to);
        w.large = w.level > 1 && (!has_ept(m) || w.path.data.ept_levels < LEVELS);
        w.global = (e & PTE_G) != 0;
        w.writable &= page.writable && (*p.word & PTE_D);
        return w;
    }
}

/* --- counting -----------------------------------------------------------------------------------
 */

/*
 * IDEAL: what the paper's processor reads (its table of references). Nodes are met by host address,
 * and so is the first guest table, which the switching entry names; from there on the walk is in
 * two dimensions. A nested root has nothing that could name one.
 */
static struct walk_path ideal_path(const struct machine *m, const struct walked *w)
{
    struct walk_path path = w->path;
    unsigned ept = m->options.large_ept ? LEVELS - 1 : LEVELS;
    unsigned by_host = path.count;

    if (w->switched > 0)
        by_host = w->switched == LEVELS ? 0 : LEVELS - w->switched + 1;
    for (unsigned i = 0; i < path.count; i++)
        path.table[i].ept_levels = i < by_host ? 0 : ept;
    path.data.ept_levels = w->switched == 0 ? 0 : ept;
    return path;
}

static void count_miss(struct machine *m, uint64_t va, const struct walked *w)
{
    struct walk_path path = m->options.technique == IDEAL ? ideal_path(m, w) : w->path;
    unsigned degree = m->options.technique == NATIVE ? DEGREES - 1 : w->switched;
    unsigned references = walk_references_plain(&path);

    m->counts.misses++;
    m->cpu.misses++;
    m->counts.references += references;
    m->counts.references_cached += walk_references_cached(&m->tlb, va, &path);
    m->counts.misses_by_degree[degree]++;
    m->counts.references_by_degree[degree] += references;
}

static bool is_free(const struct machine *m, enum exit_kind kind)
{
    return m->options.technique == IDEAL && ((kind == EXIT_SYNC_LEAF && m->options.hardware_ad) ||
                                             (kind == EXIT_CR3 && m->options.hardware_cr3));
}

static void count_exit(struct machine *m, enum exit_kind kind)
{
    if (!is_free(m, kind))
        m->counts.exits[kind]++;
}

/* --- exits --------------------------------------------------------------------------------------
 */

static void follow(struct machine *m)
{
    enum cpt_state before = m->state;

    cpt_refresh(m->cpt, &m->cpu, m->trace.time);
    m->state = m->cpu.state;
    if (m->state !=
        before) /* translations with EPT and without are apart (VPID), but ours are not */
        tlb_clear(&m->tlb);
}

static uint64_t read_entry(void *context, gpa_t at, unsigned bytes)
{
    const struct machine *m = context;

    (void)bytes;
    return at.v < m->options.ram ? *machine_word(m, at.v) : ~0ull;
}

static bool swap_entry(void *context, gpa_t at, unsigned bytes, uint64_t old, uint64_t set)
{
    const struct machine *m = context;

    (void)bytes;
    if (at.v >= m->options.ram)
        return true;
    if (*machine_word(m, at.v) != old)
        return false;
    *machine_word(m, at.v) = set;
    return true;
}

static enum cpt_result shadow_fault(struct machine *m, struct cpt_access *a)
{
    struct walk_memory memory = {.context = m, .read = read_entry, .compare_and_swap = swap_entry};
    struct walk_registers registers = {
        .cr0 = CR0_BITS,
        .cr3 = m->cr3,
        .cr4 = CR4_PAE,
        .efer = EFER_BITS,
        .physical_bits = PHYSICAL_BITS,
        .has_1g_pages = true,
    };

    return cpt_page_fault(m->cpt, &m->cpu, a, &registers, &memory);
}

/* Carry a violation or a fault with P = 1 to hv/paging. ACCESS_OK: try again; *stored: the store
 * was carried out. */
static enum access_result handle(struct machine *m, uint64_t va, bool write, bool user,
                                 const struct walked *w, const uint64_t *value, bool *stored)
{
    uint64_t writes = cpt_stats(m->cpt)->table_writes;
    struct cpt_access a = {
        .gva = {va},
        .gpa = {w->gpa},
        .access = ((write && w->final) || w->marks ? WALK_WRITE : 0) | (user ? WALK_USER : 0),
        .final = w->final,
        .error_code = w->error,
    };
    enum cpt_result result;

    if (w->end == WALK_VIOLATED) {
        result = cpt_ept_violation(m->cpt, &m->cpu, &a);
    } else {
        a.access = 0;
        result = shadow_fault(m, &a);
    }
    if (result == CPT_TABLE_WRITE && value) {
        *machine_word(m, a.gpa.v) = *value;
        cpt_written(m->cpt, a.gpa, sizeof(uint64_t));
        *stored = true;
    }
    if (result == CPT_FAULT)
        count_exit(m, EXIT_GUEST_FAULT);
    else if (cpt_stats(m->cpt)->table_writes != writes)
        count_exit(m, EXIT_TABLE_WRITE);
    else
        count_exit(m, w->level == 1 || w->final ? EXIT_SYNC_LEAF : EXIT_SYNC_TABLE);
    follow(m);
    if (result == CPT_NOT_RAM || (result == CPT_TABLE_WRITE && !value)) {
        m->wrong = "an access ended where there is no RAM, or wrote to a table";
        return ACCESS_BROKEN;
    }
    return result == CPT_FAULT ? ACCESS_FAULT : ACCESS_OK;
}

/* --- accesses -----------------------------------------------------------------------------------
 */

static enum access_result access_value(struct machine *m, uint64_t va, bool write, bool user,
                                       const uint64_t *value)
{
    m->counts.accesses++;
    enum tlb_hit hit = tlb_find(&m->tlb, va, write);
    if (hit != TLB_MISS) {
        m->counts.l2_hits += hit == TLB_L2;
        return ACCESS_OK;
    }
    for (unsigned tries = 0; tries < TRIES_MAX && !m->wrong; tries++) {
        struct walked w = walk_once(m, va, write, user);
        if (w.end == WALKED) {
            count_miss(m, va, &w);
            tlb_put(&m->tlb, va, w.large, w.global, w.writable);
            return ACCESS_OK;
        }
        if (w.end == WALK_FAULTED && (m->state != CPT_SHADOW || !(w.error & PF_P)))
            return ACCESS_FAULT;
        if (!m->cpt) {
            m->wrong = "a violation without a hypervisor";
            break;
        }
        bool stored = false;
        enum access_result result = handle(m, va, write, user, &w, value, &stored);
        if (result != ACCESS_OK || stored)
            return result;
    }
    if (!m->wrong)
        m->wrong = "an access never ends";
    return ACCESS_BROKEN;
}

enum access_result machine_access(struct machine *m, uint64_t va, bool write, bool user)
{
    return access_value(m, va, write, user, NULL);
}

void machine_store(struct machine *m, uint64_t gpa, uint64_t value)
{
    m->counts.table_stores++;
    m->cpu.updates++;
    /* The store itself is left to the trap where there is one; else it happens here. */
    if (access_value(m, DIRECT_MAP + gpa, true, false, &value) == ACCESS_FAULT)
        m->wrong = "the kernel's direct map has a hole";
    *machine_word(m, gpa) = value;
}

static bool is_hot(const struct machine *m, uint64_t root)
{
    for (unsigned i = 0; i < m->hot_count; i++) {
        if (m->hot[i] == root)
            return true;
    }
    return false;
}

void machine_load_cr3(struct machine *m, uint64_t root)
{
    m->cr3 = root;
    tlb_load_cr3(&m->tlb);
    if (!m->cpt)
        return;
    bool both_nested = m->state == CPT_NESTED;
    enum cpt_state before = m->state;
    m->cpu.cr3 = root;
    cpt_load_root(m->cpt, &m->cpu, m->trace.time);
    m->state = m->cpu.state;
    if (m->state != before)
        tlb_clear(&m->tlb);
    both_nested &= m->state == CPT_NESTED;
    if (!both_nested || (cpt_has_risen_roots(m->cpt) && !is_hot(m, root)))
        count_exit(m, EXIT_CR3);
}

void machine_invlpg(struct machine *m, uint64_t va)
{
    if (m->cpt && m->state == CPT_SHADOW && cpt_head(m->cpt)->unsync > 0) {
        count_exit(m, EXIT_INVLPG);
        cpt_invlpg(m->cpt, &m->cpu, (gva_t){va});
        follow(m);
    }
    tlb_invlpg(&m->tlb, va);
}

void machine_run(struct machine *m, uint64_t instructions)
{
    m->counts.instructions += instructions;
    m->trace.time += instructions;
    if (!m->cpt || m->trace.time < cpt_head(m->cpt)->next_look)
        return;
    cpt_tick(m->cpt, &m->cpu, m->trace.time);
    m->hot_count = cpt_hot_nested_roots(m->cpt, m->hot, 4);
    follow(m);
}

/* --- making it ----------------------------------------------------------------------------------
 */

/* Zero pages that cost nothing until they are touched. */
static void *reserve(uint64_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return at == MAP_FAILED ? NULL : at;
}

static bool create_table(struct machine *m)
{
    static const enum policy_kind kinds[TECHNIQUES] = {
        [SHADOW] = POLICY_STATIC,   [SHSP] = POLICY_SHSP,
        [COMPOUND] = POLICY_COST,   [COMPOUND_THRESHOLD] = POLICY_THRESHOLD,
        [IDEAL] = POLICY_THRESHOLD,
    };
    const struct options *o = &m->options;
    const char *reason;

    m->node_count = (uint32_t)(o->ram / NODES_SHARE >> PAGE_SHIFT);
    for (unsigned f = 0; f < CPT_FORMATS; f++)
        m->nodes[f] = reserve((uint64_t)m->node_count * PAGE_SIZE);
    m->book = reserve(cpt_book_bytes(2 * m->node_count, o->ram));
    if (!m->nodes[0] || !m->nodes[1] || !m->book)
        return false;
    struct cpt_host host = {m, protect, invalidate, ept_references, NULL};
    struct cpt_memory memory = {
        .nodes = {m->nodes[0], m->nodes[1]},
        .node_base = {hpa(0), hpa(NODE_HPA)},
        .node_count = {m->node_count, m->node_count},
        .book = m->book,
    };
    struct cpt_ram ram = {m->ram, hpa(RAM_BASE), o->ram, 0};
    struct cpt_settings settings = {
        .levels = LEVELS,
        .physical_bits = PHYSICAL_BITS,
        .max_leaf = 3,
        .no_shadow = o->technique == IDEAL, /* its COMPOUND is its SHADOW */
        .policy = policy_default,
        .interval = o->interval,
        .interval_max = 20 * o->interval,
    };
    settings.policy.kind = kinds[o->technique];
    settings.policy.pinned_shadow = o->technique == SHADOW;
    settings.policy.cost_exit = o->cost_exit;
    if (o->technique == IDEAL && o->hardware_cr3)
        settings.policy.cost_exit = 0; /* the paper's rule asks only what a MOV to CR3 costs */
    settings.policy.cost_reference = o->cost_reference;
    m->cpt = cpt_create(&host, &memory, &ram, &settings, &m->trace, &reason);
    if (!m->cpt)
        return false;
    cpt_add_cpu(m->cpt, &m->cpu);
    m->cpu.paging = true;
    m->cpu.write_protect = true;
    return true;
}

bool machine_create(struct machine *m, const struct options *options)
{
    memset(m, 0, sizeof(*m));
    m->options = *options;
    tlb_init(&m->tlb, options->processor);
    m->ram = reserve(options->ram);
    m->is_protected = reserve(options->ram >> PAGE_SHIFT);
    m->protected_in = reserve((options->ram >> PAGE_SHIFT_2M) * sizeof(uint16_t));
    if (!m->ram || !m->is_protected || !m->protected_in)
        return false;
    return options->technique == NATIVE || options->technique == NESTED || create_table(m);
}

void machine_destroy(struct machine *m)
{
    munmap(m->ram, m->options.ram);
    munmap(m->is_protected, m->options.ram >> PAGE_SHIFT);
    munmap(m->protected_in, (m->options.ram >> PAGE_SHIFT_2M) * sizeof(uint16_t));
    for (unsigned f = 0; f < CPT_FORMATS && m->nodes[f]; f++)
        munmap(m->nodes[f], (uint64_t)m->node_count * PAGE_SIZE);
    if (m->book)
        munmap(m->book, cpt_book_bytes(2 * m->node_count, m->options.ram));
}

void machine_begin_counting(struct machine *m)
{
    m->counts = (struct counts){0};
    if (m->cpt)
        m->seen = *cpt_stats(m->cpt);
}

void machine_end_counting(struct machine *m)
{
    if (!m->cpt)
        return;
    const struct cpt_stats *now = cpt_stats(m->cpt);
    m->counts.promotions = now->promotions - m->seen.promotions;
    m->counts.demotions = now->demotions - m->seen.demotions;
    m->counts.invalidations = now->invalidations - m->seen.invalidations;
}
