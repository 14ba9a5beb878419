/* SPDX-License-Identifier: BSD-2-Clause */
/* See smbios_guest.h. Names and section numbers are DSP0134's. */
#include "hv/smbios_guest.h"

#include <string.h>

#define NAME_BYTES_MAX 64u

/* 5.2.1: the 32-bit entry point */
struct entry_point {
    char anchor[4]; /* "_SM_" */
    uint8_t checksum, length;
    uint8_t major, minor;
    uint16_t largest; /* structure, bytes */
    uint8_t revision, formatted[5];
    char dmi_anchor[5]; /* "_DMI_" */
    uint8_t dmi_checksum;
    uint16_t table_length;
    uint32_t table;
    uint16_t structures;
    uint8_t bcd_revision;
} __attribute__((packed));
_Static_assert(sizeof(struct entry_point) == 0x1f, "5.2.1");
#define DMI_PART     offsetof(struct entry_point, dmi_anchor)
#define TABLE_OFFSET 0x20u
#define VERSION_2_8  0x28u

enum { TYPE_FIRMWARE = 0, TYPE_SYSTEM = 1, TYPE_END = 127 };

struct header {
    uint8_t type, length;
    uint16_t handle;
} __attribute__((packed));

/* 7.1; strings are counted from 1 */
struct firmware {
    struct header header;
    uint8_t vendor, version;
    uint16_t segment;
    uint8_t date, rom_size;
    uint64_t characteristics;
    uint8_t extension[2];
    uint8_t major, minor, controller_major, controller_minor;
} __attribute__((packed));
_Static_assert(sizeof(struct firmware) == 0x18, "7.1, version 2.4");
#define CHARACTERISTICS_NONE (1u << 3)
#define EXTENSION_ACPI       0x01u
#define EXTENSION_VM         0x10u /* byte 2 */
#define NO_RELEASE           0xffu

/* 7.2 */
struct system {
    struct header header;
    uint8_t manufacturer, product, version, serial;
    uint8_t uuid[16];
    uint8_t wake_up, sku, family;
} __attribute__((packed));
_Static_assert(sizeof(struct system) == 0x1b, "7.2, version 2.4");
#define WAKE_UP_POWER_SWITCH 6u

struct writer {
    uint8_t *table, *at;
    unsigned structures;
    size_t largest;
};

/* A structure and the strings behind it; an empty set of strings is a NUL, and so is every end. */
static void put(struct writer *w, const void *structure, const char *const *strings, unsigned count)
{
    const struct header *header = structure;
    uint8_t *start = w->at;

    memcpy(w->at, structure, header->length);
    w->at += header->length;
    for (unsigned i = 0; i < count; i++) {
        size_t length = strnlen(strings[i], NAME_BYTES_MAX);
        memcpy(w->at, strings[i], length);
        w->at[length] = '\0';
        w->at += length + 1;
    }
    if (count == 0)
        *w->at++ = '\0';
    *w->at++ = '\0';
    w->structures++;
    if ((size_t)(w->at - start) > w->largest)
        w->largest = (size_t)(w->at - start);
}

static void put_all(struct writer *w, const char *name)
{
    static const char *const firmware_strings[] = {"Twofold", "1", "01/01/2026"};
    const char *const system_strings[] = {"Twofold", "Virtual machine", name};
    const struct firmware firmware = {
        .header = {TYPE_FIRMWARE, sizeof(firmware), 0},
        .vendor = 1,
        .version = 2,
        .segment = 0xe000, /* where firmware would be, 7.1 */
        .date = 3,
        .characteristics = CHARACTERISTICS_NONE,
        .extension = {EXTENSION_ACPI, EXTENSION_VM},
        .major = 1,
        .controller_major = NO_RELEASE,
        .controller_minor = NO_RELEASE,
    };
    const struct system system = {
        .header = {TYPE_SYSTEM, sizeof(system), 1},
        .manufacturer = 1,
        .product = 2,
        .version = 3,
        .wake_up = WAKE_UP_POWER_SWITCH,
    };
    const struct header end = {TYPE_END, sizeof(end), 2};

    put(w, &firmware, firmware_strings, ARRAY_SIZE(firmware_strings));
    put(w, &system, system_strings, ARRAY_SIZE(system_strings));
    put(w, &end, NULL, 0);
}

static uint8_t checksum(const void *bytes, size_t count)
{
    uint8_t sum = 0;

    for (size_t i = 0; i < count; i++)
        sum = (uint8_t)(sum + ((const uint8_t *)bytes)[i]);
    return (uint8_t)-sum;
}

size_t smbios_guest_build(void *to, const char *name)
{
    struct entry_point entry = {
        .anchor = {'_', 'S', 'M', '_'},
        .length = sizeof(entry),
        .major = VERSION_2_8 >> 4,
        .minor = VERSION_2_8 & 0xf,
        .dmi_anchor = {'_', 'D', 'M', 'I', '_'},
        .table = SMBIOS_GUEST_BASE + TABLE_OFFSET,
        .bcd_revision = VERSION_2_8,
    };
    struct writer w = {.table = (uint8_t *)to + TABLE_OFFSET, .at = (uint8_t *)to + TABLE_OFFSET};

    put_all(&w, name);
    entry.largest = (uint16_t)w.largest;
    entry.table_length = (uint16_t)(w.at - w.table);
    entry.structures = (uint16_t)w.structures;
    entry.dmi_checksum = checksum((uint8_t *)&entry + DMI_PART, sizeof(entry) - DMI_PART);
    entry.checksum = checksum(&entry, sizeof(entry));
    memcpy(to, &entry, sizeof(entry));
    return (size_t)(w.at - (uint8_t *)to);
}
