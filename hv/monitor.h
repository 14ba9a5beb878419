/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The monitor: what a person at the console does to the VMs (docs/monitor.md).
 *
 * Keys go to one VM, that "has the keyboard". Ctrl-A and a letter is a command; Ctrl-A c begins a
 * line of commands. Nothing here waits: keys are taken as they come, and what a VM must do itself
 * it is asked to (vm.h, "leave word").
 */
#ifndef HV_MONITOR_H
#define HV_MONITOR_H

/* See to keys that have come. By the boot processor, between slices and in them. */
void monitor_poll(void);

#endif
