/* SPDX-License-Identifier: BSD-2-Clause */
/* Faults on request, in a build that has them (tests.mk): how the settings name them, and when they
 * come. */
#include "hv/faults.h"

#include <stdarg.h>
#include <string.h>

#include "hv/console.h"
#include "hv/settings.h"
#include "tests/host/test.h"

static struct module files[] = {{"ends.elf", "", 0}};
static const struct module_list modules = {files, 1};
static struct settings settings;
static struct why why;
static char said[256];

void log_line(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(said, sizeof(said), format, args);
    va_end(args);
}

static bool parse(const char *text)
{
    return settings_parse(text, strlen(text), &modules, &settings, &why);
}

static void words_are_read(void)
{
    CHECK(parse("[twofold]\nfail = alloc:7 cpu:1  cpu-hangs:63 cpu-stops:2 cpu-differs:3 cpu:4 "
                "capability:HLT-exiting capability:VPID\n"
                "[a]\nimage = ends.elf\nfail = alloc:12 stuck\n[b]\nimage = ends.elf\n"
                "[c]\nimage = ends.elf\nfail = kept-out\n"),
          "%s", why.text);
    const struct fault_plan *plan = &settings.fail;
    CHECK(plan->alloc == 7 && plan->capabilities == 2 && !plan->each_capability, "global");
    CHECK(plan->cpu[FAULT_CPU_ABSENT] == (1u << 1 | 1u << 4) &&
              plan->cpu[FAULT_CPU_HANGS] == 1ull << 63 && plan->cpu[FAULT_CPU_STOPS] == 1u << 2 &&
              plan->cpu[FAULT_CPU_DIFFERS] == 1u << 3,
          "processors");
    CHECK(settings.vm[0].fault.wanted && settings.vm[0].fault.alloc == 12 &&
              settings.vm[0].fault.stuck && !settings.vm[0].fault.kept_out,
          "a");
    CHECK(!settings.vm[1].fault.wanted, "b");
    CHECK(settings.vm[2].fault.kept_out && !settings.vm[2].fault.stuck, "c");
    CHECK(parse("[twofold]\nfail = capability:each\n[a]\nimage = ends.elf\n") &&
              settings.fail.each_capability && settings.fail.alloc == 0,
          "%s", why.text);
}

static void mistakes_are_told(void)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"[twofold]\nfail = alloc\n", "2: fail = ... alloc: there is no such fault here"},
        {"[twofold]\nfail = alloc:0\n", "2: fail = ... alloc:0: there is no such"},
        {"[twofold]\nfail = cpu:64\n", "2: fail = ... cpu:64: there is no such"},
        {"[twofold]\nfail = stuck\n", "2: fail = ... stuck: there is no such"},
        {"[twofold]\nfail = capability:\n", "2: fail = ... capability:: there is no such"},
        {"[twofold]\nfail = capability:a23456789012345678901234567890123456789X\n",
         "2: fail = ... capability:a2"},
        {"[a]\nfail = cpu:1\n", "2: fail = ... cpu:1: there is no such"},
        {"[a]\nfail = "
         "a23456789012345678901234567890123456789012345678901234567890\n",
         "2: a word of fail is longer"},
        {"[a]\nimage = ends.elf\nfail = alloc:1\n[twofold]\nrun = together\n",
         "3: fail of VM 'a' needs run = in_turn"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        CHECK(!parse(cases[i].text), "case %zu was accepted", i);
        CHECK(strncmp(why.text + sizeof("twofold.ini:") - 1, cases[i].message,
                      strlen(cases[i].message)) == 0,
              "case %zu says: %s", i, why.text);
    }
}

static void one_allocation_fails(void)
{
    bool came;

    faults_arm(3);
    CHECK(!fault_alloc(4096) && !fault_alloc(4096), "too early");
    CHECK(faults_allocations(&came) == 2 && !came, "it has not come yet");
    CHECK(fault_alloc(8192) && strstr(said, "allocation 3, of 8 KiB"), "%s", said);
    CHECK(!fault_alloc(4096) && faults_allocations(&came) == 4 && came, "once");
    faults_arm(0);
    CHECK(!fault_alloc(4096) && faults_allocations(&came) == 1 && !came, "none");
}

static void processors_and_capabilities_fail_by_name(void)
{
    /* it stays where it is */
    static struct fault_plan plan = {.capability = {"VMX-preemption-timer", "XSAVES-XRSTORS"},
                                     .capabilities = 2};

    CHECK(!fault_cpu(FAULT_CPU_ABSENT, 1) && !fault_capability("VPID"), "without a plan");
    plan.cpu[FAULT_CPU_HANGS] = 1u << 2;
    faults_plan(&plan);
    CHECK(fault_cpu(FAULT_CPU_HANGS, 2) && !fault_cpu(FAULT_CPU_HANGS, 1) &&
              !fault_cpu(FAULT_CPU_ABSENT, 2) && !fault_cpu(FAULT_CPU_HANGS, 66),
          "processors");
    CHECK(fault_capability("VMX-preemption timer") && strstr(said, "no VMX-preemption timer"), "%s",
          said);
    CHECK(fault_capability("XSAVES/XRSTORS"), "the other");
    CHECK(!fault_capability("VMX-preemption") && !fault_capability("VMX-preemption timer value"),
          "a part of a name");
}

static unsigned ask(const char *names[], unsigned count)
{
    unsigned failed = count;

    for (unsigned i = 0; i < count; i++) {
        if (fault_capability(names[i]))
            failed = i;
    }
    return failed;
}

static void a_dry_run_fails_each_in_turn(void)
{
    static const char *names[] = {"a", "b", "c"};

    CHECK(faults_next_capability(true) == NULL, "before");
    for (unsigned pass = 0; pass < 3; pass++) {
        CHECK(ask(names, 3) == pass, "pass %u", pass);
        const char *failed = faults_next_capability(false);
        CHECK(failed && strcmp(failed, names[pass]) == 0, "pass %u: %s", pass, failed);
    }
    CHECK(ask(names, 3) == 3 && faults_next_capability(false) == NULL, "one more");
    CHECK(ask(names, 3) == 3, "afterwards");
}

int main(void)
{
    RUN(words_are_read);
    RUN(mistakes_are_told);
    RUN(one_allocation_fails);
    RUN(processors_and_capabilities_fail_by_name);
    RUN(a_dry_run_fails_each_in_turn);
    return test_status();
}
