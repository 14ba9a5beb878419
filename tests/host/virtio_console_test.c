/* SPDX-License-Identifier: BSD-2-Clause */
/* The virtio console: lines out, bytes in, and no driver that holds the processor. */
#include "hv/dev/virtio_console.h"

#include "tests/host/virtio_driver.h"

enum { RECEIVE, TRANSMIT };

static struct virtio_console device;
static struct test_driver d;
static char output[1 << 16];
static size_t output_length;
static uint64_t output_all; /* bytes, with those that `output` had no room for */

static void collect(const char *text, size_t len)
{
    output_all += len;
    if (len >= sizeof(output) - output_length)
        return;
    memcpy(output + output_length, text, len);
    output_length += len;
    output[output_length] = '\0';
}

static void start(uint64_t seed)
{
    output_length = 0;
    output_all = 0;
    output[0] = '\0';
    driver_init(&d, seed);
    virtio_console_init(&device, &d.dma, &d.irq, "vm", collect);
    d.device = &device.virtio;
}

/* Send `text` in at most `max` segments. */
static void send(const char *text, unsigned max)
{
    struct test_segment segment[VIRTIO_QUEUE_MAX];
    uint32_t len = (uint32_t)strlen(text);
    uint64_t at = allocate(&d, len, 1);
    unsigned count = 0;
    uint16_t head;
    uint32_t used;

    guest_write(&d, at, text, len);
    divide(&d, segment, &count, at, len, max);
    add_request(&d, TRANSMIT, segment, count, count, false);
    notify(&d, TRANSMIT);
    CHECK(take_used(&d, TRANSMIT, &head, &used) && used == 0, "sent");
}

static uint64_t give_buffer(uint32_t len)
{
    uint64_t at = allocate(&d, len, 1);

    add_request(&d, RECEIVE, &(struct test_segment){at, len}, 0, 1, false);
    return at;
}

static void lines_carry_the_name(void)
{
    start(1);
    set_up(&d, 0, 16);
    CHECK(reg(&d, R_DEVICE) == 3 && (offered(&d) & 0xffffff) == 0, "a console of one port");
    set_up(&d, 0, 16);
    send("one\ntw", 1);
    send("o\nthree", 4);
    CHECK(strcmp(output, "vm| one\nvm| two\n") == 0, "%s", output);
    virtio_console_flush(&device);
    CHECK(strcmp(output, "vm| one\nvm| two\nvm+ three\n") == 0, "%s", output);
    CHECK(d.line, "buffers come back by interrupt");
    driver_free(&d);
}

static void input_fills_the_drivers_buffers(void)
{
    char got[16];
    uint16_t head;
    uint32_t used;

    start(2);
    set_up(&d, 0, 16);
    uint64_t first = give_buffer(4), second = give_buffer(16);
    notify(&d, RECEIVE);
    CHECK(!d.line && !take_used(&d, RECEIVE, &head, &used), "nothing came yet");
    CHECK(virtio_console_input(&device, "abcdef", 6) == 6, "taken");
    CHECK(d.line, "by interrupt");
    CHECK(take_used(&d, RECEIVE, &head, &used) && used == 4, "%u bytes", used);
    guest_read(&d, first, got, 4);
    CHECK(memcmp(got, "abcd", 4) == 0, "the first buffer is full");
    CHECK(take_used(&d, RECEIVE, &head, &used) && used == 2, "%u bytes", used);
    guest_read(&d, second, got, 2);
    CHECK(memcmp(got, "ef", 2) == 0, "the second has the rest");
    CHECK(!take_used(&d, RECEIVE, &head, &used), "no third");
    driver_free(&d);
}

/* Buffers that the driver has given, oldest first. */
#define BUFFERS 8u
static struct {
    uint64_t at[BUFFERS];
    unsigned first, count;
} given;

/* Give a buffer of any length, and notify if the device wants to know. */
static void give_some_buffer(uint64_t features)
{
    const struct test_queue *q = &d.queue[RECEIVE];
    unsigned slot = (given.first + given.count++) % BUFFERS;

    given.at[slot] = 0x8000 + 128 * slot;
    add_request(&d, RECEIVE,
                &(struct test_segment){given.at[slot], 1 + (uint32_t)test_below(&d, 100)}, 0, 1,
                false);
    if (!(features & F_EVENT_IDX) ||
        guest_get16(&d, q->used + 4 + 8 * q->size) == (uint16_t)(q->added - 1))
        notify(&d, RECEIVE);
}

/* Bytes of all values, in and out in any portions; the driver is slow or is started anew. Those
 * that the console took arrive, once, in order. */
static void random_input_arrives(uint64_t features)
{
    uint64_t in = 0, out = 0;
    uint16_t head;
    uint32_t used;
    bool full = false;

    for (unsigned n = 0; n < 20000; n++) {
        char text[600];
        size_t len = test_below(&d, sizeof(text));
        if (n % 1000 == 0) {
            forget_allocations(&d);
            set_up(&d, features, BUFFERS);
            given.count = 0;
        }
        for (size_t i = 0; i < len; i++)
            text[i] = (char)(in + i);
        size_t taken = virtio_console_input(&device, text, len);
        in += taken;
        CHECK(taken == len || device.waiting == CONSOLE_BACKLOG, "room was left");
        full |= taken < len;
        while (given.count < BUFFERS && test_below(&d, 12))
            give_some_buffer(features);
        for (; take_used(&d, RECEIVE, &head, &used); given.count--) {
            uint8_t got[128];
            guest_read(&d, given.at[given.first], got, used);
            for (uint32_t b = 0; b < used; b++)
                CHECK(got[b] == (uint8_t)(out + b), "byte %llu", (unsigned long long)(out + b));
            given.first = (given.first + 1) % BUFFERS;
            out += used;
        }
        CHECK(given.count == 0 || in == out, "%llu bytes wait beside a buffer",
              (unsigned long long)(in - out));
    }
    CHECK(full && out > 3000000, "%llu bytes", (unsigned long long)out);
}

static void input_waits_for_a_slow_driver(void)
{
    start(3);
    CHECK(virtio_console_input(&device, "before there is a driver", 24) == 24, "kept");
    virtio_console_reset(&device);
    CHECK(device.waiting == 0, "a reset of the machine forgets it");
    random_input_arrives(0);
    driver_free(&d);
    start(4);
    random_input_arrives(F_EVENT_IDX);
    driver_free(&d);
}

/* 120 segments of the same 200 KiB: a serial line would take half an hour. */
static void work_is_bounded(void)
{
    enum { PIECE = 200 << 10, PIECES = 120 };
    struct test_segment segment[PIECES];
    uint16_t head;
    uint32_t used;
    uint64_t sent = 0;
    unsigned works = 0;

    start(5);
    d.low_used = PIECE;
    set_up(&d, F_INDIRECT, 16);
    memset(d.ram.host, 'x', PIECE);
    memset(d.shadow, 'x', PIECE);
    for (unsigned i = 0; i < PIECES; i++)
        segment[i] = (struct test_segment){0, PIECE};
    add_request(&d, TRANSMIT, segment, PIECES, PIECES, true);
    notify(&d, TRANSMIT);
    for (; virtio_has_work(d.device); works++) {
        CHECK(output_all <= 5000, "%u bytes in one work", (unsigned)output_all);
        sent += output_all;
        output_all = 0;
        virtio_work(d.device);
    }
    sent += output_all;
    CHECK(sent == PIECES * (PIECE / 256) * strlen("vm+ \n") + PIECES * PIECE, "%llu bytes",
          (unsigned long long)sent);
    CHECK(take_used(&d, TRANSMIT, &head, &used), "done");
    CHECK(works == PIECES * (PIECE / 4096), "%u works", works);
    /* Stopped in the middle, another request starts at its beginning. */
    add_request(&d, TRANSMIT, segment, PIECES, PIECES, true);
    notify(&d, TRANSMIT);
    CHECK(virtio_has_work(d.device), "in the middle");
    d.low_used = PIECE;
    d.high_used = 0;
    set_up(&d, 0, 16);
    CHECK(!virtio_has_work(d.device), "a reset leaves no work");
    virtio_console_flush(&device);
    output_length = 0;
    send("whole\n", 2);
    CHECK(strcmp(output, "vm| whole\n") == 0, "%s", output);
    driver_free(&d);
}

/* A request of several works goes out whole and in order. */
static void long_texts_arrive_whole(void)
{
    enum { LONG = 9000 };
    struct test_segment segment[5];
    char text[LONG], joined[LONG + 1] = "";
    unsigned count = 0;
    size_t length = 0;

    start(7);
    set_up(&d, 0, 16);
    uint64_t at = allocate(&d, LONG, 1);
    for (unsigned i = 0; i < LONG; i++)
        text[i] = (char)(test_below(&d, 40) ? 'a' + test_below(&d, 26) : '\n');
    text[LONG - 1] = '\n';
    guest_write(&d, at, text, LONG);
    divide(&d, segment, &count, at, LONG, ARRAY_SIZE(segment));
    add_request(&d, TRANSMIT, segment, count, count, false);
    notify(&d, TRANSMIT);
    CHECK(virtio_has_work(d.device), "more than one work");
    while (virtio_has_work(d.device))
        virtio_work(d.device);
    for (char *line = output; *line;) {
        size_t bytes = strcspn(line, "\n") + 1;
        memcpy(joined + length, line + strlen("vm| "), bytes - strlen("vm| "));
        length += bytes - strlen("vm| ") - (line[2] == '+');
        line += bytes;
    }
    CHECK(length == LONG && memcmp(joined, text, LONG) == 0, "%zu bytes", length);
    driver_free(&d);
}

/* Descriptors of the other direction: no data, no harm. */
static void wrong_directions_are_empty(void)
{
    uint16_t head;
    uint32_t used;

    start(6);
    set_up(&d, 0, 8);
    virtio_console_input(&device, "abc", 3);
    add_request(&d, RECEIVE, &(struct test_segment){0x100, 8}, 1, 1, false);
    uint64_t at = give_buffer(8);
    notify(&d, RECEIVE);
    CHECK(take_used(&d, RECEIVE, &head, &used) && used == 0, "nothing goes to what is read");
    CHECK(take_used(&d, RECEIVE, &head, &used) && used == 3, "the next one has it");
    char got[3];
    guest_read(&d, at, got, 3);
    CHECK(memcmp(got, "abc", 3) == 0, "whole");
    add_request(&d, TRANSMIT, &(struct test_segment){0x100, 8}, 0, 1, false);
    notify(&d, TRANSMIT);
    CHECK(take_used(&d, TRANSMIT, &head, &used) && used == 0 && output_all == 0, "nothing sent");
    driver_free(&d);
}

int main(void)
{
    RUN(lines_carry_the_name);
    RUN(input_fills_the_drivers_buffers);
    RUN(input_waits_for_a_slow_driver);
    RUN(work_is_bounded);
    RUN(long_texts_arrive_whole);
    RUN(wrong_directions_are_empty);
    return test_status();
}
