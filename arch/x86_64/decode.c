/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * See decode.h. Opcodes are rows of three tables (SDM 2D A.3), one a map; where an opcode stands
 * for a group of instructions, ModRM.reg chooses one of a row of `groups`.
 */
#include "arch/x86_64/decode.h"

#include <string.h>

/* What an opcode's operands are, SDM 2D A.2. E: ModRM memory, G: ModRM register, I: immediate, O:
 * offset. */
enum form {
    FORM_NONE = 0, /* not decoded here */
    FORM_EG,       /* memory, register */
    FORM_GE,       /* register, memory */
    FORM_EI,       /* memory, immediate of the operand size, at most 4 bytes */
    FORM_EI8,      /* memory, sign-extended byte */
    FORM_E,        /* memory alone */
    FORM_AO,       /* accumulator, offset */
    FORM_OA,       /* offset, accumulator */
    FORM_STRING,
};

struct opcode {
    uint8_t form;   /* enum form */
    uint8_t op;     /* enum insn_op; INSN_NONE: a group's */
    bool byte;      /* operand of 1 byte, whatever the prefixes */
    uint8_t source; /* MOVZX, MOVSX: bytes of the memory operand */
    uint8_t group;  /* enum group */
};

/* SDM 2D table A-6 */
enum group {
    GROUP_NO,
    GROUP_1,
    GROUP_1A,
    GROUP_3,
    GROUP_4,
    GROUP_5,
    GROUP_8,
    GROUP_9,
    GROUP_11,
};

static const uint8_t groups[][8] = {
    [GROUP_1] = {INSN_ADD, INSN_OR, INSN_ADC, INSN_SBB, INSN_AND, INSN_SUB, INSN_XOR, INSN_CMP},
    [GROUP_1A] = {INSN_POP},
    [GROUP_3] = {[0] = INSN_TEST, [2] = INSN_NOT, [3] = INSN_NEG},
    [GROUP_4] = {INSN_INC, INSN_DEC},
    [GROUP_5] = {[0] = INSN_INC, [1] = INSN_DEC, [6] = INSN_PUSH},
    [GROUP_8] = {[4] = INSN_BT, [5] = INSN_BTS, [6] = INSN_BTR, [7] = INSN_BTC},
    [GROUP_9] = {[1] = INSN_CMPXCHG_PAIR},
    [GROUP_11] = {INSN_MOV},
};

#define ARITHMETIC(base, operation)                                                                \
    [base] = {FORM_EG, operation, true, 0, 0}, [(base) + 1] = {FORM_EG, operation, false, 0, 0},   \
    [(base) + 2] = {FORM_GE, operation, true, 0, 0},                                               \
    [(base) + 3] = {FORM_GE, operation, false, 0, 0}

static const struct opcode one_byte[256] = {
    ARITHMETIC(0x00, INSN_ADD),
    ARITHMETIC(0x08, INSN_OR),
    ARITHMETIC(0x10, INSN_ADC),
    ARITHMETIC(0x18, INSN_SBB),
    ARITHMETIC(0x20, INSN_AND),
    ARITHMETIC(0x28, INSN_SUB),
    ARITHMETIC(0x30, INSN_XOR),
    ARITHMETIC(0x38, INSN_CMP),
    [0x63] = {FORM_GE, INSN_MOVSX, false, 4, 0}, /* MOVSXD; 64-bit mode only */
    [0x80] = {FORM_EI, INSN_NONE, true, 0, GROUP_1},
    [0x81] = {FORM_EI, INSN_NONE, false, 0, GROUP_1},
    [0x83] = {FORM_EI8, INSN_NONE, false, 0, GROUP_1},
    [0x84] = {FORM_EG, INSN_TEST, true, 0, 0},
    [0x85] = {FORM_EG, INSN_TEST, false, 0, 0},
    [0x86] = {FORM_EG, INSN_XCHG, true, 0, 0},
    [0x87] = {FORM_EG, INSN_XCHG, false, 0, 0},
    [0x88] = {FORM_EG, INSN_MOV, true, 0, 0},
    [0x89] = {FORM_EG, INSN_MOV, false, 0, 0},
    [0x8a] = {FORM_GE, INSN_MOV, true, 0, 0},
    [0x8b] = {FORM_GE, INSN_MOV, false, 0, 0},
    [0x8f] = {FORM_E, INSN_NONE, false, 0, GROUP_1A},
    [0xa0] = {FORM_AO, INSN_MOV, true, 0, 0},
    [0xa1] = {FORM_AO, INSN_MOV, false, 0, 0},
    [0xa2] = {FORM_OA, INSN_MOV, true, 0, 0},
    [0xa3] = {FORM_OA, INSN_MOV, false, 0, 0},
    [0xa4] = {FORM_STRING, INSN_MOVS, true, 0, 0},
    [0xa5] = {FORM_STRING, INSN_MOVS, false, 0, 0},
    [0xa6] = {FORM_STRING, INSN_CMPS, true, 0, 0},
    [0xa7] = {FORM_STRING, INSN_CMPS, false, 0, 0},
    [0xaa] = {FORM_STRING, INSN_STOS, true, 0, 0},
    [0xab] = {FORM_STRING, INSN_STOS, false, 0, 0},
    [0xac] = {FORM_STRING, INSN_LODS, true, 0, 0},
    [0xad] = {FORM_STRING, INSN_LODS, false, 0, 0},
    [0xae] = {FORM_STRING, INSN_SCAS, true, 0, 0},
    [0xaf] = {FORM_STRING, INSN_SCAS, false, 0, 0},
    [0xc6] = {FORM_EI, INSN_MOV, true, 0, GROUP_11},
    [0xc7] = {FORM_EI, INSN_MOV, false, 0, GROUP_11},
    [0xf6] = {FORM_E, INSN_NONE, true, 0, GROUP_3},
    [0xf7] = {FORM_E, INSN_NONE, false, 0, GROUP_3},
    [0xfe] = {FORM_E, INSN_NONE, true, 0, GROUP_4},
    [0xff] = {FORM_E, INSN_NONE, false, 0, GROUP_5},
};

static const struct opcode two_byte[256] = {
    [0xa3] = {FORM_EG, INSN_BT, false, 0, 0},
    [0xab] = {FORM_EG, INSN_BTS, false, 0, 0},
    [0xb0] = {FORM_EG, INSN_CMPXCHG, true, 0, 0},
    [0xb1] = {FORM_EG, INSN_CMPXCHG, false, 0, 0},
    [0xb3] = {FORM_EG, INSN_BTR, false, 0, 0},
    [0xb6] = {FORM_GE, INSN_MOVZX, false, 1, 0},
    [0xb7] = {FORM_GE, INSN_MOVZX, false, 2, 0},
    [0xba] = {FORM_EI8, INSN_NONE, false, 0, GROUP_8},
    [0xbb] = {FORM_EG, INSN_BTC, false, 0, 0},
    [0xbe] = {FORM_GE, INSN_MOVSX, false, 1, 0},
    [0xbf] = {FORM_GE, INSN_MOVSX, false, 2, 0},
    [0xc0] = {FORM_EG, INSN_XADD, true, 0, 0},
    [0xc1] = {FORM_EG, INSN_XADD, false, 0, 0},
    [0xc3] = {FORM_EG, INSN_MOV, false, 0, 0}, /* MOVNTI */
    [0xc7] = {FORM_E, INSN_NONE, false, 0, GROUP_9},
};

/* 0F 38 */
static const struct opcode three_byte[256] = {
    [0xf0] = {FORM_GE, INSN_MOVBE, false, 0, 0},
    [0xf1] = {FORM_EG, INSN_MOVBE, false, 0, 0},
};

#define ROW_MOVSXD (&one_byte[0x63])
#define ROW_MOVNTI (&two_byte[0xc3])

#define ESCAPE_TWO_BYTE   0x0f
#define ESCAPE_THREE_BYTE 0x38
#define REX_W             0x8
#define REX_R             0x4
#define REX_X             0x2
#define REX_B             0x1

struct cursor {
    const uint8_t *bytes;
    size_t len;
    size_t at;
};

struct prefixes {
    bool operand_size, address_size, lock, rex_present;
    uint8_t rex;
    enum insn_rep rep;
    bool has_segment;
    enum insn_segment segment;
};

static bool take(struct cursor *c, uint8_t *byte)
{
    if (c->at >= c->len || c->at >= INSN_BYTES_MAX)
        return false;
    *byte = c->bytes[c->at++];
    return true;
}

/* A little-endian number of `bytes` bytes, sign-extended. */
static bool take_signed(struct cursor *c, unsigned bytes, int64_t *value)
{
    uint64_t number = 0;
    uint8_t byte;

    if (bytes == 0) {
        *value = 0;
        return true;
    }
    for (unsigned i = 0; i < bytes; i++) {
        if (!take(c, &byte))
            return false;
        number |= (uint64_t)byte << 8 * i;
    }
    unsigned unused = 64 - 8 * bytes;
    *value = (int64_t)(number << unused) >> unused;
    return true;
}

/* --- prefixes, SDM 2A 2.1.1 and 2.2.1 --------------------------------------------------------- */

/* In 64-bit mode overrides other than FS and GS are ignored: they do not even undo those. */
static bool take_prefix(struct prefixes *p, uint8_t byte, enum decode_mode mode)
{
    static const struct {
        uint8_t byte;
        enum insn_segment segment;
    } segments[] = {{0x26, INSN_ES}, {0x2e, INSN_CS}, {0x36, INSN_SS},
                    {0x3e, INSN_DS}, {0x64, INSN_FS}, {0x65, INSN_GS}};

    switch (byte) {
    case 0x66:
        p->operand_size = true;
        return true;
    case 0x67:
        p->address_size = true;
        return true;
    case 0xf0:
        p->lock = true;
        return true;
    case 0xf2:
        p->rep = INSN_REPNE;
        return true;
    case 0xf3:
        p->rep = INSN_REP;
        return true;
    default:
        break;
    }
    for (size_t i = 0; i < sizeof(segments) / sizeof(segments[0]); i++) {
        if (segments[i].byte != byte)
            continue;
        if (mode != DECODE_64 || segments[i].segment >= INSN_FS) {
            p->has_segment = true;
            p->segment = segments[i].segment;
        }
        return true;
    }
    return false;
}

/* All prefixes, and the first byte that is none. A REX that another prefix follows does not count.
 */
static bool take_prefixes(struct cursor *c, enum decode_mode mode, struct prefixes *p,
                          uint8_t *opcode)
{
    for (;;) {
        if (!take(c, opcode))
            return false;
        if (mode == DECODE_64 && (*opcode & 0xf0) == 0x40) {
            p->rex_present = true;
            p->rex = *opcode & 0xf;
            continue;
        }
        if (!take_prefix(p, *opcode, mode))
            return true;
        p->rex_present = false;
        p->rex = 0;
    }
}

static uint8_t operand_bytes(const struct prefixes *p, enum decode_mode mode)
{
    if (p->rex & REX_W)
        return 8;
    return (mode == DECODE_16) != p->operand_size ? 2 : 4;
}

static uint8_t address_bytes(const struct prefixes *p, enum decode_mode mode)
{
    switch (mode) {
    case DECODE_64:
        return p->address_size ? 4 : 8;
    case DECODE_32:
        return p->address_size ? 2 : 4;
    default:
        return p->address_size ? 4 : 2;
    }
}

/* --- ModRM and SIB, SDM 2A tables 2-1 to 2-3 -------------------------------------------------- */

enum { RBX = 3, RSP = 4, RBP = 5, RSI = 6, RDI = 7 };

static bool take_memory_16(struct cursor *c, uint8_t mod, uint8_t rm, struct insn *out)
{
    static const uint8_t bases[] = {RBX, RBX, RBP, RBP, RSI, RDI, RBP, RBX};
    static const uint8_t indexes[] = {
        RSI, RDI, RSI, RDI, INSN_NO_REGISTER, INSN_NO_REGISTER, INSN_NO_REGISTER, INSN_NO_REGISTER};

    out->base = bases[rm];
    out->index = indexes[rm];
    if (mod == 0 && rm == 6) {
        out->base = INSN_NO_REGISTER;
        return take_signed(c, 2, &out->displacement);
    }
    if (out->base == RBP)
        out->segment = INSN_SS;
    return take_signed(c, mod, &out->displacement);
}

static bool take_sib(struct cursor *c, uint8_t mod, uint8_t rex, struct insn *out, bool *no_base)
{
    uint8_t sib;

    if (!take(c, &sib))
        return false;
    uint8_t index = (uint8_t)((sib >> 3 & 7) | (rex & REX_X ? 8 : 0));
    uint8_t base = sib & 7;
    out->scale = (uint8_t)(1u << (sib >> 6));
    out->index = index == RSP ? INSN_NO_REGISTER : index;
    *no_base = mod == 0 && base == RBP;
    out->base = *no_base ? INSN_NO_REGISTER : (uint8_t)(base | (rex & REX_B ? 8 : 0));
    return true;
}

static bool take_memory_32_64(struct cursor *c, uint8_t mod, uint8_t rm, uint8_t rex,
                              enum decode_mode mode, struct insn *out)
{
    bool wide = mod == 2;

    if (rm == RSP) {
        bool no_base;
        if (!take_sib(c, mod, rex, out, &no_base))
            return false;
        wide |= no_base;
    } else if (mod == 0 && rm == RBP) {
        wide = true;
        out->rip_relative = mode == DECODE_64;
    } else {
        out->base = (uint8_t)(rm | (rex & REX_B ? 8 : 0));
    }
    if (out->base == RSP || out->base == RBP)
        out->segment = INSN_SS;
    return take_signed(c, wide ? 4 : mod == 1 ? 1 : 0, &out->displacement);
}

/* ModRM and what follows it. False for a register operand: no memory is accessed. */
static bool take_modrm(struct cursor *c, const struct prefixes *p, enum decode_mode mode,
                       struct insn *out, uint8_t *reg_field)
{
    uint8_t modrm;

    if (!take(c, &modrm))
        return false;
    uint8_t mod = modrm >> 6;
    *reg_field = modrm >> 3 & 7;
    if (mod == 3)
        return false;
    return out->address_size == 2 ? take_memory_16(c, mod, modrm & 7, out)
                                  : take_memory_32_64(c, mod, modrm & 7, p->rex, mode, out);
}

/* --- operands --------------------------------------------------------------------------------- */

/* Without REX, byte registers 4 to 7 are AH, CH, DH, BH. */
static void set_register(struct insn *out, const struct prefixes *p, uint8_t reg_field)
{
    out->source = INSN_REGISTER;
    out->reg = (uint8_t)(reg_field | (p->rex & REX_R ? 8 : 0));
    if (out->size == 1 && !p->rex_present && out->reg >= 4) {
        out->high_byte = true;
        out->reg = (uint8_t)(out->reg - 4);
    }
}

static bool take_immediate(struct cursor *c, unsigned bytes, struct insn *out)
{
    int64_t value;

    if (!take_signed(c, bytes, &value))
        return false;
    out->source = INSN_IMMEDIATE;
    out->immediate = (uint64_t)value;
    return true;
}

static unsigned immediate_bytes(uint8_t size)
{
    return size < 4 ? size : 4;
}

static bool take_operands(struct cursor *c, const struct prefixes *p, enum decode_mode mode,
                          const struct opcode *row, struct insn *out)
{
    uint8_t reg;
    int64_t offset;

    switch ((enum form)row->form) {
    case FORM_STRING:
        return true;
    case FORM_AO:
    case FORM_OA:
        out->to_memory = row->form == FORM_OA;
        out->source = INSN_REGISTER; /* RAX */
        if (!take_signed(c, out->address_size, &offset))
            return false;
        out->displacement = offset;
        return true;
    case FORM_EG:
    case FORM_GE:
        if (!take_modrm(c, p, mode, out, &reg))
            return false;
        out->to_memory = row->form == FORM_EG;
        set_register(out, p, reg);
        return true;
    case FORM_EI:
    case FORM_EI8:
    case FORM_E:
        if (!take_modrm(c, p, mode, out, &reg))
            return false;
        out->op = (enum insn_op)groups[row->group][reg];
        out->to_memory = true;
        if (row->form == FORM_EI || (row->group == GROUP_3 && out->op == INSN_TEST))
            return take_immediate(c, immediate_bytes(out->size), out);
        if (row->form != FORM_EI8)
            return true;
        if (!take_immediate(c, 1, out))
            return false;
        if (row->group == GROUP_8)
            out->immediate &= 0xff; /* a bit's number, not a signed value */
        return true;
    case FORM_NONE:
        break;
    }
    return false;
}

/* SDM 2A, LOCK: only these, and only with memory as the destination. */
static bool lock_allowed(const struct insn *insn)
{
    switch (insn->op) {
    case INSN_ADD:
    case INSN_OR:
    case INSN_ADC:
    case INSN_SBB:
    case INSN_AND:
    case INSN_SUB:
    case INSN_XOR:
    case INSN_XCHG:
    case INSN_CMPXCHG:
    case INSN_CMPXCHG_PAIR:
    case INSN_XADD:
    case INSN_INC:
    case INSN_DEC:
    case INSN_NOT:
    case INSN_NEG:
    case INSN_BTS:
    case INSN_BTR:
    case INSN_BTC:
        return insn->to_memory;
    default:
        return false;
    }
}

/* The opcode's row, where `first` is its first byte; NULL when there are no more bytes. */
static const struct opcode *take_opcode(struct cursor *c, uint8_t first)
{
    uint8_t byte;

    if (first != ESCAPE_TWO_BYTE)
        return &one_byte[first];
    if (!take(c, &byte))
        return NULL;
    if (byte != ESCAPE_THREE_BYTE)
        return &two_byte[byte];
    return take(c, &byte) ? &three_byte[byte] : NULL;
}

/* What the prefixes do otherwise than elsewhere. False: they make another instruction of it. */
static bool settle_exceptions(const struct prefixes *p, enum decode_mode mode,
                              const struct opcode *row, struct insn *out)
{
    switch (out->op) {
    case INSN_NONE: /* a gap in a group */
        return false;
    case INSN_MOV:
        if (row != ROW_MOVNTI)
            return true;
        out->size = out->memory_size = p->rex & REX_W ? 8 : 4;
        return !p->operand_size && p->rep == INSN_ONCE;
    case INSN_MOVSX: /* how much memory a 16-bit MOVSXD reads, processors do not agree on */
        return row != ROW_MOVSXD || (mode == DECODE_64 && out->size != 2);
    case INSN_MOVBE: /* F2: CRC32 */
        return p->rep == INSN_ONCE;
    case INSN_CMPXCHG_PAIR:
        out->size = p->rex & REX_W ? 8 : 4;
        out->memory_size = (uint8_t)(2 * out->size);
        return true;
    case INSN_PUSH:
    case INSN_POP: /* no 32-bit form, SDM 2A 2.2.1.7 */
        out->size = out->memory_size = p->operand_size && !(p->rex & REX_W) ? 2 : 8;
        return mode == DECODE_64;
    default:
        return true;
    }
}

bool decode(const uint8_t *bytes, size_t len, enum decode_mode mode, struct insn *out)
{
    struct cursor c = {bytes, len, 0};
    struct prefixes p = {0};
    uint8_t first;

    memset(out, 0, sizeof(*out));
    if (!take_prefixes(&c, mode, &p, &first))
        return false;
    const struct opcode *row = take_opcode(&c, first);
    if (!row)
        return false;

    out->op = (enum insn_op)row->op;
    out->size = row->byte ? 1 : operand_bytes(&p, mode);
    out->memory_size = row->source ? row->source : out->size;
    out->address_size = address_bytes(&p, mode);
    out->base = out->index = INSN_NO_REGISTER;
    out->scale = 1;
    out->segment = INSN_DS;
    if (!take_operands(&c, &p, mode, row, out) || !settle_exceptions(&p, mode, row, out))
        return false;
    if (p.has_segment)
        out->segment = p.segment;
    out->rep = insn_is_string(out) ? p.rep : INSN_ONCE;
    out->lock = p.lock;
    out->length = (uint8_t)c.at;
    return !p.lock || lock_allowed(out);
}

/* --- the address ------------------------------------------------------------------------------ */

static uint64_t truncate(uint64_t value, unsigned bytes)
{
    return bytes == 8 ? value : value & ((1ull << 8 * bytes) - 1);
}

static int64_t sign_extend(uint64_t value, unsigned bytes)
{
    unsigned unused = 64 - 8 * bytes;

    return (int64_t)(value << unused) >> unused;
}

/* BT, BTS, BTR, BTC with a register: the bit's number is signed and reaches beyond the operand. */
static int64_t bit_string_offset(const struct insn *insn, const uint64_t gpr[16])
{
    if (insn->op < INSN_BT || insn->op > INSN_BTC || insn->source != INSN_REGISTER)
        return 0;
    int64_t bit = sign_extend(gpr[insn->reg], insn->size);
    int64_t bits = 8 * (int64_t)insn->size;
    int64_t operand = bit >= 0 ? bit / bits : -((bits - 1 - bit) / bits);
    return operand * insn->size;
}

uint64_t insn_offset(const struct insn *insn, const uint64_t gpr[16], uint64_t rip)
{
    uint64_t offset = (uint64_t)insn->displacement;

    if (insn->rip_relative)
        offset += rip + insn->length;
    if (insn->base != INSN_NO_REGISTER)
        offset += gpr[insn->base];
    if (insn->index != INSN_NO_REGISTER)
        offset += gpr[insn->index] * insn->scale;
    offset += (uint64_t)bit_string_offset(insn, gpr);
    return truncate(offset, insn->address_size);
}
