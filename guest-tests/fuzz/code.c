/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Random instruction bytes at CPL 3 and 0, stepped one by one. Registers lead to a page of scratch
 * memory, to a page table that is in use, to where no RAM is, or anywhere. Before each instruction
 * its opcode is looked at: what would let interrupts in, end the stepping or the machine, change
 * what the guest itself runs on, or read a clock or a random number is not executed. Those have
 * steps of their own.
 */
#include "guest-tests/fuzz/fuzz.h"

#define LIMIT          24u /* instructions of one run */
#define STACK_START    (SCRATCH_AT + PAGE / 2)
#define NO_RAM_AT      (CODE_AT + 0x30000ull)
#define ANY_REG        0xffu
#define PAGE_BELOW_END 255u /* an offset in a page after which the largest operand still fits */

static uint64_t code_frame, scratch_frame, table_frame;

/* Of low memory it maps the image alone, all that exceptions need: random code may find addresses
 * of frames in the page table that it reads. */
static uint64_t bare_root;
extern char image_start[], image_end[]; /* guest.ld; less than 2 MiB */

/* --- what is not executed --------------------------------------------------------------------- */

static bool is_prefix(uint8_t byte)
{
    return byte == 0x66 || byte == 0x67 || byte == 0xf0 || byte == 0xf2 || byte == 0xf3 ||
           byte == 0x2e || byte == 0x36 || byte == 0x3e || byte == 0x26 || byte == 0x64 ||
           byte == 0x65 || (byte & 0xf0) == 0x40;
}

static unsigned reg_of(uint8_t modrm)
{
    return modrm >> 3 & 7;
}

/* Opcodes 0F xx. */
static bool allows_0f(const uint8_t *at, bool user)
{
    switch (at[0]) {
    case 0x00: /* LLDT, LTR */
    case 0x01: /* LGDT, LIDT, LMSW, SWAPGS, XSETBV; SGDT and SIDT tell where the guest's tables are
                */
        return user && (at[1] >= 0xc0 || reg_of(at[1]) > 1);
    case 0x20: /* MOV from CR and DR: so does CR3 */
    case 0x21:
    case 0x22: /* MOV to CR and DR */
    case 0x23:
    case 0x30: /* WRMSR */
    case 0x31: /* RDTSC: faults at CPL 3 */
    case 0x32: /* RDMSR */
    case 0x33:
        return user;
    case 0xb2: /* LSS */
        return false;
    case 0xc7: /* RDRAND, RDSEED; VMX' pointers share them */
        return reg_of(at[1]) < 6;
    default:
        return true;
    }
}

static bool allows_one_byte(const uint8_t *at, bool user)
{
    switch (at[0]) {
    case 0x0f:
        return allows_0f(at + 1, user);
    case 0x8e: /* MOV to SS, among others */
    case 0x9d: /* POPF and IRET can end the stepping */
    case 0xcf:
    case 0xca: /* far returns */
    case 0xcb:
    case 0xcd: /* INT n: an error code that is not there */
        return false;
    case 0xff: /* far CALL and JMP */
        return reg_of(at[1]) != 3 && reg_of(at[1]) != 5;
    case 0xe4: /* IN, OUT, INS, OUTS: fault at CPL 3 */
    case 0xe5:
    case 0xe6:
    case 0xe7:
    case 0xec:
    case 0xed:
    case 0xee:
    case 0xef:
    case 0x6c:
    case 0x6d:
    case 0x6e:
    case 0x6f:
    case 0xf4: /* HLT with interrupts off is the end */
    case 0xfb: /* STI */
        return user;
    default:
        return true;
    }
}

/* An instruction that reaches beyond the page faults there: what is not here is 0. */
static bool allows(uint64_t rip, bool user)
{
    uint8_t bytes[18] = {0};
    unsigned at = 0;

    if (rip < CODE_AT || rip >= CODE_AT + PAGE)
        return false;
    for (unsigned i = 0; i < 15 && rip + i < CODE_AT + PAGE; i++)
        bytes[i] = *(const uint8_t *)(rip + i);
    while (at < 14 && is_prefix(bytes[at]))
        at++;
    return allows_one_byte(bytes + at, user);
}

/* --- registers and bytes ---------------------------------------------------------------------- */

static uint64_t any_address(void)
{
    uint64_t offset = random_next(&chance) & (PAGE - 1);

    switch (below(8)) {
    case 0:
        return random_next(&chance);
    case 1:
        return TABLE_AT + (offset & ~7ull);
    case 2:
    case 3:
        return SCRATCH_AT + PAGE - 1 - (offset & 15); /* across the page's end */
    case 4:
        return offset & 0xff;
    default:
        return SCRATCH_AT + offset;
    }
}

static void any_registers(struct registers *r)
{
    uint64_t *word = (uint64_t *)r;

    for (unsigned i = 0; i < sizeof(*r) / sizeof(*word); i++)
        word[i] = any_address();
    r->rcx = below(2) ? r->rcx : below(64);
}

/* Opcodes that the hypervisor emulates or intercepts come more often than their share. */
static void any_bytes(void)
{
    static const uint8_t likely[] = {0x89, 0x8b, 0x88, 0x01, 0x87, 0xa4, 0xa5, 0xaa, 0xab, 0xc7,
                                     0xff, 0x8f, 0x0f, 0xf3, 0x48, 0x66, 0x21, 0x31, 0xf7, 0xc6};
    uint8_t *code = (uint8_t *)code_frame;

    for (unsigned i = 0; i < 64; i++)
        code[i] = (uint8_t)(below(3) == 0 ? likely[below(sizeof(likely))] : below(256));
}

static void digest_page(uint64_t frame)
{
    uint64_t sum = 0;

    for (uint64_t i = 0; i < ENTRIES; i++)
        sum = (sum + word_at(frame)[i]) * 0x100000001b3ull;
    digest(sum);
}

void code_init(void)
{
    uint64_t root = read_cr3();

    code_frame = page_alloc();
    scratch_frame = page_alloc();
    space_map(root, CODE_AT, code_frame, PTE_U);
    space_map(root, SCRATCH_AT, scratch_frame, PTE_U | PTE_W);
    space_map(root, NO_RAM_AT, NO_RAM, PTE_U | PTE_W);
    table_frame = (uint64_t)space_entry(root, TREE_AT, 1) & ~(PAGE - 1);
    space_map(root, TABLE_AT, table_frame, PTE_U | PTE_W);

    bare_root = page_alloc();
    uint64_t pdpt = page_alloc(), directory = page_alloc(), table = page_alloc();
    for (uint64_t at = (uint64_t)image_start; at < (uint64_t)image_end; at += PAGE)
        word_at(table)[at / PAGE % ENTRIES] = at | PTE_P | PTE_W;
    word_at(directory)[(uint64_t)image_start / PAGE_2M] = table | PTE_P | PTE_W;
    word_at(pdpt)[0] = directory | PTE_P | PTE_W;
    word_at(bare_root)[0] = pdpt | PTE_P | PTE_W;
    for (unsigned i = 1; i < ENTRIES; i++)
        word_at(bare_root)[i] = word_at(root)[i];
}

static void run_bare(bool user, const struct registers *r, unsigned limit)
{
    uint64_t root = read_cr3();

    write_cr3(bare_root);
    run_at(CODE_AT, STACK_START, user, r, limit, allows);
    write_cr3(root);
}

/* One instruction of those that are emulated, with RBX leading to where no RAM is: reads give all
 * ones. */
void step_emulated(bool user)
{
    static const struct {
        uint8_t byte[2];
        uint8_t reg; /* ModRM.reg; ANY_REG: it is a register */
        uint8_t immediate;
    } forms[] = {
        {{0x01}, ANY_REG, 0},
        {{0x03}, ANY_REG, 0},
        {{0x08}, ANY_REG, 0},
        {{0x13}, ANY_REG, 0},
        {{0x21}, ANY_REG, 0},
        {{0x2b}, ANY_REG, 0},
        {{0x30}, ANY_REG, 0},
        {{0x39}, ANY_REG, 0},

        {{0x85}, ANY_REG, 0},
        {{0x86}, ANY_REG, 0},
        {{0x87}, ANY_REG, 0},
        {{0x88}, ANY_REG, 0},
        {{0x89}, ANY_REG, 0},
        {{0x8a}, ANY_REG, 0},
        {{0x8b}, ANY_REG, 0},
        {{0x80}, 4, 1},
        {{0x81}, 1, 4},
        {{0x83}, 7, 1},
        {{0xc6}, 0, 1},
        {{0xc7}, 0, 4},
        {{0xf7}, 2, 0},
        {{0xf6}, 3, 0},
        {{0xff}, 0, 0},
        {{0x8f}, 0, 0},
        {{0xff}, 6, 0},
        {{0x0f, 0xb1}, ANY_REG, 0},
        {{0x0f, 0xc1}, ANY_REG, 0},
        {{0x0f, 0xb6}, ANY_REG, 0},
        {{0x0f, 0xbf}, ANY_REG, 0},
        {{0x0f, 0xba}, 5, 1},
        {{0x0f, 0xc7}, 1, 0},
    };
    static const uint8_t prefixes[] = {0, 0x66, 0x48, 0x44, 0x4d, 0x40};
    uint8_t *code = (uint8_t *)code_frame;
    unsigned form = below(sizeof(forms) / sizeof(forms[0])), at = 0;
    struct registers r;

    any_registers(&r);
    r.rbx = r.r11 = NO_RAM_AT + below(PAGE_BELOW_END);
    code[at] = prefixes[below(sizeof(prefixes))];
    at += code[at] != 0;
    code[at++] = forms[form].byte[0];
    if (forms[form].byte[0] == 0x0f)
        code[at++] = forms[form].byte[1];
    code[at++] = (uint8_t)((forms[form].reg == ANY_REG ? below(8) : forms[form].reg) << 3 | 3);
    for (unsigned i = 0; i < 8; i++)
        code[at++] = (uint8_t)below(256);
    digest(word_at(code_frame)[0]);
    digest(word_at(code_frame)[1]);
    run_bare(user, &r, 1);
    digest(outcome.rip);
    digest(outcome.error_code);
    for (unsigned i = 0; i < sizeof(r) / sizeof(uint64_t); i++)
        digest(((const uint64_t *)&outcome.after)[i]);
}

/* The table maps nothing that is used: whatever is stored to it, entries lead to memory that is
 * never accessed by them before steps.c has written them anew. */
void step_code(bool user)
{
    struct registers r;

    any_bytes();
    any_registers(&r);
    digest(word_at(code_frame)[0]); /* printed by show=N, they tell what was run */
    digest(word_at(code_frame)[1]);
    run_bare(user, &r, LIMIT);
    digest(outcome.vector == NO_TRAP ? 0 : outcome.rip);
    digest(outcome.error_code);
    digest(outcome.steps);
    for (unsigned i = 0; i < sizeof(r) / sizeof(uint64_t); i++)
        digest(((const uint64_t *)&outcome.after)[i]);
    digest_page(scratch_frame);
    digest_page(table_frame);
}
