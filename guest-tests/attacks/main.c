/* SPDX-License-Identifier: BSD-2-Clause */
/* See attacks.h: the list of cases. */
#include "guest-tests/attacks/attacks.h"

#define LEAF_ADDRESS_WIDTHS 0x80000008u

uint64_t attack_seed, attack_rounds;

static const struct {
    const char *name;
    uint64_t (*run)(void);
} cases[] = {
    {"msrs", attack_msrs},
    {"ports", attack_ports},
    {"cpuid", attack_cpuid},
    {"undefined", attack_undefined},
    {"hypercalls", attack_hypercalls},
    {"windows", attack_windows},
    {"beyond", attack_beyond},
    {"recursive", attack_recursive},
    {"all-levels", attack_all_levels},
    {"storm", attack_storm},
    {"pool", attack_pool},
    {"delivery", attack_delivery},
    {"live-delivery", attack_live_delivery},
    {"self-modifying", attack_self_modifying},
    {"decoder", attack_decoder},
    {"decoder-no-ram", attack_decoder_no_ram},
    {"virtio", attack_virtio},
    {"apic", attack_apic},
    {"ioapic", attack_ioapic},
    {"racing-tables", attack_racing_tables},
    {"racing-code", attack_racing_code},
};

uint64_t attack_random(uint64_t salt)
{
    uint64_t state = attack_seed * 0x9e3779b97f4a7c15ull + salt;

    random_next(&state);
    return state ? state : 1;
}

void must_not_be_victims(uint64_t word, uint64_t at)
{
    if (word >> VICTIM_MARK_SHIFT == VICTIM_MARK)
        fail("0x%x, read at 0x%x, is another VM's\n", word, at);
}

uint64_t attack_space(void)
{
    uint64_t root = space_new();

    /* what machine_init mapped for CPL 3 */
    ((uint64_t *)root)[2] = ((uint64_t *)(read_cr3() & PTE_ADDRESS))[2];
    return root;
}

unsigned physical_bits(void)
{
    return cpuid(LEAF_ADDRESS_WIDTHS, 0).eax & 0xff;
}

static bool same(const char *a, const char *b)
{
    while (*a && *a == *b) {
        a++;
        b++;
    }
    return *a == *b;
}

static void run_case(const char *name, uint64_t (*run)(void))
{
    uint64_t tries = run();

    if (tries == 0)
        print("attack %s skipped: this machine cannot do it\n", name);
    else
        print("attack %s ok tries=%u\n", name, tries);
}

void guest_main(void)
{
    char only[32] = "", from[32] = "", end[32] = "";
    unsigned run = 0;
    bool begun;

    arg_word("only", only, sizeof(only));
    arg_word("from", from, sizeof(from));
    arg_word("end", end, sizeof(end));
    attack_seed = arg_number("seed", 1);
    attack_rounds = arg_number("rounds", 1);
    args_done();
    if (attack_seed == 0 || attack_rounds == 0)
        fail("seed and rounds must be at least 1\n");
    machine_init();
    if (end[0])
        attack_end(end);
    print("attacks: seed=%u rounds=%u\n", attack_seed, attack_rounds);
    begun = !from[0];
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        begun |= same(from, cases[i].name);
        if (!begun || (only[0] && !same(only, cases[i].name)))
            continue;
        run_case(cases[i].name, cases[i].run);
        run++;
    }
    if (run == 0)
        fail("no case is called %s\n", only[0] ? only : from);
    print("attacks: %u cases\n", (uint64_t)run);
}
