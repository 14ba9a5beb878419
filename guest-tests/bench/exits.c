/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * exits: round trips to the hypervisor, one record each.
 *
 * Arguments: ops=N, round trips a record (10000). An operation is one round trip; the loop around
 * it and what sets its registers up cost about 1.3 instructions of the ticks.
 *
 *   exits.vmcall         VMCALL of TF_CALL_NULL; of a number that KVM does not know; else left out
 *   exits.cpuid          CPUID leaf 0
 *   exits.port           IN AL from the UART's scratch register
 *   exits.msr            RDMSR of IA32_BIOS_SIGN_ID
 *   exits.ept_violation  MOV of 4 bytes from 0xe0000000, where there is neither RAM nor device
 *   exits.cr3_load       MOV to CR3 of the value that it holds
 */
#include "guest-tests/lib/lib.h"

#define NO_RAM       0xe0000000ull
#define UART_SCRATCH 0x3ff
#define UNROLL       8u
#define WARM_UP      1024u /* round trips: an adaptive hypervisor has noticed by then */

static void measure(const char *name, enum tf_phase phase, uint64_t ops, void (*run)(uint64_t))
{
    bench_begin(name, phase);
    run(ops);
    bench_end_touches(ops, 0);
}

/* `body`, UNROLL times in a loop that counts in R15; the rest are the registers that it loses. */
#define LOOP(body, inputs, ...)                                                                    \
    __asm__ volatile("mov %[n], %%r15\n"                                                           \
                     "1:\n\t.rept 8\n\t" body "\n\t.endr\n\tdec %%r15\n\tjnz 1b"                   \
                     :                                                                             \
                     : [n] "r"(ops / UNROLL) inputs                                                \
                     : "memory", "cc", "r15", ##__VA_ARGS__)

#define AND_INPUT(name, value) , [name] "r"(value)

static void run_vmcall(uint64_t ops)
{
    LOOP("xor %%eax, %%eax\n\tvmcall", , "rax");
}

static void run_cpuid(uint64_t ops)
{
    LOOP("xor %%eax, %%eax\n\tcpuid", , "rax", "rbx", "rcx", "rdx");
}

static void run_port(uint64_t ops)
{
    LOOP("mov $0x3ff, %%edx\n\tin %%dx, %%al", , "rax", "rdx");
}

static void run_msr(uint64_t ops)
{
    LOOP("mov $0x8b, %%ecx\n\trdmsr", , "rax", "rcx", "rdx");
}

static void run_ept_violation(uint64_t ops)
{
    LOOP("mov (%[at]), %%eax", AND_INPUT(at, NO_RAM), "rax");
}

static void run_cr3_load(uint64_t ops)
{
    LOOP("mov %[cr3], %%cr3", AND_INPUT(cr3, read_cr3()));
}

static void check_results(void)
{
    uint32_t value;

    CHECK_EQ(cpuid(0, 0).eax > 0, true, "CPUID leaf 0");
    if (is_native()) /* the machine may have anything there */
        return;
    outb(UART_SCRATCH, 0x5a);
    CHECK_EQ(inb(UART_SCRATCH), 0x5a, "UART scratch register");
    __asm__ volatile("mov (%1), %0" : "=r"(value) : "r"(NO_RAM));
    CHECK_EQ(value, 0xffffffff, "memory where nothing is");
}

void guest_main(void)
{
    static const struct {
        const char *name;
        void (*run)(uint64_t ops);
        bool needs_hypervisor;
    } trips[] = {
        {"exits.vmcall", run_vmcall, true},
        {"exits.cpuid", run_cpuid, false},
        {"exits.port", run_port, false},
        {"exits.msr", run_msr, false},
        {"exits.ept_violation", run_ept_violation, false},
        {"exits.cr3_load", run_cr3_load, false},
    };
    uint64_t ops = arg_number("ops", 10000) / UNROLL * UNROLL;

    args_done();
    if (ops == 0)
        fail("ops must be at least %u\n", (uint64_t)UNROLL);
    check_results();
    for (unsigned i = 0; i < sizeof(trips) / sizeof(trips[0]); i++) {
        if (trips[i].needs_hypervisor && (is_native() || (!on_twofold() && !on_kvm())))
            continue;
        measure(trips[i].name, TF_PHASE_WARMUP, WARM_UP, trips[i].run);
        measure(trips[i].name, TF_PHASE_STEADY, ops, trips[i].run);
    }
    check_results();
}
