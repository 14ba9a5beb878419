/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Five VMs and a console for the monitor: stand-ins that write down what comes. For the host test
 * and the fuzzer.
 */
#ifndef TESTS_HOST_MONITOR_WORLD_H
#define TESTS_HOST_MONITOR_WORLD_H

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "hv/arch.h"
#include "hv/console.h"
#include "hv/guest_paging.h"
#include "hv/monitor.h"

#define HZ 1000u

/* --- stand-ins -------------------------------------------------------------------------------- */

enum { ALPHA, ALBUM, BETA, NESTED, LATER, VM_COUNT };

static struct vm_settings settings[VM_COUNT] = {
    [ALPHA] = {.name = "alpha", .memory = MIB(64), .paging = PAGING_COMPOUND},
    [ALBUM] = {.name = "album", .memory = MIB(32), .paging = PAGING_SHADOW},
    [BETA] = {.name = "beta", .memory = MIB(16), .paging = PAGING_COMPOUND},
    [NESTED] = {.name = "nested1", .memory = MIB(1), .paging = PAGING_NESTED},
    [LATER] = {.name = "later", .memory = MIB(1), .paging = PAGING_COMPOUND},
};
static struct vm vms[VM_COUNT];
static struct vcpu vcpus[VM_COUNT][2];
static enum vm_end ended[VM_COUNT];
static bool there[VM_COUNT];
static char a_compound_table; /* only whether there is one is looked at */

static char said[1 << 16];  /* all that went to the console */
static bool held;           /* text waits for the device, not its writer */
static bool kept_waiting;   /* some was written while it was not */
static char got[1 << 16];   /* what the guests got, as "name:byte " in hex */
static char asked[1 << 12]; /* what was asked of VMs */
static uint64_t now;
static const uint8_t *keys;
static size_t keys_left;
static bool answers; /* VMs do at once what they are asked */
static struct paging_choice choice_asked;

__attribute__((format(printf, 3, 4))) static void add(char *to, size_t room, const char *format,
                                                      ...)
{
    size_t length = strlen(to);
    va_list args;

    va_start(args, format);
    vsnprintf(to + length, room - length, format, args);
    va_end(args);
}

int console_read(void)
{
    if (keys_left == 0)
        return -1;
    keys_left--;
    return *keys++;
}

void console_write(const char *text, size_t len)
{
    kept_waiting |= !held;
    add(said, sizeof(said), "%.*s", (int)len, text);
}

bool console_hold(bool on)
{
    bool before = held;

    held = on;
    return before;
}

void console_begin(void)
{
}

void console_end(void)
{
}

void log_line(const char *format, ...)
{
    char text[600];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    kept_waiting |= !held;
    add(said, sizeof(said), "twofold: %s\n", text);
}

uint64_t time_now(void)
{
    return now;
}

uint64_t time_hz(void)
{
    return HZ;
}

bool vm_known(unsigned n, struct vm_known *known)
{
    if (n >= VM_COUNT)
        return false;
    *known = (struct vm_known){&settings[n], there[n] ? &vms[n] : NULL,
                               there[n] ? vms[n].end : ended[n]};
    return true;
}

void vm_ask(struct vm *vm, uint32_t requests)
{
    add(asked, sizeof(asked), "%s:%x ", vm->settings->name, requests);
    if (!answers)
        vm->requests |= requests;
}

bool vm_is_asked(const struct vm *vm)
{
    return vm->requests != 0;
}

bool vm_input(struct vm *vm, uint8_t key)
{
    add(got, sizeof(got), "%s:%02x ", vm->settings->name, key);
    return true;
}

void vm_pause(struct vm *vm, bool pause)
{
    add(asked, sizeof(asked), "%s:%s ", vm->settings->name, pause ? "pause" : "resume");
    vm->paused = pause;
}

void vm_dump(struct vm *vm)
{
    add(asked, sizeof(asked), "%s:dump ", vm->settings->name);
}

void vm_finish_all(void)
{
    add(asked, sizeof(asked), "finish ");
}

const char *vm_end_name(enum vm_end end)
{
    return end == VM_POWEROFF ? "poweroff" : "other";
}

bool guest_paging_ask(struct vm *vm, const struct paging_choice *choice)
{
    add(asked, sizeof(asked), "%s:paging ", vm->settings->name);
    choice_asked = *choice;
    return true;
}

/* --- driving it ------------------------------------------------------------------------------- */

static void forget(void)
{
    said[0] = got[0] = asked[0] = '\0';
}

static void type_bytes(const void *bytes, size_t length)
{
    keys = bytes;
    keys_left = length;
    while (keys_left > 0)
        monitor_poll();
    monitor_poll();
}

static void type(const char *text)
{
    type_bytes(text, strlen(text));
}

/* All VMs but the last run, nobody types a command, alpha has the keyboard. */
static void begin(void)
{
    now = 1;
    answers = true;
    for (unsigned i = 0; i < VM_COUNT; i++) {
        there[i] = i != LATER;
        ended[i] = VM_RUNNING;
        vms[i] = (struct vm){.settings = &settings[i], .vcpu = vcpus[i], .vcpu_count = 1};
        vms[i].paging.choice = (struct paging_choice){settings[i].paging, policy_default};
        if (settings[i].paging != PAGING_NESTED)
            vms[i].paging.cpt = (struct cpt *)(void *)&a_compound_table;
        memset(vcpus[i], 0, sizeof(vcpus[i]));
    }
    type("\x01"
         "c\x03");
    type("\x01"
         "cattach alpha\r\r");
    forget();
}

#endif
