/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The hypervisor's console: whole lines, to every sink that the machine has (UART, screen).
 *
 * These lines share it, and scripts/run takes them apart again:
 *
 *   twofold: TEXT     the hypervisor speaks
 *   NAME| TEXT        a line that the VM called NAME wrote
 *   NAME+ TEXT        the same, but the VM has not ended the line yet
 *   twofold| , twofold+   the monitor's prompt and what is typed, in the same way
 *   @KIND {...}       a record for programs: one JSON object (see docs/output.md)
 *
 * Each call writes all of its text before another processor's gets its turn. What is made of
 * several calls goes between console_begin and console_end.
 */
#ifndef HV_CONSOLE_H
#define HV_CONSOLE_H

#include <stdbool.h>
#include <stddef.h>

/* A sink writes `len` bytes; '\n' ends a line (a sink adds '\r' if its device wants one). */
typedef void console_sink(const char *text, size_t len);

/* At most CONSOLE_SINKS_MAX; further ones are refused by a panic. */
#define CONSOLE_SINKS_MAX 4
void console_add_sink(console_sink *sink);
bool console_is_open(void); /* it has a sink */

/*
 * A sink whose device is slow need not keep a processor waiting: while text is held it queues what
 * it gets, and sends it as its device takes it, in console_service. That is for the boot processor
 * to call as long as it says that text is left. While text is not held, whoever writes waits until
 * all is sent, what was held before included.
 */
enum console_hold { CONSOLE_AT_ONCE, CONSOLE_HELD, CONSOLE_SEIZED };
void console_set_slow_sink(void (*hold)(enum console_hold how), bool (*service)(void));
bool console_hold(bool on); /* what it was */
bool console_service(void);

/* Where keys come from: the next byte, or -1. One source; without it console_read gives -1. */
typedef int console_source(void);
void console_set_source(console_source *source);
int console_read(void); /* also -1 while another processor reads */

/* Keep the console for this processor. May nest. */
void console_begin(void);
void console_end(void);

/* For an NMI handler, which must not wait: console_begin if no other processor has the console,
 * and false if one has. */
bool console_try_begin(void);

/* For a panic: the console is this processor's from now on, whoever had it. The others must have
 * stopped, or their text is mixed in. */
void console_seize(void);

/* Bytes as they are, to all sinks, in one piece. */
void console_write(const char *text, size_t len);

/* printf to all sinks, no prefix, no newline added. Longer than 512 bytes is cut. */
__attribute__((format(printf, 1, 2))) void console_printf(const char *format, ...);

/* One line "twofold: ..." with its newline. */
__attribute__((format(printf, 1, 2))) void log_line(const char *format, ...);

#endif
