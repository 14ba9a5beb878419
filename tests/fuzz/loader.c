/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guest images of every format: bytes 0 and 1 of the input choose RAM, modules and arguments, the
 * rest is the image. What is accepted must lie in RAM where the image's own headers, read here a
 * second time, say; its processor must start in RAM, through tables that map it one to one; and
 * what the guest is told must be there. The RAM has guard pages at both ends, the image is a heap
 * block.
 */
#include "hv/loader.h"

#include <string.h>
#include <sys/mman.h>

#include "hv/elf64.h"
#include "tests/fuzz/fuzz.h"

#define RAM_MAX    MIB(64)
#define TSC_HZ     1000000007ull
#define GUARD      PAGE_SIZE
#define NATIVE     0x123450ull
#define ZEROS_SEEN KIB(64) /* of a segment's part that is not in the file */

/* --- the image's headers, read a second time -------------------------------------------------- */

struct elf32_header {
    uint32_t magic;
    uint8_t ident[12];
    uint16_t type, machine;
    uint32_t version, entry, phoff, shoff, flags;
    uint16_t ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
};

struct elf32_segment {
    uint32_t type, offset, vaddr, paddr, filesz, memsz, flags, align;
};

struct multiboot_header {
    uint32_t magic, flags, checksum, header_addr, load_addr, load_end, bss_end, entry;
};

#define MULTIBOOT_MAGIC  0x1badb002u
#define MULTIBOOT_EAX    0x2badb002u
#define MULTIBOOT_KLUDGE (1u << 16)
#define PVH_MAGIC        0x336ec578u

static const uint8_t *image;
static size_t image_size;
static struct guest_ram ram;
static struct vm_settings vm;
static struct module list[2];

/* Guest memory that must be there. */
static const uint8_t *at(uint64_t address, uint64_t len)
{
    const uint8_t *host = guest_ram_at(&ram, gpa(address), len);

    MUST(host, "[0x%llx, +0x%llx) is RAM", (unsigned long long)address, (unsigned long long)len);
    return host;
}

static void check_segment(uint64_t offset, uint64_t file, uint64_t address, uint64_t memory)
{
    MUST(file <= memory && offset <= image_size && file <= image_size - offset,
         "a segment's bytes are in the file");
    const uint8_t *host = at(address, memory);
    MUST(memcmp(host, image + offset, file) == 0, "the segment at 0x%llx has the file's bytes",
         (unsigned long long)address);
    for (uint64_t i = file; i < memory && i < file + ZEROS_SEEN; i++)
        MUST(host[i] == 0, "0x%llx is zero", (unsigned long long)(address + i));
}

static void check_segments_64(const struct elf64_header *h)
{
    for (unsigned i = 0; i < h->e_phnum; i++) {
        struct elf64_segment s;
        memcpy(&s, image + h->e_phoff + i * sizeof(s), sizeof(s));
        if (s.p_type == ELF_PT_LOAD && s.p_memsz > 0)
            check_segment(s.p_offset, s.p_filesz, s.p_paddr, s.p_memsz);
    }
}

static void check_segments_32(const struct elf32_header *h)
{
    for (unsigned i = 0; i < h->phnum; i++) {
        struct elf32_segment s;
        memcpy(&s, image + h->phoff + i * sizeof(s), sizeof(s));
        if (s.type == ELF_PT_LOAD && s.memsz > 0)
            check_segment(s.offset, s.filesz, s.paddr, s.memsz);
    }
}

static void check_elf(void)
{
    struct elf64_header wide;
    struct elf32_header narrow;

    MUST(image_size >= sizeof(narrow), "an ELF header");
    memcpy(&narrow, image, sizeof(narrow));
    MUST(narrow.magic == ELF_MAGIC && narrow.type == ELF_ET_EXEC, "an ELF executable");
    if (narrow.ident[0] == ELF_CLASS_32) {
        check_segments_32(&narrow);
        return;
    }
    MUST(image_size >= sizeof(wide), "an ELF64 header");
    memcpy(&wide, image, sizeof(wide));
    check_segments_64(&wide);
}

/* --- what the guest is told ------------------------------------------------------------------- */

static uint64_t word(uint64_t address, unsigned bytes)
{
    uint64_t value = 0;

    memcpy(&value, at(address, bytes), bytes);
    return value;
}

static void check_module(uint64_t address, uint64_t size)
{
    const struct module *file = &list[1];

    MUST(size == file->size && address % PAGE_SIZE == 0, "a module");
    if (size > 0)
        MUST(memcmp(at(address, size), file->data, size) == 0, "a module's bytes");
}

static void check_string(uint64_t address, const char *want)
{
    size_t bytes = strlen(want) + 1;

    MUST(memcmp(at(address, bytes), want, bytes) == 0, "the string '%s'", want);
}

/* An entry of a memory map: in order, and RAM throughout. Returns its end. */
static uint64_t check_range(uint64_t start, uint64_t size, uint64_t type, uint64_t before)
{
    MUST(start >= before && size > 0 && (type == 1 || type == 2), "the memory map's order");
    at(start, size);
    return start + size;
}

/* Through the tables at `cr3` as the processor would: `address` is where it must lead. */
static void check_mapped(uint64_t cr3, uint64_t address)
{
    uint64_t table = cr3;

    for (unsigned level = 4; level >= 2; level--) {
        uint64_t entry = word(table + (address >> (12 + 9 * (level - 1)) & 511) * 8, 8);
        MUST((entry & 3) == 3, "0x%llx is mapped, level %u", (unsigned long long)address, level);
        if (entry & 1u << 7) {
            MUST(level == 2 && (entry & ~0x1fffffull) == (address & ~0x1fffffull), "one to one");
            return;
        }
        table = entry & ~0xfffull;
    }
    MUST(false, "2-MiB pages");
}

static void check_long(const struct entry_state *entry, uint64_t info)
{
    check_mapped(entry->cr3, entry->rip.v);
    check_mapped(entry->cr3, info);
    check_mapped(entry->cr3, entry->gdt_base);
    at(entry->gdt_base, entry->gdt_limit + 1);
    at(entry->rip.v, 1);
}

static void check_elf64(const struct entry_state *entry)
{
    struct tf_guest_info info;

    check_elf();
    memcpy(&info, at(entry->rdi, sizeof(info)), sizeof(info));
    check_long(entry, entry->rdi);
    MUST(entry->rsp % 16 == 8 && word(entry->rsp, 8) == 0, "the stack");
    at(entry->rsp - KIB(8), KIB(8));
    MUST(info.magic == TF_GUEST_MAGIC && info.tsc_hz == TSC_HZ &&
             info.native_call == ram.native_call,
         "the guest's information");
    at(info.reserved_base, info.reserved_size);
    check_string(info.args, vm.args);
    MUST(info.ram_count <= TF_RAM_RANGES && info.module_count == vm.module_count, "counts");
    for (uint64_t i = 0; i < info.ram_count; i++)
        at(info.ram[i].base, info.ram[i].size);
    for (uint64_t i = 0; i < info.module_count; i++) {
        struct tf_guest_module module;
        memcpy(&module, at(info.modules + i * sizeof(module), sizeof(module)), sizeof(module));
        check_module(module.base, module.size);
        check_string(module.name, vm.module[i].name);
    }
}

/* boot.rst and zero-page.rst of Linux: offsets in the file's header and in boot_params. */
static void check_linux(const struct entry_state *entry)
{
    uint64_t params = entry->rsi, before = 0, ramdisk = word(params + 0x218, 4);
    unsigned sects = image[0x1f1] ? image[0x1f1] : 4, ranges = (unsigned)word(params + 0x1e8, 1);
    uint32_t units, init_size;

    memcpy(&units, image + 0x1f4, 4);
    memcpy(&init_size, image + 0x260, 4);
    check_long(entry, params);
    check_segment((sects + 1) * 512ull, units * 16ull, entry->rip.v - 0x200, init_size);
    check_string(word(params + 0x228, 4), vm.args);
    MUST(word(params + 0x70, 8) == GUEST_RSDP, "the RSDP");
    MUST(word(params + 0x1f1, 1) == image[0x1f1] && word(params + 0x202, 4) == 0x53726448,
         "header");
    for (unsigned i = 0; i < ranges; i++) {
        uint64_t e = params + 0x2d0 + i * 20;
        before = check_range(word(e, 8), word(e + 8, 8), word(e + 16, 4), before);
    }
    if (vm.module_count)
        check_module(ramdisk, word(params + 0x21c, 4));
}

static void check_pvh(const struct entry_state *entry)
{
    uint64_t info = entry->rbx, before = 0, modules = word(info + 16, 8), map = word(info + 40, 8);

    check_elf();
    MUST(word(info, 4) == PVH_MAGIC && word(info + 12, 4) == vm.module_count, "start information");
    check_string(word(info + 24, 8), vm.args);
    for (unsigned i = 0; i < word(info + 48, 4); i++)
        before = check_range(word(map + i * 24, 8), word(map + i * 24 + 8, 8),
                             word(map + i * 24 + 16, 4), before);
    for (unsigned i = 0; i < vm.module_count; i++) {
        check_module(word(modules + i * 32, 8), word(modules + i * 32 + 8, 8));
        if (vm.module[i].args[0])
            check_string(word(modules + i * 32 + 16, 8), vm.module[i].args);
    }
}

/* The image by the header's own addresses (Multiboot 3.1.3). */
static void check_kludge(const struct multiboot_header *h, size_t header_at)
{
    uint64_t offset = header_at - (h->header_addr - h->load_addr);
    uint64_t bytes = h->load_end ? h->load_end - h->load_addr : image_size - offset;
    uint64_t memory = h->bss_end ? h->bss_end - h->load_addr : bytes;

    check_segment(offset, bytes, h->load_addr, memory);
    MUST(h->entry >= h->load_addr && h->entry < h->load_addr + memory, "the entry point");
}

static void check_multiboot_image(void)
{
    for (size_t i = 0; i + 12 <= image_size && i + 12 <= 8192; i += 4) {
        struct multiboot_header h = {0};
        size_t left = image_size - i;
        memcpy(&h, image + i, left < sizeof(h) ? left : sizeof(h));
        if (h.magic != MULTIBOOT_MAGIC || h.magic + h.flags + h.checksum != 0)
            continue;
        if (h.flags & MULTIBOOT_KLUDGE)
            check_kludge(&h, i);
        else
            check_elf();
        return;
    }
    MUST(false, "there is a Multiboot header");
}

static void check_multiboot(const struct entry_state *entry)
{
    uint64_t info = entry->rbx, before = 0, mods = word(info + 24, 4), map = word(info + 48, 4);
    char line[sizeof(vm.image) + sizeof(vm.args)];

    check_multiboot_image();
    snprintf(line, sizeof(line), "%s%s%s", vm.image, vm.args[0] ? " " : "", vm.args);
    check_string(word(info + 16, 4), line);
    MUST(word(info + 20, 4) == vm.module_count, "modules");
    for (uint64_t left = word(info + 44, 4); left > 0; left -= 24, map += 24)
        before = check_range(word(map + 4, 8), word(map + 12, 8), word(map + 20, 4), before);
    for (unsigned i = 0; i < vm.module_count; i++) {
        uint64_t start = word(mods + i * 16, 4);
        check_module(start, word(mods + i * 16 + 4, 4) - start);
        at(word(mods + i * 16 + 8, 4), 1);
    }
}

static void check_accepted(const struct entry_state *entry)
{
    at(entry->rip.v, 1);
    if (entry->mode == ENTRY_LONG)
        check_elf64(entry);
    else if (entry->mode == ENTRY_LINUX)
        check_linux(entry);
    else if (entry->rax == MULTIBOOT_EAX)
        check_multiboot(entry);
    else
        check_pvh(entry);
}

/* --- the world -------------------------------------------------------------------------------- */

/* The RAM ends where a guard page begins, and is zero. */
static void choose_ram(unsigned choice)
{
    static const struct {
        uint64_t low, high;
    } sizes[] = {{MIB(1), 0},  {MIB(2), 0},       {MIB(4), 0},  {MIB(16), 0},
                 {MIB(32), 0}, {MIB(24), MIB(8)}, {MIB(64), 0}, {MIB(32), 0}};
    static uint8_t *space;

    if (!space) {
        space = mmap(NULL, RAM_MAX + 2 * GUARD, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (space == MAP_FAILED || mprotect(space + GUARD, RAM_MAX, PROT_READ | PROT_WRITE) != 0)
            abort();
    }
    if (madvise(space + GUARD, RAM_MAX, MADV_DONTNEED) != 0)
        abort();
    uint64_t low = sizes[choice].low, high = sizes[choice].high;
    ram =
        (struct guest_ram){.host = space + GUARD + RAM_MAX - low - high, .low = low, .high = high};
    if (choice == ARRAY_SIZE(sizes) - 1) { /* as paging = native has it */
        ram.first = MIB(1);
        ram.hole = MIB(12);
        ram.hole_end = MIB(16);
        ram.native_call = NATIVE;
    }
    vm.memory = low + high;
}

static void choose_modules(unsigned count, unsigned size)
{
    static const size_t sizes[] = {12, 0, 4096, 70000};
    static char bytes[70000];

    if (!bytes[0])
        memset(bytes, 'm', sizeof(bytes));
    list[1] = (struct module){"mod", bytes, sizes[size]};
    vm.module_count = count;
    for (unsigned i = 0; i < count; i++) {
        strcpy(vm.module[i].name, "mod");
        memset(vm.module[i].args, 'x', sizeof(vm.module[i].args) - 1);
        vm.module[i].args[i % 2 ? 0 : sizeof(vm.module[i].args) - 1] = '\0';
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const unsigned counts[] = {0, 1, 2, VM_MODULES_MAX};
    struct module_list modules = {list, ARRAY_SIZE(list)};
    struct entry_state entry;
    struct why why = {.text = ""};

    if (size < 2)
        return 0;
    memset(&vm, 0, sizeof(vm));
    choose_ram(data[0] & 7);
    choose_modules(counts[data[0] >> 3 & 3], data[1] & 3);
    memset(vm.args, 'a', sizeof(vm.args));
    vm.args[data[0] & 0x20 ? sizeof(vm.args) - 1 : data[1] >> 2] = '\0';
    strcpy(vm.image, "image");
    image = data + 2;
    image_size = size - 2;
    list[0] = (struct module){"image", image, image_size};
    if (load_guest(&vm, &modules, TSC_HZ, &ram, &entry, &why))
        check_accepted(&entry);
    else
        MUST(strncmp(why.text, "image: ", 7) == 0 && why.text[7], "the reason: '%s'", why.text);
    return 0;
}
