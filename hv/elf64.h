/* SPDX-License-Identifier: BSD-2-Clause */
/* ELF64, as far as loaders and the back trace read it (System V ABI, chapters 4 and 5). */
#ifndef HV_ELF64_H
#define HV_ELF64_H

#include <stdbool.h>
#include <stdint.h>

#define ELF_MAGIC      0x464c457fu /* 0x7f "ELF", little end first */
#define ELF_CLASS_32   1
#define ELF_CLASS_64   2
#define ELF_DATA_LSB   1
#define ELF_ET_EXEC    2
#define ELF_EM_386     3
#define ELF_EM_X86_64  62
#define ELF_PT_LOAD    1u
#define ELF_PT_NOTE    4u
#define ELF_PF_X       1u
#define ELF_PF_W       2u
#define ELF_PF_R       4u
#define ELF_SHT_SYMTAB 2u
#define ELF_SHT_RELA   4u
#define ELF_SHF_ALLOC  2u
#define ELF_SHN_UNDEF  0u
#define ELF_SHN_ABS    0xfff1u
#define ELF_STT_MASK   0xfu
#define ELF_STT_FUNC   2u

struct elf64_header {
    uint32_t e_magic;
    uint8_t e_class;
    uint8_t e_data;
    uint8_t e_ident_version;
    uint8_t e_ident_rest[9];
    uint16_t e_type;
    uint16_t e_machine;
    uint32_t e_version;
    uint64_t e_entry;
    uint64_t e_phoff;
    uint64_t e_shoff;
    uint32_t e_flags;
    uint16_t e_ehsize;
    uint16_t e_phentsize;
    uint16_t e_phnum;
    uint16_t e_shentsize;
    uint16_t e_shnum;
    uint16_t e_shstrndx;
};

struct elf64_segment {
    uint32_t p_type;
    uint32_t p_flags;
    uint64_t p_offset;
    uint64_t p_vaddr;
    uint64_t p_paddr;
    uint64_t p_filesz;
    uint64_t p_memsz;
    uint64_t p_align;
};

struct elf64_section {
    uint32_t sh_name;
    uint32_t sh_type;
    uint64_t sh_flags;
    uint64_t sh_addr;
    uint64_t sh_offset;
    uint64_t sh_size;
    uint32_t sh_link;
    uint32_t sh_info;
    uint64_t sh_addralign;
    uint64_t sh_entsize;
};

struct elf64_symbol {
    uint32_t st_name;
    uint8_t st_info;
    uint8_t st_other;
    uint16_t st_shndx;
    uint64_t st_value;
    uint64_t st_size;
};

struct elf64_rela {
    uint64_t r_offset;
    uint32_t r_type;
    uint32_t r_symbol;
    int64_t r_addend;
};

/* Types of relocations, x86-64 psABI table 4.9 */
#define ELF_R_NONE  0u
#define ELF_R_64    1u
#define ELF_R_PC32  2u
#define ELF_R_PLT32 4u
#define ELF_R_32S   11u
#define ELF_R_PC64  24u

_Static_assert(sizeof(struct elf64_header) == 64, "ELF64 layout");
_Static_assert(sizeof(struct elf64_segment) == 56, "ELF64 layout");
_Static_assert(sizeof(struct elf64_section) == 64, "ELF64 layout");
_Static_assert(sizeof(struct elf64_symbol) == 24, "ELF64 layout");
_Static_assert(sizeof(struct elf64_rela) == 24, "ELF64 layout");

#endif
