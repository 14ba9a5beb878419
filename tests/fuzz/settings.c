/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The settings file: any text. What is accepted must keep to the limits that hv/settings.h
 * promises, and mean the same when it is written out again from the parsed values, and when
 * comments, blanks and carriage returns are put into the text. What is refused must name a line
 * that is there.
 */
#include "hv/settings.h"

#include <stdarg.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"

#define TEXT_ROOM (1u << 20)

static const struct module files[] = {
    {"a.elf", "", 0}, {"initrd", "", 0}, {"root.img", "", 0}, {"vmlinuz", "", 0}};
static const struct module_list modules = {files, ARRAY_SIZE(files)};

static struct settings first, second;
static char text[TEXT_ROOM];
static size_t length;

__attribute__((format(printf, 1, 2))) static void put(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    length += (size_t)vsnprintf(text + length, sizeof(text) - length, format, args);
    va_end(args);
    MUST(length < sizeof(text), "the text's room");
}

/* --- what is accepted ------------------------------------------------------------------------- */

static bool is_power_of_two(uint64_t value)
{
    return value && !(value & (value - 1));
}

static void check_text(const char *field, size_t room)
{
    MUST(memchr(field, '\0', room), "a text has an end");
    for (const char *c = field; *c; c++)
        MUST((unsigned char)*c >= ' ' || *c == '\t' || *c == '\r', "byte 0x%02x",
             (unsigned char)*c);
}

static void check_name(const struct settings *s, unsigned n)
{
    const char *name = s->vm[n].name;

    MUST(name[0] && strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                 "-_.") == strlen(name),
         "name '%s'", name);
    MUST(strcmp(name, "twofold") != 0, "the monitor's own name");
    for (unsigned i = 0; i < n; i++)
        MUST(strcmp(s->vm[i].name, name) != 0, "two VMs '%s'", name);
}

static void check_native(const struct settings *s, const struct vm_settings *vm)
{
    MUST(vm->cpus == 1 && vm->pin_count == 0 && vm->disk_count == 0 &&
             vm->on_reset == ON_RESET_END && s->run == RUN_IN_TURN,
         "a native guest has the machine for itself");
}

static void check_vm(const struct settings *s, unsigned n)
{
    const struct vm_settings *vm = &s->vm[n];

    check_name(s, n);
    check_text(vm->args, sizeof(vm->args));
    MUST(module_find(&modules, vm->image), "image '%s'", vm->image);
    MUST(vm->module_count <= VM_MODULES_MAX && vm->disk_count <= VM_DISKS_MAX, "counts");
    for (unsigned i = 0; i < vm->module_count; i++) {
        MUST(module_find(&modules, vm->module[i].name), "module '%s'", vm->module[i].name);
        check_text(vm->module[i].args, sizeof(vm->module[i].args));
    }
    for (unsigned i = 0; i < vm->disk_count; i++)
        MUST(module_find(&modules, vm->disk[i].name), "disk '%s'", vm->disk[i].name);
    MUST(vm->memory >= MIB(1) && vm->memory <= 1ull << 46 && vm->memory % PAGE_SIZE == 0, "memory");
    MUST(vm->shadow_memory == 0 || (vm->shadow_memory >= KIB(64) && vm->shadow_memory <= GIB(16)),
         "shadow_memory");
    MUST(vm->ept_page == PAGE_SIZE || vm->ept_page == PAGE_SIZE_2M || vm->ept_page == PAGE_SIZE_1G,
         "ept_page");
    MUST(vm->trace == 0 || (is_power_of_two(vm->trace) && vm->trace <= 1u << 20), "trace");
    MUST(vm->cpus >= 1 && vm->cpus <= VCPUS_MAX && vm->pin_count <= VCPUS_MAX, "cpus");
    MUST(vm->interval_us >= 100 && vm->interval_us <= 10000000, "interval");
    MUST((unsigned)vm->policy.kind < POLICY_KINDS && vm->policy.demote_writes > 0 &&
             vm->policy.promote_unchanged > 0 && vm->policy.walk_ticks > 0,
         "policy");
    for (unsigned cpu = 0; cpu < vm->cpus; cpu++) {
        int pin = vm_pinned_to(vm, cpu);
        MUST(pin < (int)PROCESSORS_MAX && (!s->processors || pin < (int)s->processors), "pin %d",
             pin);
    }
    if (vm->paging == PAGING_NATIVE)
        check_native(s, vm);
}

static void check_accepted(const struct settings *s)
{
    MUST(s->vm_count >= 1 && s->vm_count <= VMS_MAX, "%u VMs", s->vm_count);
    MUST(s->processors <= PROCESSORS_MAX && s->without < 1ull << FEATURE_COUNT, "globals");
    MUST(s->side_by_side <= VMS_MAX && (!s->side_by_side || s->run == RUN_TOGETHER),
         "side_by_side");
    for (unsigned n = 0; n < s->vm_count; n++)
        check_vm(s, n);
}

/* --- written out again ------------------------------------------------------------------------ */

/* The policy's numbers have names and no getters: whichever value gives the same settings. */
static void put_policy(const struct policy_settings *policy)
{
    static const char *const kinds[] = {"cost", "threshold", "static", "shsp"};
    const char *name;
    char value[16];
    struct why why;

    for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
        if (policy_kind_of(kinds[i]) == (int)policy->kind)
            put("policy = %s\n", kinds[i]);
    }
    for (unsigned n = 0; (name = settings_policy_key(n)) != NULL; n++) {
        for (size_t at = 0; at < sizeof(*policy); at += sizeof(uint32_t)) {
            struct policy_settings trial = *policy;
            uint32_t number;
            memcpy(&number, (const char *)policy + at, sizeof(number));
            memset((char *)&trial + at, 0xa5, sizeof(number));
            snprintf(value, sizeof(value), "%u", number);
            if (!settings_set_policy(&trial, name, value, &why) ||
                memcmp(&trial, policy, sizeof(trial)) != 0)
                continue;
            put("%s = %s\n", name, value);
            break;
        }
    }
}

static void put_vm(const struct vm_settings *vm)
{
    static const char *const modes[] = {"nested", "shadow", "compound", "native"};

    put("[%s]\nimage = %s\n", vm->name, vm->image);
    if (vm->args[0])
        put("args = %s\n", vm->args);
    for (unsigned i = 0; i < vm->module_count; i++)
        put("module = %s %s\n", vm->module[i].name, vm->module[i].args);
    for (unsigned i = 0; i < vm->disk_count; i++)
        put("disk = %s%s\n", vm->disk[i].name, vm->disk[i].read_only ? " ro" : "");
    put("memory = %lluK\n", (unsigned long long)vm->memory >> 10);
    put("paging = %s\nept_page = %s\n", modes[vm->paging], page_size_name(vm->ept_page));
    if (vm->shadow_memory)
        put("shadow_memory = %lluK\n", (unsigned long long)vm->shadow_memory >> 10);
    put_policy(&vm->policy);
    put("interval = %lluus\nstress = %u\nseed = %llu\ntrace = %u\ncpus = %u\n",
        (unsigned long long)vm->interval_us, vm->stress, (unsigned long long)vm->seed, vm->trace,
        vm->cpus);
    for (unsigned i = 0; i < vm->pin_count; i++)
        put(i == 0 ? "pin = %u" : " %u", vm->pin[i]);
    put("\nkeys = %s\n", vm->keys == KEYS_UART ? "uart" : "virtio");
    if (vm->on_reset == ON_RESET_RESTART)
        put("on_reset = restart\n");
    if (vm->time_limit_ms)
        put("time_limit = %llums\n", (unsigned long long)vm->time_limit_ms);
}

static void put_all(const struct settings *s)
{
    static const char *const ends[] = {"stay", "poweroff", "reset", "bochs", "qemu"};
    static const char *const tests[] = {
        "none",         "panic",          "null",        "write_text",   "write_rodata",
        "execute_data", "stack_overflow", "stack_smash", "other_panics", "processors"};

    static const char *const measures[] = {
        [MEASURE_AUTO] = "auto", [MEASURE_OFF] = "off", [MEASURE_REQUIRED] = "required"};
    static const char *const guards[] = {
        [MITIGATIONS_AUTO] = "auto", [MITIGATIONS_OFF] = "off", [MITIGATIONS_ALL] = "all"};

    length = 0;
    put("[twofold]\nat_end = %s\nself_test = %s\nrun = %s\n", ends[s->at_end], tests[s->self_test],
        s->run == RUN_IN_TURN ? "in_turn" : "together");
    put("measure = %s\nmitigations = %s\ndma_protection = %s\nkaslr = %s\n", measures[s->measure],
        guards[s->mitigations], s->dma_protection ? "auto" : "off", s->kaslr ? "on" : "off");
    put("repeat = %u\nwatchdog = %us\n", s->repeat, s->watchdog_s);
    if (s->side_by_side)
        put("side_by_side = %u\n", s->side_by_side);
    if (s->processors)
        put("processors = %u\n", s->processors);
    for (unsigned f = 0; f < FEATURE_COUNT && s->without; f++) {
        if (s->without >> f & 1)
            put("%s%s",
                s->without & ((1ull << f) - 1) ? " " : "without = ", feature_name((enum feature)f));
    }
    put("\n");
    for (unsigned n = 0; n < s->vm_count; n++)
        put_vm(&s->vm[n]);
}

/* --- comparing -------------------------------------------------------------------------------- */

/* Lines differ, and what lies behind a text's end. */
static void must_be_same_vm(const struct vm_settings *a, const struct vm_settings *b)
{
    MUST(strcmp(a->name, b->name) == 0 && strcmp(a->image, b->image) == 0 &&
             strcmp(a->args, b->args) == 0,
         "texts of '%s'", a->name);
    MUST(a->module_count == b->module_count && a->disk_count == b->disk_count, "counts");
    for (unsigned i = 0; i < a->module_count; i++)
        MUST(strcmp(a->module[i].name, b->module[i].name) == 0 &&
                 strcmp(a->module[i].args, b->module[i].args) == 0,
             "module %u", i);
    for (unsigned i = 0; i < a->disk_count; i++)
        MUST(strcmp(a->disk[i].name, b->disk[i].name) == 0 &&
                 a->disk[i].read_only == b->disk[i].read_only,
             "disk %u", i);
    MUST(memcmp(&a->policy, &b->policy, sizeof(a->policy)) == 0, "policy of '%s'", a->name);
    MUST(a->memory == b->memory && a->paging == b->paging && a->ept_page == b->ept_page &&
             a->shadow_memory == b->shadow_memory && a->interval_us == b->interval_us &&
             a->stress == b->stress && a->seed == b->seed && a->trace == b->trace &&
             a->cpus == b->cpus && a->on_reset == b->on_reset && a->keys == b->keys &&
             a->time_limit_ms == b->time_limit_ms,
         "numbers of '%s'", a->name);
    MUST(a->pin_count == b->pin_count &&
             memcmp(a->pin, b->pin, a->pin_count * sizeof(a->pin[0])) == 0,
         "pin");
}

static void must_be_same(const struct settings *a, const struct settings *b)
{
    MUST(a->at_end == b->at_end && a->without == b->without && a->self_test == b->self_test &&
             a->run == b->run && a->processors == b->processors && a->vm_count == b->vm_count,
         "globals");
    MUST(a->measure == b->measure && a->mitigations == b->mitigations &&
             a->dma_protection == b->dma_protection && a->kaslr == b->kaslr &&
             a->repeat == b->repeat && a->watchdog_s == b->watchdog_s &&
             a->side_by_side == b->side_by_side,
         "globals");
    for (unsigned n = 0; n < a->vm_count; n++)
        must_be_same_vm(&a->vm[n], &b->vm[n]);
}

/* --- the same text with more between ---------------------------------------------------------- */

/* A comment before each line, blanks and a carriage return at its end. False if a line would become
 * too long. */
static bool decorate(const uint8_t *data, size_t size)
{
    length = 0;
    while (size > 0) {
        const uint8_t *newline = memchr(data, '\n', size);
        size_t line = newline ? (size_t)(newline - data) : size;
        if (line > 1200 || memchr(data, '\0', line) || length + line > TEXT_ROOM - 64)
            return false;
        put("; [other]\n%.*s \t\r\n", (int)line, (const char *)data);
        data += newline ? line + 1 : line;
        size -= newline ? line + 1 : line;
    }
    return true;
}

static unsigned lines_of(const uint8_t *data, size_t size)
{
    unsigned lines = 1;

    for (size_t i = 0; i < size; i++)
        lines += data[i] == '\n';
    return lines;
}

/* "twofold.ini:LINE: " and something behind it. Returns the line. */
static unsigned check_refusal(const struct why *why, unsigned lines)
{
    unsigned line = 0;
    int behind = 0;

    MUST(memchr(why->text, '\0', sizeof(why->text)), "the message's end");
    MUST(sscanf(why->text, SETTINGS_FILE ":%u: %n", &line, &behind) == 1 && behind > 0 &&
             why->text[behind],
         "the message: %s", why->text);
    MUST(line >= 1 && line <= lines, "line %u of %u", line, lines);
    return line;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char mark[] = "\xef\xbb\xbf";
    struct why why, again;

    memset(&first, 0x5a, sizeof(first));
    bool good = settings_parse((const char *)data, size, &modules, &first, &why);
    if (size >= 3 && memcmp(data, mark, 3) == 0) /* which counts only at the start */
        data += 3, size -= 3;
    if (good) {
        check_accepted(&first);
        put_all(&first);
        MUST(settings_parse(text, length, &modules, &second, &again), "written out again: %s\n%s",
             again.text, text);
        must_be_same(&first, &second);
    }
    unsigned line = good ? 0 : check_refusal(&why, lines_of(data, size));
    if (size == 0 || !decorate(data, size))
        return 0;
    bool still = settings_parse(text, length, &modules, &second, &again);
    MUST(still == good, "with comments: %s", again.text);
    if (good)
        must_be_same(&first, &second);
    else
        MUST(check_refusal(&again, 2 * lines_of(data, size)) == 2 * line, "%s / %s", why.text,
             again.text);
    return 0;
}
