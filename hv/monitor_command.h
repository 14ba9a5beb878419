/* SPDX-License-Identifier: BSD-2-Clause */
/* The monitor's commands, apart from the keys by which they come. By the boot processor. */
#ifndef HV_MONITOR_COMMAND_H
#define HV_MONITOR_COMMAND_H

#include "hv/vm.h"

struct monitor {
    const struct vm_settings *keyboard; /* of the VM that has it; NULL: nobody has had it yet */
    const struct vm_settings *asked;    /* of a VM whose answer is still to come, or NULL */
    bool quit;                          /* the command line is to be left */
};

/* Carry out a line, which is taken apart in place. What was wrong with it is said on the console.
 */
void monitor_command(struct monitor *m, char *line);

/* The same for the key that followed a Ctrl-A; false if it means nothing. */
bool monitor_quick_command(struct monitor *m, char key);

/* The VM that keys go to, or NULL. Where the one that had them is over it is another, and says so.
 */
struct vm *monitor_keyboard(struct monitor *m);

/* Whether the VM that was asked has done what it was asked for, or is not there any more. */
bool monitor_is_answered(const struct monitor *m);

#endif
