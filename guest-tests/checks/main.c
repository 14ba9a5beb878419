/* SPDX-License-Identifier: BSD-2-Clause */
/* See checks.h: the list of groups. */
#include "guest-tests/checks/checks.h"

static const struct {
    const char *name;
    uint64_t (*run)(void);
} groups[] = {
    {"permissions", check_permissions},
    {"permissions-pairs", check_permissions_pairs},
    {"permissions-all", check_permissions_all},
    {"large-pages", check_large_pages},
    {"reserved-bits", check_reserved_bits},
    {"accessed-dirty", check_accessed_dirty},
    {"canonical", check_canonical},
    {"invlpg", check_invlpg},
    {"pcid", check_pcid},
    {"delivery", check_delivery},
    {"single-step", check_single_step},
    {"registers", check_registers},
    {"vector-state", check_vector_state},
    {"msrs", check_msrs},
    {"control-registers", check_control_registers},
    {"undefined", check_undefined},
    {"ports", check_ports},
    {"no-ram", check_no_ram},
    {"syscall", check_syscall},
    {"tables", check_tables},
    {"tables-mix", check_tables_mix},
};

static bool same(const char *a, const char *b)
{
    while (*a && *a == *b) {
        a++;
        b++;
    }
    return *a == *b;
}

void guest_main(void)
{
    char only[32] = "";
    unsigned run = 0, skipped = 0;

    arg_word("only", only, sizeof(only));
    permissions_every = (unsigned)arg_number("every", permissions_every);
    tables_seed = arg_number("seed", tables_seed);
    tables_rounds = arg_number("rounds", tables_rounds);
    tables_speculation = arg_number("speculation", tables_speculation);
    args_done();
    if (permissions_every == 0)
        fail("every must be at least 1\n");
    machine_init();
    for (unsigned i = 0; i < sizeof(groups) / sizeof(groups[0]); i++) {
        if (only[0] && !same(only, groups[i].name))
            continue;
        uint64_t cases = groups[i].run();
        run++;
        skipped += cases == 0;
        if (cases == 0)
            print("check %s skipped: this processor cannot do it\n", groups[i].name);
        else
            print("check %s ok cases=%u\n", groups[i].name, cases);
    }
    if (run == 0)
        fail("no group is called %s\n", only);
    print("checks: %u groups, %u skipped\n", (uint64_t)run, (uint64_t)skipped);
}
