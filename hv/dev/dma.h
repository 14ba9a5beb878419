/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A device's way to its VM's memory. Addresses come from the guest: each is looked up before it is
 * used. Other processors of the VM write the same memory meanwhile: what a device decides on is
 * copied first, then checked, then used.
 */
#ifndef HV_DEV_DMA_H
#define HV_DEV_DMA_H

#include "hv/loader.h"

struct dma {
    const struct guest_ram *ram;
    /* A device has written [at, at + len). The paging code must know: it may be a guest's page
     * table. NULL: nobody asks. */
    void (*written)(void *context, gpa_t at, uint64_t len);
    void *context;
};

/* The host's address of guest-physical [at, at + len), `len` > 0; NULL if any of it is not RAM. */
static inline void GUEST *dma_at(const struct dma *dma, gpa_t at, uint64_t len)
{
    return guest_ram_at(dma->ram, at, len);
}

static inline void dma_written(const struct dma *dma, gpa_t at, uint64_t len)
{
    if (dma->written)
        dma->written(dma->context, at, len);
}

#endif
