/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the hypervisor answers in place of the machine: every MSR, every port, every CPUID leaf, the
 * instructions of VMX, SVM, SGX and others that a guest has not, and hypercalls with any arguments.
 * What there is (docs/guests.md) is listed here once more; all else must be as on a machine that
 * does not have it.
 */
#include "guest-tests/attacks/attacks.h"

/* --- MSRs ------------------------------------------------------------------------------------- */

#define MSR_TSC_AUX   0xc0000103u
#define MSR_APIC_BASE 0x1bu
#define MSR_XSS       0xda0u
#define MSR_RANGE     0x2000u
#define RANDOM_MSRS   1000u

/* [first, last] that can be read, and may be written */
static const struct msr_range {
    uint32_t first, last;
} msr_ranges[] = {
    {0x10, 0x10},   /* time-stamp counter */
    {0x1b, 0x1b},   /* IA32_APIC_BASE */
    {0x3b, 0x3b},   /* IA32_TSC_ADJUST */
    {0x8b, 0x8b},   /* microcode's version */
    {0xfe, 0xfe},   /* IA32_MTRRCAP */
    {0x174, 0x176}, /* SYSENTER */
    {0x179, 0x17a}, /* IA32_MCG_CAP, IA32_MCG_STATUS */
    {0x1a0, 0x1a0}, /* IA32_MISC_ENABLE */
    {0x1d9, 0x1d9}, /* IA32_DEBUGCTL */
    {0x200, 0x20f}, /* variable MTRRs */
    {0x250, 0x250}, /* fixed MTRRs */
    {0x258, 0x259},
    {0x268, 0x26f},
    {0x277, 0x277},        /* IA32_PAT */
    {0x2ff, 0x2ff},        /* IA32_MTRR_DEF_TYPE */
    {0x6e0, 0x6e0},        /* IA32_TSC_DEADLINE */
    {MSR_EFER, MSR_FMASK}, /* EFER, SYSCALL */
    {MSR_FS_BASE, MSR_KERNEL_GS_BASE},
    {MSR_TSC_AUX, MSR_TSC_AUX},
};

static uint32_t msr_number;
static uint64_t msr_value;

static void do_rdmsr(void)
{
    msr_value = rdmsr(msr_number);
}

static void do_wrmsr(void)
{
    wrmsr(msr_number, msr_value);
}

static bool msr_is_there(uint32_t msr)
{
    if (msr == MSR_XSS) /* with XSAVES only */
        return cpuid(0xd, 1).eax >> 3 & 1;
    if (msr == MSR_TSC_AUX)
        return cpuid(0x80000001, 0).edx >> 27 & 1;
    for (unsigned i = 0; i < sizeof(msr_ranges) / sizeof(msr_ranges[0]); i++) {
        if (msr >= msr_ranges[i].first && msr <= msr_ranges[i].last)
            return true;
    }
    return false;
}

static void must_be_gp(const char *what, uint64_t msr)
{
    CHECK_EQ(caught.vector, VECTOR_GP, "%s of MSR 0x%x", what, msr);
    CHECK_EQ(caught.error_code, 0, "%s of MSR 0x%x: error code", what, msr);
}

/* An MSR that is there takes a value, or refuses it by #GP; then it gets its own back. */
static void write_anything(uint32_t msr, uint64_t value)
{
    uint64_t old = rdmsr(msr);

    msr_value = value;
    if (!try_run(do_wrmsr))
        must_be_gp("WRMSR", msr);
    msr_value = old;
    if (!try_run(do_wrmsr))
        must_be_gp("WRMSR of what was read", msr);
}

static void try_msr(uint32_t msr, uint64_t value)
{
    msr_number = msr;
    if (!msr_is_there(msr)) {
        try_run(do_rdmsr);
        must_be_gp("RDMSR", msr);
        msr_value = value;
        try_run(do_wrmsr);
        must_be_gp("WRMSR", msr);
        return;
    }
    if (!try_run(do_rdmsr))
        fail("RDMSR of 0x%x gave exception %u\n", (uint64_t)msr, caught.vector);
    if (msr != MSR_EFER && msr != MSR_APIC_BASE) /* those would pull the ground away */
        write_anything(msr, value);
}

uint64_t attack_msrs(void)
{
    uint64_t random = attack_random(1), tries = 0;

    for (uint32_t i = 0; i < MSR_RANGE; i++) {
        try_msr(i, i % 2 ? random_next(&random) : 0);
        try_msr(0xc0000000u + i, i % 2 ? random_next(&random) : 0);
        tries += 2;
    }
    for (uint32_t i = 0; i < 0x100; i++) { /* where other hypervisors have theirs */
        try_msr(0x40000000u + i, 0);
        try_msr(0x4b564d00u + i, 0);
        tries += 2;
    }
    for (uint64_t i = 0; i < RANDOM_MSRS * attack_rounds; i++) {
        try_msr((uint32_t)random_next(&random), random_next(&random));
        tries++;
    }
    return tries;
}

/* --- ports ------------------------------------------------------------------------------------ */

#define UART       0x3f8u
#define UART_IER   (UART + 1)
#define UART_LCR   (UART + 3)
#define UART_MCR   (UART + 4)
#define LCR_8N1    3u
#define PM1_ENABLE 0x602u
#define PORTS      0x10000u

/* Every port up to here, where a PC's devices are; above, with rounds=1, one of so many. */
#define PORTS_CLOSE 0x1000u
#define PORTS_STEP  7u

/* [first, last] that a device answers; the others read as all ones. */
static const struct {
    uint32_t first, last;
} port_ranges[] = {
    {0x20, 0x21}, {0x40, 0x43},  {0x61, 0x61},   {0x70, 0x71},   {0x92, 0x92},
    {0xa0, 0xa1}, {UART, 0x3ff}, {0x4d0, 0x4d1}, {0x600, 0x60b}, {0xcf8, 0xcff},
};

/* What a write may end the machine by (docs/guests.md), or lose the output. */
static const struct {
    uint32_t first, last;
} port_ends[] = {
    {0x64, 0x64}, {0x92, 0x92}, {0xf4, 0xf7}, {UART, UART}, {0x604, 0x605}, {0xcf9, 0xcf9},
};

static bool port_answers(uint32_t port)
{
    for (unsigned i = 0; i < sizeof(port_ranges) / sizeof(port_ranges[0]); i++) {
        if (port >= port_ranges[i].first && port <= port_ranges[i].last)
            return true;
    }
    return false;
}

static bool may_write(uint32_t port, uint32_t bytes)
{
    for (unsigned i = 0; i < sizeof(port_ends) / sizeof(port_ends[0]); i++) {
        if (port <= port_ends[i].last && port + bytes > port_ends[i].first)
            return false;
    }
    return true;
}

static uint32_t in(uint16_t port, unsigned bytes)
{
    uint32_t value = 0;

    if (bytes == 1)
        __asm__ volatile("inb %w1, %b0" : "+a"(value) : "d"(port));
    else if (bytes == 2)
        __asm__ volatile("inw %w1, %w0" : "+a"(value) : "d"(port));
    else
        __asm__ volatile("inl %w1, %0" : "+a"(value) : "d"(port));
    return value;
}

static void out(uint16_t port, unsigned bytes, uint32_t value)
{
    if (bytes == 1)
        __asm__ volatile("outb %b0, %w1" : : "a"(value), "d"(port));
    else if (bytes == 2)
        __asm__ volatile("outw %w0, %w1" : : "a"(value), "d"(port));
    else
        __asm__ volatile("outl %0, %w1" : : "a"(value), "d"(port));
}

static void check_in(uint32_t port, unsigned bytes)
{
    uint32_t value = in((uint16_t)port, bytes);

    for (uint32_t i = 0; i < bytes; i++) {
        if (!port_answers((port + i) % PORTS))
            CHECK_EQ(value >> 8 * i & 0xff, 0xff, "IN of %u bytes from port 0x%x, byte %u",
                     (uint64_t)bytes, (uint64_t)port, (uint64_t)i);
    }
}

/* After writes of anything anywhere: a UART that prints, and no interrupt that waits to come. */
static void settle_ports(void)
{
    out(UART_LCR, 1, LCR_8N1);
    out(UART_IER, 1, 0);
    out(UART_MCR, 1, 0);
    out(PM1_ENABLE, 2, 0);
    out(0x21, 1, 0xff);
    out(0xa1, 1, 0xff);
}

uint64_t attack_ports(void)
{
    static const unsigned widths[] = {1, 2, 4};
    uint64_t random = attack_random(2), tries = 0;

    for (uint32_t port = 0; port < PORTS;
         port += port < PORTS_CLOSE || attack_rounds > 1 ? 1 : PORTS_STEP) {
        unsigned bytes = widths[random_below(&random, 3)];
        check_in(port, bytes);
        if (may_write(port, bytes)) {
            out((uint16_t)port, bytes, (uint32_t)random_next(&random));
            tries++;
        }
        tries++;
        if (port_answers(port))
            settle_ports();
    }
    settle_ports();
    return tries;
}

/* --- CPUID ------------------------------------------------------------------------------------ */

#define CPUID_HIGHEST     0x16u
#define CPUID_EXT_HIGHEST 0x80000008u
#define SUBLEAVES         20u
#define RANDOM_LEAVES     1000u

/* Bits that must be clear: what a guest must not believe to have. EAX, EBX, ECX, EDX. */
static const struct {
    uint32_t leaf, subleaf, none[4];
} never[] = {
    /* ECX: DTES64, MONITOR, DS-CPL, VMX, SMX, EIST, TM2, CNXT-ID, SDBG, xTPR, PDCM, DCA;
     * EDX: MCE, MCA, DS, ACPI, TM, PBE */
    {0x1, 0, {0, 0, 0x4cdfc, 0xe0604080}},
    /* EBX: SGX, HLE, RTM, PQM, MPX, PQE, PT; ECX: WAITPKG, CET, LA57, MAWAU, MOVDIR, ENQCMD,
     * SGX_LC; EDX: all but fast short REP MOV, speculation control among them */
    {0x7, 0, {0, 0x0200d814, 0x783f00a0, ~(1u << 4)}},
    {0x5, 0, {~0u, ~0u, ~0u, ~0u}},                 /* MONITOR and MWAIT */
    {0x6, 0, {~0u, ~0u, ~0u, ~0u}},                 /* thermal and power management */
    {0xa, 0, {~0u, ~0u, ~0u, ~0u}},                 /* performance counters */
    {0xf, 0, {~0u, ~0u, ~0u, ~0u}},                 /* resource monitoring, */
    {0x10, 0, {~0u, ~0u, ~0u, ~0u}},                /* and allocation */
    {0x12, 0, {~0u, ~0u, ~0u, ~0u}},                /* SGX */
    {0x14, 0, {~0u, ~0u, ~0u, ~0u}},                /* processor trace */
    {0x80000001, 0, {0, 0, 1u << 2 | 1u << 12, 0}}, /* SVM, SKINIT */
};

static bool is_zero(struct cpuid_result r)
{
    return (r.eax | r.ebx | r.ecx | r.edx) == 0;
}

static bool leaf_is_there(uint32_t leaf)
{
    return leaf <= CPUID_HIGHEST || (leaf >= 0x80000000u && leaf <= CPUID_EXT_HIGHEST) ||
           leaf == TF_CPUID_SIGNATURE || leaf == TF_CPUID_ABI || leaf == TF_CPUID_TIMING;
}

static void try_leaf(uint32_t leaf, uint32_t subleaf)
{
    struct cpuid_result r = cpuid(leaf, subleaf);

    if (!leaf_is_there(leaf) && !is_zero(r))
        fail("CPUID leaf 0x%x, sub-leaf 0x%x, is not 0\n", (uint64_t)leaf, (uint64_t)subleaf);
    for (unsigned i = 0; i < sizeof(never) / sizeof(never[0]); i++) {
        if (never[i].leaf != leaf || never[i].subleaf != subleaf)
            continue;
        CHECK_EQ(r.eax & never[i].none[0], 0, "CPUID leaf 0x%x, EAX", (uint64_t)leaf);
        CHECK_EQ(r.ebx & never[i].none[1], 0, "CPUID leaf 0x%x, EBX", (uint64_t)leaf);
        CHECK_EQ(r.ecx & never[i].none[2], 0, "CPUID leaf 0x%x, ECX", (uint64_t)leaf);
        CHECK_EQ(r.edx & never[i].none[3], 0, "CPUID leaf 0x%x, EDX", (uint64_t)leaf);
    }
}

uint64_t attack_cpuid(void)
{
    static const uint32_t bases[] = {0,          0x20000000, TF_CPUID_SIGNATURE,
                                     0x80000000, 0x80860000, 0xc0000000};
    uint64_t random = attack_random(3), tries = 0;

    for (unsigned b = 0; b < sizeof(bases) / sizeof(bases[0]); b++) {
        for (uint32_t leaf = 0; leaf < 0x40; leaf++) {
            for (uint32_t subleaf = 0; subleaf < SUBLEAVES; subleaf++, tries++)
                try_leaf(bases[b] + leaf, subleaf);
        }
    }
    for (uint64_t i = 0; i < RANDOM_LEAVES * attack_rounds; i++, tries++)
        try_leaf((uint32_t)random_next(&random), (uint32_t)random_next(&random));
    return tries;
}

/* --- instructions that a guest has not -------------------------------------------------------- */

/* Each with its operand, if any, at [RAX]. */
static const struct {
    const char *name;
    uint8_t bytes, code[6];
} undefined[] = {
    /* VMX, SDM 3C 31 */
    {"VMLAUNCH", 3, {0x0f, 0x01, 0xc2}},
    {"VMRESUME", 3, {0x0f, 0x01, 0xc3}},
    {"VMXOFF", 3, {0x0f, 0x01, 0xc4}},
    {"VMFUNC", 3, {0x0f, 0x01, 0xd4}},
    {"VMPTRLD", 3, {0x0f, 0xc7, 0x30}},
    {"VMPTRST", 3, {0x0f, 0xc7, 0x38}},
    {"VMCLEAR", 4, {0x66, 0x0f, 0xc7, 0x30}},
    {"VMXON", 4, {0xf3, 0x0f, 0xc7, 0x30}},
    {"VMREAD [m], r", 3, {0x0f, 0x78, 0x08}},
    {"VMREAD r, r", 3, {0x0f, 0x78, 0xc8}},
    {"VMWRITE r, [m]", 3, {0x0f, 0x79, 0x08}},
    {"VMWRITE r, r", 3, {0x0f, 0x79, 0xc8}},
    {"INVEPT", 5, {0x66, 0x0f, 0x38, 0x80, 0x08}},
    {"INVVPID", 5, {0x66, 0x0f, 0x38, 0x81, 0x08}},
    /* SMX, SMM */
    {"GETSEC", 2, {0x0f, 0x37}},
    {"RSM", 2, {0x0f, 0xaa}},
    /* SGX and what came with it */
    {"ENCLV", 3, {0x0f, 0x01, 0xc0}},
    {"ENCLS", 3, {0x0f, 0x01, 0xcf}},
    {"ENCLU", 3, {0x0f, 0x01, 0xd7}},
    {"PCONFIG", 3, {0x0f, 0x01, 0xc5}},
    /* SVM, AMD's manual 3 */
    {"VMRUN", 3, {0x0f, 0x01, 0xd8}},
    {"VMMCALL", 3, {0x0f, 0x01, 0xd9}},
    {"VMLOAD", 3, {0x0f, 0x01, 0xda}},
    {"VMSAVE", 3, {0x0f, 0x01, 0xdb}},
    {"STGI", 3, {0x0f, 0x01, 0xdc}},
    {"CLGI", 3, {0x0f, 0x01, 0xdd}},
    {"SKINIT", 3, {0x0f, 0x01, 0xde}},
    {"INVLPGA", 3, {0x0f, 0x01, 0xdf}},
    /* TDX */
    {"TDCALL", 4, {0x66, 0x0f, 0x01, 0xcc}},
    {"SEAMRET", 4, {0x66, 0x0f, 0x01, 0xcd}},
    {"SEAMOPS", 4, {0x66, 0x0f, 0x01, 0xce}},
    {"SEAMCALL", 4, {0x66, 0x0f, 0x01, 0xcf}},
    /* waiting, which would hold a processor */
    {"MONITOR", 3, {0x0f, 0x01, 0xc8}},
    {"MWAIT", 3, {0x0f, 0x01, 0xc9}},
    {"MONITORX", 3, {0x0f, 0x01, 0xfa}},
    {"MWAITX", 3, {0x0f, 0x01, 0xfb}},
    {"UMONITOR", 4, {0xf3, 0x0f, 0xae, 0xf0}},
    {"UMWAIT", 4, {0xf2, 0x0f, 0xae, 0xf0}},
    {"TPAUSE", 4, {0x66, 0x0f, 0xae, 0xf0}},
    /* what writes past the tables, or to devices */
    {"ENQCMD", 5, {0xf2, 0x0f, 0x38, 0xf8, 0x08}},
    {"ENQCMDS", 5, {0xf3, 0x0f, 0x38, 0xf8, 0x08}},
    {"LOADIWKEY", 5, {0xf3, 0x0f, 0x38, 0xdc, 0xc1}},
    {"XSAVES", 3, {0x0f, 0xc7, 0x28}},
    {"XRSTORS", 3, {0x0f, 0xc7, 0x18}},
    {"UD1", 3, {0x0f, 0xb9, 0x08}},
    {"UD2", 2, {0x0f, 0x0b}},
};

#define CODE_RET  0xc3u
#define CODE_INT3 0xccu

static uint8_t code_page[PAGE] __attribute__((aligned(4096)));
static uint8_t operand_page[PAGE] __attribute__((aligned(4096)));

static void run_code_page(void)
{
    __asm__ volatile("call *%1"
                     :
                     : "a"(operand_page), "r"((uint64_t)code_page), "c"(0ull), "d"(0ull), "b"(0ull)
                     : "memory", "cc");
}

static void put_code(unsigned i, uint8_t end)
{
    memset(code_page, end, 16);
    memcpy(code_page, undefined[i].code, undefined[i].bytes);
}

/* XSAVES and XRSTORS where a guest is offered them; they are tried where not. */
static bool is_offered(unsigned i)
{
    return undefined[i].name[0] == 'X' && (cpuid(0xd, 1).eax >> 3 & 1);
}

/* Whatever the operand: #UD comes before it is read. */
uint64_t attack_undefined(void)
{
    uint64_t random = attack_random(4), tries = 0;

    for (unsigned i = 0; i < sizeof(undefined) / sizeof(undefined[0]); i++) {
        if (is_offered(i))
            continue;
        for (unsigned w = 0; w < PAGE / 8; w++)
            ((uint64_t *)operand_page)[w] = random_next(&random);
        put_code(i, CODE_RET);
        try_run(run_code_page);
        CHECK_EQ(caught.vector, VECTOR_UD, "%s at CPL 0", undefined[i].name);
        CHECK_EQ(caught.rip, (uint64_t)code_page, "%s: RIP", undefined[i].name);
        put_code(i, CODE_INT3);
        try_user(code_page, code_page + 16);
        CHECK_EQ(caught.vector, VECTOR_UD, "%s at CPL 3", undefined[i].name);
        tries += 2;
    }
    return tries;
}

/* --- hypercalls ------------------------------------------------------------------------------- */

#define RANDOM_CALLS 400u

/* A pointer, a length or a number: anything. */
static uint64_t any_argument(uint64_t *random)
{
    static const uint64_t edges[] = {0,
                                     1,
                                     ~0ull,
                                     0x7fffffffffffull,
                                     0x800000000000ull,
                                     0xffff800000000000ull,
                                     NO_RAM,
                                     0xfee00000ull,
                                     PAGE - 1};

    switch (random_below(random, 4)) {
    case 0:
        return edges[random_below(random, sizeof(edges) / sizeof(edges[0]))];
    case 1:
        return random_next(random);
    case 2:
        return random_below(random, 4 * PAGE_1G);
    default:
        return random_below(random, 64);
    }
}

static bool is_result(uint64_t r)
{
    return r == 0 || r == TF_E_CALL || r == TF_E_FAULT || r == TF_E_STATE || r == TF_E_VALUE;
}

/*
 * AUDIT walks many addresses in one call. Steps that lead round and round through the address space
 * must not make it walk for ever: here the top GiB is mapped, in which a step of -4096 could go on.
 */
static void audit_round_and_round(void)
{
    uint64_t root = attack_space(), top = 0 - PAGE_1G;
    volatile struct tf_bench_result result = {.ok = 1, .ops = 1, .ticks = 1};

    for (uint64_t at = 0; at < PAGE_1G; at += PAGE_2M)
        *space_entry(root, top + at, 2) = PTE_P | PTE_PS;
    write_cr3(root);
    CHECK_EQ(hypercall(TF_CALL_BENCH_BEGIN, (uint64_t) "attack", 0, 0), 0, "BENCH_BEGIN");
    CHECK_EQ(hypercall(TF_CALL_BENCH_END, (uint64_t)&result, 0, 0), 0, "BENCH_END");
    CHECK_EQ(hypercall(TF_CALL_AUDIT, 0, ~0ull, 0 - PAGE), 0,
             "AUDIT of address 0 and the last page");
    CHECK_EQ(hypercall(TF_CALL_AUDIT, 0, 4 * PAGE_1G, 1), TF_E_VALUE, "AUDIT of too much");
    CHECK_EQ(hypercall(TF_CALL_AUDIT, 0, 0, PAGE), 0, "AUDIT of nothing");
    CHECK_EQ(hypercall(TF_CALL_AUDIT, 0, PAGE, 0), TF_E_VALUE, "AUDIT with no step");
}

/* STATS, which prints, is left out: it is tried by the benchmarks' tests. */
uint64_t attack_hypercalls(void)
{
    uint64_t random = attack_random(5), tries = 4;

    if (!on_twofold())
        return 0;
    audit_round_and_round();
    for (uint64_t i = 0; i < RANDOM_CALLS * attack_rounds; i++, tries++) {
        uint64_t number =
            random_below(&random, 2) ? random_below(&random, 9) : random_next(&random);
        uint64_t bytes = any_argument(&random);
        uint64_t a = any_argument(&random), c = any_argument(&random);
        if (number == TF_CALL_STATS)
            continue;
        uint64_t r = hypercall(number, a, bytes, c);
        if (!is_result(r))
            fail("hypercall 0x%x (0x%x, 0x%x, 0x%x) gave 0x%x\n", number, a, bytes, c, r);
        if (number > TF_CALL_PORT_OUT)
            CHECK_EQ(r, TF_E_CALL, "hypercall 0x%x", number);
    }
    CHECK_EQ(hypercall(TF_CALL_NULL, 0, 0, 0), 0, "a null call after them");
    return tries;
}
