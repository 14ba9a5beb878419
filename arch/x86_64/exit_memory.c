/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * EPT violations. EPT maps all of the VM's RAM with all rights, so what arrives here is an access to
 * guest-physical memory where nothing is: it reads as all ones and forgets what is written, as on a PC.
 */
#include "arch/x86_64/decode.h"
#include "arch/x86_64/emulate.h"
#include "arch/x86_64/exit.h"
#include "hv/arch.h"

#define INSTRUCTION_BYTES_MAX 15

/* What the emulator's accesses need; the fault is set when one fails. */
struct access {
    struct vcpu *vcpu;
    struct guest_fault fault;
};

static bool emulated_read(void *context, uint64_t at, void *to, unsigned bytes)
{
    struct access *a = context;

    return guest_read(a->vcpu, gva(at), to, bytes, guest_access_rights(), &a->fault);
}

static bool emulated_write(void *context, uint64_t at, const void *from, unsigned bytes)
{
    struct access *a = context;

    return guest_write(a->vcpu, gva(at), from, bytes, guest_access_rights(), &a->fault);
}
