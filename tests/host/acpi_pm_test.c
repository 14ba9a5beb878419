/* SPDX-License-Identifier: BSD-2-Clause */
/* ACPI's fixed hardware as an operating system uses it, and the PCI ports that find nothing. */
#include "hv/dev/acpi_pm.h"

#include <string.h>

#include "hv/dev/pci.h"
#include "tests/host/test.h"

static struct acpi_pm pm;
static uint64_t tsc;
static bool line;

static uint64_t now(void *context)
{
    (void)context;
    return tsc;
}

static void set_line(void *context, unsigned gsi, bool level)
{
    (void)context;
    CHECK(gsi == 9, "GSI %u", gsi);
    line = level;
}

static void start(uint64_t tsc_hz)
{
    const struct irq_line sci = {set_line, NULL, ACPI_SCI_GSI};

    tsc = 12345;
    acpi_pm_init(&pm, &sci, now, NULL, tsc_hz);
}

static uint32_t in(unsigned port, unsigned bytes)
{
    return acpi_pm_read(&pm, port - 0x600, bytes);
}

static void out(unsigned port, unsigned bytes, uint32_t value)
{
    acpi_pm_write(&pm, port - 0x600, bytes, value);
}

static void acpi_mode_is_on(void)
{
    start(1000000000);
    CHECK(in(0x604, 2) == 1, "SCI_EN");
    out(0x604, 2, 0);
    CHECK(in(0x604, 2) == 1, "and stays");
    out(0x604, 2, 2);
    CHECK(in(0x604, 2) == 3, "BM_RLD is kept");
    CHECK(in(0x600, 4) == 0, "no event, none enabled");
    out(0x602, 2, 0xffff);
    CHECK(in(0x602, 2) == 0x521, "TMR, GBL, PWRBTN and RTC can be enabled: 0x%x", in(0x602, 2));
    CHECK(in(0x602, 1) == 0x21 && in(0x603, 1) == 0x05 && in(0x600, 4) == 0x5210000, "any width");
}

static void s5_switches_off(void)
{
    start(1000000000);
    for (unsigned type = 0; type < 8; type++) {
        out(0x604, 2, type << 10);
        CHECK(!pm.power_off, "SLP_TYP %u alone", type);
        CHECK(in(0x604, 2) == (type << 10 | 1), "is kept");
        if (type != ACPI_S5_TYPE)
            out(0x604, 2, type << 10 | 1u << 13);
        CHECK(!pm.power_off, "SLP_EN with another type, %u", type);
        CHECK(!(in(0x604, 2) & 1u << 13), "SLP_EN reads 0");
    }
    out(0x604, 2, 5u << 10 | 1u << 13);
    CHECK(pm.power_off, "S5");
    acpi_pm_reset(&pm);
    CHECK(!pm.power_off && in(0x604, 2) == 1, "on again");
    out(0x605, 1, 5u << 2 | 1u << 5);
    CHECK(pm.power_off, "by the register's high byte");
}

static void the_power_button_asks(void)
{
    start(1000000000);
    acpi_pm_power_button(&pm);
    CHECK(!line && in(0x600, 2) == 0x100, "not enabled: a status only");
    out(0x602, 2, 0x100);
    CHECK(line, "enabled: the SCI is up");
    out(0x600, 2, 0xfeff);
    CHECK(line && in(0x600, 2) == 0x100, "zeros clear nothing");
    out(0x600, 2, 0x100);
    CHECK(!line && in(0x600, 2) == 0, "cleared");
    acpi_pm_power_button(&pm);
    CHECK(line, "again");
    out(0x602, 2, 0);
    CHECK(!line, "disabled");
    out(0x602, 2, 0x100);
    acpi_pm_reset(&pm);
    CHECK(!line && in(0x600, 4) == 0, "a reset");
}

/* Against long division by hand: floor(passed * 3579545 / hz), digit by digit in base 2. */
static uint32_t expected_ticks(uint64_t passed, uint64_t hz)
{
    uint64_t quotient = 0, rest = 0;

    for (int bit = 63; bit >= 0; bit--) { /* rest < hz <= 2^40: rest * 2 * 2^22 < 2^64 */
        rest = rest * 2 + ((passed >> bit & 1) ? 3579545 : 0);
        quotient = quotient * 2 + rest / hz;
        rest %= hz;
    }
    return (uint32_t)quotient;
}

static void the_timer_is_exact(void)
{
    static const uint64_t rates[] = {1, 1000, 3579545, 1000000000, 2893304812, 1ull << 40};
    uint64_t random = 7;

    for (unsigned r = 0; r < sizeof(rates) / sizeof(rates[0]); r++) {
        start(rates[r]);
        CHECK(in(0x608, 4) == 0, "0 at first");
        for (unsigned n = 0; n < 20000; n++) {
            uint64_t passed = test_random(&random) >> test_random(&random) % 64;
            tsc = 12345 + passed;
            CHECK(in(0x608, 4) == expected_ticks(passed, rates[r]), "%llu at %llu Hz",
                  (unsigned long long)passed, (unsigned long long)rates[r]);
        }
    }
    start(3579545);
    tsc += 0x89abcdef;
    CHECK(in(0x608, 2) == 0xcdef && in(0x60a, 2) == 0x89ab && in(0x60b, 1) == 0x89, "any width");
    out(0x608, 4, 0);
    CHECK(in(0x608, 4) == 0x89abcdef, "read only");
}

static void the_timers_highest_bit_is_an_event(void)
{
    const uint64_t half = (1ull << 31) * 1000 / 5; /* ticks of a TSC that is 200 times as fast */

    start(3579545ull * 200);
    CHECK(acpi_pm_next_event(&pm) == UINT64_MAX, "not enabled");
    tsc += half - 1;
    CHECK(in(0x600, 2) == 0, "not yet");
    tsc += 1;
    CHECK(in(0x608, 4) == 1u << 31 && in(0x600, 2) == 1 && !line, "TMR_STS");
    out(0x600, 2, 1);
    CHECK(in(0x600, 2) == 0, "cleared");
    out(0x602, 2, 1);
    CHECK(acpi_pm_next_event(&pm) == 12345 + 2 * half, "the next one");
    tsc = acpi_pm_next_event(&pm) - 1;
    acpi_pm_tick(&pm);
    CHECK(!line, "just before");
    tsc++;
    acpi_pm_tick(&pm);
    CHECK(line && in(0x608, 4) == 0, "the SCI");
    CHECK(acpi_pm_next_event(&pm) == UINT64_MAX, "nothing more to tell until it is cleared");
    out(0x600, 2, 1);
    CHECK(!line && acpi_pm_next_event(&pm) == 12345 + 3 * half, "cleared");
}

/* The time that is given is the first at which the bit has changed, whatever the rates. */
static void the_next_event_is_exact(void)
{
    uint64_t random = 8;

    for (unsigned n = 0; n < 20000; n++) {
        start(1 + test_random(&random) % (1ull << 36));
        tsc += test_random(&random) >> 20;
        out(0x602, 2, 1);
        out(0x600, 2, 1);
        bool before = in(0x608, 4) >> 31;
        tsc = acpi_pm_next_event(&pm) - 1;
        CHECK(in(0x608, 4) >> 31 == before && !line, "just before, at %llu Hz",
              (unsigned long long)pm.tsc_hz);
        tsc++;
        CHECK(in(0x608, 4) >> 31 != before && line, "then, at %llu Hz",
              (unsigned long long)pm.tsc_hz);
    }
}

static void what_is_not_there_reads_zero(void)
{
    start(1000);
    CHECK(in(0x606, 2) == 0 && in(0x60b, 4) == 0, "between and behind");
    for (unsigned port = 0x600; port < 0x60c; port++) {
        for (unsigned bytes = 1; bytes <= 4; bytes *= 2) {
            in(port, bytes);
            out(port, bytes, 0xffffffff);
        }
    }
}

static void pci_has_no_devices(void)
{
    struct pci_ports pci;

    pci_reset(&pci);
    CHECK(pci_read(&pci, 0, 4) == 0, "the address register");
    pci_write(&pci, 0, 4, 0x80000000);
    CHECK(pci_read(&pci, 0, 4) == 0x80000000, "mechanism #1 is there");
    pci_write(&pci, 3, 1, 0x01);
    CHECK(pci_read(&pci, 0, 4) == 0x80000000, "other widths do not reach it");
    CHECK(pci_read(&pci, 0, 1) == 0xff && pci_read(&pci, 2, 2) == 0xffff, "nor in reading");
    pci_write(&pci, 0, 4, 0xffffffff);
    CHECK(pci_read(&pci, 0, 4) == 0x80fffffc, "bits that are reserved");
    for (unsigned function = 0; function < 0x10000; function++) {
        pci_write(&pci, 0, 4, 1u << 31 | function << 8);
        pci_write(&pci, 4, 4, 0);
        CHECK(pci_read(&pci, 4, 4) == 0xffffffff, "vendor and device of 0x%x", function);
    }
    CHECK(pci_read(&pci, 4, 2) == 0xffff && pci_read(&pci, 7, 1) == 0xff, "any width");
}

int main(void)
{
    RUN(acpi_mode_is_on);
    RUN(s5_switches_off);
    RUN(the_power_button_asks);
    RUN(the_timer_is_exact);
    RUN(the_timers_highest_bit_is_an_event);
    RUN(the_next_event_is_exact);
    RUN(what_is_not_there_reads_zero);
    RUN(pci_has_no_devices);
    return test_status();
}
