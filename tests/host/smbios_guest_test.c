/* SPDX-License-Identifier: BSD-2-Clause */
/* Tests of the guests' SMBIOS tables, read back by the rules of DSP0134 5.2 and 6.1. */
#include <string.h>

#include "hv/smbios_guest.h"
#include "tests/host/test.h"

static uint8_t memory[SMBIOS_GUEST_BYTES + 16];

static unsigned sum(const uint8_t *from, unsigned count)
{
    unsigned total = 0;

    while (count-- > 0)
        total += *from++;
    return total & 0xff;
}

static unsigned word(unsigned at)
{
    return memory[at] | (unsigned)memory[at + 1] << 8;
}

/* The n-th string of a structure, from 1; NULL if there is none. *next: the structure behind it. */
static const char *string(const uint8_t *structure, unsigned n, const uint8_t **next)
{
    const char *at = (const char *)structure + structure[1], *found = NULL;
    unsigned count = 0;

    while (*at) {
        if (++count == n)
            found = at;
        at += strlen(at) + 1;
    }
    *next = (const uint8_t *)at + (count == 0 ? 2 : 1);
    return found;
}

static void entry_point_is_found_and_sums_are_right(void)
{
    memset(memory, 0xee, sizeof(memory));
    size_t bytes = smbios_guest_build(memory, "a-vm");
    CHECK(bytes <= SMBIOS_GUEST_BYTES && memory[bytes] == 0xee, "%zu bytes, none behind", bytes);
    CHECK(memcmp(memory, "_SM_", 4) == 0 && memory[5] == 0x1f, "anchor and length");
    CHECK(sum(memory, memory[5]) == 0, "checksum");
    CHECK(memcmp(memory + 0x10, "_DMI_", 5) == 0 && sum(memory + 0x10, 0xf) == 0, "second part");
    unsigned table = word(0x18) | word(0x1a) << 16;
    CHECK(table == SMBIOS_GUEST_BASE + 0x20 && 0x20 + word(0x16) == bytes, "table 0x%x", table);
}

static void structures_are_as_many_and_as_long_as_it_says(void)
{
    const uint8_t *at = memory + 0x20, *next;
    unsigned count = 0, largest = 0, type;

    smbios_guest_build(memory, "a-vm");
    do {
        type = at[0];
        string(at, 0, &next);
        largest = (unsigned)(next - at) > largest ? (unsigned)(next - at) : largest;
        count++;
        at = next;
    } while (type != 127 && count < 10);
    CHECK(count == word(0x1c) && largest == word(8), "%u structures, the largest %u", count,
          largest);
    CHECK(at - memory - 0x20 == (int)word(0x16), "the end is the end");
}

static void firmware_has_a_date_and_the_system_a_name(void)
{
    const uint8_t *firmware = memory + 0x20, *system, *next;
    char longest[200];

    memset(longest, 'n', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    CHECK(smbios_guest_build(memory, longest) <= SMBIOS_GUEST_BYTES, "a long name is cut");
    smbios_guest_build(memory, "a-vm");
    CHECK(firmware[0] == 0 && firmware[1] == 0x18, "type 0");
    const char *date = string(firmware, firmware[8], &system);
    CHECK(date && strlen(date) == 10 && date[2] == '/' && strcmp(date + 6, "2001") > 0, "date %s",
          date);
    CHECK(system[0] == 1 && strcmp(string(system, system[6], &next), "a-vm") == 0, "type 1");
}

int main(void)
{
    RUN(entry_point_is_found_and_sums_are_right);
    RUN(structures_are_as_many_and_as_long_as_it_says);
    RUN(firmware_has_a_date_and_the_system_a_name);
    return test_status();
}
