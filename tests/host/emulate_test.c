/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Emulation against the processor that runs the test: the same instruction, registers, flags and
 * memory, once executed by a generated function and once by emulate(). Registers, defined flags and
 * memory must agree.
 */
#include <string.h>
#include <sys/mman.h>

#include "tests/host/emulate_native.h"
#include "tests/host/test.h"

#define BUFFER 4096u

static uint8_t native_memory[BUFFER] __attribute__((aligned(4096)));
static uint8_t emulated_memory[BUFFER] __attribute__((aligned(4096)));
static uint8_t *code;

/* The emulated memory stands where the native one does. */
static bool at(uint64_t offset, unsigned bytes, uint8_t **to)
{
    uint64_t base = (uint64_t)native_memory;

    if (offset < base || offset + bytes > base + BUFFER)
        return false;
    *to = emulated_memory + (offset - base);
    return true;
}

static bool read_memory(void *context, enum insn_segment segment, uint64_t offset, void *to,
                        unsigned bytes)
{
    uint8_t *from;

    (void)context;
    (void)segment;
    if (!at(offset, bytes, &from))
        return false;
    memcpy(to, from, bytes);
    return true;
}

static bool write_memory(void *context, enum insn_segment segment, uint64_t offset,
                         const void *from, unsigned bytes)
{
    uint8_t *to;

    (void)context;
    (void)segment;
    if (!at(offset, bytes, &to))
        return false;
    memcpy(to, from, bytes);
    return true;
}

/* Refuses the first time after `contend` is set: another processor was faster. */
static bool contend;

static enum emulate_result exchange_memory(void *context, enum insn_segment segment,
                                           uint64_t offset, const void *from, const void *to,
                                           unsigned bytes)
{
    uint8_t now[16];

    if (contend) {
        contend = false;
        return EMULATE_AGAIN;
    }
    if (!read_memory(context, segment, offset, now, bytes) || memcmp(now, from, bytes) != 0)
        return EMULATE_FAULT; /* nobody else writes: what was read must be there */
    return write_memory(context, segment, offset, to, bytes) ? EMULATE_DONE : EMULATE_FAULT;
}

static const struct emulate_memory memory = {NULL, read_memory, write_memory, exchange_memory};

static void compare_states(const struct state *native, const struct state *emulated, uint64_t flags,
                           const char *name)
{
    for (unsigned i = 0; i < 16; i++) {
        if (i != RSP)
            CHECK(native->gpr[i] == emulated->gpr[i], "%s: register %u is 0x%llx, must be 0x%llx",
                  name, i, (unsigned long long)emulated->gpr[i],
                  (unsigned long long)native->gpr[i]);
    }
    CHECK(((native->rflags ^ emulated->rflags) & flags) == 0, "%s: flags 0x%llx, must be 0x%llx",
          name, (unsigned long long)emulated->rflags, (unsigned long long)native->rflags);
    CHECK(memcmp(native_memory, emulated_memory, BUFFER) == 0, "%s: memory", name);
}

static void one_case(const uint8_t *bytes, size_t length, const struct state *start,
                     const char *name)
{
    struct state native = *start, emulated = *start;
    struct insn insn;
    enum emulate_result result;

    memcpy(code, bytes, length);
    code[length] = 0xc3;
    memcpy(emulated_memory, native_memory, BUFFER);
    CHECK(decode(bytes, length, DECODE_64, &insn), "%s: is not decoded", name);
    do {
        result = emulate(&insn, emulated.gpr, &emulated.rflags, (uint64_t)code, &memory);
    } while (result == EMULATE_AGAIN);
    CHECK(result == EMULATE_DONE, "%s: result %d", name, result);
    execute(&native, code);
    compare_states(&native, &emulated, defined_flags(&insn), name);
}

/* Values at which flags change, and random ones. */
static uint64_t interesting(uint64_t *random)
{
    static const uint64_t values[] = {0,        1,          0xf,        0x10,       0x7f,
                                      0x80,     0xff,       0x7fff,     0x8000,     0xffff,
                                      1u << 31, 0x7fffffff, 0xffffffff, 1ull << 63, ~0ull};
    uint64_t pick = test_random(random) % 32;

    return pick < sizeof(values) / sizeof(values[0]) ? values[pick] : test_random(random);
}

static void randomize(struct state *s, uint64_t *random)
{
    for (unsigned i = 0; i < 16; i++)
        s->gpr[i] = interesting(random);
    s->rflags = 0x202 | (test_random(random) & FLAGS_ARITHMETIC);
    for (unsigned i = 0; i < BUFFER; i += 8) {
        uint64_t value = interesting(random);
        memcpy(native_memory + i, &value, 8);
    }
    s->gpr[RBX] = (uint64_t)native_memory + BUFFER / 2 + test_random(random) % 64;
}

/* Encodings with [RBX] as the memory operand (ModRM 00 reg 011) and `reg` where a register is. */
static const struct {
    const char *name;
    uint8_t opcode[3];
    uint8_t opcode_bytes;
    uint8_t fixed_reg; /* 0xff: any register */
    uint8_t immediate_bytes;
} forms[] = {
    {"ADD", {0x01}, 1, 0xff, 0},
    {"ADD8", {0x00}, 1, 0xff, 0},
    {"ADD r,m", {0x03}, 1, 0xff, 0},
    {"OR", {0x09}, 1, 0xff, 0},
    {"ADC", {0x11}, 1, 0xff, 0},
    {"ADC8", {0x10}, 1, 0xff, 0},
    {"SBB", {0x19}, 1, 0xff, 0},
    {"SBB8", {0x18}, 1, 0xff, 0},
    {"AND", {0x21}, 1, 0xff, 0},
    {"SUB", {0x29}, 1, 0xff, 0},
    {"SUB r,m", {0x2b}, 1, 0xff, 0},
    {"XOR", {0x31}, 1, 0xff, 0},
    {"CMP", {0x39}, 1, 0xff, 0},
    {"CMP r,m", {0x3b}, 1, 0xff, 0},
    {"CMP8", {0x38}, 1, 0xff, 0},
    {"TEST", {0x85}, 1, 0xff, 0},
    {"TEST8", {0x84}, 1, 0xff, 0},
    {"XCHG", {0x87}, 1, 0xff, 0},
    {"XCHG8", {0x86}, 1, 0xff, 0},
    {"MOV", {0x89}, 1, 0xff, 0},
    {"MOV8", {0x88}, 1, 0xff, 0},
    {"MOV r,m", {0x8b}, 1, 0xff, 0},
    {"MOV8 r,m", {0x8a}, 1, 0xff, 0},
    {"MOVSXD", {0x63}, 1, 0xff, 0},
    {"ADD i", {0x81}, 1, 0, 4},
    {"OR i8", {0x83}, 1, 1, 1},
    {"ADC i8", {0x83}, 1, 2, 1},
    {"SBB8 i", {0x80}, 1, 3, 1},
    {"AND i", {0x81}, 1, 4, 4},
    {"SUB i", {0x81}, 1, 5, 4},
    {"XOR i8", {0x83}, 1, 6, 1},
    {"CMP i", {0x81}, 1, 7, 4},
    {"MOV i", {0xc7}, 1, 0, 4},
    {"MOV8 i", {0xc6}, 1, 0, 1},
    {"TEST i", {0xf7}, 1, 0, 4},
    {"TEST8 i", {0xf6}, 1, 0, 1},
    {"NOT", {0xf7}, 1, 2, 0},
    {"NEG", {0xf7}, 1, 3, 0},
    {"NEG8", {0xf6}, 1, 3, 0},
    {"INC", {0xff}, 1, 0, 0},
    {"DEC", {0xff}, 1, 1, 0},
    {"INC8", {0xfe}, 1, 0, 0},
    {"CMPXCHG", {0x0f, 0xb1}, 2, 0xff, 0},
    {"CMPXCHG8", {0x0f, 0xb0}, 2, 0xff, 0},
    {"XADD", {0x0f, 0xc1}, 2, 0xff, 0},
    {"XADD8", {0x0f, 0xc0}, 2, 0xff, 0},
    {"MOVZX8", {0x0f, 0xb6}, 2, 0xff, 0},
    {"MOVZX16", {0x0f, 0xb7}, 2, 0xff, 0},
    {"MOVSX8", {0x0f, 0xbe}, 2, 0xff, 0},
    {"MOVSX16", {0x0f, 0xbf}, 2, 0xff, 0},
    {"BT i", {0x0f, 0xba}, 2, 4, 1},
    {"BTS i", {0x0f, 0xba}, 2, 5, 1},
    {"BTR i", {0x0f, 0xba}, 2, 6, 1},
    {"BTC i", {0x0f, 0xba}, 2, 7, 1},
    {"MOVNTI", {0x0f, 0xc3}, 2, 0xff, 0},
    {"MOVBE r,m", {0x0f, 0x38, 0xf0}, 3, 0xff, 0},
    {"MOVBE m,r", {0x0f, 0x38, 0xf1}, 3, 0xff, 0},
};

static void one_form(size_t form, uint64_t *random)
{
    static const uint8_t rex_choices[] = {0, 0x40, 0x44, 0x48, 0x4c};
    struct state start;
    uint8_t bytes[16];
    size_t length = 0;
    uint8_t rex = rex_choices[test_random(random) % 5];
    bool word = rex < 0x48 && test_random(random) % 3 == 0;
    bool movnti = forms[form].opcode[1] == 0xc3 && forms[form].opcode_bytes == 2;
    bool movsxd = forms[form].opcode[0] == 0x63;

    if (word && !movnti && !movsxd)
        bytes[length++] = 0x66;
    else
        word = false;
    if (rex)
        bytes[length++] = rex;
    memcpy(bytes + length, forms[form].opcode, forms[form].opcode_bytes);
    length += forms[form].opcode_bytes;
    uint8_t reg = forms[form].fixed_reg;
    if (reg == 0xff) {
        do
            reg = (uint8_t)(test_random(random) % 8);
        while (!(rex & 4) && (reg == RSP || reg == RBX || reg == 7 || reg == RBP));
    }
    bytes[length++] = (uint8_t)(reg << 3 | RBX);
    unsigned immediate = forms[form].immediate_bytes;
    immediate = immediate == 4 && word ? 2 : immediate;
    for (unsigned i = 0; i < immediate; i++)
        bytes[length++] = (uint8_t)interesting(random);
    randomize(&start, random);
    if (forms[form].opcode[0] == 0x86 || forms[form].opcode[0] == 0x87)
        start.gpr[RBX] &= ~7ull; /* XCHG locks; across a line of the cache kernels make it wait */
    if (test_random(random) % 2) /* let compare-and-exchange succeed now and then */
        memcpy(&start.gpr[RAX], (const void *)start.gpr[RBX], 8);
    one_case(bytes, length, &start, forms[form].name);
}

static void every_form_does_what_the_processor_does(void)
{
    uint64_t random = 31;

    for (size_t form = 0; form < sizeof(forms) / sizeof(forms[0]); form++) {
        for (unsigned n = 0; n < 3000; n++)
            one_form(form, &random);
    }
}

/* BT, BTS, BTR, BTC with a register reach before and behind their operand. */
static void bit_strings_reach_beyond_the_operand(void)
{
    static const uint8_t opcodes[] = {0xa3, 0xab, 0xb3, 0xbb};
    uint64_t random = 32;
    struct state start;

    for (unsigned n = 0; n < 20000; n++) {
        uint8_t bytes[5] = {n & 4   ? 0x48
                            : n & 8 ? 0x66
                                    : 0x40,
                            0x0f, opcodes[n & 3], RCX << 3 | RBX};
        randomize(&start, &random);
        int64_t bit = (int64_t)(test_random(&random) % 8000) - 4000;
        start.gpr[RCX] = n & 8 && !(n & 4) ? (uint64_t)(uint16_t)bit : (uint64_t)bit;
        if (!(n & 4) && !(n & 8))
            start.gpr[RCX] = (uint32_t)bit;
        one_case(bytes, 4, &start, "bit string");
    }
}

/* CMPXCHG8B and, with REX.W, CMPXCHG16B of [RBX], with success in half of the cases. */
static void pairs_are_compared_and_exchanged(void)
{
    uint64_t random = 34;
    struct state start;

    for (unsigned n = 0; n < 20000; n++) {
        uint8_t bytes[] = {n & 1 ? 0x48 : 0x40, 0x0f, 0xc7, 1 << 3 | RBX};
        unsigned half = n & 1 ? 8 : 4;
        randomize(&start, &random);
        start.gpr[RBX] = (uint64_t)native_memory + BUFFER / 2; /* also half of what is stored */
        if (n & 2) {
            memcpy(&start.gpr[RAX], native_memory + BUFFER / 2, half);
            memcpy(&start.gpr[RDX], native_memory + BUFFER / 2 + half, half);
        }
        one_case(bytes, sizeof(bytes), &start, n & 1 ? "CMPXCHG16B" : "CMPXCHG8B");
    }
}

/* On the processor R15 lends RSP its value for the one instruction, and R14 keeps RSP meanwhile. */
static void push_and_pop_move_the_stack(void)
{
    static const uint8_t to_test_stack[] = {0x49, 0x89, 0xe6, 0x4c, 0x89, 0xfc};
    static const uint8_t and_back[] = {0x49, 0x89, 0xe7, 0x4c, 0x89, 0xf4, 0xc3};
    static const struct {
        uint8_t bytes[5];
        uint8_t length;
    } cases[] = {
        {{0xff, 6 << 3 | RBX}, 2},                         /* PUSH qword [RBX] */
        {{0x66, 0xff, 6 << 3 | RBX}, 3},                   /* PUSH word [RBX] */
        {{0xff, 0x40 | 6 << 3 | RSP, 0x24, 24}, 4},        /* PUSH qword [RSP + 24] */
        {{0x8f, RBX}, 2},                                  /* POP qword [RBX] */
        {{0x66, 0x8f, RBX}, 3},                            /* POP word [RBX] */
        {{0x8f, 0x40 | RSP, 0x24, 24}, 4},                 /* POP qword [RSP + 24] */
        {{0x66, 0x8f, 0x40 | RSP, 0x24, (uint8_t)-24}, 5}, /* POP word [RSP - 24] */
    };
    uint64_t random = 35;
    struct state native, emulated;
    struct insn insn;

    for (unsigned n = 0; n < 20000; n++) {
        const uint8_t *bytes = cases[n % 7].bytes;
        size_t length = cases[n % 7].length;
        randomize(&native, &random);
        native.gpr[RSP] = native.gpr[15] =
            (uint64_t)native_memory + 1024 + test_random(&random) % 512;
        emulated = native;
        memcpy(emulated_memory, native_memory, BUFFER);
        CHECK(decode(bytes, length, DECODE_64, &insn) && insn.length == length, "case %u", n % 7);
        CHECK(emulate(&insn, emulated.gpr, &emulated.rflags, 0, &memory) == EMULATE_DONE, "case %u",
              n % 7);
        memcpy(code, to_test_stack, sizeof(to_test_stack));
        memcpy(code + sizeof(to_test_stack), bytes, length);
        memcpy(code + sizeof(to_test_stack) + length, and_back, sizeof(and_back));
        execute(&native, code);
        CHECK(native.gpr[15] == emulated.gpr[RSP], "case %u: RSP", n % 7);
        native.gpr[14] = emulated.gpr[14];
        native.gpr[15] = emulated.gpr[15];
        compare_states(&native, &emulated, FLAGS_ARITHMETIC, "stack");
    }
}

/* Memory and RAX of one byte all over, so that comparisons go on, and one byte that ends them. */
static void make_equal(struct state *s, uint64_t *random)
{
    memset(native_memory, 0x11, BUFFER);
    memset(&s->gpr[RAX], 0x11, sizeof(s->gpr[RAX]));
    native_memory[900 + test_random(random) % 2200] = 0x12;
}

static void strings_go_both_ways(void)
{
    static const uint8_t opcodes[] = {0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf};
    static const uint8_t prefixes[][2] = {{0xf3, 0x40}, {0xf3, 0x48}, {0x66, 0xf3}, {0xf2, 0x40},
                                          {0xf2, 0x48}, {0x66, 0xf2}, {0x40, 0},    {0x48, 0}};
    uint64_t random = 33;
    struct state start;

    for (unsigned n = 0; n < 40000; n++) {
        uint8_t bytes[4];
        size_t length = 0;
        const uint8_t *prefix = prefixes[test_random(&random) % 8];
        bytes[length++] = prefix[0];
        if (prefix[1])
            bytes[length++] = prefix[1];
        bytes[length++] = opcodes[test_random(&random) % 10];
        randomize(&start, &random);
        if (test_random(&random) % 2)
            make_equal(&start, &random);
        start.gpr[RSI] = (uint64_t)native_memory + 1000 + test_random(&random) % 1000;
        start.gpr[RDI] = (uint64_t)native_memory + 2000 + test_random(&random) % 1000;
        start.gpr[RCX] = test_random(&random) % 60;
        start.rflags |= test_random(&random) % 2 ? FLAG_DF : 0;
        one_case(bytes, length, &start, "string");
    }
}

/* An access that faults leaves registers, flags and memory alone. */
static void a_fault_changes_nothing(void)
{
    uint8_t bytes[] = {0x48, 0x87, 0x03}; /* XCHG [RBX], RAX */
    struct insn insn;
    struct state s = {.gpr = {1, 2, 3, 16}, .rflags = 0x246}, before = s;

    CHECK(decode(bytes, sizeof(bytes), DECODE_64, &insn), "decode");
    CHECK(emulate(&insn, s.gpr, &s.rflags, 0, &memory) == EMULATE_FAULT, "result");
    CHECK(memcmp(&s, &before, sizeof(s)) == 0, "state");
}

int main(void)
{
    code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (code == MAP_FAILED) {
        printf("FAIL emulate: no executable memory\n");
        return 1;
    }
    RUN(every_form_does_what_the_processor_does);
    RUN(bit_strings_reach_beyond_the_operand);
    RUN(pairs_are_compared_and_exchanged);
    RUN(push_and_pop_move_the_stack);
    RUN(strings_go_both_ways);
    RUN(a_fault_changes_nothing);
    return test_status();
}
