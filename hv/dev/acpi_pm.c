/* SPDX-License-Identifier: BSD-2-Clause */
/* See acpi_pm.h. Section numbers and names are ACPI 6.4's. */
#include "hv/dev/acpi_pm.h"

#define BITS_PER_BYTE 8u

/* 4.8.3.1: PM1_STS (written ones clear) and PM1_EN. The bits that there is something behind. */
#define PM1_STATUS_OFFSET 0u
#define PM1_ENABLE_OFFSET 2u
#define PM1_TMR           (1u << 0)
#define PM1_GBL           (1u << 5)
#define PM1_PWRBTN        (1u << 8)
/* Linux enables the clock's event always and reads it back; the alarm itself is IRQ 8's. */
#define PM1_RTC_EN (1u << 10)
#define PM1_EVENTS (PM1_TMR | PM1_GBL | PM1_PWRBTN)

/* 4.8.3.2: PM1_CNT */
#define CONTROL_SCI_EN    (1u << 0)
#define CONTROL_BM_RLD    (1u << 1)
#define CONTROL_SLP_SHIFT 10u
#define CONTROL_SLP_TYP   (7u << CONTROL_SLP_SHIFT)
#define CONTROL_SLP_EN    (1u << 13) /* write only */
#define CONTROL_KEPT      (CONTROL_BM_RLD | CONTROL_SLP_TYP)

/* The timer's highest bit changes each time: TMR_STS, 4.8.2.1. */
#define HALF_PERIOD (1ull << 31)

#define NEVER UINT64_MAX

void acpi_pm_init(struct acpi_pm *pm, const struct irq_line *sci, uint64_t (*now)(void *context),
                  void *context, uint64_t tsc_hz)
{
    *pm = (struct acpi_pm){.sci = *sci, .now = now, .context = context, .tsc_hz = tsc_hz};
    acpi_pm_reset(pm);
}

/* Ticks of the timer since `start`, all bits of them. */
static uint64_t timer_ticks(const struct acpi_pm *pm)
{
    unsigned __int128 passed = pm->now(pm->context) - pm->start;

    return (uint64_t)(passed * ACPI_PM_TIMER_HZ / pm->tsc_hz);
}

/* The first TSC at which timer_ticks is `ticks`. */
static uint64_t time_of(const struct acpi_pm *pm, uint64_t ticks)
{
    unsigned __int128 product = (unsigned __int128)ticks * pm->tsc_hz;

    return pm->start + (uint64_t)((product + ACPI_PM_TIMER_HZ - 1) / ACPI_PM_TIMER_HZ);
}

static void update_sci(const struct acpi_pm *pm)
{
    irq_set(&pm->sci, (pm->status & pm->enable) != 0);
}

void acpi_pm_tick(struct acpi_pm *pm)
{
    uint64_t half_periods = timer_ticks(pm) / HALF_PERIOD;

    if (half_periods != pm->half_periods) {
        pm->half_periods = half_periods;
        pm->status |= PM1_TMR;
        update_sci(pm);
    }
}

uint64_t acpi_pm_next_event(const struct acpi_pm *pm)
{
    if (!(pm->enable & PM1_TMR) || (pm->status & PM1_TMR))
        return NEVER;
    return time_of(pm, (pm->half_periods + 1) * HALF_PERIOD);
}

void acpi_pm_reset(struct acpi_pm *pm)
{
    pm->start = pm->now(pm->context);
    pm->half_periods = 0;
    pm->status = pm->enable = pm->control = 0;
    pm->power_off = false;
    update_sci(pm);
}

void acpi_pm_power_button(struct acpi_pm *pm)
{
    pm->status |= PM1_PWRBTN;
    update_sci(pm);
}

/* All registers side by side, as [0, ACPI_PM_PORTS) has them, four bytes at a time. */
static uint32_t read_registers(const struct acpi_pm *pm, unsigned offset)
{
    switch (offset) {
    case ACPI_PM_EVENT:
        return pm->status | (uint32_t)pm->enable << PM1_ENABLE_OFFSET * BITS_PER_BYTE;
    case ACPI_PM_CONTROL:
        return pm->control | CONTROL_SCI_EN;
    default:
        return (uint32_t)timer_ticks(pm);
    }
}

uint32_t acpi_pm_read(struct acpi_pm *pm, unsigned offset, unsigned bytes)
{
    uint64_t both;

    acpi_pm_tick(pm); /* TMR_STS */
    both = read_registers(pm, offset & ~3u);
    if ((offset & 3) + bytes > 4 && offset < ACPI_PM_TIMER)
        both |= (uint64_t)read_registers(pm, (offset & ~3u) + 4) << 32;
    both >>= (offset & 3) * BITS_PER_BYTE;
    return (uint32_t)(both & ((1ull << bytes * BITS_PER_BYTE) - 1));
}

/* 16.1.6: SLP_EN enters the state that SLP_TYP names. There is no other than S5. */
static void write_control(struct acpi_pm *pm, uint16_t value)
{
    pm->control = value & CONTROL_KEPT;
    if ((value & CONTROL_SLP_EN) && (value & CONTROL_SLP_TYP) >> CONTROL_SLP_SHIFT == ACPI_S5_TYPE)
        pm->power_off = true;
}

/* `value` in the byte of a 16-bit register that is `register` now. */
static uint16_t with_byte(uint16_t now, unsigned index, uint8_t value)
{
    unsigned shift = index * BITS_PER_BYTE;

    return (uint16_t)((now & ~(0xffu << shift)) | (uint32_t)value << shift);
}

static void write_byte(struct acpi_pm *pm, unsigned offset, uint8_t value)
{
    unsigned index = offset & 1;

    switch (offset & ~1u) {
    case ACPI_PM_EVENT + PM1_STATUS_OFFSET:
        pm->status &= (uint16_t)~with_byte(0, index, value);
        return;
    case ACPI_PM_EVENT + PM1_ENABLE_OFFSET:
        pm->enable = with_byte(pm->enable, index, value) & (PM1_EVENTS | PM1_RTC_EN);
        return;
    case ACPI_PM_CONTROL:
        write_control(pm, with_byte(pm->control, index, value));
        return;
    default: /* the timer is read only */
        return;
    }
}

void acpi_pm_write(struct acpi_pm *pm, unsigned offset, unsigned bytes, uint32_t value)
{
    acpi_pm_tick(pm);
    for (unsigned i = 0; i < bytes; i++)
        write_byte(pm, offset + i, (uint8_t)(value >> BITS_PER_BYTE * i));
    update_sci(pm);
}
