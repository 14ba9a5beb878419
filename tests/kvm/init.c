/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The first and only process of the Linux that measures KVM: mounts what it needs, loads KVM's
 * modules as each run wants them, runs the guests of /runs one after another, and ends the machine.
 *
 * /runs has a line for each: EPT(0|1) PAGE(4k|2m) MEMORY(MiB) SECONDS IMAGE [ARGS...]. Every guest
 * runs twice: undisturbed, for its ticks, and with its exits counted by reason.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "tests/kvm/vmm.h"

#define RUNS       "/runs"
#define MODULES    "/modules/"
#define GUESTS     "/guests/"
#define TRACING    "/sys/kernel/tracing/"
#define TRIGGER    TRACING "events/kvm/kvm_exit/trigger"
#define HUGE_PAGES "/proc/sys/vm/nr_hugepages"
#define HUGE_PAGE  2u /* MiB */
#define BOCHS_PORT 0x8900
#define BOCHS_ENDS 'D' /* into the debugger, whose next line is "quit": status 0 */

__attribute__((noreturn)) static void end_machine(void)
{
    fflush(stdout);
    tcdrain(STDOUT_FILENO);
    if (ioperm(BOCHS_PORT, 1, 1) == 0)
        outb(BOCHS_ENDS, BOCHS_PORT);
    reboot(RB_POWER_OFF);
    for (;;)
        pause();
}

__attribute__((noreturn)) static void give_up_because(const char *what, const char *why)
{
    printf("twofold-kvm: %s: %s\n", what, why);
    end_machine();
}

__attribute__((noreturn)) static void give_up(const char *what)
{
    give_up_because(what, strerror(errno));
}

/* --- the system ------------------------------------------------------------------------------- */

static void mount_on(const char *type, const char *at)
{
    mkdir(at, 0755);
    if (mount(type, at, type, 0, NULL) != 0 && errno != EBUSY)
        give_up(at);
}

static void open_console(void)
{
    int fd = open("/dev/console", O_RDWR);

    if (fd < 0)
        end_machine(); /* nobody could hear why */
    for (int i = STDIN_FILENO; i <= STDERR_FILENO; i++)
        dup2(fd, i);
    if (fd > STDERR_FILENO)
        close(fd);
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
}

static void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
        give_up(path);
    close(fd);
}

/* The first line of a file, without its end; "" when it cannot be read. */
static void read_line(const char *path, char *to, size_t room)
{
    FILE *file = fopen(path, "re");

    to[0] = '\0';
    if (!file)
        return;
    if (!fgets(to, (int)room, file))
        to[0] = '\0';
    to[strcspn(to, "\n")] = '\0';
    fclose(file);
}

static void load_module(const char *name, const char *parameters)
{
    char path[64];

    snprintf(path, sizeof(path), MODULES "%s.ko", name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || (syscall(SYS_finit_module, fd, parameters, 0) != 0 && errno != EEXIST))
        give_up(path);
    close(fd);
}

/* kvm-intel with or without EPT; loaded anew when it has to change, and true then. */
static bool load_kvm_intel(bool ept)
{
    static enum { NOT, WITH_EPT, WITHOUT_EPT } loaded;

    if (loaded == (ept ? WITH_EPT : WITHOUT_EPT))
        return false;
    if (loaded != NOT && syscall(SYS_delete_module, "kvm_intel", 0) != 0)
        give_up("kvm_intel is unloaded");
    load_module("kvm-intel", ept ? "ept=1" : "ept=0");
    loaded = ept ? WITH_EPT : WITHOUT_EPT;

    char value[8];
    read_line("/sys/module/kvm_intel/parameters/ept", value, sizeof(value));
    if (value[0] != (ept ? 'Y' : 'N'))
        give_up_because("kvm_intel",
                        ept ? "this processor has no EPT" : "it uses EPT all the same");
    return true;
}

/* What the figures depend on, after the modules are loaded. */
static void print_system(void)
{
    static const char *const parameter[] = {
        "kvm_intel/parameters/ept",
        "kvm/parameters/tdp_mmu",
        "kvm/parameters/nx_huge_pages",
        "kvm_intel/parameters/vpid",
        "kvm_intel/parameters/unrestricted_guest",
        "kvm_intel/parameters/flexpriority",
        "kvm_intel/parameters/vmentry_l1d_flush",
        "kvm_intel/parameters/preemption_timer",
    };
    struct utsname name;
    char path[128], value[512];

    uname(&name);
    read_line("/proc/cmdline", value, sizeof(value));
    printf("@kvm {\"release\": \"%s\", \"version\": \"%s\", \"command_line\": \"%s\"", name.release,
           name.version, value);
    for (unsigned i = 0; i < sizeof(parameter) / sizeof(parameter[0]); i++) {
        snprintf(path, sizeof(path), "/sys/module/%s", parameter[i]);
        read_line(path, value, sizeof(value));
        printf(", \"%s\": \"%s\"", strrchr(parameter[i], '/') + 1, value);
    }
    printf("}\n");
}

static void start_system(void)
{
    mount_on("devtmpfs", "/dev");
    open_console();
    mount_on("proc", "/proc");
    mount_on("sysfs", "/sys");
    mount_on("tracefs", TRACING);
    load_module("irqbypass", "");
    load_module("kvm", "");
}

/* --- runs ------------------------------------------------------------------------------------- */

static bool map_image(const char *name, struct module *image)
{
    char path[128];
    struct stat s;

    snprintf(path, sizeof(path), GUESTS "%s", name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &s) != 0)
        return false;
    void *at = mmap(NULL, (size_t)s.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    *image = (struct module){name, at, (size_t)s.st_size};
    return at != MAP_FAILED;
}

/* A process of its own, so that nothing of a VM is left for the next. */
static void run_guest(const struct peer_run *run)
{
    int status;

    fflush(stdout);
    if (run->traced)
        write_file(TRIGGER, "hist:keys=exit_reason");
    pid_t child = fork();
    if (child < 0)
        give_up("fork");
    if (child == 0) {
        struct module image;
        bool ran = map_image(run->settings.image, &image) && vmm_run(run, &image);
        fflush(stdout);
        _exit(ran ? EXIT_SUCCESS : EXIT_FAILURE); /* exit() would wind RUNS back, for us too */
    }
    waitpid(child, &status, 0);
    if (status != 0)
        printf("twofold-kvm: %s: the VMM ended with status 0x%x\n", run->settings.name,
               (unsigned)status);
    if (run->traced)
        write_file(TRIGGER, "!hist:keys=exit_reason");
}

static void reserve_huge_pages(const struct peer_run *run, unsigned mib)
{
    char text[16];

    snprintf(text, sizeof(text), "%u", run->large_pages ? mib / HUGE_PAGE : 0);
    write_file(HUGE_PAGES, text);
}

static bool parse_run(const char *line, struct peer_run *run, unsigned *mib)
{
    unsigned ept;
    char page[3], image[32];
    int args = 0;

    *run = (struct peer_run){0};
    if (sscanf(line, "%u %2s %u %u %31s %n", &ept, page, mib, &run->seconds, image, &args) != 5)
        return false;
    run->ept = ept != 0;
    run->large_pages = strcmp(page, "2m") == 0;
    run->settings.memory = (uint64_t)*mib << 20;
    snprintf(run->settings.name, sizeof(run->settings.name), "%.*s.%s.%s", (int)strcspn(image, "."),
             image, run->ept ? "kvm-ept" : "kvm-shadow", page);
    snprintf(run->settings.image, sizeof(run->settings.image), "%s", image);
    snprintf(run->settings.args, sizeof(run->settings.args), "%s", line + args);
    return true;
}

static void do_run(char *line)
{
    struct peer_run run;
    unsigned mib;

    line[strcspn(line, "\n")] = '\0';
    if (!parse_run(line, &run, &mib)) {
        printf("twofold-kvm: %s: not a run: %s\n", RUNS, line);
        return;
    }
    if (load_kvm_intel(run.ept))
        print_system();
    reserve_huge_pages(&run, mib);
    for (int traced = 0; traced < 2; traced++) {
        printf("twofold-kvm: running %s%s\n", run.settings.name,
               traced ? " once more, exits counted by reason" : "");
        run.traced = traced;
        run_guest(&run);
    }
    printf("@done {\"name\": \"%s\"}\n", run.settings.name);
    fflush(stdout);
    tcdrain(STDOUT_FILENO);
}

int main(void)
{
    char line[512];

    start_system();
    FILE *runs = fopen(RUNS, "re");
    if (!runs)
        give_up(RUNS);
    while (fgets(line, sizeof(line), runs))
        do_run(line);
    fclose(runs);
    printf("@end {\"status\": 0}\n");
    end_machine();
}
