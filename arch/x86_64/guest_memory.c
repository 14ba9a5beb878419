/* SPDX-License-Identifier: BSD-2-Clause */
/* See guest_memory.h. */
#include "arch/x86_64/guest_memory.h"

#include <string.h>

#include "arch/x86_64/guest_cpu.h"
#include "arch/x86_64/vcpu.h"
#include "hv/arch.h"
#include "hv/dev/mmio.h"

#define CANONICAL_SHIFT 47 /* bits 63:47 are equal with 4-level paging, SDM 1 3.3.7.1 */

/* --- guest-physical memory for the walker ----------------------------------------------------- */

static uint64_t read_entry(void *context, gpa_t at, unsigned bytes)
{
    const struct vcpu *vcpu = context;
    const void GUEST *entry = guest_ram_at(&vcpu->vm->ram, at, bytes);

    if (!entry)
        return bytes == 4 ? UINT32_MAX : UINT64_MAX;
    return bytes == 4 ? guest_load32(entry) : guest_load64(entry);
}

static bool swap_entry(void *context, gpa_t at, unsigned bytes, uint64_t old, uint64_t set)
{
    const struct vcpu *vcpu = context;
    void GUEST *entry = guest_ram_at(&vcpu->vm->ram, at, bytes);

    if (!entry)
        return true;
    return bytes == 4 ? guest_swap32(entry, (uint32_t)old, (uint32_t)set)
                      : guest_swap64(entry, old, set);
}

static unsigned nested_references(void *context, gpa_t at)
{
    const struct vcpu *vcpu = context;

    return ept_references(vcpu->vm, at);
}

static uint32_t read_pkru(void)
{
    uint32_t value, high;

    __asm__ volatile("rdpkru" : "=a"(value), "=d"(high) : "c"(0));
    return value;
}

/* RDPKRU needs CR4.PKE; the register itself is the guest's all the time. */
static uint32_t guest_pkru(uint64_t guest_cr4)
{
    if (!(guest_cr4 & CR4_PKE))
        return 0;
    write_cr4(read_cr4() | CR4_PKE);
    uint32_t pkru = read_pkru();
    write_cr4(read_cr4() & ~CR4_PKE);
    return pkru;
}

void arch_walk_setup(const struct vcpu *vcpu, struct walk_registers *registers,
                     struct walk_memory *memory)
{
    *memory = (struct walk_memory){
        .context = (void *)(uintptr_t)vcpu,
        .read = read_entry,
        .compare_and_swap = swap_entry,
    };
    if (vcpu->vm->settings->paging == PAGING_NATIVE) {
        native_walk_registers(registers);
        return;
    }
    memory->nested_references = nested_references;
    *registers = (struct walk_registers){
        .cr0 = vmread(VMCS_GUEST_CR0),
        .cr3 = guest_cr3(vcpu),
        .cr4 = vmread(VMCS_GUEST_CR4),
        .efer = vmread(VMCS_GUEST_EFER),
        .rflags = vmread(VMCS_GUEST_RFLAGS),
        .physical_bits = guest_physical_bits(),
        .has_1g_pages = guest_has_1g_pages(),
    };
    registers->pkru = guest_pkru(registers->cr4);
    for (unsigned i = 0; i < 4; i++)
        registers->pdpte[i] = vmread(vmcs_nth(VMCS_GUEST_PDPTE0, i));
}

/* --- linear addresses ------------------------------------------------------------------------- */

bool guest_is_canonical(gva_t at)
{
    int64_t high = (int64_t)at.v >> CANONICAL_SHIFT;

    return high == 0 || high == -1;
}

unsigned arch_vcpu_addresses(const struct vcpu *vcpu, gva_t at[ARCH_ADDRESSES])
{
    unsigned count = 0;

    for (unsigned i = 0; i < ARCH_ADDRESSES; i++) {
        gva_t address = gva(i == GPR_RSP    ? vmread(VMCS_GUEST_RSP)
                            : i < GPR_COUNT ? vcpu->gpr[i]
                                            : vmread(VMCS_GUEST_RIP));
        if (guest_is_canonical(address))
            at[count++] = address;
    }
    return count;
}

unsigned guest_access_rights(void)
{
    /* SS.DPL is the CPL, SDM 3C 25.4.1. */
    return ACCESS_DPL(vmread32(VMCS_GUEST_SS_ACCESS)) == 3 ? WALK_USER : 0;
}

enum direction { FROM_GUEST, TO_GUEST };

/* A device's registers, or where nothing is: that reads as all ones and forgets what is written. */
static void copy_device(const struct vcpu *vcpu, gpa_t at, uint8_t *buffer, uint64_t len,
                        enum direction direction)
{
    struct vm_devices *devices = &vcpu->vm->devices;
    uint64_t value = ~0ull;
    bool one_access = len <= sizeof(value) && (len & (len - 1)) == 0;

    if (direction == TO_GUEST && one_access) {
        memcpy(&value, buffer, len);
        (void)mmio_write(devices, vcpu->index, at, (unsigned)len, value);
    } else if (direction == FROM_GUEST) {
        memset(buffer, 0xff, len);
        if (one_access && mmio_read(devices, vcpu->index, at, (unsigned)len, &value))
            memcpy(buffer, &value, len);
    }
}

/* One piece within a page. */
static void copy_physical(const struct vcpu *vcpu, gpa_t at, uint8_t *buffer, uint64_t len,
                          enum direction direction)
{
    void GUEST *ram = guest_ram_at(&vcpu->vm->ram, at, len);

    if (!ram) {
        copy_device(vcpu, at, buffer, len, direction);
    } else if (direction == FROM_GUEST) {
        copy_from_guest(buffer, ram, len);
    } else {
        copy_to_guest(ram, buffer, len);
        if (vcpu->vm->paging.cpt) /* it may be a shadowed table */
            cpt_written(vcpu->vm->paging.cpt, at, (unsigned)len);
    }
}

static bool copy(const struct vcpu *vcpu, gva_t at, uint8_t *buffer, uint64_t len, unsigned access,
                 enum direction direction, struct guest_fault *fault)
{
    struct walk_registers registers;
    struct walk_memory memory;

    arch_walk_setup(vcpu, &registers, &memory);
    memory.nested_references = NULL; /* nobody counts */
    while (len > 0) {
        uint64_t part = min_u64(len, PAGE_SIZE - at.v % PAGE_SIZE);
        if (!guest_is_canonical(at)) {
            *fault = (struct guest_fault){.vector = VECTOR_GP};
            return false;
        }
        struct walk_result result = walk(&memory, &registers, at, access | WALK_SET_AD);
        if (result.status == WALK_FAULT) {
            *fault = (struct guest_fault){VECTOR_PF, result.error_code, at};
            return false;
        }
        copy_physical(vcpu, result.gpa, buffer, part, direction);
        at = gva_add(at, part);
        buffer += part;
        len -= part;
    }
    return true;
}

bool guest_read(const struct vcpu *vcpu, gva_t at, void *to, uint64_t len, unsigned access,
                struct guest_fault *fault)
{
    return copy(vcpu, at, to, len, access, FROM_GUEST, fault);
}

bool guest_write(const struct vcpu *vcpu, gva_t at, const void *from, uint64_t len, unsigned access,
                 struct guest_fault *fault)
{
    return copy(vcpu, at, (uint8_t *)(uintptr_t)from, len, access | WALK_WRITE, TO_GUEST, fault);
}

uint64_t guest_fetch(const struct vcpu *vcpu, uint8_t *to, uint64_t room)
{
    bool is_64 =
        (vmread(VMCS_GUEST_EFER) & EFER_LMA) && (vmread32(VMCS_GUEST_CS_ACCESS) & ACCESS_L);
    uint64_t rip = vmread(VMCS_GUEST_RIP);
    gva_t at = gva(is_64 ? rip : (uint32_t)(vmread(VMCS_GUEST_CS_BASE) + rip));
    unsigned access = guest_access_rights() | WALK_FETCH;
    uint64_t first = min_u64(room, PAGE_SIZE - at.v % PAGE_SIZE);
    struct guest_fault fault;

    if (!guest_read(vcpu, at, to, first, access, &fault))
        return 0;
    if (first < room &&
        guest_read(vcpu, gva_add(at, first), to + first, room - first, access, &fault))
        return room;
    return first;
}

bool arch_guest_read(const struct vcpu *vcpu, gva_t at, void *to, uint64_t len)
{
    struct guest_fault fault;

    return guest_read(vcpu, at, to, len, WALK_READ, &fault);
}
