/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The instruction emulator: registers, flags and memory come from a seed in the input, the
 * instruction is its bytes. In 64-bit mode the instruction also runs on this processor, and
 * registers, defined flags and memory must be the same. In all modes: an access that faults leaves
 * all as it was but for the rounds of a REP that are done, and a REP ends after as many rounds as
 * it counts.
 *
 *   input: mode and choices 1, seed 4, a small displacement 2, instruction
 */
#include <string.h>
#include <sys/mman.h>

#include "tests/fuzz/fuzz.h"
#include "tests/host/emulate_native.h"

#define BUFFER     4096u
#define MARGIN     256u
#define ROUNDS_MAX 32u
#define INSN_MAX   15u
#define RET        0xc3u
#define CACHE_LINE 64u

enum { CHOOSE_MODE = 3, CHOOSE_EQUAL = 4, CHOOSE_DOWN = 8, CHOOSE_FAULT = 16 };

static uint8_t *native_memory; /* below 4 GiB, for addresses of 32 bits; emulated memory stands in
                                  its place */
static uint8_t emulated_memory[BUFFER];
static uint8_t *code;

/* --- memory ----------------------------------------------------------------------------------- */

struct accesses {
    unsigned left; /* before one faults */
    bool wraps;    /* 16-bit mode: an address is an offset into the buffer */
};

static bool find(struct accesses *a, uint64_t offset, unsigned bytes, uint8_t **to)
{
    uint64_t base = a->wraps ? 0 : (uint64_t)native_memory;

    MUST(bytes >= 1 && bytes <= 16, "%u bytes", bytes);
    if (a->left == 0 || offset < base || offset - base > BUFFER - bytes ||
        (bytes == 16 && offset % 16 != 0))
        return false;
    a->left--;
    *to = emulated_memory + (offset - base);
    return true;
}

static bool read_memory(void *context, enum insn_segment segment, uint64_t offset, void *to,
                        unsigned bytes)
{
    uint8_t *from;

    MUST(segment <= INSN_GS, "segment %d", segment);
    if (!find(context, offset, bytes, &from))
        return false;
    memcpy(to, from, bytes);
    return true;
}

static bool write_memory(void *context, enum insn_segment segment, uint64_t offset,
                         const void *from, unsigned bytes)
{
    uint8_t *to;

    MUST(segment <= INSN_GS, "segment %d", segment);
    if (!find(context, offset, bytes, &to))
        return false;
    memcpy(to, from, bytes);
    return true;
}

static enum emulate_result exchange_memory(void *context, enum insn_segment segment,
                                           uint64_t offset, const void *from, const void *to,
                                           unsigned bytes)
{
    uint8_t now[16];

    if (!read_memory(context, segment, offset, now, bytes))
        return EMULATE_FAULT;
    MUST(memcmp(now, from, bytes) == 0, "nobody else writes: what was read is there");
    return write_memory(context, segment, offset, to, bytes) ? EMULATE_DONE : EMULATE_FAULT;
}

/* --- registers -------------------------------------------------------------------------------- */

/* Values at which flags change, and random ones. */
static uint64_t interesting(uint64_t *random)
{
    static const uint64_t values[] = {0,        1,          0xf,        0x10,       0x7f,
                                      0x80,     0xff,       0x7fff,     0x8000,     0xffff,
                                      1u << 31, 0x7fffffff, 0xffffffff, 1ull << 63, ~0ull};
    uint64_t pick = fuzz_random(random) % 32;

    return pick < sizeof(values) / sizeof(values[0]) ? values[pick] : fuzz_random(random);
}

/* Where the operand is to be: at a multiple of 16 for pairs. */
static uint64_t target_of(const struct insn *insn, uint64_t displacement)
{
    uint64_t target = BUFFER / 2 + displacement % 64;

    return insn->memory_size == 16 ? target & ~15ull : target;
}

/* Lead base or index to the operand, strings' registers and RSP into the buffer. */
static void aim(const struct insn *insn, struct state *s, uint64_t base, uint64_t displacement)
{
    s->gpr[RSP] = base + BUFFER / 2 + 512;
    if (insn_is_string(insn)) {
        s->gpr[RSI] = base + BUFFER / 2 - displacement % 512;
        s->gpr[RDI] = base + BUFFER / 2 + displacement / 64 % 512;
        s->gpr[RCX] = insn->rep == INSN_ONCE ? s->gpr[RCX] : displacement % ROUNDS_MAX;
        return;
    }
    bool bits = insn->op >= INSN_BT && insn->op <= INSN_BTC && insn->source == INSN_REGISTER;
    if (bits && insn->reg != insn->base && insn->reg != RSP)
        s->gpr[insn->reg] = displacement % 4096 - 2048;
    if (insn->base == INSN_NO_REGISTER || insn->base == RSP)
        return;
    if (insn->index != INSN_NO_REGISTER && insn->index != RSP)
        s->gpr[insn->index] = displacement % 128;
    s->gpr[insn->base] = base + target_of(insn, displacement) - (uint64_t)insn->displacement;
    if (insn->index != INSN_NO_REGISTER)
        s->gpr[insn->base] -= s->gpr[insn->index] * insn->scale;
    if (insn->index == insn->base) /* cannot be led there */
        s->gpr[insn->base] = 0;
}

static void begin(const struct insn *insn, struct state *s, unsigned choices, uint64_t seed,
                  uint64_t displacement, uint64_t base)
{
    uint64_t random = seed * 2 + 1;

    for (unsigned i = 0; i < 16; i++)
        s->gpr[i] = interesting(&random);
    for (unsigned i = 0; i < BUFFER; i += 8) {
        uint64_t value = choices & CHOOSE_EQUAL ? 0x1111111111111111ull : interesting(&random);
        memcpy(native_memory + i, &value, 8);
    }
    if (choices & CHOOSE_EQUAL) { /* comparisons go on, and compare-and-exchange succeeds */
        memset(&s->gpr[RAX], 0x11, 8);
        memset(&s->gpr[RDX], 0x11, 8);
        native_memory[BUFFER / 2 + seed % 32] = 0x12;
    }
    s->rflags =
        0x202 | (fuzz_random(&random) & FLAGS_ARITHMETIC) | (choices & CHOOSE_DOWN ? FLAG_DF : 0);
    aim(insn, s, base, displacement);
    memcpy(emulated_memory, native_memory, BUFFER);
}

/* --- running ---------------------------------------------------------------------------------- */

static enum emulate_result run(const struct insn *insn, struct state *s, struct accesses *a)
{
    struct emulate_memory memory = {a, read_memory, write_memory, exchange_memory};
    uint8_t memory_before[BUFFER];
    enum emulate_result result;
    unsigned rounds = 0;

    do {
        struct state before = *s;
        memcpy(memory_before, emulated_memory, BUFFER);
        result = emulate(insn, s->gpr, &s->rflags, (uint64_t)code, &memory);
        if (result == EMULATE_FAULT) {
            MUST(memcmp(s, &before, sizeof(before)) == 0, "a fault leaves the registers");
            MUST(memcmp(memory_before, emulated_memory, BUFFER) == 0, "a fault leaves memory");
        }
        MUST(++rounds <= ROUNDS_MAX + 1, "rounds of a REP");
    } while (result == EMULATE_AGAIN);
    return result;
}

/* What execute() can run: no RSP, no segment base, no operand near the code. */
static bool can_run(const struct insn *insn)
{
    return insn->segment != INSN_FS && insn->segment != INSN_GS && !insn->rip_relative &&
           insn->base != RSP && insn->op != INSN_PUSH && insn->op != INSN_POP &&
           !(insn->source == INSN_REGISTER && !insn->high_byte && insn->reg == RSP);
}

/* A locked access across a line of the cache, for which kernels make a program wait long. */
static bool splits_lock(const struct insn *insn, uint64_t offset)
{
    return (insn->lock || insn->op == INSN_XCHG) &&
           offset / CACHE_LINE != (offset + insn->memory_size - 1) / CACHE_LINE;
}

/* Is all that it touches well inside the buffer? A string goes 31 rounds of 8 bytes either way. */
static bool is_inside(const struct insn *insn, const struct state *s)
{
    if (insn_is_string(insn))
        return true;
    uint64_t offset = insn_offset(insn, s->gpr, (uint64_t)code) - (uint64_t)native_memory;
    return offset >= MARGIN && offset <= BUFFER - MARGIN && !splits_lock(insn, offset);
}

static void compare_with_processor(const struct insn *insn, const uint8_t *bytes,
                                   const struct state *start, const struct state *emulated)
{
    struct state native = *start;
    uint64_t flags = defined_flags(insn);

    memcpy(code, bytes, insn->length);
    code[insn->length] = RET;
    execute(&native, code);
    for (unsigned i = 0; i < 16; i++)
        MUST(i == RSP || native.gpr[i] == emulated->gpr[i], "register %u is 0x%llx, must be 0x%llx",
             i, (unsigned long long)emulated->gpr[i], (unsigned long long)native.gpr[i]);
    MUST(((native.rflags ^ emulated->rflags) & flags) == 0, "flags 0x%llx, must be 0x%llx",
         (unsigned long long)emulated->rflags, (unsigned long long)native.rflags);
    MUST(memcmp(native_memory, emulated_memory, BUFFER) == 0, "memory");
}

static uint8_t *map_low(int protection)
{
    void *at = mmap(NULL, BUFFER, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);

    if (at == MAP_FAILED)
        abort();
    return at;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size};
    struct state start, s;
    struct insn insn;

    if (!code) {
        code = map_low(PROT_READ | PROT_WRITE | PROT_EXEC);
        native_memory = map_low(PROT_READ | PROT_WRITE);
    }
    unsigned choices = (unsigned)fuzz_take(&in, 1);
    uint64_t seed = fuzz_take(&in, 4), displacement = fuzz_take(&in, 2);
    enum decode_mode mode = (enum decode_mode)((choices & CHOOSE_MODE) % 3);
    if (!decode(in.bytes, in.left < INSN_MAX ? in.left : INSN_MAX, mode, &insn))
        return 0;
    struct accesses a = {.left = ~0u, .wraps = mode == DECODE_16 || insn.address_size == 2};
    begin(&insn, &start, choices, seed, displacement, a.wraps ? 0 : (uint64_t)native_memory);
    if (choices & CHOOSE_FAULT)
        a.left = (unsigned)(seed % 5);
    s = start;
    enum emulate_result result = run(&insn, &s, &a);
    if (mode != DECODE_64 || (choices & CHOOSE_FAULT) || !can_run(&insn) ||
        !is_inside(&insn, &start))
        return 0;
    MUST(result == EMULATE_DONE, "nothing faults: result %d", result);
    compare_with_processor(&insn, in.bytes, &start, &s);
    return 0;
}
