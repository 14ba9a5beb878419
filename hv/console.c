/* SPDX-License-Identifier: BSD-2-Clause */
/* See console.h. */
#include "hv/console.h"

#include <stdarg.h>
#include <stdio.h>

#include "hv/arch.h"
#include "hv/lock.h"
#include "hv/watchdog.h"

#define LINE_MAX 512
#define NOBODY   (~0u)

/*
 * For the sinks. The owner is the index of the processor that holds it; only that one changes
 * `depth`, the number of its console_begin that have not ended. An NMI may come between any two
 * steps, so there is an owner only while the lock is held and the depth is not 0.
 */
static struct lock lock;
static unsigned owner = NOBODY;
static unsigned depth;
static bool seized;

static struct lock read_lock;

static console_sink *sinks[CONSOLE_SINKS_MAX];
static unsigned sink_count;

void console_add_sink(console_sink *sink)
{
    if (sink_count == CONSOLE_SINKS_MAX)
        panic("console: more than %d sinks", CONSOLE_SINKS_MAX);
    sinks[sink_count++] = sink;
}

bool console_is_open(void)
{
    return sink_count > 0;
}

static struct {
    void (*hold)(enum console_hold how);
    bool (*service)(void);
    bool is_held;
} slow;

void console_set_slow_sink(void (*hold)(enum console_hold how), bool (*service)(void))
{
    slow.hold = hold;
    slow.service = service;
}

bool console_hold(bool on)
{
    bool before = slow.is_held;

    slow.is_held = on;
    if (slow.hold)
        slow.hold(on ? CONSOLE_HELD : CONSOLE_AT_ONCE);
    return before;
}

bool console_service(void)
{
    return slow.service && slow.service();
}

static console_source *key_source;

void console_set_source(console_source *source)
{
    key_source = source;
}

int console_read(void)
{
    if (!key_source || !lock_try(&read_lock))
        return -1;
    int key = key_source();
    lock_release(&read_lock);
    return key;
}

/* --- whose turn it is ------------------------------------------------------------------------- */

/* No other processor ever writes this one's index, so the answer holds. */
static bool is_mine(void)
{
    return __atomic_load_n(&owner, __ATOMIC_RELAXED) == processor_index();
}

static void begin(bool taken)
{
    depth++;
    if (taken)
        __atomic_store_n(&owner, processor_index(), __ATOMIC_RELEASE);
}

void console_begin(void)
{
    bool take = !seized && !is_mine();

    if (take)
        lock_take(&lock);
    begin(take);
}

bool console_try_begin(void)
{
    bool take = !seized && !is_mine();

    if (take && !lock_try(&lock))
        return false;
    begin(take);
    return true;
}

void console_end(void)
{
    if (depth > 1 || seized) {
        depth--;
        return;
    }
    __atomic_store_n(&owner, NOBODY, __ATOMIC_RELAXED);
    __atomic_store_n(&depth, 0, __ATOMIC_RELEASE);
    lock_release(&lock);
}

void console_seize(void)
{
    seized = true;
    if (slow.hold)
        slow.hold(CONSOLE_SEIZED);
}

/* --- text ------------------------------------------------------------------------------------- */

void console_write(const char *text, size_t len)
{
    console_begin();
    watchdog_beat(); /* a long report at a slow UART */
    for (unsigned i = 0; i < sink_count; i++)
        sinks[i](text, len);
    console_end();
}

/* The length that vsnprintf really stored, given what it returned. */
static size_t stored_length(int wanted, size_t room)
{
    if (wanted < 0)
        return 0;
    return (size_t)wanted < room ? (size_t)wanted : room - 1;
}

void console_printf(const char *format, ...)
{
    char line[LINE_MAX];
    va_list args;

    va_start(args, format);
    int wanted = vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    console_write(line, stored_length(wanted, sizeof(line)));
}

void log_line(const char *format, ...)
{
    char line[LINE_MAX];
    va_list args;

    va_start(args, format);
    int wanted = vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    console_begin();
    console_write("twofold: ", 9);
    console_write(line, stored_length(wanted, sizeof(line)));
    console_write("\n", 1);
    console_end();
}
