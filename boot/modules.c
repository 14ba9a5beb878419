/* SPDX-License-Identifier: BSD-2-Clause */
/* All files of \twofold\, read into memory as they are, and sorted by name. What they mean is the
 * hypervisor's business. */
#include "boot/boot.h"
#include "boot/hash_list.h"

#define INFO_BYTES  (sizeof(EFI_FILE_INFO) + 2 * 256)
#define MODULES_MAX (PAGE_BYTES * 4 / sizeof(struct handoff_module))

static EFI_STATUS open_folder(EFI_HANDLE image, EFI_FILE_HANDLE *folder)
{
    EFI_LOADED_IMAGE *self;
    EFI_STATUS status =
        uefi_call_wrapper(BS->HandleProtocol, 3, image, &LoadedImageProtocol, (VOID **)&self);

    if (failed(status))
        return FAIL(status, L"the firmware does not say what it booted (%r).", status);
    EFI_FILE_HANDLE root = LibOpenRoot(self->DeviceHandle);
    if (!root)
        return FAIL(EFI_NO_MEDIA, L"the volume that this was booted from has no file system.");
    status = uefi_call_wrapper(root->Open, 5, root, folder, MODULE_FOLDER, EFI_FILE_MODE_READ, 0);
    uefi_call_wrapper(root->Close, 1, root);
    if (failed(status))
        return FAIL(status,
                    L"folder \\twofold is missing on the EFI partition (%r). Write the image anew "
                    L"('make image').",
                    status);
    return EFI_SUCCESS;
}

/* Of those that FAT cannot have in names either: one that a record could not hold as it is. */
static BOOLEAN may_be_in_name(CHAR16 c)
{
    return c >= ' ' && c <= '~' && c != '"' && c != '\\';
}

/* The name in ASCII, which is all that settings can name. */
static BOOLEAN copy_name(char *to, const CHAR16 *from)
{
    UINTN i;

    for (i = 0; from[i]; i++) {
        if (i + 1 >= HANDOFF_NAME_MAX || !may_be_in_name(from[i]))
            return FALSE;
        to[i] = (char)from[i];
    }
    to[i] = '\0';
    return TRUE;
}

/* One file into pages of its own, with a NUL behind the content. */
static EFI_STATUS read_file(EFI_FILE_HANDLE folder, const EFI_FILE_INFO *info,
                            struct handoff_module *module)
{
    EFI_FILE_HANDLE file;
    EFI_STATUS status = uefi_call_wrapper(folder->Open, 5, folder, &file, (CHAR16 *)info->FileName,
                                          EFI_FILE_MODE_READ, 0);

    if (failed(status))
        return FAIL(status, L"\\twofold\\%s cannot be opened (%r).", info->FileName, status);
    module->size = info->FileSize;
    module->base = loader_pages(info->FileSize + 1, PAGE_BYTES);
    if (!module->base) {
        uefi_call_wrapper(file->Close, 1, file);
        return FAIL(EFI_OUT_OF_RESOURCES, L"too little memory for \\twofold\\%s (%ld bytes).",
                    info->FileName, info->FileSize);
    }
    UINTN bytes = info->FileSize;
    status = uefi_call_wrapper(file->Read, 3, file, &bytes, (VOID *)module->base);
    uefi_call_wrapper(file->Close, 1, file);
    if (failed(status) || bytes != info->FileSize)
        return FAIL(EFI_DEVICE_ERROR, L"\\twofold\\%s cannot be read to its end (%r).",
                    info->FileName, status);
    return EFI_SUCCESS;
}

/* GNU-EFI's comparison returns a negative difference as a large UINTN. */
static BOOLEAN is_after(const struct handoff_module *a, const struct handoff_module *b)
{
    return (INTN)strcmpa((const CHAR8 *)a->name, (const CHAR8 *)b->name) > 0;
}

/* Put the last of `count` + 1 modules in its place by name. A folder's order is that in which files
 * were written; what the TPM is given must not depend on it. */
static void sort_in(struct handoff_module *modules, uint64_t count)
{
    struct handoff_module last = modules[count];

    for (; count > 0 && is_after(&modules[count - 1], &last); count--)
        modules[count] = modules[count - 1];
    modules[count] = last;
}

static EFI_STATUS read_files(EFI_FILE_HANDLE folder, struct handoff *handoff)
{
    struct handoff_module *modules = (struct handoff_module *)handoff->modules;
    uint64_t buffer[INFO_BYTES / sizeof(uint64_t) + 1];
    EFI_FILE_INFO *info = (EFI_FILE_INFO *)buffer;

    for (;;) {
        UINTN size = sizeof(buffer);
        EFI_STATUS status = uefi_call_wrapper(folder->Read, 3, folder, &size, info);
        if (failed(status))
            return FAIL(status, L"folder \\twofold cannot be read (%r).", status);
        if (size == 0)
            return EFI_SUCCESS;
        if (info->Attribute & EFI_FILE_DIRECTORY)
            continue;
        if (handoff->module_count == MODULES_MAX)
            return FAIL(EFI_UNSUPPORTED, L"more than %d files in \\twofold.", MODULES_MAX);
        struct handoff_module *module = &modules[handoff->module_count];
        if (!copy_name(module->name, info->FileName))
            return FAIL(EFI_UNSUPPORTED,
                        L"\\twofold\\%s: file names must be ASCII and shorter than %d.",
                        info->FileName, HANDOFF_NAME_MAX);
        if (failed(status = read_file(folder, info, module)))
            return status;
        sort_in(modules, handoff->module_count++);
    }
}

EFI_STATUS load_modules(EFI_HANDLE image, struct handoff *handoff)
{
    EFI_FILE_HANDLE folder;
    EFI_STATUS status = open_folder(image, &folder);

    if (failed(status))
        return status;
    handoff->modules = loader_pages(MODULES_MAX * sizeof(struct handoff_module), PAGE_BYTES);
    status = handoff->modules
                 ? read_files(folder, handoff)
                 : FAIL(EFI_OUT_OF_RESOURCES, L"too little memory for the list of files.");
    uefi_call_wrapper(folder->Close, 1, folder);
    return status;
}

struct handoff_module *find_module(const struct handoff *handoff, const char *name)
{
    struct handoff_module *modules = (struct handoff_module *)handoff->modules;

    for (uint64_t i = 0; i < handoff->module_count; i++) {
        if (same_file_name(modules[i].name, name, strlena((const CHAR8 *)name)))
            return &modules[i];
    }
    return NULL;
}
