/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Another policy while the guest runs.
 *
 * A policy that moves tables itself goes on from what it finds. One that keeps their handling would
 * keep what its predecessor decided, too: for such a one every root falls to NESTED first, with
 * which all nodes and all tables are forgotten, no frame is write-protected, and tables begin anew
 * as it says when a root rises.
 */
#include "hv/paging/internal.h"

static bool same_rule(const struct policy_settings *a, const struct policy_settings *b)
{
    if (a->kind != b->kind)
        return false;
    return a->kind != POLICY_STATIC ||
           (a->pinned_shadow == b->pinned_shadow && a->switch_level == b->switch_level);
}

static void forget_everything(struct cpt *c)
{
    for (uint32_t i = 0; i < c->roots_used; i++) {
        if (c->root[i].gfn != CPT_FREE_GFN)
            root_set_state(c, &c->root[i], CPT_NESTED);
    }
}

/* The others are asked when they have run. */
static void ask_for_running_roots(struct cpt *c)
{
    for (uint32_t i = 0; i < c->roots_used; i++) {
        struct root *r = &c->root[i];
        if (r->gfn == CPT_FREE_GFN)
            continue;
        r->backoff = 1; /* what it earned under another rule */
        if (root_runs(c, r))
            root_ask_policy(c, r, r->ran, r->loads);
    }
}

static void begin_waits_anew(struct cpt *c)
{
    for (uint32_t i = 0; i < c->table_count; i++)
        c->table[i].wanted_unchanged = c->settings.policy.promote_unchanged;
}

void cpt_set_policy(struct cpt *c, const struct policy_settings *policy)
{
    const struct policy_settings before = c->settings.policy;

    c->settings.policy = *policy;
    c->ask_writes = policy_first_write(policy);
    if (policy->promote_unchanged != before.promote_unchanged)
        begin_waits_anew(c);
    resync_all(c); /* not each policy lets tables go out of sync */
    if (!same_rule(&before, policy)) {
        if (policy_keeps_handling(policy))
            forget_everything(c);
        ask_for_running_roots(c);
    }
    c->head.generation++; /* a load of a root that is not asked for here must come to its policy */
    look_soon(c);
    if (RULE(CHANGE_INVALIDATES)) /* the guest may write now what nodes stood for */
        settle(c);
}
