/* SPDX-License-Identifier: BSD-2-Clause */
/* See monitor.h. */
#include "hv/monitor.h"

#include "hv/console.h"
#include "hv/vm.h"

#define ESCAPE 0x01 /* Ctrl-A */

static bool escaped;

static void command(int key)
{
    struct vm *vm = vm_nth(0);

    if (key == 's' && vm)
        vm_ask(vm, VM_ASK_STATISTICS);
}

void monitor_poll(void)
{
    for (int key = console_read(); key >= 0; key = console_read()) {
        struct vm *vm = vm_nth(0);
        if (escaped && key != ESCAPE)
            command(key);
        else if (!escaped && key == ESCAPE) {
            escaped = true;
            continue;
        } else if (vm)
            vm_input(vm, (uint8_t)key);
        escaped = false;
    }
}
