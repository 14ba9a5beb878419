/* SPDX-License-Identifier: BSD-2-Clause */
/* Segments and exceptions of the fuzz guest, and code that may fault (fuzz.h). Every exception has
 * a stack of its own, so that random code may have any RSP. */
#include "guest-tests/fuzz/fuzz.h"
#include "guest-tests/lib/segments.h"
#include "guest-tests/lib/try.h"

#define GATE_IST1   (1ull << 32)
#define CR4_TSD     (1ull << 2) /* RDTSC faults at CPL 3 */
#define VECTORS     32u
#define STACK_BYTES 16384u

/* As world_enter takes it apart. */
struct frame {
    uint64_t rip, cs, rflags, rsp, ss;
    struct registers registers;
};

struct outcome outcome = {.vector = NO_TRAP};
void world_enter(const struct frame *frame);

static uint64_t gdt[7] = {0, DESCRIPTOR_CODE64, DESCRIPTOR_DATA, DESCRIPTOR_USER_DATA,
                          DESCRIPTOR_USER_CODE64};
static struct tss tss = {.io_map = sizeof(tss)};
static uint8_t stack[STACK_BYTES] __attribute__((aligned(16)));
static struct {
    unsigned limit;
    may_run *allows; /* NULL: nothing is being stepped */
} stepping;

static void resume(struct trap *trap)
{
    trap->rip = (uint64_t)try_resume;
    trap->rsp = try_rsp;
    trap->cs = SELECTOR_CODE;
    trap->ss = SELECTOR_DATA;
    trap->rflags = 2;
}

/* Between two instructions of random code: whether it goes on. */
static bool goes_on(struct trap *trap)
{
    bool user = (trap->cs & 3) == 3;

    outcome.steps++;
    return outcome.steps < stepping.limit && stepping.allows(trap->rip, user);
}

static bool on_trap(struct trap *trap)
{
    if (trap->vector == VECTOR_NMI) /* a local APIC's, by a random write to it */
        return true;
    if (!try_rsp)
        return false;
    if (trap->vector == VECTOR_DB && stepping.allows && goes_on(trap))
        return true;
    outcome.vector = trap->vector;
    outcome.error_code = trap->error_code;
    outcome.rip = trap->rip;
    outcome.cr2 = read_cr2();
    memcpy(&outcome.after, trap, sizeof(outcome.after)); /* which it begins with */
    resume(trap);
    return true;
}

static void load_segments(void)
{
    uint64_t base = (uint64_t)&tss;

    gdt[5] =
        DESCRIPTOR_TSS | (sizeof(tss) - 1) | (base & 0xffffff) << 16 | (base >> 24 & 0xff) << 56;
    gdt[6] = base >> 32;
    tss.rsp[0] = tss.ist[0] = (uint64_t)stack + STACK_BYTES;
    struct table_register gdtr = {sizeof(gdt) - 1, (uint64_t)gdt};
    __asm__ volatile("lgdt %0" : : "m"(gdtr));
    __asm__ volatile("ltr %w0" : : "r"(SELECTOR_TSS));
}

void world_init(void)
{
    struct table_register idtr;
    uint64_t cr4;

    __asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
    __asm__ volatile("mov %0, %%cr4" : : "r"(cr4 | CR4_TSD));

    load_segments();
    __asm__ volatile("sidt %0" : "=m"(idtr));
    for (unsigned v = 0; v < VECTORS; v++)
        word_at(idtr.base)[2 * v] |= GATE_IST1;
    trap_set_handler(on_trap);
}

void run_at(uint64_t rip, uint64_t rsp, bool user, const struct registers *registers,
            unsigned limit, may_run *allows)
{
    struct frame frame = {
        .rip = rip,
        .cs = user ? SELECTOR_USER_CODE : SELECTOR_CODE,
        .rflags = 2 | RFLAGS_TF,
        .rsp = rsp,
        .ss = user ? SELECTOR_USER_DATA : SELECTOR_DATA,
        .registers = *registers,
    };

    outcome = (struct outcome){.vector = NO_TRAP};
    if (!allows(rip, user))
        return;
    stepping.limit = limit;
    stepping.allows = allows;
    world_enter(&frame);
    stepping.allows = NULL;
}
