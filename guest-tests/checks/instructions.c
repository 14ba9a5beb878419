/* SPDX-License-Identifier: BSD-2-Clause */
/* Instructions that the hypervisor answers: MSRs, control registers, ports, memory without RAM, and
 * the rest. */
#include "guest-tests/checks/checks.h"

#define UART_SCRATCH 0x3ff
#define NO_DEVICE    0x2f0 /* a port that nothing answers */

/* --- MSRs ------------------------------------------------------------------------------------- */

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

static void must_fault(void (*code)(void), uint64_t vector, const char *what)
{
    try_run(code);
    CHECK_EQ(caught.vector, vector, "%s", what);
}

static void msr_must_fault(uint32_t msr, uint64_t value)
{
    msr_number = msr;
    msr_value = value;
    must_fault(do_wrmsr, VECTOR_GP, "WRMSR that must give #GP");
    CHECK_EQ(caught.error_code, 0, "its error code");
}

uint64_t check_msrs(void)
{
    static const uint32_t kept[] = {MSR_STAR,    MSR_LSTAR,   MSR_CSTAR,         MSR_FMASK,
                                    MSR_FS_BASE, MSR_GS_BASE, MSR_KERNEL_GS_BASE};
    /* Performance counters among them: IA32_PMC0, IA32_PERFEVTSEL0, IA32_FIXED_CTR0,
     * IA32_PERF_CAPABILITIES, IA32_FIXED_CTR_CTRL, IA32_PERF_GLOBAL_CTRL, IA32_A_PMC0 */
    static const uint32_t unknown[] = {0x1,        0x480, 0x12345, 0xc0000200, 0xc0010117,
                                       0xffffffff, 0xc1,  0x186,   0x309,      0x345,
                                       0x38d,      0x38f, 0x4c1};
    uint64_t cases = 0;

    for (unsigned i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
        uint64_t old = rdmsr(kept[i]);
        uint64_t value = kept[i] == MSR_FMASK ? 0x12345 : 0xffff800000001000ull + i;
        wrmsr(kept[i], value);
        cpuid(0, 0);
        CHECK_EQ(rdmsr(kept[i]), value, "MSR 0x%x after an exit", (uint64_t)kept[i]);
        wrmsr(kept[i], old);
        cases++;
    }
    for (unsigned i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
        msr_number = unknown[i];
        must_fault(do_rdmsr, VECTOR_GP, "RDMSR of an MSR that there is not");
        msr_must_fault(unknown[i], 0);
        cases += 2;
    }
    struct cpuid_result counters = cpuid(0xa, 0);
    CHECK_EQ(counters.eax | counters.ebx | counters.ecx | counters.edx, 0, "CPUID leaf 0xa");
    cases++;
    uint64_t efer = rdmsr(MSR_EFER);
    msr_must_fault(MSR_EFER, efer | 1ull << 1);
    msr_must_fault(MSR_EFER, efer | 1ull << 63);
    msr_must_fault(MSR_EFER, efer & ~(1ull << 8)); /* LME while paging is on */
    wrmsr(MSR_EFER, efer & ~EFER_SCE);
    CHECK_EQ(rdmsr(MSR_EFER), efer & ~EFER_SCE, "EFER");
    wrmsr(MSR_EFER, efer);
    msr_must_fault(MSR_FS_BASE, 0x0000800000000000ull);
    return cases + 5;
}

/* --- control registers ------------------------------------------------------------------------ */

static uint64_t cr_value;

static void do_write_cr0(void)
{
    write_cr0(cr_value);
}

static void do_write_cr4(void)
{
    write_cr4(cr_value);
}

static void do_write_cr8(void)
{
    __asm__ volatile("mov %0, %%cr8" : : "r"(cr_value));
}

static void cr_must_fault(void (*code)(void), uint64_t value, const char *what)
{
    cr_value = value;
    must_fault(code, VECTOR_GP, what);
}

uint64_t check_control_registers(void)
{
    uint64_t cr0 = read_cr0(), cr4 = read_cr4(), cr8;

    CHECK_EQ(cr4 & CR4_VMXE, 0, "CR4.VMXE as the guest sees it");
    cr_must_fault(do_write_cr4, cr4 | CR4_VMXE, "CR4.VMXE set");
    cr_must_fault(do_write_cr4, cr4 | 1ull << 63, "CR4, a reserved bit");
    cr_must_fault(do_write_cr4, cr4 & ~(1ull << 5), "CR4.PAE cleared in long mode");
    cr_must_fault(do_write_cr0, cr0 & ~CR0_PG, "CR0.PG cleared in 64-bit mode");
    cr_must_fault(do_write_cr0, cr0 & ~1ull, "CR0.PE cleared while PG is set");
    cr_must_fault(do_write_cr0, cr0 | CR0_NW, "CR0.NW without CD");
    cr_must_fault(do_write_cr0, cr0 | 1ull << 32, "CR0, an upper bit");
    write_cr0(cr0 | CR0_CD);
    CHECK_EQ(read_cr0(), cr0 | CR0_CD, "CR0.CD reads back");
    write_cr0(cr0 ^ (1ull << 3)); /* TS */
    CHECK_EQ(read_cr0(), cr0 ^ (1ull << 3), "CR0.TS reads back");
    __asm__ volatile("clts");
    CHECK_EQ(read_cr0(), cr0 & ~(1ull << 3), "CR0 after CLTS");
    write_cr0(cr0);
    write_cr4(cr4 ^ CR4_DE);
    CHECK_EQ(read_cr4(), cr4 ^ CR4_DE, "CR4.DE reads back");
    write_cr4(cr4);
    for (uint64_t v = 0; v < 16; v++) {
        __asm__ volatile("mov %1, %%cr8; mov %%cr8, %0" : "=r"(cr8) : "r"(v));
        CHECK_EQ(cr8, v, "CR8");
    }
    __asm__ volatile("mov %0, %%cr8" : : "r"(0ull));
    cr_must_fault(do_write_cr8, 16, "CR8, a reserved bit");
    return 28;
}

/* --- instructions that are not offered -------------------------------------------------------- */

static void do_vmxon(void)
{
    uint64_t at = 0;

    __asm__ volatile("vmxon %0" : : "m"(at));
}

static void do_vmread(void)
{
    __asm__ volatile("vmread %%rax, %%rbx" : : "a"(0ull) : "rbx", "cc");
}

static void do_vmlaunch(void)
{
    __asm__ volatile("vmlaunch");
}

static void do_invept(void)
{
    uint64_t descriptor[2] = {0, 0};

    __asm__ volatile("invept %0, %1" : : "m"(descriptor), "r"(2ull));
}

static void do_monitor(void)
{
    __asm__ volatile("monitor" : : "a"(0ull), "c"(0ull), "d"(0ull));
}

static void do_mwait(void)
{
    __asm__ volatile("mwait" : : "a"(0ull), "c"(0ull));
}

static void do_rdpmc(void)
{
    uint32_t low, high;

    __asm__ volatile("rdpmc" : "=a"(low), "=d"(high) : "c"(0));
}

static void do_getsec(void)
{
    __asm__ volatile("getsec" : : "a"(0ull));
}

static void do_vmfunc(void)
{
    __asm__ volatile(".byte 0x0f, 0x01, 0xd4" : : "a"(0ull), "c"(0ull));
}

static uint64_t xcr0_value;

static void do_xsetbv(void)
{
    __asm__ volatile("xsetbv"
                     :
                     : "c"(0), "a"((uint32_t)xcr0_value), "d"((uint32_t)(xcr0_value >> 32)));
}

static uint64_t check_xsetbv(void)
{
    static const uint64_t bad[] = {0, 2, 5, 1ull << 62 | 1, 0x21};

    if (!(cpuid(1, 0).ecx >> 26 & 1))
        return 0;
    write_cr4(read_cr4() | CR4_OSXSAVE);
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        xcr0_value = bad[i];
        must_fault(do_xsetbv, VECTOR_GP, "XSETBV with a bad value");
    }
    xcr0_value = 1;
    if (!try_run(do_xsetbv))
        fail("XSETBV with 1 gave exception %u\n", caught.vector);
    return sizeof(bad) / sizeof(bad[0]) + 1;
}

/* machine code for CPL 3 */
extern const char user_vmcall[], user_vmcall_end[], user_cpuid[], user_cpuid_end[], user_hlt[],
    user_hlt_end[], user_rdmsr[], user_rdmsr_end[];
__asm__(".section .text\n"
        "user_vmcall: xor %eax, %eax; vmcall; int3\n user_vmcall_end:\n"
        "user_cpuid: xor %eax, %eax; cpuid; int3\n user_cpuid_end:\n"
        "user_hlt: hlt; int3\n user_hlt_end:\n"
        "user_rdmsr: mov $0x8b, %ecx; rdmsr; int3\n user_rdmsr_end:\n");

uint64_t check_undefined(void)
{
    must_fault(do_vmxon, VECTOR_UD, "VMXON");
    must_fault(do_vmread, VECTOR_UD, "VMREAD");
    must_fault(do_vmlaunch, VECTOR_UD, "VMLAUNCH");
    must_fault(do_invept, VECTOR_UD, "INVEPT");
    must_fault(do_monitor, VECTOR_UD, "MONITOR");
    must_fault(do_mwait, VECTOR_UD, "MWAIT");
    must_fault(do_getsec, VECTOR_UD, "GETSEC");
    must_fault(do_vmfunc, VECTOR_UD, "VMFUNC");
    must_fault(do_rdpmc, VECTOR_GP, "RDPMC");
    if (!try_user(user_cpuid, user_cpuid_end))
        fail("CPUID at CPL 3 gave exception %u\n", caught.vector);
    if (on_twofold()) {
        try_user(user_vmcall, user_vmcall_end);
        CHECK_EQ(caught.vector, VECTOR_UD, "VMCALL at CPL 3");
        CHECK_EQ(hypercall(0x7fffffff, 0, 0, 0), TF_E_CALL, "an unknown hypercall");
        CHECK_EQ(hypercall(TF_CALL_BENCH_BEGIN, 0x0000700000000000ull, 0, 0), TF_E_FAULT,
                 "a hypercall with a bad pointer");
        CHECK_EQ(hypercall(TF_CALL_AUDIT, 0, PAGE, PAGE), TF_E_STATE, "AUDIT without a record");
    }
    try_user(user_hlt, user_hlt_end);
    CHECK_EQ(caught.vector, VECTOR_GP, "HLT at CPL 3");
    try_user(user_rdmsr, user_rdmsr_end);
    CHECK_EQ(caught.vector, VECTOR_GP, "RDMSR at CPL 3");
    __asm__ volatile("wbinvd" : : : "memory");
    return 14 + check_xsetbv();
}

/* --- ports ------------------------------------------------------------------------------------ */

static uint8_t port_buffer[2 * PAGE] __attribute__((aligned(4096)));

static void ins_to_unmapped(void)
{
    __asm__ volatile("insb" : : "D"(TEST_BASE), "d"(UART_SCRATCH) : "memory");
}

/* Marks that are not in order begin no record. */
static uint64_t check_marks(void)
{
    struct tf_bench_result result = {.ops = 1, .ok = 1};

    if (!on_twofold())
        return 0;
    outl(TF_PORT_MARK, 1);
    outb(TF_PORT_MARK, 0);
    for (unsigned i = 0; i < 3 * TF_BENCH_NAME_MAX; i++)
        outb(TF_PORT_MARK, 'a');
    outb(TF_PORT_MARK, 0);
    for (const char *p = "a\"b"; *p; p++)
        outb(TF_PORT_MARK, (uint8_t)*p);
    outb(TF_PORT_MARK, 0);
    CHECK_EQ(hypercall(TF_CALL_BENCH_END, (uint64_t)&result, 0, 0), TF_E_STATE,
             "END after marks without a name");
    return 1;
}

uint64_t check_ports(void)
{
    uint64_t rax = 0x1122334455667788ull;
    uint64_t count = 3 * 1000;
    void *to = port_buffer + 100;

    __asm__ volatile("inb %%dx, %%al" : "+a"(rax) : "d"(NO_DEVICE));
    CHECK_EQ(rax, 0x11223344556677ffull, "IN of a byte where no device is");
    __asm__ volatile("inw %%dx, %%ax" : "+a"(rax) : "d"(NO_DEVICE));
    CHECK_EQ(rax, 0x112233445566ffffull, "IN of a word");
    __asm__ volatile("inl %%dx, %%eax" : "+a"(rax) : "d"(NO_DEVICE));
    CHECK_EQ(rax, 0xffffffffull, "IN of a double word");

    outb(UART_SCRATCH, 0xa5);
    CHECK_EQ(inb(UART_SCRATCH), 0xa5, "the UART's scratch register");
    /* REP INSB across a page's end, and with more rounds than one exit serves */
    __asm__ volatile("rep insb" : "+D"(to), "+c"(count) : "d"(UART_SCRATCH) : "memory");
    CHECK_EQ(count, 0, "RCX after REP INSB");
    CHECK_EQ((uint64_t)to, (uint64_t)port_buffer + 3100, "RDI after REP INSB");
    for (unsigned i = 100; i < 3100; i++)
        CHECK_EQ(port_buffer[i], 0xa5, "REP INSB, byte %u", (uint64_t)i);
    CHECK_EQ(port_buffer[99] | port_buffer[3100], 0, "bytes around what REP INSB stored");

    /* backwards, 32-bit addresses, word size; two registers answer, the second with nothing */
    count = 5;
    to = port_buffer + 4094;
    __asm__ volatile("std; addr32 rep insw; cld"
                     : "+D"(to), "+c"(count)
                     : "d"(NO_DEVICE)
                     : "memory");
    CHECK_EQ((uint64_t)to, (uint64_t)port_buffer + 4084, "RDI after REP INSW backwards");
    CHECK_EQ(*(volatile uint32_t *)(port_buffer + 4094), 0x0000ffff, "REP INSW across pages");

    const char *from = "check ports: this line comes by OUTSB\n";
    count = 38;
    __asm__ volatile("rep outsb" : "+S"(from), "+c"(count) : "d"(0x3f8) : "memory");
    CHECK_EQ(count, 0, "RCX after REP OUTSB");

    space_entry(read_cr3(), TEST_BASE, 1);
    must_fault(ins_to_unmapped, VECTOR_PF, "INSB to a page that is not present");
    CHECK_EQ(caught.error_code, 2, "its error code");
    CHECK_EQ(caught.cr2, TEST_BASE, "its CR2");
    return 14 + check_marks();
}

/* --- memory where no RAM is ------------------------------------------------------------------- */

/* An instruction on [RSI] with RAX as its operand; the result must be `want`. */
#define NO_RAM_CASE(body, rax_before, want)                                                        \
    do {                                                                                           \
        uint64_t rax_ = (rax_before);                                                              \
        __asm__ volatile(body : "+a"(rax_) : "S"(NO_RAM) : "memory", "cc");                        \
        CHECK_EQ(rax_, (want), "no RAM: " body);                                                   \
        cases++;                                                                                   \
    } while (0)

static void fetch_from_table_without_ram(void)
{
    __asm__ volatile("mov (%0), %%rax" : : "r"(TEST_BASE + 64 * PAGE_1G) : "rax", "memory");
}

uint64_t check_no_ram(void)
{
    uint64_t cases = 0;
    uint64_t count, flags;
    void *to;

    NO_RAM_CASE("movb (%%rsi), %%al", 0, 0xff);
    NO_RAM_CASE("movb (%%rsi), %%ah", 0, 0xff00);
    NO_RAM_CASE("movw (%%rsi), %%ax", 0, 0xffff);
    NO_RAM_CASE("movl (%%rsi), %%eax", 0, 0xffffffff);
    NO_RAM_CASE("movq (%%rsi), %%rax", 0, ~0ull);
    NO_RAM_CASE("movzbl (%%rsi), %%eax", ~0ull, 0xff);
    NO_RAM_CASE("movzwl (%%rsi), %%eax", ~0ull, 0xffff);
    NO_RAM_CASE("movsbq (%%rsi), %%rax", 0, ~0ull);
    NO_RAM_CASE("movslq (%%rsi), %%rax", 0, ~0ull);
    NO_RAM_CASE("movl %%eax, (%%rsi)", 5, 5);
    NO_RAM_CASE("movl $7, (%%rsi)", 5, 5);
    NO_RAM_CASE("movl (%%rsi), %%eax", 5, 0xffffffff); /* the writes left nothing */
    NO_RAM_CASE("addl (%%rsi), %%eax", 5, 4);
    NO_RAM_CASE("andl (%%rsi), %%eax", 5, 5);
    NO_RAM_CASE("xorl (%%rsi), %%eax", 5, 0xfffffffa);
    NO_RAM_CASE("addl %%eax, (%%rsi)", 5, 5);
    NO_RAM_CASE("lock; orl $1, (%%rsi)", 5, 5);
    NO_RAM_CASE("xchgl %%eax, (%%rsi)", 5, 0xffffffff);
    NO_RAM_CASE("lodsb", 0, 0xff);

    __asm__ volatile("testb $0x80, (%1); pushfq; popq %0"
                     : "=r"(flags)
                     : "r"(NO_RAM)
                     : "cc", "memory");
    CHECK_EQ(flags & 0xc5, 0x80, "flags of TEST on no RAM: SF, not ZF, PF, CF");
    __asm__ volatile("cmpl $-1, (%1); pushfq; popq %0"
                     : "=r"(flags)
                     : "r"(NO_RAM)
                     : "cc", "memory");
    CHECK_EQ(flags & 0xc5, 0x44, "flags of CMP on no RAM: ZF, PF");

    count = 1000;
    to = (void *)NO_RAM;
    __asm__ volatile("rep stosl" : "+D"(to), "+c"(count) : "a"(1) : "memory");
    CHECK_EQ((uint64_t)to, NO_RAM + 4000, "RDI after REP STOSL to no RAM");
    count = 64;
    to = port_buffer;
    const void *from = (const void *)NO_RAM;
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
    for (unsigned i = 0; i < 64; i++)
        CHECK_EQ(port_buffer[i], 0xff, "REP MOVSB from no RAM");

    /* A page table that lies where no RAM is: its entries are all ones, whose reserved bits fault.
     */
    *space_entry(read_cr3(), TEST_BASE + 64 * PAGE_1G, 3) = NO_RAM | PTE_P | PTE_W;
    must_fault(fetch_from_table_without_ram, VECTOR_PF, "a walk through a table without RAM");
    CHECK_EQ(caught.error_code, 9, "its error code: RSVD, P");
    *space_entry(read_cr3(), TEST_BASE + 64 * PAGE_1G, 3) = 0;
    write_cr3(read_cr3());
    return cases + 6;
}

/* --- SYSCALL and SYSRET ----------------------------------------------------------------------- */

extern const char syscall_entry[], user_syscall[], user_syscall_end[];
extern uint64_t syscall_seen;
__asm__(".section .text\n"
        "syscall_entry:\n"
        "  incq syscall_seen(%rip)\n"
        "  sysretq\n"
        "user_syscall: syscall; syscall; int3\n user_syscall_end:\n"
        ".data\n.balign 8\nsyscall_seen: .quad 0\n.text\n");

uint64_t check_syscall(void)
{
    /* SYSCALL: CS from bits 47:32; SYSRET: SS = bits 63:48 + 8, CS = + 16 */
    wrmsr(MSR_STAR, (uint64_t)(SELECTOR_USER_DATA - 8) << 48 | (uint64_t)SELECTOR_CODE << 32);
    wrmsr(MSR_LSTAR, (uint64_t)syscall_entry);
    wrmsr(MSR_FMASK, RFLAGS_TF | 1 << 9);
    if (!try_user(user_syscall, user_syscall_end))
        fail("SYSCALL gave exception %u at 0x%x\n", caught.vector, caught.rip);
    CHECK_EQ(syscall_seen, 2, "system calls");
    return 2;
}
