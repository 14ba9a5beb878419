/* SPDX-License-Identifier: BSD-2-Clause */
/* The model processor (processor.c), for the machine that it stands in. */
#ifndef TESTS_ORACLE_PROCESSOR_H
#define TESTS_ORACLE_PROCESSOR_H

#include "tests/oracle/oracle.h"

struct place { /* what EPT says of a guest-physical address */
    uint64_t *word;
    uint64_t host;
    bool mapped, writable;
};

enum try_kind { TRY_OK, TRY_FAULT, TRY_VIOLATION };

struct attempt {
    enum try_kind kind;
    uint32_t error_code;
    uint64_t host;       /* OK */
    struct cpt_access a; /* VIOLATION */
};

/* Of guest-physical addresses that are RAM: the offset in machine.ram. And back from a host's. */
bool machine_ram_offset(uint64_t gpa, uint64_t *offset);
uint64_t machine_gpa_of_host(uint64_t host);

struct place processor_ept(const struct machine *m, const struct processor *cpu, uint64_t gpa);

/*
 * One access, up to what it gives: a translation that is cached or made, a page fault, or an EPT
 * violation. Sets A and D, as the walk does.
 */
struct attempt processor_try(struct machine *m, struct processor *cpu, uint64_t gva,
                             unsigned access);

/* An EPT violation at `gpa`, which makes the processor forget the address (SDM 3C 28.4.3.1). */
struct attempt processor_violation(struct processor *cpu, uint64_t gva, uint64_t gpa,
                                   unsigned access, bool final);

/* `invlpg`: of both modes, and the paging-structure caches of all addresses (SDM 3A 4.10.4.1). */
void processor_forget_address(struct processor *cpu, uint64_t gva, bool invlpg);
void processor_forget_pcid(struct processor *cpu, unsigned pcid);
void processor_forget_all(struct processor *cpu);

#endif
