/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Runs a harness over inputs that are kept: `replay NAME FOLDER...`. Prints "ok fuzz_NAME (N
 * inputs)"; an input that fails ends the program, after its path.
 */
#include <dirent.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"

#define INPUT_MAX (1u << 20)

static char path[PATH_MAX];

static void say_which(void)
{
    static const char begin[] = "the input is ";

    (void)!write(STDERR_FILENO, begin, sizeof(begin) - 1);
    (void)!write(STDERR_FILENO, path, strlen(path));
    (void)!write(STDERR_FILENO, "\n", 1);
}

static void aborted(int number)
{
    say_which();
    signal(number, SIG_DFL);
    raise(number);
}

/* The sanitizers', where the program has them. */
__attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)(void));

/* A copy in a heap block of the exact size: reading beyond it is seen. */
static void run_file(void)
{
    FILE *file = fopen(path, "rb");
    uint8_t *bytes = malloc(INPUT_MAX);

    if (!file || !bytes) {
        perror(path);
        exit(1);
    }
    size_t size = fread(bytes, 1, INPUT_MAX, file);
    fclose(file);
    uint8_t *exact = malloc(size ? size : 1);
    if (!exact)
        abort();
    memcpy(exact, bytes, size);
    free(bytes);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
}

/* Every file of a folder; one that is not there has none. */
static unsigned run_folder(const char *folder)
{
    DIR *dir = opendir(folder);
    const struct dirent *entry;
    unsigned count = 0;

    while (dir && (entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
        run_file();
        count++;
    }
    if (dir)
        closedir(dir);
    return count;
}

int main(int argc, char **argv)
{
    unsigned count = 0;

    if (argc < 3) {
        fprintf(stderr, "usage: %s NAME FOLDER...\n", argv[0]);
        return 2;
    }
    if (__sanitizer_set_death_callback)
        __sanitizer_set_death_callback(say_which);
    signal(SIGABRT, aborted);
    for (int i = 2; i < argc; i++)
        count += run_folder(argv[i]);
    if (count == 0) {
        printf("FAIL fuzz_%s: there is no input\n", argv[1]);
        return 1;
    }
    printf("ok fuzz_%s (%u inputs)\n", argv[1], count);
    return 0;
}
