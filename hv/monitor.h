/* SPDX-License-Identifier: BSD-2-Clause */
/* The monitor: what a person at the console does to the VMs. */
#ifndef HV_MONITOR_H
#define HV_MONITOR_H

/* See to keys that have come. By the boot processor, between slices and in them. */
void monitor_poll(void);

#endif
