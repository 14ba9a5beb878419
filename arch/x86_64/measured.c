/* SPDX-License-Identifier: BSD-2-Clause */
/* See measured.h. A machine without a serial port shows lines only, so each record has one beside
 * it. */
#include "arch/x86_64/measured.h"

#include <stdbool.h>
#include <stdio.h>

#include "hv/arch.h"
#include "hv/console.h"
#include "hv/memory.h"

#define HEX_BYTES (2 * HANDOFF_HASH_BYTES + 1)

static const char *hex(const uint8_t digest[HANDOFF_HASH_BYTES], char text[HEX_BYTES])
{
    for (unsigned i = 0; i < HANDOFF_HASH_BYTES; i++)
        snprintf(&text[2 * i], HEX_BYTES - 2 * i, "%02x", digest[i]);
    return text;
}

static const char *boolean(bool value)
{
    return value ? "true" : "false";
}

static void print_module(const struct handoff_module *module)
{
    char text[HEX_BYTES];

    hex(module->sha256, text);
    log_line("sha256: %s %s", text, module->name);
    console_printf("@hash {\"file\": \"%s\", \"bytes\": %llu, \"sha256\": \"%s\", \"listed\": %s, "
                   "\"extended\": %s}\n",
                   module->name, (unsigned long long)module->size, text,
                   boolean(module->measured & HANDOFF_LISTED),
                   boolean(module->measured & HANDOFF_EXTENDED));
}

static void print_measurement(const struct handoff_measurement *m)
{
    static const struct {
        const char *name, *words;
    } states[] = {
        [HANDOFF_TPM_NONE] = {"none", "the firmware offers no TPM 2.0"},
        [HANDOFF_TPM_EXTENDED] = {"extended", "the TPM has all files"},
        [HANDOFF_TPM_FAILED] = {"failed", "the TPM failed"},
        [HANDOFF_TPM_OFF] = {"off", "the TPM has the settings alone, which want no more"},
    };
    char pcr[HEX_BYTES + 2] = "null", text[HEX_BYTES] = "of unknown value";
    unsigned state = m->tpm <= HANDOFF_TPM_OFF ? m->tpm : HANDOFF_TPM_FAILED;

    if (m->pcr_known)
        snprintf(pcr, sizeof(pcr), "\"%s\"", hex(m->pcr_sha256, text));
    if (state == HANDOFF_TPM_NONE)
        log_line("measured: %s", states[state].words);
    else
        log_line("measured: %s; PCR %u is %s", states[state].words, m->pcr, text);
    console_printf(
        "@measured {\"tpm\": \"%s\", \"pcr\": %u, \"sha256\": %s, \"secure_boot\": %s}\n",
        states[state].name, m->pcr, pcr, boolean(m->secure_boot));
}

void measured_print(const struct handoff *handoff)
{
    const struct handoff_module *module = host_ptr(hpa(handoff->modules));

    for (uint64_t i = 0; i < handoff->module_count; i++) {
        if (module[i].measured & HANDOFF_HASHED)
            print_module(&module[i]);
    }
    print_measurement(&handoff->measurement);
}
