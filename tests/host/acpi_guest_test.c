/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The ACPI tables that a guest is given, read by three: the hypervisor's own reader, a reader of
 * this test's that checks every byte that a length or a sum covers, and Intel's iasl.
 */
#include "hv/acpi_guest.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "drivers/acpi.h"
#include "hv/dev/virtio.h"
#include "tests/host/test.h"

#define BASE 0xe0000u

static uint8_t *tables;
static size_t size;

static void build(unsigned cpus, unsigned virtio)
{
    const struct acpi_guest guest = {cpus, virtio};

    if (!tables)
        tables = malloc(ACPI_GUEST_BYTES);
    memset(tables, 0xcc, ACPI_GUEST_BYTES); /* nothing may rely on zeros */
    size = acpi_guest_build(tables, ACPI_GUEST_BYTES, gpa(BASE), &guest);
    CHECK(size > 0, "%u processors, %u devices: no room", cpus, virtio);
}

static const uint8_t *at(uint64_t address, uint64_t len)
{
    if (address < BASE || address - BASE > size || len > size - (address - BASE))
        return NULL;
    return tables + (address - BASE);
}

static uint64_t get(const uint8_t *from, unsigned bytes)
{
    uint64_t value = 0;

    memcpy(&value, from, bytes);
    return value;
}

static bool sums_up(const uint8_t *from, uint64_t len)
{
    uint8_t sum = 0;

    while (len-- > 0)
        sum = (uint8_t)(sum + *from++);
    return sum == 0;
}

/* A table with its header, checked. */
static const uint8_t *table(uint64_t address, const char *signature, uint32_t *len)
{
    const uint8_t *t = at(address, 36);

    CHECK(t && memcmp(t, signature, 4) == 0, "%s at 0x%llx", signature,
          (unsigned long long)address);
    *len = (uint32_t)get(t + 4, 4);
    CHECK(at(address, *len) && sums_up(t, *len), "%s: %u bytes, sum", signature, *len);
    CHECK(memcmp(t + 10, "TWOFLD", 6) == 0, "%s: whose it is", signature);
    return t;
}

/* The table's address by the RSDP's XSDT; the RSDT must say the same. */
static uint64_t find(unsigned index)
{
    uint32_t xsdt_len, rsdt_len;
    const uint8_t *rsdp = at(BASE, 36);
    const uint8_t *xsdt = table(get(rsdp + 24, 8), "XSDT", &xsdt_len);
    const uint8_t *rsdt = table(get(rsdp + 16, 4), "RSDT", &rsdt_len);

    CHECK(xsdt_len == 36 + 2 * 8 && rsdt_len == 36 + 2 * 4, "two tables");
    CHECK(get(xsdt + 36 + 8 * index, 8) == get(rsdt + 36 + 4 * index, 4), "both say the same");
    return get(xsdt + 36 + 8 * index, 8);
}

/* --- the hypervisor's reader ------------------------------------------------------------------ */

static const void *map(void *context, uint64_t address, uint64_t len)
{
    (void)context;
    return at(address, len);
}

static void check_info(unsigned cpus)
{
    struct acpi_info info;

    acpi_read(&info, BASE, map, NULL);
    CHECK(info.valid && info.has_fadt && info.has_s5, "tables are found");
    CHECK(info.pm1a_control == 0x604 && info.pm1b_control == 0, "PM1 control");
    CHECK(info.pm_timer == 0x608 && info.pm_timer_32bit, "PM timer");
    CHECK(info.has_reset && info.reset.space == ACPI_SPACE_IO && info.reset.address == 0xcf9 &&
              info.reset.bit_width == 8 && info.reset_value == 6,
          "reset register");
    CHECK(info.s5_type_a == 5 && info.s5_type_b == 5, "\\_S5");
    CHECK(info.local_apic == 0xfee00000, "local APICs");
    CHECK(info.processor_count == cpus, "%u processors", info.processor_count);
    for (unsigned i = 0; i < cpus; i++)
        CHECK(info.processor[i] == i, "APIC ID of %u", i);
    CHECK(info.io_apic_count == 1 && info.io_apic[0] == 0xfec00000, "I/O APIC");
}

static void the_hypervisors_reader_finds_everything(void)
{
    static const unsigned cpus[] = {1, 2, 3, 16, 64, 255};

    for (unsigned i = 0; i < ARRAY_SIZE(cpus); i++) {
        for (unsigned virtio = 0; virtio <= VIRTIO_DEVICES_MAX; virtio++) {
            build(cpus[i], virtio);
            check_info(cpus[i]);
            uint64_t xsdt = get(tables + 24, 8);
            tables[xsdt - BASE] = 'Y';
            check_info(cpus[i]); /* by the RSDT */
        }
    }
}

/* --- byte by byte ----------------------------------------------------------------------------- */

static void the_rsdp_is_good_for_old_and_new(void)
{
    build(4, 3);
    CHECK(memcmp(tables, "RSD PTR ", 8) == 0 && tables[15] == 2, "revision 2");
    CHECK(sums_up(tables, 20), "the first 20 bytes");
    CHECK(get(tables + 20, 4) == 36 && sums_up(tables, 36), "all 36");
    for (size_t i = 16; i + 8 <= size; i += 16)
        CHECK(memcmp(tables + i, "RSD PTR ", 8) != 0, "one only");
}

static void the_fadt_describes_the_fixed_hardware(void)
{
    uint32_t len, dsdt_len;

    build(4, 3);
    const uint8_t *fadt = table(find(0), "FACP", &len);
    CHECK(len == 276 && fadt[8] == 6, "revision 6");
    const uint8_t *facs = at(get(fadt + 36, 4), 64);
    CHECK(facs && memcmp(facs, "FACS", 4) == 0 && get(facs + 4, 4) == 64, "FACS");
    CHECK(get(fadt + 36, 4) % 64 == 0, "its alignment");
    for (unsigned i = 8; i < 64; i++)
        CHECK(facs[i] == (i == 32 ? 2 : 0), "FACS: byte %u", i);
    CHECK(get(fadt + 132, 8) == 0, "X_FIRMWARE_CTRL is for a FACS above 4 GiB");
    CHECK(get(fadt + 40, 4) == get(fadt + 140, 8), "DSDT and X_DSDT");
    table(get(fadt + 40, 4), "DSDT", &dsdt_len);
    CHECK(get(fadt + 46, 2) == 9 && get(fadt + 48, 4) == 0, "SCI, no SMI");
    CHECK(get(fadt + 56, 4) == 0x600 && fadt[88] == 4, "PM1 event block");
    CHECK(get(fadt + 64, 4) == 0x604 && fadt[89] == 2, "PM1 control block");
    CHECK(get(fadt + 76, 4) == 0x608 && fadt[91] == 4, "PM timer block");
    CHECK(get(fadt + 80, 8) == 0 && get(fadt + 92, 2) == 0, "no general events");
    CHECK(get(fadt + 148, 4) == 0x02002001 && get(fadt + 152, 8) == 0x600, "X event");
    CHECK(get(fadt + 172, 4) == 0x02001001 && get(fadt + 176, 8) == 0x604, "X control");
    CHECK(get(fadt + 208, 4) == 0x03002001 && get(fadt + 212, 8) == 0x608, "X timer");
    uint64_t boot = get(fadt + 109, 2), flags = get(fadt + 112, 4);
    CHECK((boot & 2) == 0 && (boot & 0x0d) == 0x0d, "no 8042, no VGA, no MSI; legacy devices");
    CHECK((boot & 1u << 5) == 0 && fadt[108] == 0x32, "the CMOS clock is there");
    CHECK((flags & 1u << 4) == 0 && (flags & 1u << 5), "a fixed power button, no sleep button");
    CHECK((flags & 1u << 20) == 0, "not hardware-reduced");
}

static void the_madt_lists_the_interrupt_controllers(void)
{
    static const uint8_t io_apic[] = {1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0};
    static const uint8_t timer[] = {2, 10, 0, 0, 2, 0, 0, 0, 0, 0};
    static const uint8_t sci[] = {2, 10, 0, 9, 9, 0, 0, 0, 0x0d, 0};
    static const uint8_t nmi[] = {4, 6, 0xff, 5, 0, 1};
    uint32_t len;

    build(64, 3);
    const uint8_t *madt = table(find(1), "APIC", &len);
    CHECK(get(madt + 36, 4) == 0xfee00000 && get(madt + 40, 4) == 1, "address; 8259s");
    const uint8_t *entry = madt + 44;
    for (unsigned i = 0; i < 64; i++, entry += 8) {
        uint8_t local_apic[] = {0, 8, (uint8_t)i, (uint8_t)i, 1, 0, 0, 0};
        CHECK(memcmp(entry, local_apic, sizeof(local_apic)) == 0, "local APIC %u", i);
    }
    CHECK(memcmp(entry, io_apic, sizeof(io_apic)) == 0, "I/O APIC");
    entry += sizeof(io_apic);
    CHECK(memcmp(entry, timer, sizeof(timer)) == 0, "IRQ 0 is on GSI 2");
    entry += sizeof(timer);
    CHECK(memcmp(entry, sci, sizeof(sci)) == 0, "the SCI is active high, level");
    entry += sizeof(sci);
    CHECK(memcmp(entry, nmi, sizeof(nmi)) == 0, "LINT1 is NMI");
    CHECK(entry + sizeof(nmi) == madt + len, "nothing else");
}

/* --- AML -------------------------------------------------------------------------------------- */

/* What the DSDT has, in words: each object's path and value, one to a line. */
static char text[1 << 16];
static size_t text_length;

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    text_length += (size_t)vsnprintf(text + text_length, sizeof(text) - text_length, format, args);
    va_end(args);
}

struct aml {
    const uint8_t *at, *end;
};

static uint64_t take(struct aml *aml, unsigned bytes)
{
    CHECK((size_t)(aml->end - aml->at) >= bytes, "AML ends early");
    if ((size_t)(aml->end - aml->at) < bytes)
        return 0;
    aml->at += bytes;
    return get(aml->at - bytes, bytes);
}

/* What a package length covers: the rest of it. */
static struct aml take_package(struct aml *aml)
{
    const uint8_t *start = aml->at;
    uint8_t lead = (uint8_t)take(aml, 1);
    unsigned more = lead >> 6;
    uint64_t len = more ? lead & 0xf : lead & 0x3f;

    for (unsigned i = 0; i < more; i++)
        len |= take(aml, 1) << (4 + 8 * i);
    CHECK(len >= (uint64_t)(aml->at - start) && len <= (uint64_t)(aml->end - start), "length %llu",
          (unsigned long long)len);
    struct aml inner = {aml->at, start + len};
    aml->at = start + len;
    return inner;
}

static uint64_t take_integer(struct aml *aml)
{
    switch (take(aml, 1)) {
    case 0:
        return 0;
    case 1:
        return 1;
    case 0x0a:
        return take(aml, 1);
    case 0x0b:
        return take(aml, 2);
    case 0x0c:
        return take(aml, 4);
    default:
        CHECK(false, "no integer");
        return 0;
    }
}

static void say_resources(struct aml r)
{
    while (r.at < r.end) {
        uint8_t tag = (uint8_t)take(&r, 1);
        if (tag == 0x47) { /* decode, low, high, align, length */
            uint64_t decode = take(&r, 1), low = take(&r, 2), high = take(&r, 2);
            uint64_t align = take(&r, 1), len = take(&r, 1);
            CHECK(decode == 1 && low == high && align == 1, "I/O ports");
            say(" io %llx+%llu", (unsigned long long)low, (unsigned long long)len);
        } else if (tag == 0x22) {
            say(" irqs %llx", (unsigned long long)take(&r, 2));
        } else if (tag == 0x86) {
            CHECK(take(&r, 2) == 9 && take(&r, 1) == 1, "writable memory");
            uint64_t base = take(&r, 4);
            say(" memory %llx+%llx", (unsigned long long)base, (unsigned long long)take(&r, 4));
        } else if (tag == 0x89) {
            CHECK(take(&r, 2) == 6 && take(&r, 1) == 1 && take(&r, 1) == 1, "level, high, own");
            say(" gsi %llu", (unsigned long long)take(&r, 4));
        } else {
            CHECK(tag == 0x79 && take(&r, 1) == 0 && r.at == r.end, "resource 0x%x", tag);
            return;
        }
    }
    CHECK(false, "no end tag");
}

static void say_value(struct aml *aml, bool is_id)
{
    uint8_t op = *aml->at;

    if (op == 0x0d) {
        say(" \"%s\"", (const char *)aml->at + 1);
        aml->at += strlen((const char *)aml->at) + 1;
    } else if (op == 0x11) {
        take(aml, 1);
        struct aml buffer = take_package(aml);
        uint64_t len = take_integer(&buffer);
        CHECK(len == (uint64_t)(buffer.end - buffer.at), "a buffer's size is what it holds");
        say_resources(buffer);
    } else if (op == 0x12) {
        take(aml, 1);
        struct aml package = take_package(aml);
        for (uint64_t n = take(&package, 1); n > 0; n--)
            say(" %llu", (unsigned long long)take_integer(&package));
        CHECK(package.at == package.end, "a package's count");
    } else {
        uint32_t v = (uint32_t)take_integer(aml);
        if (!is_id) {
            say(" %u", v);
            return;
        }
        uint32_t id = __builtin_bswap32(v); /* EISAID */
        say(" %c%c%c%04X", 0x40 + (id >> 26 & 31), 0x40 + (id >> 21 & 31), 0x40 + (id >> 16 & 31),
            id & 0xffff);
    }
}

static void say_terms(struct aml aml, const char *path)
{
    while (aml.at < aml.end) {
        uint8_t op = (uint8_t)take(&aml, 1);
        if (op == 0x08) {
            bool is_id = memcmp(aml.at, "_HID", 4) == 0;
            say("%s.%.4s", path, (const char *)aml.at);
            take(&aml, 4);
            say_value(&aml, is_id);
            say("\n");
            continue;
        }
        CHECK(op == 0x10 || (op == 0x5b && take(&aml, 1) == 0x82), "operation 0x%x", op);
        char inner_path[64];
        struct aml inner = take_package(&aml);
        if (*inner.at == '\\')
            inner.at++;
        snprintf(inner_path, sizeof(inner_path), "%s.%.4s", path, (const char *)inner.at);
        take(&inner, 4);
        say_terms(inner, inner_path);
    }
}

static void the_dsdt_has_the_devices(void)
{
    uint32_t len;

    build(2, 2);
    uint64_t where = get(table(find(0), "FACP", &len) + 40, 4);
    const uint8_t *dsdt = table(where, "DSDT", &len);
    text_length = 0;
    say_terms((struct aml){dsdt + 36, dsdt + len}, "\\");
    CHECK(strcmp(text, "\\._S5_ 5 5 0 0\n"
                       "\\._SB_.C000._HID \"ACPI0007\"\n"
                       "\\._SB_.C000._UID 0\n"
                       "\\._SB_.C001._HID \"ACPI0007\"\n"
                       "\\._SB_.C001._UID 1\n"
                       "\\._SB_.COM1._HID PNP0501\n"
                       "\\._SB_.COM1._UID 0\n"
                       "\\._SB_.COM1._CRS io 3f8+8 irqs 10\n"
                       "\\._SB_.RTC0._HID PNP0B00\n"
                       "\\._SB_.RTC0._UID 0\n"
                       "\\._SB_.RTC0._CRS io 70+2 irqs 100\n"
                       "\\._SB_.V000._HID \"LNRO0005\"\n"
                       "\\._SB_.V000._UID 0\n"
                       "\\._SB_.V000._CRS memory d0000000+1000 gsi 16\n"
                       "\\._SB_.V001._HID \"LNRO0005\"\n"
                       "\\._SB_.V001._UID 1\n"
                       "\\._SB_.V001._CRS memory d0001000+1000 gsi 17\n") == 0,
          "%s", text);
    /* A large one: every length and every name still holds. */
    build(255, 8);
    dsdt = table(get(table(find(0), "FACP", &len) + 40, 4), "DSDT", &len);
    text_length = 0;
    say_terms((struct aml){dsdt + 36, dsdt + len}, "\\");
    CHECK(strstr(text, "\\._SB_.C254._UID 254\n") && strstr(text, "\\._SB_.V007._CRS"), "the last");
}

/* --- room ------------------------------------------------------------------------------------- */

static void too_little_room_is_said(void)
{
    const struct acpi_guest guest = {3, 2};

    build(3, 2);
    for (size_t room = 0; room <= size; room++) {
        uint8_t *small = malloc(room ? room : 1); /* exact: the sanitizer sees a write behind it */
        size_t used = acpi_guest_build(small, room, gpa(BASE), &guest);
        CHECK(used == (room < size ? 0 : size), "%zu bytes of %zu: %zu", room, size, used);
        if (room == size)
            CHECK(memcmp(small, tables, size) == 0, "the same as with more room");
        free(small);
    }
}

/* --- iasl ------------------------------------------------------------------------------------- */

static char folder[] = "/tmp/acpi_guest_test.XXXXXX";

__attribute__((format(printf, 1, 2))) static bool run(const char *format, ...)
{
    char command[512];
    va_list args;

    va_start(args, format);
    vsnprintf(command, sizeof(command), format, args);
    va_end(args);
    return system(command) == 0;
}

static void write_table(const char *signature, uint64_t address)
{
    char name[128];
    const uint8_t *t = at(address, 8);

    snprintf(name, sizeof(name), "%s/%s.dat", folder, signature);
    FILE *file = fopen(name, "wb");
    CHECK(file && fwrite(t, get(t + 4, 4), 1, file) == 1, "%s", name);
    if (file)
        fclose(file);
}

/* Each table is disassembled without a complaint; the DSDT also compiles again without one. */
static void iasl_has_no_complaint(void)
{
    static const char *const names[] = {"FACP", "APIC", "DSDT", "FACS", "XSDT", "RSDT"};
    uint32_t len;

    CHECK(run("iasl -v >/dev/null 2>&1"), "iasl is missing (Debian: acpica-tools)");
    build(64, 8);
    const uint8_t *fadt = table(find(0), "FACP", &len);
    const uint64_t where[] = {find(0),
                              find(1),
                              get(fadt + 40, 4),
                              get(fadt + 36, 4),
                              get(tables + 24, 8),
                              get(tables + 16, 4)};
    CHECK(mkdtemp(folder), "no temporary folder");
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
        write_table(names[i], where[i]);
        CHECK(run("cd %s && iasl -d %s.dat >%s.log 2>&1 && test -s %s.dsl", folder, names[i],
                  names[i], names[i]),
              "%s: iasl fails", names[i]);
        CHECK(!run("cat %s/%s.log %s/%s.dsl | grep -iE 'warning|error|invalid|incorrect|unknown'",
                   folder, names[i], folder, names[i]),
              "%s: iasl complains", names[i]);
    }
    CHECK(run("cd %s && iasl DSDT.dsl >compile.log 2>&1 && "
              "grep -q '0 Errors, 0 Warnings, 0 Remarks' compile.log",
              folder),
          "the DSDT's text does not compile");
    CHECK(run("rm -r %s", folder), "clean-up");
}

int main(void)
{
    RUN(the_hypervisors_reader_finds_everything);
    RUN(the_rsdp_is_good_for_old_and_new);
    RUN(the_fadt_describes_the_fixed_hardware);
    RUN(the_madt_lists_the_interrupt_controllers);
    RUN(the_dsdt_has_the_devices);
    RUN(too_little_room_is_said);
    RUN(iasl_has_no_complaint);
    free(tables);
    return test_status();
}
