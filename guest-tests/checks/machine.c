/* SPDX-License-Identifier: BSD-2-Clause */
/* Segments, user mode, and the catching of exceptions (checks.h). */
#include "guest-tests/checks/checks.h"
#include "guest-tests/lib/segments.h"
#include "guest-tests/lib/try.h"

#define GATE_PRESENT   (1ull << 47)
#define GATE_DPL3      (3ull << 45)
#define GATE_IST_SHIFT 32
#define STACK_BYTES    8192u

/* User code and stack: PML4 entry 2, away from what the tests map. */
#define USER_CODE  0x10000000000ull
#define USER_STACK (USER_CODE + 16 * PAGE)

struct caught caught;
struct trap caught_frame;

static uint64_t gdt[7] = {0, DESCRIPTOR_CODE64, DESCRIPTOR_DATA, DESCRIPTOR_USER_DATA,
                          DESCRIPTOR_USER_CODE64};
static struct tss tss = {.io_map = sizeof(tss)};
static uint8_t kernel_stack[STACK_BYTES] __attribute__((aligned(16)));
static uint64_t user_code_frame;

/* machine_stubs.S */
void try_enter_user(uint64_t rip, uint64_t rsp, uint64_t rflags, uint64_t rdi, uint64_t rsi);
void access_read(uint64_t at);
void access_write(uint64_t at);
void access_fetch(uint64_t at);
extern const char access_user[], access_user_end[];

static bool on_trap(struct trap *trap)
{
    bool from_user = (trap->cs & 3) == 3;

    if (!try_rsp)
        return false;
    caught_frame = *trap;
    if (trap->vector == VECTOR_BP && from_user)
        caught.vector = NO_TRAP; /* the user code's own end */
    else
        caught = (struct caught){trap->vector, trap->error_code, read_cr2(), trap->rip};
    trap->rip = (uint64_t)try_resume;
    trap->rsp = try_rsp;
    trap->cs = SELECTOR_CODE;
    trap->ss = SELECTOR_DATA;
    trap->rflags = 2;
    return true;
}

void idt_set(unsigned vector, bool present, unsigned ist)
{
    struct table_register idtr;

    __asm__ volatile("sidt %0" : "=m"(idtr));
    uint64_t *gate = (uint64_t *)(idtr.base + 16ull * vector);
    gate[0] &= ~(GATE_PRESENT | 7ull << GATE_IST_SHIFT);
    gate[0] |= (present ? GATE_PRESENT : 0) | (uint64_t)ist << GATE_IST_SHIFT;
    if (vector == VECTOR_BP)
        gate[0] |= GATE_DPL3;
}

void tss_set_stack(unsigned ist, uint64_t top)
{
    tss.ist[ist - 1] = top;
}

static void load_segments(void)
{
    uint64_t base = (uint64_t)&tss;

    gdt[5] =
        DESCRIPTOR_TSS | (sizeof(tss) - 1) | (base & 0xffffff) << 16 | (base >> 24 & 0xff) << 56;
    gdt[6] = base >> 32;
    tss.rsp[0] = (uint64_t)kernel_stack + STACK_BYTES;
    struct table_register gdtr = {sizeof(gdt) - 1, (uint64_t)gdt};
    __asm__ volatile("lgdt %0" : : "m"(gdtr));
    __asm__ volatile("ltr %w0" : : "r"(SELECTOR_TSS));
}

void machine_catch(void)
{
    trap_set_handler(on_trap);
}

void machine_init(void)
{
    load_segments();
    idt_set(VECTOR_BP, true, 0);
    machine_catch();
    user_code_frame = page_alloc();
    space_map(read_cr3(), USER_CODE, user_code_frame, PTE_U);
    space_map(read_cr3(), USER_STACK, page_alloc(), PTE_U | PTE_W);
}

static void call_plain(uint64_t code)
{
    ((void (*)(void))code)();
}

bool try_run(void (*code)(void))
{
    caught.vector = NO_TRAP;
    try_call(call_plain, (uint64_t)code);
    return caught.vector == NO_TRAP;
}

static bool run_user(const void *from, const void *to, uint64_t rdi, uint64_t rsi)
{
    memcpy((void *)user_code_frame, from, (size_t)((const char *)to - (const char *)from));
    caught.vector = NO_TRAP;
    try_enter_user(USER_CODE, USER_STACK + PAGE, 2, rdi, rsi);
    return caught.vector == NO_TRAP;
}

bool try_user(const void *from, const void *to)
{
    return run_user(from, to, 0, 0);
}

/* The access to try, for a function without arguments. */
static uint64_t try_at;
static enum access try_kind;

static void supervisor_access(void)
{
    if (try_kind == ACCESS_READ)
        access_read(try_at);
    else if (try_kind == ACCESS_WRITE)
        access_write(try_at);
    else
        access_fetch(try_at);
}

static void supervisor_access_ac(void)
{
    __asm__ volatile("pushfq; orl $0x40000, (%%rsp); popfq" : : : "memory", "cc");
    supervisor_access();
    __asm__ volatile("pushfq; andl $~0x40000, (%%rsp); popfq" : : : "memory", "cc");
}

bool try_access(uint64_t at, enum access access, bool user, bool ac)
{
    if (user) {
        static bool copied;
        if (!copied)
            memcpy((void *)(user_code_frame + 2048), access_user,
                   (size_t)(access_user_end - access_user));
        copied = true;
        caught.vector = NO_TRAP;
        try_enter_user(USER_CODE + 2048, USER_STACK + PAGE, 2, at, access);
        return caught.vector == NO_TRAP;
    }
    try_at = at;
    try_kind = access;
    return try_run(ac ? supervisor_access_ac : supervisor_access);
}

static uint32_t leaf7_ebx(void)
{
    return cpuid(0, 0).eax >= 7 ? cpuid(7, 0).ebx : 0;
}

bool has_smep(void)
{
    return (leaf7_ebx() >> 7 & 1) != 0;
}

bool has_smap(void)
{
    return (leaf7_ebx() >> 20 & 1) != 0;
}

bool has_invpcid(void)
{
    return (leaf7_ebx() >> 10 & 1) != 0;
}

bool has_pcid(void)
{
    return (cpuid(1, 0).ecx >> 17 & 1) != 0;
}
