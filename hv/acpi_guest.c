/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * See acpi_guest.h. Section numbers are ACPI 6.4's. Everything goes through one writer, which
 * stops at the end of its room and remembers that it has.
 */
#include "hv/acpi_guest.h"

#include <string.h>

#include "hv/dev/acpi_pm.h"
#include "hv/dev/virtio.h"

/* The machine, where no device's own header says it. */
#define LOCAL_APIC    0xfee00000u
#define IO_APIC       0xfec00000u
#define PIT_IRQ       0u
#define PIT_GSI       2u
#define COM1_PORT     0x3f8u
#define COM1_PORTS    8u
#define COM1_IRQ      4u
#define CMOS_PORT     0x70u
#define CMOS_PORTS    2u
#define CMOS_IRQ      8u
#define CMOS_CENTURY  0x32u /* the register that holds it */
#define RESET_PORT    0xcf9u
#define RESET_VALUE   0x06u /* system reset, hard */
#define LINT_NMI      1u
#define TABLE_ALIGN   16u
#define FACS_ALIGN    64u /* 5.2.10 */
#define SIGNATURE     4u
#define BITS_PER_BYTE 8u

struct writer {
    uint8_t *to;
    size_t room, used;
    uint32_t base; /* the guest's address of `to` */
    bool full;
};

static void put(struct writer *w, const void *bytes, size_t len)
{
    if (w->full || len > w->room - w->used) {
        w->full = true;
        return;
    }
    memcpy(w->to + w->used, bytes, len);
    w->used += len;
}

/* An integer of `bytes` bytes, lowest first. */
static void put_int(struct writer *w, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) {
        uint8_t byte = (uint8_t)(value >> BITS_PER_BYTE * i);
        put(w, &byte, 1);
    }
}

static void put_byte(struct writer *w, uint8_t value)
{
    put(w, &value, 1);
}

static void put_zeros(struct writer *w, size_t count)
{
    while (count-- > 0 && !w->full)
        put_byte(w, 0);
}

/* An integer put earlier at `at` becomes `value`. */
static void patch(struct writer *w, size_t at, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes && !w->full; i++)
        w->to[at + i] = (uint8_t)(value >> BITS_PER_BYTE * i);
}

/* Zeros up to a multiple of `align` from the guest's address 0; returns the address. */
static uint32_t align_to(struct writer *w, uint32_t align)
{
    uint64_t at = w->base + w->used;

    put_zeros(w, align_up(at, align) - at);
    return w->base + (uint32_t)w->used;
}

/* Set the byte at `checksum` so that [start, end) adds up to 0. */
static void set_checksum(struct writer *w, size_t start, size_t end, size_t checksum)
{
    uint8_t sum = 0;

    if (w->full)
        return;
    w->to[checksum] = 0;
    for (size_t i = start; i < end; i++)
        sum = (uint8_t)(sum + w->to[i]);
    w->to[checksum] = (uint8_t)-sum;
}

/* --- the header of a table, 5.2.6 ------------------------------------------------------------- */

#define HEADER_LENGTH   4u
#define HEADER_CHECKSUM 9u
#define OEM             "TWOFLD"
#define OEM_TABLE       "TWOFOLD "
#define CREATOR         "TWOF"
#define OEM_REVISION    1u

static const size_t oem_bytes = 6;
static const size_t oem_table_bytes = 8;

/* Begin a table; returns the guest's address of it. */
static uint32_t begin_table(struct writer *w, const char *signature, uint8_t revision)
{
    uint32_t at = align_to(w, TABLE_ALIGN);

    put(w, signature, SIGNATURE);
    put_int(w, 0, 4); /* length */
    put_byte(w, revision);
    put_byte(w, 0); /* checksum */
    put(w, OEM, oem_bytes);
    put(w, OEM_TABLE, oem_table_bytes);
    put_int(w, OEM_REVISION, 4);
    put(w, CREATOR, SIGNATURE);
    put_int(w, OEM_REVISION, 4);
    return at;
}

/* What is put since begin_table gave `at` is the table. */
static void end_table(struct writer *w, uint32_t at)
{
    size_t start = at - w->base;

    patch(w, start + HEADER_LENGTH, w->used - start, 4);
    set_checksum(w, start, w->used, start + HEADER_CHECKSUM);
}

/* --- AML, chapter 20 -------------------------------------------------------------------------- */

#define AML_ZERO      0x00u
#define AML_NAME      0x08u
#define AML_BYTE      0x0au
#define AML_DWORD     0x0cu
#define AML_STRING    0x0du
#define AML_SCOPE     0x10u
#define AML_BUFFER    0x11u
#define AML_PACKAGE   0x12u
#define AML_EXTENDED  0x5bu
#define AML_DEVICE    0x82u /* behind AML_EXTENDED */
#define AML_NAME_SIZE 4u

/* 20.2.4: the length, from its own first byte on, in three bytes: the lowest 4 bits in the first,
 * which says in its highest 2 that two follow. */
#define PACKAGE_LENGTH_BYTES 3u
#define PACKAGE_LENGTH_LEAD  (2u << 6)

static size_t begin_package(struct writer *w)
{
    size_t at = w->used;

    put_zeros(w, PACKAGE_LENGTH_BYTES);
    return at;
}

static void end_package(struct writer *w, size_t at)
{
    size_t length = w->used - at;

    patch(w, at, PACKAGE_LENGTH_LEAD | (length & 0xf), 1);
    patch(w, at + 1, length >> 4, 2);
}

static void put_name(struct writer *w, const char *name)
{
    put_byte(w, AML_NAME);
    put(w, name, AML_NAME_SIZE);
}

static void put_aml_byte(struct writer *w, uint8_t value)
{
    put_byte(w, AML_BYTE);
    put_byte(w, value);
}

static size_t begin_device(struct writer *w, const char *name)
{
    put_byte(w, AML_EXTENDED);
    put_byte(w, AML_DEVICE);
    size_t at = begin_package(w);
    put(w, name, AML_NAME_SIZE);
    return at;
}

/* The name of device `number` of a kind: "V007". */
static const char *numbered(char name[AML_NAME_SIZE], char letter, unsigned number)
{
    name[0] = letter;
    for (unsigned i = AML_NAME_SIZE - 1; i > 0; i--) {
        name[i] = (char)('0' + number % 10);
        number /= 10;
    }
    return name;
}

static void put_hid_string(struct writer *w, const char *hid)
{
    put_name(w, "_HID");
    put_byte(w, AML_STRING);
    put(w, hid, strlen(hid) + 1);
}

/* 19.3.4: "PNP" and four hexadecimal digits as an integer whose bytes are most significant first.
 */
#define EISA_PNP   0xd041u /* three letters of five bits: 'P', 'N', 'P', in that order of bytes */
#define PNP_SERIAL 0x0501u
#define PNP_CMOS   0x0b00u

static void put_hid_pnp(struct writer *w, uint32_t product)
{
    put_name(w, "_HID");
    put_byte(w, AML_DWORD);
    put_int(w, EISA_PNP, 2);
    put_byte(w, (uint8_t)(product >> BITS_PER_BYTE));
    put_byte(w, (uint8_t)product);
}

static void put_uid(struct writer *w, uint8_t uid)
{
    put_name(w, "_UID");
    put_aml_byte(w, uid);
}

/* --- resources, 6.4 --------------------------------------------------------------------------- */

#define RESOURCE_IRQ       0x22u /* 6.4.2.1: an ISA interrupt, edge, active high */
#define RESOURCE_IO        0x47u /* 6.4.2.5 */
#define RESOURCE_END       0x79u /* 6.4.2.9 */
#define RESOURCE_MEMORY    0x86u /* 6.4.3.4: 32-bit fixed */
#define RESOURCE_INTERRUPT 0x89u /* 6.4.3.6 */
#define IO_DECODE_16       1u
#define MEMORY_LENGTH      9u
#define MEMORY_WRITABLE    1u
#define INTERRUPT_LENGTH   6u
#define INTERRUPT_CONSUMER 1u /* else level, active high, not shared: 0 */

struct resources {
    size_t package, length, start;
};

/* Name (_CRS, Buffer (length) {...}) */
static struct resources begin_resources(struct writer *w)
{
    struct resources r;

    put_name(w, "_CRS");
    put_byte(w, AML_BUFFER);
    r.package = begin_package(w);
    put_byte(w, AML_BYTE);
    r.length = w->used;
    put_byte(w, 0);
    r.start = w->used;
    return r;
}

static void end_resources(struct writer *w, const struct resources *r)
{
    put_byte(w, RESOURCE_END);
    put_byte(w, 0); /* no checksum */
    patch(w, r->length, w->used - r->start, 1);
    end_package(w, r->package);
}

static void put_io(struct writer *w, uint16_t port, uint8_t ports)
{
    put_byte(w, RESOURCE_IO);
    put_byte(w, IO_DECODE_16);
    put_int(w, port, 2); /* from there */
    put_int(w, port, 2); /* to there */
    put_byte(w, 1);      /* alignment */
    put_byte(w, ports);
}

static void put_isa_irq(struct writer *w, unsigned irq)
{
    put_byte(w, RESOURCE_IRQ);
    put_int(w, 1u << irq, 2);
}

static void put_memory(struct writer *w, uint32_t at, uint32_t bytes)
{
    put_byte(w, RESOURCE_MEMORY);
    put_int(w, MEMORY_LENGTH, 2);
    put_byte(w, MEMORY_WRITABLE);
    put_int(w, at, 4);
    put_int(w, bytes, 4);
}

static void put_interrupt(struct writer *w, uint32_t gsi)
{
    put_byte(w, RESOURCE_INTERRUPT);
    put_int(w, INTERRUPT_LENGTH, 2);
    put_byte(w, INTERRUPT_CONSUMER);
    put_byte(w, 1); /* one interrupt */
    put_int(w, gsi, 4);
}

/* --- the DSDT, 5.2.11.1 ----------------------------------------------------------------------- */

#define DSDT_REVISION 2u /* integers of 64 bits */

/* A device of the ISA bus. */
static void put_isa_device(struct writer *w, const char *name, uint32_t product, uint16_t port,
                           uint8_t ports, unsigned irq)
{
    size_t device = begin_device(w, name);

    put_hid_pnp(w, product);
    put_uid(w, 0);
    struct resources r = begin_resources(w);
    put_io(w, port, ports);
    put_isa_irq(w, irq);
    end_resources(w, &r);
    end_package(w, device);
}

static void put_virtio_device(struct writer *w, unsigned n)
{
    char name[AML_NAME_SIZE];
    size_t device = begin_device(w, numbered(name, 'V', n));

    put_hid_string(w, "LNRO0005");
    put_uid(w, (uint8_t)n);
    struct resources r = begin_resources(w);
    put_memory(w, VIRTIO_MMIO_BASE + n * VIRTIO_MMIO_STRIDE, VIRTIO_MMIO_STRIDE);
    put_interrupt(w, VIRTIO_GSI_FIRST + n);
    end_resources(w, &r);
    end_package(w, device);
}

/* 8.4: each of the MADT's processors has its object, of the same _UID. */
static void put_processor(struct writer *w, unsigned n)
{
    char name[AML_NAME_SIZE];
    size_t device = begin_device(w, numbered(name, 'C', n));

    put_hid_string(w, "ACPI0007");
    put_uid(w, (uint8_t)n);
    end_package(w, device);
}

/* 7.4.2: Name (\_S5, Package (4) {type, type, 0, 0}) */
static void put_soft_off(struct writer *w)
{
    put_name(w, "_S5_");
    put_byte(w, AML_PACKAGE);
    size_t package = begin_package(w);
    put_byte(w, 4);
    put_aml_byte(w, ACPI_S5_TYPE); /* PM1a_CNT.SLP_TYP */
    put_aml_byte(w, ACPI_S5_TYPE); /* PM1b_CNT.SLP_TYP: there is none */
    put_byte(w, AML_ZERO);
    put_byte(w, AML_ZERO);
    end_package(w, package);
}

static uint32_t put_dsdt(struct writer *w, const struct acpi_guest *guest)
{
    uint32_t at = begin_table(w, "DSDT", DSDT_REVISION);

    put_soft_off(w);
    put_byte(w, AML_SCOPE);
    size_t scope = begin_package(w);
    put(w, "\\_SB_", 1 + AML_NAME_SIZE);
    for (unsigned n = 0; n < guest->cpus; n++)
        put_processor(w, n);
    put_isa_device(w, "COM1", PNP_SERIAL, COM1_PORT, COM1_PORTS, COM1_IRQ);
    put_isa_device(w, "RTC0", PNP_CMOS, CMOS_PORT, CMOS_PORTS, CMOS_IRQ);
    for (unsigned n = 0; n < guest->virtio; n++)
        put_virtio_device(w, n);
    end_package(w, scope);
    end_table(w, at);
    return at;
}

/* --- the MADT, 5.2.12 ------------------------------------------------------------------------- */

#define MADT_REVISION    5u
#define MADT_PCAT_COMPAT 1u /* there are 8259s */
#define MADT_ENABLED     1u
enum { MADT_LOCAL_APIC = 0, MADT_IO_APIC = 1, MADT_OVERRIDE = 2, MADT_NMI = 4 };
#define MADT_LOCAL_APIC_BYTES 8u
#define MADT_IO_APIC_BYTES    12u
#define MADT_OVERRIDE_BYTES   10u
#define MADT_NMI_BYTES        6u
#define MADT_ALL_PROCESSORS   0xffu
/* 5.2.12.5: polarity in bits 1:0, trigger mode in bits 3:2; 0: as on an ISA bus */
#define MADT_AS_BUS     0u
#define MADT_HIGH_EDGE  (1u | 1u << 2)
#define MADT_HIGH_LEVEL (1u | 3u << 2)

static void begin_entry(struct writer *w, uint8_t type, uint8_t bytes)
{
    put_byte(w, type);
    put_byte(w, bytes);
}

static void put_override(struct writer *w, unsigned irq, unsigned gsi, uint16_t flags)
{
    begin_entry(w, MADT_OVERRIDE, MADT_OVERRIDE_BYTES);
    put_byte(w, 0); /* ISA */
    put_byte(w, (uint8_t)irq);
    put_int(w, gsi, 4);
    put_int(w, flags, 2);
}

static uint32_t put_madt(struct writer *w, const struct acpi_guest *guest)
{
    uint32_t at = begin_table(w, "APIC", MADT_REVISION);

    put_int(w, LOCAL_APIC, 4);
    put_int(w, MADT_PCAT_COMPAT, 4);
    for (unsigned n = 0; n < guest->cpus; n++) {
        begin_entry(w, MADT_LOCAL_APIC, MADT_LOCAL_APIC_BYTES);
        put_byte(w, (uint8_t)n); /* the processor object's _UID */
        put_byte(w, (uint8_t)n); /* local APIC ID */
        put_int(w, MADT_ENABLED, 4);
    }
    begin_entry(w, MADT_IO_APIC, MADT_IO_APIC_BYTES);
    put_byte(w, 0); /* ID */
    put_byte(w, 0);
    put_int(w, IO_APIC, 4);
    put_int(w, 0, 4); /* its first GSI */
    put_override(w, PIT_IRQ, PIT_GSI, MADT_AS_BUS);
    put_override(w, ACPI_SCI_GSI, ACPI_SCI_GSI, MADT_HIGH_LEVEL);
    begin_entry(w, MADT_NMI, MADT_NMI_BYTES);
    put_byte(w, MADT_ALL_PROCESSORS);
    put_int(w, MADT_HIGH_EDGE, 2);
    put_byte(w, LINT_NMI);
    end_table(w, at);
    return at;
}

/* --- the FADT, 5.2.9 -------------------------------------------------------------------------- */

#define FADT_REVISION     6u
#define FADT_MINOR        4u
#define FADT_BYTES        276u
#define FADT_FACS         36u /* offsets */
#define FADT_DSDT         40u
#define FADT_SCI          46u
#define FADT_PM1A_EVENT   56u
#define FADT_PM1A_CONTROL 64u
#define FADT_PM_TIMER     76u
#define FADT_EVENT_LENGTH 88u
#define FADT_CONTROL_LEN  89u
#define FADT_TIMER_LEN    91u
#define FADT_C2_LATENCY   96u
#define FADT_C3_LATENCY   98u
#define FADT_CENTURY      108u
#define FADT_BOOT         109u
#define FADT_FLAGS        112u
#define FADT_RESET        116u
#define FADT_RESET_VALUE  128u
#define FADT_MINOR_AT     131u
#define FADT_X_DSDT       140u
#define FADT_X_EVENT      148u
#define FADT_X_CONTROL    172u
#define FADT_X_TIMER      208u

#define NO_C2 0xfffu /* longer than 100 us: not there */
#define NO_C3 0xfffu /* longer than 1000 us */

/* 5.2.9.3: no 8042. */
#define BOOT_LEGACY_DEVICES (1u << 0)
#define BOOT_NO_VGA         (1u << 2)
#define BOOT_NO_MSI         (1u << 3)
#define BOOT_NO_ASPM        (1u << 4)

/* 5.2.9, "Fixed Feature Flags". The power button is a fixed one: its bit is clear. */
#define FLAG_WBINVD       (1u << 0)
#define FLAG_PROC_C1      (1u << 2)
#define FLAG_NO_SLEEP_KEY (1u << 5)
#define FLAG_NO_FIXED_RTC (1u << 6)
#define FLAG_TIMER_32     (1u << 8)
#define FLAG_RESET        (1u << 10)

/* 5.2.3.2 */
enum { GAS_IO = 1 };
enum { GAS_BYTE = 1, GAS_WORD = 2, GAS_DWORD = 3 };

static void patch_gas(struct writer *w, size_t at, uint64_t port, unsigned bytes, uint8_t access)
{
    patch(w, at, GAS_IO, 1);
    patch(w, at + 1, bytes * BITS_PER_BYTE, 1);
    patch(w, at + 3, access, 1);
    patch(w, at + 4, port, 8);
}

/* A register block in its old field and in its new one. */
static void patch_block(struct writer *w, size_t old, size_t gas, uint32_t port, unsigned bytes,
                        uint8_t access)
{
    patch(w, old, port, 4);
    patch_gas(w, gas, port, bytes, access);
}

static uint32_t put_fadt(struct writer *w, uint32_t facs, uint32_t dsdt)
{
    uint32_t at = begin_table(w, "FACP", FADT_REVISION);
    size_t t = at - w->base;

    put_zeros(w, FADT_BYTES - (w->used - t));
    patch(w, t + FADT_FACS, facs, 4); /* X_FIRMWARE_CTRL stays 0: only one of them is used */
    patch(w, t + FADT_DSDT, dsdt, 4);
    patch(w, t + FADT_X_DSDT, dsdt, 8);
    patch(w, t + FADT_SCI, ACPI_SCI_GSI, 2);
    patch_block(w, t + FADT_PM1A_EVENT, t + FADT_X_EVENT, ACPI_PM_PORT + ACPI_PM_EVENT,
                ACPI_PM_EVENT_BYTES, GAS_WORD);
    patch_block(w, t + FADT_PM1A_CONTROL, t + FADT_X_CONTROL, ACPI_PM_PORT + ACPI_PM_CONTROL,
                ACPI_PM_CONTROL_BYTES, GAS_WORD);
    patch_block(w, t + FADT_PM_TIMER, t + FADT_X_TIMER, ACPI_PM_PORT + ACPI_PM_TIMER,
                ACPI_PM_TIMER_BYTES, GAS_DWORD);
    patch(w, t + FADT_EVENT_LENGTH, ACPI_PM_EVENT_BYTES, 1);
    patch(w, t + FADT_CONTROL_LEN, ACPI_PM_CONTROL_BYTES, 1);
    patch(w, t + FADT_TIMER_LEN, ACPI_PM_TIMER_BYTES, 1);
    patch(w, t + FADT_C2_LATENCY, NO_C2, 2);
    patch(w, t + FADT_C3_LATENCY, NO_C3, 2);
    patch(w, t + FADT_CENTURY, CMOS_CENTURY, 1);
    patch(w, t + FADT_BOOT, BOOT_LEGACY_DEVICES | BOOT_NO_VGA | BOOT_NO_MSI | BOOT_NO_ASPM, 2);
    patch(w, t + FADT_FLAGS,
          FLAG_WBINVD | FLAG_PROC_C1 | FLAG_NO_SLEEP_KEY | FLAG_NO_FIXED_RTC | FLAG_TIMER_32 |
              FLAG_RESET,
          4);
    patch_gas(w, t + FADT_RESET, RESET_PORT, 1, GAS_BYTE);
    patch(w, t + FADT_RESET_VALUE, RESET_VALUE, 1);
    patch(w, t + FADT_MINOR_AT, FADT_MINOR, 1);
    end_table(w, at);
    return at;
}

/* --- the others ------------------------------------------------------------------------------- */

/* 5.2.10: no header, no checksum. */
#define FACS_BYTES      64u
#define FACS_VERSION    2u
#define FACS_VERSION_AT 32u

static uint32_t put_facs(struct writer *w)
{
    uint32_t at = align_to(w, FACS_ALIGN);
    size_t start = at - w->base;

    put(w, "FACS", SIGNATURE);
    put_int(w, FACS_BYTES, 4);
    put_zeros(w, FACS_BYTES - (w->used - start));
    patch(w, start + FACS_VERSION_AT, FACS_VERSION, 1);
    return at;
}

/* RSDT (5.2.7) and XSDT (5.2.8): addresses of 4 or of 8 bytes. */
static uint32_t put_root(struct writer *w, const char *signature, unsigned bytes, uint32_t fadt,
                         uint32_t madt)
{
    uint32_t at = begin_table(w, signature, 1);

    put_int(w, fadt, bytes);
    put_int(w, madt, bytes);
    end_table(w, at);
    return at;
}

/* 5.2.5.3 */
#define RSDP_REVISION          2u
#define RSDP_CHECKSUM          8u
#define RSDP_BYTES_1           20u /* what a reader of ACPI 1.0 sees */
#define RSDP_RSDT              16u
#define RSDP_XSDT              24u
#define RSDP_EXTENDED_CHECKSUM 32u
#define RSDP_BYTES             36u

/* The RSDP is first and points at what comes later. */
static void put_rsdp(struct writer *w)
{
    put(w, "RSD PTR ", 8);
    put_byte(w, 0); /* checksum */
    put(w, OEM, oem_bytes);
    put_byte(w, RSDP_REVISION);
    put_int(w, 0, 4); /* RSDT */
    put_int(w, RSDP_BYTES, 4);
    put_int(w, 0, 8); /* XSDT */
    put_int(w, 0, 4); /* extended checksum */
}

static void finish_rsdp(struct writer *w, uint32_t rsdt, uint32_t xsdt)
{
    patch(w, RSDP_RSDT, rsdt, 4);
    patch(w, RSDP_XSDT, xsdt, 8);
    set_checksum(w, 0, RSDP_BYTES_1, RSDP_CHECKSUM);
    set_checksum(w, 0, RSDP_BYTES, RSDP_EXTENDED_CHECKSUM);
}

size_t acpi_guest_build(void *to, size_t room, gpa_t base, const struct acpi_guest *guest)
{
    struct writer w = {.to = to, .room = room, .base = (uint32_t)base.v};

    put_rsdp(&w);
    uint32_t facs = put_facs(&w);
    uint32_t dsdt = put_dsdt(&w, guest);
    uint32_t fadt = put_fadt(&w, facs, dsdt);
    uint32_t madt = put_madt(&w, guest);
    uint32_t rsdt = put_root(&w, "RSDT", 4, fadt, madt);
    uint32_t xsdt = put_root(&w, "XSDT", 8, fadt, madt);
    finish_rsdp(&w, rsdt, xsdt);
    return w.full ? 0 : w.used;
}
