/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Attacks that a real machine would not survive: each must end this VM, with its reason, and
 * nothing else. tests/boot/attacks.py knows which end belongs to which.
 */
#include "guest-tests/attacks/attacks.h"
#include "guest-tests/lib/segments.h"

#define NODE_WINDOW_40                                                                             \
    0x4000000000ull /* of physical addresses of 40 bits, hv/paging/compound.h                      \
                     */
#define IST_NO_RAM 7u

static void undefined(void)
{
    __asm__ volatile("ud2");
}

/* An exception with an IDT that is empty. */
static void end_triple(void)
{
    struct table_register none = {0, 0};

    __asm__ volatile("lidt %0; ud2" : : "m"(none));
}

/* #DF that cannot be delivered: its gate, #UD's and #NP's are not present. */
static void end_double(void)
{
    idt_set(VECTOR_UD, false, 0);
    idt_set(VECTOR_NP, false, 0);
    idt_set(VECTOR_DF, false, 0);
    undefined();
}

/* All tables gone: CR3 leads to where no RAM is, or to the hypervisor's nodes. */
static void end_cr3_no_ram(void)
{
    write_cr3(NO_RAM);
}

static void end_cr3_window(void)
{
    write_cr3(NODE_WINDOW_40 + guest_info->ram[0].size);
}

static void end_fetch(void)
{
    ((void (*)(void))NO_RAM)();
}

/* The gate of #UD is read where no RAM is: all ones is no gate, and so are #GP's and #DF's. */
static void end_idt_no_ram(void)
{
    struct table_register nowhere = {32 * 16 - 1, NO_RAM};

    __asm__ volatile("lidt %0; ud2" : : "m"(nowhere));
}

/* The frame of an exception goes to where no RAM is. */
static void end_stack_no_ram(void)
{
    tss_set_stack(IST_NO_RAM, NO_RAM + PAGE);
    idt_set(VECTOR_UD, true, IST_NO_RAM);
    undefined();
}

/* An access to a device by an instruction that is not emulated. */
static void end_device_sse(void)
{
    write_cr0((read_cr0() & ~(1ull << 2)) | 2);
    write_cr4(read_cr4() | CR4_OSFXSR);
    __asm__ volatile("movups (%0), %%xmm0" : : "r"(APIC) : "memory");
}

/* A flood of exits that never ends, and one without exits: the time limit is the end. */
static void end_flood(void)
{
    for (;;)
        __asm__ volatile("wbinvd" : : : "memory");
}

/* #DB on a stack whose first word is watched for writes: its delivery is the next one's cause, and
 * so for ever, inside the processor (SDM 3C 25.3). */
#define DR7_WRITE_0 (1ull << 1 | 1ull << 16 | 3ull << 18) /* G0; R/W0: writes; LEN0: 4 bytes */

static void end_debug_loop(void)
{
    static uint8_t stack[4096] __attribute__((aligned(16)));
    uint64_t top = (uint64_t)stack + sizeof(stack);

    tss_set_stack(IST_NO_RAM, top);
    idt_set(VECTOR_DB, true, IST_NO_RAM);
    __asm__ volatile("mov %0, %%dr0; mov %1, %%dr7" : : "r"(top - 8), "r"(DR7_WRITE_0));
    *word_at(top - 8) = 0;
}

/* The processor's only one halts with interrupts off. */
static void end_halt(void)
{
    for (;;)
        __asm__ volatile("cli; hlt");
}

/* INIT to oneself. */
static void end_init(void)
{
    *(volatile uint32_t *)(APIC + 0x310) = 0;
    *(volatile uint32_t *)(APIC + 0x300) = 5u << 8 | 1u << 14;
}

static const struct {
    const char *name;
    void (*end)(void);
} ends[] = {
    {"triple", end_triple},
    {"double", end_double},
    {"cr3-no-ram", end_cr3_no_ram},
    {"cr3-window", end_cr3_window},
    {"fetch", end_fetch},
    {"idt-no-ram", end_idt_no_ram},
    {"stack-no-ram", end_stack_no_ram},
    {"device-sse", end_device_sse},
    {"flood", end_flood},
    {"debug-loop", end_debug_loop},
    {"halt", end_halt},
    {"init", end_init},
};

static bool same(const char *a, const char *b)
{
    while (*a && *a == *b) {
        a++;
        b++;
    }
    return *a == *b;
}

void attack_end(const char *how)
{
    for (unsigned i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        if (!same(how, ends[i].name))
            continue;
        print("ending by %s\n", how);
        ends[i].end();
        fail("it goes on after %s\n", how);
    }
    fail("there is no end called %s\n", how);
}
