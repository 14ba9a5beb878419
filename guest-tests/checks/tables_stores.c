/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Stores by every kind of instruction that a kernel may use on a page table, and by some that it
 * would not: a hypervisor that write-protects tables must carry each out (tables.h). Interrupts are
 * off, so that RSP may lead into a table for a moment.
 */
#include "guest-tests/checks/tables.h"

#define CPUID1_ECX_CX16  (1u << 13)
#define CPUID1_ECX_MOVBE (1u << 22)
#define CPUID1_ECX_XSAVE (1u << 26)
#define CPUID1_ECX_AVX   (1u << 28)
#define XCR0_X87_SSE_AVX 7u
#define CR0_MP           (1ull << 1)
#define CR0_EM           (1ull << 2)

typedef void store(uint64_t at, uint64_t value);

static uint64_t load(uint64_t at)
{
    return *word_at(at);
}

/* A form of one instruction between `at` and `operand`. */
#define FORM(name, instruction, operand)                                                           \
    static void name(uint64_t at, uint64_t value)                                                  \
    {                                                                                              \
        uint64_t x = (operand);                                                                    \
        __asm__ volatile(instruction                                                               \
                         : [x] "+r"(x)                                                             \
                         : [at] "r"(at), [v] "r"(value)                                            \
                         : "memory", "cc", "r10");                                                 \
    }

FORM(mov64, "movq %[x], (%[at])", value)
FORM(movnti, "movnti %[x], (%[at]); sfence", value)
FORM(xchg, "xchgq %[x], (%[at])", value)
FORM(and_or, "andq %[x], (%[at]); orq %[x], (%[at])", value)
FORM(lock_and_or, "lock andq %[x], (%[at]); lock orq %[x], (%[at])", value)
FORM(and_or_imm, "movq %[x], (%[at]); andq $-2, (%[at]); orq $1, (%[at]); movq %[x], (%[at])",
     value)
FORM(xor, "xorq %[x], (%[at])", load(at) ^ value)
FORM(lock_xor, "lock xorq %[x], (%[at])", load(at) ^ value)
FORM(add, "addq %[x], (%[at])", value - load(at))
FORM(lock_add, "lock addq %[x], (%[at])", value - load(at))
FORM(sub, "subq %[x], (%[at])", load(at) - value)
FORM(adc, "stc; adcq %[x], (%[at])", value - load(at) - 1)
FORM(sbb, "stc; sbbq %[x], (%[at])", load(at) - value - 1)
FORM(xadd, "xaddq %[x], (%[at])", value - load(at))
FORM(lock_xadd, "lock xaddq %[x], (%[at])", value - load(at))
FORM(inc, "movq %[x], (%[at]); incq (%[at])", value - 1)
FORM(lock_inc, "movq %[x], (%[at]); lock incq (%[at])", value - 1)
FORM(dec, "movq %[x], (%[at]); decq (%[at])", value + 1)
FORM(not, "movq %[x], (%[at]); notq (%[at])", ~value)
FORM(lock_not, "movq %[x], (%[at]); lock notq (%[at])", ~value)
FORM(neg, "movq %[x], (%[at]); negq (%[at])", -value)
FORM(rol, "movq %[x], (%[at]); rolq $1, (%[at])", value >> 1 | value << 63)
FORM(ror, "movq %[x], (%[at]); rorq $1, (%[at])", value << 1 | value >> 63)
FORM(movbe, "bswapq %[x]; movbeq %[x], (%[at])", value)
FORM(pop, "pushq %[x]; popq (%[at])", value)
FORM(push, "movq %%rsp, %%r10; leaq 8(%[at]), %%rsp; pushq %[x]; movq %%r10, %%rsp", value)
FORM(pushf,
     "movq %%rsp, %%r10; leaq 8(%[at]), %%rsp; pushfq; movq %%r10, %%rsp; movq %[x], (%[at])",
     value)
FORM(call,
     "movq %%rsp, %%r10; leaq 8(%[at]), %%rsp; call 1f; 1: movq %%r10, %%rsp; movq %[x], (%[at])",
     value)
FORM(movq_sse, "movq %[x], %%xmm0; movq %%xmm0, (%[at])", value)
FORM(movlps, "movq %[x], %%xmm0; movlps %%xmm0, (%[at])", value)
FORM(movhps, "movq %[x], %%xmm0; punpcklqdq %%xmm0, %%xmm0; movhps %%xmm0, (%[at])", value)
FORM(movd_sse, "movq %[x], %%xmm0; movd %%xmm0, (%[at]); psrlq $32, %%xmm0; movd %%xmm0, 4(%[at])",
     value)

#define PIECES(name, instruction, bytes, type)                                                     \
    static void name(uint64_t at, uint64_t value)                                                  \
    {                                                                                              \
        for (unsigned i = 0; i < 8 / (bytes); i++) {                                               \
            type x = (type)(value >> 8 * (bytes)*i);                                               \
            __asm__ volatile(instruction : [x] "+q"(x) : [at] "r"(at + (bytes)*i) : "memory");     \
        }                                                                                          \
    }

PIECES(mov32, "movl %[x], (%[at])", 4, uint32_t)
PIECES(mov16, "movw %[x], (%[at])", 2, uint16_t)
PIECES(mov8, "movb %[x], (%[at])", 1, uint8_t)
PIECES(movnti32, "movnti %[x], (%[at]); sfence", 4, uint32_t)
PIECES(xchg32, "xchgl %[x], (%[at])", 4, uint32_t)
PIECES(xchg8, "xchgb %[x], (%[at])", 1, uint8_t)

static void mov_immediate(uint64_t at, uint64_t value)
{
    __asm__ volatile("movq $0, (%0); movl $-2, 4(%0)" : : "r"(at) : "memory");
    mov32(at, value);
}

static void compare_exchange(uint64_t at, uint64_t value, bool lock)
{
    uint64_t old = load(at), expected = old;

    if (lock)
        __asm__ volatile("lock cmpxchgq %2, (%1)"
                         : "+a"(expected)
                         : "r"(at), "r"(value)
                         : "memory", "cc");
    else
        __asm__ volatile("cmpxchgq %2, (%1)"
                         : "+a"(expected)
                         : "r"(at), "r"(value)
                         : "memory", "cc");
    CHECK_EQ(expected, old, "CMPXCHG at 0x%x: RAX", at);
    /* One that fails must leave everything as it is. */
    expected = ~value;
    __asm__ volatile("lock cmpxchgq %2, (%1)"
                     : "+a"(expected)
                     : "r"(at), "r"(old)
                     : "memory", "cc");
    CHECK_EQ(expected, value, "CMPXCHG at 0x%x that must fail: RAX", at);
}

static void cmpxchg(uint64_t at, uint64_t value)
{
    compare_exchange(at, value, false);
}

static void lock_cmpxchg(uint64_t at, uint64_t value)
{
    compare_exchange(at, value, true);
}

static void cmpxchg8b(uint64_t at, uint64_t value)
{
    uint64_t old = load(at);
    uint32_t low = (uint32_t)old, high = (uint32_t)(old >> 32);

    __asm__ volatile("lock cmpxchg8b (%2)"
                     : "+a"(low), "+d"(high)
                     : "r"(at), "b"((uint32_t)value), "c"((uint32_t)(value >> 32))
                     : "memory", "cc");
    CHECK_EQ((uint64_t)high << 32 | low, old, "CMPXCHG8B at 0x%x: EDX:EAX", at);
}

/* Two entries at once, of which the other one keeps its value. */
static void pair_of(uint64_t at, uint64_t value, uint64_t pair[2])
{
    uint64_t base = at & ~15ull;

    pair[0] = load(base);
    pair[1] = load(base + 8);
    pair[at >> 3 & 1] = value;
}

static void cmpxchg16b(uint64_t at, uint64_t value)
{
    uint64_t base = at & ~15ull, pair[2];
    uint64_t low = load(base), high = load(base + 8);

    pair_of(at, value, pair);
    __asm__ volatile("lock cmpxchg16b (%2)"
                     : "+a"(low), "+d"(high)
                     : "r"(base), "b"(pair[0]), "c"(pair[1])
                     : "memory", "cc");
}

/* --- bits: a store at least, also where none is to be changed --------------------------------- */

#define BITS(name, set, clear)                                                                     \
    static void name(uint64_t at, uint64_t value)                                                  \
    {                                                                                              \
        uint64_t old = load(at);                                                                   \
        if (old == value)                                                                          \
            mov64(at, value);                                                                      \
        for (uint64_t bit = 0; bit < 64; bit++) {                                                  \
            if (!((old ^ value) >> bit & 1))                                                       \
                continue;                                                                          \
            if (value >> bit & 1)                                                                  \
                __asm__ volatile(set : : "r"(bit), "r"(at) : "memory", "cc");                      \
            else                                                                                   \
                __asm__ volatile(clear : : "r"(bit), "r"(at) : "memory", "cc");                    \
        }                                                                                          \
    }

BITS(bts_btr, "btsq %0, (%1)", "btrq %0, (%1)")
BITS(lock_bts_btr, "lock btsq %0, (%1)", "lock btrq %0, (%1)")
BITS(btc, "btcq %0, (%1)", "btcq %0, (%1)")
BITS(lock_btc, "lock btcq %0, (%1)", "lock btcq %0, (%1)")

/* The bit's number leads away from the operand's address: a string of bits, forwards and back. */
static void bits_afar(uint64_t at, uint64_t value)
{
    uint64_t page = at & ~(PAGE - 1), old = load(at);

    if (old == value)
        mov64(at, value);
    for (int64_t bit = 0; bit < 64; bit++) {
        if (!((old ^ value) >> bit & 1))
            continue;
        if (bit & 1)
            __asm__ volatile("lock btcq %0, (%1)"
                             :
                             : "r"((int64_t)(at - page) * 8 + bit), "r"(page)
                             : "memory", "cc");
        else
            __asm__ volatile("btcq %0, (%1)"
                             :
                             : "r"(bit - (int64_t)(page + PAGE - at) * 8), "r"(page + PAGE)
                             : "memory", "cc");
    }
}

/* --- strings ---------------------------------------------------------------------------------- */

static void stosq(uint64_t at, uint64_t value)
{
    __asm__ volatile("stosq" : "+D"(at) : "a"(value) : "memory");
}

static void rep_stosq(uint64_t at, uint64_t value)
{
    uint64_t count = 1;

    __asm__ volatile("rep stosq" : "+D"(at), "+c"(count) : "a"(value) : "memory");
}

/* The page from `at` on, rewritten with what it holds: all entries behind the one. */
static uint64_t copy[ENTRIES];

static uint64_t copy_page(uint64_t at, uint64_t value)
{
    uint64_t count = ENTRIES - (at >> 3 & (ENTRIES - 1));

    for (uint64_t i = 0; i < count; i++)
        copy[i] = load(at + 8 * i);
    copy[0] = value;
    return count;
}

static void rep_movsq(uint64_t at, uint64_t value)
{
    uint64_t count = copy_page(at, value), from = (uint64_t)copy;

    __asm__ volatile("rep movsq" : "+D"(at), "+S"(from), "+c"(count) : : "memory");
    CHECK_EQ(count, 0, "RCX after REP MOVSQ");
    CHECK_EQ(at & (PAGE - 1), 0, "RDI after REP MOVSQ to the end of a page");
}

static void rep_movsb(uint64_t at, uint64_t value)
{
    uint64_t count = 8, from = (uint64_t)&value;

    __asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(count) : : "memory");
}

static void rep_movsq_backwards(uint64_t at, uint64_t value)
{
    uint64_t count = copy_page(at, value), from = (uint64_t)(copy + count - 1);
    uint64_t to = at + 8 * (count - 1);

    __asm__ volatile("std; rep movsq; cld" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
    CHECK_EQ(to, at - 8, "RDI after REP MOVSQ backwards");
}

static void movsq(uint64_t at, uint64_t value)
{
    uint64_t from = (uint64_t)&value;

    __asm__ volatile("movsq" : "+D"(at), "+S"(from) : : "memory");
}

static void rep_stosd(uint64_t at, uint64_t value)
{
    uint64_t count = 2;

    __asm__ volatile("rep stosl" : "+D"(at), "+c"(count) : "a"(0x5a5a5a5a) : "memory");
    mov32(at - 8, value);
}

/* --- vectors: the compiler itself uses none, so that nothing has to be kept ------------------- */

#define VECTOR16(name, instruction)                                                                \
    static void name(uint64_t at, uint64_t value)                                                  \
    {                                                                                              \
        uint64_t pair[2];                                                                          \
        pair_of(at, value, pair);                                                                  \
        __asm__ volatile("movdqu (%0), %%xmm0; " instruction                                       \
                         :                                                                         \
                         : "r"(pair), "r"(at & ~15ull)                                             \
                         : "memory");                                                              \
    }

VECTOR16(movaps, "movaps %%xmm0, (%1)")
VECTOR16(movups, "movups %%xmm0, (%1)")
VECTOR16(movdqa, "movdqa %%xmm0, (%1)")
VECTOR16(movntdq, "movntdq %%xmm0, (%1); sfence")
VECTOR16(movntps, "movntps %%xmm0, (%1); sfence")

/* 16 bytes that are aligned to 8 only, where the page has room for them. */
static void movups_unaligned(uint64_t at, uint64_t value)
{
    uint64_t from = (at & (PAGE - 1)) == PAGE - 8 ? at - 8 : at;
    uint64_t pair[2] = {load(from), load(from + 8)};

    pair[from == at ? 0 : 1] = value;
    __asm__ volatile("movdqu (%0), %%xmm0; movups %%xmm0, (%1)"
                     :
                     : "r"(pair), "r"(from)
                     : "memory");
}

#define VECTOR32(name, instruction)                                                                \
    static void name(uint64_t at, uint64_t value)                                                  \
    {                                                                                              \
        uint64_t base = at & ~31ull, four[4];                                                      \
        for (unsigned i = 0; i < 4; i++)                                                           \
            four[i] = load(base + 8 * i);                                                          \
        four[at >> 3 & 3] = value;                                                                 \
        __asm__ volatile("vmovdqu (%0), %%ymm0; " instruction                                      \
                         :                                                                         \
                         : "r"(four), "r"(base)                                                    \
                         : "memory");                                                              \
    }

VECTOR32(vmovdqa, "vmovdqa %%ymm0, (%1)")
VECTOR32(vmovups, "vmovups %%ymm0, (%1)")
VECTOR32(vmovntdq, "vmovntdq %%ymm0, (%1); sfence")

/* --- the list --------------------------------------------------------------------------------- */

enum need { NONE, NEED_CX16, NEED_MOVBE, NEED_AVX };

#define F(f) .name = #f, .run = f
static const struct {
    const char *name;
    store *run;
    bool single;
    enum need need;
} all_forms[] = {
    {F(mov64), .single = true},
    {F(movnti), .single = true},
    {F(xchg), .single = true},
    {F(stosq), .single = true},
    {F(rep_stosq), .single = true},
    {F(push), .single = true},
    {F(movq_sse), .single = true},
    {F(movlps), .single = true},
    {F(movhps), .single = true},
    {F(mov32)},
    {F(mov16)},
    {F(mov8)},
    {F(mov_immediate)},
    {F(movnti32)},
    {F(xchg32)},
    {F(xchg8)},
    {F(cmpxchg)},
    {F(lock_cmpxchg)},
    {F(cmpxchg8b)},
    {F(cmpxchg16b), .need = NEED_CX16},
    {F(and_or)},
    {F(lock_and_or)},
    {F(and_or_imm)},
    {F(xor)},
    {F(lock_xor)},
    {F(add)},
    {F(lock_add)},
    {F(sub)},
    {F(adc)},
    {F(sbb)},
    {F(xadd)},
    {F(lock_xadd)},
    {F(inc)},
    {F(lock_inc)},
    {F(dec)},
    {F(not )},
    {F(lock_not)},
    {F(neg)},
    {F(rol)},
    {F(ror)},
    {F(movbe), .need = NEED_MOVBE},
    {F(bts_btr)},
    {F(lock_bts_btr)},
    {F(btc)},
    {F(lock_btc)},
    {F(bits_afar)},
    {F(rep_movsq)},
    {F(rep_movsb)},
    {F(rep_movsq_backwards)},
    {F(movsq)},
    {F(rep_stosd)},
    {F(pop)},
    {F(pushf)},
    {F(call)},
    {F(movd_sse)},
    {F(movaps)},
    {F(movups)},
    {F(movdqa)},
    {F(movntdq)},
    {F(movntps)},
    {F(movups_unaligned)},
    {F(vmovdqa), .need = NEED_AVX},
    {F(vmovups), .need = NEED_AVX},
    {F(vmovntdq), .need = NEED_AVX},
};

#define ALL_FORMS (sizeof(all_forms) / sizeof(all_forms[0]))

static unsigned available[ALL_FORMS]; /* indices of those that this processor has */
static unsigned available_count;

static bool is_there(enum need need)
{
    uint32_t features = cpuid(1, 0).ecx;

    return need == NONE || (need == NEED_CX16 && (features & CPUID1_ECX_CX16)) ||
           (need == NEED_MOVBE && (features & CPUID1_ECX_MOVBE)) || (need == NEED_AVX && has_avx());
}

bool has_xsave(void)
{
    return (cpuid(1, 0).ecx & CPUID1_ECX_XSAVE) != 0;
}

bool has_avx(void)
{
    return has_xsave() && (cpuid(1, 0).ecx & CPUID1_ECX_AVX);
}

void stores_init(void)
{
    if (available_count > 0)
        return;
    write_cr0((read_cr0() & ~CR0_EM) | CR0_MP);
    write_cr4(read_cr4() | CR4_OSFXSR | CR4_OSXMMEXCPT | (has_xsave() ? CR4_OSXSAVE : 0));
    if (has_avx())
        __asm__ volatile("xsetbv" : : "c"(0), "a"(XCR0_X87_SSE_AVX), "d"(0));
    for (unsigned i = 0; i < ALL_FORMS; i++) {
        if (is_there(all_forms[i].need))
            available[available_count++] = i;
    }
}

unsigned store_forms(void)
{
    return available_count;
}

const char *store_name(unsigned form)
{
    return all_forms[available[form]].name;
}

bool store_is_single(unsigned form)
{
    return all_forms[available[form]].single;
}

void store_blind(unsigned form, uint64_t at, uint64_t value)
{
    all_forms[available[form]].run(at, value);
}

void store_by(unsigned form, uint64_t at, uint64_t value)
{
    store_blind(form, at, value);
    CHECK_EQ(load(at), value, "%s to 0x%x: what can be read there", store_name(form), at);
}
