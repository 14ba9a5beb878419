/* SPDX-License-Identifier: BSD-2-Clause */
/* Which guards which processor gets: a table of what Intel's processors say of themselves, with and
 * without the microcode that brought the cures, and what Intel's guidance asks for each. */
#include "arch/x86_64/speculation.h"

#include <string.h>

#include "tests/host/test.h"

#define SPEC_CTRL CPUID7_EDX_SPEC_CTRL
#define MD_CLEAR  CPUID7_EDX_MD_CLEAR
#define FLUSH     CPUID7_EDX_L1D_FLUSH
#define ARCH      CPUID7_EDX_ARCH_CAPABILITIES
#define BHI_CTRL  CPUID72_EDX_BHI_CTRL

/* IA32_ARCH_CAPABILITIES as generations have it */
#define CASCADE_LAKE                                                                               \
    (CAPABILITY_RDCL_NO | CAPABILITY_IBRS_ALL | CAPABILITY_SKIP_L1D | CAPABILITY_MDS_NO)
#define ICE_LAKE (CASCADE_LAKE | CAPABILITY_TAA_NO)

#define LEGACY          (GUARD_IBRS_EXIT | GUARD_RSB_FULL | GUARD_IBPB)
#define MODERN          (GUARD_IBRS_ALWAYS | GUARD_RSB_ONE | GUARD_IBPB)
#define BEFORE_BHI_CTRL (MODERN | GUARD_HISTORY)

static const struct {
    const char *name;
    struct speculation_machine machine;
    uint32_t guards, leaks;
} cases[] = {
    {"Westmere without microcode",
     {.family = 6, .model = 0x2c},
     0,
     LEAK_BRANCHES | LEAK_L1D | LEAK_BUFFERS},
    {"Skylake-SP without microcode, hyper-threads",
     {.family = 6, .model = 0x55, .transactions = true, .threads = true},
     0,
     LEAK_BRANCHES | LEAK_L1D | LEAK_BUFFERS | LEAK_THREADS},
    {"Haswell with the microcode of 2018",
     {.family = 6, .model = 0x3c, .edx7 = SPEC_CTRL},
     LEGACY,
     LEAK_L1D | LEAK_BUFFERS},
    {"Skylake with the microcode of 2019",
     {.family = 6, .model = 0x5e, .edx7 = SPEC_CTRL | MD_CLEAR | FLUSH, .transactions = true},
     LEGACY | GUARD_L1D | GUARD_BUFFERS,
     0},
    {"the same with hyper-threads",
     {.family = 6, .model = 0x5e, .edx7 = SPEC_CTRL | MD_CLEAR | FLUSH, .threads = true},
     LEGACY | GUARD_L1D | GUARD_BUFFERS,
     LEAK_THREADS},
    {"Skylake beneath a hypervisor that flushes",
     {.family = 6,
      .model = 0x5e,
      .edx7 = SPEC_CTRL | MD_CLEAR | FLUSH | ARCH,
      .capabilities = CAPABILITY_SKIP_L1D},
     LEGACY | GUARD_BUFFERS,
     0},
    {"Silvermont",
     {.family = 6, .model = 0x37, .edx7 = SPEC_CTRL | MD_CLEAR},
     LEGACY | GUARD_BUFFERS,
     0},
    {"Goldmont", {.family = 6, .model = 0x5c, .edx7 = SPEC_CTRL}, LEGACY, 0},
    {"Xeon Phi without microcode",
     {.family = 6, .model = 0x57, .threads = true},
     0,
     LEAK_BRANCHES | LEAK_BUFFERS | LEAK_THREADS},
    {"Gracemont with RFDS_CLEAR",
     {.family = 6,
      .model = 0xbe,
      .edx7 = SPEC_CTRL | MD_CLEAR | ARCH,
      .edx72 = BHI_CTRL,
      .capabilities = ICE_LAKE | CAPABILITY_RFDS_CLEAR},
     MODERN | GUARD_BHI | GUARD_BUFFERS,
     0},
    {"Cascade Lake with transactions",
     {.family = 6,
      .model = 0x55,
      .edx7 = SPEC_CTRL | MD_CLEAR | FLUSH | ARCH,
      .capabilities = CASCADE_LAKE,
      .transactions = true},
     BEFORE_BHI_CTRL | GUARD_BUFFERS,
     0},
    {"Cascade Lake, transactions off, hyper-threads",
     {.family = 6,
      .model = 0x55,
      .edx7 = SPEC_CTRL | MD_CLEAR | FLUSH | ARCH,
      .capabilities = CASCADE_LAKE,
      .threads = true},
     BEFORE_BHI_CTRL,
     0},
    {"Cascade Lake with transactions, microcode that does not clear",
     {.family = 6,
      .model = 0x55,
      .edx7 = SPEC_CTRL | FLUSH | ARCH,
      .capabilities = CASCADE_LAKE,
      .transactions = true,
      .threads = true},
     BEFORE_BHI_CTRL,
     LEAK_BUFFERS | LEAK_THREADS},
    {"Ice Lake",
     {.family = 6,
      .model = 0x6a,
      .edx7 = SPEC_CTRL | MD_CLEAR | FLUSH | ARCH,
      .capabilities = ICE_LAKE,
      .transactions = true,
      .threads = true},
     BEFORE_BHI_CTRL,
     0},
    {"Alder Lake",
     {.family = 6,
      .model = 0x97,
      .edx7 = SPEC_CTRL | MD_CLEAR | FLUSH | ARCH,
      .edx72 = BHI_CTRL,
      .capabilities = ICE_LAKE,
      .threads = true},
     MODERN | GUARD_BHI,
     0},
    {"one with nothing left to guard",
     {.family = 6,
      .model = 0xcf,
      .edx7 = SPEC_CTRL | MD_CLEAR | FLUSH | ARCH,
      .threads = true,
      .capabilities = ICE_LAKE | CAPABILITY_PBRSB_NO | CAPABILITY_BHI_NO | CAPABILITY_RFDS_NO},
     GUARD_IBRS_ALWAYS | GUARD_IBPB,
     0},
};

static void processors_get_what_they_need(void)
{
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct speculation s = speculation_decide(&cases[i].machine);
        CHECK(s.guards == cases[i].guards, "%s: guards %x, not %x", cases[i].name, s.guards,
              cases[i].guards);
        CHECK(s.leaks == cases[i].leaks, "%s: leaks %x, not %x", cases[i].name, s.leaks,
              cases[i].leaks);
    }
}

/* Whatever a processor says: no guard whose MSR it has not, and no two ways of IBRS at once. */
static void no_guard_uses_what_is_not_there(void)
{
    uint64_t state = 1;

    for (unsigned i = 0; i < 100000; i++) {
        struct speculation_machine m = {
            .family = 6,
            .model = (unsigned)test_random(&state) & 0xff,
            .edx7 = (uint32_t)test_random(&state),
            .edx72 = (uint32_t)test_random(&state),
            .transactions = test_random(&state) & 1,
            .threads = test_random(&state) & 1,
        };
        if (m.edx7 & ARCH)
            m.capabilities = test_random(&state);
        uint32_t sets[] = {speculation_decide(&m).guards, speculation_all_guards(&m)};
        for (unsigned n = 0; n < 2; n++) {
            uint32_t g = sets[n];
            CHECK((m.edx7 & SPEC_CTRL) ||
                      !(g & (GUARD_IBRS_EXIT | GUARD_IBRS_ALWAYS | GUARD_BHI | GUARD_IBPB)),
                  "no SPEC_CTRL, guards %x", g);
            CHECK((m.edx7 & FLUSH) || !(g & GUARD_L1D), "no FLUSH_CMD, guards %x", g);
            CHECK((m.edx72 & BHI_CTRL) || !(g & GUARD_BHI), "no BHI_CTRL, guards %x", g);
            CHECK((g & (GUARD_IBRS_EXIT | GUARD_IBRS_ALWAYS)) !=
                      (GUARD_IBRS_EXIT | GUARD_IBRS_ALWAYS),
                  "IBRS twice, guards %x", g);
            CHECK(n == 1 || (g & (GUARD_BHI | GUARD_HISTORY)) != (GUARD_BHI | GUARD_HISTORY),
                  "history twice, guards %x", g);
            CHECK((sets[0] & ~sets[1]) == 0, "all %x lacks of %x", sets[1], sets[0]);
        }
    }
}

static void names_are_cut_and_not_overrun(void)
{
    char text[SPECULATION_TEXT_MAX], small[8];

    speculation_print_guards(0, text, sizeof(text));
    CHECK(strcmp(text, "none") == 0, "%s", text);
    speculation_print_guards(~0u, text, sizeof(text));
    CHECK(strstr(text, "VERW before each entry"), "all names fit: %s", text);
    speculation_print_leaks(LEAK_L1D | LEAK_THREADS, text, sizeof(text));
    CHECK(strcmp(text, "L1 data cache, hyper-threads") == 0, "%s", text);
    speculation_print_guards(~0u, small, sizeof(small));
    CHECK(strlen(small) == sizeof(small) - 1, "%s", small);
}

int main(void)
{
    RUN(processors_get_what_they_need);
    RUN(no_guard_uses_what_is_not_there);
    RUN(names_are_cut_and_not_overrun);
    return test_status();
}
