/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The instruction decoder: byte 0 of the input is the mode, the rest the bytes of an instruction,
 * which may be cut off. It must agree with Zydis on what it accepts, length and operands included,
 * and accept what Zydis takes for one of its instructions; what it accepts it must accept from
 * exactly its length on, and the same way with other bytes behind.
 */
#include "tests/fuzz/fuzz.h"

#define CHECK(condition, ...) MUST(condition, __VA_ARGS__)
#include "tests/host/decode_peer.h"

#define INSN_MAX 15u /* bytes of an instruction, SDM 2A 2.3.11 */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool ready;
    uint8_t bytes[2 * INSN_MAX];
    struct insn insn, again;

    if (!ready)
        init();
    ready = true;
    if (size < 1)
        return 0;
    enum decode_mode mode = (enum decode_mode)(data[0] % 3);
    size_t len = size - 1 < INSN_MAX ? size - 1 : INSN_MAX;
    memset(bytes, 0, sizeof(bytes)); /* compare() prints 15 bytes */
    memcpy(bytes, data + 1, len);
    compare(bytes, len, mode);
    memset(&insn, 0, sizeof(insn));
    if (!decode(data + 1, len, mode, &insn))
        return 0;
    MUST(insn.length > 0 && insn.length <= len, "length %u of %zu", insn.length, len);
    MUST(insn.size == 1 || insn.size == 2 || insn.size == 4 || insn.size == 8, "size %u",
         insn.size);
    MUST(insn.memory_size > 0 && insn.memory_size <= 16, "memory size %u", insn.memory_size);
    MUST(!decode(bytes, insn.length - 1u, mode, &again), "it is accepted when cut off");
    memset(bytes + insn.length, 0xa5, sizeof(bytes) - insn.length);
    memset(&again, 0, sizeof(again));
    MUST(decode(bytes, INSN_MAX, mode, &again) && memcmp(&insn, &again, sizeof(insn)) == 0,
         "what follows does not count");
    return 0;
}
