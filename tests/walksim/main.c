/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * walksim: what each way of virtualising memory does with a trace.
 *
 *   walksim [options] TRACE     a generator's name, or a file of a recorded trace (- for standard
 * input) walksim --list              the generators, one a line: name, kind, what it does
 *
 * Prints one JSON object of counts, of the time after the warm-up. docs/walksim.md explains them.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tests/walksim/generate.h"
#include "tests/walksim/kernel.h"

struct run {
    struct machine machine;
    struct kernel kernel;
    uint64_t warm_up, seen; /* accesses */
    struct counts warm;     /* of the warm-up */
};

static bool take_event(void *context, const struct event *e)
{
    struct run *r = context;

    if (e->kind == EVENT_ACCESS && r->seen++ == r->warm_up) {
        r->warm = r->machine.counts;
        machine_begin_counting(&r->machine);
    }
    return kernel_event(&r->kernel, e);
}

static bool read_trace(struct run *r, const char *path, uint64_t accesses, const char **why)
{
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
    struct trace_reader reader;
    struct event e;
    bool good;

    if (!file) {
        *why = "no such generator, and no such file";
        return false;
    }
    good = trace_reader_open(&reader, file, why);
    while (good && r->seen < accesses) {
        good = trace_reader_next(&reader, &e, why);
        if (!good || e.kind == EVENT_END)
            break;
        if (!take_event(r, &e))
            break;
    }
    if (file != stdin)
        fclose(file);
    return good;
}

static void print_list(const char *name, const uint64_t *values, unsigned count,
                       const char *const *names)
{
    printf(", \"%s\": {", name);
    for (unsigned i = 0; i < count; i++)
        printf("%s\"%s\": %" PRIu64, i ? ", " : "", names[i], values[i]);
    printf("}");
}

static void print_record(const struct run *r, const char *trace, bool generator, bool large_guest)
{
    static const char *const degrees[DEGREES] = {"shadow", "1", "2", "3", "nested", "native"};
    const struct options *o = &r->machine.options;
    const struct counts *c = &r->machine.counts;
    uint64_t exits = 0;

    for (unsigned i = 0; i < EXIT_KINDS; i++)
        exits += c->exits[i];
    printf("{\"trace\": \"%s\", \"generator\": %s, \"technique\": \"%s\", \"processor\": \"%s\", "
           "\"guest_page\": \"%s\", \"ept_page\": \"%s\", \"interval\": %" PRIu64,
           trace, generator ? "true" : "false", technique_names[o->technique], o->processor->name,
           large_guest ? "2m" : "4k", o->large_ept ? "2m" : "4k", o->interval);
    printf(", \"warmup_accesses\": %" PRIu64 ", \"instructions\": %" PRIu64
           ", \"accesses\": %" PRIu64 ", \"l2_hits\": %" PRIu64 ", \"misses\": %" PRIu64,
           r->warm_up, c->instructions, c->accesses, c->l2_hits, c->misses);
    printf(", \"references\": %" PRIu64 ", \"references_cached\": %" PRIu64, c->references,
           c->references_cached);
    print_list("misses_by", c->misses_by_degree, DEGREES, degrees);
    print_list("references_by", c->references_by_degree, DEGREES, degrees);
    printf(", \"exits\": %" PRIu64, exits);
    print_list("exits_by", c->exits, EXIT_KINDS, exit_names);
    printf(", \"table_stores\": %" PRIu64 ", \"page_faults\": %" PRIu64 ", \"promotions\": %" PRIu64
           ", \"demotions\": %" PRIu64 ", \"invalidations\": %" PRIu64 "}\n",
           c->table_stores, c->page_faults, c->promotions, c->demotions, c->invalidations);
}

/* --- the command line ---------------------------------------------------------------------------
 */

static void print_map_line(void *context, const char *text)
{
    (void)context;
    fprintf(stderr, "%s\n", text);
}

static void print_generators(void)
{
    for (unsigned i = 0; i < generator_count; i++)
        printf("%s\t%s\t%s\n", generators[i].name, generators[i].workload ? "workload" : "micro",
               generators[i].about);
}

__attribute__((noreturn)) static void usage(const char *why)
{
    fprintf(
        stderr,
        "walksim: %s\n"
        "usage: walksim [--technique NAME] [--processor NAME] [--pages 4k|2m] [--ept-pages 4k|2m]\n"
        "               [--accesses N] [--warm-up N] [--ram MIB] [--interval INSTRUCTIONS]\n"
        "               [--cost-exit CYCLES] [--cost-reference CYCLES] [--no-hardware-ad] "
        "[--no-hardware-cr3] TRACE\n"
        "       walksim --list\n",
        why);
    exit(2);
}

static uint64_t number(const char *text)
{
    char *end;
    uint64_t value = strtoull(text, &end, 10);

    if (*text < '0' || *text > '9' || *end)
        usage("a number was expected");
    return value;
}

static bool is_large(const char *text)
{
    if (strcmp(text, "4k") != 0 && strcmp(text, "2m") != 0)
        usage("pages are 4k or 2m");
    return text[0] == '2';
}

static enum technique technique_of(const char *text)
{
    for (unsigned i = 0; i < TECHNIQUES; i++) {
        if (strcmp(technique_names[i], text) == 0)
            return (enum technique)i;
    }
    usage("no such technique: native, nested, shadow, shsp, compound, compound-threshold, ideal");
}

int main(int argc, char **argv)
{
    static const struct option names[] = {
        {"technique", 1, NULL, 't'},
        {"processor", 1, NULL, 'p'},
        {"pages", 1, NULL, 'g'},
        {"ept-pages", 1, NULL, 'e'},
        {"accesses", 1, NULL, 'n'},
        {"warm-up", 1, NULL, 'w'},
        {"ram", 1, NULL, 'r'},
        {"interval", 1, NULL, 'i'},
        {"cost-exit", 1, NULL, 'x'},
        {"cost-reference", 1, NULL, 'c'},
        {"no-hardware-ad", 0, NULL, 'A'},
        {"no-hardware-cr3", 0, NULL, 'C'},
        {"list", 0, NULL, 'l'},
        {"map", 0, NULL, 'm'},
        {NULL, 0, NULL, 0},
    };
    struct options o = {.technique = COMPOUND,
                        .processor = &processors[0],
                        .ram = GIB(2),
                        .hardware_ad = true,
                        .hardware_cr3 = true,
                        .interval = 100000,
                        .cost_exit = policy_default.cost_exit,
                        .cost_reference = policy_default.cost_reference};
    uint64_t accesses = 3000000, warm_up = 1000000;
    bool large = false, map = false;
    static struct run r;

    for (int c; (c = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        switch (c) {
        case 't':
            o.technique = technique_of(optarg);
            break;
        case 'p':
            o.processor = processor_find(optarg);
            break;
        case 'g':
            large = is_large(optarg);
            break;
        case 'e':
            o.large_ept = is_large(optarg);
            break;
        case 'n':
            accesses = number(optarg);
            break;
        case 'w':
            warm_up = number(optarg);
            break;
        case 'r':
            o.ram = align_up(number(optarg) << 20, PAGE_SIZE_2M);
            break;
        case 'i':
            o.interval = number(optarg);
            break;
        case 'x':
            o.cost_exit = (uint32_t)number(optarg);
            break;
        case 'c':
            o.cost_reference = (uint32_t)number(optarg);
            break;
        case 'A':
            o.hardware_ad = false;
            break;
        case 'C':
            o.hardware_cr3 = false;
            break;
        case 'm':
            map = true;
            break;
        case 'l':
            print_generators();
            return 0;
        default:
            usage("an option that it does not have");
        }
    }
    if (optind + 1 != argc)
        usage("one trace");
    if (!o.processor || o.ram < MIB(64) || o.interval == 0 || warm_up >= accesses)
        usage("an unknown processor, less than 64 MiB, an interval of 0, or a warm-up as long as "
              "the run");
    const struct generator *g = generator_find(argv[optind]);
    const char *why = NULL;
    r.warm_up = warm_up;
    if (!machine_create(&r.machine, &o) ||
        !kernel_create(&r.kernel, &r.machine, large, g == NULL)) {
        fprintf(stderr, "walksim: no memory\n");
        return 1;
    }
    struct sink sink = {&r, take_event};
    if (g)
        g->run(&sink, accesses);
    else
        read_trace(&r, argv[optind], accesses, &why);
    if (why || r.kernel.wrong) {
        fprintf(stderr, "walksim: %s: %s (after %" PRIu64 " accesses)\n", argv[optind],
                why ? why : r.kernel.wrong, r.seen);
        return 1;
    }
    if (r.seen <= warm_up) {
        fprintf(stderr, "walksim: %s: only %" PRIu64 " accesses, all of them warm-up: --warm-up\n",
                argv[optind], r.seen);
        return 1;
    }
    machine_end_counting(&r.machine);
    print_record(&r, g ? g->name : argv[optind], g != NULL, large);
    if (map && r.machine.cpt)
        cpt_print_map(r.machine.cpt, &r.machine.cpu, print_map_line, NULL);
    kernel_destroy(&r.kernel);
    machine_destroy(&r.machine);
    return 0;
}
