/* SPDX-License-Identifier: BSD-2-Clause */
/* See boot.h: from the firmware's call to the jump into the hypervisor (boot/handoff.h). */
#include "arch/x86_64/cpu.h"
#include "boot/boot.h"
#include "hv/settings.h"

#define STACK_BYTES (16 * 1024ull)

uint64_t loader_pages(uint64_t bytes, uint64_t align)
{
    uint64_t pages = (bytes + PAGE_BYTES - 1) / PAGE_BYTES;
    uint64_t extra = align > PAGE_BYTES ? align / PAGE_BYTES : 0;
    EFI_PHYSICAL_ADDRESS at = 0;

    /* The firmware aligns to pages only: take more, and give back what lies around. */
    EFI_STATUS status = uefi_call_wrapper(BS->AllocatePages, 4, AllocateAnyPages, EfiLoaderData,
                                          pages + extra, &at);
    if (failed(status))
        return 0;
    uint64_t aligned = (at + align - 1) & ~(align - 1);
    uint64_t before = (aligned - at) / PAGE_BYTES;
    if (before > 0)
        uefi_call_wrapper(BS->FreePages, 2, at, before);
    if (extra > before)
        uefi_call_wrapper(BS->FreePages, 2, aligned + pages * PAGE_BYTES, extra - before);
    ZeroMem((VOID *)aligned, pages * PAGE_BYTES);
    return aligned;
}

static void find_framebuffer(struct handoff_framebuffer *fb)
{
    EFI_GUID guid = EFI_GRAPHICS_OUTPUT_PROTOCOL_GUID;
    EFI_GRAPHICS_OUTPUT_PROTOCOL *gop = NULL;

    fb->format = HANDOFF_PIXEL_NONE;
    if (failed(uefi_call_wrapper(BS->LocateProtocol, 3, &guid, NULL, (VOID **)&gop)))
        return;
    EFI_GRAPHICS_OUTPUT_MODE_INFORMATION *info = gop->Mode->Info;
    if (info->PixelFormat == PixelRedGreenBlueReserved8BitPerColor)
        fb->format = HANDOFF_PIXEL_RGBX;
    else if (info->PixelFormat == PixelBlueGreenRedReserved8BitPerColor)
        fb->format = HANDOFF_PIXEL_BGRX;
    else
        return; /* bit masks or no linear framebuffer: the UART has to do */
    fb->base = gop->Mode->FrameBufferBase;
    fb->size = gop->Mode->FrameBufferSize;
    fb->width = info->HorizontalResolution;
    fb->height = info->VerticalResolution;
    fb->stride = info->PixelsPerScanLine;
}

/* ACPI 2.0's table if there is one, else 1.0's. */
static uint64_t find_rsdp(EFI_SYSTEM_TABLE *system_table)
{
    EFI_GUID acpi2 = ACPI_20_TABLE_GUID;
    EFI_GUID acpi1 = ACPI_TABLE_GUID;
    uint64_t found = 0;

    for (UINTN i = 0; i < system_table->NumberOfTableEntries; i++) {
        EFI_CONFIGURATION_TABLE *t = &system_table->ConfigurationTable[i];
        if (CompareGuid(&t->VendorGuid, &acpi2) == 0)
            return (uint64_t)t->VendorTable;
        if (CompareGuid(&t->VendorGuid, &acpi1) == 0)
            found = (uint64_t)t->VendorTable;
    }
    return found;
}

#define SECONDS_PER_DAY   86400u
#define MINUTES_UNKNOWN   2047 /* EFI_UNSPECIFIED_TIMEZONE, UEFI 8.3: then UTC is as good as any */
#define DAYS_0000_TO_1970 719468

/* Days since 1970 of a date in the Gregorian calendar, whose years begin with March here so that
 * the leap day is a year's last. */
static int64_t days_since_1970(int64_t year, int64_t month, int64_t day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t since_march = (month + 9) % 12;

    return 365 * y + y / 4 - y / 100 + y / 400 + (153 * since_march + 2) / 5 + day - 1 -
           DAYS_0000_TO_1970;
}

static void read_clock(struct handoff *handoff, EFI_SYSTEM_TABLE *system_table)
{
    EFI_TIME t;

    handoff->wall_tsc = rdtsc();
    if (failed(uefi_call_wrapper(system_table->RuntimeServices->GetTime, 2, &t, NULL)))
        return;
    int64_t minutes = t.Hour * 60 + t.Minute;
    if (t.TimeZone != MINUTES_UNKNOWN)
        minutes += t.TimeZone;
    handoff->wall_seconds = (uint64_t)(days_since_1970(t.Year, t.Month, t.Day) * SECONDS_PER_DAY +
                                       minutes * 60 + t.Second);
}

__attribute__((noreturn)) static void jump(const struct handoff *handoff, uint64_t entry,
                                           uint64_t cr3, uint64_t stack_top)
{
    __asm__ volatile("cli\n\t"
                     "mov %[cr3], %%cr3\n\t"
                     "mov %[stack], %%rsp\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "push $0\n\t"
                     "jmp *%[entry]"
                     :
                     : [cr3] "r"(cr3), [stack] "r"(stack_top), [entry] "r"(entry), "D"(handoff)
                     : "memory");
    __builtin_unreachable();
}

EFI_STATUS efi_main(EFI_HANDLE image_handle, EFI_SYSTEM_TABLE *system_table);

EFI_STATUS efi_main(EFI_HANDLE image_handle, EFI_SYSTEM_TABLE *system_table)
{
    struct loaded_image image;
    uint64_t ram_end, cr3;
    const struct settings *settings;
    EFI_STATUS status;

    InitializeLib(image_handle, system_table);
    uefi_call_wrapper(BS->SetWatchdogTimer, 4, 0, 0, 0, NULL);

    struct handoff *handoff = (struct handoff *)loader_pages(sizeof(*handoff), PAGE_BYTES);
    uint64_t stack = loader_pages(STACK_BYTES, PAGE_BYTES);
    if (!handoff || !stack)
        return FAIL(EFI_OUT_OF_RESOURCES, L"too little memory to start; give the machine more.");
    *handoff = (struct handoff){
        .magic = HANDOFF_MAGIC, .version = HANDOFF_VERSION, .size = sizeof(*handoff)};

    if (failed(status = load_modules(image_handle, handoff)) ||
        failed(status = verify_modules(image_handle, handoff)))
        return status;
    measure_settings(handoff);
    if (failed(status = check_settings(handoff, &settings)) ||
        failed(status = check_machine(settings->self_test == SELF_TEST_NONE)) ||
        failed(status = measure_modules(handoff, settings)))
        return status;
    handoff->seed = settings->kaslr ? loader_random() : 0;
    if (failed(status = load_image(handoff, &image)) || failed(status = find_ram_end(&ram_end)) ||
        failed(status = build_tables(handoff, &image, ram_end, &cr3)))
        return status;

    handoff->rsdp = find_rsdp(system_table);
    find_framebuffer(&handoff->framebuffer);
    read_clock(handoff, system_table);
    Print(L"Twofold: %ld files loaded, starting the hypervisor.\r\n", handoff->module_count);
    if (failed(status = leave_boot_services(image_handle, handoff)))
        return status;
    jump(handoff, image.entry, cr3, stack + STACK_BYTES);
}
