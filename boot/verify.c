/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Secure Boot verifies the loader, and the loader the files: a section of its own image, which the
 * signature covers, lists them with their SHA-256 (docs/secure-boot.md).
 */
#include "boot/boot.h"
#include "boot/hash_list.h"

#define LIST_SECTION ".hashes" /* with its NUL all 8 bytes of a section's name */

/* The parts that are read of a PE32+ image's headers: Microsoft's "PE Format". */
#define DOS_E_LFANEW       0x3c
#define PE_SIGNATURE       0x00004550u /* "PE", two zeros */
#define FILE_HEADER_BYTES  24u         /* the signature with it */
#define SECTION_NAME_BYTES 8

struct pe_file_header {
    UINT32 signature;
    UINT16 machine;
    UINT16 section_count;
    UINT32 unused[3];
    UINT16 optional_header_bytes;
    UINT16 characteristics;
};
_Static_assert(sizeof(struct pe_file_header) == FILE_HEADER_BYTES, "the format's layout");

struct pe_section {
    char name[SECTION_NAME_BYTES];
    UINT32 virtual_bytes;
    UINT32 virtual_address; /* from the image's base */
    UINT32 unused[6];
};
_Static_assert(sizeof(struct pe_section) == 40, "the format's layout");

/* A section of the image as the firmware has loaded, and with Secure Boot verified it; NULL: it has
 * none. */
static const char *find_section(const EFI_LOADED_IMAGE *self, const char *name, UINT64 *bytes)
{
    const char *base = self->ImageBase;
    const struct pe_file_header *header =
        (const void *)(base + *(const UINT32 *)(base + DOS_E_LFANEW));
    const struct pe_section *section =
        (const void *)((const char *)(header + 1) + header->optional_header_bytes);

    if (header->signature != PE_SIGNATURE)
        return NULL;
    for (UINTN i = 0; i < header->section_count; i++) {
        if (CompareMem(section[i].name, name, SECTION_NAME_BYTES) != 0)
            continue;
        *bytes = section[i].virtual_bytes;
        return base + section[i].virtual_address;
    }
    return NULL;
}

/* UEFI 2.10, 3.3: SecureBoot is 1 while images are verified. */
static BOOLEAN secure_boot_is_on(void)
{
    EFI_GUID guid = EFI_GLOBAL_VARIABLE;
    UINT8 on = 0;
    UINTN bytes = sizeof(on);

    return !failed(
               uefi_call_wrapper(RT->GetVariable, 5, L"SecureBoot", &guid, NULL, &bytes, &on)) &&
           on == 1;
}

EFI_STATUS verify_modules(EFI_HANDLE image, struct handoff *handoff)
{
    struct handoff_module *modules = (struct handoff_module *)handoff->modules;
    EFI_LOADED_IMAGE *self;
    UINT64 bytes = 0;
    EFI_STATUS status =
        uefi_call_wrapper(BS->HandleProtocol, 3, image, &LoadedImageProtocol, (VOID **)&self);

    if (failed(status))
        return FAIL(status, L"the firmware does not say what it booted (%r).", status);
    const char *list = find_section(self, LIST_SECTION, &bytes);
    handoff->measurement.secure_boot = secure_boot_is_on();
    if (!list && handoff->measurement.secure_boot)
        return FAIL(EFI_SECURITY_VIOLATION,
                    L"Secure Boot is on, and this loader has no list of the files that it may "
                    L"start. 'make image SIGN_KEY=... SIGN_CERT=...' makes one that has.");
    for (uint64_t i = 0; list && i < handoff->module_count; i++) {
        hash_module(&modules[i]);
        if (!hash_list_has(list, bytes, modules[i].name, modules[i].sha256))
            return FAIL(
                EFI_SECURITY_VIOLATION,
                L"\\twofold\\%a is not in the list of the signed loader, or not as the list "
                L"has it. Write the image anew.",
                modules[i].name);
        modules[i].measured |= HANDOFF_LISTED;
    }
    return EFI_SUCCESS;
}
