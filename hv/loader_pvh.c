/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * PVH guests (Xen's "x86/HVM direct boot ABI"): ELF files of either class with a note that gives a
 * 32-bit entry point, a decompressed Linux (vmlinux) among them. Loaded by physical address,
 * entered in 32-bit protected mode without paging, EBX pointing at the start information.
 */
#include <string.h>

#include "hv/loader_formats.h"

#define NOTE_OWNER      "Xen"
#define NOTE_PHYS32     18u /* XEN_ELFNOTE_PHYS32_ENTRY */
#define NOTE_ALIGN      4u
#define NOTE_ALIGN_WIDE 8u
#define NOTES_MAX       1024u /* that are looked at in a file */

#define START_MAGIC   0x336ec578u /* "xEn3", with bit 7 of the 'E' */
#define START_VERSION 1u          /* the one that has a memory map */

struct note {
    uint32_t name_bytes; /* with the NUL; name and description are padded */
    uint32_t data_bytes;
    uint32_t type;
};

/* xen/include/public/arch-x86/hvm/start_info.h. Addresses are guest-physical; 0: not there. */
struct start_info {
    uint32_t magic, version, flags;
    uint32_t module_count;
    uint64_t modules;
    uint64_t cmdline;
    uint64_t rsdp;
    uint64_t map;
    uint32_t map_entries, reserved;
};

struct start_module {
    uint64_t start, size; /* bytes */
    uint64_t cmdline;
    uint64_t reserved;
};

struct map_entry {
    uint64_t start, size; /* bytes */
    uint32_t type, reserved;
};
_Static_assert(sizeof(struct start_info) == 56 && sizeof(struct start_module) == 32 &&
                   sizeof(struct map_entry) == 24,
               "start_info.h");

/* All that the guest is told, in one placed piece. */
struct boot_data {
    struct start_info info;
    struct start_module modules[VM_MODULES_MAX];
    struct map_entry map[MEMORY_MAP_MAX];
    char cmdline[sizeof(((struct vm_settings *)0)->args)];
    char strings[VM_MODULES_MAX][sizeof(((struct vm_module *)0)->args)];
};

/* --- the note --------------------------------------------------------------------------------- */

/* A place in a segment of notes; all of it lies in the file. */
struct notes {
    const char *at;
    uint64_t left;
    uint64_t align;
};

/* Take the next note. *name and *data have the sizes that it says. False at the end. */
static bool next_note(struct notes *notes, struct note *note, const char **name, const char **data)
{
    if (notes->left < sizeof(*note))
        return false;
    memcpy(note, notes->at, sizeof(*note));
    uint64_t data_at = align_up(sizeof(*note) + (uint64_t)note->name_bytes, notes->align);
    if (data_at > notes->left || note->data_bytes > notes->left - data_at)
        return false;
    *name = notes->at + sizeof(*note);
    *data = notes->at + data_at;
    uint64_t bytes = min_u64(align_up(data_at + note->data_bytes, notes->align), notes->left);
    notes->at += bytes;
    notes->left -= bytes;
    return true;
}

/* 4 or 8 bytes, as the class of the file's compiler has it; the entry point is a 32-bit one. */
static bool read_entry(const struct note *note, const char *data, uint64_t *entry_point)
{
    if (note->data_bytes != sizeof(uint32_t) && note->data_bytes != sizeof(uint64_t))
        return false;
    *entry_point = 0;
    memcpy(entry_point, data, note->data_bytes);
    return true;
}

static bool open_notes(const struct module *image, const struct elf64_segment *s,
                       struct notes *notes)
{
    if (s->p_type != ELF_PT_NOTE || s->p_offset > image->size ||
        s->p_filesz > image->size - s->p_offset)
        return false;
    *notes = (struct notes){
        .at = (const char *)image->data + s->p_offset,
        .left = s->p_filesz,
        .align = s->p_align == NOTE_ALIGN_WIDE ? NOTE_ALIGN_WIDE : NOTE_ALIGN,
    };
    return true;
}

bool pvh_find_entry(const struct module *image, const struct elf_file *elf, uint64_t *entry_point)
{
    unsigned looks = NOTES_MAX;

    if (!elf_has_segments(image, elf))
        return false;
    for (unsigned i = 0; i < elf->count; i++) {
        struct elf64_segment s = elf_segment(image, elf, i);
        struct notes notes;
        struct note note;
        const char *name, *data;
        if (!open_notes(image, &s, &notes))
            continue;
        for (; looks > 0 && next_note(&notes, &note, &name, &data); looks--) {
            if (note.type == NOTE_PHYS32 && note.name_bytes == sizeof(NOTE_OWNER) &&
                memcmp(name, NOTE_OWNER, sizeof(NOTE_OWNER)) == 0)
                return read_entry(&note, data, entry_point);
        }
    }
    return false;
}

/* --- the start information -------------------------------------------------------------------- */

static bool load_modules(struct load *load, struct boot_data *data, uint64_t data_at)
{
    for (unsigned i = 0; i < load->vm->module_count; i++) {
        const char *args = load->vm->module[i].args;
        uint64_t at;
        const struct module *file = load_module(load, i, load->ram->low, &at);
        if (!file)
            return false;
        data->modules[i] = (struct start_module){.start = at, .size = file->size};
        if (args[0] == '\0')
            continue;
        strcpy(data->strings[i], args);
        data->modules[i].cmdline =
            data_at + offsetof(struct boot_data, strings) + i * sizeof(data->strings[i]);
    }
    return true;
}

static uint32_t fill_map(struct map_entry *map, const struct guest_ram *ram)
{
    struct memory_range range[MEMORY_MAP_MAX];
    unsigned count = load_memory_map(ram, LEGACY_FIRST_PAGE, LEGACY_BIOS_DATA, range);

    for (unsigned i = 0; i < count; i++)
        map[i] = (struct map_entry){
            .start = range[i].start, .size = range[i].size, .type = range[i].type};
    return count;
}

static bool build_boot_data(struct load *load, struct entry_state *entry)
{
    uint64_t at = load_place(load, sizeof(struct boot_data), "start information");

    if (at == LOAD_NO_ROOM)
        return false;
    struct boot_data *data = load_host(load, at);
    strcpy(data->cmdline, load->vm->args);
    data->info = (struct start_info){
        .magic = START_MAGIC,
        .version = START_VERSION,
        .module_count = load->vm->module_count,
        .modules = load->vm->module_count ? at + offsetof(struct boot_data, modules) : 0,
        .cmdline = at + offsetof(struct boot_data, cmdline),
        .rsdp = GUEST_RSDP,
        .map = at + offsetof(struct boot_data, map),
        .map_entries = fill_map(data->map, load->ram),
    };
    entry->rbx = at + offsetof(struct boot_data, info);
    return load_modules(load, data, at);
}

/* --- the whole -------------------------------------------------------------------------------- */

static bool check_header(struct load *load, const struct elf_file *elf)
{
    if (elf->data != ELF_DATA_LSB || (elf->machine != ELF_EM_X86_64 && elf->machine != ELF_EM_386))
        return load_fail(load, "an ELF file with a PVH note, but not for x86");
    if (elf->type != ELF_ET_EXEC)
        return load_fail(load, "an ELF file with a PVH note, but not an executable with fixed "
                               "addresses (ET_EXEC)");
    return load_check_elf(load, elf);
}

bool load_pvh(struct load *load, const struct elf_file *elf, uint64_t entry_point,
              struct entry_state *entry)
{
    if (!check_header(load, elf) || !load_claim_legacy(load, LEGACY_FIRST_PAGE, LEGACY_BIOS_DATA) ||
        !load_elf_segments(load, elf))
        return false;
    /* Low RAM only: the entry is a 32-bit one. */
    if (entry_point >= load->ram->low || !load_in_segment(load, entry_point))
        return load_fail(load, "PVH entry point 0x%llx lies in no segment below 4 GiB",
                         (unsigned long long)entry_point);
    *entry = (struct entry_state){.mode = ENTRY_PROTECTED, .rip = gva(entry_point)};
    return build_boot_data(load, entry);
}
