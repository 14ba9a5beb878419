/* SPDX-License-Identifier: BSD-2-Clause */
/* A VM's ports as drivers use them: the UART, the two ends, and ports that nothing answers. */
#include <string.h>

#include "hv/dev/pio.h"
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

static uint64_t now(void *context)
{
    (void)context;
    return 0;
}

static const struct devices_host host = {.now = now};

static void reset(void)
{
    output_length = 0;
    output[0] = '\0';
    devices_init(
        &devices,
        &(struct devices_config){
            .name = "vm", .output = collect, .cpus = 1, .tsc_hz = 1000000000, .host = &host});
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

static void received_bytes_wait_in_the_fifo(void)
{
    reset();
    CHECK(uart_device_receive(&devices.uart, 'a'), "first");
    CHECK(!uart_device_receive(&devices.uart, 'b'), "one byte without FIFOs");
    CHECK(in(0x3f8) == 'a', "data");
    out(0x3fa, 0x01);
    uart_device_receive(&devices.uart, 'c');
    out(0x3fa, 0x03);
    CHECK(!(in(0x3fd) & 1), "FCR clears the receiver");
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

static void nothing_answers_elsewhere(void)
{
    reset();
    for (unsigned port = 0; port < 0x10000; port++) {
        if (port >= 0x3f8 - 3 && port <= 0x3ff)
            continue;
        CHECK(pio_read(&devices, (uint16_t)port, 1) == 0xff, "port 0x%x", port);
        CHECK(pio_read(&devices, (uint16_t)port, 2) == 0xffff, "port 0x%x", port);
        CHECK(pio_read(&devices, (uint16_t)port, 4) == 0xffffffff, "port 0x%x", port);
    }
    out(0x3ff, 0x42);
    CHECK(pio_read(&devices, 0x3ff, 2) == 0xff42, "a wide access is one to each register");
}

int main(void)
{
    RUN(lines_carry_the_name);
    RUN(long_lines_go_in_pieces);
    RUN(drivers_find_a_16550a);
    RUN(the_divisor_hides_behind_dlab);
    RUN(loop_back_returns_what_is_sent);
    RUN(received_bytes_wait_in_the_fifo);
    RUN(the_debug_exit_ends);
    RUN(the_shutdown_word_ends);
    RUN(nothing_answers_elsewhere);
    return test_status();
}
