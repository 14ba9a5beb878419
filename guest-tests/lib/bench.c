/* SPDX-License-Identifier: BSD-2-Clause */
/* Benchmark records: measured here, counted by Twofold if it is there. */
#include "guest-tests/lib/lib.h"

#define CPUID1_ECX_HYPERVISOR (1u << 31)
#define KVM_SIGNATURE         "KVMKVMKVM\0\0" /* at the leaf where Twofold has its own */

static const char *bench_name;
static enum tf_phase bench_phase;
static uint64_t start_ticks;

/* Asked once: CPUID exits, which would be counted. */
static bool under_monitor(void)
{
    static int known = -1;

    if (known < 0)
        known = (cpuid(1, 0).ecx & CPUID1_ECX_HYPERVISOR) != 0;
    return known == 1;
}

bool on_kvm(void)
{
    struct cpuid_result r = cpuid(TF_CPUID_SIGNATURE, 0);
    uint32_t words[3] = {r.ebx, r.ecx, r.edx};

    return under_monitor() && memcmp(words, KVM_SIGNATURE, sizeof(words)) == 0;
}

bool on_twofold(void)
{
    static int known = -1;

    if (is_native())
        return true;
    if (known < 0) {
        struct cpuid_result r = cpuid(TF_CPUID_SIGNATURE, 0);
        uint32_t words[3] = {r.ebx, r.ecx, r.edx};
        known = (cpuid(1, 0).ecx & CPUID1_ECX_HYPERVISOR) &&
                memcmp(words, TF_SIGNATURE, sizeof(words)) == 0;
    }
    return known == 1;
}

/* A call about the record: of Twofold, or of another monitor, which may not know it. */
static uint64_t call(enum tf_call number, uint64_t a, uint64_t b, uint64_t c)
{
    volatile struct tf_port_call by_port = {number, {a, b, c}, 0};

    if (on_twofold())
        return hypercall(number, a, b, c);
    if (under_monitor())
        outl(TF_PORT_CALL, (uint32_t)(uint64_t)&by_port);
    return by_port.result;
}

static void must_be_0(uint64_t result, const char *what)
{
    if (result != 0)
        fail("hypercall %s gave 0x%x\n", what, result);
}

void bench_begin(const char *name, enum tf_phase phase)
{
    bench_name = name;
    bench_phase = phase;
    must_be_0(call(TF_CALL_BENCH_BEGIN, (uint64_t)name, phase, 0), "BENCH_BEGIN");
    start_ticks = rdtsc();
}

void bench_end_ticks(uint64_t ops, uint64_t ticks, uint64_t touches)
{
    struct tf_bench_result result = {.ticks = ticks, .ops = ops, .ok = 1, .touches = touches};

    must_be_0(call(TF_CALL_BENCH_END, (uint64_t)&result, 0, 0), "BENCH_END");
    print("result bench=%s phase=%s ops=%u ticks=%u ok=1\n", bench_name,
          bench_phase == TF_PHASE_STEADY ? "steady" : "warmup", result.ops, result.ticks);
}

void bench_end_touches(uint64_t ops, uint64_t touches)
{
    bench_end_ticks(ops, rdtsc() - start_ticks, touches);
}

void bench_end(uint64_t ops)
{
    bench_end_touches(ops, ops);
}

void bench_watch(uint64_t at, uint64_t bytes, uint64_t step)
{
    if (on_twofold())
        must_be_0(hypercall(TF_CALL_BENCH_WATCH, at, bytes, step), "BENCH_WATCH");
}

/* In pieces: one call is for so many addresses only. */
void bench_audit(uint64_t at, uint64_t bytes, uint64_t step)
{
    uint64_t piece = (TF_AUDIT_MAX - 1) * step;

    for (uint64_t done = 0; done < bytes; done += piece) {
        uint64_t left = bytes - done;
        must_be_0(call(TF_CALL_AUDIT, at + done, left < piece ? left : piece, step), "AUDIT");
    }
}
