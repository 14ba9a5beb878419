/* SPDX-License-Identifier: BSD-2-Clause */
/* What the loader measured: for a person, and as records (docs/output.md). */
#ifndef ARCH_MEASURED_H
#define ARCH_MEASURED_H

#include "boot/handoff.h"

/* Print the SHA-256 of each file that was hashed, and what the TPM was given. The modules must be
 * in the direct map. */
void measured_print(const struct handoff *handoff);

#endif
