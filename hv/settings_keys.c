/* SPDX-License-Identifier: BSD-2-Clause */
/* The settings' keys: the names of their values, what reads each, and the two tables of them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hv/settings_internal.h"

#define MEMORY_MIN       MIB(1)
#define MEMORY_MAX       (1ull << 46)
#define TIME_LIMIT_MAX_S (365u * 24 * 3600)
#define MS_PER_S         1000u
#define US_PER_MS        1000u

#define SHADOW_MEMORY_MIN KIB(64)
#define SHADOW_MEMORY_MAX GIB(16)

#define INTERVAL_MIN_US 100u
#define INTERVAL_MAX_US 10000000u
#define COUNT_MAX       1000000u
#define PREFETCH_MAX    512 /* entries of a table */
#define LEVELS_MAX      4u
#define TRACE_MAX       1048576u

#define CHOICES_TEXT_MAX 160 /* the names of all values of a key */

#define WATCHDOG_MAX_S 3600u
#define REPEAT_MAX     1000000u

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
    [FEATURE_TPR_SHADOW] = "tpr_shadow",
    [FEATURE_APIC_ACCESS] = "apic_access",
    [FEATURE_VIRTUAL_X2APIC] = "virtual_x2apic",
    [FEATURE_APIC_REGISTERS] = "apic_registers",
    [FEATURE_VIRTUAL_INTERRUPTS] = "virtual_interrupts",
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

static const char *const off_on_names[] = {"off", "on"};
static const char *const off_auto_names[] = {"off", "auto"};

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

bool settings_copy_text(struct parser *p, char *to, size_t room, const char *value,
                        const char *what)
{
    if (strlen(value) >= room)
        return settings_fail(p, "%s is longer than %zu characters", what, room - 1);
    strncpy(to, value, room);
    return true;
}

/* Copy the first word of *value, which then is at the second. */
static bool copy_word(struct parser *p, char *to, size_t room, const char **value, const char *what)
{
    size_t length = strcspn(*value, BLANKS);

    if (length >= room)
        return settings_fail(p, "%s is longer than %zu characters", what, room - 1);
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
    return settings_fail(p, "there is no file '%s' in \\twofold\\ on the EFI partition", name);
}

/* The value is one of `names`, whose index *choice gets; else it says which it may be. */
static bool choose(struct parser *p, const char *key, const char *const *names, size_t count,
                   const char *value, unsigned *choice)
{
    int found = find_name(names, count, value);
    char list[CHOICES_TEXT_MAX] = "";
    size_t length = 0;

    if (found >= 0) {
        *choice = (unsigned)found;
        return true;
    }
    for (size_t i = 0; i < count && length < sizeof(list); i++)
        length += (size_t)snprintf(list + length, sizeof(list) - length, "%s%s",
                                   i == 0          ? ""
                                   : i + 1 < count ? ", "
                                                   : " or ",
                                   names[i]);
    return settings_fail(p, "%s = %s: must be %s", key, value, list);
}
#define CHOOSE(p, key, names, value, choice) choose(p, key, names, ARRAY_SIZE(names), value, choice)

static bool read_without(struct parser *p, const char *value)
{
    while (*value) {
        char word[32] = "";
        size_t length = strspn(value, NAME_CHARACTERS);
        if (length < sizeof(word))
            memcpy(word, value, length);
        int found = find_name(feature_names, FEATURE_COUNT, word);
        if (found < 0)
            return settings_fail(p, "without = ... %s: no optional feature has this name", value);
        p->out->without |= 1ull << found;
        value += length;
        value += strspn(value, " \t,");
    }
    return true;
}

static bool read_run(struct parser *p, const char *value)
{
    unsigned choice = p->out->run;
    bool known = CHOOSE(p, "run", run_names, value, &choice);

    p->out->run = (enum run_order)choice;
    p->run_line = p->line;
    return known;
}

static bool read_dma_protection(struct parser *p, const char *value)
{
    unsigned choice = p->out->dma_protection;
    bool known = CHOOSE(p, "dma_protection", off_auto_names, value, &choice);

    p->out->dma_protection = choice != 0;
    return known;
}

static bool read_kaslr(struct parser *p, const char *value)
{
    unsigned choice = p->out->kaslr;
    bool known = CHOOSE(p, "kaslr", off_on_names, value, &choice);

    p->out->kaslr = choice != 0;
    return known;
}

static bool read_image(struct parser *p, const char *value)
{
    return settings_copy_text(p, p->vm->image, sizeof(p->vm->image), value, "image") &&
           check_module(p, value);
}

static bool read_args(struct parser *p, const char *value)
{
    return settings_copy_text(p, p->vm->args, sizeof(p->vm->args), value, "args");
}

static bool read_module(struct parser *p, const char *value)
{
    struct vm_settings *vm = p->vm;

    if (vm->module_count == VM_MODULES_MAX)
        return settings_fail(p, "more than %d modules", VM_MODULES_MAX);
    struct vm_module *module = &vm->module[vm->module_count];
    if (!copy_word(p, module->name, sizeof(module->name), &value, "module name") ||
        !settings_copy_text(p, module->args, sizeof(module->args), value, "module arguments") ||
        !check_module(p, module->name))
        return false;
    vm->module_count++;
    return true;
}

static bool read_disk(struct parser *p, const char *value)
{
    struct vm_settings *vm = p->vm;

    if (vm->disk_count == VM_DISKS_MAX)
        return settings_fail(p, "more than %d disks", VM_DISKS_MAX);
    struct vm_disk *disk = &vm->disk[vm->disk_count];
    if (!copy_word(p, disk->name, sizeof(disk->name), &value, "disk name"))
        return false;
    disk->read_only = strcmp(value, "ro") == 0;
    if (*value && !disk->read_only)
        return settings_fail(p, "disk = %s %s: only 'ro' can follow the file", disk->name, value);
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
                return settings_fail(p, "%s = %s: more than 64 TiB", name, value);
            *bytes = number * units[i].bytes;
            return true;
        }
    }
    return settings_fail(p, "%s = %s: must be a number and K, M or G", name, value);
}

static bool read_memory(struct parser *p, const char *value)
{
    uint64_t bytes = 0;

    if (!read_bytes(p, "memory", value, &bytes))
        return false;
    if (bytes < MEMORY_MIN)
        return settings_fail(p, "memory = %s: less than 1M", value);
    if (!is_aligned(bytes, PAGE_SIZE))
        return settings_fail(p, "memory = %s: not a multiple of 4K", value);
    p->vm->memory = bytes;
    return true;
}

static bool read_shadow_memory(struct parser *p, const char *value)
{
    uint64_t bytes = 0;

    if (!read_bytes(p, "shadow_memory", value, &bytes))
        return false;
    if (bytes < SHADOW_MEMORY_MIN || bytes > SHADOW_MEMORY_MAX || !is_aligned(bytes, 2 * PAGE_SIZE))
        return settings_fail(p, "shadow_memory = %s: must be 64K to 16G, a multiple of 8K", value);
    p->vm->shadow_memory = bytes;
    return true;
}

static bool read_policy(struct parser *p, const char *value)
{
    int found = policy_kind_of(value);

    if (found >= 0) {
        p->vm->policy.kind = (enum policy_kind)found;
        return true;
    }
    return settings_fail(p, "policy = %s: must be cost, threshold, static or shsp", value);
}

static bool read_interval(struct parser *p, const char *value)
{
    uint64_t number;
    const char *rest;

    if (!read_number(value, &number, &rest) || (strcmp(rest, "us") != 0 && strcmp(rest, "ms") != 0))
        return settings_fail(p, "interval = %s: must be a number and us or ms", value);
    uint64_t us = number * (strcmp(rest, "ms") == 0 ? US_PER_MS : 1);
    if (number > INTERVAL_MAX_US || us < INTERVAL_MIN_US || us > INTERVAL_MAX_US)
        return settings_fail(p, "interval = %s: must be 100us to 10000ms", value);
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
    return settings_fail(p, NOT_A_COUNT, name, value, (unsigned long long)least,
                         (unsigned long long)most);
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
        return settings_fail(p, "trace = %s: must be a power of two, or 0", value);
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
    return settings_fail(p, "ept_page = %s: must be 4k, 2m or 1g", value);
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
        return settings_fail(p, "watchdog = %s: must be 0s to %us", value, WATCHDOG_MAX_S);
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
            return settings_fail(
                p, "pin = ... %s: must be numbers of processors, from 0, with blanks between",
                value);
        if (number >= PROCESSORS_MAX)
            return settings_fail(p, "pin = ... %s: the last processor is %u", value,
                                 PROCESSORS_MAX - 1);
        if (vm->pin_count == VCPUS_MAX)
            return settings_fail(p, "pin has more than %u processors", VCPUS_MAX);
        vm->pin[vm->pin_count++] = (uint16_t)number;
        value = rest + strspn(rest, BLANKS);
    }
    return true;
}

static bool read_time_limit(struct parser *p, const char *value)
{
    uint64_t number;
    const char *rest;

    if (!read_number(value, &number, &rest) || (strcmp(rest, "s") != 0 && strcmp(rest, "ms") != 0))
        return settings_fail(p, "time_limit = %s: must be a number and s or ms", value);
    uint64_t per_unit = strcmp(rest, "s") == 0 ? MS_PER_S : 1;
    if (number == 0 || number > (uint64_t)TIME_LIMIT_MAX_S * MS_PER_S / per_unit)
        return settings_fail(p, "time_limit = %s: must be more than 0 and at most a year", value);
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
    else if (strcmp(word, "kept-out") == 0)
        p->vm->fault.kept_out = true;
    else
        return false;
    return true;
}

static bool read_fail(struct parser *p, const char *value)
{
    char word[sizeof("capability:") + FAULT_NAME_MAX];

    if (!FAULTS_BUILT)
        return settings_fail(
            p, "fail = %s: this build injects no faults; one made with FAULTS=1 does", value);
    if (!p->in_global)
        p->fail_line = p->line;
    while (*value) {
        if (!copy_word(p, word, sizeof(word), &value, "a word of fail"))
            return false;
        if (!read_fault(p, word))
            return settings_fail(p, "fail = ... %s: there is no such fault here", word);
    }
    return true;
}

/* --- keys ------------------------------------------------------------------------------------- */

/* The row of an enum whose values have names, and that of a plain number. */
#define CHOICE(type, member, names)                                                                \
    NULL, false, offsetof(struct type, member), 0, ARRAY_SIZE(names) - 1, names
#define COUNT(member, least, most)                                                                 \
    NULL, false, offsetof(struct vm_settings, member), least, most, NULL

static const struct key global_keys[] = {
    {"at_end", CHOICE(settings, at_end, at_end_names)},
    {"without", read_without, false, 0, 0, 0, NULL},
    {"self_test", CHOICE(settings, self_test, self_test_names)},
    {"run", read_run, false, 0, 0, 0, NULL},
    {"processors", read_processors, false, 0, 0, 0, NULL},
    {"measure", CHOICE(settings, measure, measure_names)},
    {"mitigations", CHOICE(settings, mitigations, mitigations_names)},
    {"dma_protection", read_dma_protection, false, 0, 0, 0, NULL},
    {"side_by_side", read_side_by_side, false, 0, 0, 0, NULL},
    {"repeat", read_repeat, false, 0, 0, 0, NULL},
    {"watchdog", read_watchdog, false, 0, 0, 0, NULL},
    {"fail", read_fail, false, 0, 0, 0, NULL},
    {"kaslr", read_kaslr, false, 0, 0, 0, NULL},
};

static const struct key vm_keys[] = {
    {"image", read_image, false, 0, 0, 0, NULL},
    {"args", read_args, false, 0, 0, 0, NULL},
    {"module", read_module, true, 0, 0, 0, NULL},
    {"disk", read_disk, true, 0, 0, 0, NULL},
    {"memory", read_memory, false, 0, 0, 0, NULL},
    {"paging", CHOICE(vm_settings, paging, paging_names)},
    {"shadow_memory", read_shadow_memory, false, 0, 0, 0, NULL},
    {"policy", read_policy, false, 0, 0, 0, NULL},
    {"switch_level", COUNT(policy.switch_level, 0, LEVELS_MAX)},
    {"interval", read_interval, false, 0, 0, 0, NULL},
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
    {"seed", read_seed, false, 0, 0, 0, NULL},
    {"trace", read_trace, false, 0, 0, 0, NULL},
    {"ept_page", read_ept_page, false, 0, 0, 0, NULL},
    {"cpus", COUNT(cpus, 1, VCPUS_MAX)},
    {"pin", read_pin, false, 0, 0, 0, NULL},
    {"on_reset", CHOICE(vm_settings, on_reset, on_reset_names)},
    {"keys", CHOICE(vm_settings, keys, keys_names)},
    {"time_limit", read_time_limit, false, 0, 0, 0, NULL},
    {"fail", read_fail, false, 0, 0, 0, NULL},
};
_Static_assert(sizeof(enum paging_mode) == sizeof(uint32_t), "settings_read_value writes enums so");
_Static_assert(ARRAY_SIZE(global_keys) <= KEYS_MAX && ARRAY_SIZE(vm_keys) <= KEYS_MAX,
               "key_line has a place for each");
struct key_table settings_keys(bool global)
{
    return global ? (struct key_table){global_keys, ARRAY_SIZE(global_keys)}
                  : (struct key_table){vm_keys, ARRAY_SIZE(vm_keys)};
}

bool settings_read_value(struct parser *p, const struct key *key, const char *value)
{
    char *section = p->in_global ? (char *)p->out : (char *)p->vm;
    uint64_t count = 0;
    unsigned choice = 0;

    if (key->read)
        return key->read(p, value);
    if (key->names ? !choose(p, key->name, key->names, key->most + 1, value, &choice)
                   : !read_count(p, key->name, value, key->least, key->most, &count))
        return false;
    uint32_t number = key->names ? choice : (uint32_t)count;
    memcpy(section + key->offset, &number, sizeof(number));
    return true;
}

/* --- the policy's alone ----------------------------------------------------------------------- */

static bool is_of_policy(const struct key *key)
{
    return !key->read && !key->names && key->offset >= offsetof(struct vm_settings, policy) &&
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
