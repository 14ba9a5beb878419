/* SPDX-License-Identifier: BSD-2-Clause */
/* What speculation.h decided, done on this machine. */
#ifndef ARCH_GUARDS_H
#define ARCH_GUARDS_H

#include "arch/x86_64/speculation.h"

#ifndef __ASSEMBLER__
#include "hv/settings.h"

struct vcpu;

/* Decide for the boot processor, turn on what stays on, and say all that in a line. */
void guards_init(enum mitigations mitigations);

/* Likewise on a processor that starts; a line only where it differs from the boot processor. */
void guards_enter(void);

/* Before `vcpu` is loaded: no prediction that another VM trained is left to it. */
void guards_switch(const struct vcpu *vcpu);
#endif

#endif
