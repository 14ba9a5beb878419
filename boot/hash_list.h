/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The list of files that a signed loader may start (docs/secure-boot.md), as `sha256sum` prints it:
 * a line a file with 64 hexadecimal digits, a blank, another or an asterisk, and the file's name.
 * Portable: the host tests compile it too.
 */
#ifndef BOOT_HASH_LIST_H
#define BOOT_HASH_LIST_H

#include <stdbool.h>
#include <stdint.h>

#include "boot/sha256.h"

/* Whether two names are the same for FAT, where letters compare without case. The second is `bytes`
 * long and need not end with a NUL. */
bool same_file_name(const char *name, const char *other, uint64_t bytes);

/*
 * Whether a line of the list, `bytes` long, has this name (NUL-terminated) with this digest. Lines
 * of another form are passed over; nothing outside the list is read.
 */
bool hash_list_has(const char *list, uint64_t bytes, const char *name,
                   const uint8_t digest[SHA256_BYTES]);

#endif
