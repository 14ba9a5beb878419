/* SPDX-License-Identifier: BSD-2-Clause */
/* The settings file: what is accepted, and a message with a line for every kind of mistake. */
#include "hv/settings.h"

#include <stdlib.h>
#include <string.h>

#include "tests/host/test.h"

static const struct module files[] = {
    {"touch.elf", "", 0}, {"initrd.img", "", 0}, {"Kernel", "", 0}};
static const struct module_list modules = {files, ARRAY_SIZE(files)};
static struct settings settings;
static struct why why;

static bool parse(const char *text)
{
    memset(&settings, 0xa5, sizeof(settings));
    return settings_parse(text, strlen(text), &modules, &settings, &why);
}

static void a_full_file_is_read(void)
{
    bool good =
        parse("\xef\xbb\xbf; comment\r\n"
              "[twofold]\r\n  at_end = bochs  \r\nwithout = vpid, 1g_pages preemption_timer\r\n\r\n"
              "# another\n[first.vm-1_x]\nimage=touch.elf\nargs = pages=3 x=y\nmemory\t=\t128M\n"
              "paging = nested\nept_page = 2m\ncpus = 1\ntime_limit = 1500ms\n"
              "module = initrd.img one two\nmodule = KERNEL\n[b]\nimage = kernel");

    CHECK(good, "%s", why.text);
    CHECK(settings.at_end == AT_END_BOCHS, "at_end %d", settings.at_end);
    CHECK(settings.without ==
              (1u << FEATURE_VPID | 1u << FEATURE_1G_PAGES | 1u << FEATURE_PREEMPTION_TIMER),
          "without %llx", (unsigned long long)settings.without);
    CHECK(settings.vm_count == 2, "%u VMs", settings.vm_count);
    const struct vm_settings *vm = &settings.vm[0];
    CHECK(strcmp(vm->name, "first.vm-1_x") == 0 && vm->line == 7, "%s in line %u", vm->name,
          vm->line);
    CHECK(strcmp(vm->args, "pages=3 x=y") == 0, "args %s", vm->args);
    CHECK(vm->memory == MIB(128) && vm->ept_page == PAGE_SIZE_2M && vm->time_limit_ms == 1500,
          "numbers");
    CHECK(vm->module_count == 2 && strcmp(vm->module[0].args, "one two") == 0 &&
              strcmp(vm->module[1].name, "KERNEL") == 0 && vm->module[1].args[0] == '\0',
          "modules");
}

static void processors_disks_and_order_are_read(void)
{
    CHECK(parse("[a]\nimage = touch.elf\ncpus = 64\npin = 3 0\t 11\ndisk = initrd.img\n"
                "disk = KERNEL  ro\non_reset = restart\nkeys = virtio\n"
                "[twofold]\nrun = together\nprocessors = 12\nmitigations = all\ndma_protection = "
                "off\nkaslr = off\n"
                "[b]\nimage = kernel\non_reset = end\npin = 1\n"),
          "%s", why.text);
    CHECK(settings.run == RUN_TOGETHER && settings.processors == 12 &&
              settings.mitigations == MITIGATIONS_ALL && !settings.dma_protection &&
              !settings.kaslr,
          "global");
    const struct vm_settings *vm = &settings.vm[0];
    CHECK(vm->cpus == 64 && vm->on_reset == ON_RESET_RESTART && vm->keys == KEYS_VIRTIO, "cpus %u",
          vm->cpus);
    CHECK(vm->disk_count == 2 && strcmp(vm->disk[0].name, "initrd.img") == 0 &&
              !vm->disk[0].read_only && strcmp(vm->disk[1].name, "KERNEL") == 0 &&
              vm->disk[1].read_only,
          "disks");
    CHECK(vm->pin_count == 3 && vm_pinned_to(vm, 0) == 3 && vm_pinned_to(vm, 1) == 0 &&
              vm_pinned_to(vm, 2) == 11 && vm_pinned_to(vm, 3) == 3 && vm_pinned_to(vm, 63) == 3,
          "pins go round");
    CHECK(settings.vm[1].on_reset == ON_RESET_END && vm_pinned_to(&settings.vm[1], 7) == 1, "b");
    CHECK(parse("[twofold]\nrun = in_turn\n[a]\nimage = touch.elf\npaging = native\ncpus = 1\n"),
          "%s", why.text);
    CHECK(parse("[twofold]\nmeasure = off\n[a]\nimage = kernel\n") &&
              settings.measure == MEASURE_OFF,
          "measure");
    CHECK(parse("[twofold]\nmeasure = required\n[a]\nimage = kernel\n") &&
              settings.measure == MEASURE_REQUIRED,
          "measure");
    CHECK(parse("[twofold]\nside_by_side = 2\nrun = together\nrepeat = 0\nwatchdog = 3600s\n"
                "[a]\nimage = touch.elf\n") &&
              settings.side_by_side == 2 && settings.repeat == 0 && settings.watchdog_s == 3600,
          "%s", why.text);
}

static void defaults_are_as_documented(void)
{
    CHECK(parse("[a]\nimage = touch.elf\n"), "%s", why.text);
    const struct vm_settings *vm = &settings.vm[0];
    CHECK(settings.at_end == AT_END_STAY && settings.without == 0 && settings.run == RUN_IN_TURN &&
              settings.processors == 0 && settings.measure == MEASURE_AUTO &&
              settings.mitigations == MITIGATIONS_AUTO && settings.dma_protection &&
              settings.side_by_side == 0 && settings.repeat == 1 && settings.watchdog_s == 20 &&
              settings.kaslr,
          "global");
    CHECK(vm->memory == MIB(64) && vm->ept_page == PAGE_SIZE_1G && vm->cpus == 1 &&
              vm->time_limit_ms == 0 && vm->paging == PAGING_COMPOUND && vm->module_count == 0 &&
              vm->disk_count == 0 && vm->on_reset == ON_RESET_END && vm_pinned_to(vm, 0) == -1,
          "VM");
}

static void every_mistake_names_its_line(void)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "1: no VM"},
        {"[twofold]\nat_end = stay\n", "2: no VM"},
        {"image = touch.elf\n", "1: a key before the first [section]"},
        {"[a]\nimage = touch.elf\nnonsense\n", "3: 'nonsense': neither"},
        {"[a\nimage = touch.elf\n", "1: section without ']'"},
        {"[]\n", "1: section name ''"},
        {"[a b]\n", "1: section name 'a b'"},
        {"[abcdefghijklmnopqrstuvwxyzabcdefghij]\nimage = touch.elf\n",
         "1: the VM's name is longer"},
        {"[a]\nimage = touch.elf\n[a]\n", "3: a second section [a]; the first is in line 1"},
        {"[twofold]\n[twofold]\n", "2: a second section [twofold]"},
        {"[a]\n[b]\nimage = touch.elf\n", "1: VM 'a' has no image"},
        {"[b]\nimage = touch.elf\n\n[a]\n", "4: VM 'a' has no image"},
        {"[a]\nimage = touch.elf\nimage = touch.elf\n", "3: 'image' a second time"},
        {"[a]\nimage =\n", "2: 'image' has no value"},
        {"[a]\nimage = gone.elf\n", "2: there is no file 'gone.elf'"},
        {"[a]\nmodule = gone.elf args\n", "2: there is no file 'gone.elf'"},
        {"[a]\nmemroy = 3M\n", "2: unknown key 'memroy' in section [a]"},
        {"[twofold]\nimage = touch.elf\n", "2: unknown key 'image' in section [twofold]"},
        {"[twofold]\nat_end = explode\n", "2: at_end = explode: must be"},
        {"[twofold]\nwithout = vpid magic\n", "2: without = ... magic"},
        {"[twofold]\nself_test = magic\n",
         "2: self_test = magic: must be none, panic, null, write_text, write_rodata, execute_data, "
         "stack_overflow, stack_smash, other_panics, dma or processors"},
        {"[a]\nmemory = lots\n", "2: memory = lots: must be"},
        {"[a]\nmemory = 64\n", "2: memory = 64: must be"},
        {"[a]\nmemory = 64MB\n", "2: memory = 64MB: must be"},
        {"[a]\nmemory = -1M\n", "2: memory = -1M: must be"},
        {"[a]\nmemory = 1023K\n", "2: memory = 1023K: less than 1M"},
        {"[a]\nmemory = 1025K\n", "2: memory = 1025K: not a multiple"},
        {"[a]\nmemory = 99999999G\n", "2: memory = 99999999G: more than"},
        {"[a]\nmemory = 99999999999999999999999999G\n", "2: memory = 999"},
        {"[a]\npolicy = magic\n", "2: policy = magic: must be cost, threshold, static or shsp"},
        {"[a]\nshadow_memory = 12K\n", "2: shadow_memory = 12K: must be 64K to 16G"},
        {"[a]\nshadow_memory = 70K\n", "2: shadow_memory = 70K: must be"},
        {"[a]\nshadow_memory = much\n", "2: shadow_memory = much: must be a number and K, M or G"},
        {"[a]\nswitch_level = 5\n", "2: switch_level = 5: must be a number from 0 to 4"},
        {"[a]\ninterval = 5us\n", "2: interval = 5us: must be 100us to 10000ms"},
        {"[a]\ninterval = 5\n", "2: interval = 5: must be a number and us or ms"},
        {"[a]\nwalk_ticks = 0\n", "2: walk_ticks = 0: must be a number from 1"},
        {"[a]\ntrace = 1000\n", "2: trace = 1000: must be a power of two, or 0"},
        {"[a]\nstress = often\n", "2: stress = often: must be a number"},
        {"[a]\npaging = magic\n", "2: paging = magic: must be"},
        {"[a]\nept_page = 3m\n", "2: ept_page = 3m: must be"},
        {"[a]\ncpus = 0\n", "2: cpus = 0: must be a number from 1 to 64"},
        {"[a]\ncpus = 65\n", "2: cpus = 65: must be a number from 1 to 64"},
        {"[a]\ncpus = two\n", "2: cpus = two: must be"},
        {"[a]\npin = 0 x\n", "2: pin = ... x: must be numbers"},
        {"[a]\npin = 0,1\n", "2: pin = ... 0,1: must be numbers"},
        {"[a]\npin = 0 -1\n", "2: pin = ... -1: must be numbers"},
        {"[a]\npin = 1 512 3\n", "2: pin = ... 512 3: the last processor is 511"},
        {"[a]\npin = 0\npin = 1\n", "3: 'pin' a second time"},
        {"[a]\ndisk = gone.img ro\n", "2: there is no file 'gone.img'"},
        {"[a]\ndisk = initrd.img rw\n", "2: disk = initrd.img rw: only 'ro' can follow"},
        {"[a]\ndisk = initrd.img ro ro\n", "2: disk = initrd.img ro ro: only 'ro' can follow"},
        {"[a]\non_reset = reboot\n", "2: on_reset = reboot: must be end or restart"},
        {"[a]\nkeys = ps2\n", "2: keys = ps2: must be uart or virtio"},
        {"[twofold]\nrun = fast\n", "2: run = fast: must be in_turn or together"},
        {"[twofold]\ndma_protection = on\n", "2: dma_protection = on: must be off or auto"},
        {"[twofold]\nkaslr = auto\n", "2: kaslr = auto: must be off or on"},
        {"[twofold]\nmitigations = some\n", "2: mitigations = some: must be auto, off or all"},
        {"[twofold]\nmeasure = on\n", "2: measure = on: must be auto, off or required"},
        {"[twofold]\nprocessors = 0\n", "2: processors = 0: must be a number from 1 to 512"},
        {"[twofold]\nprocessors = 513\n", "2: processors = 513: must be a number from 1 to 512"},
        {"[twofold]\nside_by_side = 0\n", "2: side_by_side = 0: must be a number from 1 to 256"},
        {"[twofold]\nrepeat = often\n", "2: repeat = often: must be a number from 0"},
        {"[twofold]\nfail = alloc:1\n", "2: fail = alloc:1: this build injects no faults"},
        {"[a]\nfail = alloc:1\n", "2: fail = alloc:1: this build injects no faults"},
        {"[twofold]\nwatchdog = 20\n", "2: watchdog = 20: must be 0s to 3600s"},
        {"[twofold]\nwatchdog = 3601s\n", "2: watchdog = 3601s: must be 0s to 3600s"},
        /* what does not fit together is told at the key that can be changed */
        {"[a]\nimage = touch.elf\ncpus = 2\npaging = native\n[b]\nimage = touch.elf\n",
         "3: cpus = 2: with paging = native only 1 is possible"},
        {"[a]\nimage = touch.elf\npaging = native\n\npin = 0\n",
         "5: 'pin' is not possible with paging = native"},
        {"[a]\nimage = touch.elf\ndisk = initrd.img\npaging = native\n",
         "3: 'disk' is not possible with paging = native"},
        {"[a]\nimage = touch.elf\non_reset = end\npaging = native\n",
         "3: 'on_reset' is not possible with paging = native"},
        {"[a]\nimage = touch.elf\npaging = native\n[twofold]\nat_end = stay\nrun = together\n",
         "6: run = together: VM 'a' has paging = native, which needs in_turn"},
        {"[twofold]\nrun = together\n[b]\nimage = touch.elf\n[a]\nimage = touch.elf\n"
         "paging = native\n\n",
         "2: run = together: VM 'a' has paging = native"},
        {"[a]\nimage = touch.elf\npin = 0 3 2\n[twofold]\nprocessors = 3\n",
         "5: processors = 3: VM 'a' is pinned to processor 3"},
        {"[twofold]\nside_by_side = 2\n[a]\nimage = touch.elf\n",
         "2: side_by_side = 2 needs run = together"},
        {"[a]\ntime_limit = 5\n", "2: time_limit = 5: must be a number and s or ms"},
        {"[a]\ntime_limit = 0s\n", "2: time_limit = 0s: must be more"},
        {"[a]\ntime_limit = 99999999999s\n", "2: time_limit = 99999999999s: must be"},
        {"[a]\nargs = \x01\n", "2: byte 0x01"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        CHECK(!parse(cases[i].text), "case %zu was accepted: %s", i, cases[i].text);
        CHECK(strncmp(why.text, "twofold.ini:", 12) == 0 &&
                  strncmp(why.text + 12, cases[i].message, strlen(cases[i].message)) == 0,
              "case %zu says: %s", i, why.text);
    }
}

static void limits_are_kept(void)
{
    char text[256 * 1024];
    size_t length = 0;

    for (unsigned i = 0; i <= VMS_MAX; i++)
        length += (size_t)sprintf(text + length, "[v%u]\nimage = touch.elf\n", i);
    CHECK(!parse(text) && strstr(why.text, "more than 256 VMs"), "%s", why.text);

    length = (size_t)sprintf(text, "[a]\nimage = touch.elf\n");
    for (unsigned i = 0; i <= VM_MODULES_MAX; i++)
        length += (size_t)sprintf(text + length, "module = initrd.img\n");
    CHECK(!parse(text) && strstr(why.text, "more than 8 modules"), "%s", why.text);

    length = (size_t)sprintf(text, "[a]\nimage = touch.elf\n");
    for (unsigned i = 0; i < VM_DISKS_MAX; i++)
        length += (size_t)sprintf(text + length, "disk = initrd.img\n");
    CHECK(parse(text), "%s", why.text);
    sprintf(text + length, "disk = initrd.img\n");
    CHECK(!parse(text) && strstr(why.text, "7: more than 4 disks"), "%s", why.text);

    length = (size_t)sprintf(text, "[a]\nimage = touch.elf\npin =");
    for (unsigned i = 0; i < VCPUS_MAX; i++)
        length += (size_t)sprintf(text + length, " %u", i);
    CHECK(parse(text), "%s", why.text);
    sprintf(text + length, " 0");
    CHECK(!parse(text) && strstr(why.text, "3: pin has more than 64 processors"), "%s", why.text);

    sprintf(text, "[a]\nargs = %01300d\n", 1);
    CHECK(!parse(text) && strstr(why.text, "line is longer"), "%s", why.text);
    sprintf(text, "[a]\nargs = %01024d\n", 1);
    CHECK(!parse(text) && strstr(why.text, "args is longer than 1023"), "%s", why.text);
    sprintf(text, "[a]\nimage = touch.elf\nargs = %01023d\n", 1);
    CHECK(parse(text) && strlen(settings.vm[0].args) == 1023, "%s", why.text);
    sprintf(text, "[a]\ndisk = %0100d\n", 1);
    CHECK(!parse(text) && strstr(why.text, "disk name is longer than 63"), "%s", why.text);
    sprintf(text, "[a]\nimage = %0100d\n", 1);
    CHECK(!parse(text) && strstr(why.text, "image is longer than 63"), "%s", why.text);
    CHECK(!settings_parse("[a]\nargs = \0x\n", 14, &modules, &settings, &why) &&
              strstr(why.text, "2: byte 0x00"),
          "%s", why.text);
}

/* Whatever the bytes: an answer, a reason when it is no, and nothing outside the buffers
 * (sanitizers). */
static void mutated_files_are_safe(void)
{
    static const char seed_text[] =
        "[twofold]\nat_end = qemu\nwithout = smep\n[vm]\nimage = touch.elf\n"
        "memory = 64M\nargs = a=1\nmodule = initrd.img x\ntime_limit = 5s\n"
        "disk = initrd.img ro\npin = 0 1 2\ncpus = 3\non_reset = restart\n";
    uint64_t random = 7;
    unsigned accepted = 0;

    for (unsigned n = 0; n < 100000; n++) {
        size_t length = sizeof(seed_text) - 1;
        char *copy = malloc(length);
        memcpy(copy, seed_text, length);
        for (uint64_t flips = test_random(&random) % 4; flips > 0; flips--)
            copy[test_random(&random) % length] = (char)test_random(&random);
        length -= test_random(&random) % 8 == 0 ? test_random(&random) % length : 0;
        why.text[0] = '\0';
        bool good = settings_parse(copy, length, &modules, &settings, &why);
        accepted += good;
        CHECK(good || strncmp(why.text, "twofold.ini:", 12) == 0, "no reason given");
        free(copy);
    }
    CHECK(accepted > 1000 && accepted < 99000, "%u accepted: the mutations test nothing", accepted);
}

int main(void)
{
    RUN(a_full_file_is_read);
    RUN(processors_disks_and_order_are_read);
    RUN(defaults_are_as_documented);
    RUN(every_mistake_names_its_line);
    RUN(limits_are_kept);
    RUN(mutated_files_are_safe);
    return test_status();
}
