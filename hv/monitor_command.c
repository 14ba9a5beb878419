/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * See monitor_command.h: a table of commands, each a row with its words and the function that does
 * it. Names of commands and of VMs may be shortened to a beginning that is no other's.
 */
#include "hv/monitor_command.h"

#include <stdio.h>
#include <string.h>

#include "hv/arch.h"
#include "hv/console.h"
#include "hv/guest_paging.h"

#define WORDS_MAX     4u
#define MS_PER_SECOND 1000u
#define VCPUS_A_LINE  6u

/* The words after the command's own; "" where there are none. */
struct words {
    const char *at[WORDS_MAX];
    unsigned count;
};

struct command {
    const char *name, *words, *help;
    unsigned least, most; /* words */
    void (*run)(struct monitor *m, const struct words *words);
};

static const struct command commands[];
static const unsigned command_count;

/* --- VMs by name ------------------------------------------------------------------------------ */

static bool is_there(const struct vm_known *known)
{
    return known->vm && known->end == VM_RUNNING;
}

static const char *state_name(const struct vm_known *known)
{
    if (is_there(known))
        return known->vm->paused ? "paused" : "running";
    if (known->end == VM_RUNNING)
        return "waits for its turn";
    return known->vm ? "ending" : "ended";
}

static bool find_settings(const struct vm_settings *settings, struct vm_known *known)
{
    for (unsigned n = 0; vm_known(n, known); n++) {
        if (known->settings == settings)
            return true;
    }
    return false;
}

/* The VM called so, or the only one whose name begins so. Else it has said what is wrong. */
static bool find_named(const char *name, struct vm_known *known)
{
    struct vm_known other;
    unsigned found = 0;

    for (unsigned n = 0; vm_known(n, &other); n++) {
        if (strcmp(other.settings->name, name) == 0) {
            *known = other;
            return true;
        }
        if (strncmp(other.settings->name, name, strlen(name)) != 0)
            continue;
        *known = other;
        found++;
    }
    if (found == 0)
        log_line("there is no VM '%s'; `list` shows them", name);
    if (found > 1)
        log_line("'%s' begins the names of %u VMs; `list` shows them", name, found);
    return found == 1;
}

/* The same of those that are there. */
static struct vm *find_running(const char *name)
{
    struct vm_known known;

    if (!find_named(name, &known))
        return NULL;
    if (is_there(&known))
        return known.vm;
    log_line("%s is not there: %s", known.settings->name, state_name(&known));
    return NULL;
}

/* --- the keyboard ----------------------------------------------------------------------------- */

/* The VM behind `after` in the settings file's order, round and round, that is there; the first one
 * for NULL. */
static struct vm *next_running(const struct vm_settings *after)
{
    struct vm_known known;
    struct vm *first = NULL;
    bool passed = false;

    for (unsigned n = 0; vm_known(n, &known); n++) {
        if (is_there(&known) && passed)
            return known.vm;
        if (is_there(&known) && !first)
            first = known.vm;
        passed |= known.settings == after;
    }
    return first;
}

static void give_keyboard(struct monitor *m, const struct vm *vm)
{
    m->keyboard = vm->settings;
    log_line("%s has the keyboard", vm->settings->name);
}

struct vm *monitor_keyboard(struct monitor *m)
{
    struct vm_known known;

    if (m->keyboard && find_settings(m->keyboard, &known) && is_there(&known))
        return known.vm;
    struct vm *vm = next_running(m->keyboard);
    if (vm && m->keyboard)
        give_keyboard(m, vm);
    else if (vm)
        m->keyboard = vm->settings;
    return vm;
}

static void run_attach(struct monitor *m, const struct words *words)
{
    struct vm *vm = find_running(words->at[0]);

    if (vm)
        give_keyboard(m, vm);
}

static void run_next(struct monitor *m, const struct words *words)
{
    struct vm *vm = next_running(m->keyboard);

    (void)words;
    if (vm)
        give_keyboard(m, vm);
    else
        log_line("there is no VM now");
}

/* --- asking and telling ----------------------------------------------------------------------- */

static void ask(struct monitor *m, struct vm *vm, uint32_t requests)
{
    vm_ask(vm, requests);
    m->asked = vm->settings;
}

bool monitor_is_answered(const struct monitor *m)
{
    struct vm_known known;

    if (!m->asked || !find_settings(m->asked, &known) || !known.vm)
        return true;
    return known.end == VM_RUNNING && !vm_is_asked(known.vm);
}

/* The VM of the first word, or without one the VM that has the keyboard. */
static struct vm *named_or_keyboard(struct monitor *m, const struct words *words)
{
    if (words->count > 0)
        return find_running(words->at[0]);
    struct vm *vm = monitor_keyboard(m);
    if (!vm)
        log_line("there is no VM now");
    return vm;
}

static void run_stats(struct monitor *m, const struct words *words)
{
    struct vm *vm = named_or_keyboard(m, words);

    if (vm)
        ask(m, vm, VM_ASK_STATISTICS);
}

static void run_map(struct monitor *m, const struct words *words)
{
    struct vm *vm = named_or_keyboard(m, words);

    if (vm)
        ask(m, vm, VM_ASK_MAP);
}

static void ask_named(struct monitor *m, const struct words *words, uint32_t request)
{
    struct vm *vm = find_running(words->at[0]);

    if (vm)
        ask(m, vm, request);
}

static void run_reset(struct monitor *m, const struct words *words)
{
    ask_named(m, words, VM_ASK_RESET);
}

static void run_end(struct monitor *m, const struct words *words)
{
    ask_named(m, words, VM_ASK_END);
}

static void run_power(struct monitor *m, const struct words *words)
{
    ask_named(m, words, VM_ASK_POWER_BUTTON);
}

static void run_dump(struct monitor *m, const struct words *words)
{
    struct vm *vm = find_running(words->at[0]);

    if (!vm)
        return;
    vm_dump(vm);
    m->asked = vm->settings;
}

static void set_pause(const struct words *words, bool pause)
{
    struct vm *vm = find_running(words->at[0]);

    if (!vm)
        return;
    if (vm->paused == pause) {
        log_line("%s is %s already", vm->settings->name, pause ? "paused" : "running");
        return;
    }
    vm_pause(vm, pause);
    log_line("%s is %s", vm->settings->name, pause ? "paused" : "running again");
}

static void run_pause(struct monitor *m, const struct words *words)
{
    (void)m;
    set_pause(words, true);
}

static void run_resume(struct monitor *m, const struct words *words)
{
    (void)m;
    set_pause(words, false);
}

/* --- list ------------------------------------------------------------------------------------- */

static const char *activity_name(enum vcpu_activity activity)
{
    switch (activity) {
    case VCPU_RUNS:
        return "runs";
    case VCPU_HALTED:
        return "halted";
    case VCPU_WAITS_SIPI:
        return "waits for its start";
    case VCPU_GONE:
        break;
    }
    return "gone";
}

static void list_vcpus(const struct vm *vm)
{
    for (unsigned i = 0; i < vm->vcpu_count;) {
        char text[256] = "";
        size_t length = 0;
        for (unsigned n = 0; n < VCPUS_A_LINE && i < vm->vcpu_count; n++, i++)
            length += (size_t)snprintf(text + length, sizeof(text) - length, "%s%u on %u %s",
                                       n > 0 ? ", " : "", i, vm->vcpu[i].processor,
                                       activity_name(vm->vcpu[i].activity));
        log_line("      virtual processors on processors: %s", text);
    }
}

static void list_running(const struct vm *vm, bool keyboard)
{
    const struct vm_settings *s = vm->settings;
    const struct paging_choice *choice = &vm->paging.choice;
    uint64_t ms = (time_now() - vm->started) * MS_PER_SECOND / time_hz();

    log_line("  %s %s: %s, %u processor%s, %llu MiB, paging %s%s%s, up %llu.%03llu s",
             keyboard ? "*" : " ", s->name, vm->paused ? "paused" : "running", vm->vcpu_count,
             vm->vcpu_count == 1 ? "" : "s", (unsigned long long)s->memory >> 20,
             paging_mode_name(choice->mode), choice->mode == PAGING_COMPOUND ? " by policy " : "",
             choice->mode == PAGING_COMPOUND ? policy_name(choice->policy.kind) : "",
             (unsigned long long)(ms / MS_PER_SECOND), (unsigned long long)(ms % MS_PER_SECOND));
    list_vcpus(vm);
}

static void run_list(struct monitor *m, const struct words *words)
{
    const struct vm *keyboard = monitor_keyboard(m);
    struct vm_known known;

    (void)words;
    for (unsigned n = 0; vm_known(n, &known); n++) {
        if (is_there(&known))
            list_running(known.vm, known.vm == keyboard);
        else if (known.end == VM_RUNNING)
            log_line("    %s: %s", known.settings->name, state_name(&known));
        else
            log_line("    %s: %s (%s)", known.settings->name, state_name(&known),
                     vm_end_name(known.end));
    }
}

/* --- paging ----------------------------------------------------------------------------------- */

/* The VM of the first word whose paging can be changed, and its choice now. */
static struct vm *find_changeable(const struct words *words, struct paging_choice *choice)
{
    struct vm *vm = find_running(words->at[0]);

    if (!vm)
        return NULL;
    if (!vm->paging.cpt) {
        log_line(
            "%s was made with paging = %s: it has no compound page table, and its paging cannot "
            "be changed while it runs",
            vm->settings->name, paging_mode_name(vm->settings->paging));
        return NULL;
    }
    if (__atomic_load_n(&vm->paging.is_asked, __ATOMIC_ACQUIRE)) {
        log_line("%s is still at the change before", vm->settings->name);
        return NULL;
    }
    *choice = vm->paging.choice;
    return vm;
}

static void change(struct monitor *m, struct vm *vm, const struct paging_choice *choice)
{
    if (!guest_paging_ask(vm, choice)) {
        log_line("%s is still at the change before", vm->settings->name);
        return;
    }
    m->asked = vm->settings;
    if (choice->mode != PAGING_COMPOUND && vm->paging.choice.mode == choice->mode)
        log_line("%s: paging is %s: the policy decides with paging compound only",
                 vm->settings->name, paging_mode_name(choice->mode));
}

static void run_paging(struct monitor *m, const struct words *words)
{
    int mode = paging_mode_of(words->at[1]);
    struct paging_choice choice;

    if (mode < 0 || mode == PAGING_NATIVE) {
        log_line("paging '%s': must be nested, shadow or compound", words->at[1]);
        return;
    }
    struct vm *vm = find_changeable(words, &choice);
    if (!vm)
        return;
    if (choice.mode == (enum paging_mode)mode) {
        log_line("%s: paging is %s already", vm->settings->name, words->at[1]);
        return;
    }
    choice.mode = (enum paging_mode)mode;
    change(m, vm, &choice);
}

static void run_policy(struct monitor *m, const struct words *words)
{
    int kind = policy_kind_of(words->at[1]);
    struct paging_choice choice;

    if (kind < 0) {
        log_line("policy '%s': must be cost, threshold, static or shsp", words->at[1]);
        return;
    }
    struct vm *vm = find_changeable(words, &choice);
    if (!vm)
        return;
    choice.policy.kind = (enum policy_kind)kind;
    change(m, vm, &choice);
}

static void run_set(struct monitor *m, const struct words *words)
{
    struct paging_choice choice;
    struct why why;
    struct vm *vm = find_changeable(words, &choice);

    if (!vm)
        return;
    if (settings_set_policy(&choice.policy, words->at[1], words->at[2], &why))
        change(m, vm, &choice);
    else
        log_line("%s", why.text);
}

/* --- help ------------------------------------------------------------------------------------- */

static const struct {
    char key;
    const char *command, *help;
} quick_commands[] = {
    {'h', "help", "this"},
    {'?', "help", "the same"},
    {'l', "list", "all VMs"},
    {'s', "stats", "statistics of the VM that has the keyboard"},
    {'m', "map", "its map of regions"},
    {'n', "next", "the next VM gets the keyboard"},
};

static void help_keys(void)
{
    log_line("Ctrl-A, then");
    for (unsigned i = 0; i < ARRAY_SIZE(quick_commands); i++)
        log_line("  %c       %s", quick_commands[i].key, quick_commands[i].help);
    log_line("  c or :  a command line; an empty line, `quit` or Ctrl-C leaves it");
    log_line("  Ctrl-A  one Ctrl-A for the guest");
}

static void run_help(struct monitor *m, const struct words *words)
{
    char keys[512] = "";
    size_t length = 0;
    const char *key;

    (void)m;
    (void)words;
    console_begin();
    help_keys();
    log_line("Commands; names of commands and VMs may be shortened:");
    for (unsigned i = 0; i < command_count; i++)
        log_line("  %-7s %-30s %s", commands[i].name, commands[i].words, commands[i].help);
    for (unsigned n = 0; (key = settings_policy_key(n)) != NULL && length < sizeof(keys); n++)
        length += (size_t)snprintf(keys + length, sizeof(keys) - length, " %s", key);
    log_line("KEY is one of%s", keys);
    console_end();
}

static void run_finish(struct monitor *m, const struct words *words)
{
    (void)m;
    (void)words;
    vm_finish_all();
    log_line("no VM starts any more");
}

static void run_quit(struct monitor *m, const struct words *words)
{
    (void)words;
    m->quit = true;
}

/* --- the table -------------------------------------------------------------------------------- */

static const struct command commands[] = {
    {"help", "", "this", 0, 0, run_help},
    {"list", "", "all VMs; * has the keyboard", 0, 0, run_list},
    {"attach", "VM", "it gets the keyboard", 1, 1, run_attach},
    {"next", "", "the next VM gets the keyboard", 0, 0, run_next},
    {"stats", "[VM]", "statistics; without a name of the VM that has the keyboard", 0, 1,
     run_stats},
    {"map", "[VM]", "the map of regions of its first processor's root", 0, 1, run_map},
    {"dump", "VM", "its processors' registers", 1, 1, run_dump},
    {"pause", "VM", "its processors stop", 1, 1, run_pause},
    {"resume", "VM", "and go on", 1, 1, run_resume},
    {"power", "VM", "its power button: the guest may shut itself down", 1, 1, run_power},
    {"reset", "VM", "it starts again, from its image", 1, 1, run_reset},
    {"end", "VM", "at once", 1, 1, run_end},
    {"paging", "VM nested|shadow|compound", "how its memory is translated from now on", 2, 2,
     run_paging},
    {"policy", "VM cost|threshold|static|shsp", "with paging compound", 2, 2, run_policy},
    {"set", "VM KEY NUMBER", "of the policy, as in the settings file", 3, 3, run_set},
    {"finish", "", "no VM starts any more, nor again; when those that run have ended, all is over",
     0, 0, run_finish},
    {"quit", "", "leave the command line", 0, 0, run_quit},
};
static const unsigned command_count = ARRAY_SIZE(commands);

/* The command called so, or the only one that begins so. Else it has said what is wrong. */
static const struct command *find_command(const char *name)
{
    const struct command *found = NULL;
    char could_be[128] = "";
    size_t length = 0;

    for (unsigned i = 0; i < command_count; i++) {
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
        if (strncmp(commands[i].name, name, strlen(name)) != 0)
            continue;
        length += (size_t)snprintf(could_be + length, sizeof(could_be) - length, "%s%s",
                                   found ? ", " : "", commands[i].name);
        found = &commands[i];
    }
    if (!found)
        log_line("there is no command '%s'; `help` shows them", name);
    else if (strchr(could_be, ','))
        log_line("'%s' could be %s", name, could_be);
    else
        return found;
    return NULL;
}

/* Words are what stands between blanks; as in the settings file, `=` may stand before a value.
 * False when there are more than fit. */
static bool split(char *line, const char **name, struct words *words)
{
    static const char blanks[] = " \t=";

    *name = NULL;
    *words = (struct words){{"", "", "", ""}, 0};
    for (char *at = line + strspn(line, blanks); *at; at += strspn(at, blanks)) {
        if (*name && words->count == WORDS_MAX)
            return false;
        if (*name)
            words->at[words->count++] = at;
        else
            *name = at;
        at += strcspn(at, blanks);
        if (*at)
            *at++ = '\0';
    }
    return true;
}

void monitor_command(struct monitor *m, char *line)
{
    const char *name;
    struct words words;
    bool fits = split(line, &name, &words);

    if (!name)
        return;
    const struct command *command = find_command(name);
    if (!command)
        return;
    if (!fits || words.count < command->least || words.count > command->most) {
        log_line("%s takes %s", command->name, command->most ? command->words : "no more words");
        return;
    }
    command->run(m, &words);
}

bool monitor_quick_command(struct monitor *m, char key)
{
    for (unsigned i = 0; i < ARRAY_SIZE(quick_commands); i++) {
        if (quick_commands[i].key == key) {
            char line[sizeof("stats") + 1];
            snprintf(line, sizeof(line), "%s", quick_commands[i].command);
            monitor_command(m, line);
            return true;
        }
    }
    return false;
}
