/* SPDX-License-Identifier: BSD-2-Clause */
/* See selftest.h. Each fault is of the kind that a mistake would make: none is caught anywhere. */
#include "arch/x86_64/selftest.h"

#include <string.h>

#include "arch/x86_64/memory.h"
#include "hv/arch.h"
#include "hv/console.h"
#include "hv/memory.h"

#define CODE_RET 0xc3u

extern char text_start[], rodata_start[], data_start[];

/* 0, in a way that the compiler does not see. */
static volatile uintptr_t null_address;

static void write_byte(volatile char *at)
{
    *at = 0;
}

static void call_page_of_data(void)
{
    uint8_t *page = host_pages_alloc(1);
    void (*function)(void);

    ASSERT(page != NULL);
    page[0] = CODE_RET;
    memcpy(&function, &(void *){page}, sizeof(function));
    function();
}

/* A frame larger than the stack, so that its first write lands in the guard page or beyond. */
__attribute__((noinline)) static void overflow_stack(unsigned depth)
{
    volatile char frame[1024];

    frame[0] = (char)depth;
    if (depth < 2 * STACK_SIZE / sizeof(frame))
        overflow_stack(depth + 1);
    frame[1] = (char)depth;
}

__attribute__((noinline)) static void smash_stack(void)
{
    volatile char buffer[16];
    volatile char *at = buffer;

    for (unsigned i = 0; i < 32; i++) /* over the canary and the saved RBP */
        at[i] = 'x';
}

void selftest_commit(enum self_test test)
{
    switch (test) {
    case SELF_TEST_NONE:
        return;
    case SELF_TEST_PANIC:
        panic("self test");
    case SELF_TEST_NULL:
        write_byte((volatile char *)null_address);
        break;
    case SELF_TEST_WRITE_TEXT:
        write_byte(text_start);
        break;
    case SELF_TEST_WRITE_RODATA:
        write_byte(rodata_start);
        break;
    case SELF_TEST_EXECUTE_DATA:
        call_page_of_data();
        break;
    case SELF_TEST_STACK_OVERFLOW:
        overflow_stack(0);
        break;
    case SELF_TEST_STACK_SMASH:
        smash_stack();
        break;
    case SELF_TEST_OTHER_PANICS:
    case SELF_TEST_PROCESSORS:
    case SELF_TEST_DMA:
        return; /* their files have had their turn */
    }
    log_line("self test: the fault was not noticed");
}
