/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the hypervisor's page tables forbid, tried: each access must give a page fault with the
 * right error code at the right address, and beside it one that is allowed must pass. A write puts
 * back what it has read, so that one which passes ruins nothing.
 */
#include <string.h>

#include "arch/x86_64/cet.h"
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/memory.h"
#include "arch/x86_64/processor.h"
#include "arch/x86_64/selftest.h"
#include "arch/x86_64/trap.h"
#include "drivers/apic.h"
#include "hv/arch.h"
#include "hv/console.h"
#include "hv/memory.h"

#define CODE_RET   0xc3u
#define LOCAL_APIC 0xfee00000ull

/* linker.ld */
extern char text_start[], text_end[], rodata_start[], rodata_end[], data_start[], data_end[];

enum access { READ, WRITE, EXECUTE, RETURN };

static const char *const access_names[] = {
    [READ] = "read of", [WRITE] = "write to", [EXECUTE] = "execution of", [RETURN] = "return to"};

/* What this processor has tried. */
struct trespass {
    unsigned tried;
    bool all_well;
    bool in_user_page; /* which cannot be read either */
};

/* --- one access ------------------------------------------------------------------------------- */

#define PREPARE                                                                                    \
    "leaq 1f(%%rip), %%rax\n\t"                                                                    \
    "movq %%rax, %[rip]\n\t"                                                                       \
    "movq %%rsp, %[rsp]\n\t"
#define OPERANDS                                                                                   \
    : [rip] "=m"(e->rip), [rsp] "=m"(e->rsp)                                                       \
    : [at] "r"(at), [value] "q"(value)                                                                                 \
    : "rax", "cc", "memory"

/* Come back whatever happens. `value`: what is written. */
static void attempt(enum access how, uint64_t at, uint8_t value, struct trap_expected *e)
{
    *e = (struct trap_expected){.shadow = cet_pointer()};
    __atomic_store_n(&this_processor()->expected, e, __ATOMIC_SEQ_CST);
    switch (how) {
    case READ:
        __asm__ volatile(PREPARE "movb (%[at]), %%al\n1:" OPERANDS);
        break;
    case WRITE:
        __asm__ volatile(PREPARE "movb %[value], (%[at])\n1:" OPERANDS);
        break;
    case EXECUTE:
        __asm__ volatile(PREPARE "call *%[at]\n1:" OPERANDS);
        break;
    case RETURN: /* as one whose return address was overwritten */
        __asm__ volatile(PREPARE "call 2f\n\tjmp 1f\n2:\tmovq %[at], (%%rsp)\n\tret\n1:" OPERANDS);
        break;
    }
    __atomic_store_n(&this_processor()->expected, NULL, __ATOMIC_SEQ_CST);
}

static void fail(struct trespass *t, const char *what, enum access how, uint64_t at,
                 const struct trap_expected *e)
{
    t->all_well = false;
    if (!e->came) {
        log_line("self test: processor %u: %s %s at 0x%llx passes", processor_index(),
                 access_names[how], what, (unsigned long long)at);
        return;
    }
    log_line("self test: processor %u: %s %s at 0x%llx gives exception %llu, error code 0x%llx, "
             "address 0x%llx",
             processor_index(), access_names[how], what, (unsigned long long)at,
             (unsigned long long)e->vector, (unsigned long long)e->error_code,
             (unsigned long long)e->address);
}

/* `present`: whether the page is mapped; the rest of the error code follows, SDM 3A 4.7. */
static void must_fault(struct trespass *t, const char *what, enum access how, uint64_t at,
                       bool present)
{
    uint64_t code = (present ? PF_P : 0) | (how == WRITE ? PF_W : 0) | (how == EXECUTE ? PF_I : 0);
    struct trap_expected e;

    bool keeps = how == WRITE && present && !t->in_user_page;
    attempt(how, at, keeps ? *(const volatile uint8_t *)at : 0, &e);
    t->tried++;
    if (!e.came || e.vector != VECTOR_PF || e.error_code != code || e.address != at)
        fail(t, what, how, at, &e);
}

/* A write only to a page that is this test's. */
static void must_pass(struct trespass *t, const char *what, enum access how, uint64_t at)
{
    struct trap_expected e;

    attempt(how, at, CODE_RET, &e);
    if (e.came)
        fail(t, what, how, at, &e);
}

/* Neither by reading, nor writing, nor fetching. */
static void must_be_unmapped(struct trespass *t, const char *what, uint64_t at)
{
    for (enum access how = READ; how <= EXECUTE; how++)
        must_fault(t, what, how, at, false);
}

/* --- what there is ---------------------------------------------------------------------------- */

static void try_section(struct trespass *t, const char *what, uint64_t at, bool writable,
                        bool executable)
{
    must_pass(t, what, READ, at);
    if (!writable)
        must_fault(t, what, WRITE, at, true);
    if (!executable)
        must_fault(t, what, EXECUTE, at, true);
}

/* The first and the last byte of each section. */
static void try_image(struct trespass *t)
{
    try_section(t, "text", (uint64_t)text_start, false, true);
    try_section(t, "text", (uint64_t)text_end - 1, false, true);
    try_section(t, "constants", (uint64_t)rodata_start, false, false);
    try_section(t, "constants", (uint64_t)rodata_end - 1, false, false);
    try_section(t, "data", (uint64_t)data_start, true, false);
    try_section(t, "data", (uint64_t)data_end - 1, true, false);
    must_be_unmapped(t, "what is below the image", (uint64_t)text_start - 1);
    must_be_unmapped(t, "what is above the image", (uint64_t)data_end);
}

/* The first processor to look sees all stacks that there are; each tries all. */
static void try_stacks(struct trespass *t)
{
    uint64_t bottom, top;

    for (unsigned n = 0; memory_stack(n, &bottom, &top); n++) {
        must_pass(t, "stack", READ, bottom);
        must_fault(t, "stack", EXECUTE, bottom, true);
        must_be_unmapped(t, "guard page", bottom - 1);
        must_be_unmapped(t, "guard page", bottom - PAGE_SIZE);
    }
}

static void try_direct_map(struct trespass *t)
{
    uint64_t size;
    hpa_t image = memory_image(&size);
    uint8_t *page = host_pages_alloc(1);

    ASSERT(page != NULL);
    page[0] = CODE_RET;
    must_pass(t, "direct map", WRITE, (uint64_t)page);
    must_fault(t, "direct map", EXECUTE, (uint64_t)page, true);
    host_pages_free(page, 1);
    for (uint64_t at = 0; at < size; at += PAGE_SIZE)
        must_fault(t, "the image's alias", WRITE, (uint64_t)host_ptr(hpa_add(image, at)), false);
    must_be_unmapped(t, "the local APIC's alias", (uint64_t)host_ptr(hpa(LOCAL_APIC)));
}

/* What the firmware keeps, it may execute in SMM or at its next start: it is not ours to write. */
static void try_firmware(struct trespass *t)
{
    uint64_t count;
    const struct handoff_range *ranges = memory_ranges(&count);

    for (uint64_t i = 0; i < count; i++) {
        if (ranges[i].type != HANDOFF_FIRMWARE || !memory_is_ram(ranges[i].base, PAGE_SIZE))
            continue;
        uint64_t at = (uint64_t)host_ptr(hpa(ranges[i].base));
        must_fault(t, "firmware's memory", WRITE, at, true);
        must_fault(t, "firmware's memory", EXECUTE, at, true);
    }
}

/* --- SMEP and SMAP, SDM 3A 4.6 ---------------------------------------------------------------- */

/* Nothing is mapped in this part of the address space: one entry of the root table. */
#define USER_ENTRY  1u
#define USER_AT     (USER_ENTRY * GIB(512))
#define USER_LEVELS 3     /* of tables below the root */
#define PTE_USER    0x67u /* P, W, U, A, D: at every level */

/* A user page needs tables of its own: the hypervisor's root with one entry more. */
static void try_user_page(struct trespass *t)
{
    uint64_t *root = host_pages_alloc(1), *table[USER_LEVELS];
    uint8_t *page = host_pages_alloc(1);
    uint64_t cr3 = read_cr3(), on = memory_protections();

    ASSERT(root && page);
    ASSERT((read_cr4() & on) == on);
    memcpy(root, host_ptr(hpa(cr3)), PAGE_SIZE);
    uint64_t *entry = &root[USER_ENTRY];
    ASSERT(*entry == 0);
    for (unsigned i = 0; i < USER_LEVELS; i++) {
        table[i] = host_pages_alloc(1);
        ASSERT(table[i] != NULL);
        *entry = host_hpa(table[i]).v | PTE_USER;
        entry = &table[i][0];
    }
    *entry = host_hpa(page).v | PTE_USER;
    page[0] = CODE_RET;
    write_cr3(host_hpa(root).v);
    t->in_user_page = true;
    if (on & CR4_SMAP) {
        must_fault(t, "user page", READ, USER_AT, true);
        must_fault(t, "user page", WRITE, USER_AT, true);
        __asm__ volatile("stac" : : : "memory", "cc");
        must_pass(t, "user page with AC set", WRITE, USER_AT);
        __asm__ volatile("clac" : : : "memory", "cc");
    } else {
        must_pass(t, "user page", WRITE, USER_AT);
    }
    if (on & CR4_SMEP)
        must_fault(t, "user page", EXECUTE, USER_AT, true);
    t->in_user_page = false;
    write_cr3(cr3);
    for (unsigned i = 0; i < USER_LEVELS; i++)
        host_pages_free(table[i], 1);
    host_pages_free(page, 1);
    host_pages_free(root, 1);
}

/* --- shadow stacks, SDM 1 17.2 -----------------------------------------------------------------
 */

#define CP_NEAR_RETURN 1u /* error code, SDM 3A 6.15, #CP */

static void landing(void)
{
}

/* An interrupt stack's shadow stack is busy while it is used, and must be free again afterwards:
 * the second NMI would else be a double fault. */
static void try_interrupt_stack(void)
{
    for (unsigned n = 0; n < 2; n++)
        apic_send_nmi(this_processor()->apic_id);
}

static void try_shadow_stack(struct trespass *t)
{
    uint64_t at = align_down(this_processor()->shadow_token, PAGE_SIZE);
    struct trap_expected e;

    if (at == 0)
        return;
    must_pass(t, "shadow stack", READ, at);
    must_fault(t, "shadow stack", WRITE, at, true);
    must_fault(t, "shadow stack", EXECUTE, at, true);
    must_be_unmapped(t, "guard page of the shadow stack", at - 1);
    try_interrupt_stack();
    attempt(RETURN, (uint64_t)landing, 0, &e);
    t->tried++;
    if (!e.came || e.vector != VECTOR_CP || e.error_code != CP_NEAR_RETURN)
        fail(t, "another place", RETURN, (uint64_t)landing, &e);
}

bool selftest_protections(void)
{
    struct trespass t = {.all_well = true};

    must_be_unmapped(&t, "address 0", 0);
    try_image(&t);
    try_stacks(&t);
    try_direct_map(&t);
    try_firmware(&t);
    try_user_page(&t);
    try_shadow_stack(&t);
    if (t.all_well)
        log_line("self test: processor %u has tried %u accesses that are forbidden, and each has "
                 "faulted where it must",
                 processor_index(), t.tried);
    return t.all_well;
}
