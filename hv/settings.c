/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * See settings.h. One pass over the lines; the keys are rows of two tables (settings_keys.c). A
 * VM's section is checked for what it must have when the next one begins.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "hv/settings_internal.h"

#define LINE_LENGTH_MAX     1280
#define MEMORY_DEFAULT      MIB(64)
#define INTERVAL_DEFAULT_US 500u
#define TRACE_DEFAULT       1024u
#define WATCHDOG_DEFAULT_S  20u

/* --- messages --------------------------------------------------------------------------------- */

__attribute__((format(printf, 3, 0))) static bool vfail(struct parser *p, unsigned line,
                                                        const char *format, va_list args)
{
    char text[sizeof(p->why->text) - 32];

    vsnprintf(text, sizeof(text), format, args);
    return why_set(p->why, "%s:%u: %s", SETTINGS_FILE, line, text);
}

bool settings_fail(struct parser *p, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vfail(p, p->line, format, args);
    va_end(args);
    return false;
}

bool settings_fail_at(struct parser *p, unsigned line, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vfail(p, line, format, args);
    va_end(args);
    return false;
}
/* --- what fits together ----------------------------------------------------------------------- */

/* The line of a key of the VM's section that ends, 0 if it has none. */
static unsigned line_of(const struct parser *p, const char *name)
{
    struct key_table keys = settings_keys(false);

    for (size_t i = 0; i < keys.count; i++) {
        if (strcmp(keys.key[i].name, name) == 0)
            return p->key_line[i];
    }
    return 0;
}

/* The bare machine's processor has no vCPUs, no devices of ours, and resets with the machine. */
static bool check_native(struct parser *p)
{
    static const char *const of_vms[] = {"pin", "disk", "on_reset"};

    if (p->vm->cpus != 1)
        return settings_fail_at(p, line_of(p, "cpus"),
                                "cpus = %u: with paging = native only 1 is possible", p->vm->cpus);
    for (size_t i = 0; i < ARRAY_SIZE(of_vms); i++) {
        unsigned line = line_of(p, of_vms[i]);
        if (line)
            return settings_fail_at(p, line, "'%s' is not possible with paging = native",
                                    of_vms[i]);
    }
    return true;
}

/* What the section that ends here must have had. */
static bool end_section(struct parser *p)
{
    if (!p->vm)
        return true;
    if (p->vm->image[0] == '\0')
        return settings_fail_at(p, p->vm->line, "VM '%s' has no image", p->vm->name);
    return p->vm->paging != PAGING_NATIVE || check_native(p);
}

/* [twofold] may stand behind the VMs that it must fit: looked at when all is read. */
static bool check_vm_with_globals(struct parser *p, const struct vm_settings *vm)
{
    const struct settings *out = p->out;

    if (out->run == RUN_TOGETHER && vm->paging == PAGING_NATIVE)
        return settings_fail_at(p, p->run_line,
                                "run = together: VM '%s' has paging = native, which needs in_turn",
                                vm->name);
    if (vm->fault.wanted && out->run != RUN_IN_TURN)
        return settings_fail_at(p, p->fail_line, "fail of VM '%s' needs run = in_turn", vm->name);
    for (unsigned i = 0; i < vm->pin_count && out->processors; i++) {
        if (vm->pin[i] >= out->processors)
            return settings_fail_at(
                p, p->processors_line,
                "processors = %u: VM '%s' is pinned to processor %u, and the first is 0",
                out->processors, vm->name, vm->pin[i]);
    }
    return true;
}

static bool check_globals(struct parser *p)
{
    if (p->out->side_by_side && p->out->run != RUN_TOGETHER)
        return settings_fail_at(p, p->side_by_side_line, "side_by_side = %u needs run = together",
                                p->out->side_by_side);
    return true;
}

static bool end_file(struct parser *p)
{
    if (!end_section(p) || !check_globals(p))
        return false;
    if (p->out->vm_count == 0)
        return settings_fail_at(p, p->line ? p->line : 1,
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
            return settings_fail(p, "a second section [%s]; the first is in line %u", name,
                                 out->vm[i].line);
    }
    if (out->vm_count == VMS_MAX)
        return settings_fail(p, "more than %d VMs", VMS_MAX);
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
    return settings_copy_text(p, p->vm->name, sizeof(p->vm->name), name, "the VM's name");
}

static bool read_section(struct parser *p, char *line, size_t length)
{
    if (!end_section(p))
        return false;
    if (line[length - 1] != ']')
        return settings_fail(p, "section without ']' at its end");
    line[length - 1] = '\0';
    const char *name = line + 1;
    if (name[0] == '\0' || strspn(name, NAME_CHARACTERS) != strlen(name))
        return settings_fail(p, "section name '%s': must be letters, digits, '-', '_' or '.'",
                             name);
    memset(p->key_line, 0, sizeof(p->key_line));
    p->in_global = strcmp(name, "twofold") == 0;
    p->vm = NULL;
    if (!p->in_global)
        return begin_vm(p, name);
    if (p->seen_global)
        return settings_fail(p, "a second section [twofold]");
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
        return settings_fail(p, "'%s': neither [section] nor key = value", line);
    if (!p->in_global && !p->vm)
        return settings_fail(p, "a key before the first [section]");
    *equals = '\0';
    const char *name = trim(line);
    const char *value = trim(equals + 1);
    struct key_table keys = settings_keys(p->in_global);

    for (size_t i = 0; i < keys.count; i++) {
        if (strcmp(keys.key[i].name, name) != 0)
            continue;
        if (p->key_line[i] && !keys.key[i].may_repeat)
            return settings_fail(p, "'%s' a second time in this section", name);
        if (*value == '\0')
            return settings_fail(p, "'%s' has no value", name);
        p->key_line[i] = p->line;
        return settings_read_value(p, &keys.key[i], value);
    }
    return settings_fail(p, "unknown key '%s' in section [%s]", name,
                         p->in_global ? "twofold" : p->vm->name);
}

static bool read_line(struct parser *p, const char *text, size_t length)
{
    char buffer[LINE_LENGTH_MAX];

    if (length >= sizeof(buffer))
        return settings_fail(p, "line is longer than %d characters", LINE_LENGTH_MAX - 1);
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        if ((c < ' ' && c != '\t' && c != '\r') || c == 0x7f)
            return settings_fail(p, "byte 0x%02x: this is not a text file", c);
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
