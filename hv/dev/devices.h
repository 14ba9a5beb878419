/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A VM's devices, as one value inside struct vm: interrupt controllers, interval timer, real-time
 * clock, ACPI's registers, a 16550A UART, virtio devices, and the ports by which a guest ends. They
 * know nothing of VMs: an end is a field that the caller looks at after an access, and all else
 * goes through struct devices_host.
 *
 * Accesses come in by hv/dev/pio.h and hv/dev/mmio.h; interrupts go out by hv/dev/interrupts.h. All
 * of it runs under the VM's lock.
 */
#ifndef HV_DEV_DEVICES_H
#define HV_DEV_DEVICES_H

#include <stddef.h>
#include <stdint.h>

#include "hv/dev/acpi_pm.h"
#include "hv/dev/clock.h"
#include "hv/dev/host.h"
#include "hv/dev/interrupts.h"
#include "hv/dev/pci.h"
#include "hv/dev/pit.h"
#include "hv/dev/rtc.h"
#include "hv/dev/uart.h"
#include "hv/dev/virtio_block.h"
#include "hv/dev/virtio_console.h"
#include "hv/dev/virtio_entropy.h"
#include "hv/settings.h"

enum devices_end {
    DEVICES_RUNNING = 0,
    DEVICES_EXITED,   /* debug-exit port; `status` is (value << 1) | 1 */
    DEVICES_SHUTDOWN, /* Bochs' "Shutdown" */
    DEVICES_POWEROFF, /* ACPI S5 */
    DEVICES_RESET,    /* the guest asks for a reset: devices_reset() clears this */
};

struct devices_config {
    const char *name;    /* stands before each line of the UART */
    uart_output *output; /* where those go */
    unsigned cpus;
    uint64_t tsc_hz;                /* of the guest's TSC */
    struct lapic_page *lapic_pages; /* one each */
    unsigned apic_ratio;            /* TSC ticks to one of the local APICs' timers, undivided */
    unsigned physical_bits;         /* MAXPHYADDR */
    uint64_t wall_seconds;          /* the time now, since 1970 */
    const struct guest_ram *ram;    /* the VM's, which devices write to */
    const struct devices_host *host;
    const struct block_pages *pages; /* for what guests write to disks */
    struct devices_disk {
        const void *image;
        uint64_t bytes;
        const char *name;
        bool read_only;
    } disk[VM_DISKS_MAX];
    unsigned disks;
};

/* Of virtio devices: where each is, counted from VIRTIO_MMIO_BASE. */
enum { DEVICE_CONSOLE, DEVICE_ENTROPY, DEVICE_DISKS };
_Static_assert(DEVICE_DISKS + VM_DISKS_MAX <= VIRTIO_DEVICES_MAX, "there is a place for each");

struct vm_devices {
    const struct devices_host *host;
    struct interrupts interrupts;
    struct pit pit;
    struct rtc rtc;
    struct acpi_pm acpi_pm;
    struct pci_ports pci;
    struct uart_device uart;
    struct virtio_console console;
    struct virtio_entropy entropy;
    struct virtio_block disk[VM_DISKS_MAX];
    unsigned disks;
    uint8_t system_control; /* port 0x92 */
    uint8_t reset_control;  /* port 0xcf9 */
    enum devices_end end;
    int status;
    unsigned shutdown_matched; /* characters of "Shutdown" seen so far */
};

/* All devices as after power-on. `devices` must stay where it is, `host` and what it points at,
 * too. */
void devices_init(struct vm_devices *devices, const struct devices_config *config);

/* Give back what devices have allocated. */
void devices_destroy(struct vm_devices *devices);

/* The n-th virtio device, or NULL behind the last. */
struct virtio *devices_virtio(struct vm_devices *devices, unsigned n);

/* Work that devices left for later, because a request must not take the processor for too long. */
bool devices_have_work(struct vm_devices *devices);
void devices_work(struct vm_devices *devices);

/* Press the power button. */
void devices_power_button(struct vm_devices *devices);

/* All devices as after a reset; the clock, the CMOS RAM and bytes that wait for the UART stay. */
void devices_reset(struct vm_devices *devices);

/* Guest TSC of the next event that is no processor's own, or NO_EVENT; processor 0 sees to it. And
 * do what is due at now(). */
uint64_t devices_next_event(const struct vm_devices *devices);
void devices_tick(struct vm_devices *devices);

/* The wire of interrupt `gsi`, for one more device. */
struct irq_line devices_line(struct vm_devices *devices, unsigned gsi);

/* Send what is left of an unfinished line. */
void devices_flush(struct vm_devices *devices);

#endif
