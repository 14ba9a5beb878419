/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * paging = native: the guest runs on the bare processor, outside VMX operation, at CPL 0 and with
 * addresses of its own that are the machine's. It is the base line that the ways of virtualising
 * memory are measured against, and it is trusted with everything: nothing can stop it but itself.
 *
 * Its image lies where it is linked, in an area that memory_init keeps for it, its memory in one
 * block. What hypercalls are elsewhere it asks by a call gate (native_gate.S), which changes to the
 * hypervisor's address space, descriptors and stack, and back.
 */
#include <string.h>

#include "arch/x86_64/guest_cpu.h"
#include "arch/x86_64/memory.h"
#include "arch/x86_64/pmu.h"
#include "arch/x86_64/processor.h"
#include "arch/x86_64/vcpu.h"
#include "hv/arch.h"
#include "hv/dev/pio.h"
#include "hv/memory.h"

struct table_register {
    uint16_t limit;
    uint64_t base;
} __attribute__((packed));

/* The data of the page; native_gate.S knows the offsets. */
struct native_page {
    uint64_t host_cr0, host_cr3, host_cr4, host_rsp;
    struct table_register host_gdtr __attribute__((aligned(16)));
    struct table_register host_idtr __attribute__((aligned(16)));
    uint64_t host_tss __attribute__((aligned(16)));
    bool (*host_call)(struct vcpu *vcpu);
    struct vcpu *host_context;
    uint64_t guest_cr0, guest_cr3, guest_cr4, guest_rsp;
    struct table_register guest_gdtr __attribute__((aligned(8)));
    struct table_register guest_idtr __attribute__((aligned(8)));
    uint64_t guest_tr __attribute__((aligned(8)));
    uint64_t guest_rip, guest_rdi;
    uint64_t call_number, call_arg[3], call_result;
    uint64_t host_gs, guest_gs;
};
_Static_assert(offsetof(struct native_page, host_gdtr) == 0x20 &&
                   offsetof(struct native_page, host_idtr) == 0x30 &&
                   offsetof(struct native_page, host_tss) == 0x40 &&
                   offsetof(struct native_page, guest_cr0) == 0x58 &&
                   offsetof(struct native_page, guest_gdtr) == 0x78 &&
                   offsetof(struct native_page, guest_idtr) == 0x88 &&
                   offsetof(struct native_page, guest_tr) == 0x98 &&
                   offsetof(struct native_page, call_number) == 0xb0 &&
                   offsetof(struct native_page, call_result) == 0xd0 &&
                   offsetof(struct native_page, guest_gs) == 0xe0,
               "native_gate.S has these offsets");

/* native_gate.S */
extern const char native_page_start[], native_page_end[], native_enter[], native_call_gate[];

/* In the direct map; its code runs where its physical address is. */
static struct native_page *page;

/* --- calls ------------------------------------------------------------------------------------ */

/* What the call gate calls: true to go back to the guest. */
static bool native_call(struct vcpu *vcpu)
{
    struct vm *vm = vcpu->vm;

    vcpu->exits[arch_exit_hypercall]++; /* as if it were one: the records leave it out */
    if (page->call_number == TF_CALL_PORT_OUT) {
        pio_write(&vm->devices, (uint16_t)page->call_arg[0], (unsigned)page->call_arg[1],
                  (uint32_t)page->call_arg[2]);
        vm_check_devices(vm);
        page->call_result = 0;
        return vm->end == VM_RUNNING;
    }
    vcpu->gpr[CALL_NUMBER] = page->call_number;
    vcpu->gpr[CALL_ARG0] = page->call_arg[0];
    vcpu->gpr[CALL_ARG1] = page->call_arg[1];
    vcpu->gpr[CALL_ARG2] = page->call_arg[2];
    hypercall(vcpu);
    page->call_result = vcpu->gpr[CALL_RESULT];
    return vm->end == VM_RUNNING;
}

void native_walk_registers(struct walk_registers *registers)
{
    *registers = (struct walk_registers){
        .cr0 = page->guest_cr0,
        .cr3 = page->guest_cr3,
        .cr4 = page->guest_cr4,
        .efer = rdmsr(MSR_EFER),
        .rflags = RFLAGS_FIXED,
        .physical_bits = guest_physical_bits(),
        .has_1g_pages = guest_has_1g_pages(),
    };
}

/* --- life ------------------------------------------------------------------------------------- */

static void set_host_part(struct vm *vm)
{
    __asm__ volatile("sgdt %0" : "=m"(page->host_gdtr));
    __asm__ volatile("sidt %0" : "=m"(page->host_idtr));
    page->host_cr0 = read_cr0();
    page->host_cr3 = read_cr3();
    page->host_cr4 = read_cr4();
    page->host_tss = (uint64_t)this_processor()->descriptors.gdt + SELECTOR_TSS;
    page->host_gs = (uint64_t)this_processor();
    page->host_call = native_call;
    page->host_context = &vm->vcpu[0];
}

/* The entry state of hv/guest_abi.h. */
static void set_guest_part(const struct entry_state *entry)
{
    page->guest_cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
    page->guest_cr3 = entry->cr3;
    page->guest_cr4 = CR4_PAE;
    page->guest_gdtr = (struct table_register){(uint16_t)entry->gdt_limit, entry->gdt_base};
    page->guest_idtr = (struct table_register){0, 0};
    page->guest_gs = 0;
    page->guest_tr = SELECTOR_TSS;
    page->guest_rip = entry->rip.v;
    page->guest_rdi = entry->rdi;
    page->guest_rsp = entry->rsp;
}

void native_init(void)
{
    size_t bytes = (size_t)(native_page_end - native_page_start);

    ASSERT(bytes <= PAGE_SIZE);
    ASSERT(sizeof(*page) <= (size_t)(native_enter - native_page_start));
    struct native_page *made = host_pages_alloc(1);
    if (!made)
        return;
    memcpy(made, native_page_start, bytes);
    if (memory_map_identity(host_hpa(made)))
        page = made;
    else
        host_pages_free(made, 1);
}

uint64_t arch_native_gate(void)
{
    if (!page)
        return 0;
    return host_hpa(page).v + (uint64_t)(native_call_gate - native_page_start);
}

void arch_native_run(struct vm *vm, const struct entry_state *entry)
{
    uint64_t efer = rdmsr(MSR_EFER), pat = rdmsr(MSR_PAT);
    uint64_t enter = host_hpa(page).v + (uint64_t)(native_enter - native_page_start);

    vmx_leave();
    set_host_part(vm);
    set_guest_part(entry);
    wrmsr(MSR_EFER, efer | EFER_SCE | EFER_NXE);
    wrmsr(MSR_PAT, PAT_DEFAULT);
    pmu_run_native(true);
    ((void (*)(struct native_page *))enter)(page);
    pmu_run_native(false);
    wrmsr(MSR_PAT, pat);
    wrmsr(MSR_EFER, efer);
}
