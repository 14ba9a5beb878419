/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The bundled guests' runtime: start-up, printing, arguments, page tables, exceptions, benchmark
 * records.
 *
 * A guest is one processor in 64-bit mode at CPL 0 that owns its machine. Its own tables map the
 * first 4 GiB (or all RAM, if more) one to one in 2-MiB pages, as PML4 entry 0; everything else is
 * free for tests. A guest ends with value 0 on the debug-exit port when all was well, else with 1
 * after a line "FAIL ...".
 */
#ifndef GUEST_LIB_H
#define GUEST_LIB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hv/guest_abi.h"

#define PAGE    4096ull
#define PAGE_2M (2ull << 20)
#define PAGE_1G (1ull << 30)
#define ENTRIES 512u

#define PTE_P       (1ull << 0)
#define PTE_W       (1ull << 1)
#define PTE_U       (1ull << 2)
#define PTE_A       (1ull << 5)
#define PTE_D       (1ull << 6)
#define PTE_PS      (1ull << 7)
#define PTE_G       (1ull << 8)
#define PTE_NX      (1ull << 63)
#define PTE_ADDRESS 0x000ffffffffff000ull

/* Where tests put their mappings: PML4 entry 1. */
#define TEST_BASE 0x8000000000ull

/* The guest's own part; its return ends the guest with success. */
void guest_main(void);

/* --- print.c: the UART ------------------------------------------------------------------------ */

/* %s, %c, %u (uint64_t), %x (uint64_t), %%. All numbers are 64 bits wide: cast others. */
void print(const char *format, ...);
/* Prints "FAIL " and the message, and ends the guest with value 1. */
__attribute__((noreturn)) void fail(const char *format, ...);
__attribute__((noreturn)) void guest_exit(uint32_t value);

#define CHECK_EQ(got, want, ...)                                                                   \
    do {                                                                                           \
        uint64_t got_ = (got), want_ = (want);                                                     \
        if (got_ != want_) {                                                                       \
            print("FAIL ");                                                                        \
            print(__VA_ARGS__);                                                                    \
            print(": found 0x%x, must be 0x%x (%s:%u)\n", got_, want_, __FILE__,                   \
                  (uint64_t)__LINE__);                                                             \
            guest_exit(1);                                                                         \
        }                                                                                          \
    } while (0)

/* --- args.c: "key=value" words ---------------------------------------------------------------- */

/* The number given for `key`, else `standard`. A value that is no number fails. */
uint64_t arg_number(const char *key, uint64_t standard);
/* The word given for `key`, copied to `to`; false if there is none. */
bool arg_word(const char *key, char *to, size_t room);
/* After all keys have been asked for: fails when the arguments hold another one. */
void args_done(void);

/* --- memory.c: frames and tables -------------------------------------------------------------- */

uint64_t page_alloc(void); /* a zeroed frame; fails the guest without memory */
void page_free(uint64_t frame);
/* `bytes` of frames in one run, aligned to `align`. Never given back. */
uint64_t run_alloc(uint64_t bytes, uint64_t align);

uint64_t space_new(void);       /* a root whose entry 0 is the shared one-to-one map */
void space_free(uint64_t root); /* with all tables below entries 1 to 511, not the pages they map */
/* The entry of `level` (1 to 4) for `at`; tables above it are made with P, W, U. */
uint64_t *space_entry(uint64_t root, uint64_t at, unsigned level);
/* The same, NULL where a table is missing. */
uint64_t *space_find(uint64_t root, uint64_t at, unsigned level);
void space_map(uint64_t root, uint64_t at, uint64_t frame,
               uint64_t bits); /* 4 KiB; PTE_P is added */

extern const struct tf_guest_info *guest_info;

/* --- traps.c: exceptions ---------------------------------------------------------------------- */

struct trap {
    uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
    uint64_t vector, error_code;
    uint64_t rip, cs, rflags, rsp, ss;
};

/* Called for each exception; false: unexpected, the guest fails. May change the frame. */
typedef bool trap_handler(struct trap *trap);
void trap_set_handler(trap_handler *handler);
void traps_init(void);

/* --- bench.c: records ------------------------------------------------------------------------- */

/*
 * Measure from bench_begin's return to bench_end's call. Both talk to Twofold if it is there; in
 * any case bench_end prints "result bench=NAME phase=PHASE ops=N ticks=N ok=1".
 */
void bench_begin(const char *name, enum tf_phase phase);
void bench_end(uint64_t ops); /* one touch an operation */
/*
 * Touches are accesses to another page (of 4 KiB) than the access before: what misses in a TLB that
 * holds one page. Counted are data and the entries of page tables; left out is what any TLB holds:
 * code, stack, the benchmark's own variables, and the upper tables on the way to an entry.
 */
void bench_end_touches(uint64_t ops, uint64_t touches);
/* For what the guest timed itself, a part of the time since bench_begin. */
void bench_end_ticks(uint64_t ops, uint64_t ticks, uint64_t touches);
/* Before bench_begin, at most 4 times: audit these walks also while the record runs. */
void bench_watch(uint64_t at, uint64_t bytes, uint64_t step);
/* Audit the walks for [at, at + bytes) in steps of `step`, for the record that was ended last. */
void bench_audit(uint64_t at, uint64_t bytes, uint64_t step);
bool on_twofold(void);
bool on_kvm(void); /* by its CPUID signature; whoever uses it */

/* Whether it runs on the bare machine, started by Twofold (paging = native). */
static inline bool is_native(void)
{
    return guest_info->native_call != 0;
}

static inline uint64_t hypercall(uint64_t number, uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t result;

    if (is_native())
        return ((uint64_t(*)(uint64_t, uint64_t, uint64_t, uint64_t))guest_info->native_call)(
            number, a, b, c);
    __asm__ volatile("vmcall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "memory");
    return result;
}

/* --- small things ----------------------------------------------------------------------------- */

/* xorshift64*: the same numbers every run. */
static inline uint64_t random_next(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1dull;
}

/* A number in [0, n), without a division. */
static inline uint64_t random_below(uint64_t *state, uint64_t n)
{
    return (random_next(state) >> 32) * n >> 32;
}

/* What page `i` of a test must hold. */
static inline uint64_t value_of(uint64_t i)
{
    return (i + 1) * 0x9e3779b97f4a7c15ull;
}

static inline volatile uint64_t *word_at(uint64_t at)
{
    return (volatile uint64_t *)at;
}

static inline uint64_t rdtsc(void)
{
    uint32_t low, high;

    __asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high) : : "memory");
    return (uint64_t)high << 32 | low;
}

static inline void invlpg(uint64_t at)
{
    __asm__ volatile("invlpg (%0)" : : "r"(at) : "memory");
}

static inline uint64_t read_cr3(void)
{
    uint64_t value;

    __asm__ volatile("mov %%cr3, %0" : "=r"(value));
    return value;
}

static inline void write_cr3(uint64_t value)
{
    __asm__ volatile("mov %0, %%cr3" : : "r"(value) : "memory");
}

static inline uint64_t read_cr2(void)
{
    uint64_t value;

    __asm__ volatile("mov %%cr2, %0" : "=r"(value));
    return value;
}

static inline uint8_t inb(uint16_t port)
{
    uint8_t value;

    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}

static inline void outb(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline void outl(uint16_t port, uint32_t value)
{
    __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

struct cpuid_result {
    uint32_t eax, ebx, ecx, edx;
};

static inline struct cpuid_result cpuid(uint32_t leaf, uint32_t subleaf)
{
    struct cpuid_result r;

    __asm__ volatile("cpuid"
                     : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx)
                     : "a"(leaf), "c"(subleaf));
    return r;
}

static inline bool has_1g_pages(void)
{
    return (cpuid(0x80000001, 0).edx >> 26 & 1) != 0;
}

void *memset(void *to, int value, size_t bytes);
void *memcpy(void *to, const void *from, size_t bytes);
int memcmp(const void *a, const void *b, size_t bytes);

#endif
