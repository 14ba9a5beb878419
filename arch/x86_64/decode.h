/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Decoding of the instructions that access memory and trap: loads, stores and read-modify-writes of
 * the integer set (SDM 2, appendix A). Pure functions over bytes, so that the host's tests compile
 * them too. What is not known here is refused, and the caller finds another way.
 */
#ifndef ARCH_DECODE_H
#define ARCH_DECODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define INSN_BYTES_MAX 15u

enum decode_mode { DECODE_16, DECODE_32, DECODE_64 }; /* of the code segment */

enum insn_op {
    INSN_NONE,
    INSN_ADD,
    INSN_OR,
    INSN_ADC,
    INSN_SBB,
    INSN_AND,
    INSN_SUB,
    INSN_XOR,
    INSN_CMP,
    INSN_TEST,
    INSN_MOV,
    INSN_MOVZX,
    INSN_MOVSX,
    INSN_MOVBE,
    INSN_XCHG,
    INSN_CMPXCHG,
    INSN_CMPXCHG_PAIR, /* CMPXCHG8B, CMPXCHG16B: `size` is that of one half */
    INSN_XADD,
    INSN_INC,
    INSN_DEC,
    INSN_NOT,
    INSN_NEG,
    INSN_BT,
    INSN_BTS,
    INSN_BTR,
    INSN_BTC,
    INSN_PUSH, /* of memory; PUSH and POP in 64-bit mode only, where SS does not matter */
    INSN_POP,
    INSN_MOVS, /* from here on strings */
    INSN_CMPS,
    INSN_STOS,
    INSN_LODS,
    INSN_SCAS,
};

enum insn_segment { INSN_ES, INSN_CS, INSN_SS, INSN_DS, INSN_FS, INSN_GS };
enum insn_source { INSN_NO_SOURCE, INSN_REGISTER, INSN_IMMEDIATE };
enum insn_rep { INSN_ONCE, INSN_REP, INSN_REPNE }; /* REP is REPE for CMPS and SCAS */

#define INSN_NO_REGISTER 0xffu

struct insn {
    enum insn_op op;
    uint8_t length;       /* bytes of the instruction */
    uint8_t size;         /* bytes of the operation: 1, 2, 4, 8 */
    uint8_t memory_size;  /* bytes of the memory operand; not `size` for MOVZX, MOVSX and pairs */
    uint8_t address_size; /* 2, 4 or 8 */
    bool to_memory;       /* the memory operand is the first: MOV [m], r; false: MOV r, [m] */
    bool lock;
    enum insn_rep rep;
    /* the other operand */
    enum insn_source source;
    uint8_t reg; /* encoding; with `high_byte` AH, CH, DH, BH */
    bool high_byte;
    uint64_t immediate; /* sign-extended to 64 bits */
    /* the memory operand; strings use RSI and RDI instead */
    enum insn_segment segment;
    uint8_t base, index; /* encoding, or INSN_NO_REGISTER */
    uint8_t scale;       /* 1, 2, 4, 8 */
    bool rip_relative;
    int64_t displacement;
};

/*
 * Decode the instruction at `bytes`, of which `len` are there. False when it is not one of the
 * above with a memory operand, is malformed (LOCK where it must not be), or needs more bytes.
 */
bool decode(const uint8_t *bytes, size_t len, enum decode_mode mode, struct insn *out);

static inline bool insn_is_string(const struct insn *insn)
{
    return insn->op >= INSN_MOVS;
}

/*
 * The offset of the memory operand within its segment. `rip` is that of the instruction. The
 * register form of BT and its kin reaches beyond it; that part is included.
 */
uint64_t insn_offset(const struct insn *insn, const uint64_t gpr[16], uint64_t rip);

#endif
