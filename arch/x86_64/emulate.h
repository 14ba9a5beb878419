/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Execution of a decoded instruction (decode.h) on registers and memory that the caller gives:
 * results and flags are the processor's own. Portable, so that the tests compare it with the
 * processor they run on.
 */
#ifndef ARCH_EMULATE_H
#define ARCH_EMULATE_H

#include "arch/x86_64/decode.h"

enum emulate_result {
    EMULATE_DONE,  /* RIP moves behind the instruction */
    EMULATE_AGAIN, /* RIP stays: one round of a REP string instruction is done, or another processor
                      was faster, and nothing is */
    EMULATE_FAULT, /* an access faulted */
};

/*
 * Memory by segment and offset, 1 to 8 bytes or, for CMPXCHG16B, 16, which must lie on a 16-byte
 * boundary or fault. False: the access faults, and the instruction has no effect.
 */
struct emulate_memory {
    void *context;
    bool (*read)(void *context, enum insn_segment segment, uint64_t offset, void *to,
                 unsigned bytes);
    bool (*write)(void *context, enum insn_segment segment, uint64_t offset, const void *from,
                  unsigned bytes);
    /* Write `to` if memory still holds `from`, both of `bytes`, in one atomic step. May be NULL
     * where nobody else writes. */
    enum emulate_result (*exchange)(void *context, enum insn_segment segment, uint64_t offset,
                                    const void *from, const void *to, unsigned bytes);
};

/* Execute `insn` at `rip`. Changes gpr[], RSP among them, *rflags and memory. */
enum emulate_result emulate(const struct insn *insn, uint64_t gpr[16], uint64_t *rflags,
                            uint64_t rip, const struct emulate_memory *memory);

#endif
