/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * See vmm.h. A VM of one processor without an interrupt controller: nothing that a benchmark does
 * needs one, and Twofold's guests have none. RAM is there before the guest starts, as with Twofold;
 * KVM fills EPT or its shadow tables at the first accesses, as it does for everybody.
 */
#include "tests/kvm/vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <linux/kvm.h>
#include <linux/mman.h>

#include "hv/dev/pio.h"
#include "hv/loader.h"
#include "tests/kvm/record.h"

#define TSS_ADDRESS         0xfffbd000ul /* three pages that KVM needs for real mode, no RAM here */
#define CPUID_ENTRIES       128u
#define NS_PER_SECOND       1000000000u /* ticks of the time that devices see */
#define HOST_PAGE_2M        MAP_HUGE_2MB
#define CPUID_1             1u
#define CPUID_1_HYPERVISOR  (1u << 31) /* ECX */
#define CPUID_EXTENDED_1    0x80000001u
#define CPUID_EXTENDED_8    0x80000008u
#define CPUID_EXTENDED_1_1G (1u << 26) /* EDX */

/* hv/guest_abi.h, entry state */
#define CR0_ENTRY    0x80010033ull /* PE, MP, ET, NE, WP, PG */
#define CR4_ENTRY    0x20ull       /* PAE */
#define EFER_ENTRY   0xd01ull      /* SCE, LME, LMA, NXE */
#define RFLAGS_ENTRY 2ull
#define CODE         0x08u
#define DATA         0x10u
#define TASK         0x18u
#define TSS_LIMIT    103u

struct vmm {
    const struct peer_run *run;
    int kvm, vm, vcpu;
    struct kvm_run *shared; /* what KVM and we say to each other */
    struct guest_ram ram;
    struct vm_devices devices;
    struct lapic_page lapic_page;
    struct record record;
    struct why why;
    unsigned physical_bits; /* of the guest */
    bool has_1g_pages;
    bool stopped; /* `why` says it */
};

typedef unsigned long long ull;

static volatile sig_atomic_t time_is_up;

static void on_alarm(int signal)
{
    (void)signal;
    time_is_up = 1;
}

__attribute__((format(printf, 2, 3))) static bool stop(struct vmm *v, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(v->why.text, sizeof(v->why.text), format, args);
    va_end(args);
    v->stopped = true;
    return false;
}

static bool stop_errno(struct vmm *v, const char *what)
{
    return stop(v, "%s: %s", what, strerror(errno));
}

/* --- making the VM ---------------------------------------------------------------------------- */

/* All of it present, in pages of the size that is wanted and no other. */
static bool make_ram(struct vmm *v)
{
    uint64_t size = v->run->settings.memory;
    int flags =
        MAP_PRIVATE | MAP_ANONYMOUS | (v->run->large_pages ? MAP_HUGETLB | HOST_PAGE_2M : 0);
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, -1, 0);

    if (at == MAP_FAILED)
        return stop_errno(v, "memory for the guest");
    if (!v->run->large_pages && madvise(at, size, MADV_NOHUGEPAGE) != 0)
        return stop_errno(v, "MADV_NOHUGEPAGE");
    if (madvise(at, size, MADV_POPULATE_WRITE) != 0)
        return stop_errno(v, "MADV_POPULATE_WRITE");
    v->ram = guest_ram_layout(at, size);
    if (v->ram.high > 0)
        return stop(v, "more than 3 GiB of memory, which this VMM does not lay out");

    struct kvm_userspace_memory_region region = {
        .slot = 0, .guest_phys_addr = 0, .memory_size = size, .userspace_addr = (uint64_t)at};
    if (ioctl(v->vm, KVM_SET_USER_MEMORY_REGION, &region) != 0)
        return stop_errno(v, "KVM_SET_USER_MEMORY_REGION");
    return true;
}

static void note_features(struct vmm *v, struct kvm_cpuid_entry2 *entry)
{
    if (entry->function == CPUID_1)
        entry->ecx |= CPUID_1_HYPERVISOR;
    if (entry->function == CPUID_EXTENDED_1)
        v->has_1g_pages = (entry->edx & CPUID_EXTENDED_1_1G) != 0;
    if (entry->function == CPUID_EXTENDED_8)
        v->physical_bits = entry->eax & 0xff;
}

/* All that KVM can offer. */
static bool set_cpuid(struct vmm *v)
{
    struct kvm_cpuid2 *list = calloc(1, sizeof(*list) + CPUID_ENTRIES * sizeof(list->entries[0]));

    if (!list)
        return stop_errno(v, "memory");
    list->nent = CPUID_ENTRIES;
    bool good = ioctl(v->kvm, KVM_GET_SUPPORTED_CPUID, list) == 0;
    for (unsigned i = 0; good && i < list->nent; i++)
        note_features(v, &list->entries[i]);
    good = good && ioctl(v->vcpu, KVM_SET_CPUID2, list) == 0;
    free(list);
    return good ? true : stop_errno(v, "CPUID");
}

static struct kvm_segment flat_segment(uint16_t selector, uint8_t type)
{
    bool code = selector == CODE;

    return (struct kvm_segment){.limit = 0xffffffff,
                                .selector = selector,
                                .type = type,
                                .present = 1,
                                .s = 1,
                                .g = 1,
                                .l = code,
                                .db = !code};
}

/* hv/guest_abi.h, entry state */
static bool set_registers(struct vmm *v, const struct entry_state *entry)
{
    struct kvm_sregs s;
    struct kvm_regs r = {
        .rip = entry->rip.v, .rsp = entry->rsp, .rdi = entry->rdi, .rflags = RFLAGS_ENTRY};

    if (entry->mode != ENTRY_LONG)
        return stop(v, "not an ELF64 guest");
    if (ioctl(v->vcpu, KVM_GET_SREGS, &s) != 0)
        return stop_errno(v, "KVM_GET_SREGS");
    s.cs = flat_segment(CODE, 0xb);
    s.ds = s.es = s.fs = s.gs = s.ss = flat_segment(DATA, 0x3);
    s.tr = (struct kvm_segment){
        .base = entry->tss_base, .limit = TSS_LIMIT, .selector = TASK, .type = 0xb, .present = 1};
    s.ldt = (struct kvm_segment){.unusable = 1};
    s.gdt = (struct kvm_dtable){.base = entry->gdt_base, .limit = (uint16_t)entry->gdt_limit};
    s.idt = (struct kvm_dtable){0};
    s.cr0 = CR0_ENTRY;
    s.cr3 = entry->cr3;
    s.cr4 = CR4_ENTRY;
    s.efer = EFER_ENTRY;
    if (ioctl(v->vcpu, KVM_SET_SREGS, &s) != 0)
        return stop_errno(v, "KVM_SET_SREGS");
    if (ioctl(v->vcpu, KVM_SET_REGS, &r) != 0)
        return stop_errno(v, "KVM_SET_REGS");
    return true;
}

static bool make_vcpu(struct vmm *v)
{
    int bytes = ioctl(v->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);

    v->vcpu = ioctl(v->vm, KVM_CREATE_VCPU, 0);
    if (v->vcpu < 0 || bytes < (int)sizeof(*v->shared))
        return stop_errno(v, "KVM_CREATE_VCPU");
    v->shared = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, v->vcpu, 0);
    if (v->shared == MAP_FAILED)
        return stop_errno(v, "the processor's page");
    return set_cpuid(v);
}

static bool load_image(struct vmm *v, const struct module *image)
{
    const struct module_list modules = {image, 1};
    struct entry_state entry;
    int khz = ioctl(v->vcpu, KVM_GET_TSC_KHZ, 0);

    if (!load_guest(&v->run->settings, &modules, khz > 0 ? (uint64_t)khz * 1000 : 0, &v->ram,
                    &entry, &v->why)) {
        v->stopped = true;
        return false;
    }
    return set_registers(v, &entry);
}

static bool make_vm(struct vmm *v)
{
    v->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (v->kvm < 0)
        return stop_errno(v, "/dev/kvm");
    if (ioctl(v->kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
        return stop(v, "/dev/kvm has another version of the interface");
    v->vm = ioctl(v->kvm, KVM_CREATE_VM, 0);
    if (v->vm < 0)
        return stop_errno(v, "KVM_CREATE_VM");
    if (ioctl(v->vm, KVM_SET_TSS_ADDR, TSS_ADDRESS) != 0)
        return stop_errno(v, "KVM_SET_TSS_ADDR");
    return make_ram(v) && make_vcpu(v);
}

static bool make_record(struct vmm *v)
{
    int vm_stats = ioctl(v->vm, KVM_GET_STATS_FD, NULL);
    int vcpu_stats = ioctl(v->vcpu, KVM_GET_STATS_FD, NULL);

    if (vm_stats < 0 || vcpu_stats < 0)
        return stop_errno(v, "KVM_GET_STATS_FD");
    return record_init(&v->record, v->run, &v->ram, vm_stats, vcpu_stats) ||
           stop(v, "KVM's statistics are not as documented");
}

/* --- running it ------------------------------------------------------------------------------- */

static void guest_output(const char *text, size_t bytes)
{
    fwrite(text, 1, bytes, stdout);
}

static bool port_call(struct vmm *v, uint32_t at)
{
    struct kvm_sregs s;

    if (ioctl(v->vcpu, KVM_GET_SREGS, &s) != 0)
        return stop_errno(v, "KVM_GET_SREGS");
    const struct walk_registers registers = {.cr0 = s.cr0,
                                             .cr3 = s.cr3,
                                             .cr4 = s.cr4,
                                             .efer = s.efer,
                                             .physical_bits = v->physical_bits,
                                             .has_1g_pages = v->has_1g_pages};
    record_call(&v->record, gpa(at), &registers);
    return true;
}

static bool handle_io(struct vmm *v)
{
    uint8_t *data = (uint8_t *)v->shared + v->shared->io.data_offset;
    uint16_t port = v->shared->io.port;
    unsigned size = v->shared->io.size;

    for (uint32_t i = 0; i < v->shared->io.count; i++, data += size) {
        uint32_t value = 0;
        if (v->shared->io.direction == KVM_EXIT_IO_IN) {
            value = pio_read(&v->devices, port, size);
            memcpy(data, &value, size);
            continue;
        }
        memcpy(&value, data, size);
        if (port == TF_PORT_CALL && size == sizeof(value)) {
            if (!port_call(v, value))
                return false;
        } else {
            pio_write(&v->devices, port, size, value);
        }
    }
    return v->devices.end == DEVICES_RUNNING;
}

/* False when the guest has ended, or must. */
static bool handle_exit(struct vmm *v)
{
    switch (v->shared->exit_reason) {
    case KVM_EXIT_IO:
        return handle_io(v);
    case KVM_EXIT_MMIO: /* no device has memory: all ones, and writes are forgotten */
        if (!v->shared->mmio.is_write)
            memset(v->shared->mmio.data, 0xff, sizeof(v->shared->mmio.data));
        return true;
    case KVM_EXIT_HLT:
        return stop(v, "HLT with nothing that could wake the processor");
    case KVM_EXIT_SHUTDOWN:
        return stop(v, "triple fault");
    case KVM_EXIT_FAIL_ENTRY:
        return stop(v, "the processor refused the guest's state (0x%llx)",
                    (ull)v->shared->fail_entry.hardware_entry_failure_reason);
    case KVM_EXIT_INTERNAL_ERROR:
        return stop(v, "KVM gave up (internal error %u)", v->shared->internal.suberror);
    default:
        return stop(v, "exit %u to user space, which nothing handles", v->shared->exit_reason);
    }
}

/* The signal ends KVM_RUN; should it come just before, the next one does. */
static void set_time_limit(unsigned seconds)
{
    const struct sigaction action = {.sa_handler = on_alarm};
    const struct itimerval timer = {.it_value = {.tv_sec = seconds}, .it_interval = {.tv_sec = 1}};

    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &timer, NULL);
}

static void run_guest(struct vmm *v)
{
    set_time_limit(v->run->seconds);
    for (;;) {
        bool came_back = ioctl(v->vcpu, KVM_RUN, NULL) == 0;
        if (!came_back && errno != EINTR && errno != EAGAIN) {
            stop_errno(v, "KVM_RUN");
            return;
        }
        if (time_is_up || (came_back && !handle_exit(v)))
            return;
    }
}

static void print_end(const struct vmm *v)
{
    const char *end = "stopped";
    int status = -1;

    if (v->devices.end != DEVICES_RUNNING && !v->stopped) {
        end = v->devices.end == DEVICES_EXITED ? "exit" : "shutdown";
        status = v->devices.status;
    } else if (time_is_up) {
        end = "timeout";
    }
    printf("@vm {\"name\": \"%s\", \"traced\": %s, \"end\": \"%s\", \"status\": %d, \"why\": \"",
           v->run->settings.name, v->run->traced ? "true" : "false", end, status);
    for (const char *c = v->why.text; *c; c++)
        putchar(*c == '"' || *c == '\\' || *c < ' ' ? '\'' : *c);
    printf("\"}\n");
    fflush(stdout);
}

/* Guests poll, and take no interrupts: all that devices need is the time. */
static uint64_t guest_now(void *context)
{
    struct timespec now;

    (void)context;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

static void notify(void *context, unsigned cpu)
{
    (void)context, (void)cpu;
}

static void written(void *context, gpa_t at, uint64_t len)
{
    (void)context, (void)at, (void)len;
}

static const struct devices_host devices_host = {
    .now = guest_now, .notify = notify, .written = written};

bool vmm_run(const struct peer_run *run, const struct module *image)
{
    static struct vmm machine; /* large, and one a process */
    struct vmm *v = &machine;

    v->run = run;
    bool made = make_vm(v) && load_image(v, image) && make_record(v);
    if (made) {
        devices_init(&v->devices, &(struct devices_config){.name = run->settings.name,
                                                           .output = guest_output,
                                                           .cpus = 1,
                                                           .lapic_pages = &v->lapic_page,
                                                           .tsc_hz = NS_PER_SECOND,
                                                           .apic_ratio = 1,
                                                           .physical_bits = v->physical_bits,
                                                           .ram = &v->ram,
                                                           .host = &devices_host});
        run_guest(v);
        devices_flush(&v->devices);
        record_close(&v->record);
    }
    print_end(v);
    return made;
}
