/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The instruction decoder against Zydis, one instruction at a time: what we decode, Zydis must see
 * the same way; what Zydis takes for one of our instructions with a memory operand, we must decode.
 * For the host test and the fuzzer; whoever includes it has CHECK.
 */
#ifndef TESTS_HOST_DECODE_PEER_H
#define TESTS_HOST_DECODE_PEER_H

#include <string.h>
#include <Zydis/Zydis.h>

#include "arch/x86_64/decode.h"

#define RSI 6u
#define RDI 7u

static ZydisDecoder decoders[3];

static void init(void)
{
    ZydisDecoderInit(&decoders[DECODE_16], ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16);
    ZydisDecoderInit(&decoders[DECODE_32], ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
    ZydisDecoderInit(&decoders[DECODE_64], ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
}

static const struct {
    ZydisMnemonic zydis;
    enum insn_op op;
} mnemonics[] = {
    {ZYDIS_MNEMONIC_ADD, INSN_ADD},
    {ZYDIS_MNEMONIC_OR, INSN_OR},
    {ZYDIS_MNEMONIC_ADC, INSN_ADC},
    {ZYDIS_MNEMONIC_SBB, INSN_SBB},
    {ZYDIS_MNEMONIC_AND, INSN_AND},
    {ZYDIS_MNEMONIC_SUB, INSN_SUB},
    {ZYDIS_MNEMONIC_XOR, INSN_XOR},
    {ZYDIS_MNEMONIC_CMP, INSN_CMP},
    {ZYDIS_MNEMONIC_TEST, INSN_TEST},
    {ZYDIS_MNEMONIC_MOV, INSN_MOV},
    {ZYDIS_MNEMONIC_MOVNTI, INSN_MOV},
    {ZYDIS_MNEMONIC_MOVZX, INSN_MOVZX},
    {ZYDIS_MNEMONIC_MOVSX, INSN_MOVSX},
    {ZYDIS_MNEMONIC_MOVSXD, INSN_MOVSX},
    {ZYDIS_MNEMONIC_XCHG, INSN_XCHG},
    {ZYDIS_MNEMONIC_CMPXCHG, INSN_CMPXCHG},
    {ZYDIS_MNEMONIC_XADD, INSN_XADD},
    {ZYDIS_MNEMONIC_INC, INSN_INC},
    {ZYDIS_MNEMONIC_DEC, INSN_DEC},
    {ZYDIS_MNEMONIC_NOT, INSN_NOT},
    {ZYDIS_MNEMONIC_NEG, INSN_NEG},
    {ZYDIS_MNEMONIC_BT, INSN_BT},
    {ZYDIS_MNEMONIC_BTS, INSN_BTS},
    {ZYDIS_MNEMONIC_BTR, INSN_BTR},
    {ZYDIS_MNEMONIC_BTC, INSN_BTC},
    {ZYDIS_MNEMONIC_MOVSB, INSN_MOVS},
    {ZYDIS_MNEMONIC_MOVSW, INSN_MOVS},
    {ZYDIS_MNEMONIC_MOVSD, INSN_MOVS},
    {ZYDIS_MNEMONIC_MOVSQ, INSN_MOVS},
    {ZYDIS_MNEMONIC_STOSB, INSN_STOS},
    {ZYDIS_MNEMONIC_STOSW, INSN_STOS},
    {ZYDIS_MNEMONIC_STOSD, INSN_STOS},
    {ZYDIS_MNEMONIC_STOSQ, INSN_STOS},
    {ZYDIS_MNEMONIC_LODSB, INSN_LODS},
    {ZYDIS_MNEMONIC_LODSW, INSN_LODS},
    {ZYDIS_MNEMONIC_LODSD, INSN_LODS},
    {ZYDIS_MNEMONIC_LODSQ, INSN_LODS},
    {ZYDIS_MNEMONIC_CMPSB, INSN_CMPS},
    {ZYDIS_MNEMONIC_CMPSW, INSN_CMPS},
    {ZYDIS_MNEMONIC_CMPSD, INSN_CMPS},
    {ZYDIS_MNEMONIC_CMPSQ, INSN_CMPS},
    {ZYDIS_MNEMONIC_SCASB, INSN_SCAS},
    {ZYDIS_MNEMONIC_SCASW, INSN_SCAS},
    {ZYDIS_MNEMONIC_SCASD, INSN_SCAS},
    {ZYDIS_MNEMONIC_SCASQ, INSN_SCAS},
    {ZYDIS_MNEMONIC_MOVBE, INSN_MOVBE},
    {ZYDIS_MNEMONIC_PUSH, INSN_PUSH},
    {ZYDIS_MNEMONIC_POP, INSN_POP},
    {ZYDIS_MNEMONIC_CMPXCHG8B, INSN_CMPXCHG_PAIR},
    {ZYDIS_MNEMONIC_CMPXCHG16B, INSN_CMPXCHG_PAIR},
};

static int op_of(ZydisMnemonic mnemonic)
{
    for (size_t i = 0; i < sizeof(mnemonics) / sizeof(mnemonics[0]); i++) {
        if (mnemonics[i].zydis == mnemonic)
            return (int)mnemonics[i].op;
    }
    return -1;
}

/* Zydis numbers byte registers in another way than instructions do: go by the whole register. */
static unsigned register_number(ZydisRegister reg)
{
    if (reg == ZYDIS_REGISTER_NONE)
        return INSN_NO_REGISTER;
    reg = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);
    return (unsigned)(uint8_t)ZydisRegisterGetId(reg);
}

/* The memory operand; of a string's two the one at RSI, whose segment can be chosen. */
static const ZydisDecodedOperand *find_memory(const ZydisDecodedInstruction *z,
                                              const ZydisDecodedOperand *operands)
{
    const ZydisDecodedOperand *found = NULL;

    for (unsigned i = 0; i < z->operand_count_visible + 2u && i < z->operand_count; i++) {
        if (operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
            (!found || register_number(operands[i].mem.base) == RSI))
            found = &operands[i];
    }
    return found;
}

/* Is it one of ours? Not control or debug registers, segments, vectors; not the group's odd
 * encodings. */
static bool is_ours(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *operands)
{
    if (op_of(z->mnemonic) < 0 || z->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY ||
        !find_memory(z, operands))
        return false;
    for (unsigned i = 0; i < z->operand_count_visible; i++) {
        if (operands[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
            ZydisRegisterGetClass(operands[i].reg.value) == ZYDIS_REGCLASS_SEGMENT)
            return false;
        if (operands[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
            (ZydisRegisterGetClass(operands[i].reg.value) == ZYDIS_REGCLASS_XMM ||
             ZydisRegisterGetClass(operands[i].reg.value) == ZYDIS_REGCLASS_CONTROL))
            return false;
    }
    if (z->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && (z->opcode == 0x82 || z->opcode == 0x8c))
        return false; /* 82 is an undocumented copy of 80 */
    if ((z->opcode == 0xf6 || z->opcode == 0xf7) && z->raw.modrm.reg == 1)
        return false; /* so is F6 /1 of /0 */
    if (z->mnemonic == ZYDIS_MNEMONIC_MOVSXD && z->operand_width == 16)
        return false; /* refused on purpose */
    if (z->mnemonic == ZYDIS_MNEMONIC_PUSH || z->mnemonic == ZYDIS_MNEMONIC_POP)
        return z->machine_mode == ZYDIS_MACHINE_MODE_LONG_64 &&
               operands[0].type == ZYDIS_OPERAND_TYPE_MEMORY;
    return z->mnemonic != ZYDIS_MNEMONIC_MOVSD || z->opcode == 0xa5;
}

static enum insn_segment segment_of(ZydisRegister reg)
{
    switch (reg) {
    case ZYDIS_REGISTER_ES:
        return INSN_ES;
    case ZYDIS_REGISTER_CS:
        return INSN_CS;
    case ZYDIS_REGISTER_SS:
        return INSN_SS;
    case ZYDIS_REGISTER_FS:
        return INSN_FS;
    case ZYDIS_REGISTER_GS:
        return INSN_GS;
    default:
        return INSN_DS;
    }
}

static void hex(const uint8_t *bytes, char *to)
{
    for (unsigned i = 0; i < 15; i++)
        sprintf(to + 3 * i, "%02x ", bytes[i]);
}

/* The memory operand's parts, as Zydis names them. In 64-bit mode only FS and GS matter. */
static bool same_memory(const struct insn *insn, const ZydisDecodedOperand *m,
                        enum decode_mode mode)
{
    bool rip = m->mem.base == ZYDIS_REGISTER_RIP || m->mem.base == ZYDIS_REGISTER_EIP;
    enum insn_segment segment = segment_of(m->mem.segment);

    if (m->size / 8 != insn->memory_size)
        return false;
    if (insn_is_string(insn)) /* its operand at RDI is in ES always */
        return register_number(m->mem.base) == RDI || segment == insn->segment ||
               (mode == DECODE_64 && segment < INSN_FS && insn->segment < INSN_FS);
    if (rip != insn->rip_relative)
        return false;
    if (!rip && register_number(m->mem.base) != insn->base)
        return false;
    if (register_number(m->mem.index) != insn->index ||
        (m->mem.index != ZYDIS_REGISTER_NONE && m->mem.scale != insn->scale))
        return false;
    uint64_t mask = insn->address_size == 8 ? ~0ull : (1ull << 8 * insn->address_size) - 1;
    if (((uint64_t)m->mem.disp.value & mask) != ((uint64_t)insn->displacement & mask))
        return false;
    if (mode == DECODE_64 && segment < INSN_FS)
        return insn->segment < INSN_FS;
    return segment == insn->segment;
}

/* The register or immediate beside the memory operand. */
static bool same_other(const struct insn *insn, const ZydisDecodedInstruction *z,
                       const ZydisDecodedOperand *operands)
{
    if (insn_is_string(insn))
        return true;
    for (unsigned i = 0; i < z->operand_count_visible; i++) {
        const ZydisDecodedOperand *o = &operands[i];
        if (o->type == ZYDIS_OPERAND_TYPE_REGISTER) {
            bool high = o->reg.value >= ZYDIS_REGISTER_AH && o->reg.value <= ZYDIS_REGISTER_BH;
            unsigned number =
                high ? o->reg.value - ZYDIS_REGISTER_AH : register_number(o->reg.value);
            return insn->source == INSN_REGISTER && insn->reg == number && insn->high_byte == high;
        }
        if (o->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
            uint64_t mask = insn->size == 8 ? ~0ull : (1ull << 8 * insn->size) - 1;
            return insn->source == INSN_IMMEDIATE &&
                   (insn->immediate & mask) == (o->imm.value.u & mask);
        }
    }
    return insn->source == INSN_NO_SOURCE;
}

/*
 * Zydis 4.0 takes SIB.base 101 with mod 00 and REX.B for R13D where addresses have 32 bits. SDM 2A
 * table 2-5 says that REX.B does not count there: a displacement and no base, as Zydis has it too
 * for 64-bit addresses.
 */
static bool zydis_is_wrong(const ZydisDecodedInstruction *z)
{
    return z->address_width == 32 && z->raw.modrm.mod == 0 && z->raw.modrm.rm == 4 &&
           z->raw.sib.base == 5 && z->raw.rex.B;
}

/* Zydis ignores REPNE where no condition ends the loop; processors take it for REP. */
static bool same_repeat(const struct insn *insn, const ZydisDecodedInstruction *z)
{
    bool conditional = insn->op == INSN_CMPS || insn->op == INSN_SCAS;

    if (z->attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE))
        return insn->rep == INSN_REP;
    if (z->attributes & ZYDIS_ATTRIB_HAS_REPNE)
        return insn->rep == INSN_REPNE;
    return insn->rep == INSN_ONCE || (insn->rep == INSN_REPNE && !conditional);
}

static uint64_t agreed; /* instructions that both decoded */

static void compare(const uint8_t *bytes, size_t len, enum decode_mode mode)
{
    ZydisDecodedInstruction z;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    struct insn insn;
    char text[64];

    bool theirs = ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoders[mode], bytes, len, &z, operands));
    bool ours = decode(bytes, len, mode, &insn);
    hex(bytes, text);
    if (!ours) {
        CHECK(!theirs || !is_ours(&z, operands), "mode %d: %s is refused, Zydis: %s", mode, text,
              ZydisMnemonicGetString(z.mnemonic));
        return;
    }
    CHECK(theirs, "mode %d: %s is decoded, Zydis refuses it", mode, text);
    if (!theirs)
        return;
    const ZydisDecodedOperand *m = find_memory(&z, operands);
    CHECK(m && op_of(z.mnemonic) == (int)insn.op, "mode %d: %s is op %d, Zydis: %s", mode, text,
          insn.op, ZydisMnemonicGetString(z.mnemonic));
    if (!m || zydis_is_wrong(&z))
        return;
    CHECK(z.length == insn.length, "mode %d: %s length %u, Zydis %u", mode, text, insn.length,
          z.length);
    CHECK(same_memory(&insn, m, mode), "mode %d: %s: memory operand differs", mode, text);
    CHECK(same_other(&insn, &z, operands), "mode %d: %s: other operand differs", mode, text);
    CHECK(same_repeat(&insn, &z), "mode %d: %s: REP", mode, text);
    CHECK(z.address_width / 8 == insn.address_size, "mode %d: %s: address size", mode, text);
    CHECK(((z.attributes & ZYDIS_ATTRIB_HAS_LOCK) != 0) == insn.lock, "mode %d: %s: LOCK", mode,
          text);
    agreed++;
}

#endif
