/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Stores to write-protected guest tables: carried out here, with the width and atomicity that they
 * have; or, for instructions that are not emulated, by the processor itself in one step with the
 * page open.
 *
 * A step uses the monitor trap flag where it works, else the guest's TF with #DB intercepted. Some
 * emulators offer the flag and never act on it: the first step has both, and the exit that comes
 * tells.
 */
#include <string.h>

#include "arch/x86_64/decode.h"
#include "arch/x86_64/emulate.h"
#include "arch/x86_64/exit.h"
#include "hv/arch.h"
#include "hv/sched.h"

#define PREFIX_OPERAND_SIZE 0x66 /* SDM 2A 2.1.1 */
#define PREFIX_ADDRESS_SIZE 0x67
#define PREFIX_REX          0x40 /* to 0x4f, SDM 2A 2.2.1 */
#define PREFIX_REX_MASK     0xf0
#define OPCODE_PUSHF        0x9c
#define STRING_ROUNDS_MAX   512u /* of REP, carried out at one exit: a page of entries */

/* Whether the monitor trap flag is known to work. */
static bool trap_flag_works;

/* --- carrying it out -------------------------------------------------------------------------- */

struct store {
    struct vcpu *vcpu;
    enum decode_mode mode;
    uint64_t page_gva; /* of the page that the exit was about */
    gpa_t page;        /* where it lies */
    struct guest_fault fault;
    unsigned first, end; /* bytes of that page that were written: [first, end) */
};

/* The bytes in the page that the exit was about, or NULL when (a part of) them is elsewhere. Who
 * gets them makes one access of each. */
static uint8_t *in_page(const struct store *s, gva_t at, unsigned bytes)
{
    uint64_t offset = at.v - s->page_gva;

    if (offset >= PAGE_SIZE || offset + bytes > PAGE_SIZE)
        return NULL;
    return (uint8_t *)guest_plain(guest_ram_at(&s->vcpu->vm->ram, s->page, PAGE_SIZE)) + offset;
}

static void written(struct store *s, gva_t at, unsigned bytes)
{
    unsigned offset = (unsigned)(at.v - s->page_gva);

    if (s->first == s->end) {
        s->first = offset;
        s->end = offset + bytes;
        return;
    }
    s->first = offset < s->first ? offset : s->first;
    s->end = offset + bytes > s->end ? offset + bytes : s->end;
}

static bool store_read(void *context, enum insn_segment segment, uint64_t offset, void *to,
                       unsigned bytes)
{
    struct store *s = context;
    gva_t at = guest_linear(s->mode, segment, offset);
    const uint8_t *from = in_page(s, at, bytes);

    if (bytes == 16 && !is_aligned(at.v, 16)) { /* CMPXCHG16B, SDM 2A */
        s->fault = (struct guest_fault){.vector = VECTOR_GP};
        return false;
    }
    if (!from)
        return guest_read(s->vcpu, at, to, bytes, guest_access_rights(), &s->fault);
    if (bytes == 8)
        *(uint64_t *)to = *(const volatile uint64_t *)(const void *)from;
    else
        __builtin_memcpy(to, from, bytes);
    return true;
}

static bool store_write(void *context, enum insn_segment segment, uint64_t offset, const void *from,
                        unsigned bytes)
{
    struct store *s = context;
    gva_t at = guest_linear(s->mode, segment, offset);
    uint8_t *to = in_page(s, at, bytes);

    if (!to)
        return guest_write(s->vcpu, at, from, bytes, guest_access_rights(), &s->fault);
    switch (bytes) { /* one access each: an entry is never seen half written */
    case 1:
        *(volatile uint8_t *)to = *(const uint8_t *)from;
        break;
    case 2:
        *(volatile uint16_t *)(void *)to = *(const uint16_t *)from;
        break;
    case 4:
        *(volatile uint32_t *)(void *)to = *(const uint32_t *)from;
        break;
    case 8:
        *(volatile uint64_t *)(void *)to = *(const uint64_t *)from;
        break;
    default:
        __builtin_memcpy(to, from, bytes);
        break;
    }
    written(s, at, bytes);
    return true;
}

static bool swap_pair(uint64_t *at, const uint64_t old[2], const uint64_t set[2])
{
    bool equal;
    uint64_t low = old[0], high = old[1];

    __asm__ volatile("lock cmpxchg16b %1"
                     : "=@ccz"(equal), "+m"(*(uint64_t(*)[2])at), "+a"(low), "+d"(high)
                     : "b"(set[0]), "c"(set[1])
                     : "memory");
    return equal;
}

#define SWAP(type, at, old, set)                                                                   \
    __atomic_compare_exchange_n((type *)(at), old, (type)(set), false, __ATOMIC_SEQ_CST,           \
                                __ATOMIC_RELAXED)

/* One locked compare-and-exchange of `bytes`, of which CMPXCHG and CMPXCHG16B have a form. */
static bool swap_bytes(void *at, const void *old, const void *set, unsigned bytes)
{
    uint64_t from = 0, to = 0;
    uint8_t from8;
    uint16_t from16;
    uint32_t from32;

    if (bytes == 16)
        return swap_pair(at, old, set);
    __builtin_memcpy(&from, old, bytes);
    __builtin_memcpy(&to, set, bytes);
    switch (bytes) {
    case 1:
        from8 = (uint8_t)from;
        return SWAP(uint8_t, at, &from8, to);
    case 2:
        from16 = (uint16_t)from;
        return SWAP(uint16_t, at, &from16, to);
    case 4:
        from32 = (uint32_t)from;
        return SWAP(uint32_t, at, &from32, to);
    default:
        return SWAP(uint64_t, at, &from, to);
    }
}

static enum emulate_result store_exchange(void *context, enum insn_segment segment, uint64_t offset,
                                          const void *from, const void *to, unsigned bytes)
{
    struct store *s = context;
    gva_t at = guest_linear(s->mode, segment, offset);
    uint8_t *place = in_page(s, at, bytes);

    if (!place)
        return guest_write(s->vcpu, at, to, bytes, guest_access_rights(), &s->fault)
                   ? EMULATE_DONE
                   : EMULATE_FAULT;
    if (!swap_bytes(place, from, to, bytes))
        return EMULATE_AGAIN;
    written(s, at, bytes);
    return EMULATE_DONE;
}

/*
 * Instructions that were decoded lately, by address: kernels store to their tables from a few
 * places. The bytes are compared, so that what is found is what is there.
 */
#define RECENT 64u

struct code {
    union {
        uint8_t bytes[16]; /* INSN_BYTES_MAX of them, the others 0 */
        uint64_t words[2];
    };
    unsigned count;
};
_Static_assert(INSN_BYTES_MAX <= sizeof(((struct code *)0)->bytes), "an instruction fits");

struct recent {
    struct code code;
    struct insn insn;
    bool plain;                  /* is_plain_store(insn) */
} __attribute__((aligned(128))); /* one shift finds it */

/* A VM's, under its lock. */
struct recent_code {
    struct recent at[RECENT];
};

size_t exit_recent_pages(void)
{
    return align_up(sizeof(struct recent_code), PAGE_SIZE) >> PAGE_SHIFT;
}

/* MOV of 64 bits to [register + displacement], which most stores to tables are. */
static bool is_plain_store(const struct insn *insn)
{
    return insn->op == INSN_MOV && insn->to_memory && insn->size == 8 && insn->base < GPR_COUNT &&
           insn->base != GPR_RSP && insn->index == INSN_NO_REGISTER && insn->segment < INSN_FS &&
           insn->address_size == 8 && !(insn->source == INSN_REGISTER && insn->reg == GPR_RSP);
}

static struct recent *recent_at(const struct vcpu *vcpu, uint64_t rip)
{
    return &vcpu->vm->arch->recent->at[(rip ^ rip >> 6) % RECENT];
}

/* 16 bytes of code, of which the last is not of the instruction. */
static bool same_code(const struct recent *r, const uint8_t *bytes)
{
    uint64_t first, second;

    __builtin_memcpy(&first, bytes, sizeof(first));
    __builtin_memcpy(&second, bytes + sizeof(first), sizeof(second));
    return r->code.count == INSN_BYTES_MAX && first == r->code.words[0] &&
           (second ^ r->code.words[1]) << 8 == 0;
}

static const struct insn *decode_recent(const struct vcpu *vcpu, uint64_t rip,
                                        const struct code *code)
{
    struct recent *r = recent_at(vcpu, rip);

    if (r->code.words[0] == code->words[0] && r->code.words[1] == code->words[1] &&
        r->code.count == code->count)
        return &r->insn;
    r->code.count = 0;
    if (!decode(code->bytes, code->count, DECODE_64, &r->insn))
        return NULL;
    r->code = *code;
    r->plain = is_plain_store(&r->insn);
    return &r->insn;
}

/* The instruction's bytes, by the guest's own tables: the processor has just fetched it. */
static void fetch(const struct vcpu *vcpu, uint64_t rip, struct code *code)
{
    const struct cpt *c = vcpu->vm->paging.cpt;
    unsigned left = (unsigned)(PAGE_SIZE - rip % PAGE_SIZE);
    const uint8_t *bytes = cpt_guest_byte(c, &vcpu->cpt, gva(rip));

    code->count = 0;
    code->words[0] = code->words[1] = 0;
    if (!bytes)
        return;
    code->count = INSN_BYTES_MAX;
    if (left >= sizeof(code->bytes)) {
        __builtin_memcpy(code->bytes, bytes, sizeof(code->bytes));
        code->bytes[INSN_BYTES_MAX] = 0;
        return;
    }
    if (left > INSN_BYTES_MAX)
        left = INSN_BYTES_MAX;
    memcpy(code->bytes, bytes, left);
    if (left == INSN_BYTES_MAX)
        return;
    bytes = cpt_guest_byte(c, &vcpu->cpt, gva(rip + left));
    if (bytes)
        memcpy(code->bytes + left, bytes, INSN_BYTES_MAX - left);
    else
        code->count = left;
}

/* REP goes on in the page as long as it may: each round would exit. With TF each round traps. */
static enum emulate_result carry_out(struct store *s, const struct insn *insn, uint64_t *rflags,
                                     uint64_t rip, const struct emulate_memory *memory)
{
    enum emulate_result result;
    unsigned rounds = *rflags & RFLAGS_TF ? STRING_ROUNDS_MAX : 1;

    do {
        result = emulate(insn, s->vcpu->gpr, rflags, rip, memory);
    } while (result == EMULATE_AGAIN && insn_is_string(insn) && rounds++ < STRING_ROUNDS_MAX &&
             in_page(s, gva(s->vcpu->gpr[GPR_RDI]), insn->size));
    return result;
}

/* --- steps ------------------------------------------------------------------------------------ */

static void begin_step(struct vcpu *vcpu, gpa_t at, gva_t address)
{
    struct step *step = &vcpu->arch->step;
    gpa_t page = gpa(align_down(at.v, PAGE_SIZE));

    for (unsigned i = 0; i < step->pages; i++) {
        if (step->page[i].v == page.v) { /* in SHADOW, the leaf was made anew meanwhile */
            cpt_open(vcpu->vm->paging.cpt, &vcpu->cpt, page, address);
            return;
        }
    }
    if (step->pages ==
        ARRAY_SIZE(step->page)) { /* one instruction, so many tables: not worth a step */
        cpt_give_up(vcpu->vm->paging.cpt, at);
        return;
    }
    cpt_open(vcpu->vm->paging.cpt, &vcpu->cpt, page, address);
    step->page[step->pages++] = page;
    if (step->active)
        return;
    step->active = true;
    vcpu->vm->steps++;
    if (!vmx.monitor_trap_flag || !trap_flag_works) {
        uint64_t rflags = vmread(VMCS_GUEST_RFLAGS);
        step->trap_flag = (rflags & RFLAGS_TF) != 0;
        vmwrite(VMCS_GUEST_RFLAGS, rflags | RFLAGS_TF);
    } else {
        step->trap_flag = true; /* nothing to take away */
    }
    paging_set_controls(vcpu);
}

void step_end(struct vcpu *vcpu)
{
    struct step *step = &vcpu->arch->step;

    if (!step->active)
        return;
    for (unsigned i = 0; i < step->pages; i++)
        cpt_close(vcpu->vm->paging.cpt, step->page[i]);
    if (!step->trap_flag) {
        vmwrite(VMCS_GUEST_RFLAGS, vmread(VMCS_GUEST_RFLAGS) & ~RFLAGS_TF);
        vmwrite(VMCS_GUEST_PENDING_DEBUG,
                vmread(VMCS_GUEST_PENDING_DEBUG) & ~(uint64_t)PENDING_DEBUG_BS);
    }
    *step = (struct step){.active = false};
    vcpu->vm->steps--;
    sched_attention(vcpu, ATTEND_EVENTS); /* what came meanwhile was not injected */
    paging_set_controls(vcpu);
    paging_follow(vcpu);
}

bool step_trapped(struct vcpu *vcpu)
{
    bool hidden = vcpu->arch->step.active && !vcpu->arch->step.trap_flag;

    if (vmx.monitor_trap_flag && !trap_flag_works && vcpu->arch->step.active)
        vmx.monitor_trap_flag = false; /* it should have come first (SDM 3A table 6-2) */
    step_end(vcpu);
    return hidden;
}

bool exit_monitor_trap_flag(struct vcpu *vcpu)
{
    trap_flag_works = true;
    step_end(vcpu);
    return true;
}

/* --- the exit --------------------------------------------------------------------------------- */

/* PUSHF would push the TF of a step. */
static bool can_step(const struct vcpu *vcpu, const uint8_t *bytes, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (bytes[i] == OPCODE_PUSHF)
            return false;
        bool prefix = bytes[i] == PREFIX_OPERAND_SIZE || bytes[i] == PREFIX_ADDRESS_SIZE ||
                      (bytes[i] & PREFIX_REX_MASK) == PREFIX_REX;
        if (!prefix)
            break;
    }
    return count > 0 && !(vmread32(VMCS_GUEST_INTERRUPTIBILITY) & BLOCKING_MOV_SS) &&
           vcpu->cpt.paging;
}

static void open_or_give_up(struct vcpu *vcpu, const struct cpt_access *a, const struct code *code)
{
    if (can_step(vcpu, code->bytes, code->count))
        begin_step(vcpu, a->gpa, a->gva);
    else
        cpt_give_up(vcpu->vm->paging.cpt, a->gpa);
}

/* By emulation: everything but plain stores. */
static void emulate_store(struct vcpu *vcpu, const struct cpt_access *a, const struct insn *insn,
                          uint64_t rip)
{
    struct store store = {
        .vcpu = vcpu,
        .mode = DECODE_64,
        .page_gva = align_down(a->gva.v, PAGE_SIZE),
        .page = gpa(align_down(a->gpa.v, PAGE_SIZE)),
    };
    const struct emulate_memory memory = {&store, store_read, store_write, store_exchange};
    uint64_t rflags = vmread(VMCS_GUEST_RFLAGS);

    vcpu->gpr[GPR_RSP] = vmread(VMCS_GUEST_RSP);
    enum emulate_result result = carry_out(&store, insn, &rflags, rip, &memory);
    if (store.first != store.end)
        cpt_written(vcpu->vm->paging.cpt, gpa_add(store.page, store.first),
                    store.end - store.first);
    if (result == EMULATE_FAULT) {
        exit_inject_fault(vcpu, &store.fault);
        return;
    }
    vmwrite(VMCS_GUEST_RFLAGS, rflags);
    vmwrite(VMCS_GUEST_RSP, vcpu->gpr[GPR_RSP]);
    if (result == EMULATE_DONE)
        exit_skip_bytes(insn->length);
    else if (insn_is_string(insn))
        exit_skip_bytes(0); /* a round is done, and traps if TF is set */
}

/* Everything but plain stores, and plain stores whose code crosses a page. */
__attribute__((noinline)) static bool write_at_large(struct vcpu *vcpu, const struct cpt_access *a,
                                                     uint64_t rip)
{
    const struct insn *insn = NULL;
    struct code code;

    /* The delivery of an event, or a mode in which tables are not shadowed: let the guest do it. */
    if ((vmread32(VMCS_IDT_VECTORING) & INTERRUPTION_VALID) || guest_code_mode() != DECODE_64) {
        cpt_give_up(vcpu->vm->paging.cpt, a->gpa);
        exit_redeliver();
        return true;
    }
    fetch(vcpu, rip, &code);
    if (!vcpu->arch->step.active)
        insn = decode_recent(vcpu, rip, &code);
    if (insn)
        emulate_store(vcpu, a, insn, rip);
    else
        open_or_give_up(vcpu, a, &code);
    return true;
}

/*
 * A plain store, by code that was here lately. The exit tells the address of what it was about,
 * which is the store's own only where it is the operand's: a store across pages may exit for its
 * second part.
 */
static bool plain_write(struct vcpu *vcpu, const struct cpt_access *a, uint64_t rip)
{
    const struct recent *r = recent_at(vcpu, rip);
    const struct insn *insn = &r->insn;
    const uint8_t *bytes = cpt_guest_byte(vcpu->vm->paging.cpt, &vcpu->cpt, gva(rip));

    if (!bytes || rip % PAGE_SIZE > PAGE_SIZE - sizeof(r->code.bytes) || !same_code(r, bytes) ||
        !r->plain || !is_aligned(a->gva.v, sizeof(uint64_t)) ||
        vcpu->gpr[insn->base] + (uint64_t)insn->displacement != a->gva.v)
        return false;
    uint64_t value = insn->source == INSN_IMMEDIATE ? insn->immediate : vcpu->gpr[insn->reg];
    guest_store64(guest_ram_at(&vcpu->vm->ram, a->gpa, sizeof(value)), value);
    cpt_written(vcpu->vm->paging.cpt, a->gpa, sizeof(value));
    exit_advance(rip + insn->length);
    return true;
}

/* It has no array that could be overrun, but the copy of 16 bytes of code. */
__attribute__((no_stack_protector)) bool exit_table_write(struct vcpu *vcpu,
                                                          const struct cpt_access *a)
{
    uint64_t rip = vmread(VMCS_GUEST_RIP);
    bool odd = (vmread32(VMCS_IDT_VECTORING) & INTERRUPTION_VALID) ||
               !(vmread32(VMCS_GUEST_CS_ACCESS) & ACCESS_L) || vcpu->arch->step.active ||
               !vcpu->cpt.paging;

    return (!odd && plain_write(vcpu, a, rip)) || write_at_large(vcpu, a, rip);
}
