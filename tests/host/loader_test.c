/* SPDX-License-Identifier: BSD-2-Clause */
/* Guest images: what is loaded where, the boot information, and images that lie about themselves.
 */
#include "hv/loader.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "hv/elf64.h"
#include "tests/host/test.h"

#define MEMORY MIB(64)

static uint8_t *ram_bytes;
static struct guest_ram ram;
static struct vm_settings vm;
static struct entry_state entry;
static struct why why;

static uint8_t image[64 * 1024];
static size_t image_size;

static bool load(void)
{
    static const char hello[] = "hello module";
    struct module list[] = {{"image", image, image_size}, {"mod", hello, sizeof(hello) - 1}};
    struct module_list modules = {list, 2};
    struct module exact = {"image", malloc(image_size ? image_size : 1), image_size};

    if (ram.host == ram_bytes) /* zeros anew, and quicker than by memset */
        CHECK(madvise(ram_bytes, MEMORY, MADV_DONTNEED) == 0 && ram_bytes[0x200000] == 0, "zeros");
    memcpy((void *)(uintptr_t)exact.data, image, image_size);
    list[0] = exact; /* a heap block of the exact size: reading beyond it is seen */
    bool good = load_guest(&vm, &modules, 12345, &ram, &entry, &why);
    free((void *)(uintptr_t)exact.data);
    return good;
}

static const void *at(uint64_t gpa_value, uint64_t bytes)
{
    return guest_ram_at(&ram, gpa(gpa_value), bytes);
}

/* --- building images -------------------------------------------------------------------------- */

#define CODE_BYTES 64u

static struct elf64_header *elf64(unsigned segments)
{
    struct elf64_header *h = (struct elf64_header *)image;

    memset(image, 0, sizeof(image));
    *h = (struct elf64_header){
        .e_magic = ELF_MAGIC,
        .e_class = ELF_CLASS_64,
        .e_data = ELF_DATA_LSB,
        .e_ident_version = 1,
        .e_type = ELF_ET_EXEC,
        .e_machine = ELF_EM_X86_64,
        .e_entry = 0x200010,
        .e_phoff = sizeof(*h),
        .e_phentsize = sizeof(struct elf64_segment),
        .e_phnum = (uint16_t)segments,
    };
    image_size = 4096 + CODE_BYTES;
    memset(image + 4096, 0x90, CODE_BYTES);
    return h;
}

static struct elf64_segment *segment(unsigned i, uint32_t flags, uint64_t address, uint64_t size)
{
    struct elf64_segment *s = (struct elf64_segment *)(image + sizeof(struct elf64_header)) + i;

    *s = (struct elf64_segment){.p_type = ELF_PT_LOAD,
                                .p_flags = flags,
                                .p_offset = 4096,
                                .p_vaddr = address,
                                .p_paddr = address,
                                .p_filesz = size < CODE_BYTES ? size : CODE_BYTES,
                                .p_memsz = size};
    return s;
}

static void good_elf64(void)
{
    elf64(2);
    segment(0, ELF_PF_R | ELF_PF_X, 0x200000, CODE_BYTES);
    segment(1, ELF_PF_R | ELF_PF_W, 0x300000, 0x5000);
}

/* --- ELF64 ------------------------------------------------------------------------------------ */

static void elf64_is_loaded_with_its_world(void)
{
    good_elf64();
    CHECK(load(), "%s", why.text);
    CHECK(entry.mode == ENTRY_LONG && entry.rip.v == 0x200010, "entry");
    CHECK(*(const uint8_t *)at(0x200000, 1) == 0x90 && *(const uint8_t *)at(0x300000, 1) == 0x90,
          "segments");
    CHECK(*(const uint8_t *)at(0x300000 + CODE_BYTES, 1) == 0, "bss");

    const struct tf_guest_info *info = at(entry.rdi, sizeof(*info));
    CHECK(info && info->magic == TF_GUEST_MAGIC && info->version == TF_ABI_VERSION &&
              info->size == sizeof(*info) && info->tsc_hz == 12345,
          "information");
    CHECK(strcmp(at(info->args, 8), "a=1 b") == 0, "arguments");
    CHECK(info->ram_count == 1 && info->ram[0].base == 0 && info->ram[0].size == MEMORY, "RAM");
    CHECK(info->module_count == 1, "modules");
    const struct tf_guest_module *module = at(info->modules, sizeof(*module));
    CHECK(strcmp(at(module->name, 4), "mod") == 0 && module->size == 12 &&
              memcmp(at(module->base, 12), "hello module", 12) == 0 &&
              module->base % PAGE_SIZE == 0,
          "module");
    CHECK(entry.rsp % 16 == 8 && *(const uint64_t *)at(entry.rsp, 8) == 0, "stack");
    uint64_t end = info->reserved_base + info->reserved_size;
    CHECK(entry.rsp > info->reserved_base && entry.rsp < end && entry.cr3 > info->reserved_base &&
              entry.cr3 < end && entry.gdt_base > info->reserved_base && entry.gdt_base < end,
          "reserved area");
    const uint64_t *gdt = at(entry.gdt_base, 40);
    CHECK((gdt[1] >> 53 & 1) == 1 && (gdt[3] >> 40 & 0xff) == 0x8b, "GDT: long code, busy TSS");
}

/* Follow the tables as a processor would, for addresses all over the first 4 GiB. */
static void check_tables(void)
{
    for (uint64_t address = 0; address < GIB(4); address += MIB(6) + 123456) {
        const uint64_t *pml4 = at(entry.cr3, PAGE_SIZE);
        const uint64_t *pdpt = at(pml4[address >> 39 & 511] & ~0xfffull, PAGE_SIZE);
        const uint64_t *pd = at(pdpt[address >> 30 & 511] & ~0xfffull, PAGE_SIZE);
        uint64_t leaf = pd[address >> 21 & 511];
        CHECK((leaf & 0x83) == 0x83 && (leaf & ~0x1fffffull) == align_down(address, PAGE_SIZE_2M),
              "0x%llx: 0x%llx", (unsigned long long)address, (unsigned long long)leaf);
    }
}

static void elf64_tables_map_one_to_one(void)
{
    good_elf64();
    CHECK(load(), "%s", why.text);
    check_tables();
}

static void must_fail(const char *phrase, const char *what)
{
    why.text[0] = '\0';
    CHECK(!load(), "%s: was loaded", what);
    CHECK(strncmp(why.text, "image: ", 7) == 0 && strstr(why.text, phrase), "%s says: %s", what,
          why.text);
}

static void elf64_mistakes_are_named(void)
{
    good_elf64();
    ((struct elf64_header *)image)->e_machine = 3;
    must_fail("not for x86-64", "machine");
    good_elf64();
    ((struct elf64_header *)image)->e_type = 3;
    must_fail("ET_EXEC", "type");
    good_elf64();
    ((struct elf64_header *)image)->e_phoff = ~0ull;
    must_fail("program headers lie beyond", "phoff");
    good_elf64();
    ((struct elf64_header *)image)->e_phnum = 0;
    must_fail("no program headers", "phnum");
    good_elf64();
    image_size = 4096 + 10;
    must_fail("truncated", "cut");
    good_elf64();
    segment(1, ELF_PF_R, 0x300000, 0x1000)->p_offset = ~0ull - 10;
    must_fail("truncated", "offset wraps");
    good_elf64();
    segment(1, ELF_PF_R, 0x300000, 0x10)->p_filesz = 0x20;
    must_fail("more bytes in the file", "file size");
    good_elf64();
    segment(1, ELF_PF_R, MEMORY - 0x1000, 0x2000);
    must_fail("outside the VM's 64 MiB", "outside");
    good_elf64();
    segment(1, ELF_PF_R, ~0ull - 0xfff, 0x2000);
    must_fail("outside the VM's", "address wraps");
    good_elf64();
    segment(1, ELF_PF_R, 0x200020, 0x1000);
    must_fail("overlaps the segment", "overlap");
    good_elf64();
    ((struct elf64_header *)image)->e_entry = 0x300000;
    must_fail("in no executable segment", "entry in data");
    good_elf64();
    segment(0, ELF_PF_R | ELF_PF_X, 0x200000 - CODE_BYTES, MEMORY - 0x200000);
    segment(1, ELF_PF_R | ELF_PF_W, 0x8000, 0x1f0000);
    must_fail("no room for the reserved area", "no room");
}

/* --- Multiboot -------------------------------------------------------------------------------- */

#define MB_MAGIC 0x1badb002u

static void multiboot(unsigned offset, uint32_t flags)
{
    uint32_t header[3] = {MB_MAGIC, flags, 0u - MB_MAGIC - flags};

    memcpy(image + offset, header, sizeof(header));
}

static void kludge(uint32_t load_address, uint32_t load_end, uint32_t bss_end, uint32_t start)
{
    uint32_t addresses[5] = {load_address + 0x40, load_address, load_end, bss_end, start};

    memset(image, 0x90, sizeof(image));
    image_size = 0x1000;
    multiboot(0x40, 1u << 16 | 3);
    memcpy(image + 0x4c, addresses, sizeof(addresses));
}

static uint32_t word(uint64_t address)
{
    uint32_t value;

    memcpy(&value, at(address, 4), 4);
    return value;
}

static void multiboot_gets_full_information(void)
{
    kludge(0x100000, 0x101000, 0x103000, 0x100100);
    CHECK(load(), "%s", why.text);
    CHECK(entry.mode == ENTRY_PROTECTED && entry.rip.v == 0x100100 && entry.rax == 0x2badb002u,
          "entry");
    uint64_t info = entry.rbx;
    CHECK((word(info) & 0x24d) == 0x24d, "flags 0x%x", word(info));
    CHECK(word(info + 4) == 640 && word(info + 8) == (MEMORY >> 10) - 1024, "memory");
    CHECK(strcmp(at(word(info + 16), 12), "image a=1 b") == 0, "command line");
    CHECK(word(info + 20) == 1, "modules");
    uint32_t mods = word(info + 24);
    CHECK(word(mods + 4) - word(mods) == 12 &&
              memcmp(at(word(mods), 12), "hello module", 12) == 0 && word(mods) % PAGE_SIZE == 0 &&
              strcmp(at(word(mods + 8), 8), "mod x y") == 0,
          "module");
    CHECK(word(info + 44) == 3 * 24, "map length %u", word(info + 44));
    uint32_t map = word(info + 48);
    CHECK(word(map) == 20 && word(map + 12) == 0xa0000 && word(map + 20) == 1, "map entry 0");
    CHECK(word(map + 24 + 4) == 0xa0000 && word(map + 24 + 20) == 2, "map entry 1");
    CHECK(strcmp(at(word(info + 64), 8), "Twofold") == 0, "loader name");
    CHECK(*(const uint8_t *)at(0x100000, 1) == 0x90 && *(const uint8_t *)at(0x101000, 1) == 0,
          "image and bss");
}

static void multiboot_mistakes_are_named(void)
{
    kludge(0x100000, 0x101000, 0, 0x200000);
    must_fail("outside the image", "entry");
    kludge(0x100000, 0x102000, 0, 0x100100);
    must_fail("truncated", "load end beyond the file");
    kludge(0x100000, 0x101000, 0x100800, 0x100100);
    must_fail("bss end address", "bss below data");
    kludge(0x100000, 0x90000, 0, 0x100100);
    must_fail("load end address", "end below start");
    kludge(0xffff0000, 0, 0, 0xffff0100);
    must_fail("outside the VM's", "high");
    kludge(0x100000, 0, 0, 0x100100);
    uint32_t bad_load = 0x200000;
    memcpy(image + 0x50, &bad_load, 4);
    must_fail("does not fit header address", "load above header");
    kludge(0x100000, 0x101000, 0, 0x100100);
    multiboot(0x40, 1u << 16 | 1u << 5);
    must_fail("requires features 0x20", "unknown flag");
    memset(image, 0, sizeof(image));
    image_size = 12;
    multiboot(0, 1u << 16);
    must_fail("addresses are missing", "cut header");
    memset(image, 0, sizeof(image));
    image_size = 0x1000;
    multiboot(0, 0);
    must_fail("not an ELF32", "no addresses, no ELF");
    memset(image, 0, sizeof(image));
    must_fail("neither a Linux bzImage nor an ELF64", "no header");
    image_size = 0;
    must_fail("neither a Linux bzImage nor an ELF64", "empty");
}

/* --- Linux ------------------------------------------------------------------------------------ */

/* Offsets in the file and in boot_params: the kernel's boot.rst and zero-page.rst. */
enum {
    BP_RSDP = 0x70,
    BP_E820_ENTRIES = 0x1e8,
    BP_SENTINEL = 0x1ef,
    BP_HEADER = 0x1f1,
    BP_SETUP_SECTS = 0x1f1,
    BP_SYSSIZE = 0x1f4,
    BP_BOOT_FLAG = 0x1fe,
    BP_JUMP = 0x200,
    BP_MAGIC = 0x202,
    BP_VERSION = 0x206,
    BP_LOADER = 0x210,
    BP_CODE32 = 0x214,
    BP_RAMDISK = 0x218,
    BP_RAMDISK_SIZE = 0x21c,
    BP_CMDLINE = 0x228,
    BP_RAMDISK_MAX = 0x22c,
    BP_ALIGNMENT = 0x230,
    BP_RELOCATABLE = 0x234,
    BP_XLOADFLAGS = 0x236,
    BP_CMDLINE_SIZE = 0x238,
    BP_PREFERRED = 0x258,
    BP_INIT_SIZE = 0x260,
    BP_HEADER_END = 0x26c, /* as the jump of a version 2.15 says */
    BP_HEADER_ROOM = 0x290,
    BP_E820 = 0x2d0,
};

#define LINUX_CODE  1024u /* in the file: behind the boot sector and one sector of setup code */
#define LINUX_BYTES 4096u
#define LINUX_START 0x1000000u

static void put(unsigned offset, unsigned bytes, uint64_t value)
{
    memcpy(image + offset, &value, bytes);
}

/* A kernel whose code is the bytes 1, 2, 3, ..., with 3 MiB to unpack itself into. */
static void good_linux(void)
{
    memset(image, 0, sizeof(image));
    for (unsigned i = BP_HEADER; i < BP_HEADER_ROOM; i++)
        image[i] = 0xa5; /* fields that the loader has no business with */
    put(BP_SETUP_SECTS, 1, 1);
    put(BP_SYSSIZE, 4, LINUX_BYTES / 16);
    put(BP_BOOT_FLAG, 2, 0xaa55);
    put(BP_JUMP, 2, (uint64_t)(BP_HEADER_END - BP_MAGIC) << 8 | 0xeb);
    memcpy(image + BP_MAGIC, "HdrS", 4);
    put(BP_VERSION, 2, 0x20f);
    put(BP_RAMDISK, 8, 0);
    put(BP_RAMDISK_MAX, 4, 0x7fffffff);
    put(BP_ALIGNMENT, 4, 0x200000);
    put(BP_RELOCATABLE, 1, 1);
    put(BP_XLOADFLAGS, 2, 0x7f);
    put(BP_CMDLINE_SIZE, 4, 2047);
    put(BP_PREFERRED, 8, LINUX_START);
    put(BP_INIT_SIZE, 4, 0x300000);
    for (unsigned i = 0; i < LINUX_BYTES; i++)
        image[LINUX_CODE + i] = (uint8_t)(i + 1);
    image_size = LINUX_CODE + LINUX_BYTES;
}

static uint64_t wide(uint64_t address)
{
    return word(address) | (uint64_t)word(address + 4) << 32;
}

static uint8_t byte(uint64_t address)
{
    return *(const uint8_t *)at(address, 1);
}

static bool in_linux_window(uint64_t address)
{
    return address >= LINUX_START && address < LINUX_START + 0x300000;
}

static void linux_is_entered_as_it_wants(void)
{
    good_linux();
    CHECK(load(), "%s", why.text);
    CHECK(entry.mode == ENTRY_LINUX && entry.rip.v == LINUX_START + 0x200, "entry 0x%llx",
          (unsigned long long)entry.rip.v);
    CHECK(memcmp(at(LINUX_START, LINUX_BYTES), image + LINUX_CODE, LINUX_BYTES) == 0 &&
              byte(LINUX_START + LINUX_BYTES) == 0,
          "protected-mode code");
    CHECK(entry.gdt_limit == 31 && wide(entry.gdt_base + 0x10) == 0x00af9b000000ffff &&
              wide(entry.gdt_base + 0x18) == 0x00cf93000000ffff,
          "GDT: flat code at 0x10, flat data at 0x18");
    check_tables();
    CHECK(!in_linux_window(entry.rsi) && !in_linux_window(entry.cr3) &&
              !in_linux_window(entry.gdt_base),
          "in the way of the kernel");
}

static void linux_gets_boot_params(void)
{
    static const unsigned set_by_loader[] = {BP_LOADER, BP_CODE32, BP_CODE32 + 1, BP_CODE32 + 2,
                                             BP_CODE32 + 3};
    good_linux();
    CHECK(load(), "%s", why.text);
    uint64_t params = entry.rsi;
    for (unsigned i = 0; i < BP_HEADER; i++)
        CHECK(byte(params + i) == 0 || i / 8 == BP_RSDP / 8 || i == BP_E820_ENTRIES,
              "offset 0x%x is 0x%x", i, byte(params + i));
    CHECK(wide(params + BP_RSDP) == 0xe0000, "RSDP");
    for (unsigned i = BP_HEADER; i < BP_HEADER_ROOM; i++) {
        bool own =
            (i >= BP_RAMDISK && i < BP_RAMDISK + 8) || (i >= BP_CMDLINE && i < BP_CMDLINE + 4);
        for (unsigned k = 0; k < ARRAY_SIZE(set_by_loader); k++)
            own = own || i == set_by_loader[k];
        CHECK(own || byte(params + i) == (i < BP_HEADER_END ? image[i] : 0),
              "header: offset 0x%x is 0x%x", i, byte(params + i));
    }
    CHECK(byte(params + BP_LOADER) == 0xff && word(params + BP_CODE32) == LINUX_START, "loader");
    CHECK(strcmp(at(word(params + BP_CMDLINE), 8), "a=1 b") == 0 &&
              !in_linux_window(word(params + BP_CMDLINE)),
          "command line");
    uint32_t disk = word(params + BP_RAMDISK);
    CHECK(word(params + BP_RAMDISK_SIZE) == 12 && disk % PAGE_SIZE == 0 &&
              memcmp(at(disk, 12), "hello module", 12) == 0 && !in_linux_window(disk),
          "RAM disk");
}

/* Entry `i` of the E820 table. */
static void check_e820(unsigned i, uint64_t start, uint64_t end, uint32_t type)
{
    uint64_t e = entry.rsi + BP_E820 + i * 20;

    CHECK(wide(e) == start && wide(e + 8) == end - start && word(e + 16) == type,
          "E820 entry %u: 0x%llx, 0x%llx, %u", i, (unsigned long long)wide(e),
          (unsigned long long)wide(e + 8), word(e + 16));
}

static void check_first_mib_of_e820(void)
{
    check_e820(0, 0, 0x1000, 2);
    check_e820(1, 0x1000, 0x9fc00, 1);
    check_e820(2, 0x9fc00, 0x100000, 2);
}

static void linux_gets_a_memory_map(void)
{
    good_linux();
    CHECK(load(), "%s", why.text);
    CHECK(byte(entry.rsi + BP_E820_ENTRIES) == 4, "%u entries", byte(entry.rsi + BP_E820_ENTRIES));
    check_first_mib_of_e820();
    check_e820(3, 0x100000, MEMORY, 1);
}

/* A VM of 5 GiB, of whose pages only those are ever touched that the loader writes. */
static void with_5_gib(void (*check)(void))
{
    struct guest_ram small = ram;
    uint8_t *bytes = mmap(NULL, GIB(5), PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    CHECK(bytes != MAP_FAILED, "no address space");
    if (bytes == MAP_FAILED)
        return;
    ram = guest_ram_layout(bytes, GIB(5));
    vm.memory = GIB(5);
    check();
    munmap(bytes, GIB(5));
    ram = small;
    vm.memory = MEMORY;
}

static void check_big_linux(void)
{
    good_linux();
    CHECK(load(), "%s", why.text);
    CHECK(byte(entry.rsi + BP_E820_ENTRIES) == 5, "%u entries", byte(entry.rsi + BP_E820_ENTRIES));
    check_first_mib_of_e820();
    check_e820(3, 0x100000, GIB(3), 1);
    check_e820(4, GIB(4), GIB(6), 1);
    CHECK(word(entry.rsi + BP_RAMDISK) + 12 <= 0x80000000u, "RAM disk at 0x%x",
          word(entry.rsi + BP_RAMDISK));
    CHECK(entry.rsi < GIB(3) && entry.cr3 < GIB(3), "below 4 GiB");
    check_tables();
}

static void linux_in_a_big_vm(void)
{
    with_5_gib(check_big_linux);
}

static void linux_is_placed_where_it_wants(void)
{
    good_linux();
    put(BP_PREFERRED, 8, 0x1100000);
    CHECK(load() && entry.rip.v == 0x1200200, "aligned: 0x%llx", (unsigned long long)entry.rip.v);
    put(BP_RELOCATABLE, 1, 0);
    CHECK(load() && entry.rip.v == 0x1100200, "fixed: 0x%llx", (unsigned long long)entry.rip.v);

    good_linux();
    put(BP_PREFERRED, 8, 0x8000);
    put(BP_ALIGNMENT, 4, 0x1000);
    CHECK(load() && entry.rip.v == 0x100200, "above the legacy hole: 0x%llx",
          (unsigned long long)entry.rip.v);

    good_linux(); /* 0 sectors of setup code stand for 4 */
    put(BP_SETUP_SECTS, 1, 0);
    memmove(image + 5 * 512, image + LINUX_CODE, LINUX_BYTES);
    image_size = 5 * 512 + LINUX_BYTES;
    CHECK(load() && byte(LINUX_START + 1) == 2 && byte(LINUX_START + LINUX_BYTES - 1) == 0, "%s",
          why.text);

    good_linux();
    put(BP_RAMDISK_MAX, 4, LINUX_START - 1);
    CHECK(load() && word(entry.rsi + BP_RAMDISK) == LINUX_START - PAGE_SIZE, "RAM disk at 0x%x",
          word(entry.rsi + BP_RAMDISK));
    put(BP_RAMDISK_MAX, 4, 0xfffff); /* below the hole then, and above the first page */
    CHECK(load() && word(entry.rsi + BP_RAMDISK) == 0x9e000, "RAM disk at 0x%x",
          word(entry.rsi + BP_RAMDISK));
    put(BP_RAMDISK_MAX, 4, 0x1fff);
    CHECK(load() && word(entry.rsi + BP_RAMDISK) == 0x1000, "RAM disk at 0x%x",
          word(entry.rsi + BP_RAMDISK));
    put(BP_RAMDISK_MAX, 4, 0x1ffe);
    must_fail("no room for the module", "RAM disk on the first page");

    put(BP_RAMDISK_MAX, 4, 0xffffffff);
    CHECK(load() && word(entry.rsi + BP_RAMDISK) > MEMORY - MIB(1), "RAM disk at 0x%x",
          word(entry.rsi + BP_RAMDISK));
}

static void linux_with_a_longer_header_than_there_is_room_for(void)
{
    good_linux();
    put(BP_JUMP, 2, 0xffeb);
    memset(image + BP_HEADER_ROOM, 0x5a, BP_MAGIC + 0xff - BP_HEADER_ROOM);
    CHECK(load(), "%s", why.text);
    CHECK(byte(entry.rsi + BP_HEADER_ROOM - 1) == 0xa5, "the part that there is room for");
    for (unsigned i = BP_HEADER_ROOM; i < BP_E820; i++)
        CHECK(byte(entry.rsi + i) == 0, "offset 0x%x is 0x%x", i, byte(entry.rsi + i));
}

static void linux_without_a_module(void)
{
    vm.module_count = 0;
    good_linux();
    CHECK(load() && wide(entry.rsi + BP_RAMDISK) == 0, "%s", why.text);
    vm.module_count = 1;
}

static void linux_mistakes_are_named(void)
{
    good_linux();
    put(BP_VERSION, 2, 0x20b);
    must_fail("boot protocol 2.11", "version");
    good_linux();
    put(BP_XLOADFLAGS, 2, 0x7e);
    must_fail("without a 64-bit entry point", "32-bit kernel");
    good_linux();
    put(BP_JUMP, 2, 0x30eb);
    must_fail("header is too short", "short header");
    good_linux();
    image_size = BP_HEADER_END - 1;
    must_fail("header is too short", "cut in the header");
    good_linux();
    image_size--;
    must_fail("truncated: segment at 0x1000000 needs 4096 bytes", "cut in the code");
    good_linux();
    put(BP_SYSSIZE, 4, 0x200 / 16);
    must_fail("says there is no kernel", "no code");
    good_linux();
    put(BP_ALIGNMENT, 4, 0x300000);
    must_fail("no power of two", "alignment");
    good_linux();
    put(BP_INIT_SIZE, 4, MEMORY - LINUX_START + 1);
    must_fail("unpacks itself into 49 MiB from 0x1000000 on, and the VM has 64 MiB", "small VM");
    good_linux();
    put(BP_PREFERRED, 8, ~0ull);
    must_fail("from 0xffffffffffffffff on", "preferred address wraps");
    good_linux();
    put(BP_INIT_SIZE, 4, LINUX_BYTES - 1);
    must_fail("more bytes in the file", "init_size");
    good_linux();
    put(BP_RELOCATABLE, 1, 0);
    put(BP_PREFERRED, 8, 0x9f000);
    must_fail("overlaps the PC's legacy hole", "fixed in the hole");
    good_linux();
    put(BP_CMDLINE_SIZE, 4, 4);
    must_fail("args have 5 characters, and this kernel takes 4", "command line");
    good_linux();
    vm.module_count = 2;
    must_fail("Linux takes one module", "two modules");
    vm.module_count = 1;
    put(BP_CMDLINE_SIZE, 4, 5);
    CHECK(load(), "a command line that just fits: %s", why.text);
}

/* --- PVH -------------------------------------------------------------------------------------- */

#define NOTES      8192u /* in the file */
#define PVH_ENTRY  0x200020u
#define START_INFO 0x336ec578u

/* Append a note at offset *next of the image, padded to `align`. */
static void note(unsigned *next, unsigned align, const char *owner, uint32_t type, uint64_t value,
                 unsigned bytes)
{
    uint32_t name_bytes = (uint32_t)strlen(owner) + 1;

    put(*next, 4, name_bytes);
    put(*next + 4, 4, bytes);
    put(*next + 8, 4, type);
    memcpy(image + *next + 12, owner, name_bytes);
    *next = (unsigned)align_up(*next + 12 + name_bytes, align);
    put(*next, bytes, value);
    *next = (unsigned)align_up(*next + bytes, align);
}

static void note_segment(unsigned i, unsigned bytes, unsigned align)
{
    *segment(i, ELF_PF_R, 0, 0) = (struct elf64_segment){
        .p_type = 4, .p_offset = NOTES, .p_filesz = bytes, .p_memsz = bytes, .p_align = align};
    image_size = NOTES + bytes;
}

/* Linked high and loaded low, as Linux is, with a large bss and with other notes around. */
static void good_pvh(void)
{
    unsigned next = NOTES;

    elf64(3)->e_entry = 0xffffffff80200000;
    segment(0, ELF_PF_R | ELF_PF_X, 0x200000, CODE_BYTES)->p_vaddr = 0xffffffff80200000;
    segment(1, ELF_PF_R | ELF_PF_W, 0x300000, MIB(8))->p_vaddr = 0;
    note(&next, 4, "Xen", 6, 0x1234567, 3);
    note(&next, 4, "GNU!!", 18, 1, 4); /* the type counts only with the owner */
    note(&next, 4, "Xen", 18, PVH_ENTRY, 8);
    note(&next, 4, "Linux", 0, 0, 0);
    note_segment(2, next - NOTES, 4);
}

static void pvh_gets_its_start_information(void)
{
    good_pvh();
    CHECK(load(), "%s", why.text);
    CHECK(entry.mode == ENTRY_PROTECTED && entry.rip.v == PVH_ENTRY, "entry 0x%llx",
          (unsigned long long)entry.rip.v);
    CHECK(byte(0x200000) == 0x90 && byte(0x300000) == 0x90 && byte(0x300000 + MIB(8) - 1) == 0,
          "segments");
    uint64_t info = entry.rbx;
    CHECK(word(info) == START_INFO && word(info + 4) == 1 && word(info + 8) == 0, "magic, version");
    CHECK(word(info + 12) == 1, "modules");
    uint64_t module = wide(info + 16);
    CHECK(wide(module) % PAGE_SIZE == 0 && memcmp(at(wide(module), 12), "hello module", 12) == 0 &&
              wide(module + 8) == 12 && strcmp(at(wide(module + 16), 4), "x y") == 0 &&
              wide(module + 24) == 0,
          "module");
    CHECK(strcmp(at(wide(info + 24), 8), "a=1 b") == 0, "command line");
    CHECK(wide(info + 32) == 0xe0000, "RSDP");
    CHECK(word(info + 48) == 4 && word(info + 52) == 0, "map entries %u", word(info + 48));
    static const uint64_t map[4][3] = {
        {0, 0x1000, 2}, {0x1000, 0x9fc00, 1}, {0x9fc00, 0x100000, 2}, {0x100000, MEMORY, 1}};
    for (unsigned i = 0; i < 4; i++) {
        uint64_t e = wide(info + 40) + i * 24;
        CHECK(wide(e) == map[i][0] && wide(e + 8) == map[i][1] - map[i][0] &&
                  word(e + 16) == map[i][2] && word(e + 20) == 0,
              "map entry %u", i);
    }
}

static void pvh_notes_are_found_in_all_shapes(void)
{
    unsigned next = NOTES;

    elf64(2);
    segment(0, ELF_PF_R | ELF_PF_X, 0x200000, CODE_BYTES);
    note(&next, 8, "GNU", 5, 7, 4);
    note(&next, 8, "Xen", 18, PVH_ENTRY, 4);
    note_segment(1, next - NOTES, 8);
    CHECK(load() && entry.mode == ENTRY_PROTECTED && entry.rip.v == PVH_ENTRY,
          "8-byte alignment, 4-byte address: %s", why.text);
    segment(1, 0, 0, 0)->p_type = 4;
    CHECK(load() && entry.mode == ENTRY_LONG, "an empty segment of notes: %s", why.text);

    good_pvh(); /* the last note, cut: it is not there */
    next = NOTES;
    note(&next, 4, "Xen", 18, PVH_ENTRY, 8);
    note_segment(2, next - NOTES - 1, 4);
    ((struct elf64_header *)image)->e_entry = 0x200000;
    CHECK(load() && entry.mode == ENTRY_LONG, "a cut note: %s", why.text);
}

/* One of Twofold's own kind, with a segment of notes as well. */
static void elf64_with_notes(unsigned bytes)
{
    elf64(2);
    segment(0, ELF_PF_R | ELF_PF_X, 0x200000, CODE_BYTES);
    note_segment(1, bytes, 4);
}

static void notes_that_are_not_pvhs(void)
{
    unsigned next = NOTES;

    elf64_with_notes(12);
    note(&next, 4, "Xen", 18, PVH_ENTRY, 4); /* the file ends before the owner's name */
    CHECK(load() && entry.mode == ENTRY_LONG, "no name: %s", why.text);

    next = NOTES;
    elf64_with_notes(0);
    note(&next, 4, "Xen", 18, PVH_ENTRY, 4);
    put(NOTES, 4, 8); /* a longer name, which goes over the data: "Xen\0 \0\x20" */
    put(next, 4, PVH_ENTRY);
    note_segment(1, next + 4 - NOTES, 4);
    CHECK(load() && entry.mode == ENTRY_LONG, "another owner: %s", why.text);

    next = NOTES;
    elf64_with_notes(0);
    note(&next, 4, "Xen", 18, PVH_ENTRY, 6);
    note_segment(1, next - NOTES, 4);
    CHECK(load() && entry.mode == ENTRY_LONG, "an address of 6 bytes: %s", why.text);
}

/* 1024 notes are looked at, no more: a file cannot keep the loader busy. */
static void notes_are_looked_at_with_an_end(void)
{
    for (unsigned others = 1023; others <= 1024; others++) {
        unsigned next = NOTES;
        elf64_with_notes(0);
        for (unsigned i = 0; i < others; i++)
            note(&next, 4, "", 0, 0, 0);
        note(&next, 4, "Xen", 18, PVH_ENTRY, 4);
        note_segment(1, next - NOTES, 4);
        CHECK(load() && entry.mode == (others == 1023 ? ENTRY_PROTECTED : ENTRY_LONG),
              "%u notes before: %s", others, why.text);
    }
}

static void pvh_elf32(void)
{
    unsigned next = NOTES;
    const struct {
        uint32_t type, offset, vaddr, paddr, filesz, memsz, flags, align;
    } segments[2] = {{1, 4096, 0xc0200000, 0x200000, CODE_BYTES, 0x1000, 5, 0x1000},
                     {4, NOTES, 0, 0, 20, 20, 4, 4}};

    memset(image, 0, sizeof(image));
    memcpy(image, "\177ELF\1\1\1", 7);
    put(16, 4, 3u << 16 | 2);  /* e_type, e_machine: an executable for i386 */
    put(28, 4, 52);            /* e_phoff */
    put(42, 4, 2u << 16 | 32); /* e_phentsize, e_phnum */
    memcpy(image + 52, segments, sizeof(segments));
    note(&next, 4, "Xen", 18, PVH_ENTRY, 4);
    image_size = next;
    CHECK(load() && entry.mode == ENTRY_PROTECTED && entry.rip.v == PVH_ENTRY &&
              word(entry.rbx) == START_INFO,
          "%s", why.text);
    put(NOTES + 8, 4, 17);
    must_fail("without a Multiboot header or a PVH note", "ELF32 without a note");
}

static void pvh_mistakes_are_named(void)
{
    good_pvh();
    ((struct elf64_header *)image)->e_machine = 183;
    must_fail("but not for x86", "machine");
    good_pvh();
    ((struct elf64_header *)image)->e_type = 3;
    must_fail("ET_EXEC", "type");
    good_pvh();
    segment(1, ELF_PF_R, 0x9f000, 0x2000);
    must_fail("overlaps the PC's legacy hole", "in the hole");
    good_pvh();
    segment(1, ELF_PF_R, 0xff0, 0x20);
    must_fail("overlaps the PC's first page", "on the first page");
    good_pvh();
    segment(0, ELF_PF_R | ELF_PF_X, 0x220000, CODE_BYTES);
    must_fail("entry point 0x200020 lies in no segment", "entry");
    good_pvh();
    segment(1, ELF_PF_R, 0x300000, MEMORY);
    must_fail("outside the VM's 64 MiB", "bss");
}

static void check_high_entry(void)
{
    unsigned next = NOTES;

    elf64(2);
    segment(0, ELF_PF_R | ELF_PF_X, GIB(4), CODE_BYTES);
    note(&next, 4, "Xen", 18, GIB(4) + 0x20, 8);
    note_segment(1, next - NOTES, 4);
    must_fail("entry point 0x100000020 lies in no segment below 4 GiB", "entry above 4 GiB");
}

static void pvh_cannot_be_entered_above_4_gib(void)
{
    with_5_gib(check_high_entry);
}

/* --- which format ----------------------------------------------------------------------------- */

static void formats_have_an_order(void)
{
    good_linux();
    multiboot(0x40, 0);
    CHECK(load() && entry.mode == ENTRY_LINUX, "a bzImage with a Multiboot header: %s", why.text);
    good_pvh();
    multiboot(0x400, 0);
    CHECK(load() && word(entry.rbx) == START_INFO, "PVH and Multiboot, without addresses: %s",
          why.text);
    uint32_t addresses[5] = {0x100400, 0x100000, 0x102000, 0, 0x101000};
    multiboot(0x400, 1u << 16);
    memcpy(image + 0x40c, addresses, sizeof(addresses));
    CHECK(load() && entry.rax == 0x2badb002u, "PVH and Multiboot, with addresses: %s", why.text);
    good_elf64();
    put(BP_BOOT_FLAG, 2, 0xaa55);
    CHECK(load() && entry.mode == ENTRY_LONG, "no HdrS: %s", why.text);
}

static void multiboot_leaves_the_legacy_hole(void)
{
    kludge(0xe0000, 0xe1000, 0, 0xe0100);
    must_fail("overlaps the PC's legacy hole", "in the hole");
    kludge(0x1000, 0x2000, 0, 0x1100);
    CHECK(load(), "in the first MiB: %s", why.text);
}

static void ram_has_a_hole_below_4_gib(void)
{
    struct guest_ram big = guest_ram_layout((uint8_t *)PAGE_SIZE, GIB(5));

    CHECK(big.low == GIB(3) && big.high == GIB(2), "sizes");
    CHECK(guest_ram_at(&big, gpa(GIB(3) - 8), 8) != NULL, "end of low RAM");
    CHECK(guest_ram_at(&big, gpa(GIB(3) - 8), 9) == NULL, "across the hole");
    CHECK(guest_ram_at(&big, gpa(GIB(4) - 1), 1) == NULL, "in the hole");
    CHECK(guest_ram_at(&big, gpa(GIB(4)), 1) == (void *)(PAGE_SIZE + GIB(3)), "high RAM");
    CHECK(guest_ram_at(&big, gpa(GIB(6)), 1) == NULL, "behind the end");
    CHECK(guest_ram_at(&big, gpa(GIB(4)), ~0ull) == NULL, "a length that wraps");
}

static void good_kludge(void)
{
    kludge(0x100000, 0x101000, 0x103000, 0x100100);
}

/* Whatever the bytes: an answer, and no access outside image and RAM (sanitizers). */
static void mutated_images_are_safe(void)
{
    static const struct {
        void (*build)(void);
        struct {
            unsigned start, bytes;
        } area[2]; /* of the image, where a change has a meaning */
    } formats[] = {
        {good_elf64, {{0, 176}, {0, 176}}},
        {good_kludge, {{0, 0x60}, {0, 0x60}}},
        {good_linux, {{BP_HEADER, BP_HEADER_ROOM - BP_HEADER}, {BP_MAGIC, 8}}},
        {good_pvh, {{0, 232}, {NOTES, 96}}},
    };
    uint64_t random = 11;

    for (unsigned f = 0; f < ARRAY_SIZE(formats); f++) {
        unsigned loaded = 0;
        for (unsigned n = 0; n < 3000; n++) {
            formats[f].build();
            for (uint64_t flips = test_random(&random) % 4; flips > 0; flips--) {
                unsigned a = test_random(&random) % 2;
                uint64_t offset = test_random(&random) % formats[f].area[a].bytes;
                image[formats[f].area[a].start + offset] = (uint8_t)test_random(&random);
            }
            if (test_random(&random) % 8 == 0)
                image_size = test_random(&random) % image_size;
            loaded += load();
        }
        CHECK(loaded > 200 && loaded < 2800, "format %u: %u loaded: the mutations test nothing", f,
              loaded);
    }
}

int main(void)
{
    ram_bytes = aligned_alloc(PAGE_SIZE, MEMORY);
    ram = guest_ram_layout(ram_bytes, MEMORY);
    vm = (struct vm_settings){
        .name = "vm", .image = "image", .args = "a=1 b", .memory = MEMORY, .module_count = 1};
    strcpy(vm.module[0].name, "mod");
    strcpy(vm.module[0].args, "x y");
    RUN(elf64_is_loaded_with_its_world);
    RUN(elf64_tables_map_one_to_one);
    RUN(elf64_mistakes_are_named);
    RUN(multiboot_gets_full_information);
    RUN(multiboot_mistakes_are_named);
    RUN(multiboot_leaves_the_legacy_hole);
    RUN(linux_is_entered_as_it_wants);
    RUN(linux_gets_boot_params);
    RUN(linux_gets_a_memory_map);
    RUN(linux_in_a_big_vm);
    RUN(linux_is_placed_where_it_wants);
    RUN(linux_with_a_longer_header_than_there_is_room_for);
    RUN(linux_without_a_module);
    RUN(linux_mistakes_are_named);
    RUN(pvh_gets_its_start_information);
    RUN(pvh_notes_are_found_in_all_shapes);
    RUN(notes_that_are_not_pvhs);
    RUN(notes_are_looked_at_with_an_end);
    RUN(pvh_elf32);
    RUN(pvh_mistakes_are_named);
    RUN(pvh_cannot_be_entered_above_4_gib);
    RUN(formats_have_an_order);
    RUN(ram_has_a_hole_below_4_gib);
    RUN(mutated_images_are_safe);
    free(ram_bytes);
    return test_status();
}
