/* SPDX-License-Identifier: BSD-2-Clause */
/* Names for the hypervisor's own addresses, from the symbol table of its ELF file (a module). */
#ifndef ARCH_SYMBOLS_H
#define ARCH_SYMBOLS_H

#include <stddef.h>
#include <stdint.h>

/* Addresses are `slide` above those that the file was linked at. */
void symbols_set_slide(uint64_t slide);

/* That slide, for who looks an address up in the file. */
uint64_t symbols_slide(void);

/* Use the ELF64 file of `size` bytes at `file`, which must stay. One without symbols is no error.
 */
void symbols_init(const void *file, size_t size);

/* The function that holds `address`, and the offset into it in bytes; NULL if none is known. */
const char *symbols_find(uint64_t address, uint64_t *offset);

#endif
