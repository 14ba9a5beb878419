/* SPDX-License-Identifier: BSD-2-Clause */
/* IN, OUT, INS and OUTS: every port exits, and the VM's devices answer (hv/dev/pio.h), or its
 * records are marked. */
#include "arch/x86_64/exit.h"
#include "hv/dev/pio.h"

/* Exit qualification, SDM 3C table 28-5 */
#define IO_BYTES(q) ((unsigned)((q)&7) + 1)
#define IO_IN       BIT(3)
#define IO_STRING   BIT(4)
#define IO_REP      BIT(5)
#define IO_PORT(q)  ((uint16_t)((q) >> 16))

/* Instruction information of INS and OUTS, SDM 3C table 28-9 */
#define STRING_ADDRESS_SIZE(i) ((i) >> 7 & 7) /* 0: 16 bit, 1: 32 bit, 2: 64 bit */

#define RFLAGS_DF BIT(10)

/* Elements of one REP string instruction that one exit serves: a guest's loop must not hold the
 * machine. */
#define STRING_ELEMENTS_PER_EXIT 4096u

static uint64_t value_mask(unsigned bytes)
{
    return bytes == 4 ? 0xffffffff : bytes == 2 ? 0xffff : 0xff;
}

/* IN of 4 bytes zero-extends, as all 32-bit operations; smaller ones leave the rest of RAX. */
static void merge_rax(struct vcpu *vcpu, unsigned bytes, uint32_t value)
{
    uint64_t mask = value_mask(bytes);
    uint64_t kept = bytes == 4 ? 0 : vcpu->gpr[GPR_RAX] & ~mask;

    vcpu->gpr[GPR_RAX] = kept | (value & mask);
}

/* Add `delta` to a register within the width of the instruction's addresses. */
static void advance(uint64_t *gpr, int64_t delta, unsigned address_size)
{
    uint64_t value = *gpr + (uint64_t)delta;

    if (address_size == 0)
        *gpr = (*gpr & ~0xffffull) | (value & 0xffff);
    else
        *gpr = address_size == 1 ? (uint32_t)value : value;
}

static uint64_t count_of(uint64_t rcx, unsigned address_size)
{
    return address_size == 0 ? (uint16_t)rcx : address_size == 1 ? (uint32_t)rcx : rcx;
}

static void write_port(struct vcpu *vcpu, uint16_t port, unsigned bytes, uint32_t value)
{
    if (port == TF_PORT_MARK)
        mark_write(vcpu, bytes, value);
    else
        pio_write(&vcpu->vm->devices, port, bytes, value);
}

/* One element: port to memory or memory to port. */
static bool string_element(struct vcpu *vcpu, gva_t at, uint64_t qualification,
                           struct guest_fault *fault)
{
    unsigned bytes = IO_BYTES(qualification);
    uint16_t port = IO_PORT(qualification);
    unsigned rights = guest_access_rights();
    uint32_t value = 0;

    if (qualification & IO_IN) {
        /* Read the memory's rights before the port: a fault must come before the side effect. */
        if (!guest_read(vcpu, at, &value, bytes, rights | WALK_WRITE, fault))
            return false;
        value = pio_read(&vcpu->vm->devices, port, bytes);
        return guest_write(vcpu, at, &value, bytes, rights, fault);
    }
    if (!guest_read(vcpu, at, &value, bytes, rights, fault))
        return false;
    write_port(vcpu, port, bytes, value);
    return true;
}

static bool string_io(struct vcpu *vcpu, uint64_t qualification)
{
    if (!vmx.string_io_info)
        return false;

    unsigned address_size = STRING_ADDRESS_SIZE(vmread32(VMCS_EXIT_INSTRUCTION_INFO));
    uint64_t *index = &vcpu->gpr[qualification & IO_IN ? GPR_RDI : GPR_RSI];
    bool down = (vmread(VMCS_GUEST_RFLAGS) & RFLAGS_DF) != 0;
    int64_t step = down ? -(int64_t)IO_BYTES(qualification) : (int64_t)IO_BYTES(qualification);
    bool rep = (qualification & IO_REP) != 0;
    uint64_t left = rep ? count_of(vcpu->gpr[GPR_RCX], address_size) : 1;
    gva_t at = gva(vmread(VMCS_GUEST_LINEAR_ADDRESS));
    struct guest_fault fault;

    for (unsigned n = 0; left > 0 && n < STRING_ELEMENTS_PER_EXIT; n++) {
        if (!string_element(vcpu, at, qualification, &fault)) {
            exit_inject_fault(vcpu, &fault);
            return true;
        }
        left--;
        at = gva_add(at, (uint64_t)step);
        advance(index, step, address_size);
        if (rep)
            advance(&vcpu->gpr[GPR_RCX], -1, address_size);
        vm_check_devices(vcpu->vm);
        if (vcpu->vm->end != VM_RUNNING)
            return true;
    }
    if (left == 0)
        exit_skip_instruction();
    return true; /* else the instruction runs on, from where its registers now are */
}

bool exit_io(struct vcpu *vcpu)
{
    uint64_t qualification = vmread(VMCS_EXIT_QUALIFICATION);
    unsigned bytes = IO_BYTES(qualification);
    uint16_t port = IO_PORT(qualification);
    struct vm *vm = vcpu->vm;

    if (qualification & IO_STRING)
        return string_io(vcpu, qualification);
    if (qualification & IO_IN) {
        merge_rax(vcpu, bytes, pio_read(&vm->devices, port, bytes));
    } else {
        write_port(vcpu, port, bytes, (uint32_t)(vcpu->gpr[GPR_RAX] & value_mask(bytes)));
        vm_check_devices(vm);
    }
    exit_skip_instruction();
    return true;
}
