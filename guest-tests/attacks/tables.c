/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Page tables that lead where they must not: beyond the guest's RAM, into the windows that a
 * hypervisor with shadowed tables keeps in guest-physical space (hv/paging/compound.h), beyond the
 * physical address width, to each other in circles. And tables that change so often, or are so
 * many, that whoever shadows them runs out of patience or of memory.
 *
 * In a window a guest may find its own RAM, its own nodes or nothing (docs/security.md); it may
 * never change anything there, nor find what is another's. Everywhere else a machine without RAM
 * there answers: all ones, and writes are forgotten.
 */
#include "guest-tests/attacks/attacks.h"

#define BITS_TABLE (PTE_P | PTE_W)
#define BITS_AD    (PTE_A | PTE_D)
#define BITS_FREE  9 /* and two more: for software */
#define PATTERN    0xa77ac4a77ac4a77aull
#define CANARY     0x0c0ffee0c0ffee00ull
#define ALL_ONES   (~0ull)

/* Slots of the root that the cases use; 0 is the one-to-one map, 2 user code. */
#define SLOT_4K    1ull
#define SLOT_2M    3ull
#define SLOT_1G    4ull
#define SLOT_GRAPH 5ull

static uint64_t root;
static unsigned levels; /* of leaves that there are: 3 with pages of 1 GiB */

static uint64_t slot_base(uint64_t slot)
{
    return slot << 39;
}

/* --- accesses that may fault ------------------------------------------------------------------ */

static uint64_t tried_at, tried_value;

static void do_read(void)
{
    tried_value = *word_at(tried_at);
}

static void do_write(void)
{
    *word_at(tried_at) = PATTERN;
}

/* Read 8 bytes; false: an exception, which is in `caught`. */
static bool read_at(uint64_t at, uint64_t *value)
{
    tried_at = at;
    if (!try_run(do_read))
        return false;
    *value = tried_value;
    must_not_be_victims(*value, at);
    return true;
}

static bool write_at(uint64_t at)
{
    tried_at = at;
    return try_run(do_write);
}

/* --- one leaf that leads to a guest-physical address ------------------------------------------ */

/* The leaf of a size is always the same entry: it is changed, and its address returned. */
static uint64_t lead_to(unsigned level, uint64_t gpa)
{
    static const uint64_t slots[] = {0, SLOT_4K, SLOT_2M, SLOT_1G};
    uint64_t at = slot_base(slots[level]);
    uint64_t span = 1ull << (12 + 9 * (level - 1));

    *space_entry(root, at, level) =
        (gpa & ~(span - 1)) | BITS_TABLE | BITS_AD | (level > 1 ? PTE_PS : 0);
    write_cr3(root);
    return at + (gpa & (span - 1));
}

static unsigned any_level(uint64_t *random)
{
    return 1 + (unsigned)random_below(random, levels);
}

static bool is_ram(uint64_t gpa)
{
    for (uint64_t i = 0; i < guest_info->ram_count; i++) {
        if (gpa - guest_info->ram[i].base < guest_info->ram[i].size)
            return true;
    }
    return false;
}

/* Registers of devices (docs/guests.md). */
static bool is_device(uint64_t gpa)
{
    return gpa - 0xd0000000ull < 8 * PAGE || gpa - 0xfec00000ull < PAGE ||
           gpa - 0xfee00000ull < PAGE;
}

/* RAM of this guest in which nothing else is: what an access by another way must not change. */
static uint64_t canaries[16];

static void set_canaries(void)
{
    for (unsigned i = 0; i < sizeof(canaries) / sizeof(canaries[0]); i++) {
        if (!canaries[i])
            canaries[i] = page_alloc();
        for (uint64_t w = 0; w < PAGE; w += 8)
            *word_at(canaries[i] + w) = CANARY;
    }
}

static void check_canaries(const char *what)
{
    for (unsigned i = 0; i < sizeof(canaries) / sizeof(canaries[0]); i++) {
        for (uint64_t w = 0; w < PAGE; w += 8)
            CHECK_EQ(*word_at(canaries[i] + w), CANARY, "%s: the canary at 0x%x", what,
                     canaries[i] + w);
    }
}

static void begin(void)
{
    root = attack_space();
    write_cr3(root);
    levels = has_1g_pages() ? 3 : 2;
    set_canaries();
}

/* --- where no RAM is -------------------------------------------------------------------------- */

#define BEYOND_TRIES 200u

static void check_no_ram_at(uint64_t gpa, unsigned level)
{
    uint64_t at = lead_to(level, gpa), value;

    if (!read_at(at, &value))
        fail("a read of guest-physical 0x%x gave exception %u\n", gpa, caught.vector);
    CHECK_EQ(value, ALL_ONES, "guest-physical 0x%x, where no RAM is", gpa);
    if (!write_at(at))
        fail("a write to guest-physical 0x%x gave exception %u\n", gpa, caught.vector);
    if (!read_at(at, &value))
        fail("a second read of guest-physical 0x%x gave exception %u\n", gpa, caught.vector);
    CHECK_EQ(value, ALL_ONES, "guest-physical 0x%x after a write", gpa);
}

static void check_too_wide(uint64_t gpa, unsigned level)
{
    uint64_t at = lead_to(level, gpa), value;

    if (read_at(at, &value))
        fail("an entry with address 0x%x can be used\n", gpa);
    CHECK_EQ(caught.vector, VECTOR_PF, "an entry with address 0x%x", gpa);
    CHECK_EQ(caught.error_code, ERROR_P | ERROR_RSVD, "an entry with address 0x%x", gpa);
    if (write_at(at))
        fail("an entry with address 0x%x can be used to write\n", gpa);
    CHECK_EQ(caught.error_code, ERROR_P | ERROR_W | ERROR_RSVD, "a write by it");
}

/* The window base: docs in hv/paging/compound.h. */
static unsigned window_bits(void)
{
    return physical_bits() < 48 ? physical_bits() : 48;
}

/* Everything that can be RAM of somebody, as whoever gave it to the VM might have misplaced it. */
uint64_t attack_beyond(void)
{
    uint64_t random = attack_random(10), tries = 0, top = 1ull << (window_bits() - 2);

    begin();
    for (uint64_t i = 0; i < BEYOND_TRIES * attack_rounds; i++) {
        /* as often near the beginning as far out */
        uint64_t gpa = random_next(&random) & (top - 1);
        gpa >>= random_below(&random, window_bits() - 2 - 20);
        gpa &= ~7ull;
        if (is_ram(gpa) || is_device(gpa))
            continue;
        check_no_ram_at(gpa, any_level(&random));
        tries++;
    }
    for (unsigned bit = physical_bits(); bit < 52; bit++) {
        for (unsigned level = 1; level <= levels; level++, tries++)
            check_too_wide(1ull << bit | canaries[0], level);
    }
    check_canaries("beyond RAM");
    return tries;
}

/* --- the windows ------------------------------------------------------------------------------ */

#define WINDOW_TRIES 40u
#define NODE_BYTES   (24ull << 20) /* behind RAM in the node window: all that a small VM has */
#define NODE_STEP    (31 * PAGE)

/* In a window's image of RAM a guest finds that RAM, or nothing. */
static void check_image(uint64_t gpa, uint64_t image, unsigned level)
{
    uint64_t at = lead_to(level, gpa), value;

    if (read_at(at, &value) && value != ALL_ONES)
        CHECK_EQ(value, *word_at(image), "guest-physical 0x%x, the image of 0x%x", gpa, image);
    uint64_t before = *word_at(image);
    write_at(at);
    CHECK_EQ(*word_at(image), before, "after a write to its image at 0x%x, RAM at 0x%x", gpa,
             image);
}

/* A node's page: what is written there must not be read, by whatever way. */
static void check_node_page(uint64_t gpa, unsigned level)
{
    uint64_t at = lead_to(level, gpa), value;

    read_at(at, &value);
    write_at(at);
    if (read_at(at, &value) && value == PATTERN)
        fail("guest-physical 0x%x, in the node window, can be written\n", gpa);
}

/* As a table, at each level: whatever the walk finds there, it must not reach what is another's. */
static void walk_by(uint64_t gpa, unsigned level, uint64_t *random)
{
    uint64_t at = slot_base(SLOT_GRAPH) | (random_next(random) & 0x7ffffffff8ull), value;

    *space_entry(root, at, level) = (gpa & PTE_ADDRESS) | BITS_TABLE;
    write_cr3(root);
    read_at(at, &value);
    *space_entry(root, at, level) = 0;
    write_cr3(root);
}

uint64_t attack_windows(void)
{
    uint64_t random = attack_random(11), tries = 0;
    uint64_t nodes = 1ull << (window_bits() - 2), alias = 2 * nodes, traps = 3 * nodes;
    uint64_t ram = guest_info->ram[0].size;

    begin();
    for (uint64_t i = 0; i < WINDOW_TRIES * attack_rounds; i++) {
        uint64_t canary = canaries[random_below(&random, 16)] + random_below(&random, 512) * 8;
        unsigned level = any_level(&random);
        check_image(nodes + canary, canary, level);
        check_image(alias + canary, canary, level);
        /* the trap of any entry of any node, which there may be */
        check_node_page(traps + random_below(&random, 1ull << 31) * 8, level);
        check_node_page(nodes + (random_next(&random) & (nodes - 1) & ~7ull), level);
        walk_by(nodes + ram + random_below(&random, NODE_BYTES), 1 + level, &random);
        walk_by(traps + random_below(&random, 1ull << 34), 1 + level, &random);
        walk_by(alias + root, 2, &random);
        tries += 7;
    }
    for (uint64_t gpa = nodes; gpa < nodes + ram + NODE_BYTES; gpa += NODE_STEP, tries++)
        check_node_page(gpa, 1);
    check_canaries("windows");
    return tries;
}

/* --- tables that lead to each other ----------------------------------------------------------- */

#define GRAPH_TABLES 8u
#define GRAPH_STEPS  1500u

static uint64_t graph[GRAPH_TABLES];

/* The address of the word that `at`, in the graph's slot, leads to; 0: an entry is not present. */
static uint64_t software_walk(uint64_t at)
{
    uint64_t table = graph[0];

    for (unsigned level = 3; level >= 1; level--) {
        uint64_t entry = ((volatile uint64_t *)table)[at >> (12 + 9 * (level - 1)) & (ENTRIES - 1)];
        if (!(entry & PTE_P))
            return 0;
        table = entry & PTE_ADDRESS;
    }
    return table | (at & (PAGE - 1));
}

/* To one of the tables, with any of the bits that nobody uses; now and then not present. */
static uint64_t any_link(uint64_t *random, unsigned tables)
{
    uint64_t present = random_below(random, 8) ? BITS_TABLE : 0;

    return graph[random_below(random, tables)] | present | random_below(random, 8) << BITS_FREE;
}

static uint64_t any_graph_address(uint64_t *random)
{
    return slot_base(SLOT_GRAPH) | (random_next(random) & 0x7fffffffffull & ~7ull);
}

static void store_link(uint64_t step, uint64_t at, uint64_t link)
{
    uint64_t word = software_walk(at);

    *word_at(at) = link;
    CHECK_EQ(*word_at(word) & ~BITS_AD, link, "step %u: a store by 0x%x", step, at);
    write_cr3(root);
}

static void read_link(uint64_t step, uint64_t at)
{
    uint64_t word = software_walk(at), value;
    bool read = read_at(at, &value);

    if (!word) {
        if (read)
            fail("step %u: 0x%x can be read by an entry that is not present\n", step, at);
        CHECK_EQ(caught.vector, VECTOR_PF, "step %u: a read of 0x%x", step, at);
        CHECK_EQ(caught.error_code, 0, "step %u: a read of 0x%x, error code", step, at);
        return;
    }
    if (!read)
        fail("step %u: a read of 0x%x gave exception %u\n", step, at, caught.vector);
    CHECK_EQ(value & ~BITS_AD, *word_at(word) & ~BITS_AD, "step %u: a read of 0x%x", step, at);
}

/*
 * `tables` pages whose entries all lead to one of them: each is a table of every level, and data.
 * Stores go by addresses whose own walks they change.
 */
static uint64_t attack_graph(uint64_t salt, unsigned tables)
{
    uint64_t random = attack_random(salt), steps = GRAPH_STEPS * attack_rounds;

    root = attack_space();
    for (unsigned t = 0; t < tables; t++)
        graph[t] = page_alloc();
    for (unsigned t = 0; t < tables; t++) {
        for (unsigned i = 0; i < ENTRIES; i++)
            ((uint64_t *)graph[t])[i] = any_link(&random, tables);
    }
    ((uint64_t *)root)[SLOT_GRAPH] = graph[0] | BITS_TABLE;
    write_cr3(root);
    for (uint64_t i = 0; i < steps; i++) {
        uint64_t at = any_graph_address(&random);
        if (random_below(&random, 3) == 0 && software_walk(at))
            store_link(i, at, any_link(&random, tables));
        else
            read_link(i, at);
    }
    return steps;
}

uint64_t attack_recursive(void)
{
    return attack_graph(12, GRAPH_TABLES);
}

/* One page is all tables of its slot, and all that they map. */
uint64_t attack_all_levels(void)
{
    return attack_graph(13, 1);
}

/* --- storms ----------------------------------------------------------------------------------- */

#define STORM_TABLES 8u
#define STORM_FRAMES 64u
#define STORM_ROUNDS 60u
#define STORM_SPREAD (3 * PAGE_2M) /* between two of the regions, each of which has a table */

static uint64_t storm_frame[STORM_FRAMES];

static uint64_t storm_at(uint64_t table, uint64_t page)
{
    return slot_base(SLOT_4K) + table * STORM_SPREAD + page * PAGE;
}

static void storm_map(uint64_t table, uint64_t page, uint64_t frame)
{
    space_map(root, storm_at(table, page), storm_frame[frame], PTE_W);
}

/*
 * Bursts of changes and spells of reads, of lengths at random, in regions at random: what was given
 * to nested handling comes back and goes again. Each read must find what its entry says.
 */
uint64_t attack_storm(void)
{
    static uint8_t mapped[STORM_TABLES][STORM_FRAMES];
    uint64_t random = attack_random(14), tries = 0;

    root = attack_space();
    for (unsigned f = 0; f < STORM_FRAMES; f++) {
        storm_frame[f] = page_alloc();
        *word_at(storm_frame[f]) = value_of(f);
    }
    for (unsigned t = 0; t < STORM_TABLES; t++) {
        for (unsigned p = 0; p < STORM_FRAMES; p++) {
            mapped[t][p] = (uint8_t)p;
            storm_map(t, p, p);
        }
    }
    write_cr3(root);
    for (uint64_t round = 0; round < STORM_ROUNDS * attack_rounds; round++) {
        uint64_t t = random_below(&random, STORM_TABLES);
        uint64_t changes = random_below(&random, 2) ? random_below(&random, 100) : 0;
        uint64_t reads = random_below(&random, 4) ? random_below(&random, 500) : 20000;
        for (uint64_t i = 0; i < changes; i++) {
            uint64_t p = random_below(&random, STORM_FRAMES);
            uint64_t f = random_below(&random, STORM_FRAMES);
            mapped[t][p] = (uint8_t)f;
            storm_map(t, p, f);
            invlpg(storm_at(t, p));
        }
        for (uint64_t i = 0; i < reads; i++) {
            uint64_t p = random_below(&random, STORM_FRAMES);
            CHECK_EQ(*word_at(storm_at(t, p)), value_of(mapped[t][p]), "table %u, page %u", t, p);
        }
        tries += changes + reads;
    }
    return tries;
}

/* --- more tables than nodes ------------------------------------------------------------------- */

#define POOL_TABLES 300u
#define POOL_ROOTS  40u
#define POOL_PASSES 3u

static uint64_t pool_at(uint64_t i)
{
    /* a table of levels 1 and 2 for each, of level 3 for many */
    return slot_base(SLOT_4K) + i * PAGE_1G + (i % 512) * PAGE_2M + (i % 7) * PAGE;
}

uint64_t attack_pool(void)
{
    uint64_t frame[POOL_TABLES], roots[POOL_ROOTS], random = attack_random(15), tries = 0;

    root = attack_space();
    for (unsigned i = 0; i < POOL_TABLES; i++) {
        frame[i] = page_alloc();
        *word_at(frame[i]) = value_of(i);
        space_map(root, pool_at(i), frame[i], PTE_W);
    }
    for (unsigned r = 0; r < POOL_ROOTS; r++) {
        roots[r] = page_alloc();
        memcpy((void *)roots[r], (void *)root, PAGE);
    }
    for (uint64_t pass = 0; pass < POOL_PASSES * attack_rounds; pass++) {
        for (unsigned r = 0; r < POOL_ROOTS; r++) {
            write_cr3(roots[r]);
            for (unsigned n = 0; n < 50; n++, tries++) {
                uint64_t i = random_below(&random, POOL_TABLES);
                CHECK_EQ(*word_at(pool_at(i)), value_of(i), "root %u, page %u", (uint64_t)r, i);
            }
        }
    }
    write_cr3(root);
    return tries;
}
