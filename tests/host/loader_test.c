/* SPDX-License-Identifier: BSD-2-Clause */
/* Guest images: what is loaded where, the boot information, and images that lie about themselves.
 */
#include "hv/loader.h"

#include <stdlib.h>
#include <string.h>

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

    memset(ram_bytes, 0, MEMORY);
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
static void elf64_tables_map_one_to_one(void)
{
    good_elf64();
    CHECK(load(), "%s", why.text);
    for (uint64_t address = 0; address < GIB(4); address += MIB(6) + 123456) {
        const uint64_t *pml4 = at(entry.cr3, PAGE_SIZE);
        const uint64_t *pdpt = at(pml4[address >> 39 & 511] & ~0xfffull, PAGE_SIZE);
        const uint64_t *pd = at(pdpt[address >> 30 & 511] & ~0xfffull, PAGE_SIZE);
        uint64_t leaf = pd[address >> 21 & 511];
        CHECK((leaf & 0x83) == 0x83 && (leaf & ~0x1fffffull) == align_down(address, PAGE_SIZE_2M),
              "0x%llx: 0x%llx", (unsigned long long)address, (unsigned long long)leaf);
    }
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

/* Whatever the bytes: an answer, and no access outside image and RAM (sanitizers). */
static void mutated_images_are_safe(void)
{
    uint64_t random = 11;
    unsigned loaded = 0;

    for (unsigned n = 0; n < 3000; n++) {
        if (n % 2)
            good_elf64();
        else
            kludge(0x100000, 0x101000, 0x103000, 0x100100);
        for (uint64_t flips = test_random(&random) % 4; flips > 0; flips--)
            image[test_random(&random) % (n % 2 ? 176 : 0x60)] = (uint8_t)test_random(&random);
        if (test_random(&random) % 8 == 0)
            image_size = test_random(&random) % image_size;
        loaded += load();
    }
    CHECK(loaded > 100 && loaded < 2900, "%u loaded: the mutations test nothing", loaded);
}

int main(void)
{
    ram_bytes = malloc(MEMORY);
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
    RUN(ram_has_a_hole_below_4_gib);
    RUN(mutated_images_are_safe);
    free(ram_bytes);
    return test_status();
}
