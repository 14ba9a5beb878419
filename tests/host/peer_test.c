/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What is measured of KVM: its statistics file and the histogram of exits read as documented, and
 * records that hold the difference between BEGIN and END without the calls themselves.
 */
#include "tests/kvm/record.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/kvm.h>

#include "arch/x86_64/vmcs.h"
#include "tests/host/test.h"

/* --- a statistics file as KVM gives it -------------------------------------------------------- */

#define NAME_BYTES   48u
#define ID_OFFSET    sizeof(struct kvm_stats_header)
#define DESC_OFFSET  (ID_OFFSET + NAME_BYTES)
#define DESC_BYTES   (sizeof(struct kvm_stats_desc) + NAME_BYTES)
#define VALUES_AHEAD 16u /* bytes of something else at the start of the data */

struct stat_file {
    int fd;
    unsigned count;
    uint32_t data_offset;
};

struct stat_line {
    const char *name;
    uint32_t type;
    uint16_t size; /* values */
    uint64_t value;
};

static void put(int fd, const void *from, size_t bytes, size_t at)
{
    if (pwrite(fd, from, bytes, (off_t)at) != (ssize_t)bytes)
        abort();
}

static struct stat_file make_file(const struct stat_line *lines, unsigned count)
{
    char path[] = "/tmp/twofold-stats-XXXXXX";
    struct stat_file file = {mkstemp(path), count,
                             (uint32_t)(DESC_OFFSET + count * DESC_BYTES + VALUES_AHEAD)};
    struct kvm_stats_header header = {.name_size = NAME_BYTES,
                                      .num_desc = count,
                                      .id_offset = ID_OFFSET,
                                      .desc_offset = DESC_OFFSET,
                                      .data_offset = file.data_offset};
    uint32_t offset = 0;

    unlink(path);
    put(file.fd, &header, sizeof(header), 0);
    for (unsigned i = 0; i < count; i++) {
        struct kvm_stats_desc desc = {
            .flags = lines[i].type, .size = lines[i].size, .offset = offset};
        char name[NAME_BYTES] = "";
        size_t at = DESC_OFFSET + i * DESC_BYTES;
        snprintf(name, sizeof(name), "%s", lines[i].name);
        put(file.fd, &desc, sizeof(desc), at);
        put(file.fd, name, sizeof(name), at + sizeof(desc));
        for (unsigned n = 0; n < lines[i].size; n++, offset += (uint32_t)sizeof(uint64_t))
            put(file.fd, &lines[i].value, sizeof(uint64_t), file.data_offset + offset);
    }
    return file;
}

static void set_value(const struct stat_file *file, unsigned i, uint64_t value)
{
    put(file->fd, &value, sizeof(value), file->data_offset + i * sizeof(value));
}

static void statistics_are_read_by_name(void)
{
    static const struct stat_line lines[] = {
        {"pages_4k", KVM_STATS_TYPE_INSTANT, 1, 7},
        {"halt_poll_success_hist", KVM_STATS_TYPE_LOG_HIST, 32, 1},
        {"exits", KVM_STATS_TYPE_CUMULATIVE, 1, 1234567890123ull},
        {"max_mmu_rmap_size", KVM_STATS_TYPE_PEAK, 1, 3},
    };
    struct stat_file file = make_file(lines, ARRAY_SIZE(lines));
    struct counters counters;
    uint64_t value[COUNTERS_MAX];

    CHECK(counters_open(&counters, file.fd) && counters_read(&counters, value), "the file");
    CHECK(counters.count == 3, "%u counters, and no histogram", counters.count);
    int exits = counters_find(&counters, "exits"), pages = counters_find(&counters, "pages_4k");
    CHECK(exits >= 0 && pages >= 0 && counters_find(&counters, "halt_poll_success_hist") < 0,
          "names");
    CHECK(value[exits] == 1234567890123ull && value[pages] == 7, "values");
    CHECK(counters.counter[exits].sums && !counters.counter[pages].sums, "sums and levels");
    close(file.fd);
}

static void a_short_statistics_file_is_refused(void)
{
    static const struct stat_line lines[] = {{"exits", KVM_STATS_TYPE_CUMULATIVE, 1, 1},
                                             {"invlpg", KVM_STATS_TYPE_CUMULATIVE, 1, 2}};
    struct stat_file file = make_file(lines, ARRAY_SIZE(lines));
    struct counters counters;
    uint64_t value[COUNTERS_MAX];

    freopen("/dev/null", "w", stderr); /* it says why */
    CHECK(ftruncate(file.fd, file.data_offset + 8) == 0 && counters_open(&counters, file.fd) &&
              !counters_read(&counters, value),
          "without the last value");
    CHECK(ftruncate(file.fd, DESC_OFFSET + DESC_BYTES + 4) == 0 &&
              !counters_open(&counters, file.fd),
          "without a whole descriptor");
    CHECK(ftruncate(file.fd, 10) == 0 && !counters_open(&counters, file.fd), "without a header");
    close(file.fd);
}

/* --- exits by reason -------------------------------------------------------------------------- */

static void histogram_is_taken_apart(void)
{
    static const char text[] =
        "# event histogram\n#\n"
        "# trigger info: hist:keys=exit_reason:vals=hitcount:sort=hitcount:size=2048 [active]\n"
        "#\n\n"
        "{ exit_reason:         48 } hitcount:          3\n"
        "{ exit_reason:         30 } hitcount:       1024\n"
        "{ exit_reason:          0 } hitcount:  123456789012\n"
        "\nTotals:\n    Hits: 123456790039\n    Entries: 3\n    Dropped: 0\n";
    uint64_t hits[REASONS_MAX];

    memset(hits, 0xff, sizeof(hits));
    CHECK(histogram_parse(text, hits), "as the kernel prints it");
    CHECK(hits[EXIT_EPT_VIOLATION] == 3 && hits[EXIT_IO] == 1024 &&
              hits[EXIT_EXCEPTION_NMI] == 123456789012ull && hits[EXIT_CPUID] == 0,
          "hits");
    CHECK(histogram_parse("", hits) && hits[EXIT_IO] == 0, "no exit yet");
}

static void a_histogram_that_lost_exits_is_refused(void)
{
    uint64_t hits[REASONS_MAX];

    CHECK(!histogram_parse("\nTotals:\n    Hits: 9\n    Entries: 1\n    Dropped: 2\n", hits),
          "dropped");
    CHECK(!histogram_parse("{ exit_reason: 2147483681 } hitcount: 1\n", hits), "failed entry");
    CHECK(!histogram_parse("{ vcpu: 0 } hitcount: 1\n", hits), "another key");
}

static void exit_reasons_have_twofolds_names(void)
{
    CHECK(strcmp(exit_reason_name(EXIT_IO), "io") == 0, "io");
    CHECK(strcmp(exit_reason_name(EXIT_EPT_MISCONFIGURATION), "ept_misconfiguration") == 0, "ept");
    CHECK(strcmp(exit_reason_name(EXIT_XRSTORS), "xrstors") == 0, "the last");
    CHECK(!exit_reason_name(35) && !exit_reason_name(EXIT_REASONS) && !exit_reason_name(1000000),
          "numbers without a reason");
}

/* --- records ---------------------------------------------------------------------------------- */

enum { PAGES_4K, PAGES_2M, PAGES_1G };
enum { EXITS, IO_EXITS };

#define NAME_AT   0x100u
#define CALL_AT   0x200u
#define RESULT_AT 0x300u
#define TABLES    0x1000u /* four of them, one below the other */
#define ADDRESS   0x8000000000ull
#define P         1ull
#define PS        0x80ull

static uint8_t memory[KIB(64)];
static struct guest_ram ram;
static struct stat_file vm_file, vcpu_file;
static struct peer_run run;
static struct record record;
static char *printed;
static size_t printed_bytes;

static uint64_t call(enum tf_call number, uint64_t a, uint64_t b, uint64_t c)
{
    struct tf_port_call by_port = {number, {a, b, c}, 99};
    const struct walk_registers registers = {.cr0 = 0x80000001,
                                             .cr3 = TABLES,
                                             .cr4 = 0x20,
                                             .efer = 0x500,
                                             .physical_bits = 40,
                                             .has_1g_pages = true};

    memcpy(memory + CALL_AT, &by_port, sizeof(by_port));
    record_call(&record, gpa(CALL_AT), &registers);
    memcpy(&by_port, memory + CALL_AT, sizeof(by_port));
    return by_port.result;
}

static void set_entry(unsigned level, uint64_t entry)
{
    uint64_t table = TABLES + (4 - level) * PAGE_SIZE;
    uint64_t index = ADDRESS >> (12 + 9 * (level - 1)) & 511;

    memcpy(memory + table + index * sizeof(entry), &entry, sizeof(entry));
}

static void set_up(bool ept)
{
    static const struct stat_line vm_lines[] = {{"pages_4k", KVM_STATS_TYPE_INSTANT, 1, 0},
                                                {"pages_2m", KVM_STATS_TYPE_INSTANT, 1, 0},
                                                {"pages_1g", KVM_STATS_TYPE_INSTANT, 1, 0}};
    static const struct stat_line vcpu_lines[] = {{"exits", KVM_STATS_TYPE_CUMULATIVE, 1, 100},
                                                  {"io_exits", KVM_STATS_TYPE_CUMULATIVE, 1, 10}};

    memset(memory, 0, sizeof(memory));
    memcpy(memory + NAME_AT, "touch", 6);
    const struct tf_bench_result result = {.ops = 50, .ticks = 777, .ok = 1, .touches = 60};
    memcpy(memory + RESULT_AT, &result, sizeof(result));
    for (unsigned level = 4; level > 1; level--)
        set_entry(level, (TABLES + (5 - level) * PAGE_SIZE) | P);
    set_entry(1, 0x5000 | P);
    ram = guest_ram_layout(memory, sizeof(memory));
    run = (struct peer_run){.ept = ept};
    snprintf(run.settings.name, sizeof(run.settings.name), "touch.test");
    vm_file = make_file(vm_lines, ARRAY_SIZE(vm_lines));
    vcpu_file = make_file(vcpu_lines, ARRAY_SIZE(vcpu_lines));
    CHECK(record_init(&record, &run, &ram, vm_file.fd, vcpu_file.fd), "statistics");
}

/* BEGIN, `exits` exits of which `io` are for ports, END; then an audit and the record's text. */
static const char *measure(uint64_t exits, uint64_t io, uint64_t bytes)
{
    FILE *screen = stdout;

    free(printed);
    printed = NULL;
    stdout = open_memstream(&printed, &printed_bytes);
    uint64_t begun = call(TF_CALL_BENCH_BEGIN, NAME_AT, TF_PHASE_STEADY, 0);
    set_value(&vcpu_file, EXITS, 100 + exits + 1); /* and END's own */
    set_value(&vcpu_file, IO_EXITS, 10 + io + 1);
    uint64_t ended = call(TF_CALL_BENCH_END, RESULT_AT, 0, 0);
    uint64_t audited = call(TF_CALL_AUDIT, ADDRESS, bytes, PAGE_SIZE);
    record_close(&record);
    fclose(stdout);
    stdout = screen;
    CHECK(begun == 0 && ended == 0 && audited == 0, "the calls' results");
    close(vm_file.fd);
    close(vcpu_file.fd);
    return printed;
}

static void a_record_has_the_difference_without_its_calls(void)
{
    set_up(true);
    set_value(&vm_file, PAGES_4K, 12);
    const char *text = measure(33, 5, PAGE_SIZE);
    CHECK(strstr(text,
                 "@bench {\"bench\": \"touch\", \"vm\": \"touch.test\", \"phase\": \"steady\"") &&
              strstr(text, "\"paging\": \"kvm-ept\", \"ept_page\": \"4k\""),
          "%s", text);
    CHECK(strstr(text, "\"ops\": 50, \"ticks\": 777, \"exits\": 33, \"exits_by\": null"), "%s",
          text);
    CHECK(strstr(text, "\"kvm\": {\"pages_4k\": 12, \"exits\": 33, \"io_exits\": 5}, \"ok\": true"),
          "%s", text);
    CHECK(strstr(text, "\"touches\": 60") && strstr(text, "\"walk_refs\": null"), "%s", text);
}

static const char *references(bool ept, uint64_t pages_4k, uint64_t pages_2m)
{
    set_up(ept);
    set_value(&vm_file, PAGES_4K, pages_4k);
    set_value(&vm_file, PAGES_2M, pages_2m);
    return measure(0, 0, PAGE_SIZE);
}

static void references_follow_from_page_sizes(void)
{
    CHECK(strstr(references(true, 9, 0), "\"walk_refs_derived\": 24.00"), "%s", printed);
    CHECK(strstr(references(true, 0, 9), "\"walk_refs_derived\": 19.00"), "%s", printed);
    CHECK(strstr(references(true, 9, 9), "\"walk_refs_derived\": null"), "%s", printed);
    CHECK(strstr(references(true, 0, 0), "\"walk_refs_derived\": null"), "%s", printed);
    CHECK(strstr(references(false, 9, 9), "\"walk_refs_derived\": 4.00"), "%s", printed);
    CHECK(record_ept_references(0, 0, 3) == 2, "1-GiB pages");
}

static void a_large_page_under_a_shadow_is_not_guessed(void)
{
    for (uint64_t large = 0; large < 2; large++) {
        set_up(false);
        set_entry(2, P | PS);
        set_value(&vm_file, PAGES_4K, 9);
        set_value(&vm_file, PAGES_2M, large);
        const char *text = measure(0, 0, PAGE_SIZE);
        CHECK(strstr(text, large ? "\"walk_refs_derived\": null" : "\"walk_refs_derived\": 4.00"),
              "%s", text);
    }
}

static void calls_that_do_not_fit_are_refused(void)
{
    set_up(true);
    CHECK(call(TF_CALL_BENCH_END, RESULT_AT, 0, 0) == TF_E_STATE, "END without BEGIN");
    CHECK(call(TF_CALL_AUDIT, ADDRESS, 4096, 4096) == TF_E_STATE, "AUDIT without END");
    CHECK(call(TF_CALL_BENCH_BEGIN, sizeof(memory) - 4, 0, 0) == TF_E_FAULT, "a name beyond RAM");
    CHECK(call(TF_CALL_BENCH_BEGIN, NAME_AT, 2, 0) == TF_E_VALUE, "no such phase");
    memcpy(memory + NAME_AT, "a\"b", 4);
    CHECK(call(TF_CALL_BENCH_BEGIN, NAME_AT, 0, 0) == TF_E_VALUE, "a name that is no name");
    CHECK(call(TF_CALL_STATS, 0, 0, 0) == TF_E_CALL, "another call");
    record_call(&record, gpa(sizeof(memory) - 8), NULL); /* not wholly RAM: ignored */
    close(vm_file.fd);
    close(vcpu_file.fd);
}

int main(void)
{
    RUN(statistics_are_read_by_name);
    RUN(a_short_statistics_file_is_refused);
    RUN(histogram_is_taken_apart);
    RUN(a_histogram_that_lost_exits_is_refused);
    RUN(exit_reasons_have_twofolds_names);
    RUN(a_record_has_the_difference_without_its_calls);
    RUN(references_follow_from_page_sizes);
    RUN(a_large_page_under_a_shadow_is_not_guessed);
    RUN(calls_that_do_not_fit_are_refused);
    free(printed);
    return test_status();
}
