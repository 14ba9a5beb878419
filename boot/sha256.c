/* SPDX-License-Identifier: BSD-2-Clause */
/* See sha256.h. Section numbers and names are those of FIPS 180-4. */
#include "boot/sha256.h"

#define BLOCK_BYTES  64u
#define BLOCK_WORDS  16u
#define ROUNDS       64u
#define LENGTH_BYTES 8u   /* of the message's length in bits, which ends the last block */
#define PADDING_MARK 0x80 /* 5.1.1: a one, then zeros */

/* 4.2.2: of the cube roots of the first 64 primes, the first 32 bits behind the point. */
static const uint32_t round_constant[ROUNDS] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

/* 5.3.3: of the square roots of the first eight primes. */
static const uint32_t initial_hash[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                         0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

static inline uint32_t rotr(uint32_t x, unsigned n)
{
    return x >> n | x << (32 - n);
}

/* 4.1.2. Each function of rotations turns the sum so far instead of the word anew: BIG_SIGMA0 is
 * the sum of x turned by 2, 2 + 11 and 2 + 11 + 9. That saves a move each on this processor. */
#define CH(x, y, z)     (((x) & ((y) ^ (z))) ^ (z))
#define MAJ(x, y, z)    (((x) & (y)) | ((z) & ((x) | (y))))
#define BIG_SIGMA0(x)   rotr(rotr(rotr(x, 9) ^ (x), 11) ^ (x), 2)
#define BIG_SIGMA1(x)   rotr(rotr(rotr(x, 14) ^ (x), 5) ^ (x), 6)
#define SMALL_SIGMA0(x) (rotr(rotr(x, 11) ^ (x), 7) ^ (x) >> 3)
#define SMALL_SIGMA1(x) (rotr(rotr(x, 2) ^ (x), 17) ^ (x) >> 10)

/* 6.2.2, step 3. Instead of moving the working variables the next round is given them in turn. */
#define ROUND(a, b, c, d, e, f, g, h, t)                                                           \
    do {                                                                                           \
        (h) += BIG_SIGMA1(e) + CH(e, f, g) + round_constant[first + (t)] + w[t];                   \
        (d) += (h);                                                                                \
        (h) += BIG_SIGMA0(a) + MAJ(a, b, c);                                                       \
    } while (0)

#define EIGHT_ROUNDS(t)                                                                            \
    do {                                                                                           \
        ROUND(a, b, c, d, e, f, g, h, (t) + 0);                                                    \
        ROUND(h, a, b, c, d, e, f, g, (t) + 1);                                                    \
        ROUND(g, h, a, b, c, d, e, f, (t) + 2);                                                    \
        ROUND(f, g, h, a, b, c, d, e, (t) + 3);                                                    \
        ROUND(e, f, g, h, a, b, c, d, (t) + 4);                                                    \
        ROUND(d, e, f, g, h, a, b, c, (t) + 5);                                                    \
        ROUND(c, d, e, f, g, h, a, b, (t) + 6);                                                    \
        ROUND(b, c, d, e, f, g, h, a, (t) + 7);                                                    \
    } while (0)

/* The message schedule's next 16 words (6.2.2, step 1), in place of the 16 before. */
static void next_words(uint32_t w[BLOCK_WORDS])
{
#pragma GCC unroll 16
    for (unsigned t = 0; t < BLOCK_WORDS; t++)
        w[t] += SMALL_SIGMA1(w[(t + 14) % BLOCK_WORDS]) + w[(t + 9) % BLOCK_WORDS] +
                SMALL_SIGMA0(w[(t + 1) % BLOCK_WORDS]);
}

static void take_block(uint32_t hash[8], const uint8_t *block)
{
    uint32_t a = hash[0], b = hash[1], c = hash[2], d = hash[3];
    uint32_t e = hash[4], f = hash[5], g = hash[6], h = hash[7];
    uint32_t w[BLOCK_WORDS];

    for (unsigned t = 0; t < BLOCK_WORDS; t++, block += 4)
        w[t] = (uint32_t)block[0] << 24 | (uint32_t)block[1] << 16 | (uint32_t)block[2] << 8 |
               block[3];
    for (unsigned first = 0;;) {
        EIGHT_ROUNDS(0);
        EIGHT_ROUNDS(8);
        first += BLOCK_WORDS;
        if (first == ROUNDS)
            break;
        next_words(w);
    }
    hash[0] += a, hash[1] += b, hash[2] += c, hash[3] += d;
    hash[4] += e, hash[5] += f, hash[6] += g, hash[7] += h;
}

void sha256(const void *data, uint64_t bytes, uint8_t digest[SHA256_BYTES])
{
    const uint8_t *at = data;
    uint8_t last[2 * BLOCK_BYTES] = {0};
    uint32_t hash[8];
    uint64_t left = bytes;

    for (unsigned i = 0; i < 8; i++)
        hash[i] = initial_hash[i];
    for (; left >= BLOCK_BYTES; left -= BLOCK_BYTES, at += BLOCK_BYTES)
        take_block(hash, at);

    /* 5.1.1: the mark and the length make one block of what is left, or two. */
    uint64_t end = left + 1 + LENGTH_BYTES <= BLOCK_BYTES ? BLOCK_BYTES : 2 * BLOCK_BYTES;
    for (uint64_t i = 0; i < left; i++)
        last[i] = at[i];
    last[left] = PADDING_MARK;
    for (unsigned i = 0; i < LENGTH_BYTES; i++)
        last[end - 1 - i] = (uint8_t)(bytes * 8 >> 8 * i);
    for (uint64_t i = 0; i < end; i += BLOCK_BYTES)
        take_block(hash, last + i);

    for (unsigned i = 0; i < SHA256_BYTES; i++)
        digest[i] = (uint8_t)(hash[i / 4] >> (24 - 8 * (i % 4)));
}
