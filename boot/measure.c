/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What is measured, and in which order. Settings come first, then all files by name, so that the
 * register's value follows from the files alone. A file is read once: what is hashed is what is
 * then used.
 */
#include "boot/boot.h"
#include "boot/sha256.h"
#include "boot/tpm.h"
#include "hv/settings.h"

static struct tcg2 *tpm;

static struct handoff_module *modules_of(const struct handoff *handoff)
{
    return (struct handoff_module *)handoff->modules;
}

void hash_module(struct handoff_module *module)
{
    if (module->measured & HANDOFF_HASHED)
        return;
    sha256((const void *)module->base, module->size, module->sha256);
    module->measured |= HANDOFF_HASHED;
}

/* After a failure nothing more is given: a register that misses one file in between says nothing.
 */
static void measure(struct handoff *handoff, struct handoff_module *module)
{
    hash_module(module);
    if (handoff->measurement.tpm != HANDOFF_TPM_EXTENDED || module->measured & HANDOFF_EXTENDED)
        return;
    EFI_STATUS status = tpm_extend(tpm, module);
    if (failed(status)) {
        Print(L"Twofold: the TPM did not take \\twofold\\%a (%r).\r\n", module->name, status);
        handoff->measurement.tpm = HANDOFF_TPM_FAILED;
        return;
    }
    module->measured |= HANDOFF_EXTENDED;
}

void measure_settings(struct handoff *handoff)
{
    struct handoff_module *file = find_module(handoff, SETTINGS_FILE);

    tpm = tpm_find();
    handoff->measurement.tpm = tpm ? HANDOFF_TPM_EXTENDED : HANDOFF_TPM_NONE;
    handoff->measurement.pcr = TPM_PCR;
    if (file)
        measure(handoff, file);
}

EFI_STATUS measure_modules(struct handoff *handoff, const struct settings *settings)
{
    struct handoff_measurement *m = &handoff->measurement;

    if (settings->measure != MEASURE_OFF) {
        for (uint64_t i = 0; i < handoff->module_count; i++)
            measure(handoff, &modules_of(handoff)[i]);
    }
    if (m->tpm == HANDOFF_TPM_EXTENDED)
        m->pcr_known = tpm_read_pcr(tpm, m->pcr_sha256);
    if (settings->measure == MEASURE_OFF && m->tpm == HANDOFF_TPM_EXTENDED)
        m->tpm = HANDOFF_TPM_OFF;
    if (settings->measure != MEASURE_REQUIRED || m->tpm == HANDOFF_TPM_EXTENDED)
        return EFI_SUCCESS;
    if (m->tpm == HANDOFF_TPM_FAILED)
        return FAIL(EFI_DEVICE_ERROR, L"the settings have measure = required, and the TPM failed.");
    return FAIL(EFI_UNSUPPORTED, L"the settings have measure = required, and the firmware offers "
                                 L"no TPM 2.0. Enable it in the firmware's setup.");
}
