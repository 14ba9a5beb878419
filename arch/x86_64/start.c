/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From the loader's jump to the running VMs: the story of a start, in order. start() still stands
 * on the boot stack and the loader's tables; main_on_own_stack() is at home.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "arch/x86_64/cet.h"
#include "arch/x86_64/guards.h"
#include "arch/x86_64/guest_cpu.h"
#include "arch/x86_64/measured.h"
#include "arch/x86_64/memory.h"
#include "arch/x86_64/panic.h"
#include "arch/x86_64/pmu.h"
#include "arch/x86_64/processor.h"
#include "arch/x86_64/random.h"
#include "arch/x86_64/selftest.h"
#include "arch/x86_64/symbols.h"
#include "arch/x86_64/vcpu.h"
#include "arch/x86_64/vmx.h"
#include "drivers/acpi.h"
#include "drivers/apic.h"
#include "drivers/clock.h"
#include "drivers/power.h"
#include "drivers/screen.h"
#include "drivers/uart.h"
#include "drivers/vtd.h"
#include "hv/arch.h"
#include "hv/console.h"
#include "hv/faults.h"
#include "hv/memory.h"
#include "hv/sched.h"
#include "hv/settings.h"
#include "hv/vm.h"
#include "hv/watchdog.h"

#define HYPERVISOR_FILE "twofold.elf"
#define MODULES_MAX     128

/* Status in the last record, for the script that reads it. */
enum { STATUS_OK = 0, STATUS_FAILED = 1, STATUS_CANNOT_RUN = 3 };

extern uintptr_t __stack_chk_guard;

void start(uint64_t handoff_at);
__attribute__((noreturn)) void start_on_stack(uint64_t top, void (*function)(void));

static struct handoff handoff;
static bool has_seed; /* the hand-off had one */
static struct acpi_info acpi;
static struct module module[MODULES_MAX];
static struct module_list modules = {.module = module};
static struct settings settings;

uint64_t time_now(void)
{
    return rdtsc();
}

uint64_t time_hz(void)
{
    return clock_hz();
}

uint64_t arch_wall_clock(void)
{
    return handoff.wall_seconds ? handoff.wall_seconds + (rdtsc() - handoff.wall_tsc) / time_hz()
                                : 0;
}

/*
 * Another one at each start, of the processor's random numbers; the TSC at this moment is stirred
 * in, and has to do alone where there are none. The canary's lowest byte is 0, so that no string
 * function can write it.
 */
__attribute__((no_stack_protector)) static void set_canary(void)
{
    uint64_t seed = rdtsc() * 0x9e3779b97f4a7c15ull, random = 0;

    (void)random_of_processor(&random);
    __stack_chk_guard = (seed ^ seed >> 29 ^ random) & ~0xffull;
}

void arch_poll_machine(void)
{
    vtd_report();
}

static const void *acpi_map_ram(void *context, uint64_t at, uint64_t len)
{
    (void)context;
    return memory_is_ram(at, len) ? host_ptr(hpa(at)) : NULL;
}

/* --- consoles --------------------------------------------------------------------------------- */

static bool has_serial, has_screen;

static void open_consoles(void)
{
    struct uart_config com1 = {.base = UART_COM1, .stride = 1, .width = 1};
    const struct handoff_framebuffer *fb = &handoff.framebuffer;

    has_serial = uart_init(acpi.has_uart ? &acpi.uart : &com1);
    if (has_serial) {
        console_add_sink(uart_write);
        console_set_slow_sink(uart_hold, uart_service);
        console_set_source(uart_read);
    }
    void *pixels =
        fb->format != HANDOFF_PIXEL_NONE ? host_map_framebuffer(hpa(fb->base), fb->size) : NULL;
    has_screen = pixels && screen_init(pixels, fb);
    if (has_screen)
        console_add_sink(screen_write);
}

/* --- modules ---------------------------------------------------------------------------------- */

static void collect_modules(void)
{
    const struct handoff_module *list = host_ptr(hpa(handoff.modules));

    modules.count = 0;
    for (uint64_t i = 0; i < handoff.module_count; i++) {
        if (modules.count == MODULES_MAX) {
            log_line("modules: more than %d files; '%s' and later ones are left out", MODULES_MAX,
                     list[i].name);
            break;
        }
        module[modules.count++] =
            (struct module){list[i].name, host_ptr(hpa(list[i].base)), list[i].size};
    }
}

static void read_symbols(void)
{
    const struct module *self = module_find(&modules, HYPERVISOR_FILE);

    if (self)
        symbols_init(self->data, self->size);
}

static void check_handoff(const struct handoff *given)
{
    if (given->magic != HANDOFF_MAGIC || given->version != HANDOFF_VERSION ||
        given->size != sizeof(*given))
        panic("the loader's hand-off has version %u and size %u; this hypervisor wants version %u "
              "and "
              "size %zu: install both from one build",
              given->version, given->size, HANDOFF_VERSION, sizeof(*given));
}

/* --- the end ---------------------------------------------------------------------------------- */

__attribute__((noreturn)) static void end(int status)
{
    console_printf("@end {\"status\": %d}\n", status);
    if (settings.at_end == AT_END_STAY)
        log_line("the run is over; the machine can be switched off");
    watchdog_init(0); /* this processor stands still from here on */
    power_end(settings.at_end, status == STATUS_OK);
}

__attribute__((noreturn, format(printf, 1, 2))) static void cannot_run(const char *format, ...);

static void cannot_run(const char *format, ...)
{
    char text[sizeof(((struct why *)0)->text)];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    log_line("cannot run: %s", text);
    end(STATUS_CANNOT_RUN);
}

/* --- the story -------------------------------------------------------------------------------- */

static void read_settings(void)
{
    const struct module *file = module_find(&modules, SETTINGS_FILE);
    struct why why;

    if (!file)
        cannot_run("there is no \\twofold\\" SETTINGS_FILE " on the EFI partition");
    if (!settings_parse(file->data, file->size, &modules, &settings, &why))
        cannot_run("%s", why.text);
    panic_set_end(settings.at_end);
    for (unsigned f = 0; f < FEATURE_COUNT; f++) {
        if (settings.without >> f & 1)
            log_line("settings: without %s", feature_name((enum feature)f));
    }
}

static bool wants(enum feature feature)
{
    return !(settings.without >> feature & 1);
}

static void block_devices(void)
{
    if (settings.dma_protection)
        vtd_init(&acpi, memory_has_free);
    else
        log_line("dma: the settings let devices write to all memory");
}

static unsigned count_native(void)
{
    unsigned count = 0;

    for (unsigned i = 0; i < settings.vm_count; i++)
        count += settings.vm[i].paging == PAGING_NATIVE;
    return count;
}

/* fail = capability:each: what the start says if one after the other is missing. The choices are
 * made anew each time. */
static void try_without_each_capability(void)
{
    const char *missing;
    struct why why;

    (void)faults_next_capability(true);
    do {
        bool goes_on = vmx_init(settings.without, &why);
        missing = faults_next_capability(false);
        if (missing)
            log_line("fault: without %s: %s", missing, goes_on ? "goes on" : why.text);
    } while (missing);
}

static void switch_vmx_on(void)
{
    struct why why;
    bool wanted = count_native() < settings.vm_count || settings.vm_count == 0;

    if (settings.fail.each_capability)
        try_without_each_capability();
    if (!vmx_init(settings.without, &why) || (wanted && !vmx_enter(&why)))
        cannot_run("%s", why.text);
    guest_cpu_init();
    if (count_native() > 0)
        native_init();
    if (!wanted) {
        log_line("vmx: stays off, all guests are native");
        return;
    }
    log_line("vmx: on; EPT pages up to %s, VPID %s, unrestricted guest %s, preemption timer %s",
             vmx.max_ept_leaf == 3   ? "1g"
             : vmx.max_ept_leaf == 2 ? "2m"
                                     : "4k",
             vmx.vpid ? "yes" : "no", vmx.unrestricted_guest ? "yes" : "no",
             vmx.preemption_timer ? "yes" : "no");
}

static void log_acpi(void)
{
    if (!acpi.valid) {
        log_line("acpi: no tables");
        return;
    }
    log_line("acpi: soft-off %s, reset register %s, PM timer %s, %u processors, %u I/O APICs",
             acpi.has_s5 ? "yes" : "no", acpi.has_reset ? "yes" : "no",
             acpi.pm_timer ? "yes" : "no", acpi.processor_count, acpi.io_apic_count);
}

static void log_machine(void)
{
    uint32_t brand[13] = {0};

    for (uint32_t i = 0; i < 3; i++) {
        struct cpuid_regs r = cpuid(0x80000002 + i, 0);
        memcpy(&brand[4 * i], &r, sizeof(r));
    }
    const char *name = (const char *)brand;
    name += strspn(name, " ");
    log_line("Twofold on %s", name);
    log_line("console: UART %s (%s), screen %s", has_serial ? "yes" : "no",
             acpi.has_uart ? "ACPI's SPCR" : "COM1", has_screen ? "yes" : "no");
    log_line("memory: %llu MiB free, largest run %llu MiB, %llu MiB of it aligned to 1 GiB",
             (unsigned long long)host_frames.free_bytes >> 20,
             (unsigned long long)frames_largest(&host_frames, PAGE_SIZE) >> 20,
             (unsigned long long)frames_largest(&host_frames, PAGE_SIZE_1G) >> 20);
    log_line("memory: the hypervisor lies at %s addresses", has_seed ? "random" : "the usual");
    log_line("clock: TSC at %llu kHz, by %s", (unsigned long long)clock_hz() / 1000,
             clock_source());
    log_acpi();
}

static void log_watchdog(void)
{
    if (settings.watchdog_s == 0)
        log_line("watchdog: off");
    else if (processor_count() == 1)
        log_line("watchdog: off, there is no second processor");
    else
        log_line("watchdog: on, a processor that gets nowhere for %u s is stuck",
                 settings.watchdog_s);
}

/* The processors but the first manage nothing. */
static void main_of_others(void)
{
    sched_run(NULL);
}

/* Faults count from the first allocation on. The loader has found the settings to be good. Files
 * are where its tables show them: soon they will be elsewhere, and nothing here may keep an
 * address. */
static void plan_faults(void)
{
    struct why why;

    collect_modules();
    const struct module *file = module_find(&modules, SETTINGS_FILE);
    if (!file || !settings_parse(file->data, file->size, &modules, &settings, &why))
        return;
    panic_set_end(settings.at_end);
    faults_plan(&settings.fail);
}

/* How many of them came before there were VMs. */
static void print_faults(void)
{
    bool came;

    if (!FAULTS_BUILT)
        return;
    uint32_t count = faults_allocations(&came);
    console_printf("@fault {\"vm\": null, \"allocations\": %u, \"failed\": %s}\n", count,
                   came ? "true" : "false");
}

static bool run_self_test(enum self_test test)
{
    switch (test) {
    case SELF_TEST_DMA:
        return selftest_dma();
    case SELF_TEST_PROCESSORS:
    case SELF_TEST_OTHER_PANICS:
        processors_start(&acpi, PROCESSORS_ALL, selftest_of_others);
        return selftest_processors(test);
    default:
        selftest_commit(test);
        return false; /* it should not have come back */
    }
}

static void main_on_own_stack(void)
{
    struct why why;

    clock_init(&acpi);
    log_machine();
    collect_modules();
    read_symbols();
    measured_print(&handoff);
    read_settings();
    memory_protect(wants(FEATURE_SMEP), wants(FEATURE_SMAP));
    guards_init(settings.mitigations);
    block_devices();
    apic_init(wants(FEATURE_X2APIC));
    cet_choose(wants(FEATURE_SHADOW_STACKS));
    if (!cet_prepare(&why))
        cannot_run("%s", why.text);
    cet_begin(); /* this function never returns */
    if (settings.self_test != SELF_TEST_NONE)
        end(run_self_test(settings.self_test) ? STATUS_OK : STATUS_FAILED);
    switch_vmx_on();
    pmu_start(wants(FEATURE_PMU));
    watchdog_init(settings.watchdog_s);
    processors_start(&acpi, settings.processors, main_of_others);
    log_watchdog();
    print_faults();
    bool all_well = vm_run_all(&settings, &modules);
    bench_print_table();
    end(all_well ? STATUS_OK : STATUS_FAILED);
}

__attribute__((no_stack_protector)) void start(uint64_t handoff_at)
{
    set_canary();
    handoff = *(const struct handoff *)handoff_at; /* mapped one to one by the loader */
    symbols_set_slide(handoff.hv_slide);
    processor_init_boot();
    if (FAULTS_BUILT)
        plan_faults();
    has_seed = handoff.seed != 0;
    memory_init(&handoff);
    handoff.seed = 0; /* it tells where everything is */
    acpi_read(&acpi, handoff.rsdp, acpi_map_ram, NULL);
    power_init(&acpi);
    open_consoles();
    check_handoff(&handoff);
    start_on_stack(memory_need_stack(), main_on_own_stack);
}
