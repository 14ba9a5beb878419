/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * SHA-256 against NIST's examples (FIPS 180-4's "Examples with Intermediate Values", and the
 * longest of the Secure Hash Algorithm Validation System's) and against Python's hashlib over every
 * length around the blocks' ends, at every alignment, with bytes from a seed.
 */
#include <stdlib.h>
#include <string.h>

#include "boot/sha256.h"
#include "tests/host/test.h"

#define DIGITS (2 * SHA256_BYTES)

static void check_digest(const char *what, const void *data, uint64_t bytes, const char *wanted)
{
    uint8_t digest[SHA256_BYTES];
    char text[DIGITS + 1];

    sha256(data, bytes, digest);
    for (unsigned i = 0; i < SHA256_BYTES; i++)
        snprintf(&text[2 * i], 3, "%02x", digest[i]);
    CHECK(strncmp(text, wanted, DIGITS) == 0, "of %s: %s", what, text);
}

static void sha256_of_nists_examples(void)
{
    static const struct {
        const char *text, *digest;
    } examples[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
        {"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqr"
         "lmnopqrsmnopqrstnopqrstu",
         "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
    };

    for (unsigned i = 0; i < sizeof(examples) / sizeof(examples[0]); i++)
        check_digest(examples[i].text, examples[i].text, strlen(examples[i].text),
                     examples[i].digest);
}

static void sha256_of_a_million_letters(void)
{
    enum { LETTERS = 1000000 };
    char *letters = malloc(LETTERS);

    memset(letters, 'a', LETTERS);
    check_digest("a million a", letters, LETTERS,
                 "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    free(letters);
}

/* hashlib prints the digests of the same bytes: all from the seed, each length at each alignment.
 */
static void sha256_agrees_with_python(void)
{
    enum { LENGTH_MAX = 300, ALIGNMENTS = 8, SEED = 2026 };
    static const char script[] = "python3 -c 'import hashlib\n"
                                 "x, mask, data = 2026, (1 << 64) - 1, bytearray()\n"
                                 "for _ in range(308):\n"
                                 "    x ^= x >> 12\n"
                                 "    x ^= x << 25 & mask\n"
                                 "    x ^= x >> 27\n"
                                 "    data.append((x * 0x2545f4914f6cdd1d & mask) >> 56)\n"
                                 "for length in range(301):\n"
                                 "    for at in range(8):\n"
                                 "        print(hashlib.sha256(data[at:at + length]).hexdigest())'";
    uint8_t data[LENGTH_MAX + ALIGNMENTS];
    uint64_t seed = SEED;
    char line[DIGITS + 2], what[64];

    for (unsigned i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(test_random(&seed) >> 56);
    FILE *python = popen(script, "r");
    CHECK(python, "python3 does not start");
    for (unsigned length = 0; python && length <= LENGTH_MAX; length++) {
        for (unsigned at = 0; at < ALIGNMENTS; at++) {
            snprintf(what, sizeof(what), "%u bytes at %u", length, at);
            CHECK(fgets(line, sizeof(line), python), "no line for %s", what);
            check_digest(what, data + at, length, line);
        }
    }
    if (python)
        CHECK(pclose(python) == 0, "python3 failed");
}

int main(void)
{
    RUN(sha256_of_nists_examples);
    RUN(sha256_of_a_million_letters);
    RUN(sha256_agrees_with_python);
    return test_status();
}
