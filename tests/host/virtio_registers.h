/* SPDX-License-Identifier: BSD-2-Clause */
/* Registers and bits of virtio-mmio devices (virtio 1.2, 4.2.2), written down a second time: tests
 * do not take them from the code that they test. */
#ifndef TESTS_HOST_VIRTIO_REGISTERS_H
#define TESTS_HOST_VIRTIO_REGISTERS_H

enum {
    R_MAGIC = 0x00,
    R_VERSION = 0x04,
    R_DEVICE = 0x08,
    R_FEATURES = 0x10,
    R_FEATURES_SEL = 0x14,
    R_ACCEPT = 0x20,
    R_ACCEPT_SEL = 0x24,
    R_QUEUE_SEL = 0x30,
    R_QUEUE_MAX = 0x34,
    R_QUEUE_NUM = 0x38,
    R_QUEUE_READY = 0x44,
    R_NOTIFY = 0x50,
    R_INTERRUPT = 0x60,
    R_ACK = 0x64,
    R_STATUS = 0x70,
    R_DESC = 0x80,
    R_AVAIL = 0x90,
    R_USED = 0xa0,
    R_CONFIG = 0x100,
};
enum { S_ACK = 1, S_DRIVER = 2, S_DRIVER_OK = 4, S_FEATURES_OK = 8, S_NEEDS_RESET = 64 };
enum { D_NEXT = 1, D_WRITE = 2, D_INDIRECT = 4 };

#endif
