/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Starting the other processors (SDM 3A 8.4.4): INIT for all, a wait, and then, one after the
 * other, a start-up IPI, which is sent again if nothing has happened. Each comes through
 * trampoline.S, takes over what the boot processor has chosen for all (tables, control registers,
 * the APIC's mode, VMX), compares its clock with the boot processor's, and waits until all have
 * come. One that does not come in time is sent back to wait for a start-up IPI and left out.
 */
#include <string.h>

#include "arch/x86_64/cet.h"
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/guards.h"
#include "arch/x86_64/memory.h"
#include "arch/x86_64/pmu.h"
#include "arch/x86_64/processor.h"
#include "arch/x86_64/trampoline.h"
#include "arch/x86_64/vmx.h"
#include "drivers/acpi.h"
#include "drivers/apic.h"
#include "hv/arch.h"
#include "hv/console.h"
#include "hv/faults.h"
#include "hv/memory.h"

#define US_PER_SECOND  1000000u
#define INIT_WAIT_US   10000u
#define SIPI_WAIT_US   200u
#define START_LIMIT_US 2000000u /* a busy machine under an emulator is slow */
#define PROBE_LIMIT_US 10000u   /* for one that may not be there at all */
#define PROBE_IDS      16u

/* trampoline.S's GDT */
#define GDT_CODE32 0x08u
#define GDT_CODE64 0x18u
#define GDT_BYTES  0x20u

/* How far a processor that starts has come; it writes `progress`, the boot processor looks. */
enum progress {
    PROGRESS_NONE,
    PROGRESS_UP,
    PROGRESS_FAILED, /* `failure` says why */
};

static uint32_t progress;
static unsigned attempts; /* processors that were called so far */
static struct why failure;
static bool released; /* all have come: go on */
static void (*main_function)(void);

static uint64_t ticks_of(uint32_t us)
{
    return time_hz() / US_PER_SECOND * us;
}

/* --- clocks ----------------------------------------------------------------------------------- */

#define COMPARISONS    1000u /* by each of the two */
#define COMPARE_FOR_US 50000u

/*
 * Two processors read their TSCs in turn. One that reads less than what the other has read just
 * before is behind by that at least.
 */
static struct {
    uint32_t turn; /* even: the boot processor's */
    bool last_turn;
    uint64_t last;                      /* what was read before */
    uint64_t boot_behind, other_behind; /* ticks, the most that was seen */
} clocks;

/* False when the other one does not end its turn. */
static bool wait_for_turn(uint32_t parity)
{
    uint64_t start = time_now();

    while (__atomic_load_n(&clocks.turn, __ATOMIC_ACQUIRE) % 2 != parity) {
        if (time_now() - start > ticks_of(START_LIMIT_US))
            return false;
        processor_relax();
    }
    return true;
}

static void end_turn(void)
{
    __atomic_store_n(&clocks.turn, clocks.turn + 1, __ATOMIC_RELEASE);
}

/* LFENCE keeps the processor from reading the TSC before its turn has come, SDM 2B RDTSC. */
static void compare_clock(uint64_t *behind)
{
    __asm__ volatile("lfence" : : : "memory");
    uint64_t now = rdtsc();

    if (now < clocks.last)
        *behind = max_u64(*behind, clocks.last - now);
    clocks.last = now;
}

/* False when the other one has stopped. */
static bool compare_on_boot_processor(void)
{
    uint64_t start = time_now();

    for (unsigned i = 1; !clocks.last_turn; i++) {
        if (!wait_for_turn(0))
            return false;
        compare_clock(&clocks.boot_behind);
        clocks.last_turn = i == COMPARISONS || time_now() - start > ticks_of(COMPARE_FOR_US);
        end_turn();
    }
    return wait_for_turn(0);
}

/* The boot processor may be slow, and does not stop: this one waits for it as long as it takes. */
static void compare_on_other(void)
{
    bool last_turn;

    do {
        while (!wait_for_turn(1))
            ;
        compare_clock(&clocks.other_behind);
        last_turn = clocks.last_turn;
        if (fault_cpu(FAULT_CPU_STOPS, attempts))
            cpu_halt_forever();
        end_turn();
    } while (!last_turn);
}

/* True if they agree, else a line says by how much they do not. */
static bool clocks_agree(const struct processor *other)
{
    bool behind = clocks.other_behind > 0;
    uint64_t ticks = max_u64(clocks.boot_behind, clocks.other_behind);

    if (ticks > 0)
        log_line("clock: the TSC of processor %u is %s that of the boot processor by at least %llu "
                 "ticks",
                 other->index, behind ? "behind" : "ahead of", (unsigned long long)ticks);
    return ticks == 0;
}

/* --- on the processor that starts ------------------------------------------------------------- */

static uint64_t common_cr4; /* the boot processor's, out of VMX operation */
static bool common_vmx;     /* whether it is in VMX operation */

static bool take_over(struct why *why)
{
    memory_enter(common_cr4);
    guards_enter();
    if (fault_cpu(FAULT_CPU_DIFFERS, attempts))
        return why_set(why, "it differs from the boot processor, as the settings want it");
    return cet_prepare(why) && apic_enter(why) &&
           (!common_vmx || (vmx_enter(why) && pmu_enter(why)));
}

__attribute__((noreturn)) static void begin(struct processor *self)
{
    processor_enter(self);
    if (fault_cpu(FAULT_CPU_HANGS, attempts))
        cpu_halt_forever();
    if (!take_over(&failure)) {
        __atomic_store_n(&progress, PROGRESS_FAILED, __ATOMIC_RELEASE);
        cpu_halt_forever();
    }
    __atomic_store_n(&progress, PROGRESS_UP, __ATOMIC_RELEASE);
    compare_on_other();
    while (!__atomic_load_n(&released, __ATOMIC_ACQUIRE))
        processor_relax();
    write_cr3(read_cr3()); /* forget the trampoline, which is unmapped by now, and shadow stacks */
    cet_begin();
    main_function();
    panic("a processor's main function has returned");
}

/* --- on the boot processor -------------------------------------------------------------------- */

/* Two pages below 1 MiB: the trampoline, and a root table that 32-bit code can load. */
static hpa_t low_pages;

static struct trampoline *trampoline_data(void)
{
    return host_ptr(hpa_add(low_pages, TRAMPOLINE_DATA));
}

/* Where a byte of trampoline.S is in the copy. */
static uint32_t in_copy(const char *at)
{
    return (uint32_t)(low_pages.v + (uint64_t)(at - trampoline_start));
}

/* False without memory for a table. */
static bool fill_trampoline(void)
{
    struct trampoline *t = trampoline_data();
    hpa_t root = hpa(read_cr3());
    hpa_t low_root = hpa_add(low_pages, PAGE_SIZE);

    ASSERT(trampoline_end - trampoline_start <= TRAMPOLINE_DATA);
    memcpy(host_ptr(low_pages), trampoline_start, (size_t)(trampoline_end - trampoline_start));
    if (!memory_map_identity(low_pages))
        return false;
    memcpy(host_ptr(low_root), host_ptr(root), PAGE_SIZE);
    *t = (struct trampoline){
        .low_root = (uint32_t)low_root.v,
        .cr0 = (uint32_t)read_cr0(),
        .far32 = {.offset = in_copy(trampoline_code32), .selector = GDT_CODE32},
        .far64 = {.offset = in_copy(trampoline_code64), .selector = GDT_CODE64},
        .gdt_limit = GDT_BYTES - 1,
        .gdt_base_low = (uint16_t)in_copy(trampoline_gdt),
        .gdt_base_high = (uint16_t)(in_copy(trampoline_gdt) >> 16),
        .root = root.v,
        .entry = begin,
    };
    return true;
}

static void wait_us(uint32_t us)
{
    uint64_t start = time_now();

    while (time_now() - start < ticks_of(us))
        processor_relax();
}

/* Wait for *word to be other than `value`. False when that takes longer than `us`. */
static bool wait_for_change(const uint32_t *word, uint32_t value, uint32_t us)
{
    uint64_t start = time_now();

    while (__atomic_load_n(word, __ATOMIC_ACQUIRE) == value) {
        if (time_now() - start > ticks_of(us))
            return false;
        processor_relax();
    }
    return true;
}

static void free_processor(struct processor *p)
{
    for (unsigned slot = IST_COUNT; slot >= 1; slot--) {
        uint64_t stack = descriptors_stack(&p->descriptors, slot);
        if (stack)
            memory_free_stack(stack);
    }
    if (p->stack)
        memory_free_stack(p->stack);
    host_pages_free(p, 1);
}

/* NULL without memory. */
static struct processor *new_processor(void)
{
    struct processor *p = host_pages_alloc(1);

    if (!p)
        return NULL;
    p->self = p;
    p->stack = memory_new_stack();
    bool whole = p->stack != 0;
    for (unsigned slot = 1; slot <= IST_COUNT && whole; slot++) {
        uint64_t stack = memory_new_stack();
        descriptors_set_stack(&p->descriptors, slot, stack);
        whole = stack != 0;
    }
    if (whole)
        return p;
    free_processor(p);
    return NULL;
}
_Static_assert(sizeof(struct processor) <= PAGE_SIZE, "one page holds it");

/* Lead it through the trampoline, which it must reach within `limit` us: false if it does not come.
 * *taken: it has begun to use `p`. */
static bool come(struct processor *p, uint32_t limit, bool *taken)
{
    struct trampoline *t = trampoline_data();
    uint8_t page = (uint8_t)(low_pages.v >> PAGE_SHIFT);

    progress = PROGRESS_NONE;
    memset(&clocks, 0, sizeof(clocks));
    t->self = p;
    t->stack = p->stack;
    __atomic_store_n(&t->claim, 1, __ATOMIC_RELEASE);
    bool call = !fault_cpu(FAULT_CPU_ABSENT, attempts);
    if (call)
        apic_send_startup(p->apic_id, page);
    if (!wait_for_change(&t->claim, 1, SIPI_WAIT_US)) {
        if (call)
            apic_send_startup(p->apic_id, page);
        wait_for_change(&t->claim, 1, limit);
    }
    *taken = __atomic_exchange_n(&t->claim, 0, __ATOMIC_ACQ_REL) == 0;
    if (*taken && wait_for_change(&progress, PROGRESS_NONE, START_LIMIT_US))
        return true;
    apic_send_init(p->apic_id); /* it waits for a start-up IPI again */
    return false;
}

/* The processors to start, by APIC id. */
struct candidates {
    uint32_t id[ACPI_PROCESSORS_MAX];
    uint32_t count;
    bool probed; /* there is no list: these ids may belong to processors */
};

static struct candidates candidates;

/* One that has come, but is not counted in: back to wait for a start-up IPI. What it had stays
 * taken, since nobody knows what it does. */
static void leave_out(uint32_t id, const char *why)
{
    apic_send_init(id);
    log_line("processors: the one with APIC id %u is left out: %s", id, why);
}

enum started { STARTED, LEFT_OUT, CLOCK_DISAGREES, NO_MEMORY };

/*
 * Start the processor with that APIC id as the next one. *spare is a struct processor that an
 * earlier one has not taken, or NULL; and again at the end.
 */
static enum started start_one(uint32_t id, struct processor **spare)
{
    struct processor *p = *spare ? *spare : new_processor();
    bool taken;

    if (!p)
        return NO_MEMORY;
    attempts++;
    p->index = processor_count();
    p->apic_id = id;
    bool came = come(p, candidates.probed ? PROBE_LIMIT_US : START_LIMIT_US, &taken);
    *spare = taken ? NULL : p;
    if (!came) {
        if (taken || !candidates.probed)
            log_line("processors: the one with APIC id %u does not start; left out", id);
        return LEFT_OUT;
    }
    if (progress == PROGRESS_FAILED) {
        leave_out(id, failure.text);
        return LEFT_OUT;
    }
    if (!compare_on_boot_processor()) {
        leave_out(id, "it has stopped while clocks were compared");
        return LEFT_OUT;
    }
    processor_add(p);
    return clocks_agree(p) ? STARTED : CLOCK_DISAGREES;
}

static bool is_candidate(uint32_t id)
{
    for (uint32_t i = 0; i < candidates.count; i++) {
        if (candidates.id[i] == id)
            return true;
    }
    return false;
}

static void consider(uint32_t id)
{
    if (id == this_processor()->apic_id || is_candidate(id))
        return;
    if (apic_can_reach(id))
        candidates.id[candidates.count++] = id;
    else
        log_line("processors: the one with APIC id %u is left out: xAPIC cannot reach it", id);
}

/* Without a MADT, as on a machine whose firmware gives no ACPI tables, the first ids are tried. */
static void find_candidates(const struct acpi_info *acpi)
{
    uint32_t listed = (uint32_t)min_u64(acpi->processor_count, ACPI_PROCESSORS_MAX);

    candidates.probed = listed == 0;
    for (uint32_t i = 0; i < listed; i++)
        consider(acpi->processor[i]);
    for (uint32_t id = 0; id < PROBE_IDS && candidates.probed; id++)
        consider(id);
}

/* Those beyond the limit get their INIT too: out of the firmware's memory, which is ours now. */
static void start_all(unsigned limit)
{
    struct processor *spare = NULL;
    enum started last = STARTED;
    bool agree = true;

    for (uint32_t i = 0; i < candidates.count; i++)
        apic_send_init(candidates.id[i]);
    wait_us(INIT_WAIT_US);
    for (uint32_t i = 0; i < candidates.count && processor_count() < limit && last != NO_MEMORY;
         i++) {
        last = start_one(candidates.id[i], &spare);
        agree &= last != CLOCK_DISAGREES;
    }
    if (last == NO_MEMORY)
        log_line("processors: no memory for another one");
    if (spare)
        free_processor(spare);
    if (agree && processor_count() > 1)
        log_line("clock: the TSCs of all processors agree");
}

void processors_start(const struct acpi_info *acpi, unsigned limit, void (*main)(void))
{
    find_candidates(acpi);
    uint32_t present = candidates.probed ? 0 : candidates.count + 1;

    if (limit == PROCESSORS_ALL || limit > PROCESSORS_MAX) {
        if (present > PROCESSORS_MAX)
            log_line("processors: more than %u; the others are left out", PROCESSORS_MAX);
        limit = PROCESSORS_MAX;
    }
    main_function = main;
    common_cr4 = read_cr4() & ~(CR4_VMXE | CR4_CET); /* each begins with its own */
    common_vmx = this_processor()->in_vmx;
    low_pages = memory_low_pages();
    if (candidates.count > 0 && hpa_is_none(low_pages)) {
        log_line("processors: no free memory below 1 MiB, where others start: one must do");
    } else if (candidates.count > 0 && !fill_trampoline()) {
        log_line("processors: no memory to lead others in: one must do");
    } else if (candidates.count > 0) {
        start_all(limit);
        memory_unmap_identity(low_pages);
    }
    write_cr3(read_cr3()); /* their shadow stacks have left the direct map */
    __atomic_store_n(&released, true, __ATOMIC_RELEASE);
    if (candidates.probed)
        log_line("processors: %u used; there is no list of all", processor_count());
    else
        log_line("processors: %u in the machine, %u used", present, processor_count());
}
