/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The monitor, fed with keys: what it asks of the VMs, what the guests get, and what it says. VMs
 * and console are stand-ins that write down what comes.
 */
#include <stdarg.h>
#include <string.h>

#include "hv/arch.h"
#include "hv/console.h"
#include "hv/guest_paging.h"
#include "hv/monitor.h"
#include "tests/host/test.h"

#define HZ 1000u

/* --- stand-ins -------------------------------------------------------------------------------- */

enum { ALPHA, ALBUM, BETA, NESTED, LATER, VM_COUNT };

static struct vm_settings settings[VM_COUNT] = {
    [ALPHA] = {.name = "alpha", .memory = MIB(64), .paging = PAGING_COMPOUND},
    [ALBUM] = {.name = "album", .memory = MIB(32), .paging = PAGING_SHADOW},
    [BETA] = {.name = "beta", .memory = MIB(16), .paging = PAGING_COMPOUND},
    [NESTED] = {.name = "nested1", .memory = MIB(1), .paging = PAGING_NESTED},
    [LATER] = {.name = "later", .memory = MIB(1), .paging = PAGING_COMPOUND},
};
static struct vm vms[VM_COUNT];
static struct vcpu vcpus[VM_COUNT][2];
static enum vm_end ended[VM_COUNT];
static bool there[VM_COUNT];
static char a_compound_table; /* only whether there is one is looked at */

static char said[1 << 16];  /* all that went to the console */
static bool held;           /* text waits for the device, not its writer */
static bool kept_waiting;   /* some was written while it was not */
static char got[1 << 16];   /* what the guests got, as "name:byte " in hex */
static char asked[1 << 12]; /* what was asked of VMs */
static uint64_t now;
static const uint8_t *keys;
static size_t keys_left;
static bool answers; /* VMs do at once what they are asked */
static struct paging_choice choice_asked;

__attribute__((format(printf, 3, 4))) static void add(char *to, size_t room, const char *format,
                                                      ...)
{
    size_t length = strlen(to);
    va_list args;

    va_start(args, format);
    vsnprintf(to + length, room - length, format, args);
    va_end(args);
}

int console_read(void)
{
    if (keys_left == 0)
        return -1;
    keys_left--;
    return *keys++;
}

void console_write(const char *text, size_t len)
{
    kept_waiting |= !held;
    add(said, sizeof(said), "%.*s", (int)len, text);
}

bool console_hold(bool on)
{
    bool before = held;

    held = on;
    return before;
}

void console_begin(void)
{
}

void console_end(void)
{
}

void log_line(const char *format, ...)
{
    char text[600];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    kept_waiting |= !held;
    add(said, sizeof(said), "twofold: %s\n", text);
}

uint64_t time_now(void)
{
    return now;
}

uint64_t time_hz(void)
{
    return HZ;
}

bool vm_known(unsigned n, struct vm_known *known)
{
    if (n >= VM_COUNT)
        return false;
    *known = (struct vm_known){&settings[n], there[n] ? &vms[n] : NULL,
                               there[n] ? vms[n].end : ended[n]};
    return true;
}

void vm_ask(struct vm *vm, uint32_t requests)
{
    add(asked, sizeof(asked), "%s:%x ", vm->settings->name, requests);
    if (!answers)
        vm->requests |= requests;
}

bool vm_is_asked(const struct vm *vm)
{
    return vm->requests != 0;
}

bool vm_input(struct vm *vm, uint8_t key)
{
    add(got, sizeof(got), "%s:%02x ", vm->settings->name, key);
    return true;
}

void vm_pause(struct vm *vm, bool pause)
{
    add(asked, sizeof(asked), "%s:%s ", vm->settings->name, pause ? "pause" : "resume");
    vm->paused = pause;
}

void vm_dump(struct vm *vm)
{
    add(asked, sizeof(asked), "%s:dump ", vm->settings->name);
}

void vm_finish_all(void)
{
    add(asked, sizeof(asked), "finish ");
}

const char *vm_end_name(enum vm_end end)
{
    return end == VM_POWEROFF ? "poweroff" : "other";
}

bool guest_paging_ask(struct vm *vm, const struct paging_choice *choice)
{
    add(asked, sizeof(asked), "%s:paging ", vm->settings->name);
    choice_asked = *choice;
    return true;
}

/* --- driving it ------------------------------------------------------------------------------- */

static void forget(void)
{
    said[0] = got[0] = asked[0] = '\0';
}

static void type_bytes(const void *bytes, size_t length)
{
    keys = bytes;
    keys_left = length;
    while (keys_left > 0)
        monitor_poll();
    monitor_poll();
}

static void type(const char *text)
{
    type_bytes(text, strlen(text));
}

/* All VMs but the last run, nobody types a command, alpha has the keyboard. */
static void begin(void)
{
    now = 1;
    answers = true;
    for (unsigned i = 0; i < VM_COUNT; i++) {
        there[i] = i != LATER;
        ended[i] = VM_RUNNING;
        vms[i] = (struct vm){.settings = &settings[i], .vcpu = vcpus[i], .vcpu_count = 1};
        vms[i].paging.choice = (struct paging_choice){settings[i].paging, policy_default};
        if (settings[i].paging != PAGING_NESTED)
            vms[i].paging.cpt = (struct cpt *)(void *)&a_compound_table;
        memset(vcpus[i], 0, sizeof(vcpus[i]));
    }
    type("\x01"
         "c\x03");
    type("\x01"
         "cattach alpha\r\r");
    forget();
}

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
