/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Pointers to the memory of a guest that runs. Its processors write there meanwhile: what is
 * decided on is copied first, by the functions below, once. `GUEST` marks such a pointer, as in
 * `const uint8_t GUEST *at`. clang, by which `make check` compiles the hypervisor, lets nobody
 * dereference it, or lose the mark without a cast that says so; gcc does not see it. That is what
 * sparse does for Linux; clang does it in a build that is made anyway.
 *
 * Without the mark are hv/paging, which reads entries by functions of its own, and the loaders,
 * whose guest does not run yet (load_host).
 */
#ifndef HV_GUEST_POINTER_H
#define HV_GUEST_POINTER_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* An address space of its own, which no conversion leaves unseen; on x86 it is the flat one. Tests
 * on a host are the guest themselves, and have no mark. */
#if defined(__clang__) && !__STDC_HOSTED__
#define GUEST __attribute__((noderef, address_space(1)))
#else
#define GUEST
#endif

/* The mark is taken off: only for who can say that the guest does not run, and for the functions
 * below. */
static inline void *guest_plain(const void GUEST *at)
{
    return (void *)(uintptr_t)at;
}

static inline void copy_from_guest(void *to, const void GUEST *from, uint64_t bytes)
{
    memcpy(to, guest_plain(from), bytes);
}

static inline void copy_to_guest(void GUEST *to, const void *from, uint64_t bytes)
{
    memcpy(guest_plain(to), from, bytes);
}

/* One access each; `at` is aligned to its size. */

static inline uint16_t guest_load16(const void GUEST *at)
{
    return __atomic_load_n((const uint16_t *)guest_plain(at), __ATOMIC_ACQUIRE);
}

static inline uint32_t guest_load32(const void GUEST *at)
{
    return __atomic_load_n((const uint32_t *)guest_plain(at), __ATOMIC_RELAXED);
}

static inline uint64_t guest_load64(const void GUEST *at)
{
    return __atomic_load_n((const uint64_t *)guest_plain(at), __ATOMIC_RELAXED);
}

static inline void guest_store16(void GUEST *at, uint16_t value)
{
    __atomic_store_n((uint16_t *)guest_plain(at), value, __ATOMIC_RELEASE);
}

static inline void guest_store64(void GUEST *at, uint64_t value)
{
    __atomic_store_n((uint64_t *)guest_plain(at), value, __ATOMIC_RELEASE);
}

/* Put `set` where `old` is; false if it was not there. */
static inline bool guest_swap32(void GUEST *at, uint32_t old, uint32_t set)
{
    return __atomic_compare_exchange_n((uint32_t *)guest_plain(at), &old, set, false,
                                       __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

static inline bool guest_swap64(void GUEST *at, uint64_t old, uint64_t set)
{
    return __atomic_compare_exchange_n((uint64_t *)guest_plain(at), &old, set, false,
                                       __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

#endif
