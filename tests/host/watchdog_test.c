/* SPDX-License-Identifier: BSD-2-Clause */
/* The watchdog among processors that this test plays one after the other. */
#include "hv/watchdog.h"

#include <string.h>

#include "hv/arch.h"
#include "tests/host/panic.h"
#include "tests/host/test.h"

#define HZ    1000u
#define LIMIT 8u /* seconds: a look every 2 */

static unsigned processors, current;
static uint64_t ticks;

uint64_t time_now(void)
{
    return ticks;
}

uint64_t time_hz(void)
{
    return HZ;
}

unsigned processor_count(void)
{
    return processors;
}

unsigned processor_index(void)
{
    return current;
}

/* The watchdog's state is from before: its processors have rested since. */
static void set_up(unsigned count, unsigned seconds)
{
    processors = count;
    ticks += 1000u * HZ;
    for (current = 0; current < count; current++)
        watchdog_rest();
    watchdog_init(seconds);
}

static void live(unsigned processor)
{
    current = processor;
    watchdog_beat();
    watchdog_look();
}

/* `seconds` in which all live ten times a second, but for one. The seconds after which somebody
 * panicked, 0 if nobody did. */
static unsigned run_without(unsigned stuck, unsigned seconds)
{
    uint64_t start = ticks;
    jmp_buf back;

    panic_text[0] = '\0';
    panic_expected = &back;
    if (setjmp(back) == 0) {
        while (ticks - start < (uint64_t)seconds * HZ) {
            for (unsigned p = 0; p < processors; p++) {
                if (p != stuck)
                    live(p);
            }
            ticks += HZ / 10;
        }
    }
    panic_expected = NULL;
    return panic_text[0] ? (unsigned)((ticks - start) / HZ) : 0;
}

#define NONE 99u

static void processors_that_live_are_left_alone(void)
{
    set_up(3, LIMIT);
    unsigned after = run_without(NONE, 10 * LIMIT);
    CHECK(after == 0, "%s", panic_text);
}

static void each_that_is_stuck_is_noticed(void)
{
    for (unsigned stuck = 0; stuck < 4; stuck++) {
        char text[64];
        set_up(4, LIMIT);
        (void)run_without(NONE, LIMIT);
        unsigned after = run_without(stuck, 10 * LIMIT);
        snprintf(text, sizeof(text), "processor %u is stuck", stuck);
        CHECK(after >= LIMIT - 2 && after <= LIMIT + 2, "after %u s", after);
        CHECK(strstr(panic_text, text) && strstr(panic_text, "8 s"), "%s", panic_text);
    }
}

static void one_that_rests_is_not_stuck(void)
{
    set_up(2, LIMIT);
    live(1);
    watchdog_rest();
    CHECK(run_without(1, 10 * LIMIT) == 0, "%s", panic_text);
    live(1);
    CHECK(run_without(1, 10 * LIMIT) > 0, "it is not noticed afterwards");
}

/* A virtual machine that was stopped: much time has passed, and nobody was there. */
static void time_alone_proves_nothing(void)
{
    set_up(2, LIMIT);
    for (unsigned n = 0; n < 10; n++) {
        CHECK(run_without(NONE, 1) == 0, "%s", panic_text);
        ticks += 100u * LIMIT * HZ;
    }
}

static void without_a_limit_nobody_looks(void)
{
    set_up(2, 0);
    live(1);
    CHECK(run_without(1, 1000) == 0, "%s", panic_text);
    CHECK(watchdog_period() == ~0ull, "sleepers are woken");
}

static void one_processor_does_not_look_at_itself(void)
{
    set_up(1, LIMIT);
    current = 0;
    watchdog_beat();
    for (unsigned n = 0; n < 100; n++) {
        ticks += LIMIT * HZ;
        watchdog_look(); /* a panic would end the program */
    }
}

int main(void)
{
    RUN(processors_that_live_are_left_alone);
    RUN(each_that_is_stuck_is_noticed);
    RUN(one_that_rests_is_not_stuck);
    RUN(time_alone_proves_nothing);
    RUN(without_a_limit_nobody_looks);
    RUN(one_processor_does_not_look_at_itself);
    return test_status();
}
