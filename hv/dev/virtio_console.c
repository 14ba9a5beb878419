/* SPDX-License-Identifier: BSD-2-Clause */
/* See virtio_console.h. */
#include "hv/dev/virtio_console.h"

/* Sinks may be as slow as a serial line: a work sends so many bytes, and goes on in the middle of
 * a request the next time. */
#define CONSOLE_BUDGET 4096u

enum { RECEIVE_QUEUE, TRANSMIT_QUEUE, CONSOLE_QUEUES };

/* Move input into the next receive buffer, as much as it holds. */
static uint64_t serve_receive(struct virtio_console *console)
{
    struct virtio *v = &console->virtio;

    if (console->waiting == 0 || !virtio_next(v, RECEIVE_QUEUE))
        return 0;
    struct virtio_cursor to = virtio_writable(v);
    uint32_t bytes = (uint32_t)min_u64(v->chain.writable_bytes, console->waiting);
    for (uint32_t done = 0; done < bytes;) {
        uint32_t piece = (uint32_t)min_u64(bytes - done, CONSOLE_BACKLOG - console->first);
        virtio_copy_to(v, &to, console->backlog + console->first, piece);
        console->first = (uint32_t)((console->first + piece) % CONSOLE_BACKLOG);
        console->waiting -= piece;
        done += piece;
    }
    virtio_complete(v, RECEIVE_QUEUE, bytes);
    return 1 + bytes;
}

/*
 * Send a part of the request at the head. It stays there until all of it is sent; the driver, which
 * must not change it meanwhile, can by doing so only garble its own output.
 */
static uint64_t serve_transmit(struct virtio_console *console)
{
    struct virtio *v = &console->virtio;
    uint32_t *sent = &v->queue[TRANSMIT_QUEUE].progress;
    struct virtio_cursor from = {0};
    char text[256];

    if (!virtio_next(v, TRANSMIT_QUEUE))
        return 0;
    *sent = (uint32_t)min_u64(*sent, v->chain.readable_bytes);
    virtio_skip(v, &from, *sent);
    uint32_t bytes = (uint32_t)min_u64(v->chain.readable_bytes - *sent, sizeof(text));
    virtio_copy_from(v, &from, text, bytes);
    for (uint32_t i = 0; i < bytes; i++)
        lines_add(&console->lines, (uint8_t)text[i]);
    *sent += bytes;
    if (*sent == v->chain.readable_bytes)
        virtio_complete(v, TRANSMIT_QUEUE, 0);
    return 1 + bytes;
}

static uint64_t serve(void *device, unsigned queue)
{
    return queue == RECEIVE_QUEUE ? serve_receive(device) : serve_transmit(device);
}

static const struct virtio_ops console_ops = {
    .device_id = VIRTIO_ID_CONSOLE,
    .queues = CONSOLE_QUEUES,
    .budget = CONSOLE_BUDGET,
    .serve = serve,
};

void virtio_console_init(struct virtio_console *console, const struct dma *dma,
                         const struct irq_line *irq, const char *name, line_output *output)
{
    virtio_init(&console->virtio, &console_ops, console, dma, irq);
    lines_init(&console->lines, name, output);
    console->first = console->waiting = 0;
}

void virtio_console_reset(struct virtio_console *console)
{
    console->first = console->waiting = 0;
    virtio_reset(&console->virtio);
}

size_t virtio_console_input(struct virtio_console *console, const char *text, size_t len)
{
    size_t taken = 0;

    for (; taken < len && console->waiting < CONSOLE_BACKLOG; taken++) {
        console->backlog[(console->first + console->waiting) % CONSOLE_BACKLOG] = text[taken];
        console->waiting++;
    }
    virtio_kick(&console->virtio, RECEIVE_QUEUE);
    return taken;
}

void virtio_console_flush(struct virtio_console *console)
{
    lines_flush(&console->lines);
}
