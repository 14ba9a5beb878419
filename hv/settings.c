/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * See settings.h. One pass over the lines; keys are rows of two tables, each with the function that
 * reads its value. A VM's section is checked for what it must have when the next one begins.
 */
#include "hv/settings.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_LENGTH_MAX  1280
#define MEMORY_DEFAULT   MIB(64)
#define MEMORY_MIN       MIB(1)
#define MEMORY_MAX       (1ull << 46)
#define TIME_LIMIT_MAX_S (365u * 24 * 3600)
#define MS_PER_S         1000u
#define US_PER_MS        1000u

#define SHADOW_MEMORY_MIN KIB(64)
#define SHADOW_MEMORY_MAX GIB(16)

#define INTERVAL_DEFAULT_US 500u
#define INTERVAL_MIN_US     100u
#define INTERVAL_MAX_US     10000000u
#define COUNT_MAX           1000000u
#define PREFETCH_MAX        512 /* entries of a table */
#define LEVELS_MAX          4u
#define TRACE_DEFAULT       1024u
#define TRACE_MAX           1048576u

#define WATCHDOG_DEFAULT_S 20u
#define WATCHDOG_MAX_S     3600u
#define REPEAT_MAX         1000000u

#define KEYS_MAX 64 /* in a section */

#define LETTERS_AND_DIGITS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
#define BLANKS             " \t"
#define NAME_CHARACTERS    LETTERS_AND_DIGITS "-_."

struct parser {
    const struct module_list *modules;
    struct settings *out;
    struct why *why;
    unsigned line;
    bool in_global; /* the section is [twofold] */
    bool seen_global;
    struct vm_settings *vm; /* the section is this VM's */
    /* Of this section: the line in which row n of its table of keys was last seen; 0: not yet. */
    unsigned key_line[KEYS_MAX];
    /* Of the whole file, likewise; 0: at its default. */
    unsigned run_line, processors_line, side_by_side_line, fail_line;
};

/* Reads a key's value into the settings. On failure it has said why. */
typedef bool value_reader(struct parser *p, const char *value);

struct key {
    const char *name;
    value_reader *read; /* NULL: a number of 32 bits at `offset` of struct vm_settings */
    bool may_repeat;
    uint32_t offset, least, most;
};

/* --- messages --------------------------------------------------------------------------------- */

__attribute__((format(printf, 3, 0))) static bool vfail(struct parser *p, unsigned line,
                                                        const char *format, va_list args)
{
    char text[sizeof(p->why->text) - 32];

    vsnprintf(text, sizeof(text), format, args);
    return why_set(p->why, "%s:%u: %s", SETTINGS_FILE, line, text);
}

/* Of the line that is being read. */
__attribute__((format(printf, 2, 3))) static bool fail(struct parser *p, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vfail(p, p->line, format, args);
    va_end(args);
    return false;
}

__attribute__((format(printf, 3, 4))) static bool fail_at(struct parser *p, unsigned line,
                                                          const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vfail(p, line, format, args);
    va_end(args);
    return false;
}

/* --- names of values -------------------------------------------------------------------------- */

static const char *const at_end_names[] = {
    [AT_END_STAY] = "stay",   [AT_END_POWEROFF] = "poweroff", [AT_END_RESET] = "reset",
    [AT_END_BOCHS] = "bochs", [AT_END_QEMU] = "qemu",
};

static const char *const feature_names[] = {
    [FEATURE_VPID] = "vpid",
    [FEATURE_PREEMPTION_TIMER] = "preemption_timer",
    [FEATURE_UNRESTRICTED_GUEST] = "unrestricted_guest",
    [FEATURE_1G_PAGES] = "1g_pages",
    [FEATURE_2M_PAGES] = "2m_pages",
    [FEATURE_MONITOR_TRAP_FLAG] = "monitor_trap_flag",
    [FEATURE_SMEP] = "smep",
    [FEATURE_SMAP] = "smap",
    [FEATURE_X2APIC] = "x2apic",
    [FEATURE_EPT] = "ept",
    [FEATURE_SHADOW_STACKS] = "shadow_stacks",
    [FEATURE_PMU] = "pmu",
};
_Static_assert(ARRAY_SIZE(feature_names) == FEATURE_COUNT, "a name for each feature");

static const char *const self_test_names[] = {
    [SELF_TEST_NONE] = "none",
    [SELF_TEST_PANIC] = "panic",
    [SELF_TEST_NULL] = "null",
    [SELF_TEST_WRITE_TEXT] = "write_text",
    [SELF_TEST_WRITE_RODATA] = "write_rodata",
    [SELF_TEST_EXECUTE_DATA] = "execute_data",
    [SELF_TEST_STACK_OVERFLOW] = "stack_overflow",
    [SELF_TEST_STACK_SMASH] = "stack_smash",
    [SELF_TEST_OTHER_PANICS] = "other_panics",
    [SELF_TEST_PROCESSORS] = "processors",
    [SELF_TEST_DMA] = "dma",
};

static const char *const paging_names[] = {
    [PAGING_NESTED] = "nested",
    [PAGING_SHADOW] = "shadow",
    [PAGING_COMPOUND] = "compound",
    [PAGING_NATIVE] = "native",
};

static const char *const run_names[] = {
    [RUN_IN_TURN] = "in_turn",
    [RUN_TOGETHER] = "together",
};

static const char *const mitigations_names[] = {
    [MITIGATIONS_AUTO] = "auto",
    [MITIGATIONS_OFF] = "off",
    [MITIGATIONS_ALL] = "all",
};

static const char *const measure_names[] = {
    [MEASURE_AUTO] = "auto",
    [MEASURE_OFF] = "off",
    [MEASURE_REQUIRED] = "required",
};

static const char *const keys_names[] = {
    [KEYS_UART] = "uart",
    [KEYS_VIRTIO] = "virtio",
};

static const char *const on_reset_names[] = {
    [ON_RESET_END] = "end",
    [ON_RESET_RESTART] = "restart",
};

static const struct {
    const char *name;
    uint64_t bytes;
} page_sizes[] = {{"4k", PAGE_SIZE}, {"2m", PAGE_SIZE_2M}, {"1g", PAGE_SIZE_1G}};

int vm_pinned_to(const struct vm_settings *vm, unsigned cpu)
{
    return vm->pin_count ? vm->pin[cpu % vm->pin_count] : -1;
}

const char *paging_mode_name(enum paging_mode mode)
{
    return paging_names[mode];
}

const char *page_size_name(uint64_t bytes)
{
    for (size_t i = 0; i < ARRAY_SIZE(page_sizes); i++) {
        if (page_sizes[i].bytes == bytes)
            return page_sizes[i].name;
    }
    return "?";
}

const char *feature_name(enum feature feature)
{
    return feature_names[feature];
}

/* The index of `word` in `names`, or -1. */
static int find_name(const char *const *names, size_t count, const char *word)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(names[i], word) == 0)
            return (int)i;
    }
    return -1;
}

int paging_mode_of(const char *name)
{
    return find_name(paging_names, ARRAY_SIZE(paging_names), name);
}

int policy_kind_of(const char *name)
{
    for (int i = 0; i < POLICY_KINDS; i++) {
        if (strcmp(policy_name((enum policy_kind)i), name) == 0)
            return i;
    }
    return -1;
}

/* --- values ----------------------------------------------------------------------------------- */

/* Digits and nothing else before the unit, which *rest gets. False on overflow too. */
static bool read_number(const char *value, uint64_t *number, const char **rest)
{
    char *end;

    if (strspn(value, "0123456789") == 0 || strspn(value, "0123456789") > 18)
        return false;
    *number = strtoull(value, &end, 10);
    *rest = end;
    return true;
}

static bool copy_text(struct parser *p, char *to, size_t room, const char *value, const char *what)
{
    if (strlen(value) >= room)
        return fail(p, "%s is longer than %zu characters", what, room - 1);
    strncpy(to, value, room);
    return true;
}

/* Copy the first word of *value, which then is at the second. */
static bool copy_word(struct parser *p, char *to, size_t room, const char **value, const char *what)
{
    size_t length = strcspn(*value, BLANKS);

    if (length >= room)
        return fail(p, "%s is longer than %zu characters", what, room - 1);
    memcpy(to, *value, length);
    to[length] = '\0';
    *value += length;
    *value += strspn(*value, BLANKS);
    return true;
}

static bool check_module(struct parser *p, const char *name)
{
    if (module_find(p->modules, name))
        return true;
    return fail(p, "there is no file '%s' in \\twofold\\ on the EFI partition", name);
}

static bool read_at_end(struct parser *p, const char *value)
{
    int found = find_name(at_end_names, ARRAY_SIZE(at_end_names), value);

    if (found < 0)
        return fail(p, "at_end = %s: must be stay, poweroff, reset, bochs or qemu", value);
    p->out->at_end = (enum at_end)found;
    return true;
}

static bool read_without(struct parser *p, const char *value)
{
    while (*value) {
        char word[32] = "";
        size_t length = strspn(value, NAME_CHARACTERS);
        if (length < sizeof(word))
            memcpy(word, value, length);
        int found = find_name(feature_names, FEATURE_COUNT, word);
        if (found < 0)
            return fail(p, "without = ... %s: no optional feature has this name", value);
        p->out->without |= 1ull << found;
        value += length;
        value += strspn(value, " \t,");
    }
    return true;
}

static bool read_self_test(struct parser *p, const char *value)
{
    int found = find_name(self_test_names, ARRAY_SIZE(self_test_names), value);

    if (found < 0)
        return fail(p, "self_test = %s: there is no such test", value);
    p->out->self_test = (enum self_test)found;
    return true;
}

static bool read_run(struct parser *p, const char *value)
{
    int found = find_name(run_names, ARRAY_SIZE(run_names), value);

    if (found < 0)
        return fail(p, "run = %s: must be in_turn or together", value);
    p->out->run = (enum run_order)found;
    p->run_line = p->line;
    return true;
}

static bool read_mitigations(struct parser *p, const char *value)
{
    int found = find_name(mitigations_names, ARRAY_SIZE(mitigations_names), value);

    if (found < 0)
        return fail(p, "mitigations = %s: must be auto, off or all", value);
    p->out->mitigations = (enum mitigations)found;
    return true;
}

static bool read_dma_protection(struct parser *p, const char *value)
{
    p->out->dma_protection = strcmp(value, "auto") == 0;
    if (!p->out->dma_protection && strcmp(value, "off") != 0)
        return fail(p, "dma_protection = %s: must be auto or off", value);
    return true;
}

static bool read_measure(struct parser *p, const char *value)
{
    int found = find_name(measure_names, ARRAY_SIZE(measure_names), value);

    if (found < 0)
        return fail(p, "measure = %s: must be auto, off or required", value);
    p->out->measure = (enum measure)found;
    return true;
}

static bool read_kaslr(struct parser *p, const char *value)
{
    p->out->kaslr = strcmp(value, "on") == 0;
    if (!p->out->kaslr && strcmp(value, "off") != 0)
        return fail(p, "kaslr = %s: must be on or off", value);
    return true;
}

static bool read_image(struct parser *p, const char *value)
{
    return copy_text(p, p->vm->image, sizeof(p->vm->image), value, "image") &&
           check_module(p, value);
}

static bool read_args(struct parser *p, const char *value)
{
    return copy_text(p, p->vm->args, sizeof(p->vm->args), value, "args");
}

static bool read_module(struct parser *p, const char *value)
{
    struct vm_settings *vm = p->vm;

    if (vm->module_count == VM_MODULES_MAX)
        return fail(p, "more than %d modules", VM_MODULES_MAX);
    struct vm_module *module = &vm->module[vm->module_count];
    if (!copy_word(p, module->name, sizeof(module->name), &value, "module name") ||
        !copy_text(p, module->args, sizeof(module->args), value, "module arguments") ||
        !check_module(p, module->name))
        return false;
    vm->module_count++;
    return true;
}

static bool read_disk(struct parser *p, const char *value)
{
    struct vm_settings *vm = p->vm;

    if (vm->disk_count == VM_DISKS_MAX)
        return fail(p, "more than %d disks", VM_DISKS_MAX);
    struct vm_disk *disk = &vm->disk[vm->disk_count];
    if (!copy_word(p, disk->name, sizeof(disk->name), &value, "disk name"))
        return false;
    disk->read_only = strcmp(value, "ro") == 0;
    if (*value && !disk->read_only)
        return fail(p, "disk = %s %s: only 'ro' can follow the file", disk->name, value);
    if (!check_module(p, disk->name))
        return false;
    vm->disk_count++;
    return true;
}

/* A number and K, M or G, in bytes. False on overflow of 64 TiB too: it has said so. */
static bool read_bytes(struct parser *p, const char *name, const char *value, uint64_t *bytes)
{
    static const struct {
        const char *name;
        uint64_t bytes;
    } units[] = {{"K", KIB(1)}, {"M", MIB(1)}, {"G", GIB(1)}};
    uint64_t number;
    const char *rest;

    if (read_number(value, &number, &rest)) {
        for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
            if (strcmp(rest, units[i].name) != 0)
                continue;
            if (number > MEMORY_MAX / units[i].bytes)
                return fail(p, "%s = %s: more than 64 TiB", name, value);
            *bytes = number * units[i].bytes;
            return true;
        }
    }
    return fail(p, "%s = %s: must be a number and K, M or G", name, value);
}

static bool read_memory(struct parser *p, const char *value)
{
    uint64_t bytes = 0;

    if (!read_bytes(p, "memory", value, &bytes))
        return false;
    if (bytes < MEMORY_MIN)
        return fail(p, "memory = %s: less than 1M", value);
    if (!is_aligned(bytes, PAGE_SIZE))
        return fail(p, "memory = %s: not a multiple of 4K", value);
    p->vm->memory = bytes;
    return true;
}

static bool read_shadow_memory(struct parser *p, const char *value)
{
    uint64_t bytes = 0;

    if (!read_bytes(p, "shadow_memory", value, &bytes))
        return false;
    if (bytes < SHADOW_MEMORY_MIN || bytes > SHADOW_MEMORY_MAX || !is_aligned(bytes, 2 * PAGE_SIZE))
        return fail(p, "shadow_memory = %s: must be 64K to 16G, a multiple of 8K", value);
    p->vm->shadow_memory = bytes;
    return true;
}

static bool read_paging(struct parser *p, const char *value)
{
    int found = paging_mode_of(value);

    if (found >= 0) {
        p->vm->paging = (enum paging_mode)found;
        return true;
    }
    return fail(p, "paging = %s: must be nested, shadow, compound or native", value);
}

static bool read_policy(struct parser *p, const char *value)
{
    int found = policy_kind_of(value);

    if (found >= 0) {
        p->vm->policy.kind = (enum policy_kind)found;
        return true;
    }
    return fail(p, "policy = %s: must be cost, threshold, static or shsp", value);
}

static bool read_interval(struct parser *p, const char *value)
{
    uint64_t number;
    const char *rest;

    if (!read_number(value, &number, &rest) || (strcmp(rest, "us") != 0 && strcmp(rest, "ms") != 0))
        return fail(p, "interval = %s: must be a number and us or ms", value);
    uint64_t us = number * (strcmp(rest, "ms") == 0 ? US_PER_MS : 1);
    if (number > INTERVAL_MAX_US || us < INTERVAL_MIN_US || us > INTERVAL_MAX_US)
        return fail(p, "interval = %s: must be 100us to 10000ms", value);
    p->vm->interval_us = us;
    return true;
}

#define NOT_A_COUNT "%s = %s: must be a number from %llu to %llu"

/* A plain number within [least, most]. */
static bool is_count(const char *value, uint64_t least, uint64_t most, uint64_t *count)
{
    const char *rest;

    return read_number(value, count, &rest) && !*rest && *count >= least && *count <= most;
}

static bool read_count(struct parser *p, const char *name, const char *value, uint64_t least,
                       uint64_t most, uint64_t *count)
{
    if (is_count(value, least, most, count))
        return true;
    return fail(p, NOT_A_COUNT, name, value, (unsigned long long)least, (unsigned long long)most);
}

static bool read_seed(struct parser *p, const char *value)
{
    return read_count(p, "seed", value, 0, ~0ull, &p->vm->seed);
}

static bool read_trace(struct parser *p, const char *value)
{
    uint64_t events = 0;

    if (!read_count(p, "trace", value, 0, TRACE_MAX, &events))
        return false;
    if (events & (events - 1))
        return fail(p, "trace = %s: must be a power of two, or 0", value);
    p->vm->trace = (uint32_t)events;
    return true;
}

static bool read_ept_page(struct parser *p, const char *value)
{
    for (size_t i = 0; i < ARRAY_SIZE(page_sizes); i++) {
        if (strcmp(page_sizes[i].name, value) == 0) {
            p->vm->ept_page = page_sizes[i].bytes;
            return true;
        }
    }
    return fail(p, "ept_page = %s: must be 4k, 2m or 1g", value);
}

static bool read_processors(struct parser *p, const char *value)
{
    uint64_t count = 0;

    if (!read_count(p, "processors", value, 1, PROCESSORS_MAX, &count))
        return false;
    p->out->processors = (unsigned)count;
    p->processors_line = p->line;
    return true;
}

static bool read_side_by_side(struct parser *p, const char *value)
{
    uint64_t count = 0;

    if (!read_count(p, "side_by_side", value, 1, VMS_MAX, &count))
        return false;
    p->out->side_by_side = (uint32_t)count;
    p->side_by_side_line = p->line;
    return true;
}

static bool read_repeat(struct parser *p, const char *value)
{
    uint64_t count = 0;

    if (!read_count(p, "repeat", value, 0, REPEAT_MAX, &count))
        return false;
    p->out->repeat = (uint32_t)count;
    return true;
}

static bool read_watchdog(struct parser *p, const char *value)
{
    uint64_t seconds;
    const char *rest;

    if (!read_number(value, &seconds, &rest) || strcmp(rest, "s") != 0 || seconds > WATCHDOG_MAX_S)
        return fail(p, "watchdog = %s: must be 0s to %us", value, WATCHDOG_MAX_S);
    p->out->watchdog_s = (unsigned)seconds;
    return true;
}

static bool read_pin(struct parser *p, const char *value)
{
    struct vm_settings *vm = p->vm;

    while (*value) {
        uint64_t number = 0;
        const char *rest;
        if (!read_number(value, &number, &rest) || (*rest && !strchr(BLANKS, *rest)))
            return fail(p,
                        "pin = ... %s: must be numbers of processors, from 0, with blanks between",
                        value);
        if (number >= PROCESSORS_MAX)
            return fail(p, "pin = ... %s: the last processor is %u", value, PROCESSORS_MAX - 1);
        if (vm->pin_count == VCPUS_MAX)
            return fail(p, "pin has more than %u processors", VCPUS_MAX);
        vm->pin[vm->pin_count++] = (uint16_t)number;
        value = rest + strspn(rest, BLANKS);
    }
    return true;
}

static bool read_keys(struct parser *p, const char *value)
{
    int found = find_name(keys_names, ARRAY_SIZE(keys_names), value);

    if (found < 0)
        return fail(p, "keys = %s: must be uart or virtio", value);
    p->vm->keys = (enum keys_to)found;
    return true;
}

static bool read_on_reset(struct parser *p, const char *value)
{
    int found = find_name(on_reset_names, ARRAY_SIZE(on_reset_names), value);

    if (found < 0)
        return fail(p, "on_reset = %s: must be end or restart", value);
    p->vm->on_reset = (enum on_reset)found;
    return true;
}

static bool read_time_limit(struct parser *p, const char *value)
{
    uint64_t number;
    const char *rest;

    if (!read_number(value, &number, &rest) || (strcmp(rest, "s") != 0 && strcmp(rest, "ms") != 0))
        return fail(p, "time_limit = %s: must be a number and s or ms", value);
    uint64_t per_unit = strcmp(rest, "s") == 0 ? MS_PER_S : 1;
    if (number == 0 || number > (uint64_t)TIME_LIMIT_MAX_S * MS_PER_S / per_unit)
        return fail(p, "time_limit = %s: must be more than 0 and at most a year", value);
    p->vm->time_limit_ms = number * per_unit;
    return true;
}

/* N of a word PREFIX:N; 0 if it is none. */
static unsigned fault_number(const char *word, const char *prefix, unsigned most)
{
    size_t length = strlen(prefix);
    uint64_t number;

    if (strncmp(word, prefix, length) != 0 || !is_count(word + length, 1, most, &number))
        return 0;
    return (unsigned)number;
}

static bool read_fault_cpu(struct fault_plan *plan, const char *word)
{
    static const char *const prefixes[FAULT_CPU_KINDS] = {
        [FAULT_CPU_ABSENT] = "cpu:",
        [FAULT_CPU_HANGS] = "cpu-hangs:",
        [FAULT_CPU_STOPS] = "cpu-stops:",
        [FAULT_CPU_DIFFERS] = "cpu-differs:",
    };

    for (unsigned kind = 0; kind < FAULT_CPU_KINDS; kind++) {
        unsigned number = fault_number(word, prefixes[kind], 63);
        if (number > 0) {
            plan->cpu[kind] |= 1ull << number;
            return true;
        }
    }
    return false;
}

static bool read_fault_capability(struct fault_plan *plan, const char *word)
{
    static const char prefix[] = "capability:";
    const char *name = word + sizeof(prefix) - 1;

    if (strncmp(word, prefix, sizeof(prefix) - 1) != 0 || *name == '\0' ||
        strlen(name) >= FAULT_NAME_MAX || plan->capabilities == FAULT_CAPABILITIES_MAX)
        return false;
    plan->each_capability |= strcmp(name, "each") == 0;
    memcpy(plan->capability[plan->capabilities++], name, strlen(name) + 1);
    return true;
}

static bool read_fault(struct parser *p, const char *word)
{
    struct fault_plan *plan = &p->out->fail;
    unsigned alloc = fault_number(word, "alloc:", UINT32_MAX);

    if (p->in_global) {
        if (alloc > 0)
            plan->alloc = alloc;
        return alloc > 0 || read_fault_cpu(plan, word) || read_fault_capability(plan, word);
    }
    p->vm->fault.wanted = true;
    if (alloc > 0)
        p->vm->fault.alloc = alloc;
    else if (strcmp(word, "stuck") == 0)
        p->vm->fault.stuck = true;
    else
        return false;
    return true;
}

static bool read_fail(struct parser *p, const char *value)
{
    char word[sizeof("capability:") + FAULT_NAME_MAX] = "";

    if (!FAULTS_BUILT)
        return fail(p, "fail = %s: this build injects no faults; one made with FAULTS=1 does",
                    value);
    if (!p->in_global)
        p->fail_line = p->line;
    while (*value) {
        if (!copy_word(p, word, sizeof(word), &value, "a word of fail"))
            return false;
        if (!read_fault(p, word))
            return fail(p, "fail = ... %s: there is no such fault here", word);
    }
    return true;
}

static bool read_plain(struct parser *p, const struct key *key, const char *value)
{
    uint64_t count = 0;

    if (!read_count(p, key->name, value, key->least, key->most, &count))
        return false;
    uint32_t number = (uint32_t)count;
    memcpy((char *)p->vm + key->offset, &number, sizeof(number));
    return true;
}

/* --- keys ------------------------------------------------------------------------------------- */

static const struct key global_keys[] = {
    {"at_end", read_at_end, false, 0, 0, 0},
    {"without", read_without, false, 0, 0, 0},
    {"self_test", read_self_test, false, 0, 0, 0},
    {"run", read_run, false, 0, 0, 0},
    {"processors", read_processors, false, 0, 0, 0},
    {"measure", read_measure, false, 0, 0, 0},
    {"mitigations", read_mitigations, false, 0, 0, 0},
    {"dma_protection", read_dma_protection, false, 0, 0, 0},
    {"side_by_side", read_side_by_side, false, 0, 0, 0},
    {"repeat", read_repeat, false, 0, 0, 0},
    {"watchdog", read_watchdog, false, 0, 0, 0},
    {"fail", read_fail, false, 0, 0, 0},
    {"kaslr", read_kaslr, false, 0, 0, 0},
};

/* The row of a plain number, which needs no reader of its own. */
#define COUNT(member, least, most) NULL, false, offsetof(struct vm_settings, member), least, most

static const struct key vm_keys[] = {
    {"image", read_image, false, 0, 0, 0},
    {"args", read_args, false, 0, 0, 0},
    {"module", read_module, true, 0, 0, 0},
    {"disk", read_disk, true, 0, 0, 0},
    {"memory", read_memory, false, 0, 0, 0},
    {"paging", read_paging, false, 0, 0, 0},
    {"shadow_memory", read_shadow_memory, false, 0, 0, 0},
    {"policy", read_policy, false, 0, 0, 0},
    {"switch_level", COUNT(policy.switch_level, 0, LEVELS_MAX)},
    {"interval", read_interval, false, 0, 0, 0},
    {"demote_writes", COUNT(policy.demote_writes, 1, COUNT_MAX)},
    {"promote_unchanged", COUNT(policy.promote_unchanged, 1, COUNT_MAX)},
    {"quick_return", COUNT(policy.quick_return, 0, COUNT_MAX)},
    {"root_age", COUNT(policy.root_age, 0, COUNT_MAX)},
    {"cost_exit", COUNT(policy.cost_exit, 0, COUNT_MAX)},
    {"cost_reference", COUNT(policy.cost_reference, 0, COUNT_MAX)},
    {"walk_ticks", COUNT(policy.walk_ticks, 1, COUNT_MAX)},
    {"walks_per_load", COUNT(policy.walks_per_load, 0, COUNT_MAX)},
    {"unsync_writes", COUNT(policy.unsync_writes, 0, COUNT_MAX)},
    {"flood_writes", COUNT(policy.flood_writes, 0, COUNT_MAX)},
    {"prefetch", COUNT(policy.prefetch, 0, PREFETCH_MAX)},
    {"stress", COUNT(stress, 0, COUNT_MAX)},
    {"seed", read_seed, false, 0, 0, 0},
    {"trace", read_trace, false, 0, 0, 0},
    {"ept_page", read_ept_page, false, 0, 0, 0},
    {"cpus", COUNT(cpus, 1, VCPUS_MAX)},
    {"pin", read_pin, false, 0, 0, 0},
    {"on_reset", read_on_reset, false, 0, 0, 0},
    {"keys", read_keys, false, 0, 0, 0},
    {"time_limit", read_time_limit, false, 0, 0, 0},
    {"fail", read_fail, false, 0, 0, 0},
};
_Static_assert(ARRAY_SIZE(global_keys) <= KEYS_MAX && ARRAY_SIZE(vm_keys) <= KEYS_MAX,
               "key_line has a place for each");

/* --- the policy's alone ----------------------------------------------------------------------- */

static bool is_of_policy(const struct key *key)
{
    return !key->read && key->offset >= offsetof(struct vm_settings, policy) &&
           key->offset < offsetof(struct vm_settings, policy) + sizeof(struct policy_settings);
}

const char *settings_policy_key(unsigned n)
{
    for (size_t i = 0; i < ARRAY_SIZE(vm_keys); i++) {
        if (is_of_policy(&vm_keys[i]) && n-- == 0)
            return vm_keys[i].name;
    }
    return NULL;
}

bool settings_set_policy(struct policy_settings *policy, const char *name, const char *value,
                         struct why *why)
{
    for (size_t i = 0; i < ARRAY_SIZE(vm_keys); i++) {
        const struct key *key = &vm_keys[i];
        uint64_t count;
        if (!is_of_policy(key) || strcmp(key->name, name) != 0)
            continue;
        if (!is_count(value, key->least, key->most, &count))
            return why_set(why, NOT_A_COUNT, name, value, (unsigned long long)key->least,
                           (unsigned long long)key->most);
        uint32_t number = (uint32_t)count;
        memcpy((char *)policy + (key->offset - offsetof(struct vm_settings, policy)), &number,
               sizeof(number));
        return true;
    }
    return why_set(why, "the policy has no number '%s'", name);
}

/* --- what fits together ----------------------------------------------------------------------- */

/* The line of a key of the VM's section that ends, 0 if it has none. */
static unsigned line_of(const struct parser *p, const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(vm_keys); i++) {
        if (strcmp(vm_keys[i].name, name) == 0)
            return p->key_line[i];
    }
    return 0;
}

/* The bare machine's processor has no vCPUs, no devices of ours, and resets with the machine. */
static bool check_native(struct parser *p)
{
    static const char *const of_vms[] = {"pin", "disk", "on_reset"};

    if (p->vm->cpus != 1)
        return fail_at(p, line_of(p, "cpus"), "cpus = %u: with paging = native only 1 is possible",
                       p->vm->cpus);
    for (size_t i = 0; i < ARRAY_SIZE(of_vms); i++) {
        unsigned line = line_of(p, of_vms[i]);
        if (line)
            return fail_at(p, line, "'%s' is not possible with paging = native", of_vms[i]);
    }
    return true;
}

/* What the section that ends here must have had. */
static bool end_section(struct parser *p)
{
    if (!p->vm)
        return true;
    if (p->vm->image[0] == '\0')
        return fail_at(p, p->vm->line, "VM '%s' has no image", p->vm->name);
    return p->vm->paging != PAGING_NATIVE || check_native(p);
}

/* [twofold] may stand behind the VMs that it must fit: looked at when all is read. */
static bool check_vm_with_globals(struct parser *p, const struct vm_settings *vm)
{
    const struct settings *out = p->out;

    if (out->run == RUN_TOGETHER && vm->paging == PAGING_NATIVE)
        return fail_at(p, p->run_line,
                       "run = together: VM '%s' has paging = native, which needs in_turn",
                       vm->name);
    if (vm->fault.wanted && out->run != RUN_IN_TURN)
        return fail_at(p, p->fail_line, "fail of VM '%s' needs run = in_turn", vm->name);
    for (unsigned i = 0; i < vm->pin_count && out->processors; i++) {
        if (vm->pin[i] >= out->processors)
            return fail_at(p, p->processors_line,
                           "processors = %u: VM '%s' is pinned to processor %u, and the first is 0",
                           out->processors, vm->name, vm->pin[i]);
    }
    return true;
}

static bool check_globals(struct parser *p)
{
    if (p->out->side_by_side && p->out->run != RUN_TOGETHER)
        return fail_at(p, p->side_by_side_line, "side_by_side = %u needs run = together",
                       p->out->side_by_side);
    return true;
}

static bool end_file(struct parser *p)
{
    if (!end_section(p) || !check_globals(p))
        return false;
    if (p->out->vm_count == 0)
        return fail_at(p, p->line ? p->line : 1,
                       "no VM: at least one section other than [twofold] is needed");
    for (unsigned i = 0; i < p->out->vm_count; i++) {
        if (!check_vm_with_globals(p, &p->out->vm[i]))
            return false;
    }
    return true;
}

/* --- lines ------------------------------------------------------------------------------------ */

static bool begin_vm(struct parser *p, const char *name)
{
    struct settings *out = p->out;

    for (unsigned i = 0; i < out->vm_count; i++) {
        if (strcmp(out->vm[i].name, name) == 0)
            return fail(p, "a second section [%s]; the first is in line %u", name, out->vm[i].line);
    }
    if (out->vm_count == VMS_MAX)
        return fail(p, "more than %d VMs", VMS_MAX);
    p->vm = &out->vm[out->vm_count++];
    *p->vm = (struct vm_settings){
        .line = p->line,
        .memory = MEMORY_DEFAULT,
        .paging = PAGING_COMPOUND,
        .policy = policy_default,
        .interval_us = INTERVAL_DEFAULT_US,
        .seed = 1,
        .trace = TRACE_DEFAULT,
        .ept_page = PAGE_SIZE_1G,
        .cpus = 1,
    };
    return copy_text(p, p->vm->name, sizeof(p->vm->name), name, "the VM's name");
}

static bool read_section(struct parser *p, char *line, size_t length)
{
    if (!end_section(p))
        return false;
    if (line[length - 1] != ']')
        return fail(p, "section without ']' at its end");
    line[length - 1] = '\0';
    const char *name = line + 1;
    if (name[0] == '\0' || strspn(name, NAME_CHARACTERS) != strlen(name))
        return fail(p, "section name '%s': must be letters, digits, '-', '_' or '.'", name);
    memset(p->key_line, 0, sizeof(p->key_line));
    p->in_global = strcmp(name, "twofold") == 0;
    p->vm = NULL;
    if (!p->in_global)
        return begin_vm(p, name);
    if (p->seen_global)
        return fail(p, "a second section [twofold]");
    p->seen_global = true;
    return true;
}

static char *trim(char *text)
{
    text += strspn(text, BLANKS);
    size_t length = strlen(text);
    while (length > 0 && strchr(" \t\r", text[length - 1]))
        text[--length] = '\0';
    return text;
}

static bool read_key(struct parser *p, char *line)
{
    char *equals = strchr(line, '=');

    if (!equals)
        return fail(p, "'%s': neither [section] nor key = value", line);
    if (!p->in_global && !p->vm)
        return fail(p, "a key before the first [section]");
    *equals = '\0';
    const char *name = trim(line);
    const char *value = trim(equals + 1);
    const struct key *keys = p->in_global ? global_keys : vm_keys;
    size_t count = p->in_global ? ARRAY_SIZE(global_keys) : ARRAY_SIZE(vm_keys);

    for (size_t i = 0; i < count; i++) {
        if (strcmp(keys[i].name, name) != 0)
            continue;
        if (p->key_line[i] && !keys[i].may_repeat)
            return fail(p, "'%s' a second time in this section", name);
        if (*value == '\0')
            return fail(p, "'%s' has no value", name);
        p->key_line[i] = p->line;
        return keys[i].read ? keys[i].read(p, value) : read_plain(p, &keys[i], value);
    }
    return fail(p, "unknown key '%s' in section [%s]", name,
                p->in_global ? "twofold" : p->vm->name);
}

static bool read_line(struct parser *p, const char *text, size_t length)
{
    char buffer[LINE_LENGTH_MAX];

    if (length >= sizeof(buffer))
        return fail(p, "line is longer than %d characters", LINE_LENGTH_MAX - 1);
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        if ((c < ' ' && c != '\t' && c != '\r') || c == 0x7f)
            return fail(p, "byte 0x%02x: this is not a text file", c);
    }
    memcpy(buffer, text, length);
    buffer[length] = '\0';
    char *line = trim(buffer);
    if (*line == '\0' || *line == ';' || *line == '#')
        return true;
    return *line == '[' ? read_section(p, line, strlen(line)) : read_key(p, line);
}

bool settings_parse(const char *text, size_t len, const struct module_list *modules,
                    struct settings *out, struct why *why)
{
    static const char utf8_mark[] = "\xef\xbb\xbf";
    struct parser p = {.modules = modules, .out = out, .why = why};

    out->at_end = AT_END_STAY;
    out->without = 0;
    out->self_test = SELF_TEST_NONE;
    out->run = RUN_IN_TURN;
    out->processors = 0;
    out->measure = MEASURE_AUTO;
    out->mitigations = MITIGATIONS_AUTO;
    out->dma_protection = true;
    out->side_by_side = 0;
    out->repeat = 1;
    out->watchdog_s = WATCHDOG_DEFAULT_S;
    out->fail = (struct fault_plan){0};
    out->kaslr = true;
    out->vm_count = 0;
    if (len >= 3 && memcmp(text, utf8_mark, 3) == 0) {
        text += 3;
        len -= 3;
    }
    while (len > 0) {
        const char *newline = memchr(text, '\n', len);
        size_t length = newline ? (size_t)(newline - text) : len;
        p.line++;
        if (!read_line(&p, text, length))
            return false;
        size_t used = newline ? length + 1 : length;
        text += used;
        len -= used;
    }
    return end_file(&p);
}
