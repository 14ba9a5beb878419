/* SPDX-License-Identifier: BSD-2-Clause */
/* See tpm.h. "EFI protocol" below is the specification named there; "TPM 2.0" the TPM 2.0 Library,
 * whose structures are big-endian. */
#include "boot/tpm.h"

#define EV_IPL        13u /* PC Client Platform Firmware Profile, "Event Types": by a boot loader */
#define EVENT_VERSION 1u  /* EFI protocol 6.6.3 */
#define EVENT_PATH    "\\twofold\\"

/* EFI protocol 6.4.4 */
struct tcg2_capability {
    UINT8 size;
    UINT8 structure_version[2];
    UINT8 protocol_version[2];
    UINT32 hash_algorithms;
    UINT32 log_formats;
    BOOLEAN tpm_present;
    UINT16 command_bytes_max;
    UINT16 response_bytes_max;
    UINT32 manufacturer;
    UINT32 bank_count;
    UINT32 active_banks;
};
_Static_assert(sizeof(struct tcg2_capability) == 36, "the firmware's layout");

/* EFI protocol 6.6.3, with room for the longest path. */
struct tcg2_event {
    UINT32 size; /* of this structure, with as much of `text` as is used */
    UINT32 header_size;
    UINT16 header_version;
    UINT32 pcr;
    UINT32 type;
    char text[sizeof(EVENT_PATH) + HANDOFF_NAME_MAX];
} __attribute__((packed));
#define EVENT_HEADER_BYTES 14u
#define EVENT_TEXT_OFFSET  (sizeof(UINT32) + EVENT_HEADER_BYTES)
_Static_assert(__builtin_offsetof(struct tcg2_event, text) == EVENT_TEXT_OFFSET, "its layout");

/* EFI protocol 6.3. Those that are not called have no type here. */
struct tcg2 {
    EFI_STATUS(EFIAPI *get_capability)(struct tcg2 *self, struct tcg2_capability *capability);
    VOID *get_event_log;
    EFI_STATUS(EFIAPI *hash_log_extend_event)
    (struct tcg2 *self, UINT64 flags, EFI_PHYSICAL_ADDRESS data, UINT64 bytes,
     struct tcg2_event *event);
    EFI_STATUS(EFIAPI *submit_command)
    (struct tcg2 *self, UINT32 in_bytes, const UINT8 *in, UINT32 out_bytes, UINT8 *out);
};

struct tcg2 *tpm_find(void)
{
    EFI_GUID guid = {0x607f766c, 0x7455, 0x42be, {0x93, 0x0b, 0xe4, 0xd7, 0x6d, 0xb2, 0x72, 0x0f}};
    struct tcg2_capability capability = {.size = sizeof(capability)};
    struct tcg2 *tpm = NULL;

    if (failed(uefi_call_wrapper(BS->LocateProtocol, 3, &guid, NULL, (VOID **)&tpm)) ||
        failed(uefi_call_wrapper(tpm->get_capability, 2, tpm, &capability)) ||
        !capability.tpm_present)
        return NULL;
    return tpm;
}

EFI_STATUS tpm_extend(struct tcg2 *tpm, const struct handoff_module *module)
{
    struct tcg2_event event = {.header_size = EVENT_HEADER_BYTES,
                               .header_version = EVENT_VERSION,
                               .pcr = TPM_PCR,
                               .type = EV_IPL,
                               .text = EVENT_PATH};
    UINTN path = sizeof(EVENT_PATH) - 1;
    UINTN name = strlena((const CHAR8 *)module->name);

    CopyMem(&event.text[path], (VOID *)module->name, name);
    event.size = (UINT32)(EVENT_TEXT_OFFSET + path + name + 1);
    return uefi_call_wrapper(tpm->hash_log_extend_event, 5, tpm, 0, module->base, module->size,
                             &event);
}

/* --- reading a register: TPM2_PCR_Read (TPM 2.0 part 3, 22.4)
 * ------------------------------------- */

#define BE16(x) __builtin_bswap16(x)
#define BE32(x) __builtin_bswap32(x)

#define TPM_ST_NO_SESSIONS 0x8001u
#define TPM_CC_PCR_READ    0x17eu
#define TPM_ALG_SHA256     0x000bu
#define PCR_SELECT_BYTES   3u /* of 24 registers, a bit each */

/* TPML_PCR_SELECTION with one element, part 2, 10.9.7 */
struct pcr_selection {
    UINT32 count;
    UINT16 algorithm;
    UINT8 select_bytes;
    UINT8 select[PCR_SELECT_BYTES];
} __attribute__((packed));

struct pcr_read {
    UINT16 tag;
    UINT32 bytes;
    UINT32 command;
    struct pcr_selection selection;
} __attribute__((packed));

struct pcr_read_answer {
    UINT16 tag;
    UINT32 bytes;
    UINT32 code;
    UINT32 update_counter;
    struct pcr_selection selection; /* what was read of what was asked for */
    UINT32 digest_count;
    UINT16 digest_bytes;
    UINT8 digest[HANDOFF_HASH_BYTES];
} __attribute__((packed));
_Static_assert(sizeof(struct pcr_read) == 20 && sizeof(struct pcr_read_answer) == 62,
               "the TPM's layout");

BOOLEAN tpm_read_pcr(struct tcg2 *tpm, uint8_t value[HANDOFF_HASH_BYTES])
{
    struct pcr_read command = {
        .tag = BE16(TPM_ST_NO_SESSIONS),
        .bytes = BE32(sizeof(command)),
        .command = BE32(TPM_CC_PCR_READ),
        .selection = {.count = BE32(1),
                      .algorithm = BE16(TPM_ALG_SHA256),
                      .select_bytes = PCR_SELECT_BYTES},
    };
    struct pcr_read_answer answer = {0};

    command.selection.select[TPM_PCR / 8] = 1u << TPM_PCR % 8;
    if (failed(uefi_call_wrapper(tpm->submit_command, 5, tpm, sizeof(command), (UINT8 *)&command,
                                 sizeof(answer), (UINT8 *)&answer)) ||
        answer.code != 0 || answer.selection.count != BE32(1) ||
        answer.selection.select_bytes != PCR_SELECT_BYTES || answer.digest_count != BE32(1) ||
        answer.digest_bytes != BE16(HANDOFF_HASH_BYTES))
        return FALSE;
    CopyMem(value, answer.digest, HANDOFF_HASH_BYTES);
    return TRUE;
}
