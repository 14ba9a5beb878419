/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The settings are checked here, while a mistake can still be told on the firmware's console and
 * the machine goes back to it. The parser is the hypervisor's own file, compiled a second time.
 */
#include "hv/settings.h"
#include "boot/boot.h"

EFI_STATUS check_settings(const struct handoff *handoff, struct loader_settings *chosen)
{
    const struct handoff_module *list = (const struct handoff_module *)handoff->modules;
    const struct handoff_module *file = find_module(handoff, SETTINGS_FILE);

    if (!file)
        return FAIL(EFI_NOT_FOUND,
                    L"\\twofold\\" SETTINGS_FILE " is missing on the EFI partition. It says "
                    L"which guests to run; README.md has an example.");

    struct module *modules =
        (struct module *)loader_pages(handoff->module_count * sizeof(*modules), PAGE_BYTES);
    struct settings *settings = (struct settings *)loader_pages(sizeof(*settings), PAGE_BYTES);
    if (!modules || !settings)
        return FAIL(EFI_OUT_OF_RESOURCES, L"too little memory to check the settings.");
    for (uint64_t i = 0; i < handoff->module_count; i++)
        modules[i] = (struct module){list[i].name, (const void *)list[i].base, list[i].size};

    struct module_list module_list = {modules, handoff->module_count};
    struct why why;
    if (!settings_parse((const char *)file->base, file->size, &module_list, settings, &why))
        return FAIL(EFI_INVALID_PARAMETER, L"%a", why.text);
    chosen->needs_vmx = !self_test_needs_no_vmx(settings->self_test);
    chosen->random_addresses = settings->kaslr;
    return EFI_SUCCESS;
}
