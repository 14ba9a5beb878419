/* SPDX-License-Identifier: BSD-2-Clause */
/* What the workload "gcc" compiles: counts the primes below its argument by a sieve, and again by
 * division. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static unsigned by_sieve(unsigned limit)
{
    bool *composite = calloc(limit, sizeof(*composite));
    unsigned count = 0;

    if (!composite)
        exit(1);
    for (unsigned n = 2; n < limit; n++) {
        if (composite[n])
            continue;
        count++;
        for (unsigned long m = (unsigned long)n * n; m < limit; m += n)
            composite[m] = true;
    }
    free(composite);
    return count;
}

static bool is_prime(unsigned n)
{
    for (unsigned d = 2; d * d <= n; d++)
        if (n % d == 0)
            return false;
    return n >= 2;
}

int main(int argc, char **argv)
{
    unsigned limit = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 1000;
    unsigned count = 0;

    for (unsigned n = 0; n < limit; n++)
        count += is_prime(n);
    if (count != by_sieve(limit)) {
        printf("%u by division, %u by the sieve\n", count, by_sieve(limit));
        return 1;
    }
    printf("%u\n", count);
    return 0;
}
