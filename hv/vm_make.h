/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a VM consists of, made from its settings and given back: RAM, virtual processors, devices,
 * and what the guest finds in its RAM. By the boot processor; vm_run.c says when.
 */
#ifndef HV_VM_MAKE_H
#define HV_VM_MAKE_H

#include "hv/loader.h"
#include "hv/vm.h"

#define VM_PAGES ((sizeof(struct vm) + PAGE_SIZE - 1) / PAGE_SIZE)

static inline bool vm_is_native(const struct vm *vm)
{
    return vm->settings->paging == PAGING_NATIVE;
}

/*
 * What it needs of the machine: virtual processors, and RAM, which is still to be cleared. False
 * with *why if the machine has not so much; what is there then goes by vm_destroy.
 */
bool vm_create(struct vm *vm, struct why *why);

/* RAM is overwritten in pieces: from now on, and the next one; true when it was the last. */
void vm_begin_phase(struct vm *vm, enum vm_phase phase);
bool vm_overwrite_piece(struct vm *vm);

/* What the guest finds in its RAM, which is all zeros, where it starts (*entry), and how its memory
 * is translated. False with *why for an image that cannot be loaded, or without memory. */
bool vm_create_guest(struct vm *vm, struct entry_state *entry, struct why *why);

/* For a guest on the bare processor: all that vm_create and vm_create_guest do, and its UART. */
bool vm_create_native(struct vm *vm, struct entry_state *entry, struct why *why);

/* As they are when the machine is switched on. */
void vm_create_devices(struct vm *vm);

/* Paging as the settings have it, until a person wants it otherwise. */
void vm_choose_paging(struct vm *vm);

/* Give everything back, the description included. No processor may be in it. */
void vm_destroy(struct vm *vm);

#endif
