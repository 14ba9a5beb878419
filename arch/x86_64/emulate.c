/* SPDX-License-Identifier: BSD-2-Clause */
/* See emulate.h. */
#include "arch/x86_64/emulate.h"

#include <string.h>

#define FLAG_CF          (1ull << 0)
#define FLAG_PF          (1ull << 2)
#define FLAG_AF          (1ull << 4)
#define FLAG_ZF          (1ull << 6)
#define FLAG_SF          (1ull << 7)
#define FLAG_DF          (1ull << 10)
#define FLAG_OF          (1ull << 11)
#define FLAGS_ARITHMETIC (FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF)

enum { RAX = 0, RCX = 1, RDX = 2, RBX = 3, RSP = 4, RSI = 6, RDI = 7 };

static uint64_t mask_of(unsigned bytes)
{
    return bytes == 8 ? ~0ull : (1ull << 8 * bytes) - 1;
}

static uint64_t sign_of(unsigned bytes)
{
    return 1ull << (8 * bytes - 1);
}

/* --- registers -------------------------------------------------------------------------------- */

static uint64_t read_gpr(const struct insn *insn, const uint64_t gpr[16])
{
    uint64_t value = insn->high_byte ? gpr[insn->reg] >> 8 : gpr[insn->reg];

    return value & mask_of(insn->size);
}

/* SDM 1 3.4.1.1: 32-bit results clear the upper half, smaller ones keep the rest. */
static void write_sized(uint64_t *gpr, uint64_t value, unsigned bytes)
{
    uint64_t mask = bytes == 4 ? ~0ull : mask_of(bytes);

    *gpr = (*gpr & ~mask) | (value & mask_of(bytes));
}

static void write_gpr(const struct insn *insn, uint64_t gpr[16], uint64_t value)
{
    if (insn->high_byte)
        gpr[insn->reg] = (gpr[insn->reg] & ~0xff00ull) | (value & 0xff) << 8;
    else
        write_sized(&gpr[insn->reg], value, insn->size);
}

/* Add to an address register within the width of addresses. */
static void step_register(uint64_t *gpr, int64_t delta, unsigned address_size)
{
    write_sized(gpr, *gpr + (uint64_t)delta, address_size);
}

/* --- flags, SDM 1 appendix A ------------------------------------------------------------------ */

static uint64_t result_flags(uint64_t result, unsigned bytes)
{
    uint64_t flags = 0;

    result &= mask_of(bytes);
    flags |= result == 0 ? FLAG_ZF : 0;
    flags |= result & sign_of(bytes) ? FLAG_SF : 0;
    flags |= __builtin_parityll(result & 0xff) ? 0 : FLAG_PF;
    return flags;
}

/* a + b + carry */
static uint64_t add(uint64_t a, uint64_t b, uint64_t carry, unsigned bytes, uint64_t *flags)
{
    uint64_t r = (a + b + carry) & mask_of(bytes);
    uint64_t carries = (a & b) | ((a | b) & ~r);

    *flags = result_flags(r, bytes) | (carries & sign_of(bytes) ? FLAG_CF : 0) |
             ((a ^ b ^ r) & 0x10 ? FLAG_AF : 0) |
             ((a ^ r) & (b ^ r) & sign_of(bytes) ? FLAG_OF : 0);
    return r;
}

/* a - b - borrow */
static uint64_t subtract(uint64_t a, uint64_t b, uint64_t borrow, unsigned bytes, uint64_t *flags)
{
    uint64_t r = (a - b - borrow) & mask_of(bytes);
    uint64_t borrows = (~a & b) | ((~a | b) & r);

    *flags = result_flags(r, bytes) | (borrows & sign_of(bytes) ? FLAG_CF : 0) |
             ((a ^ b ^ r) & 0x10 ? FLAG_AF : 0) |
             ((a ^ b) & (a ^ r) & sign_of(bytes) ? FLAG_OF : 0);
    return r;
}

static uint64_t set_flags(uint64_t rflags, uint64_t changed, uint64_t flags)
{
    return (rflags & ~changed) | (flags & changed);
}

/* --- operations on a memory operand ----------------------------------------------------------- */

struct operation {
    uint64_t result; /* for the first operand */
    bool writes;     /* whether there is one */
    uint64_t rflags;
};

static uint64_t bit_operation(enum insn_op op, uint64_t value, uint64_t bit)
{
    switch (op) {
    case INSN_BTS:
        return value | bit;
    case INSN_BTR:
        return value & ~bit;
    case INSN_BTC:
        return value ^ bit;
    default:
        return value;
    }
}

/* `a` is the first operand, `b` the second. */
static struct operation operate(const struct insn *insn, uint64_t a, uint64_t b, uint64_t rflags)
{
    unsigned bytes = insn->size;
    uint64_t carry = rflags & FLAG_CF ? 1 : 0;
    uint64_t flags = 0;
    uint64_t changed = FLAGS_ARITHMETIC;
    struct operation o = {.writes = true};

    switch (insn->op) {
    case INSN_ADD:
    case INSN_XADD:
        o.result = add(a, b, 0, bytes, &flags);
        break;
    case INSN_ADC:
        o.result = add(a, b, carry, bytes, &flags);
        break;
    case INSN_SUB:
        o.result = subtract(a, b, 0, bytes, &flags);
        break;
    case INSN_SBB:
        o.result = subtract(a, b, carry, bytes, &flags);
        break;
    case INSN_CMP:
        subtract(a, b, 0, bytes, &flags);
        o.writes = false;
        break;
    case INSN_AND:
    case INSN_TEST:
        o.result = a & b;
        flags = result_flags(o.result, bytes);
        o.writes = insn->op == INSN_AND;
        break;
    case INSN_OR:
        o.result = a | b;
        flags = result_flags(o.result, bytes);
        break;
    case INSN_XOR:
        o.result = a ^ b;
        flags = result_flags(o.result, bytes);
        break;
    case INSN_INC:
        o.result = add(a, 1, 0, bytes, &flags);
        changed &= ~FLAG_CF;
        break;
    case INSN_DEC:
        o.result = subtract(a, 1, 0, bytes, &flags);
        changed &= ~FLAG_CF;
        break;
    case INSN_NEG:
        o.result = subtract(0, a, 0, bytes, &flags);
        break;
    case INSN_NOT:
        o.result = ~a;
        changed = 0;
        break;
    case INSN_BT:
    case INSN_BTS:
    case INSN_BTR:
    case INSN_BTC: {
        uint64_t bit = 1ull << (b % (8 * bytes));
        flags = a & bit ? FLAG_CF : 0;
        changed = FLAG_CF; /* the others are undefined: kept, as processors do */
        o.result = bit_operation(insn->op, a, bit);
        o.writes = insn->op != INSN_BT;
        break;
    }
    case INSN_MOVBE:
        o.result = __builtin_bswap64(b) >> (64 - 8 * bytes);
        changed = 0;
        break;
    default: /* MOV and its kin: the second operand as it is */
        o.result = b;
        changed = 0;
        break;
    }
    o.rflags = set_flags(rflags, changed, flags);
    return o;
}

/* --- instructions ----------------------------------------------------------------------------- */

static uint64_t other_operand(const struct insn *insn, const uint64_t gpr[16])
{
    return insn->source == INSN_REGISTER ? read_gpr(insn, gpr)
                                         : insn->immediate & mask_of(insn->size);
}

static uint64_t extend(const struct insn *insn, uint64_t value)
{
    uint64_t sign = sign_of(insn->memory_size);

    return insn->op == INSN_MOVSX ? (value ^ sign) - sign : value;
}

/* Replace what was read, as LOCK, XCHG and CMPXCHG promise; without LOCK it does no harm. */
static enum emulate_result replace(const struct emulate_memory *m, enum insn_segment segment,
                                   uint64_t offset, const void *from, const void *to,
                                   unsigned bytes)
{
    if (m->exchange)
        return m->exchange(m->context, segment, offset, from, to, bytes);
    return m->write(m->context, segment, offset, to, bytes) ? EMULATE_DONE : EMULATE_FAULT;
}

/* Register, memory. */
static enum emulate_result from_memory(const struct insn *insn, uint64_t gpr[16], uint64_t *rflags,
                                       uint64_t offset, const struct emulate_memory *m)
{
    uint64_t value = 0;

    if (!m->read(m->context, insn->segment, offset, &value, insn->memory_size))
        return EMULATE_FAULT;
    struct operation o =
        operate(insn, read_gpr(insn, gpr), extend(insn, value) & mask_of(insn->size), *rflags);
    if (o.writes)
        write_gpr(insn, gpr, o.result);
    *rflags = o.rflags;
    return EMULATE_DONE;
}

static enum emulate_result compare_exchange(const struct insn *insn, uint64_t gpr[16],
                                            uint64_t *rflags, uint64_t offset,
                                            const struct emulate_memory *m)
{
    uint64_t value = 0, flags;

    if (!m->read(m->context, insn->segment, offset, &value, insn->size))
        return EMULATE_FAULT;
    subtract(gpr[RAX] & mask_of(insn->size), value, 0, insn->size, &flags);
    bool equal = (flags & FLAG_ZF) != 0;
    /* The destination is written in either case, SDM 2A. */
    uint64_t stored = equal ? read_gpr(insn, gpr) : value;
    enum emulate_result written = replace(m, insn->segment, offset, &value, &stored, insn->size);
    if (written != EMULATE_DONE)
        return written;
    if (!equal)
        write_sized(&gpr[RAX], value, insn->size);
    *rflags = set_flags(*rflags, FLAGS_ARITHMETIC, flags);
    return EMULATE_DONE;
}

/* CMPXCHG8B and CMPXCHG16B: DX:AX of either width against memory, CX:BX into it. */
static enum emulate_result compare_exchange_pair(const struct insn *insn, uint64_t gpr[16],
                                                 uint64_t *rflags, uint64_t offset,
                                                 const struct emulate_memory *m)
{
    unsigned half = insn->size;
    uint64_t low = 0, high = 0;
    uint8_t bytes[2 * sizeof(uint64_t)], old[2 * sizeof(uint64_t)];

    if (!m->read(m->context, insn->segment, offset, bytes, insn->memory_size))
        return EMULATE_FAULT;
    memcpy(old, bytes, insn->memory_size);
    memcpy(&low, bytes, half);
    memcpy(&high, bytes + half, half);
    bool equal =
        ((gpr[RAX] ^ low) & mask_of(half)) == 0 && ((gpr[RDX] ^ high) & mask_of(half)) == 0;
    if (equal) {
        memcpy(bytes, &gpr[RBX], half);
        memcpy(bytes + half, &gpr[RCX], half);
    }
    enum emulate_result written = replace(m, insn->segment, offset, old, bytes, insn->memory_size);
    if (written != EMULATE_DONE)
        return written;
    if (!equal) {
        write_sized(&gpr[RAX], low, half);
        write_sized(&gpr[RDX], high, half);
    }
    *rflags = set_flags(*rflags, FLAG_ZF, equal ? FLAG_ZF : 0);
    return EMULATE_DONE;
}

static enum emulate_result push(const struct insn *insn, uint64_t gpr[16], uint64_t offset,
                                const struct emulate_memory *m)
{
    uint64_t top = gpr[RSP] - insn->size;
    uint64_t value;

    if (!m->read(m->context, insn->segment, offset, &value, insn->size) ||
        !m->write(m->context, INSN_SS, top, &value, insn->size))
        return EMULATE_FAULT;
    gpr[RSP] = top;
    return EMULATE_DONE;
}

/* The address is made with RSP as it is after the pop, SDM 2B. */
static enum emulate_result pop(const struct insn *insn, uint64_t gpr[16], uint64_t rip,
                               const struct emulate_memory *m)
{
    uint64_t top = gpr[RSP];
    uint64_t value;

    if (!m->read(m->context, INSN_SS, top, &value, insn->size))
        return EMULATE_FAULT;
    gpr[RSP] = top + insn->size;
    if (m->write(m->context, insn->segment, insn_offset(insn, gpr, rip), &value, insn->size))
        return EMULATE_DONE;
    gpr[RSP] = top;
    return EMULATE_FAULT;
}

/* Memory, register or immediate. */
static enum emulate_result to_memory(const struct insn *insn, uint64_t gpr[16], uint64_t *rflags,
                                     uint64_t offset, const struct emulate_memory *m)
{
    uint64_t old = 0;
    bool store =
        insn->op == INSN_MOV || insn->op == INSN_MOVBE; /* does not look at what it replaces */

    if (!store && !m->read(m->context, insn->segment, offset, &old, insn->size))
        return EMULATE_FAULT;
    struct operation o = operate(insn, old, other_operand(insn, gpr), *rflags);
    if (o.writes && store && !m->write(m->context, insn->segment, offset, &o.result, insn->size))
        return EMULATE_FAULT;
    if (o.writes && !store) {
        enum emulate_result written =
            replace(m, insn->segment, offset, &old, &o.result, insn->size);
        if (written != EMULATE_DONE)
            return written;
    }
    if (insn->op == INSN_XCHG || insn->op == INSN_XADD)
        write_gpr(insn, gpr, old);
    *rflags = o.rflags;
    return EMULATE_DONE;
}

static uint64_t address_of(const struct insn *insn, uint64_t gpr)
{
    return gpr & mask_of(insn->address_size);
}

/* One round of a string instruction: first what it reads, then what it does, then the steps. */
static bool string_round(const struct insn *insn, uint64_t gpr[16], uint64_t *rflags,
                         const struct emulate_memory *m)
{
    bool loads = insn->op == INSN_MOVS || insn->op == INSN_CMPS || insn->op == INSN_LODS;
    bool compares = insn->op == INSN_CMPS || insn->op == INSN_SCAS;
    uint64_t destination = address_of(insn, gpr[RDI]);
    uint64_t a = gpr[RAX], b = 0, flags;

    if (loads) {
        a = 0;
        if (!m->read(m->context, insn->segment, address_of(insn, gpr[RSI]), &a, insn->size))
            return false;
    }
    if (compares) {
        if (!m->read(m->context, INSN_ES, destination, &b, insn->size))
            return false;
        subtract(a & mask_of(insn->size), b, 0, insn->size, &flags);
        *rflags = set_flags(*rflags, FLAGS_ARITHMETIC, flags);
    } else if (insn->op == INSN_LODS) {
        write_sized(&gpr[RAX], a, insn->size);
    } else if (!m->write(m->context, INSN_ES, destination, &a, insn->size)) {
        return false;
    }
    int64_t step = *rflags & FLAG_DF ? -(int64_t)insn->size : (int64_t)insn->size;
    if (loads)
        step_register(&gpr[RSI], step, insn->address_size);
    if (insn->op != INSN_LODS)
        step_register(&gpr[RDI], step, insn->address_size);
    return true;
}

/* SDM 2B table 4-17: the count ends all, the flag also CMPS and SCAS. */
static bool ends_repeat(const struct insn *insn, const uint64_t gpr[16], uint64_t rflags)
{
    bool equal = (rflags & FLAG_ZF) != 0;

    if (address_of(insn, gpr[RCX]) == 0)
        return true;
    return (insn->op == INSN_CMPS || insn->op == INSN_SCAS) && equal == (insn->rep == INSN_REPNE);
}

static enum emulate_result string(const struct insn *insn, uint64_t gpr[16], uint64_t *rflags,
                                  const struct emulate_memory *m)
{
    if (insn->rep == INSN_ONCE)
        return string_round(insn, gpr, rflags, m) ? EMULATE_DONE : EMULATE_FAULT;
    if (address_of(insn, gpr[RCX]) == 0)
        return EMULATE_DONE;
    if (!string_round(insn, gpr, rflags, m))
        return EMULATE_FAULT;
    step_register(&gpr[RCX], -1, insn->address_size);
    return ends_repeat(insn, gpr, *rflags) ? EMULATE_DONE : EMULATE_AGAIN;
}

enum emulate_result emulate(const struct insn *insn, uint64_t gpr[16], uint64_t *rflags,
                            uint64_t rip, const struct emulate_memory *memory)
{
    if (insn_is_string(insn))
        return string(insn, gpr, rflags, memory);

    uint64_t offset = insn_offset(insn, gpr, rip);
    switch (insn->op) {
    case INSN_CMPXCHG:
        return compare_exchange(insn, gpr, rflags, offset, memory);
    case INSN_CMPXCHG_PAIR:
        return compare_exchange_pair(insn, gpr, rflags, offset, memory);
    case INSN_PUSH:
        return push(insn, gpr, offset, memory);
    case INSN_POP:
        return pop(insn, gpr, rip, memory);
    default:
        return insn->to_memory ? to_memory(insn, gpr, rflags, offset, memory)
                               : from_memory(insn, gpr, rflags, offset, memory);
    }
}
