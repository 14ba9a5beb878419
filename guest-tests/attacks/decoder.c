/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * All instruction forms that access memory, with prefixes of any kind and number, against whoever
 * decodes or steps over them. Each is run twice, with the same registers and at the same address:
 * once on plain memory, where the processor itself says what comes of it, and once on a page that
 * is a live page table, or on guest-physical memory without RAM. Registers, flags, exception and
 * memory must come out the same.
 */
#include "guest-tests/attacks/attacks.h"

/* Addresses below 4 GiB, so that those of 32 bits reach them: in the one-to-one map, where no RAM
 * is, with a page table of their own. */
#define AREA   0x40000000ull
#define CODE   (AREA)
#define TARGET (AREA + 0x10000)
#define BUFFER (AREA + 0x20000) /* the other operand of strings */
#define STACK  (AREA + 0x30000)
#define MIDDLE 0x800u                     /* of a page: where operands are */
#define REGION (TEST_BASE + 11 * PAGE_1G) /* what the live table maps: its first page */

#define INSN_MAX     15u
#define CODE_INT3    0xccu
#define IST_DECODER  6u
#define VECTORS      32u
#define REGISTERS    16u
#define RFLAGS_FIXED 2u
#define RFLAGS_ANY   0xcd5u /* CF, PF, AF, ZF, SF, DF, OF; not TF, IF */
#define FX_BYTES     512u
#define TABLE_TRIES  900u
#define NO_RAM_TRIES 700u

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI };

uint64_t decoder_registers[REGISTERS + 1]; /* by encoding; RFLAGS */
uint64_t decoder_code;
void decoder_enter(void);

/* A page at one address with two frames: what the first run uses and what the second does. */
struct place {
    uint64_t at, frame[2];
};

enum { PLAIN, TRAPPED };
static struct place target = {.at = TARGET}, buffer = {.at = BUFFER}, stack = {.at = STACK};
static uint64_t code_frame, probe_frame, root, random;
static uint8_t ist_stack[8192] __attribute__((aligned(16)));
static uint8_t fx_start[FX_BYTES] __attribute__((aligned(16)));

struct outcome {
    struct caught caught;
    struct trap frame;
    uint8_t fx[FX_BYTES] __attribute__((aligned(16)));
};
static struct outcome outcomes[2];

static uint64_t below(uint64_t n)
{
    return random_below(&random, n);
}

/* --- opcodes ---------------------------------------------------------------------------------- */

enum immediate { NONE, BYTE, FULL, GROUP_F6, GROUP_F7 };
enum map { MAP_1, MAP_0F, MAP_0F38, MAP_0F3A };

/* Opcodes [first, last] of a map, whose ModRM.reg may be what `regs` has a bit for. */
struct opcodes {
    enum map map;
    uint8_t first, last;
    enum immediate immediate;
    uint8_t regs;
};

#define ANY 0xffu

/* What the hypervisor emulates where no RAM is (arch/x86_64/decode.h). */
static const struct opcodes known[] = {
    {MAP_1, 0x00, 0x03, NONE, ANY},
    {MAP_1, 0x08, 0x0b, NONE, ANY},
    {MAP_1, 0x10, 0x13, NONE, ANY},
    {MAP_1, 0x18, 0x1b, NONE, ANY},
    {MAP_1, 0x20, 0x23, NONE, ANY},
    {MAP_1, 0x28, 0x2b, NONE, ANY},
    {MAP_1, 0x30, 0x33, NONE, ANY},
    {MAP_1, 0x38, 0x3b, NONE, ANY},
    {MAP_1, 0x63, 0x63, NONE, ANY},
    {MAP_1, 0x80, 0x80, BYTE, ANY},
    {MAP_1, 0x81, 0x81, FULL, ANY},
    {MAP_1, 0x83, 0x83, BYTE, ANY},
    {MAP_1, 0x84, 0x8b, NONE, ANY},
    {MAP_1, 0x8f, 0x8f, NONE, 1 << 0},
    {MAP_1, 0xc6, 0xc6, BYTE, 1 << 0},
    {MAP_1, 0xc7, 0xc7, FULL, 1 << 0},
    {MAP_1, 0xf6, 0xf6, GROUP_F6, 1 << 0 | 1 << 2 | 1 << 3},
    {MAP_1, 0xf7, 0xf7, GROUP_F7, 1 << 0 | 1 << 2 | 1 << 3},
    {MAP_1, 0xfe, 0xfe, NONE, 1 << 0 | 1 << 1},
    {MAP_1, 0xff, 0xff, NONE, 1 << 0 | 1 << 1 | 1 << 6},
    {MAP_0F, 0xa3, 0xa3, NONE, ANY},
    {MAP_0F, 0xab, 0xab, NONE, ANY},
    {MAP_0F, 0xb0, 0xb1, NONE, ANY},
    {MAP_0F, 0xb3, 0xb3, NONE, ANY},
    {MAP_0F, 0xb6, 0xb7, NONE, ANY},
    {MAP_0F, 0xba, 0xba, BYTE, 0xf0},
    {MAP_0F, 0xbb, 0xbb, NONE, ANY},
    {MAP_0F, 0xbe, 0xbf, NONE, ANY},
    {MAP_0F, 0xc0, 0xc1, NONE, ANY},
    {MAP_0F, 0xc7, 0xc7, NONE, 1 << 1},
};

/* What it must step over, where it is a store to a table. */
static const struct opcodes others[] = {
    {MAP_1, 0x69, 0x69, FULL, ANY},     {MAP_1, 0x6b, 0x6b, BYTE, ANY},
    {MAP_1, 0x8c, 0x8c, NONE, 0x3f},    {MAP_1, 0xc0, 0xc1, BYTE, ANY},
    {MAP_1, 0xd0, 0xd3, NONE, ANY},     {MAP_1, 0xd8, 0xd8, NONE, ANY},
    {MAP_1, 0xd9, 0xd9, NONE, 0xaf},    {MAP_1, 0xda, 0xdc, NONE, ANY},
    {MAP_1, 0xdd, 0xdd, NONE, 0xaf},    {MAP_1, 0xde, 0xdf, NONE, ANY},
    {MAP_1, 0xf6, 0xf6, GROUP_F6, ANY}, {MAP_1, 0xf7, 0xf7, GROUP_F7, ANY},
    {MAP_0F, 0x10, 0x17, NONE, ANY},    {MAP_0F, 0x28, 0x2f, NONE, ANY},
    {MAP_0F, 0x40, 0x4f, NONE, ANY},    {MAP_0F, 0x51, 0x6f, NONE, ANY},
    {MAP_0F, 0x70, 0x70, BYTE, ANY},    {MAP_0F, 0x74, 0x76, NONE, ANY},
    {MAP_0F, 0x7e, 0x7f, NONE, ANY},    {MAP_0F, 0x90, 0x9f, NONE, ANY},
    {MAP_0F, 0xa4, 0xa4, BYTE, ANY},    {MAP_0F, 0xa5, 0xa5, NONE, ANY},
    {MAP_0F, 0xac, 0xac, BYTE, ANY},    {MAP_0F, 0xad, 0xad, NONE, ANY},
    {MAP_0F, 0xaf, 0xaf, NONE, ANY},    {MAP_0F, 0xbc, 0xbd, NONE, ANY},
    {MAP_0F, 0xc2, 0xc2, BYTE, ANY},    {MAP_0F, 0xc3, 0xc3, NONE, ANY},
    {MAP_0F, 0xc4, 0xc4, BYTE, ANY},    {MAP_0F, 0xc6, 0xc6, BYTE, ANY},
    {MAP_0F, 0xd0, 0xf6, NONE, ANY},    {MAP_0F, 0xf8, 0xfe, NONE, ANY},
    {MAP_0F38, 0x00, 0x0b, NONE, ANY},  {MAP_0F38, 0x1c, 0x1e, NONE, ANY},
    {MAP_0F38, 0x20, 0x2b, NONE, ANY},  {MAP_0F38, 0x30, 0x41, NONE, ANY},
    {MAP_0F38, 0xf0, 0xf1, NONE, ANY},  {MAP_0F3A, 0x08, 0x0f, BYTE, ANY},
    {MAP_0F3A, 0x14, 0x17, BYTE, ANY},  {MAP_0F3A, 0x20, 0x22, BYTE, ANY},
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* --- one instruction -------------------------------------------------------------------------- */

struct insn {
    uint8_t byte[INSN_MAX + 1 + 8]; /* one too many, and INT3 behind it */
    unsigned length;
    bool operand_16, address_32, wide;
    uint8_t rex;
};

static void put(struct insn *insn, uint64_t byte)
{
    if (insn->length < sizeof(insn->byte))
        insn->byte[insn->length++] = (uint8_t)byte;
}

static void put_number(struct insn *insn, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        put(insn, value >> 8 * i);
}

static bool one_in(uint64_t n)
{
    return below(n) == 0;
}

/* Prefixes in any order, some of them twice; sometimes so many that the limit is reached. */
static void put_prefixes(struct insn *insn)
{
    static const uint8_t all[] = {0x66, 0x67, 0xf2, 0xf3, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65};
    unsigned count = (unsigned)below(4);

    if (one_in(8))
        count += (unsigned)below(9);
    for (unsigned i = 0; i < count; i++) {
        uint8_t prefix = all[below(COUNT(all))];
        insn->operand_16 |= prefix == 0x66;
        insn->address_32 |= prefix == 0x67;
        put(insn, prefix);
    }
    if (one_in(8))
        put(insn, 0xf0);
    if (one_in(16)) /* a REX that does not count: another prefix follows */
        put(insn, 0x48), put(insn, 0x3e);
    if (one_in(2)) {
        insn->rex = (uint8_t)(0x40 | below(16));
        insn->wide = (insn->rex & 8) != 0;
        put(insn, insn->rex);
    }
}

static void put_opcode(struct insn *insn, enum map map, uint8_t opcode)
{
    if (map != MAP_1)
        put(insn, 0x0f);
    if (map == MAP_0F38 || map == MAP_0F3A)
        put(insn, map == MAP_0F38 ? 0x38 : 0x3a);
    put(insn, opcode);
}

static unsigned immediate_bytes(const struct insn *insn, enum immediate immediate, unsigned reg)
{
    switch (immediate) {
    case BYTE:
        return 1;
    case FULL:
        return insn->operand_16 && !insn->wide ? 2 : 4;
    case GROUP_F6:
        return reg < 2 ? 1 : 0;
    case GROUP_F7:
        return reg < 2 ? immediate_bytes(insn, FULL, reg) : 0;
    default:
        return 0;
    }
}

/* Small numbers: they are bit offsets and counts, too. */
static void any_registers(void)
{
    for (unsigned r = 0; r < REGISTERS; r++)
        decoder_registers[r] = one_in(4) ? 0 - below(1024) : below(1024);
    decoder_registers[RCX] = below(6);
    decoder_registers[RSP] = STACK + MIDDLE;
    decoder_registers[REGISTERS] = RFLAGS_FIXED | (random_next(&random) & RFLAGS_ANY);
}

/* ModRM, SIB and displacement, for `to`; `behind` bytes of immediate follow. */
static void put_memory(struct insn *insn, unsigned reg, uint64_t to, unsigned behind)
{
    unsigned mod = (unsigned)below(3), rm = (unsigned)below(8);
    unsigned extend = insn->rex & 1 ? 8 : 0;
    uint64_t displacement = mod == 1 ? 0 - below(100) : mod == 2 ? 0 - below(100000) : 0;

    if (rm == RSP) { /* with an index, or none; RSP itself is no base: it leads elsewhere */
        unsigned base = (unsigned)below(8), index = (unsigned)below(8), scale = (unsigned)below(4);
        if (base == RSP || base == RBP)
            base = RBX;
        put(insn, mod << 6 | reg << 3 | RSP);
        put(insn, scale << 6 | index << 3 | base);
        unsigned full_index = index | (insn->rex & 2 ? 8 : 0);
        if (full_index == (base | extend))
            decoder_registers[base | extend] = (to - displacement) / ((1u << scale) + 1);
        else
            decoder_registers[base | extend] =
                to - displacement -
                (full_index == RSP ? 0 : decoder_registers[full_index] << scale);
    } else if (mod == 0 && rm == RBP) { /* relative to RIP */
        put(insn, reg << 3 | RBP);
        displacement = to - (CODE + insn->length + 4 + behind);
        mod = 2;
    } else {
        put(insn, mod << 6 | reg << 3 | rm);
        decoder_registers[rm | extend] = to - displacement;
    }
    put_number(insn, displacement, mod == 1 ? 1 : mod == 2 ? 4 : 0);
}

static unsigned any_reg(uint8_t allowed)
{
    unsigned reg;

    do {
        reg = (unsigned)below(8);
    } while (!(allowed >> reg & 1));
    return reg;
}

static void put_modrm_insn(struct insn *insn, const struct opcodes *o, uint64_t to)
{
    unsigned reg = any_reg(o->regs);
    bool movsxd = o->map == MAP_1 && o->first == 0x63;

    if (movsxd && insn->operand_16 && !insn->wide) /* processors do not agree on this one */
        o = &known[0];
    unsigned behind = immediate_bytes(insn, o->immediate, reg);

    put_opcode(insn, o->map, (uint8_t)(o->first + below(o->last - o->first + 1u)));
    put_memory(insn, reg, to, behind);
    put_number(insn, random_next(&random), behind);
}

/* MOVS, CMPS, STOS, LODS, SCAS; one of the operands is in the target. */
static void put_string(struct insn *insn, uint64_t to)
{
    static const uint8_t strings[] = {0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf};
    uint8_t opcode = strings[below(COUNT(strings))];
    bool destination = one_in(2) || opcode == 0xaa || opcode == 0xab || opcode >= 0xae;

    if (opcode == 0xac || opcode == 0xad)
        destination = false;
    put(insn, opcode);
    decoder_registers[RDI] = destination ? to : BUFFER + MIDDLE;
    decoder_registers[RSI] = destination ? BUFFER + MIDDLE : to;
}

static void put_offset(struct insn *insn, uint64_t to)
{
    put(insn, 0xa0 + below(4));
    put_number(insn, to, insn->address_32 ? 4 : 8);
}

static struct insn any_insn(const struct opcodes *table, unsigned count)
{
    struct insn insn = {0};
    uint64_t to = TARGET + MIDDLE + below(64);

    any_registers();
    put_prefixes(&insn);
    switch (below(8)) {
    case 0:
        put_string(&insn, to);
        break;
    case 1:
        put_offset(&insn, to);
        break;
    default:
        put_modrm_insn(&insn, &table[below(count)], to);
        break;
    }
    return insn;
}

/* --- running it ------------------------------------------------------------------------------- */

static void lead(const struct place *place, unsigned which)
{
    space_map(root, place->at, place->frame[which], PTE_W | PTE_A | PTE_D);
    invlpg(place->at);
}

static void run(unsigned which)
{
    struct outcome *o = &outcomes[which];

    lead(&target, which);
    lead(&buffer, which);
    lead(&stack, which);
    __asm__ volatile("fxrstor64 %0" : : "m"(fx_start));
    try_run(decoder_enter);
    __asm__ volatile("fxsave64 %0" : "=m"(o->fx));
    o->caught = caught;
    o->frame = caught_frame;
    if (caught.vector != VECTOR_PF)
        o->caught.cr2 = 0;
}

static void tell(const struct insn *insn)
{
    print("instruction:");
    for (unsigned i = 0; i < insn->length; i++)
        print(" %x", (uint64_t)insn->byte[i]);
    print("\n");
}

#define SAME(field, what)                                                                          \
    do {                                                                                           \
        if (outcomes[TRAPPED].field != outcomes[PLAIN].field) {                                    \
            tell(insn);                                                                            \
            CHECK_EQ(outcomes[TRAPPED].field, outcomes[PLAIN].field, what);                        \
        }                                                                                          \
    } while (0)

static void compare_registers(const struct insn *insn)
{
    SAME(caught.vector, "exception");
    SAME(caught.error_code, "error code");
    SAME(caught.cr2, "CR2");
    SAME(frame.rip, "RIP");
    SAME(frame.rflags, "RFLAGS");
    SAME(frame.rax, "RAX");
    SAME(frame.rcx, "RCX");
    SAME(frame.rdx, "RDX");
    SAME(frame.rbx, "RBX");
    SAME(frame.rsp, "RSP");
    SAME(frame.rbp, "RBP");
    SAME(frame.rsi, "RSI");
    SAME(frame.rdi, "RDI");
    SAME(frame.r8, "R8");
    SAME(frame.r9, "R9");
    SAME(frame.r10, "R10");
    SAME(frame.r11, "R11");
    SAME(frame.r12, "R12");
    SAME(frame.r13, "R13");
    SAME(frame.r14, "R14");
    SAME(frame.r15, "R15");
    for (unsigned i = 0; i < FX_BYTES; i++)
        SAME(fx[i], "FPU and SSE state");
}

/* The two frames of a place hold the same, and so what comes of the next instruction. */
static void compare_place(const struct insn *insn, const struct place *place, const char *name)
{
    for (uint64_t w = 0; w < PAGE; w += 8) {
        uint64_t plain = *word_at(place->frame[PLAIN] + w);
        uint64_t trapped = *word_at(place->frame[TRAPPED] + w);
        if (plain != trapped) {
            tell(insn);
            CHECK_EQ(trapped, plain, "%s, at 0x%x", name, w);
        }
    }
}

static void put_in_place(const struct insn *insn)
{
    memset((void *)code_frame, CODE_INT3, 2 * INSN_MAX);
    memcpy((void *)code_frame, insn->byte, insn->length);
}

/* All exceptions come on a stack of their own, since RSP may be anything then. */
static void use_stack(unsigned ist)
{
    tss_set_stack(IST_DECODER, (uint64_t)ist_stack + sizeof(ist_stack));
    for (unsigned v = 0; v < VECTORS; v++)
        idt_set(v, true, ist);
}

static void fill(uint64_t page)
{
    for (uint64_t w = 0; w < PAGE; w += 8)
        *word_at(page + w) = random_next(&random);
}

static void decoder_init(uint64_t salt)
{
    random = attack_random(salt);
    root = attack_space();
    write_cr0((read_cr0() & ~(1ull << 2)) | 2); /* EM off, MP on: SSE */
    write_cr4(read_cr4() | CR4_OSFXSR | CR4_OSXMMEXCPT);
    __asm__ volatile("fninit; fxsave64 %0" : "=m"(fx_start));
    code_frame = page_alloc();
    probe_frame = page_alloc();
    decoder_code = CODE;
    *space_entry(root, AREA, 2) = 0; /* its large page makes way */
    space_map(root, CODE, code_frame, 0);
    for (struct place *p = &target;; p = p == &target ? &buffer : &stack) {
        p->frame[PLAIN] = page_alloc();
        p->frame[TRAPPED] = page_alloc();
        fill(p->frame[PLAIN]);
        memcpy((void *)p->frame[TRAPPED], (const void *)p->frame[PLAIN], PAGE);
        if (p == &stack)
            break;
    }
    write_cr3(root);
    use_stack(IST_DECODER);
}

/* --- stores to a live table ------------------------------------------------------------------- */

/* A table whose first entry maps a page that is looked at; what the others hold is anything. */
static void link_table(void)
{
    uint64_t first = probe_frame | PTE_P | PTE_W | PTE_A | PTE_D;

    *word_at(target.frame[PLAIN]) = first;
    *word_at(target.frame[TRAPPED]) = first;
    *word_at(probe_frame) = value_of(1);
    *space_entry(root, REGION, 2) = target.frame[TRAPPED] | PTE_P | PTE_W | PTE_A;
}

uint64_t attack_decoder(void)
{
    uint64_t tries = TABLE_TRIES * attack_rounds;

    decoder_init(30);
    link_table();
    for (uint64_t i = 0; i < tries; i++) {
        struct insn insn =
            one_in(2) ? any_insn(known, COUNT(known)) : any_insn(others, COUNT(others));
        put_in_place(&insn);
        run(PLAIN);
        CHECK_EQ(*word_at(REGION), value_of(1), "the page that the live table maps");
        run(TRAPPED);
        compare_registers(&insn);
        compare_place(&insn, &target, "the live table");
        compare_place(&insn, &buffer, "the other operand");
        compare_place(&insn, &stack, "the stack");
    }
    use_stack(0);
    return tries;
}

/* --- accesses where no RAM is ----------------------------------------------------------------- */

/* There all reads give ones and writes are forgotten: the plain page is made so before each. */
static void all_ones(uint64_t page)
{
    for (uint64_t w = MIDDLE - 1024; w < MIDDLE + 1024; w += 8)
        *word_at(page + w) = ~0ull;
}

uint64_t attack_decoder_no_ram(void)
{
    uint64_t tries = NO_RAM_TRIES * attack_rounds;

    decoder_init(31);
    target.frame[TRAPPED] = NO_RAM;
    for (uint64_t i = 0; i < tries; i++) {
        struct insn insn = any_insn(known, COUNT(known));
        put_in_place(&insn);
        all_ones(target.frame[PLAIN]);
        run(PLAIN);
        run(TRAPPED);
        compare_registers(&insn);
        compare_place(&insn, &buffer, "the other operand");
        compare_place(&insn, &stack, "the stack");
    }
    use_stack(0);
    return tries;
}
