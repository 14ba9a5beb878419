/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a guest may know of Twofold: the entry state of ELF64 images, the CPUID leaves, the
 * hypercalls. The bundled guests and the hypervisor include this same file; docs/guests.md explains
 * it.
 *
 * Entry state of an ELF64 image (p_paddr says where each segment lies in guest-physical memory):
 *   - RIP = e_entry; 64-bit mode at CPL 0; RFLAGS = 2 (interrupts off)
 *   - RDI = guest-physical address of struct tf_guest_info; other general registers 0
 *   - RSP = the end of a 16-KiB stack, minus 8, holding a zero return address (aligned as at a
 *     function's entry)
 *   - CR0 = PE, MP, ET, NE, WP, PG; CR4 = PAE; EFER = SCE, LME, LMA, NXE
 *   - CR3 = tables that map guest-physical addresses one to one, the first 4 GiB or all RAM,
 * whichever is more, in 2-MiB pages, supervisor, writable, executable
 *   - CS = 0x08 (64-bit code), DS = ES = FS = GS = SS = 0x10 (data), TR = 0x18 (a 64-bit TSS);
 *     GDTR holds these; IDTR's limit is 0
 * Stack, tables, GDT, TSS, the structure and its strings lie in [reserved_base, +reserved_size).
 */
#ifndef HV_GUEST_ABI_H
#define HV_GUEST_ABI_H

#include <stdint.h>

/* CPUID */
#define TF_CPUID_SIGNATURE 0x40000000u /* EAX: highest leaf; EBX, ECX, EDX: "TwofoldTwofo" */
#define TF_CPUID_ABI       0x40000001u /* EAX: TF_ABI_VERSION */
#define TF_CPUID_TIMING    0x40000010u /* EAX: TSC, EBX: APIC timer, kHz */
#define TF_SIGNATURE       "TwofoldTwofo"
#define TF_ABI_VERSION     1u

/* Ends of a VM by port */
#define TF_PORT_DEBUG_EXIT                                                                         \
    0xf4u /* QEMU's isa-debug-exit: a write ends the VM, status (v << 1) | 1 */
#define TF_PORT_BOCHS_SHUTDOWN 0x8900u /* Bochs: the bytes of "Shutdown", one after another */

#define TF_GUEST_MAGIC 0x494755474f465754ull
#define TF_RAM_RANGES  4

struct tf_range {
    uint64_t base;
    uint64_t size; /* bytes */
};

struct tf_guest_module {
    uint64_t base; /* guest-physical, page aligned */
    uint64_t size; /* bytes */
    uint64_t name; /* guest-physical address of a NUL-terminated string */
};

struct tf_guest_info {
    uint64_t magic;
    uint32_t version; /* TF_ABI_VERSION */
    uint32_t size;    /* of this structure, bytes */
    uint64_t args;    /* guest-physical address of the NUL-terminated arguments, "" if none */
    uint64_t tsc_hz;  /* ticks a second of RDTSC; 0 if not known */
    uint64_t reserved_base;
    uint64_t reserved_size;
    uint64_t module_count;
    uint64_t modules; /* guest-physical address of struct tf_guest_module[] */
    uint64_t ram_count;
    struct tf_range ram[TF_RAM_RANGES]; /* all RAM, reserved and image included */
    /* 0 in a VM. On the bare machine (paging = native) the address of a function
     * uint64_t call(uint64_t number, uint64_t, uint64_t, uint64_t) that does what VMCALL does in a
     * VM; ram[0] is then where the image is, and ram[1] all else. */
    uint64_t native_call;
};

/*
 * Hypercalls: VMCALL at CPL 0 (#UD elsewhere). RAX = number; RDI, RSI, RDX = arguments; RAX =
 * result, 0 or a TF_E value; all other registers are kept. Pointers are guest-virtual.
 */
enum tf_call {
    TF_CALL_NULL = 0,
    /* RDI: benchmark name, NUL-terminated, at most TF_BENCH_NAME_MAX with the NUL; RSI: enum
     * tf_phase. Starts counting exits for one record. */
    TF_CALL_BENCH_BEGIN = 1,
    /* RDI: struct tf_bench_result. Ends the counting; the record stays open for AUDIT until the
     * next BEGIN or the end of the VM. Neither BEGIN nor END is counted. */
    TF_CALL_BENCH_END = 2,
    /* RDI: first address, RSI: bytes, RDX: step in bytes. Walks the live tables for each address as
     * the processor would at a TLB miss without walk caches, and adds the references to the record
     * that was ended last. Call it while the mappings that were measured are still there. At
     * most TF_AUDIT_MAX addresses: the processor is held meanwhile. */
    TF_CALL_AUDIT = 3,
    /* RDI: first address, RSI: bytes, RDX: step in bytes. Said before BEGIN, for the next record
     * only, at most 4 ranges: the hypervisor audits the range also while the benchmark
     * runs, so that the record's references are a mean over its time. */
    TF_CALL_BENCH_WATCH = 4,
    /* Prints the VM's paging statistics and its map of regions to the console. */
    TF_CALL_STATS = 5,
    /* Only by native_call: what OUT to a port does in a VM. RDI: port; RSI: bytes, 1, 2 or 4; RDX:
       value. */
    TF_CALL_PORT_OUT = 6,
};

enum tf_phase {
    TF_PHASE_WARMUP = 0,
    TF_PHASE_STEADY = 1,
};

/*
 * The same calls where another monitor runs the guest (tests/kvm/): a 4-byte write of the
 * guest-physical address of this structure to TF_PORT_CALL; the guest has mapped it one to one.
 * A monitor that does not know the port forgets the write, and `result` stays as it was.
 */
#define TF_PORT_CALL 0x5f0u

struct tf_port_call {
    uint64_t number; /* enum tf_call: BENCH_BEGIN, BENCH_END, AUDIT */
    uint64_t argument[3];
    uint64_t result;
};

/*
 * Marks: records without VMCALL, for programs of an operating system that may write ports. A NUL
 * written as a byte begins a record, as BENCH_BEGIN does with TF_PHASE_STEADY, named by the bytes
 * before it; 4 bytes end it, as BENCH_END does: so many operations were done, 0 if they went
 * wrong. The hypervisor measures its ticks, and audits as in docs/output.md. What is not in order
 * has no effect.
 */
#define TF_PORT_MARK 0x5f4u

#define TF_BENCH_NAME_MAX 32
#define TF_BENCH_WATCHES  4        /* ranges of one record */
#define TF_AUDIT_MAX      16384ull /* addresses of one AUDIT */

struct tf_bench_result {
    uint64_t ops;
    uint64_t ticks; /* RDTSC, as the guest measured it between BEGIN and END */
    uint64_t ok;    /* 1: every value read was what it had to be */
    /* Accesses to another page than the access before: the TLB misses that the cost model counts */
    uint64_t touches;
};

#define TF_E_CALL  ((uint64_t)-1) /* no such hypercall */
#define TF_E_FAULT ((uint64_t)-2) /* a pointer does not translate to RAM */
#define TF_E_STATE ((uint64_t)-3) /* END without BEGIN, AUDIT without END */
#define TF_E_VALUE ((uint64_t)-4) /* an argument is out of range */

#endif
