/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The firmware's TPM 2.0, by EFI_TCG2_PROTOCOL (TCG EFI Protocol Specification, Family "2.0",
 * revision 00.13, chapter 6), of which GNU-EFI has no declaration. A TPM 1.2 is none, and neither
 * is the measurement register of a confidential VM (EFI_CC_MEASUREMENT_PROTOCOL).
 */
#ifndef BOOT_TPM_H
#define BOOT_TPM_H

#include "boot/boot.h"

/*
 * The register that takes files. The firmware measures the loader itself into PCR 4; 8 to 15 are
 * the operating system's (TCG PC Client Platform Firmware Profile, "PCR Usage"), of which GRUB,
 * too, extends 9 with each file that it reads, as an event of type EV_IPL.
 */
#define TPM_PCR 9u

struct tcg2;

/* NULL: there is none, or the firmware says that it does not work. */
struct tcg2 *tpm_find(void);

/* Extend TPM_PCR with the digest of a module's content in each bank that is active, and log it with
 * the path of the file. */
EFI_STATUS tpm_extend(struct tcg2 *tpm, const struct handoff_module *module);

/* The register's value in the SHA-256 bank. FALSE if that bank is not active, or the TPM fails. */
BOOLEAN tpm_read_pcr(struct tcg2 *tpm, uint8_t value[HANDOFF_HASH_BYTES]);

#endif
