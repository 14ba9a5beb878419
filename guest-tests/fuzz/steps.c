/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The steps that are not random code. Each takes its operands from the generator, and puts back
 * what the guest itself needs: control registers, MSRs, its map. Left out is what would end the VM
 * or let a device write to the guest's memory; the reasons stand where that happens.
 */
#include "guest-tests/fuzz/fuzz.h"
#include "guest-tests/lib/try.h"

#define FRAMES 8u                    /* of data, that random entries lead to */
#define RETS   0xc3c3c3c3c3c3c3c3ull /* the instruction, eight times */

static uint64_t frame[FRAMES];
static uint64_t table, directory; /* of TREE_AT: level 1, and 2 */
static uint64_t large;            /* 2 MiB of RAM */

/* What the step that runs has drawn, for the function that may fault. */
static struct {
    uint64_t a, b, c;
} drawn;

static void draw(void)
{
    drawn.a = random_next(&chance);
    drawn.b = random_next(&chance);
    drawn.c = random_next(&chance);
}

static bool try_it(void (*code)(uint64_t), uint64_t argument)
{
    outcome.vector = NO_TRAP;
    try_call(code, argument);
    bool good = outcome.vector == NO_TRAP;
    digest(outcome.vector);
    digest(good ? 0 : outcome.error_code);
    return good;
}

/* --- CPUID ------------------------------------------------------------------------------------ */

/* Frequencies that were measured are not the same in every boot. */
static bool is_measured(uint32_t leaf)
{
    return leaf == 0x15 || leaf == 0x16 || leaf == TF_CPUID_TIMING;
}

static void step_cpuid(void)
{
    static const uint32_t bases[] = {0, 0, 0x40000000, 0x80000000};
    uint32_t leaf = below(8) ? bases[below(4)] + below(0x24) : (uint32_t)random_next(&chance);
    struct cpuid_result r = cpuid(leaf, below(4) ? below(6) : (uint32_t)random_next(&chance));

    if (is_measured(leaf))
        return;
    digest((uint64_t)r.eax << 32 | r.ebx);
    digest((uint64_t)r.ecx << 32 | r.edx);
}

/* --- MSRs ------------------------------------------------------------------------------------- */

static uint64_t msr_value;

static void read_msr(uint64_t msr)
{
    uint32_t low, high;

    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"((uint32_t)msr));
    msr_value = (uint64_t)high << 32 | low;
}

static void write_msr(uint64_t msr)
{
    __asm__ volatile("wrmsr"
                     :
                     : "c"((uint32_t)msr), "a"((uint32_t)msr_value),
                       "d"((uint32_t)(msr_value >> 32))
                     : "memory");
}

static uint32_t any_msr(void)
{
    static const uint32_t bases[] = {0,   0x170,      0x200,      0x400,      0x480, 0x800, 0x6e0,
                                     0x0, 0xc0000080, 0xc0000100, 0xc0010000, 0x1d0, 0x38c, 0x190};

    return below(8) ? bases[below(sizeof(bases) / sizeof(bases[0]))] + below(0x40)
                    : (uint32_t)random_next(&chance);
}

/* The TSC and its deadline go on by themselves; without its local APIC the guest is another
 * machine. */
static bool may_write_msr(uint32_t msr)
{
    return msr != 0x10 && msr != 0x1b && msr != 0x3b && msr != 0x6e0;
}

static void step_msr(void)
{
    uint32_t msr = any_msr();

    draw();
    bool there = try_it(read_msr, msr);
    uint64_t before = msr_value;
    if (!may_write_msr(msr) || below(2))
        return;
    msr_value = below(2) ? before ^ 1ull << below(64) : drawn.a;
    try_it(write_msr, msr);
    msr_value = before;
    if (there)
        try_call(write_msr, msr);
    outcome.vector = NO_TRAP;
}

/* --- ports and device registers --------------------------------------------------------------- */

static void port_in(uint64_t port)
{
    uint32_t value;

    if (drawn.b % 3 == 0)
        __asm__ volatile("inb %w1, %b0" : "=a"(value) : "d"((uint32_t)port));
    else if (drawn.b % 3 == 1)
        __asm__ volatile("inw %w1, %w0" : "=a"(value) : "d"((uint32_t)port));
    else
        __asm__ volatile("inl %w1, %0" : "=a"(value) : "d"((uint32_t)port));
}

static void port_out(uint64_t port)
{
    if (drawn.b % 3 == 0)
        __asm__ volatile("outb %b0, %w1" : : "a"((uint32_t)drawn.c), "d"((uint32_t)port));
    else if (drawn.b % 3 == 1)
        __asm__ volatile("outw %w0, %w1" : : "a"((uint32_t)drawn.c), "d"((uint32_t)port));
    else
        __asm__ volatile("outl %0, %w1" : : "a"((uint32_t)drawn.c), "d"((uint32_t)port));
}

static bool touches(uint64_t port, uint64_t first, uint64_t last)
{
    return port + 3 >= first && port <= last;
}

/* The ends of a VM, its reset, its power; the UART by which the guest tells the result. */
static bool may_write_port(uint64_t port)
{
    return !touches(port, TF_PORT_DEBUG_EXIT, TF_PORT_DEBUG_EXIT + 3) &&
           !touches(port, TF_PORT_BOCHS_SHUTDOWN, TF_PORT_BOCHS_SHUTDOWN) &&
           !touches(port, 0xcf9, 0xcf9) && !touches(port, 0x92, 0x92) &&
           !touches(port, 0x64, 0x64) && !touches(port, 0x600, 0x607) &&
           !touches(port, 0x3f8, 0x3ff);
}

static void step_port(void)
{
    static const uint16_t ports[] = {0x20, 0x21, 0xa0,  0xa1,  0x40,  0x43,  0x61,
                                     0x70, 0x71, 0x4d0, 0xcf8, 0xcfc, 0x608, 0x80};

    draw();
    uint64_t port = below(2) ? ports[below(sizeof(ports) / sizeof(ports[0]))] : drawn.a & 0xffff;
    if (drawn.a >> 16 & 1)
        try_it(port_in, port);
    else if (may_write_port(port))
        try_it(port_out, port);
}

static void memory_read(uint64_t at)
{
    (void)*(volatile uint32_t *)at;
}

static void memory_write(uint64_t at)
{
    *(volatile uint32_t *)at = (uint32_t)drawn.c;
}

/* INIT to the first processor resets the VM. */
static bool is_init(uint64_t value)
{
    return (value >> 8 & 7) == 5;
}

static void step_device(void)
{
    static const uint64_t bases[] = {0xfee00000, 0xfee00000, 0xfec00000, 0xd0000000,
                                     0xd0001000, NO_RAM,     0xf0000000, 0xfed00000};
    draw();
    unsigned which = below(8);
    uint64_t offset = below(4) ? (drawn.a & 0x3f) << 4 : drawn.a & 0xffc;
    bool is_virtio = which == 3 || which == 4;

    if (which == 2)
        offset = drawn.a & 0x1c;
    if (drawn.b & 1) {
        try_it(memory_read, bases[which] + offset);
        return;
    }
    if (is_init(drawn.c))
        drawn.c ^= 0x100;
    if (is_virtio && offset == 0x44) /* QueueReady: from then on the device writes to RAM */
        return;
    try_it(memory_write, bases[which] + offset);
}

/* --- VMX, system instructions ----------------------------------------------------------------- */

static void any_system(uint64_t which)
{
    static const struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) pointer = {0, 0};
    uint64_t low = drawn.a, high = drawn.b;
    uint16_t selector = (uint16_t)drawn.c;

    switch (which) {
    case 0:
        __asm__ volatile("vmxon %0" : : "m"(drawn.a));
        break;
    case 1:
        __asm__ volatile("vmclear %0" : : "m"(drawn.a));
        break;
    case 2:
        __asm__ volatile("vmptrld %0" : : "m"(drawn.a));
        break;
    case 3:
        __asm__ volatile("vmread %1, %0" : "=r"(low) : "r"(high));
        break;
    case 4:
        __asm__ volatile("vmwrite %1, %0" : : "r"(low), "r"(high));
        break;
    case 5:
        __asm__ volatile("vmlaunch");
        break;
    case 6:
        __asm__ volatile("vmresume");
        break;
    case 7:
        __asm__ volatile("vmxoff");
        break;
    case 8:
        __asm__ volatile("invept %0, %1" : : "m"(pointer), "r"(low));
        break;
    case 9:
        __asm__ volatile("invvpid %0, %1" : : "m"(pointer), "r"(low));
        break;
    case 10:
        __asm__ volatile("vmfunc" : : "a"(low), "c"(high));
        break;
    case 11:
        __asm__ volatile(".byte 0x0f, 0x01, 0xd9" : : "a"(low)); /* VMMCALL */
        break;
    case 12:
        __asm__ volatile("encls" : : "a"(low), "b"(high));
        break;
    case 13:
        __asm__ volatile("monitor" : : "a"(&drawn), "c"(0), "d"(0));
        break;
    case 14:
        __asm__ volatile("mwait" : : "a"(0), "c"(0));
        break;
    case 15:
        __asm__ volatile("rdpmc" : "=a"(low) : "c"(high) : "rdx");
        break;
    case 16:
        __asm__ volatile("xgetbv" : "=a"(low) : "c"(high & 3) : "rdx");
        break;
    case 17:
        __asm__ volatile("wbinvd");
        break;
    case 18:
        __asm__ volatile("invd");
        break;
    case 19:
        __asm__ volatile("pause; clflush %0" : : "m"(drawn));
        break;
    case 20:
        __asm__ volatile("int3");
        break;
    case 21:
        __asm__ volatile(".byte 0xf1"); /* INT1 */
        break;
    case 22:
        __asm__ volatile("mov %w0, %%fs" : : "r"((uint32_t)selector));
        break;
    case 23:
        __asm__ volatile("lar %w1, %k0" : "=r"(low) : "r"((uint32_t)selector));
        break;
    case 24:
        __asm__ volatile("verw %w0" : : "r"((uint32_t)selector));
        break;
    case 25:
        __asm__ volatile("lldt %w0" : : "r"((uint32_t)selector & 0xfff8));
        break;
    case 26:
        __asm__ volatile("rsm");
        break;
    case 27:
        __asm__ volatile("getsec" : : "a"(low & 15), "b"(high));
        break;
    default:
        __asm__ volatile("swapgs; swapgs");
        break;
    }
}

static void step_system(void)
{
    draw();
    try_it(any_system, below(29));
}

/* Hypercalls: numbers that are none; those that there are with pointers that lead nowhere, but for
 * the one that prints. */
static void call(uint64_t number)
{
    digest(hypercall(number, drawn.a, drawn.b, drawn.c));
}

static void step_hypercall(void)
{
    draw();
    drawn.a |= 1ull << 63;
    drawn.a &= ~(1ull << 62);
    try_it(call, below(2) ? below(TF_CALL_STATS) : 100 + drawn.c);
}

/* --- control and debug registers -------------------------------------------------------------- */

static uint64_t read_cr(unsigned which)
{
    uint64_t value = 0;

    if (which == 0)
        __asm__ volatile("mov %%cr0, %0" : "=r"(value));
    else if (which == 4)
        __asm__ volatile("mov %%cr4, %0" : "=r"(value));
    else
        __asm__ volatile("mov %%cr8, %0" : "=r"(value));
    return value;
}

static void write_cr0(uint64_t value)
{
    __asm__ volatile("mov %0, %%cr0" : : "r"(value) : "memory");
}

static void write_cr4(uint64_t value)
{
    __asm__ volatile("mov %0, %%cr4" : : "r"(value) : "memory");
}

static void write_cr8(uint64_t value)
{
    __asm__ volatile("mov %0, %%cr8" : : "r"(value) : "memory");
}

static void write_xcr0(uint64_t value)
{
    __asm__ volatile("xsetbv" : : "a"((uint32_t)value), "d"((uint32_t)(value >> 32)), "c"(0));
}

static void lmsw(uint64_t value)
{
    __asm__ volatile("lmsw %w0; clts" : : "r"((uint32_t)value));
}

static void write_dr(uint64_t value)
{
    __asm__ volatile("mov %0, %%dr0; mov %1, %%dr1" : : "r"(value), "r"(drawn.b));
    __asm__ volatile("mov %0, %%dr6" : : "r"(drawn.c));
}

/* Bits that leave long mode, or take the guest's own map away, are refused or would end the guest:
 * PG, PE, PAE stay; LA57 too. */
static void step_control(void)
{
    uint64_t cr0 = read_cr(0), cr4 = read_cr(4);

    draw();
    switch (below(7)) {
    case 0:
        try_it(write_cr0, (cr0 ^ 1ull << below(32)) | 0x80000001);
        break;
    case 1:
        try_it(write_cr4, (cr4 ^ 1ull << below(24)) | 0x20);
        break;
    case 2:
        try_it(write_cr8, drawn.a & (below(2) ? 0xf : ~0ull));
        break;
    case 3:
        try_it(write_xcr0, below(2) ? drawn.a & 0xff : drawn.a);
        break;
    case 4:
        try_it(lmsw, drawn.a | 1);
        break;
    case 5:
        try_it(write_dr, drawn.a);
        break;
    default:
        write_cr3(read_cr3() | (drawn.a & 0x18)); /* PWT, PCD */
        write_cr3(read_cr3() & ~0x18ull);
        break;
    }
    digest(read_cr(0));
    digest(read_cr(4));
    digest(read_cr(8));
    write_cr0(cr0);
    write_cr4(cr4);
    write_cr8(0);
}

/* --- page tables ------------------------------------------------------------------------------ */

/* The words that add_word leaves alone hold nothing but RET. */
static void fetch(uint64_t at)
{
    ((void (*)(void))(at | 8))();
}

static void read_word(uint64_t at)
{
    digest(*word_at(at));
}

static void add_word(uint64_t at)
{
    *word_at(at) += 1;
}

/* A store to the entry, by one of the instructions that are used for it. */
static void store_entry(volatile uint64_t *entry, uint64_t value)
{
    uint64_t old = *entry;

    switch (below(6)) {
    case 0:
        __asm__ volatile("xchg %0, %1" : "+r"(value), "+m"(*entry));
        break;
    case 1:
        __asm__ volatile("lock cmpxchg %2, %1" : "+a"(old), "+m"(*entry) : "r"(value) : "cc");
        break;
    case 2:
        __asm__ volatile("movl %k0, (%1); shr $32, %0; movl %k0, 4(%1)"
                         : "+r"(value)
                         : "r"(entry)
                         : "cc", "memory");
        break;
    case 3:
        __asm__ volatile("andq $0, %0; orq %1, %0" : "+m"(*entry) : "r"(value) : "cc");
        break;
    case 4:
        __asm__ volatile("stosq" : : "a"(value), "D"(entry) : "memory");
        break;
    default:
        *entry = value;
        break;
    }
}

/*
 * A leaf entry: data frames, memory without RAM, bits of all kinds, a reserved one now and then. A
 * is set: a processor may set it for an access that then faults, and so does Twofold in some ways
 * of paging.
 */
static uint64_t any_entry(void)
{
    uint64_t bits = random_next(&chance), entry = bits & 0x1ff; /* P to G */

    entry |= PTE_A | (below(4) ? PTE_P : 0);
    entry |= below(16) ? frame[below(FRAMES)] : NO_RAM;
    entry |= bits & PTE_NX;
    if (below(24) == 0)
        entry |= 1ull << (40 + below(12)); /* at or above the physical address width, or not */
    return entry;
}

/* A fetch from where no RAM is stops the VM, as docs/guests.md has it. */
static void access_page(uint64_t at)
{
    static void (*const kinds[])(uint64_t) = {read_word, add_word, fetch};
    unsigned kind = below(8);
    uint64_t entry = word_at(table)[at / PAGE % ENTRIES];

    if (kind == 7 && (entry & PTE_ADDRESS) >= NO_RAM)
        kind = 0;
    try_it(kinds[kind < 4 ? 0 : kind < 7 ? 1 : 2], at);
    if (outcome.vector == 14)
        digest(outcome.cr2);
}

static void step_leaf(void)
{
    unsigned index = below(16);
    uint64_t at = TREE_AT + index * PAGE;

    store_entry(word_at(table) + index, any_entry());
    if (below(8) == 0)
        write_cr3(read_cr3());
    else
        invlpg(at);
    for (unsigned n = below(3) + 1; n > 0; n--)
        access_page(at + (random_next(&chance) & 0xff0));
    digest(word_at(table)[index]);
}

/* The directory's entry with other rights, not present, or as a page of 2 MiB; then as it was. */
static void step_directory(void)
{
    volatile uint64_t *entry = word_at(directory);
    uint64_t before = *entry | PTE_A; /* as in any_entry */
    unsigned index = below(16), kind = below(4);
    uint64_t at = TREE_AT + index * PAGE;

    store_entry(word_at(table) + index, any_entry()); /* random code may have left anything there */

    store_entry(entry, kind == 0   ? 0
                       : kind == 1 ? large | PTE_P | PTE_W | PTE_A | PTE_PS
                       : kind == 2 ? before & ~PTE_W
                                   : before | PTE_NX);
    write_cr3(read_cr3());
    access_page(at);
    digest(*entry);
    digest(word_at(table)[index]);
    store_entry(entry, before);
    write_cr3(read_cr3());
    access_page(at);
    digest(*entry);
    digest(word_at(table)[index]);
}

static void invalidate(uint64_t kind)
{
    const struct {
        uint64_t pcid, address;
    } descriptor = {drawn.b & 0xfff, drawn.a};

    __asm__ volatile("invpcid %0, %1" : : "m"(descriptor), "r"(kind));
}

static void step_invalidate(void)
{
    draw();
    if (below(2)) {
        invlpg(below(2) ? TREE_AT + (drawn.a & 0xffff) : drawn.a);
        return;
    }
    if (cpuid(7, 0).ebx >> 10 & 1)
        try_it(invalidate, below(6));
}

/* --- all -------------------------------------------------------------------------------------- */

void steps_init(void)
{
    uint64_t root = read_cr3();

    for (unsigned i = 0; i < FRAMES; i++) {
        frame[i] = page_alloc();
        for (unsigned w = 0; w < ENTRIES; w++)
            word_at(frame[i])[w] = w % 2 ? RETS : RETS ^ (uint64_t)i << 56;
    }
    large = run_alloc(PAGE_2M, PAGE_2M);
    memset((void *)large, 0xc3, PAGE_2M);
    table = (uint64_t)space_entry(root, TREE_AT, 1) & ~(PAGE - 1);
    directory = (uint64_t)space_entry(root, TREE_AT, 2) & ~(PAGE - 1);
}

void step_other(void)
{
    static void (*const steps[])(void) = {
        step_cpuid,   step_msr,  step_port, step_device, step_system,    step_hypercall,
        step_control, step_leaf, step_leaf, step_leaf,   step_directory, step_invalidate};

    unsigned which = below(sizeof(steps) / sizeof(steps[0]));

    digest(which);
    steps[which]();
}
