/* SPDX-License-Identifier: BSD-2-Clause */
/* A VM's ports as drivers use them: the UART, the two ends, and ports that nothing answers. */
#include <string.h>

#include "hv/dev/mmio.h"
#include "hv/dev/pio.h"
#include "hv/loader.h"
#include "tests/host/test.h"

static struct vm_devices devices;
static char output[8192];
static size_t output_length;

static void collect(const char *text, size_t len)
{
    memcpy(output + output_length, text, len);
    output_length += len;
    output[output_length] = '\0';
}

static uint64_t tsc;

static uint64_t now(void *context)
{
    (void)context;
    return tsc;
}

static void notify(void *context, unsigned cpu)
{
    (void)context, (void)cpu;
}

static const struct devices_host host = {.now = now, .notify = notify};
static struct lapic_page pages[2];
static const struct guest_ram ram = {.low = MIB(64)};

static void reset(void)
{
    output_length = 0;
    output[0] = '\0';
    devices_init(&devices, &(struct devices_config){.name = "vm",
                                                    .output = collect,
                                                    .cpus = 2,
                                                    .lapic_pages = pages,
                                                    .tsc_hz = 1000000000,
                                                    .apic_ratio = 1,
                                                    .physical_bits = 40,
                                                    .ram = &ram,
                                                    .host = &host});
}

static void out(uint16_t port, uint8_t value)
{
    pio_write(&devices, port, 1, value);
}

static uint8_t in(uint16_t port)
{
    return (uint8_t)pio_read(&devices, port, 1);
}

static void send(const char *text)
{
    while (*text) {
        CHECK(in(0x3fd) & 0x20, "the transmitter must be empty");
        out(0x3f8, (uint8_t)*text++);
    }
}

static void lines_carry_the_name(void)
{
    reset();
    send("one\ntwo\r\nthr");
    CHECK(strcmp(output, "vm| one\nvm| two\r\n") == 0, "%s", output);
    devices_flush(&devices);
    devices_flush(&devices);
    CHECK(strcmp(output, "vm| one\nvm| two\r\nvm+ thr\n") == 0, "%s", output);
}

/* Long lines go in pieces; put together they are what was sent. */
static void long_lines_go_in_pieces(void)
{
    char sent[1000], joined[2000] = "";
    size_t length = 0;

    reset();
    memset(sent, 'x', sizeof(sent));
    sent[999] = '\0';
    sent[998] = '\n';
    send(sent);
    for (char *line = output; *line;) {
        char *end = strchr(line, '\n');
        size_t text = (size_t)(end - line) - 4;
        CHECK(memcmp(line, "vm| ", 4) == 0 || memcmp(line, "vm+ ", 4) == 0, "%.10s", line);
        memcpy(joined + length, line + 4, text);
        length += text;
        if (line[2] == '|')
            joined[length++] = '\n';
        line = end + 1;
    }
    CHECK(length == 999 && memcmp(joined, sent, length) == 0, "%zu bytes", length);
}

/* The presence test of a PC's 8250 drivers, then the FIFO's. */
static void drivers_find_a_16550a(void)
{
    reset();
    out(0x3f9, 0);
    CHECK(in(0x3f9) == 0, "IER");
    out(0x3f9, 0xff);
    CHECK(in(0x3f9) == 0x0f, "IER keeps 4 bits: 0x%x", in(0x3f9));
    out(0x3f9, 0);
    for (unsigned v = 0; v < 256; v += 5) {
        out(0x3ff, (uint8_t)v);
        CHECK(in(0x3ff) == v, "scratch register");
    }
    out(0x3fc, 0x10 | 0x0a);
    CHECK((in(0x3fe) & 0xf0) == 0x90, "loop-back: MSR is 0x%x", in(0x3fe));
    out(0x3fc, 0);
    CHECK((in(0x3fa) & 0xc0) == 0, "IIR before FIFOs");
    out(0x3fa, 0x07);
    CHECK((in(0x3fa) & 0xc0) == 0xc0, "IIR with FIFOs: a 16550A");
    CHECK(in(0x3fa) == 0xc1, "no interrupt is pending");
    out(0x3f9, 0x02);
    CHECK(in(0x3fa) == 0xc2, "transmitter empty");
}

static void the_divisor_hides_behind_dlab(void)
{
    reset();
    out(0x3fb, 0x83);
    out(0x3f8, 0x0c);
    out(0x3f9, 0x01);
    CHECK(in(0x3f8) == 0x0c && in(0x3f9) == 0x01, "divisor");
    out(0x3fb, 0x03);
    CHECK(in(0x3fb) == 0x03 && in(0x3f9) == 0, "IER behind it");
    CHECK(output_length == 0, "the divisor went out as text");
}

static void loop_back_returns_what_is_sent(void)
{
    reset();
    out(0x3fa, 0x01);
    out(0x3fc, 0x10);
    for (unsigned i = 0; i < 16; i++)
        out(0x3f8, (uint8_t)(0x40 + i));
    CHECK(!(in(0x3fd) & 0x02), "no overrun yet");
    out(0x3f8, 0x99);
    CHECK(in(0x3fd) & 0x02, "overrun");
    CHECK(!(in(0x3fd) & 0x02), "reading LSR clears it");
    for (unsigned i = 0; i < 16; i++) {
        CHECK(in(0x3fd) & 0x01, "data ready");
        CHECK(in(0x3f8) == 0x40 + i, "byte %u", i);
    }
    CHECK(!(in(0x3fd) & 0x01) && output_length == 0, "empty");
}

static void the_debug_exit_ends(void)
{
    reset();
    pio_write(&devices, 0xf4, 4, 21);
    CHECK(devices.end == DEVICES_EXITED && devices.status == 43, "%d", devices.status);
    reset();
    pio_write(&devices, 0xf4, 1, 0xff);
    CHECK(devices.status == 0xff, "%d", devices.status);
}

static void the_shutdown_word_ends(void)
{
    reset();
    for (const char *c = "ShutdowShutdownx"; *c; c++) {
        CHECK((devices.end == DEVICES_SHUTDOWN) == (c[0] == 'x'), "at %s", c);
        out(0x8900, (uint8_t)*c);
    }
    reset();
    for (const char *c = "Shutdow"; *c; c++)
        out(0x8900, (uint8_t)*c);
    out(0x8901, 'n');
    CHECK(devices.end == DEVICES_RUNNING, "another port does not count");
}

static void the_first_end_counts(void)
{
    reset();
    out(0xcf9, 0x06);
    out(0xf4, 3);
    CHECK(devices.end == DEVICES_RESET && devices.status == 0, "%d", devices.end);
}

/* Each of the ways by which PCs are reset, and what does not do it. */
static void guests_reset_their_machine(void)
{
    reset();
    out(0xcf9, 0x02);
    CHECK(devices.end == DEVICES_RUNNING && in(0xcf9) == 0x02, "the kind of reset alone");
    out(0xcf9, 0x06);
    CHECK(devices.end == DEVICES_RESET, "port 0xcf9");
    devices_reset(&devices);
    CHECK(devices.end == DEVICES_RUNNING && in(0xcf9) == 0, "the reset is done");
    out(0x92, 0x02);
    CHECK(devices.end == DEVICES_RUNNING && in(0x92) == 0x02, "A20 is kept");
    out(0x92, 0x03);
    CHECK(devices.end == DEVICES_RESET, "port 0x92");
    devices_reset(&devices);
    out(0x64, 0xd1);
    CHECK(devices.end == DEVICES_RUNNING && in(0x64) == 0xff, "no keyboard controller");
    out(0x64, 0xfe);
    CHECK(devices.end == DEVICES_RESET, "port 0x64");
}

static bool answers(unsigned port)
{
    static const struct {
        unsigned first, last;
    } ranges[] = {{0x20, 0x21}, {0x40, 0x43},   {0x61, 0x61},   {0x70, 0x71},   {0x92, 0x92},
                  {0xa0, 0xa1}, {0x3f8, 0x3ff}, {0x4d0, 0x4d1}, {0x600, 0x60b}, {0xcf8, 0xcff}};

    for (unsigned i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
        if (port >= ranges[i].first && port <= ranges[i].last)
            return true;
    }
    return false;
}

static void nothing_answers_elsewhere(void)
{
    reset();
    for (unsigned port = 0; port < 0x10000; port++) {
        if (!answers(port))
            CHECK(pio_read(&devices, (uint16_t)port, 1) == 0xff, "port 0x%x", port);
        if (!answers(port) && !answers(port + 1) && !answers(port + 2) && !answers(port + 3)) {
            CHECK(pio_read(&devices, (uint16_t)port, 2) == 0xffff, "port 0x%x", port);
            CHECK(pio_read(&devices, (uint16_t)port, 4) == 0xffffffff, "port 0x%x", port);
        }
    }
    out(0x3ff, 0x42);
    CHECK(pio_read(&devices, 0x3ff, 2) == 0xff42, "a wide access is one to each register");
    pio_write(&devices, 0x4cf, 4, 0x00100800);
    CHECK(in(0x4d0) == 0x08 && in(0x4d1) == 0x10, "each byte goes to its own device");
}

/* Interrupts of the timer, the UART and the clock come out where a PC has them. */
static void wires_are_a_pcs(void)
{
    reset();
    CHECK(!(in(0x20) & 0x11) && !(in(0xa0) & 1), "all quiet");
    out(0x43, 0x10); /* counter 0, mode 0: its output falls */
    out(0x43, 0x14); /* mode 2: it rises */
    CHECK(in(0x20) & 0x01, "IRQ 0");
    out(0x3fc, 0x08);
    out(0x3f9, 0x02);
    CHECK(in(0x20) & 0x10, "IRQ 4");
    CHECK(!(in(0xa0) & 1), "IRQ 8");
    out(0x70, 0x0b);
    out(0x71, 0x42);
    devices.rtc.cmos[0x0c] = 0x40;
    out(0x70, 0x0b);
    out(0x71, 0x42);
    CHECK(in(0xa0) & 1, "IRQ 8");
}

/* The local APIC answers to its own processor, the I/O APIC to all. */
static void memory_is_dispatched(void)
{
    uint64_t value = 0;

    reset();
    CHECK(mmio_read(&devices, 0, gpa(0xfee00020), 4, &value) && value == 0, "ID of 0");
    CHECK(mmio_read(&devices, 1, gpa(0xfee00020), 4, &value) && value == 1u << 24, "ID of 1");
    CHECK(mmio_write(&devices, 0, gpa(0xfec00000), 4, 1), "IOREGSEL");
    CHECK(mmio_read(&devices, 1, gpa(0xfec00010), 4, &value) && value == 0x170020, "version");
    CHECK(!mmio_read(&devices, 0, gpa(0xfee01000), 4, &value), "behind it");
    CHECK(!mmio_read(&devices, 0, gpa(0xfee00ffe), 4, &value), "over the end");
    CHECK(!mmio_write(&devices, 0, gpa(0xfebffffe), 4, 0), "over the start");
    CHECK(!mmio_read(&devices, 0, gpa(~0ull), 1, &value), "the last byte");
    CHECK(interrupts_write_msr(&devices.interrupts, 0, 0x1b, 0xe0000900), "it moves");
    CHECK(!mmio_read(&devices, 0, gpa(0xfee00020), 4, &value), "gone from there");
    CHECK(mmio_read(&devices, 0, gpa(0xe0000030), 4, &value) && value == 0x01050014, "here");
    CHECK(mmio_read(&devices, 1, gpa(0xfee00030), 4, &value), "the other one has not moved");
}

/* A reset leaves the time, the CMOS RAM and what waits for the UART alone. */
static void a_reset_keeps_what_has_a_battery(void)
{
    reset();
    out(0x70, 0x40);
    out(0x71, 0x77);
    out(0x3f9, 0x0f);
    out(0x21, 0);
    uart_device_receive(&devices.uart, 'a');
    uart_device_receive(&devices.uart, 'b');
    devices_reset(&devices);
    CHECK(in(0x3f9) == 0 && in(0x21) == 0xfb, "registers are as after power-on");
    CHECK(in(0x3f8) == 'b', "the first was in the receiver, the second waited");
    out(0x70, 0x40);
    CHECK(in(0x71) == 0x77, "CMOS RAM");
    CHECK(devices_next_event(&devices) == NO_EVENT, "no timer runs");
}

/* One access of a guest that tries everything: mostly where something is. */
static void try_something(uint64_t *random)
{
    static const uint16_t ports[] = {0x20,  0x40,  0x60,  0x70,  0x92, 0xa0,
                                     0x3f8, 0x4d0, 0x600, 0xcf8, 0xf4, 0x8900};
    static const uint64_t places[] = {0xfee00000, 0xfec00000, 0xd0000000, 0xfee00380};
    static const uint64_t timer[] = {0xfee00320, 0xfee00380, 0xfee003e0};
    unsigned cpu = (unsigned)(test_random(random) % 2);
    unsigned bytes = 1u << test_random(random) % 3;
    uint16_t port = (uint16_t)(ports[test_random(random) % 12] + test_random(random) % 8);
    gpa_t at = gpa(places[test_random(random) % 4] + (test_random(random) % 0x400 & ~15ull));
    if (test_random(random) % 4 == 0)
        at = gpa(timer[test_random(random) % 3]);
    uint32_t msr = 0x800 + (uint32_t)(test_random(random) % 0x40);
    uint64_t value = test_random(random) >> test_random(random) % 64;

    switch (test_random(random) % 8) {
    case 0:
        pio_read(&devices, port, bytes);
        return;
    case 1:
    case 2:
        pio_write(&devices, port, bytes, (uint32_t)value);
        return;
    case 3:
        mmio_read(&devices, cpu, at, bytes * 2, &value);
        return;
    case 4:
        mmio_write(&devices, cpu, at, test_random(random) % 4 ? 4 : bytes * 2, value);
        return;
    case 5:
        msr = test_random(random) % 4 == 0 ? 0x6e0 : test_random(random) % 64 == 0 ? 0x1b : msr;
        if (test_random(random) % 2)
            interrupts_read_msr(&devices.interrupts, cpu, msr, &value);
        else
            interrupts_write_msr(&devices.interrupts, cpu, msr, value);
        return;
    case 6:
        uart_device_receive(&devices.uart, (uint8_t)value);
        return;
    default:
        interrupts_take(&devices.interrupts, cpu);
        return;
    }
}

/* What a guest does harms nothing, and no timer's next event is where it was after it was served.
 */
static void guests_may_try_everything(void)
{
    uint64_t random = 99;

    for (unsigned i = 0; i < 300000; i++) {
        if (i % 3000 == 0) {
            tsc = test_random(&random) >> 16;
            reset();
            for (unsigned cpu = 0; cpu < 2; cpu++)
                mmio_write(&devices, cpu, gpa(0xfee000f0), 4, 0x1ff);
        }
        output_length = 0;
        try_something(&random);
        if (devices.end != DEVICES_RUNNING)
            devices_reset(&devices);
        tsc += test_random(&random) >> (20 + test_random(&random) % 44);
        devices_tick(&devices);
        CHECK(devices_next_event(&devices) > tsc, "operation %u: a device's event has passed", i);
        for (unsigned cpu = 0; cpu < 2; cpu++) {
            interrupts_tick(&devices.interrupts, cpu);
            CHECK(interrupts_next_event(&devices.interrupts, cpu) > tsc,
                  "operation %u: a processor's event has passed", i);
        }
    }
    tsc = 0;
}

int main(void)
{
    RUN(lines_carry_the_name);
    RUN(long_lines_go_in_pieces);
    RUN(drivers_find_a_16550a);
    RUN(the_divisor_hides_behind_dlab);
    RUN(loop_back_returns_what_is_sent);
    RUN(the_debug_exit_ends);
    RUN(the_shutdown_word_ends);
    RUN(the_first_end_counts);
    RUN(guests_reset_their_machine);
    RUN(nothing_answers_elsewhere);
    RUN(wires_are_a_pcs);
    RUN(memory_is_dispatched);
    RUN(a_reset_keeps_what_has_a_battery);
    RUN(guests_may_try_everything);
    return test_status();
}
