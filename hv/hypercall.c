/* SPDX-License-Identifier: BSD-2-Clause */
/* Hypercalls and marks: the numbers and structures of hv/guest_abi.h, for the real work of others.
 */
#include "hv/arch.h"
#include "hv/guest_abi.h"
#include "hv/guest_paging.h"
#include "hv/vm.h"

static uint64_t call_bench_begin(struct vcpu *vcpu, gva_t name, uint64_t phase)
{
    char copy[TF_BENCH_NAME_MAX];

    /* The name may lie at the end of a page: read byte by byte, up to its NUL. */
    for (unsigned i = 0; i < sizeof(copy); i++) {
        if (!arch_guest_read(vcpu, gva_add(name, i), &copy[i], 1))
            return TF_E_FAULT;
        if (copy[i] == '\0')
            return bench_begin(vcpu, copy, phase > TF_PHASE_STEADY ? ~0u : (enum tf_phase)phase);
    }
    return TF_E_VALUE;
}

static uint64_t call_bench_end(struct vcpu *vcpu, gva_t at)
{
    struct tf_bench_result result;

    if (!arch_guest_read(vcpu, at, &result, sizeof(result)))
        return TF_E_FAULT;
    return bench_end(vcpu, &result);
}

void hypercall(struct vcpu *vcpu)
{
    uint64_t *gpr = vcpu->gpr;

    while (FAULTS_BUILT && vcpu->vm->settings->fault.stuck)
        processor_relax();
    switch (gpr[CALL_NUMBER]) {
    case TF_CALL_NULL:
        gpr[CALL_RESULT] = 0;
        break;
    case TF_CALL_BENCH_BEGIN:
        gpr[CALL_RESULT] = call_bench_begin(vcpu, gva(gpr[CALL_ARG0]), gpr[CALL_ARG1]);
        break;
    case TF_CALL_BENCH_END:
        gpr[CALL_RESULT] = call_bench_end(vcpu, gva(gpr[CALL_ARG0]));
        break;
    case TF_CALL_AUDIT:
        gpr[CALL_RESULT] = bench_audit(vcpu, gva(gpr[CALL_ARG0]), gpr[CALL_ARG1], gpr[CALL_ARG2]);
        break;
    case TF_CALL_BENCH_WATCH:
        gpr[CALL_RESULT] = bench_watch(vcpu, gva(gpr[CALL_ARG0]), gpr[CALL_ARG1], gpr[CALL_ARG2]);
        break;
    case TF_CALL_STATS:
        guest_paging_print(vcpu->vm);
        gpr[CALL_RESULT] = 0;
        break;
    default:
        gpr[CALL_RESULT] = TF_E_CALL;
        break;
    }
}

void mark_write(struct vcpu *vcpu, unsigned bytes, uint32_t value)
{
    struct mark *mark = &vcpu->vm->mark;

    if (bytes == sizeof(value)) {
        (void)bench_mark_end(vcpu, value);
    } else if (bytes == 1 && value != 0) {
        if (mark->length < sizeof(mark->name)) /* a full one is no name */
            mark->name[mark->length++] = (char)value;
    } else if (bytes == 1) {
        if (mark->length < sizeof(mark->name)) {
            mark->name[mark->length] = '\0';
            (void)bench_mark_begin(vcpu, mark->name);
        }
        mark->length = 0;
    }
}
