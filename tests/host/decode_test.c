/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The instruction decoder against Zydis: over all opcodes with all ModRM bytes and many prefixes,
 * and over random bytes.
 */
#include <string.h>

#include "tests/host/test.h"

#include "tests/host/decode_peer.h"

#define OPCODES (2 * 256 + 16) /* of the third map the last 16, which have MOVBE */

/* Every opcode of the maps, every ModRM, with prefixes that matter, in all three modes. */
static void all_opcodes_agree_with_zydis(void)
{
    static const char *const prefixes[] = {"",         "\x66",     "\x67", "\x66\x67", "\xf0",
                                           "\xf0\x66", "\xf3",     "\xf2", "\x64",     "\x3e",
                                           "\x48",     "\x4f",     "\x41", "\x44",     "\x66\x48",
                                           "\x67\x4a", "\xf0\x48", "\x40", "\x48\x66", "\xf3\x48"};
    uint64_t random = 21;

    init();
    agreed = 0;
    for (unsigned p = 0; p < sizeof(prefixes) / sizeof(prefixes[0]); p++) {
        for (unsigned opcode = 0; opcode < OPCODES; opcode++) {
            for (unsigned modrm = 0; modrm < 256; modrm++) {
                uint8_t bytes[24];
                size_t at = strlen(prefixes[p]);
                for (unsigned i = 0; i < sizeof(bytes); i++)
                    bytes[i] = (uint8_t)test_random(&random);
                memcpy(bytes, prefixes[p], at);
                if (opcode >= 256)
                    bytes[at++] = 0x0f;
                if (opcode >= 512) {
                    bytes[at++] = 0x38;
                    bytes[at++] = (uint8_t)(0xf0 + opcode - 512);
                } else {
                    bytes[at++] = (uint8_t)opcode;
                }
                bytes[at] = (uint8_t)modrm;
                for (enum decode_mode mode = DECODE_16; mode <= DECODE_64; mode++)
                    compare(bytes, 15, mode);
            }
        }
    }
    CHECK(agreed > 500000, "only %llu instructions were compared", (unsigned long long)agreed);
}

static void random_bytes_agree_with_zydis(void)
{
    uint64_t random = 22;

    init();
    agreed = 0;
    for (unsigned n = 0; n < 3000000; n++) {
        uint8_t bytes[16];
        uint64_t words[2] = {test_random(&random), test_random(&random)};
        memcpy(bytes, words, sizeof(bytes));
        compare(bytes, 1 + test_random(&random) % 15, (enum decode_mode)(n % 3));
    }
    CHECK(agreed > 100000, "only %llu instructions were compared", (unsigned long long)agreed);
}

int main(void)
{
    RUN(all_opcodes_agree_with_zydis);
    RUN(random_bytes_agree_with_zydis);
    return test_status();
}
