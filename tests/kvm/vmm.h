/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One guest under KVM, with Twofold's loaders and devices, so that the same image sees the same
 * machine. Used by init.c, one process a VM.
 */
#ifndef PEER_VMM_H
#define PEER_VMM_H

#include <stdbool.h>

#include "hv/module.h"
#include "hv/settings.h"

struct peer_run {
    struct vm_settings settings; /* name, image, args, memory */
    bool ept;                    /* how kvm-intel was loaded; for the records */
    bool large_pages;            /* RAM in 2-MiB pages of the host, else in 4-KiB ones */
    bool traced;                 /* count exits by reason, which takes time */
    unsigned seconds;            /* limit */
};

/*
 * Run `image` to its end, with its lines and records on stdout and a @vm record last. False when
 * the VM could not be made or did not run; stdout says why in the @vm record.
 */
bool vmm_run(const struct peer_run *run, const struct module *image);

#endif
