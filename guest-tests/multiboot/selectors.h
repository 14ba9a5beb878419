/* SPDX-License-Identifier: BSD-2-Clause */
/* The GDT of machine32.c, for C and for assembly: null, code, data, then one for each processor's
 * own data (GS). */
#ifndef GUEST_SELECTORS_H
#define GUEST_SELECTORS_H

#define SELECTOR_CODE 0x08
#define SELECTOR_DATA 0x10
#define SELECTOR_CPU  0x18
#define GDT_ENTRIES   (3 + 64)

#define INTERRUPT_STUB_SIZE 16

#endif
