/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The virtio block device against a disk that is an array: any mixture of requests, divided in any
 * way, leaves both with the same content.
 */
#include "hv/dev/virtio_block.h"

#include "tests/host/virtio_driver.h"

enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8 };
enum { OK = 0, IOERR = 1, UNSUPP = 2, NO_STATUS = 0xee };

#define SECTOR      512u
#define IMAGE_BYTES (3 * 4096u + 1000) /* neither whole blocks nor whole sectors */
#define SECTORS     ((IMAGE_BYTES + SECTOR - 1) / SECTOR)
#define DISK_BYTES  (SECTORS * SECTOR)

static struct virtio_block device;
static struct test_driver d;
static uint8_t *image;
static uint8_t disk[DISK_BYTES]; /* what it must hold */

/* --- pages ------------------------------------------------------------------------------------ */

static unsigned pages_out, pages_left;

static void *alloc_page(void *context)
{
    (void)context;
    if (pages_left == 0)
        return NULL;
    pages_left--;
    pages_out++;
    void *page = aligned_alloc(4096, 4096);
    memset(page, 0x77, 4096); /* content nobody may rely on */
    return page;
}

static void free_page(void *context, void *page)
{
    (void)context;
    pages_out--;
    free(page);
}

static const struct block_pages pages = {alloc_page, free_page, NULL};

static void start(uint64_t seed, const struct block_pages *from)
{
    driver_init(&d, seed);
    image = malloc(IMAGE_BYTES); /* exact: the sanitizer sees a read behind it */
    memset(disk, 0, sizeof(disk));
    for (unsigned i = 0; i < IMAGE_BYTES; i++)
        disk[i] = image[i] = (uint8_t)test_random(&d.random);
    pages_out = 0;
    pages_left = 1000;
    virtio_block_init(&device, &d.dma, &d.irq, image, IMAGE_BYTES, from, "a serial number");
    d.device = &device.virtio;
}

static void end(void)
{
    virtio_block_destroy(&device);
    CHECK(pages_out == 0, "%u pages are not given back", pages_out);
    free(image);
    driver_free(&d);
}

/* --- requests --------------------------------------------------------------------------------- */

struct request {
    uint64_t data, status; /* addresses in the guest */
    uint32_t len;
};

/* Add a request of type `type`, its parts in at most `max` segments each. */
static struct request add(uint32_t type, uint64_t sector, uint32_t len, unsigned max, bool indirect)
{
    struct test_segment segment[VIRTIO_QUEUE_MAX];
    struct {
        uint32_t type, reserved;
        uint64_t sector;
    } header = {type, 0, sector};
    uint64_t block = allocate(&d, sizeof(header), 1);
    /* Data and status are one piece: segments may hold the end of one and the other. */
    struct request r = {.data = allocate(&d, len + 1, 1), .len = len};
    unsigned count = 0, readable;
    bool reads = type != T_OUT;

    r.status = reads ? r.data + len : allocate(&d, 1, 1);
    guest_write(&d, block, &header, sizeof(header));
    guest_write(&d, r.status, &(uint8_t){NO_STATUS}, 1);
    divide(&d, segment, &count, block, sizeof(header), max);
    if (!reads)
        divide(&d, segment, &count, r.data, len, max);
    readable = count;
    if (reads)
        divide(&d, segment, &count, r.data, len + 1, max);
    else
        divide(&d, segment, &count, r.status, 1, 1);
    add_request(&d, 0, segment, readable, count, indirect);
    return r;
}

static uint8_t status_of(const struct request *r)
{
    uint8_t status;

    guest_read(&d, r->status, &status, 1);
    return status;
}

/* Have the device do what waits; the status of `r`, the last. */
static uint8_t perform(const struct request *r)
{
    uint16_t head;
    uint32_t used;

    notify(&d, 0);
    CHECK(take_used(&d, 0, &head, &used), "done");
    return status_of(r);
}

/* Add one, notify, and give its status; the used entry says that `written` bytes were written. */
static uint8_t ask(uint32_t type, uint64_t sector, uint32_t len, uint32_t written)
{
    struct request r = add(type, sector, len, 1, false);
    uint16_t head;
    uint32_t used = UINT32_MAX;

    notify(&d, 0);
    CHECK(take_used(&d, 0, &head, &used) && used == written, "%u bytes written", used);
    return status_of(&r);
}

static const uint8_t *data_of(const struct request *r)
{
    return guest_ram_at(&d.ram, gpa(r->data), r->len);
}

/* --- tests ------------------------------------------------------------------------------------ */

static void the_configuration_is_the_disks(void)
{
    start(1, &pages);
    CHECK(reg(&d, R_DEVICE) == 2, "a block device");
    CHECK(reg(&d, R_CONFIG) == SECTORS && reg(&d, R_CONFIG + 4) == 0, "capacity");
    CHECK(reg(&d, R_CONFIG + 8) == 65536 && reg(&d, R_CONFIG + 12) == 126, "size_max, seg_max");
    CHECK(reg(&d, R_CONFIG + 20) == 512, "blk_size");
    CHECK(virtio_read(d.device, R_CONFIG, 1) == SECTORS, "by bytes");
    CHECK(virtio_read(d.device, R_CONFIG + 22, 4) == 0, "behind its end");
    set_reg(&d, R_CONFIG, 5);
    CHECK(reg(&d, R_CONFIG) == SECTORS, "read only");
    CHECK((offered(&d) & 0xffffff) == (1 << 1 | 1 << 2 | 1 << 6 | 1 << 9), "features");
    end();
    start(1, NULL);
    CHECK((offered(&d) & 0xffffff) == (1 << 1 | 1 << 2 | 1 << 6 | 1 << 5), "read-only: features");
    end();
}

/* A request to read or write any sectors, and the same of `disk`. */
static void random_request(bool indirect)
{
    unsigned most = d.queue[0].size / 4 < 5 ? d.queue[0].size / 4 : 5; /* segments of each part */
    uint64_t sector = test_below(&d, SECTORS);
    uint32_t len = SECTOR * (uint32_t)test_below(&d, SECTORS - sector + 1);
    bool out = test_below(&d, 2);
    struct request r =
        add(out ? T_OUT : T_IN, sector, len, 1 + (unsigned)test_below(&d, most), indirect);
    uint8_t *there = disk + sector * SECTOR;
    uint16_t head;
    uint32_t used;

    notify(&d, 0);
    CHECK(take_used(&d, 0, &head, &used) && used == (out ? 1 : len + 1), "%u used", used);
    CHECK(status_of(&r) == OK, "status %u", status_of(&r));
    if (out && len > 0)
        memcpy(there, data_of(&r), len);
    else if (len > 0)
        CHECK(memcmp(there, data_of(&r), len) == 0, "sector %u, %u bytes", (unsigned)sector, len);
}

static void reads_and_writes_are_those_of_a_disk(void)
{
    start(2, &pages);
    for (unsigned n = 0; n < 8000; n++) {
        uint64_t features = test_random(&d.random) & (F_INDIRECT | F_EVENT_IDX);
        if (n % 100 == 0)
            virtio_block_reset(&device); /* the content stays */
        forget_allocations(&d);
        set_up(&d, features, 16u << test_below(&d, 4));
        for (unsigned i = 0; i < 5; i++)
            random_request((features & F_INDIRECT) && test_below(&d, 2));
    }
    CHECK(device.copied == 4 && pages_out == 4 + 3, "%u pages", pages_out);
    uint8_t now[IMAGE_BYTES];
    memcpy(now, image, IMAGE_BYTES);
    virtio_block_destroy(&device);
    forget_allocations(&d);
    set_up(&d, 0, 8);
    struct request r = add(T_IN, 0, DISK_BYTES, 1, false);
    notify(&d, 0);
    CHECK(memcmp(now, data_of(&r), IMAGE_BYTES) == 0, "without copies it is the image");
    end();
}

/* Many at once are answered in order, with one notification. */
static void a_full_queue_is_served_at_once(void)
{
    struct request r[32];
    uint16_t head;
    uint32_t used;

    start(3, &pages);
    set_up(&d, F_INDIRECT, 32);
    for (unsigned i = 0; i < 32; i++)
        r[i] = add(i % 2 ? T_IN : T_OUT, i / 2, SECTOR, 1, true);
    notify(&d, 0);
    CHECK(!virtio_has_work(d.device), "all of it");
    CHECK(d.raises == 1, "one interrupt");
    for (unsigned i = 0; i < 32; i++) {
        CHECK(take_used(&d, 0, &head, &used) && status_of(&r[i]) == OK, "request %u", i);
        if (i % 2)
            CHECK(memcmp(data_of(&r[i]), data_of(&r[i - 1]), SECTOR) == 0, "sector %u", i / 2);
    }
    end();
}

static void what_is_not_on_the_disk_is_an_error(void)
{
    start(4, &pages);
    set_up(&d, 0, 8);
    CHECK(ask(T_IN, SECTORS - 1, SECTOR, SECTOR + 1) == OK, "the last sector");
    CHECK(ask(T_IN, SECTORS, 0, 1) == OK, "none, behind it");
    CHECK(ask(T_IN, SECTORS, SECTOR, 0) == IOERR, "one, behind it");
    CHECK(ask(T_IN, SECTORS - 1, 2 * SECTOR, 0) == IOERR, "across the end");
    CHECK(ask(T_IN, UINT64_MAX, SECTOR, 0) == IOERR, "a sector that wraps");
    CHECK(ask(T_IN, 1ull << 55, SECTOR, 0) == IOERR, "an address that wraps to 0");
    CHECK(ask(T_IN, 0, SECTOR - 1, 0) == IOERR, "no whole sector");
    CHECK(ask(T_OUT, SECTORS, SECTOR, 1) == IOERR, "writing behind it");
    CHECK(ask(T_OUT, 1ull << 55, SECTOR, 1) == IOERR, "writing at an address that wraps");
    CHECK(ask(T_OUT, 0, SECTOR + 1, 1) == IOERR, "writing no whole sector");
    CHECK(pages_out == 0, "nothing was copied for them");
    CHECK(ask(T_FLUSH, 0, 0, 1) == OK, "flush");
    CHECK(ask(2, 0, 0, 1) == UNSUPP && ask(0xffffffff, 0, 16, 0) == UNSUPP, "unknown types");
    CHECK(reg(&d, R_STATUS) == 0x0f, "none of it breaks the device");
    end();
}

static void the_id_is_given(void)
{
    start(5, NULL);
    set_up(&d, 0, 8);
    struct request r = add(T_GET_ID, 0, 20, 1, false);
    CHECK(perform(&r) == OK && memcmp(data_of(&r), "a serial number\0\0\0\0\0", 20) == 0, "id");
    r = add(T_GET_ID, 0, 8, 1, false);
    CHECK(perform(&r) == OK && memcmp(data_of(&r), "a serial", 8) == 0, "what there is room for");
    r = add(T_GET_ID, 0, 100, 1, false);
    CHECK(perform(&r) == OK, "more room than needed");
    end();
}

static void a_read_only_disk_is_not_written(void)
{
    start(6, NULL);
    set_up(&d, 0, 8);
    CHECK(ask(T_OUT, 0, SECTOR, 1) == IOERR, "a write");
    struct request r = add(T_IN, 0, DISK_BYTES, 1, false);
    CHECK(perform(&r) == OK && memcmp(data_of(&r), disk, DISK_BYTES) == 0, "content");
    end();
}

/* For any number of pages that there are: a write that finds none fails, others do not suffer. */
static void without_memory_a_write_fails(void)
{
    for (unsigned have = 0; have < 6; have++) {
        start(7 + have, &pages);
        set_up(&d, 0, 8);
        pages_left = have;
        bool fits = have >= 4; /* three for the tree */
        struct request w = add(T_OUT, 3, SECTOR, 1, false);
        CHECK(perform(&w) == (fits ? OK : IOERR), "%u pages: status %u", have, status_of(&w));
        if (fits)
            memcpy(disk + 3 * SECTOR, data_of(&w), SECTOR);
        struct request r = add(T_IN, 0, DISK_BYTES, 1, false);
        CHECK(perform(&r) == OK && memcmp(data_of(&r), disk, DISK_BYTES) == 0, "content");
        pages_left = 1000;
        w = add(T_OUT, 9, 2 * SECTOR, 1, false);
        CHECK(perform(&w) == OK, "when there is memory again");
        memcpy(disk + 9 * SECTOR, data_of(&w), 2 * SECTOR);
        r = add(T_IN, 0, DISK_BYTES, 1, false);
        CHECK(perform(&r) == OK && memcmp(data_of(&r), disk, DISK_BYTES) == 0, "content");
        end();
    }
}

/* Without room for a status there is nothing to answer with: 2.1's last resort. */
static void requests_without_a_status_break_the_device(void)
{
    uint64_t at;

    start(20, &pages);
    for (unsigned what = 0; what < 3; what++) {
        forget_allocations(&d);
        set_up(&d, 0, 8);
        at = allocate(&d, 64, 16);
        struct test_segment segment[] = {{at, what == 1 ? 15 : 16}, {at + 32, 1}};
        if (what == 2)
            add_request(&d, 0, segment + 1, 0, 1, false);
        else
            add_request(&d, 0, segment, 1, 1 + what, false);
        notify(&d, 0);
        CHECK(reg(&d, R_STATUS) & S_NEEDS_RESET, "case %u", what);
    }
    forget_allocations(&d);
    set_up(&d, 0, 8);
    CHECK(ask(T_IN, 0, SECTOR, SECTOR + 1) == OK, "after a reset");
    end();
}

/* A large disk of the host's, and a guest whose requests use the same memory many times. */
static void work_is_bounded(void)
{
    enum { LARGE = 32 << 20, PIECE = 65536, PIECES = 120 };
    struct test_segment segment[VIRTIO_QUEUE_MAX];
    uint8_t *large = calloc(1, LARGE);
    uint64_t header = 64, data = 4096, works = 0;
    uint16_t head;
    uint32_t used;

    start(21, NULL);
    virtio_block_init(&device, &d.dma, &d.irq, large, LARGE, NULL, "");
    d.low_used = data + PIECE;
    set_up(&d, F_INDIRECT, 16);
    guest_write(&d, header, large, 16); /* zeros: IN, sector 0 */
    segment[0] = (struct test_segment){header, 16};
    for (unsigned i = 1; i <= PIECES; i++)
        segment[i] = (struct test_segment){data, PIECE};
    segment[PIECES + 1] = (struct test_segment){data, 1};
    for (unsigned i = 0; i < 16; i++)
        add_request(&d, 0, segment, 1, PIECES + 2, true);
    d.written_bytes = 0;
    notify(&d, 0);
    CHECK(virtio_has_work(d.device), "not all at once");
    while (virtio_has_work(d.device) && works < 100) {
        CHECK(d.written_bytes < (20u << 20), "%llu bytes in one work",
              (unsigned long long)d.written_bytes);
        d.written_bytes = 0;
        virtio_work(d.device);
        works++;
    }
    CHECK(works >= 7 && works < 20, "%llu works", (unsigned long long)works);
    for (unsigned i = 0; i < 16; i++)
        CHECK(take_used(&d, 0, &head, &used) && used == PIECES * PIECE + 1, "request %u", i);
    /* A request that is larger than a driver may make it */
    for (unsigned i = 1; i <= PIECES; i++)
        segment[i].len = 2 * PIECE;
    segment[PIECES + 1].at = 32;
    add_request(&d, 0, segment, 1, PIECES + 2, true);
    notify(&d, 0);
    uint8_t status;
    guest_read(&d, 32, &status, 1);
    CHECK(status == IOERR, "too large: status %u", status);
    end();
    free(large);
}

/* Requests of which everything is random but the ring. */
static void random_requests_are_survived(void)
{
    unsigned done = 0;
    uint16_t head;
    uint32_t used;

    start(22, &pages);
    for (unsigned n = 0; n < 30000; n++) {
        struct test_segment segment[6];
        unsigned readable = 1 + (unsigned)test_below(&d, 3);
        unsigned count = readable + (unsigned)test_below(&d, 3);
        uint32_t header[4] = {(uint32_t)test_below(&d, 10), 0, (uint32_t)test_below(&d, 40), 0};
        forget_allocations(&d);
        set_up(&d, F_INDIRECT, 8);
        for (unsigned i = 0; i < count; i++) {
            uint32_t len = (uint32_t)(SECTOR * test_below(&d, 9) + test_below(&d, 20));
            segment[i] = (struct test_segment){allocate(&d, len + 32, 1), len + (len == 0)};
        }
        guest_write(&d, segment[0].at, header, sizeof(header));
        pages_left = (unsigned)test_below(&d, 3);
        add_request(&d, 0, segment, readable, count, test_below(&d, 2));
        notify(&d, 0);
        done += take_used(&d, 0, &head, &used);
        if (n % 64 == 0)
            CHECK(writes_are_told(&d), "a write that nobody was told of");
    }
    CHECK(done > 10000, "%u", done);
    end();
}

int main(void)
{
    RUN(the_configuration_is_the_disks);
    RUN(reads_and_writes_are_those_of_a_disk);
    RUN(a_full_queue_is_served_at_once);
    RUN(what_is_not_on_the_disk_is_an_error);
    RUN(the_id_is_given);
    RUN(a_read_only_disk_is_not_written);
    RUN(without_memory_a_write_fails);
    RUN(requests_without_a_status_break_the_device);
    RUN(work_is_bounded);
    RUN(random_requests_are_survived);
    return test_status();
}
