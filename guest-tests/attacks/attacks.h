/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * attacks: what a guest can try against the hypervisor, its neighbours, and the truth of the
 * machine that it sees. Each case prints "attack NAME ok tries=N", or ends the guest with "FAIL
 * ..." when something showed what a real machine would not have shown. docs/security.md lists them.
 *
 * Arguments: only=NAME runs one case, from=NAME those from this one on; seed=N (1) of what is
 * random, which is printed; rounds=N (1) multiplies random work; end=NAME ends the machine in one
 * of the ways of ends.c instead.
 *
 * The catching of exceptions is that of the checks.
 */
#ifndef GUEST_ATTACKS_H
#define GUEST_ATTACKS_H

#include "guest-tests/checks/checks.h"

/* Exceptions beside those of checks.h */
#define VECTOR_DE 0
#define VECTOR_NP 11

#define VECTOR_INTERRUPT 31 /* the last for which there is a gate */

/* The local APIC's page, while it is no x2APIC: SDM 3A 11.4.1, and 11.6.1 for the ICR */
#define APIC          0xfee00000ull
#define APIC_EOI      0xb0u
#define APIC_SVR      0xf0u
#define APIC_ICR      0x300u
#define APIC_ICR_HIGH 0x310u
#define SVR_ENABLED   0x1ffu
#define SVR_DISABLED  0xffu
#define ICR_SELF      (1u << 18 | 1u << 14) /* shorthand "self", level "assert" */

static inline void apic_write(unsigned offset, uint32_t value)
{
    *(volatile uint32_t *)(APIC + offset) = value;
}

#define ERROR_P    1u
#define ERROR_W    2u
#define ERROR_RSVD 8u

/* The victim's every word has this in its upper 16 bits; no attacker may ever read it (victim.c).
 */
#define VICTIM_MARK       0x51c7ull
#define VICTIM_MARK_SHIFT 48

extern uint64_t attack_seed;   /* never 0 */
extern uint64_t attack_rounds; /* of random work, at least 1 */

/* A state for random_next, of its own for each case. */
uint64_t attack_random(uint64_t salt);

/* Fails if `word`, read at `at`, is the victim's. */
void must_not_be_victims(uint64_t word, uint64_t at);

/* A root whose entry 0 is the one-to-one map, loaded for as long as a case needs it. */
uint64_t attack_space(void);

/* The width of physical addresses, CPUID leaf 0x80000008. */
unsigned physical_bits(void);

/* --- the cases: each returns its number of tries, 0 when the processor cannot do it ----------- */

uint64_t attack_msrs(void);
uint64_t attack_ports(void);
uint64_t attack_cpuid(void);
uint64_t attack_undefined(void);
uint64_t attack_hypercalls(void);

uint64_t attack_windows(void);
uint64_t attack_beyond(void);
uint64_t attack_recursive(void);
uint64_t attack_all_levels(void);
uint64_t attack_storm(void);
uint64_t attack_pool(void);

uint64_t attack_delivery(void);
uint64_t attack_live_delivery(void);
uint64_t attack_self_modifying(void);
uint64_t attack_decoder(void);
uint64_t attack_decoder_no_ram(void);

uint64_t attack_virtio(void);
uint64_t attack_apic(void);
uint64_t attack_ioapic(void);

uint64_t attack_racing_tables(void);
uint64_t attack_racing_code(void);

/* ends.c: end the machine in the way that is called `how`. */
__attribute__((noreturn)) void attack_end(const char *how);

#endif
