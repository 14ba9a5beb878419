/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * All devices of a VM of three processors, by their ports, memory and MSRs: accesses of any width
 * anywhere, time that goes on, interrupts taken, keys, the power button, resets. What must hold:
 *
 *   - a read gives no bits beyond its width
 *   - what is due is done: after a tick the next event lies in the future
 *   - nobody sleeps through an event: when something comes up for a processor that is not the one
 *     that makes the access, or its next event becomes earlier, it was notified
 *   - an interrupt that is pending is the one that is taken, and has a vector
 *   - after a reset the registers read as those of a VM that has just been made
 */
#include <string.h>

#include "hv/dev/mmio.h"
#include "hv/dev/pio.h"
#include "tests/fuzz/fuzz.h"

#define CPUS          3u
#define TSC_HZ        2000000000ull
#define RAM           KIB(64)
#define STEPS_MAX     3000u
#define COPIES        8u
#define TIME_AT_START 1000u

static struct world {
    struct vm_devices devices;
    struct lapic_page pages_of_apics[CPUS];
    uint8_t *ram;
    struct guest_ram guest;
    uint64_t tsc, random;
    bool notified[CPUS];
    unsigned pages;
} w;

/* --- the VM around ---------------------------------------------------------------------------- */

static uint64_t now(void *context)
{
    (void)context;
    return w.tsc;
}

static void notify(void *context, unsigned cpu)
{
    (void)context;
    MUST(cpu < CPUS, "processor %u", cpu);
    w.notified[cpu] = true;
}

static void written(void *context, gpa_t at, uint64_t len)
{
    (void)context;
    MUST(guest_ram_at(&w.guest, at, len), "a device writes to RAM");
}

static uint64_t random_bits(void *context)
{
    (void)context;
    return fuzz_random(&w.random);
}

static void *alloc_page(void *context)
{
    (void)context;
    if (w.pages == COPIES)
        return NULL;
    w.pages++;
    return aligned_alloc(PAGE_SIZE, PAGE_SIZE);
}

static void free_page(void *context, void *page)
{
    (void)context;
    w.pages--;
    free(page);
}

static void output(const char *text, size_t len)
{
    (void)text;
    MUST(len <= LINE_MAX_BYTES + 16, "a line of %zu bytes", len);
}

static const struct devices_host host = {NULL, now, notify, written, random_bits};

static void create(uint64_t time)
{
    static const struct block_pages pages = {alloc_page, free_page, NULL};
    static const uint8_t image[8192] = {1};

    memset(w.pages_of_apics, 0x5a, sizeof(w.pages_of_apics)); /* whatever was there before */
    w.tsc = time;
    w.random = 1;
    w.pages = 0;
    if (!w.ram)
        w.ram = malloc(RAM);
    if (!w.ram)
        abort();
    memset(w.ram, 0, RAM);
    w.guest = (struct guest_ram){.host = w.ram, .low = RAM};
    devices_init(&w.devices,
                 &(struct devices_config){.name = "vm",
                                          .output = output,
                                          .cpus = CPUS,
                                          .lapic_pages = w.pages_of_apics,
                                          .tsc_hz = TSC_HZ,
                                          .apic_ratio = 2,
                                          .physical_bits = 40,
                                          .wall_seconds = 1700000000,
                                          .ram = &w.guest,
                                          .host = &host,
                                          .pages = &pages,
                                          .disk = {{image, sizeof(image), "disk", false}},
                                          .disks = 1});
}

/* --- nobody sleeps through an event ----------------------------------------------------------- */

struct outlook {
    bool any[CPUS];
    uint64_t next[CPUS];
};

static bool has_something(unsigned cpu)
{
    const struct lapic *lapic = &w.devices.interrupts.lapic[cpu];

    return lapic->nmi || lapic->init || lapic->sipi ||
           interrupts_pending(&w.devices.interrupts, cpu) != INTERRUPT_NONE;
}

static struct outlook look(void)
{
    struct outlook o;

    for (unsigned cpu = 0; cpu < CPUS; cpu++) {
        o.any[cpu] = has_something(cpu);
        o.next[cpu] = interrupts_next_event(&w.devices.interrupts, cpu);
    }
    o.next[0] = min_u64(o.next[0], devices_next_event(&w.devices));
    return o;
}

/* `cpu` made the access and looks by itself. */
static void check_notified(const struct outlook *before, unsigned cpu)
{
    struct outlook after = look();

    for (unsigned i = 0; i < CPUS; i++) {
        if (i == cpu || w.notified[i])
            continue;
        MUST(!after.any[i] || before->any[i], "something comes up for %u, which is not told", i);
        MUST(after.next[i] >= before->next[i],
             "the next event of %u is earlier, and it is not told", i);
    }
}

static void check_pending(void)
{
    for (unsigned cpu = 0; cpu < CPUS; cpu++) {
        int vector = interrupts_pending(&w.devices.interrupts, cpu);
        MUST(vector == INTERRUPT_NONE || (vector >= 0 && vector <= 255), "vector %d", vector);
    }
}

/* --- operations ------------------------------------------------------------------------------- */

static unsigned take_width(struct fuzz_input *in, unsigned widths)
{
    return 1u << fuzz_below(in, widths);
}

/* Ports of devices mostly. */
static uint16_t take_port(struct fuzz_input *in)
{
    static const uint16_t ports[] = {0x20,  0x21,  0xa0,  0xa1,  0x4d0, 0x4d1, 0x40,
                                     0x41,  0x42,  0x43,  0x61,  0x70,  0x71,  0x3f8,
                                     0x3f9, 0x3fa, 0x3fb, 0x3fc, 0x3fd, 0x3fe, 0x3ff,
                                     0x92,  0x64,  0xcf9, 0xcf8, 0xcfc, 0xf4,  0x8900};
    unsigned choice = fuzz_below(in, 64);

    if (choice < ARRAY_SIZE(ports))
        return ports[choice];
    if (choice < 48)
        return (uint16_t)(ACPI_PM_PORT + fuzz_below(in, ACPI_PM_PORTS));
    return (uint16_t)fuzz_take(in, 2);
}

static gpa_t take_address(struct fuzz_input *in)
{
    uint64_t offset = fuzz_take(in, 2);

    switch (fuzz_below(in, 8)) {
    case 0:
    case 1:
    case 2:
        return gpa(LAPIC_BASE + (offset & 0x3f) * 16);
    case 3:
        return gpa(LAPIC_BASE + (offset & 0xfff));
    case 4:
        return gpa(IOAPIC_BASE + (offset & 0x1f));
    case 5:
        return gpa(IOAPIC_BASE + (offset & 1) * 16);
    case 6:
        return gpa(VIRTIO_MMIO_BASE + (offset & 0x7fff));
    default:
        return gpa(VIRTIO_MMIO_BASE + (offset & 0x80ff) % (8 * VIRTIO_MMIO_STRIDE) / 4 * 4);
    }
}

static void access_port(struct fuzz_input *in, bool write)
{
    uint16_t port = take_port(in);
    unsigned bytes = take_width(in, 3);

    if (write) {
        pio_write(&w.devices, port, bytes, (uint32_t)fuzz_take(in, bytes));
        return;
    }
    uint32_t value = pio_read(&w.devices, port, bytes);
    MUST(bytes == 4 || value >> 8 * bytes == 0, "port 0x%x: 0x%x in %u bytes", port, value, bytes);
}

static void access_memory(struct fuzz_input *in, unsigned cpu, bool write)
{
    gpa_t at = take_address(in);
    unsigned bytes = take_width(in, 4);
    uint64_t value = 0;

    if (write)
        mmio_write(&w.devices, cpu, at, bytes, fuzz_take(in, bytes));
    else
        mmio_read(&w.devices, cpu, at, bytes, &value);
}

/* Values that make sense: an I/O APIC's entry; a local APIC's registers by which interrupts come.
 */
static void program(struct fuzz_input *in, unsigned cpu)
{
    static const uint16_t registers[] = {0xf0,  0x320, 0x350, 0x360, 0x370, 0x380, 0x3e0, 0x300,
                                         0x310, 0xd0,  0xe0,  0x80,  0xb0,  0x280, 0x340, 0x330};
    unsigned choice = fuzz_below(in, 32);
    uint64_t value = fuzz_take(in, 3);

    if (choice >= ARRAY_SIZE(registers)) {
        mmio_write(&w.devices, cpu, gpa(IOAPIC_BASE), 4, 0x10 + value % 48);
        mmio_write(&w.devices, cpu, gpa(IOAPIC_BASE + 0x10), 4, value >> 6);
    } else {
        uint64_t on = registers[choice] == 0xf0 ? 0x100 : 0; /* bit 8: the APIC is enabled */
        unsigned high =
            registers[choice] == 0x310 || registers[choice] == 0xd0 || registers[choice] == 0xe0;
        mmio_write(&w.devices, cpu, gpa(LAPIC_BASE + registers[choice]), 4,
                   (value | on) << (high ? 24 : 0) & 0xffffffff);
    }
}

static void access_msr(struct fuzz_input *in, unsigned cpu, bool write)
{
    static const uint32_t msrs[] = {0x1b, 0x6e0};
    unsigned choice = fuzz_below(in, 64);
    uint32_t msr = choice < 2 ? msrs[choice] : 0x800 + choice;
    uint64_t value = 0;

    MUST(interrupts_has_msr(msr), "MSR 0x%x", msr);
    if (!write) {
        interrupts_read_msr(&w.devices.interrupts, cpu, msr, &value);
        return;
    }
    value = fuzz_take(in, 1 + choice % 8);
    if (msr == 0x6e0 && choice & 1)
        value += w.tsc;
    if (msr == 0x1b && fuzz_below(in, 2))
        value = LAPIC_BASE | (value & 0xd00);
    interrupts_write_msr(&w.devices.interrupts, cpu, msr, value);
}

/* Time goes on, by anything from a tick to years; or up to the next event. */
static void pass_time(struct fuzz_input *in)
{
    unsigned shift = fuzz_below(in, 64);
    struct outlook o = look();
    uint64_t next = min_u64(o.next[0], min_u64(o.next[1], o.next[2]));

    if (shift >= 48 && next != NO_EVENT && next > w.tsc && next < 1ull << 60)
        w.tsc = next - shift % 2;
    else if (w.tsc < 1ull << 60)
        w.tsc += fuzz_take(in, 1) << shift % 44;
}

static void tick(void)
{
    devices_tick(&w.devices);
    MUST(devices_next_event(&w.devices) > w.tsc, "a device's event is due at 0x%llx, at 0x%llx",
         (unsigned long long)devices_next_event(&w.devices), (unsigned long long)w.tsc);
    for (unsigned cpu = 0; cpu < CPUS; cpu++) {
        interrupts_tick(&w.devices.interrupts, cpu);
        MUST(interrupts_next_event(&w.devices.interrupts, cpu) > w.tsc, "the timer of %u is due",
             cpu);
    }
}

static void take_interrupt(unsigned cpu)
{
    int pending = interrupts_pending(&w.devices.interrupts, cpu);
    int taken = interrupts_take(&w.devices.interrupts, cpu);

    MUST(pending == taken, "vector %d is pending, %d is taken", pending, taken);
}

static void take_start(unsigned cpu)
{
    uint8_t page = 0;

    interrupts_take_nmi(&w.devices.interrupts, cpu);
    MUST(!interrupts_take_nmi(&w.devices.interrupts, cpu), "an NMI is taken once");
    for (unsigned n = 0; interrupts_take_start(&w.devices.interrupts, cpu, &page); n++)
        MUST(n < 2, "INIT and SIPI, one at a time");
}

/* A guest whose processor uses the local APIC's page writes to a register there, and exits for it
 * (SDM 3C 30.4.3.2); or ends the interrupt that it serves, by itself. */
static void use_page(struct fuzz_input *in)
{
    static const uint16_t registers[] = {0x80,  0xb0,  0xd0,  0xe0,  0xf0,  0x280, 0x300,
                                         0x310, 0x320, 0x350, 0x360, 0x370, 0x380, 0x3e0};
    unsigned cpu = fuzz_below(in, CPUS), choice = fuzz_below(in, 16);
    struct lapic *lapic = &w.devices.interrupts.lapic[cpu];

    if (!lapic->shared)
        lapic_share(lapic);
    if (lapic->mode != LAPIC_XAPIC)
        return;
    lapic_settle(lapic);
    uint8_t serves = lapic_in_service(lapic);
    if (choice < ARRAY_SIZE(registers)) {
        lapic->page->reg[registers[choice] >> APIC_REGISTER_SHIFT].value =
            (uint32_t)fuzz_take(in, 4);
        interrupts_page_written(&w.devices.interrupts, cpu, registers[choice]);
    } else if (serves) {
        lapic->page->reg[(0x100 >> APIC_REGISTER_SHIFT) + serves / 32].value &=
            ~(1u << serves % 32);
        interrupts_ended(&w.devices.interrupts, cpu, serves);
    }
}

static void outside(struct fuzz_input *in)
{
    static const uint8_t key[] = {'k'};

    switch (fuzz_below(in, 8)) {
    case 0:
        devices_power_button(&w.devices);
        break;
    case 1:
        virtio_console_input(&w.devices.console, (const char *)key, sizeof(key));
        break;
    case 2:
        uart_device_receive(&w.devices.uart, key[0]);
        break;
    case 3:
        devices_work(&w.devices);
        break;
    case 4:
        devices_flush(&w.devices);
        break;
    case 5:
        devices_reset(&w.devices);
        MUST(w.devices.end == DEVICES_RUNNING && !devices_have_work(&w.devices), "after a reset");
        break;
    case 6:
        use_page(in);
        break;
    default:
        interrupts_set_tpr(&w.devices.interrupts, fuzz_below(in, CPUS), (uint8_t)fuzz_take(in, 1));
        break;
    }
}

static void step(struct fuzz_input *in)
{
    unsigned op = fuzz_below(in, 32), cpu = op % CPUS;
    struct outlook before = look();

    memset(w.notified, 0, sizeof(w.notified));
    if (op < 10) {
        access_port(in, op & 2);
    } else if (op < 14) {
        program(in, cpu);
    } else if (op < 18) {
        access_memory(in, cpu, op & 4);
    } else if (op < 23) {
        access_msr(in, cpu, op & 1);
    } else if (op < 26) {
        pass_time(in);
        tick();
        cpu = CPUS; /* each looks when its event has come */
        memset(w.notified, true, sizeof(w.notified));
    } else if (op < 29) {
        take_interrupt(cpu);
    } else if (op < 31) {
        take_start(cpu);
    } else {
        outside(in);
        memset(w.notified, true, sizeof(w.notified));
    }
    check_notified(&before, cpu);
    check_pending();
}

/* --- resets ----------------------------------------------------------------------------------- */

#define READ_MAX 1024u

struct reading {
    uint64_t value[READ_MAX];
    const char *what[READ_MAX];
    unsigned at[READ_MAX], count;
};

static void keep(struct reading *r, const char *what, unsigned at, uint64_t value)
{
    MUST(r->count < READ_MAX, "the room for registers");
    r->what[r->count] = what;
    r->at[r->count] = at;
    r->value[r->count++] = value;
}

/* Registers that time and what outlives a reset have no part in. */
static void read_all(struct reading *r)
{
    static const uint16_t ports[] = {0x21,  0xa1,  0x4d0, 0x4d1, 0x92,  0xcf9, 0x3f9,
                                     0x3fb, 0x3fc, 0x600, 0x602, 0x604, 0xcf8};
    struct virtio *v;

    r->count = 0;
    for (unsigned cpu = 0; cpu < CPUS; cpu++) {
        uint64_t base = 0, value;
        interrupts_read_msr(&w.devices.interrupts, cpu, 0x1b, &base);
        keep(r, "IA32_APIC_BASE", cpu, base);
        for (unsigned at = 0; at < 0x400; at += 16) {
            value = 0;
            mmio_read(&w.devices, cpu, gpa(LAPIC_BASE + at), 4, &value);
            keep(r, "local APIC", at, value);
        }
        keep(r, "pending", cpu, (uint64_t)interrupts_pending(&w.devices.interrupts, cpu));
        keep(r, "next event", cpu, interrupts_next_event(&w.devices.interrupts, cpu));
    }
    for (unsigned index = 0; index < 0x40; index++) {
        uint64_t value = 0;
        mmio_write(&w.devices, 0, gpa(IOAPIC_BASE), 4, index);
        mmio_read(&w.devices, 0, gpa(IOAPIC_BASE + 0x10), 4, &value);
        keep(r, "I/O APIC", index, value);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(ports); i++)
        keep(r, "port", ports[i], pio_read(&w.devices, ports[i], 1));
    for (unsigned i = 0; (v = devices_virtio(&w.devices, i)) != NULL; i++) {
        for (unsigned at = 0; at < 0x120; at += 4)
            keep(r, "virtio", i << 12 | at, virtio_read(v, at, 4));
    }
}

static void check_reset(void)
{
    static struct reading old, fresh;
    uint64_t time = w.tsc;

    devices_reset(&w.devices);
    read_all(&old);
    devices_destroy(&w.devices);
    MUST(w.pages == 0, "%u pages are left", w.pages);
    create(time);
    read_all(&fresh);
    MUST(old.count == fresh.count, "the number of registers");
    for (unsigned i = 0; i < old.count; i++)
        MUST(old.value[i] == fresh.value[i], "%s 0x%x after a reset: 0x%llx, of a new VM: 0x%llx",
             old.what[i], old.at[i], (unsigned long long)old.value[i],
             (unsigned long long)fresh.value[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size};

    create(TIME_AT_START);
    for (unsigned n = 0; n < STEPS_MAX && in.left > 0; n++)
        step(&in);
    check_reset();
    devices_destroy(&w.devices);
    MUST(w.pages == 0, "%u pages are left", w.pages);
    return 0;
}
