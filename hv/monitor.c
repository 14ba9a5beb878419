/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * See monitor.h: keys, and the line that they are edited in.
 *
 * Prompt and echo go out as a VM's output does (console.h), by the name "twofold", which no VM can
 * have: so other lines can come at any time, and scripts/run puts the pieces together.
 */
#include "hv/monitor.h"

#include "hv/arch.h"
#include "hv/console.h"
#include "hv/dev/lines.h"
#include "hv/monitor_command.h"

#define PROMPT "twofold> "

#define KEYS_PER_POLL  256u /* whoever sends more does not keep the guests waiting */
#define LINE_ROOM      96u
#define ANSWER_SECONDS 2u /* after which the prompt comes without an answer */

enum key {
    CTRL_A = 0x01,
    CTRL_C = 0x03,
    CTRL_D = 0x04,
    BACKSPACE = 0x08,
    LINE_FEED = 0x0a,
    RETURN = 0x0d,
    CTRL_U = 0x15,
    ESCAPE = 0x1b,
    DELETE = 0x7f,
};

/* A terminal's arrows and the like: ESC [ or ESC O, and bytes up to a letter or ~ (ECMA-48 5.4). */
enum sequence { NO_SEQUENCE, AFTER_ESCAPE, IN_SEQUENCE };

static struct monitor monitor;
static struct {
    bool escaped;  /* the last key was Ctrl-A */
    bool open;     /* keys are for the line */
    bool shown;    /* prompt and line are on the console; else they wait for an answer */
    bool returned; /* the last key was Return: a line feed belongs to it */
    enum sequence sequence;
    unsigned length;
    char text[LINE_ROOM + 1];
    uint64_t give_up_at; /* TSC */
    struct lines echo;
} line;

/* --- the line on the console ------------------------------------------------------------------ */

static void echo(const char *text)
{
    for (; *text && line.shown; text++)
        lines_add(&line.echo, (uint8_t)*text);
    lines_flush(&line.echo);
}

static void show(void)
{
    line.shown = true;
    line.text[line.length] = '\0';
    if (!line.echo.output)
        lines_init(&line.echo, "twofold", console_write);
    for (const char *c = PROMPT; *c; c++)
        lines_add(&line.echo, (uint8_t)*c);
    echo(line.text);
}

static void end_shown(void)
{
    if (!line.shown)
        show();
    echo("\n");
    line.shown = false;
}

static void open_line(void)
{
    if (line.open)
        end_shown();
    line.open = true;
    line.length = 0;
    line.sequence = NO_SEQUENCE;
    line.returned = false;
    monitor.quit = false;
    monitor.asked = NULL;
    show();
}

static void leave(void)
{
    line.open = false;
    line.length = 0;
}

/* The prompt comes when the answer has, so that it stands below it. */
static void expect_answer(void)
{
    line.give_up_at = time_now() + ANSWER_SECONDS * time_hz();
}

static void look_for_answer(void)
{
    if (line.open && !line.shown &&
        (monitor_is_answered(&monitor) || time_now() >= line.give_up_at))
        show();
}

/* --- editing ---------------------------------------------------------------------------------- */

static void run_line(void)
{
    unsigned length = line.length;

    end_shown();
    line.text[length] = '\0';
    line.length = 0;
    monitor.quit = length == 0;
    monitor.asked = NULL;
    monitor_command(&monitor, line.text);
    if (monitor.quit)
        leave();
    else
        expect_answer();
}

static void rub_out(void)
{
    line.length--;
    echo("\b \b");
}

static bool is_in_sequence(uint8_t key)
{
    switch (line.sequence) {
    case AFTER_ESCAPE:
        line.sequence = key == '[' || key == 'O' ? IN_SEQUENCE : NO_SEQUENCE;
        return line.sequence == IN_SEQUENCE;
    case IN_SEQUENCE:
        if (key < ' ' || (key >= '@' && key <= '~')) /* cut off, or its final byte */
            line.sequence = NO_SEQUENCE;
        return key >= ' ';
    default:
        return false;
    }
}

static void edit(uint8_t key)
{
    bool after_return = line.returned;

    line.returned = key == RETURN;
    if (is_in_sequence(key))
        return;
    switch (key) {
    case LINE_FEED:
        if (after_return)
            return;
        run_line();
        return;
    case RETURN:
        run_line();
        return;
    case BACKSPACE:
    case DELETE:
        if (line.length > 0)
            rub_out();
        return;
    case CTRL_U:
        while (line.length > 0)
            rub_out();
        return;
    case CTRL_C:
    case CTRL_D:
        end_shown();
        leave();
        return;
    case ESCAPE:
        line.sequence = AFTER_ESCAPE;
        return;
    default:
        break;
    }
    if (key < ' ' || key >= DELETE || line.length == LINE_ROOM)
        return;
    line.text[line.length++] = (char)key;
    echo((char[]){(char)key, '\0'});
}

/* --- keys ------------------------------------------------------------------------------------- */

static void send(uint8_t key)
{
    struct vm *vm = monitor_keyboard(&monitor);

    if (vm) /* what does not fit is lost, as on a line without flow control */
        (void)vm_input(vm, key);
}

static void quick_command(uint8_t key)
{
    bool was_open = line.open;

    if (was_open)
        end_shown();
    monitor.asked = NULL;
    if (!monitor_quick_command(&monitor, (char)key))
        log_line("Ctrl-A h shows what there is");
    if (was_open)
        expect_answer();
}

static void take(uint8_t key)
{
    bool escaped = line.escaped;

    line.escaped = key == CTRL_A && !escaped;
    if (line.escaped)
        return;
    if (escaped && (key == 'c' || key == ':'))
        open_line();
    else if (escaped && key != CTRL_A)
        quick_command(key);
    else if (line.open)
        edit(key);
    else
        send(key);
}

void monitor_poll(void)
{
    bool held = console_hold(true); /* answers may be long */

    for (unsigned n = 0; n < KEYS_PER_POLL; n++) {
        int key = console_read();
        if (key < 0)
            break;
        take((uint8_t)key);
    }
    look_for_answer();
    console_hold(held);
}
