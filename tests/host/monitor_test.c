/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The monitor, fed with keys: what it asks of the VMs, what the guests get, and what it says.
 */
#include <string.h>

#include "tests/host/monitor_world.h"
#include "tests/host/test.h"

/* A line of commands in one go; the command line is open before and after. */
static void command(const char *line)
{
    forget();
    type(line);
    type("\r");
}

static bool says(const char *phrase)
{
    return strstr(said, phrase) != NULL;
}

/* What a person sees: pieces put together, as scripts/run does. */
static const char *seen(void)
{
    static char text[1 << 16];
    char *to = text;

    for (const char *line = said; *line;) {
        const char *end = strchr(line, '\n');
        bool piece = strncmp(line, "twofold+ ", 9) == 0, whole = strncmp(line, "twofold| ", 9) == 0;
        const char *from = piece || whole ? line + 9 : line;
        memcpy(to, from, (size_t)(end - from));
        to += end - from;
        if (!piece)
            *to++ = '\n';
        line = end + 1;
    }
    *to = '\0';
    return text;
}

/* --- keys ------------------------------------------------------------------------------------- */

static void every_byte_goes_to_the_vm_with_the_keyboard(void)
{
    char want[16];

    begin();
    for (unsigned byte = 0; byte < 256; byte++) {
        uint8_t two[2] = {1, 1}; /* Ctrl-A is sent as two */
        forget();
        if (byte == 1)
            type_bytes(two, 2);
        else
            type_bytes(&(uint8_t){(uint8_t)byte}, 1);
        snprintf(want, sizeof(want), "alpha:%02x ", byte);
        CHECK(strcmp(got, want) == 0 && !said[0] && !asked[0], "byte %02x: '%s' '%s'", byte, got,
              said);
    }
}

static void quick_keys_do_what_help_says(void)
{
    begin();
    type("\x01s");
    CHECK(strcmp(asked, "alpha:1 ") == 0, "%s", asked);
    type("\x01m");
    CHECK(strcmp(asked, "alpha:1 alpha:10 ") == 0, "%s", asked);
    type("\x01n");
    CHECK(says("album has the keyboard"), "%s", said);
    type("x\x01nx\x01nx\x01nx");
    CHECK(strcmp(got, "album:78 beta:78 nested1:78 alpha:78 ") == 0, "%s", got);
    forget();
    type("\x01l");
    CHECK(says("* alpha: running"), "%s", said);
    forget();
    type("\x01h");
    CHECK(says("Ctrl-A, then") && says("  power "), "%s", said);
    CHECK(!got[0], "a key of the monitor's went to a guest: %s", got);
}

static void unknown_quick_keys_point_to_help_and_reach_nobody(void)
{
    static const char known[] = "c:hlsmn?\x01";

    begin();
    for (unsigned byte = 0; byte < 256; byte++) {
        uint8_t two[2] = {1, (uint8_t)byte};
        if (byte && strchr(known, (int)byte))
            continue;
        forget();
        type_bytes(two, 2);
        CHECK(says("Ctrl-A h") && !got[0] && !asked[0], "byte %02x: '%s' '%s'", byte, said, got);
    }
}

/* --- the line --------------------------------------------------------------------------------- */

static void the_line_is_edited_and_shown(void)
{
    begin();
    type("\x01"
         "cpaxy\x7f\x08use al\x15pause alphaa\x7f\r");
    CHECK(strcmp(asked, "alpha:pause ") == 0, "%s", asked);
    const char *want = "twofold> paxy\b \b\b \buse al\b \b\b \b\b \b\b \b\b \b\b \b\b \b\b \bpause "
                       "alphaa\b \b\ntwofold: alpha is paused\ntwofold> ";
    CHECK(strcmp(seen(), want) == 0, "%s", seen());
    CHECK(!got[0], "%s", got);
    forget();
    type("\r");
    CHECK(strcmp(seen(), "\n") == 0, "%s", seen());
    type("k");
    CHECK(strcmp(got, "alpha:6b ") == 0, "an empty line gives the keys back: %s", got);
}

static void the_line_is_left_by_quit_and_control_keys(void)
{
    static const char *const ways[] = {"quit\r", "q\r", "\r", "\n", "half\x03", "half\x04"};

    for (unsigned i = 0; i < ARRAY_SIZE(ways); i++) {
        begin();
        type("\x01:");
        type(ways[i]);
        type("k");
        CHECK(strcmp(got, "alpha:6b ") == 0 && !asked[0], "way %u: %s", i, got);
    }
}

static void return_and_line_feed_are_one_line_end(void)
{
    begin();
    type("\x01"
         "cpause beta\r\nresume beta\r\n");
    CHECK(strcmp(asked, "beta:pause beta:resume ") == 0, "%s", asked);
    type("\r");
    type("k");
    CHECK(strcmp(got, "alpha:6b ") == 0, "%s", got);
}

static void arrows_and_other_bytes_leave_the_line_as_it_is(void)
{
    begin();
    type("\x01"
         "cpa\x1b[A\x1bOB\x1b[1;5C\x80\xff\t\x02\x1buse beta\r");
    CHECK(strcmp(asked, "beta:pause ") == 0, "%s", asked);
    type("pau\x1b[\r"); /* cut off: the Return counts */
    CHECK(says("pause takes VM"), "%s", said);
    type("\r");
}

static void a_long_line_is_bounded(void)
{
    begin();
    type("\x01"
         "c");
    for (unsigned i = 0; i < 5000; i++)
        type("p");
    type("\r");
    CHECK(says("there is no command 'ppp") && !got[0], "%s", said);
    for (unsigned i = 0; i < 300; i++)
        type("\x7f");
    type("\r");
}

static void quick_keys_work_within_a_line(void)
{
    begin();
    type("\x01"
         "cpause\x01s be\r");
    CHECK(strcmp(asked, "alpha:1 beta:pause ") == 0, "%s", asked);
    CHECK(strcmp(seen(), "twofold> pause\ntwofold> pause be\ntwofold: beta is paused\ntwofold> ") ==
              0,
          "%s", seen());
    type("\x01\x01\r");
    CHECK(!got[0], "%s", got);
}

static void the_prompt_waits_for_the_answer_but_not_for_ever(void)
{
    begin();
    answers = false;
    type("\x01"
         "cstats\r");
    forget();
    type("li"); /* comes meanwhile */
    CHECK(!said[0], "%s", said);
    vms[ALPHA].requests = 0;
    monitor_poll();
    CHECK(strcmp(seen(), "twofold> li") == 0, "%s", seen());
    type("\x15stats\r");
    forget();
    now += HZ;
    monitor_poll();
    CHECK(!said[0], "%s", said);
    now += 2 * HZ;
    monitor_poll();
    CHECK(strcmp(seen(), "twofold> ") == 0, "%s", seen());
    type("stats\r");
    forget();
    there[ALPHA] = false; /* it ended meanwhile */
    monitor_poll();
    CHECK(strcmp(seen(), "twofold> ") == 0, "%s", seen());
    vms[ALPHA].requests = 0;
    type("\r");
}

static void random_bytes_do_no_harm(void)
{
    static const char likely[] = "\x01\x01\x01"
                                 "c: \r\n\x7f\x1b[alphbetquisnd=";
    uint64_t state = 1;

    begin();
    for (unsigned n = 0; n < 100000; n++) {
        uint64_t r = test_random(&state);
        uint8_t byte =
            r >> 32 & 1 ? (uint8_t)(r >> 40) : (uint8_t)likely[(r >> 40) % (sizeof(likely) - 1)];
        type_bytes(&byte, 1);
        now++;
        if (n % 16 == 0)
            forget();
        there[r % VM_COUNT] = (r >> 8) % 8 != 0;
    }
    type("\x03");
}

/* --- commands --------------------------------------------------------------------------------- */

static void commands_reach_the_vm_that_is_named(void)
{
    static const struct {
        const char *line, *want;
    } rows[] = {
        {"stats beta", "beta:1 "},
        {"stats", "alpha:1 "},
        {"map beta", "beta:10 "},
        {"reset beta", "beta:4 "},
        {"end beta", "beta:2 "},
        {"power beta", "beta:8 "},
        {"dump beta", "beta:dump "},
        {"pause beta", "beta:pause "},
        {"resume beta", "beta:resume "},
        {"finish", "finish "},
        {"finish beta", ""},
        {"s beta", ""},
        {"st b", "beta:1 "},
        {"  stats   beta  ", "beta:1 "},
        {"e b", "beta:2 "},
        {"e al", ""},
        {"e alp", "alpha:2 "},
        {"end", ""},
        {"end beta beta", ""},
        {"end nobody", ""},
        {"end later", ""},
        {"stats a b c d e f g", ""},
        {"reset", ""},
    };

    begin();
    type("\x01"
         "c");
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        command(rows[i].line);
        CHECK(strcmp(asked, rows[i].want) == 0, "'%s' asked '%s'", rows[i].line, asked);
        CHECK(rows[i].want[0] || says("twofold: "), "'%s' says nothing", rows[i].line);
    }
    type("\r");
}

static void errors_are_clear(void)
{
    static const struct {
        const char *line, *says;
    } rows[] = {
        {"p beta", "'p' could be pause, power, paging, policy"},
        {"nonsense", "there is no command 'nonsense'"},
        {"end nobody", "there is no VM 'nobody'"},
        {"end al", "'al' begins the names of 2 VMs"},
        {"end later", "later is not there: waits for its turn"},
        {"end", "end takes VM"},
        {"list all", "list takes no more words"},
        {"set beta demote_writes", "set takes VM KEY NUMBER"},
        {"set beta nonsense 3", "the policy has no number 'nonsense'"},
        {"set beta memory 3", "the policy has no number 'memory'"},
        {"set beta stress 3", "the policy has no number 'stress'"},
        {"set beta demote_writes 0", "demote_writes = 0: must be a number from 1 to 1000000"},
        {"set beta demote_writes 1x", "demote_writes = 1x: must be a number"},
        {"paging beta native", "must be nested, shadow or compound"},
        {"paging nested1 shadow",
         "nested1 was made with paging = nested: it has no compound page table"},
        {"policy nested1 cost", "nested1 was made with paging = nested"},
        {"paging beta compound", "beta: paging is compound already"},
        {"policy beta best", "must be cost, threshold, static or shsp"},
        {"resume beta", "beta is running already"},
    };

    begin();
    type("\x01"
         "c");
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        command(rows[i].line);
        CHECK(says(rows[i].says) && !asked[0], "'%s': '%s' '%s'", rows[i].line, said, asked);
    }
    type("\r");
}

static void paging_changes_one_thing_at_a_time(void)
{
    struct paging_choice want = {PAGING_COMPOUND, policy_default};

    begin();
    type("\x01"
         "c");
    command("paging beta shadow");
    want.mode = PAGING_SHADOW;
    CHECK(strcmp(asked, "beta:paging ") == 0 && choice_asked.mode == want.mode, "%s", asked);
    CHECK(memcmp(&choice_asked.policy, &want.policy, sizeof(want.policy)) == 0, "the policy stays");
    vms[BETA].paging.choice = choice_asked;

    command("policy beta threshold");
    want.policy.kind = POLICY_THRESHOLD;
    CHECK(memcmp(&choice_asked.policy, &want.policy, sizeof(want.policy)) == 0 &&
              choice_asked.mode == PAGING_SHADOW,
          "the kind alone changes");
    CHECK(says("the policy decides with paging compound only"), "%s", said);
    vms[BETA].paging.choice = choice_asked;

    command("set beta demote_writes = 7");
    want.policy.demote_writes = 7;
    CHECK(memcmp(&choice_asked.policy, &want.policy, sizeof(want.policy)) == 0, "one number");
    command("set alpha switch_level 2");
    CHECK(choice_asked.policy.switch_level == 2 && choice_asked.mode == PAGING_COMPOUND, "alpha's");

    vms[BETA].paging.is_asked = 1;
    command("paging beta nested");
    CHECK(says("beta is still at the change before") && !asked[0], "%s", said);
    type("\r");
}

static void list_tells_of_all_vms(void)
{
    begin();
    vms[BETA].paused = 1;
    vms[ALPHA].vcpu_count = 2;
    vcpus[ALPHA][1].activity = VCPU_HALTED;
    vcpus[ALPHA][1].processor = 3;
    there[NESTED] = false;
    ended[NESTED] = VM_POWEROFF;
    vms[ALBUM].end = VM_STOPPED;
    now = 1 + 12345;
    vms[ALPHA].started = 1;
    type("\x01l");
    CHECK(says("  * alpha: running, 2 processors, 64 MiB, paging compound by policy cost, up "
               "12.345 s\n"),
          "%s", said);
    CHECK(says("0 on 0 runs, 1 on 3 halted\n"), "%s", said);
    CHECK(says("    beta: paused, 1 processor, 16 MiB, paging compound"), "%s", said);
    CHECK(says("    album: ending (other)\n"), "%s", said);
    CHECK(says("    nested1: ended (poweroff)\n"), "%s", said);
    CHECK(says("    later: waits for its turn\n"), "%s", said);
}

/* --- the keyboard ----------------------------------------------------------------------------- */

static void the_keyboard_moves_on_when_its_vm_is_over(void)
{
    begin();
    type("\x01"
         "cattach beta\r\r");
    forget();
    type("a");
    there[BETA] = false;
    type("b");
    CHECK(strcmp(got, "beta:61 nested1:62 ") == 0, "%s", got);
    CHECK(says("nested1 has the keyboard"), "%s", said);
    there[BETA] = true; /* as after a reset */
    type("\x01"
         "cattach beta\r\r");
    forget();
    type("c");
    CHECK(strcmp(got, "beta:63 ") == 0 && !says("keyboard"), "%s", got);
    for (unsigned i = 0; i < VM_COUNT; i++)
        there[i] = false;
    forget();
    type("d\x01n\x01s\x01l");
    CHECK(!got[0] && !asked[0] && says("there is no VM now"), "%s %s", got, said);
}

/* A VM whose end has been seen may have no virtual processors: nothing is asked of it. */
static void an_ending_vm_is_left_alone(void)
{
    begin();
    vms[ALPHA].end = VM_STOPPED;
    vms[ALPHA].vcpu = NULL;
    vms[ALPHA].vcpu_count = 0;
    type("k\x01s\x01l");
    CHECK(strcmp(got, "album:6b ") == 0 && strcmp(asked, "album:1 ") == 0, "%s %s", got, asked);
    type("\x01"
         "cend alpha\r\r");
    CHECK(says("alpha is not there: ending"), "%s", said);
}

/* Of all that was said above. */
static void answers_do_not_wait_for_the_device(void)
{
    CHECK(!kept_waiting && !held, "waited %d, held afterwards %d", kept_waiting, held);
}

int main(void)
{
    RUN(every_byte_goes_to_the_vm_with_the_keyboard);
    RUN(quick_keys_do_what_help_says);
    RUN(unknown_quick_keys_point_to_help_and_reach_nobody);
    RUN(the_line_is_edited_and_shown);
    RUN(the_line_is_left_by_quit_and_control_keys);
    RUN(return_and_line_feed_are_one_line_end);
    RUN(arrows_and_other_bytes_leave_the_line_as_it_is);
    RUN(a_long_line_is_bounded);
    RUN(quick_keys_work_within_a_line);
    RUN(the_prompt_waits_for_the_answer_but_not_for_ever);
    RUN(commands_reach_the_vm_that_is_named);
    RUN(errors_are_clear);
    RUN(paging_changes_one_thing_at_a_time);
    RUN(list_tells_of_all_vms);
    RUN(the_keyboard_moves_on_when_its_vm_is_over);
    RUN(an_ending_vm_is_left_alone);
    RUN(random_bytes_do_no_harm);
    RUN(answers_do_not_wait_for_the_device);
    return test_status();
}
