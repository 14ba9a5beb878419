/* SPDX-License-Identifier: BSD-2-Clause */
/* Descriptors of a guest that goes to CPL 3 and back, and what LGDT, LIDT and LTR load: SDM
 * 3A 3.4.5 and 8.7. */
#ifndef GUEST_SEGMENTS_H
#define GUEST_SEGMENTS_H

#include <stdint.h>

#define DESCRIPTOR_CODE64      0x00af9b000000ffffull
#define DESCRIPTOR_DATA        0x00cf93000000ffffull
#define DESCRIPTOR_USER_DATA   0x00cff3000000ffffull
#define DESCRIPTOR_USER_CODE64 0x00affb000000ffffull
#define DESCRIPTOR_TSS         0x0000890000000000ull

struct tss {
    uint32_t reserved0;
    uint64_t rsp[3];
    uint64_t reserved1;
    uint64_t ist[7];
    uint64_t reserved2;
    uint16_t reserved3, io_map;
} __attribute__((packed));

struct table_register {
    uint16_t limit;
    uint64_t base;
} __attribute__((packed));

#endif
