/* SPDX-License-Identifier: BSD-2-Clause */
/* See power.h. */
#include "drivers/power.h"

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/io.h"
#include "drivers/vtd.h"
#include "hv/arch.h"
#include "hv/guest_abi.h"

/* ACPI 6.4, 4.8.3.2.1 */
#define PM1_SLP_TYP_SHIFT 10
#define PM1_SLP_TYP_MASK  (7u << PM1_SLP_TYP_SHIFT)
#define PM1_SLP_EN        (1u << 13)

#define PORT_RESET_CONTROL   0xcf9u /* PC chip sets: 0x02 then 0x06 is a hard reset */
#define RESET_CONTROL_HARD   0x02u
#define RESET_CONTROL_FIRE   0x06u
#define PORT_KEYBOARD        0x64u
#define KEYBOARD_PULSE_RESET 0xfeu

/* isa-debug-exit gives (v << 1) | 1: 33 and 35, which QEMU itself never returns. */
#define QEMU_OK     0x10u
#define QEMU_FAILED 0x11u

#define BOCHS_DEBUGGER 'D'

/* Time for a reset or power-off to happen after the write that asks for it. */
#define SETTLE_POLLS 10000000u

static const struct acpi_info *acpi;
static volatile uint8_t *reset_register; /* if it is memory mapped */
static bool ending;

void power_init(const struct acpi_info *info)
{
    acpi = info;
    /* Mapped now: a panic may find the lock for that taken. */
    if (info->has_reset && info->reset.space == ACPI_SPACE_MEMORY)
        reset_register = host_map_device(hpa(info->reset.address), 1);
}

static void settle(void)
{
    for (unsigned i = 0; i < SETTLE_POLLS; i++)
        cpu_pause();
}

static void write_pm1(uint16_t port, uint8_t type)
{
    if (port == 0)
        return;
    uint32_t kept = inw(port) & ~PM1_SLP_TYP_MASK;
    uint32_t wanted = (uint32_t)type << PM1_SLP_TYP_SHIFT & PM1_SLP_TYP_MASK;
    outw(port, (uint16_t)(kept | wanted | PM1_SLP_EN));
}

static void power_off(void)
{
    if (!acpi || !acpi->has_s5)
        return;
    write_pm1(acpi->pm1a_control, acpi->s5_type_a);
    write_pm1(acpi->pm1b_control, acpi->s5_type_b);
    settle();
}

/* Without an IDT the exception faults, so does its double fault, and the processor shuts down,
 * which chip sets take as a reset (SDM 3A 6.15, #DF). */
static void triple_fault(void)
{
    static const struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) no_idt = {0, 0};

    __asm__ volatile("lidt %0; int3" : : "m"(no_idt));
}

static void reset(void)
{
    if (acpi && acpi->has_reset) {
        if (acpi->reset.space == ACPI_SPACE_IO)
            outb((uint16_t)acpi->reset.address, acpi->reset_value);
        else if (reset_register)
            *reset_register = acpi->reset_value;
        settle();
    }
    outb(PORT_RESET_CONTROL, RESET_CONTROL_HARD);
    outb(PORT_RESET_CONTROL, RESET_CONTROL_FIRE);
    settle();
    outb(PORT_KEYBOARD, KEYBOARD_PULSE_RESET);
    settle();
    triple_fault();
}

static void end_bochs(bool ok)
{
    if (ok) {
        outb(TF_PORT_BOCHS_SHUTDOWN, BOCHS_DEBUGGER);
        return;
    }
    for (const char *c = "Shutdown"; *c; c++)
        outb(TF_PORT_BOCHS_SHUTDOWN, (uint8_t)*c);
}

void power_end(enum at_end how, bool ok)
{
    if (ending) /* the attempt itself failed, and its panic comes here */
        cpu_halt_forever();
    ending = true;
    uart_flush();
    if (how != AT_END_STAY) /* whoever starts next does not expect it on */
        vtd_disable();
    switch (how) {
    case AT_END_STAY:
        break;
    case AT_END_POWEROFF:
        power_off();
        break;
    case AT_END_RESET:
        reset();
        break;
    case AT_END_BOCHS:
        end_bochs(ok);
        break;
    case AT_END_QEMU:
        outl(TF_PORT_DEBUG_EXIT, ok ? QEMU_OK : QEMU_FAILED);
        break;
    }
    cpu_halt_forever();
}
