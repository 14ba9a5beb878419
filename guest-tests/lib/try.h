/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Trying code that may fault (try.S): what saves its state with try_save (try_save.inc) goes on at
 * try_resume, as if the call had returned, when a trap handler puts try_resume and try_rsp into the
 * frame's RIP and RSP.
 */
#ifndef GUEST_TESTS_LIB_TRY_H
#define GUEST_TESTS_LIB_TRY_H

#include <stdint.h>

/* Run the code with this argument. What was caught is the handler's to tell. */
void try_call(void (*code)(uint64_t), uint64_t argument);
extern const char try_resume[];
extern uint64_t try_rsp; /* the stack to go on with; 0: nothing is being tried */

#endif
