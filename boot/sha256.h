/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * SHA-256 (FIPS 180-4) of bytes in memory. Portable: the host tests compile it too.
 *
 * Our own, because the loader needs nothing else of a library's, none of Debian's comes as source
 * that builds without an operating system, and the firmware's protocol for it (EFI_HASH2_PROTOCOL)
 * is an option that hardly any firmware has. It takes general registers alone, some 50 instructions
 * a byte.
 */
#ifndef BOOT_SHA256_H
#define BOOT_SHA256_H

#include <stdint.h>

#define SHA256_BYTES 32

/* The digest of `bytes` bytes at `data`, of any alignment. It cannot fail. */
void sha256(const void *data, uint64_t bytes, uint8_t digest[SHA256_BYTES]);

#endif
