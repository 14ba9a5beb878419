/* SPDX-License-Identifier: BSD-2-Clause */
/* See guards.h; what goes around each visit to a guest is in vmentry.S. */
#include "arch/x86_64/guards.h"

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/processor.h"
#include "arch/x86_64/vcpu.h"
#include "hv/console.h"

/* SDM 4 table 2-2 */
#define MSR_PRED_CMD          0x49u
#define MSR_ARCH_CAPABILITIES 0x10au
#define PRED_CMD_IBPB         BIT(0)
#define SPEC_CTRL_IBRS        BIT(0)
#define SPEC_CTRL_BHI_DIS_S   BIT(10)

#define CPUID7_EBX_RTM BIT(11)
#define TOPOLOGY_SMT   1u /* level type in CPUID leaf 0xb, ECX 15:8 */

static enum mitigations wanted;

/* --- what the processor says ------------------------------------------------------------------ */

/* SDM 2A, CPUID leaf 1: family and model with their extensions. */
static void read_model(struct speculation_machine *m)
{
    uint32_t eax = cpuid(1, 0).eax;
    unsigned base = eax >> 8 & 0xf;

    m->family = base == 0xf ? base + (eax >> 20 & 0xff) : base;
    m->model = eax >> 4 & 0xf;
    if (base == 0x6 || base == 0xf)
        m->model |= eax >> 12 & 0xf0;
}

static bool has_threads(void)
{
    if (cpuid(0, 0).eax < 0xb)
        return false;
    struct cpuid_regs r = cpuid(0xb, 0);
    return (r.ecx >> 8 & 0xff) == TOPOLOGY_SMT && (r.ebx & 0xffff) > 1;
}

static struct speculation_machine read_machine(void)
{
    struct speculation_machine m = {0};

    read_model(&m);
    m.threads = has_threads();
    if (cpuid(0, 0).eax < 7)
        return m;
    struct cpuid_regs seven = cpuid(7, 0);
    m.edx7 = seven.edx;
    m.transactions = (seven.ebx & CPUID7_EBX_RTM) != 0;
    if (seven.eax >= 2)
        m.edx72 = cpuid(7, 2).edx;
    if (m.edx7 & CPUID7_EDX_ARCH_CAPABILITIES)
        m.capabilities = rdmsr(MSR_ARCH_CAPABILITIES);
    return m;
}

/* --- life ------------------------------------------------------------------------------------- */

static struct speculation decide(void)
{
    struct speculation_machine machine = read_machine();
    struct speculation s = speculation_decide(&machine);

    if (wanted == MITIGATIONS_OFF)
        s.guards = 0;
    else if (wanted == MITIGATIONS_ALL)
        s.guards = speculation_all_guards(&machine);
    return s;
}

static void turn_on(uint32_t guards)
{
    this_processor()->guards = guards;
    if (guards & (GUARD_IBRS_ALWAYS | GUARD_BHI))
        wrmsr(MSR_SPEC_CTRL, (guards & GUARD_IBRS_ALWAYS ? SPEC_CTRL_IBRS : 0) |
                                 (guards & GUARD_BHI ? SPEC_CTRL_BHI_DIS_S : 0));
}

static void say(const struct speculation *s)
{
    char guards[SPECULATION_TEXT_MAX], leaks[SPECULATION_TEXT_MAX];

    speculation_print_guards(s->guards, guards, sizeof(guards));
    speculation_print_leaks(s->leaks, leaks, sizeof(leaks));
    log_line("speculation: guards of processor %u: %s; what it cannot guard: %s", processor_index(),
             guards, leaks);
}

void guards_init(enum mitigations mitigations)
{
    wanted = mitigations;
    struct speculation s = decide();
    turn_on(s.guards);
    if (mitigations == MITIGATIONS_OFF)
        log_line("speculation: the settings turn all guards off");
    else
        say(&s);
}

void guards_enter(void)
{
    struct speculation s = decide();

    turn_on(s.guards);
    if (s.guards != processor_at(0)->guards)
        say(&s);
}

void guards_switch(const struct vcpu *vcpu)
{
    struct processor *self = this_processor();

    if (!(self->guards & GUARD_IBPB))
        return;
    /* A VM that has not run yet may have its description where another one's was. */
    if (self->guarded_vm == vcpu->vm && vcpu->arch->launched)
        return;
    wrmsr(MSR_PRED_CMD, PRED_CMD_IBPB);
    self->guarded_vm = vcpu->vm;
}
