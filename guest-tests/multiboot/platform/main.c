/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * platform: the virtual PC as kernels use it: local APIC, i8259s, i8254, RTC, I/O APIC, UART, ACPI,
 * and the start of other processors. One line for each check, "ok NAME", "FAIL NAME: why" or
 * "skip NAME: why", and a last line that counts them. Ends with value 0 on the debug-exit port if
 * none failed, else with 1.
 *
 * Arguments: only=NAME (this check, or all whose names begin so), without=NAME (the same, left
 * out), cpus=N (how many processors there must be), quick (without the checks that take a second),
 * busy (an emulator whose host is busy: late interrupts and missed updates are forgiven).
 */
#include "guest-tests/multiboot/acpi32.h"
#include "guest-tests/multiboot/platform/platform.h"

#define NAME_MAX 24u

#define CPUID_HYPERVISOR 0x40000000u
#define TCG_SIGNATURE    0x54474354u /* "TCGT" */

void main(uint32_t magic, const void *info);

unsigned cpu_count;
bool is_busy;

static uint32_t got_value, want_value;
static bool has_values, is_skipped;
static unsigned passed, failed, skipped;
static char only[NAME_MAX], without[NAME_MAX];
static bool quick;

bool expect_equal(uint32_t got, uint32_t want)
{
    got_value = got;
    want_value = want;
    has_values = got != want;
    return got == want;
}

const char *skip(const char *why)
{
    is_skipped = true;
    return why;
}

bool on_qemu_tcg(void)
{
    return cpuid(CPUID_HYPERVISOR, 0).ebx == TCG_SIGNATURE;
}

unsigned ioapic_pin(uint8_t irq)
{
    const struct acpi_table *madt = acpi_find("APIC");

    return madt ? madt_gsi(madt, irq) : irq;
}

static void print_result(const struct check *c, const char *why)
{
    put_text(is_skipped ? "skip " : why ? "FAIL " : "ok ");
    put_text(c->name);
    if (why) {
        put_text(": ");
        put_text(why);
    }
    if (why && has_values) {
        put_text(" (found ");
        put_hex(got_value);
        put_text(", must be ");
        put_hex(want_value);
        put(')');
    }
    put('\n');
}

static bool begins(const char *name, const char *with)
{
    while (*with && *name == *with) {
        name++;
        with++;
    }
    return *with == '\0';
}

static bool is_wanted(const struct check *c)
{
    if (without[0] && begins(c->name, without))
        return false;
    return begins(c->name, only) && !(quick && c->slow);
}

static void run_checks(const struct check *checks)
{
    for (const struct check *c = checks; c->name; c++) {
        if (!is_wanted(c))
            continue;
        machine_quiet();
        has_values = is_skipped = false;
        const char *why = c->run();
        machine_quiet();
        print_result(c, why);
        if (is_skipped)
            skipped++;
        else if (why)
            failed++;
        else
            passed++;
    }
}

static void count_processors(void)
{
    const struct acpi_table *madt = acpi_find("APIC");

    cpu_count = 1;
    if (!madt)
        return;
    for (const struct madt_entry *e = madt_next(madt, NULL); e; e = madt_next(madt, e)) {
        if (e->type != MADT_LOCAL_APIC || !(e->data[2] & MADT_ENABLED))
            continue;
        if (e->data[1] != cpus[0].apic_id && cpu_count < CPUS_MAX)
            cpus[cpu_count++].apic_id = e->data[1];
    }
}

static void report_processors(void)
{
    uint32_t wanted = arg_number("cpus", cpu_count);

    put_text("processors ");
    put_number(cpu_count);
    put_text(", TSC ");
    put_number(tsc_khz);
    put_text(" kHz\n");
    if (wanted == cpu_count)
        return;
    put_text("FAIL cpus: the MADT lists another number of processors than is due\n");
    failed++;
}

static void report_fw_cfg(void)
{
    uint32_t signature = 0;

    outw(0x510, 0);
    for (unsigned i = 0; i < 4; i++)
        signature = signature << 8 | inb(0x511);
    put_text(signature == 0x51454d55u ? "fw_cfg is there\n" : "no fw_cfg\n");
}

static void summary(uint64_t ticks)
{
    put_text("platform: ");
    put_number(passed);
    put_text(" passed, ");
    put_number(failed);
    put_text(" failed, ");
    put_number(skipped);
    put_text(" skipped, ");
    put_number((uint32_t)(ticks >> 20));
    put_text(" million (2^20) ticks\n");
}

void main(uint32_t magic, const void *info)
{
    uint64_t start = rdtsc();

    args_init(magic, info);
    arg_word("only", only, sizeof(only));
    arg_word("without", without, sizeof(without));
    quick = arg_flag("quick");
    is_busy = arg_flag("busy");
    machine_init();
    count_processors();
    report_processors();
    args_done();
    report_fw_cfg();
    run_checks(apic_checks);
    run_checks(pic_checks);
    run_checks(pit_checks);
    run_checks(rtc_checks);
    run_checks(ioapic_checks);
    run_checks(uart_checks);
    run_checks(power_checks);
    run_checks(smp_checks);
    summary(rdtsc() - start);
    end(failed ? 1 : 0);
}
