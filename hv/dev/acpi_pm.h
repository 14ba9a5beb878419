/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ACPI's fixed hardware (ACPI 6.4, 4.8): the PM1 event and control registers and the PM timer. By
 * them a guest switches itself off and is asked to by the power button. ACPI mode is always on:
 * there is no SMI command port.
 */
#ifndef HV_DEV_ACPI_PM_H
#define HV_DEV_ACPI_PM_H

#include <stdbool.h>
#include <stdint.h>

#include "hv/dev/irq.h"

#define ACPI_PM_PORT          0x600u
#define ACPI_PM_EVENT         0u /* offsets: PM1_STS and PM1_EN */
#define ACPI_PM_EVENT_BYTES   4u
#define ACPI_PM_CONTROL       4u /* PM1_CNT */
#define ACPI_PM_CONTROL_BYTES 2u
#define ACPI_PM_TIMER         8u /* PM_TMR, 32 bits */
#define ACPI_PM_TIMER_BYTES   4u
#define ACPI_PM_PORTS         12u

#define ACPI_PM_TIMER_HZ 3579545u /* 4.8.2.1 */

#define ACPI_SCI_GSI 9u
#define ACPI_S5_TYPE 5u /* SLP_TYP for soft off, as \_S5 has it */

struct acpi_pm {
    struct irq_line sci;
    uint64_t (*now)(void *context); /* the guest's TSC */
    void *context;
    uint64_t tsc_hz;
    uint64_t start;        /* the guest's TSC when the timer was 0 */
    uint64_t half_periods; /* of the timer: those whose end TMR_STS has shown */
    uint16_t status, enable, control;
    bool power_off; /* the guest has entered S5; the caller looks */
};

/* `tsc_hz`: ticks a second of `now`, not 0. `sci`: GSI ACPI_SCI_GSI, level, active high. */
void acpi_pm_init(struct acpi_pm *pm, const struct irq_line *sci, uint64_t (*now)(void *context),
                  void *context, uint64_t tsc_hz);

/* As after power-on; the timer starts at 0. */
void acpi_pm_reset(struct acpi_pm *pm);

/* IN and OUT of `bytes` (1, 2 or 4) at ACPI_PM_PORT + `offset`, below ACPI_PM_PORTS. */
uint32_t acpi_pm_read(struct acpi_pm *pm, unsigned offset, unsigned bytes);
void acpi_pm_write(struct acpi_pm *pm, unsigned offset, unsigned bytes, uint32_t value);

/* Press the power button: a guest that listens will shut down. */
void acpi_pm_power_button(struct acpi_pm *pm);

/* The guest's TSC when the timer next has something to report by interrupt; ~0: nothing. And report
 * what is due. */
uint64_t acpi_pm_next_event(const struct acpi_pm *pm);
void acpi_pm_tick(struct acpi_pm *pm);

#endif
