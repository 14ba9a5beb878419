/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The virtio-mmio transport and split queues, with the smallest device there is, the entropy
 * source: the standard's rules for drivers that keep them, and what becomes of those that do not.
 */
#include "hv/dev/virtio_entropy.h"

#include "tests/host/virtio_driver.h"

static struct virtio_entropy device;
static struct test_driver d;
static uint64_t random_words;

/* Bytes that are recognised: each of a word is 0xa5. */
static uint64_t give_random(void *context)
{
    (void)context;
    random_words++;
    return 0xa5a5a5a5a5a5a5a5ull;
}

static void start(uint64_t seed)
{
    driver_init(&d, seed);
    virtio_entropy_init(&device, &d.dma, &d.irq, give_random, NULL);
    d.device = &device.virtio;
}

/* A request for `len` random bytes in one segment. */
static uint16_t ask(uint32_t len, uint64_t *at)
{
    *at = allocate(&d, len, 1);
    return add_request(&d, 0, &(struct test_segment){*at, len}, 0, 1, false);
}

static bool all_random(uint64_t at, uint32_t len)
{
    const uint8_t *host = guest_ram_at(&d.ram, gpa(at), len);

    for (uint32_t i = 0; i < len; i++) {
        if (host[i] != 0xa5)
            return false;
    }
    return true;
}

/* One request that must succeed. */
static void one_good_request(void)
{
    uint64_t at;
    uint16_t wanted = ask(32, &at), head;
    uint32_t len;

    notify(&d, 0);
    CHECK(take_used(&d, 0, &head, &len) && head == wanted && len == 32, "a good request");
    CHECK(all_random(at, 32), "its bytes");
    CHECK(!take_used(&d, 0, &head, &len), "only one");
}

/* --- registers -------------------------------------------------------------------------------- */

static void registers_are_as_the_standard_has_them(void)
{
    start(1);
    CHECK(reg(&d, R_MAGIC) == 0x74726976 && reg(&d, R_VERSION) == 2, "magic and version");
    CHECK(reg(&d, R_DEVICE) == 4, "an entropy source");
    CHECK(offered(&d) == (F_VERSION_1 | F_EVENT_IDX | F_INDIRECT), "features");
    set_reg(&d, R_FEATURES_SEL, 2);
    CHECK(reg(&d, R_FEATURES) == 0, "no features from 64 on");
    CHECK(reg(&d, R_QUEUE_MAX) == VIRTIO_QUEUE_MAX, "queue 0");
    set_reg(&d, R_QUEUE_SEL, 1);
    CHECK(reg(&d, R_QUEUE_MAX) == 0 && reg(&d, R_QUEUE_READY) == 0, "no queue 1");
    set_reg(&d, R_QUEUE_NUM, 8);
    set_reg(&d, R_QUEUE_READY, 1);
    CHECK(reg(&d, R_QUEUE_READY) == 0 && reg(&d, R_STATUS) == 0, "nothing there to start");
    CHECK(reg(&d, 0xb0) == UINT32_MAX && reg(&d, 0xb4) == UINT32_MAX, "no shared memory");
    CHECK(virtio_read(d.device, R_MAGIC, 1) == 0 && virtio_read(d.device, R_MAGIC + 2, 2) == 0,
          "registers are four bytes wide");
    virtio_write(d.device, R_STATUS, 1, S_ACK);
    CHECK(reg(&d, R_STATUS) == 0, "in writing, too");
    for (unsigned offset = R_CONFIG; offset < VIRTIO_MMIO_STRIDE; offset++)
        CHECK(virtio_read(d.device, offset, 1) == 0, "no configuration at 0x%x", offset);
    driver_free(&d);
}

static void features_are_negotiated(void)
{
    static const uint64_t bad[] = {0, F_EVENT_IDX, F_VERSION_1 | 1, F_VERSION_1 | 1ull << 63};

    start(2);
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        set_reg(&d, R_STATUS, 0);
        set_reg(&d, R_STATUS, S_ACK | S_DRIVER);
        accept(&d, bad[i]);
        set_reg(&d, R_STATUS, S_ACK | S_DRIVER | S_FEATURES_OK);
        CHECK(reg(&d, R_STATUS) == (S_ACK | S_DRIVER), "features %llx", (unsigned long long)bad[i]);
        set_reg(&d, R_STATUS, S_ACK | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK);
        CHECK(reg(&d, R_STATUS) == (S_ACK | S_DRIVER), "and no way around");
    }
    accept(&d, F_VERSION_1);
    set_reg(&d, R_STATUS, S_ACK | S_DRIVER | S_FEATURES_OK);
    CHECK(reg(&d, R_STATUS) == (S_ACK | S_DRIVER | S_FEATURES_OK), "good ones");
    accept(&d, F_VERSION_1 | F_EVENT_IDX | 1);
    CHECK(!virtio_has_feature(d.device, 29) && !virtio_has_feature(d.device, 0), "then fixed");
    set_reg(&d, R_STATUS, S_ACK);
    CHECK(reg(&d, R_STATUS) == (S_ACK | S_DRIVER | S_FEATURES_OK), "bits are not taken back");
    set_reg(&d, R_STATUS, 0xffffffff);
    CHECK(reg(&d, R_STATUS) == 0x8f, "a driver cannot ask itself for a reset: 0x%x",
          reg(&d, R_STATUS));
    driver_free(&d);
}

static void nothing_moves_before_driver_ok(void)
{
    uint64_t at;
    uint16_t wanted, head;
    uint32_t len;

    start(3);
    negotiate(&d, F_VERSION_1);
    set_up_queue(&d, 0, 8);
    wanted = ask(16, &at);
    notify(&d, 0);
    CHECK(!take_used(&d, 0, &head, &len) && !d.line, "before DRIVER_OK");
    driver_ok(&d);
    CHECK(take_used(&d, 0, &head, &len) && head == wanted && len == 16, "then by itself");
    CHECK(d.line, "with an interrupt");
    notify(&d, 1);
    notify(&d, 0xffffffff);
    CHECK(reg(&d, R_STATUS) == 0x0f, "notifications of no queue");
    driver_free(&d);
}

static void the_line_is_up_until_it_is_acknowledged(void)
{
    start(4);
    set_up(&d, 0, 8);
    CHECK(!d.line && reg(&d, R_INTERRUPT) == 0, "at first");
    one_good_request();
    CHECK(d.line && reg(&d, R_INTERRUPT) == 1, "a used buffer");
    set_reg(&d, R_ACK, 2);
    CHECK(d.line, "another cause was acknowledged");
    set_reg(&d, R_ACK, 1);
    CHECK(!d.line && reg(&d, R_INTERRUPT) == 0, "acknowledged");
    guest_put16(&d, d.queue[0].avail, 1); /* VIRTQ_AVAIL_F_NO_INTERRUPT */
    one_good_request();
    CHECK(!d.line, "not wanted");
    notify(&d, 0);
    guest_put16(&d, d.queue[0].avail, 0);
    notify(&d, 0);
    CHECK(!d.line, "nothing new");
    one_good_request();
    CHECK(d.line, "wanted");
    driver_free(&d);
}

static void a_reset_forgets_everything(void)
{
    start(5);
    set_up(&d, F_EVENT_IDX, 8);
    one_good_request();
    CHECK(d.line, "an interrupt waits");
    set_reg(&d, R_STATUS, 0);
    CHECK(!d.line && reg(&d, R_INTERRUPT) == 0 && reg(&d, R_STATUS) == 0, "status and interrupt");
    set_reg(&d, R_QUEUE_SEL, 0);
    CHECK(reg(&d, R_QUEUE_READY) == 0, "queue");
    CHECK(!virtio_has_feature(d.device, 29), "features");
    set_up(&d, 0, 4);
    one_good_request();
    driver_free(&d);
}

static void a_queue_can_be_stopped_and_started(void)
{
    uint64_t at;
    uint16_t head;
    uint32_t len;

    start(6);
    set_up(&d, 0, 4);
    one_good_request();
    set_reg(&d, R_QUEUE_SEL, 0);
    set_reg64(&d, R_DESC, 0);
    one_good_request(); /* it keeps its place while it is in use */
    set_reg(&d, R_QUEUE_READY, 0);
    ask(16, &at);
    notify(&d, 0);
    CHECK(!take_used(&d, 0, &head, &len), "stopped");
    set_up_queue(&d, 0, 16);
    one_good_request();
    driver_free(&d);
}

/* --- what a driver must not do ---------------------------------------------------------------- */

static void bad_queues_are_refused(void)
{
    static const struct {
        uint32_t size;
        uint64_t desc, avail, used;
    } bad[] = {
        {0, 0x1000, 0x2000, 0x3000},
        {3, 0x1000, 0x2000, 0x3000},
        {VIRTIO_QUEUE_MAX * 2, 0x1000, 0x2000, 0x3000},
        {65536 + 8, 0x1000, 0x2000, 0x3000},
        {8, 0x1008, 0x2000, 0x3000},
        {8, 0x1000, 0x2001, 0x3000},
        {8, 0x1000, 0x2000, 0x3002},
        {8, RAM_LOW - 8 * 16 + 16, 0x2000, 0x3000},
        {8, 0x1000, RAM_LOW - 20, 0x3000},
        {8, 0x1000, 0x2000, RAM_LOW - 68},
        {8, HIGH_BASE - 16, 0x2000, 0x3000},
        {8, HIGH_BASE + RAM_HIGH, 0x2000, 0x3000},
        {8, 0xfffffffffffffff0ull, 0x2000, 0x3000},
        {8, 0x1000, 0xfffffffffffffffeull, 0x3000},
        {8, 0x1000, 0x2000, 0xfffffffffffffffcull},
    };

    start(7);
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        negotiate(&d, F_VERSION_1);
        set_reg(&d, R_QUEUE_NUM, bad[i].size);
        set_reg64(&d, R_DESC, bad[i].desc);
        set_reg64(&d, R_AVAIL, bad[i].avail);
        set_reg64(&d, R_USED, bad[i].used);
        set_reg(&d, R_QUEUE_READY, 1);
        CHECK(reg(&d, R_QUEUE_READY) == 0 && (reg(&d, R_STATUS) & S_NEEDS_RESET), "queue %u", i);
        CHECK(!d.line, "no interrupt before DRIVER_OK");
    }
    set_up(&d, 0, VIRTIO_QUEUE_MAX);
    one_good_request();
    driver_free(&d);
}

/* The last bytes of RAM are RAM: rings that end there. */
static void rings_may_end_where_ram_does(void)
{
    struct test_queue *q = &d.queue[0];

    start(8);
    negotiate(&d, F_VERSION_1 | F_EVENT_IDX);
    *q = (struct test_queue){.size = 8, .free_count = 8, .free = {0, 1, 2, 3, 4, 5, 6, 7}};
    q->desc = RAM_LOW - 8 * 16;
    q->avail = HIGH_BASE;
    q->used = HIGH_BASE + RAM_HIGH - (6 + 8 * 8) - 2; /* a multiple of 4 */
    guest_put16(&d, q->avail + 2, 0);
    guest_put16(&d, q->used + 2, 0);
    d.high_used = 64;
    set_reg(&d, R_QUEUE_NUM, 8);
    set_reg64(&d, R_DESC, q->desc);
    set_reg64(&d, R_AVAIL, q->avail);
    set_reg64(&d, R_USED, q->used);
    set_reg(&d, R_QUEUE_READY, 1);
    driver_ok(&d);
    for (unsigned i = 0; i < 20; i++)
        one_good_request();
    driver_free(&d);
}

/* Each puts something wrong in the queue, whose entries are 8, and makes descriptor 0 available. */

static void desc(unsigned index, uint64_t at, uint32_t len, unsigned flags, unsigned next)
{
    put_descriptor(&d, d.queue[0].desc, index, at, len, flags, next);
}

static void head_beyond_the_table(void)
{
    make_available(&d, 0, 8);
}

static void next_beyond_the_table(void)
{
    desc(0, 0x100, 16, D_WRITE | D_NEXT, 8);
    make_available(&d, 0, 0);
}

static void loop_of_one(void)
{
    desc(0, 0x100, 16, D_WRITE | D_NEXT, 0);
    make_available(&d, 0, 0);
}

static void loop_of_many(void)
{
    for (unsigned i = 0; i < 8; i++)
        desc(i, 0x100, 16, D_WRITE | D_NEXT, (i + 1) % 8);
    make_available(&d, 0, 0);
}

static void no_length(void)
{
    desc(0, 0x100, 0, D_WRITE, 0);
    make_available(&d, 0, 0);
}

static void beyond_ram(void)
{
    desc(0, RAM_LOW - 8, 16, D_WRITE, 0);
    make_available(&d, 0, 0);
}

static void between_the_parts_of_ram(void)
{
    desc(0, HIGH_BASE - 8, 16, D_WRITE, 0);
    make_available(&d, 0, 0);
}

static void around_the_end_of_addresses(void)
{
    desc(0, UINT64_MAX - 7, 16, D_WRITE, 0);
    make_available(&d, 0, 0);
}

static void around_by_length(void)
{
    desc(0, 0x1000, UINT32_MAX, D_WRITE, 0);
    make_available(&d, 0, 0);
}

static void readable_behind_writable(void)
{
    desc(0, 0x100, 16, D_WRITE | D_NEXT, 1);
    desc(1, 0x200, 16, 0, 0);
    make_available(&d, 0, 0);
}

static void a_jump_of_the_index(void)
{
    desc(0, 0x100, 16, D_WRITE, 0);
    make_available(&d, 0, 0);
    d.queue[0].added = (uint16_t)(d.queue[0].added + 8);
    guest_put16(&d, d.queue[0].avail + 2, d.queue[0].added);
}

static void an_index_that_goes_back(void)
{
    guest_put16(&d, d.queue[0].avail + 2, (uint16_t)(d.queue[0].added - 1));
}

static void indirect_with_next(void)
{
    put_descriptor(&d, 0x400, 0, 0x100, 16, D_WRITE, 0);
    desc(0, 0x400, 16, D_INDIRECT | D_NEXT, 1);
    desc(1, 0x100, 16, D_WRITE, 0);
    make_available(&d, 0, 0);
}

static void indirect_in_indirect(void)
{
    put_descriptor(&d, 0x400, 0, 0x400, 16, D_INDIRECT, 0);
    desc(0, 0x400, 16, D_INDIRECT, 0);
    make_available(&d, 0, 0);
}

static void indirect_of_no_length(void)
{
    desc(0, 0x400, 0, D_INDIRECT, 0);
    make_available(&d, 0, 0);
}

static void indirect_of_odd_length(void)
{
    put_descriptor(&d, 0x400, 0, 0x100, 16, D_WRITE, 0);
    desc(0, 0x400, 24, D_INDIRECT, 0);
    make_available(&d, 0, 0);
}

static void indirect_beyond_ram(void)
{
    desc(0, RAM_LOW - 16, 32, D_INDIRECT, 0);
    make_available(&d, 0, 0);
}

static void indirect_next_beyond_its_table(void)
{
    put_descriptor(&d, 0x400, 0, 0x100, 16, D_WRITE | D_NEXT, 1);
    put_descriptor(&d, 0x400, 1, 0x100, 16, D_WRITE, 0);
    desc(0, 0x400, 16, D_INDIRECT, 0);
    make_available(&d, 0, 0);
}

static void indirect_loop(void)
{
    put_descriptor(&d, 0x400, 0, 0x100, 16, D_WRITE | D_NEXT, 1);
    put_descriptor(&d, 0x400, 1, 0x100, 16, D_WRITE | D_NEXT, 0);
    desc(0, 0x400, 32, D_INDIRECT, 0);
    make_available(&d, 0, 0);
}

static void one_segment_too_many(void)
{
    for (unsigned i = 0; i <= VIRTIO_QUEUE_MAX; i++)
        put_descriptor(&d, 0x2000, i, 0x100, 1, D_WRITE | (i < VIRTIO_QUEUE_MAX ? D_NEXT : 0u),
                       i + 1);
    desc(0, 0x2000, 16 * (VIRTIO_QUEUE_MAX + 1), D_INDIRECT, 0);
    make_available(&d, 0, 0);
}

static void indirect_without_the_feature(void)
{
    put_descriptor(&d, 0x400, 0, 0x100, 16, D_WRITE, 0);
    desc(0, 0x400, 16, D_INDIRECT, 0);
    make_available(&d, 0, 0);
}

static const struct {
    const char *name;
    void (*act)(void);
    uint64_t features;
} wrongs[] = {
    {"head_beyond_the_table", head_beyond_the_table, 0},
    {"next_beyond_the_table", next_beyond_the_table, 0},
    {"loop_of_one", loop_of_one, 0},
    {"loop_of_many", loop_of_many, F_EVENT_IDX},
    {"no_length", no_length, 0},
    {"beyond_ram", beyond_ram, 0},
    {"between_the_parts_of_ram", between_the_parts_of_ram, 0},
    {"around_the_end_of_addresses", around_the_end_of_addresses, 0},
    {"around_by_length", around_by_length, 0},
    {"readable_behind_writable", readable_behind_writable, 0},
    {"a_jump_of_the_index", a_jump_of_the_index, 0},
    {"an_index_that_goes_back", an_index_that_goes_back, F_EVENT_IDX},
    {"indirect_with_next", indirect_with_next, F_INDIRECT},
    {"indirect_in_indirect", indirect_in_indirect, F_INDIRECT},
    {"indirect_of_no_length", indirect_of_no_length, F_INDIRECT},
    {"indirect_of_odd_length", indirect_of_odd_length, F_INDIRECT},
    {"indirect_beyond_ram", indirect_beyond_ram, F_INDIRECT},
    {"indirect_next_beyond_its_table", indirect_next_beyond_its_table, F_INDIRECT},
    {"indirect_loop", indirect_loop, F_INDIRECT},
    {"one_segment_too_many", one_segment_too_many, F_INDIRECT},
    {"indirect_without_the_feature", indirect_without_the_feature, F_EVENT_IDX},
};

/* Each ends this device's service, tells the driver, and a reset mends it. */
static void broken_rings_need_a_reset(void)
{
    uint16_t head;
    uint32_t len;

    start(9);
    for (unsigned i = 0; i < ARRAY_SIZE(wrongs); i++) {
        const char *name = wrongs[i].name;
        forget_allocations(&d);
        d.low_used = 0x4000; /* below it is what the wrongs use */
        set_up(&d, wrongs[i].features, 8);
        one_good_request();
        set_reg(&d, R_ACK, 3);
        uint64_t words = random_words;
        wrongs[i].act();
        notify(&d, 0);
        CHECK(reg(&d, R_STATUS) & S_NEEDS_RESET, "%s", name);
        CHECK(d.line && reg(&d, R_INTERRUPT) == 2, "%s: told by a change of the configuration",
              name);
        CHECK(random_words == words && !take_used(&d, 0, &head, &len), "%s: not served", name);
        CHECK(!virtio_has_work(d.device), "%s: no work is left", name);
        desc(0, 0x100, 16, D_WRITE, 0);
        make_available(&d, 0, 0);
        notify(&d, 0);
        driver_ok(&d);
        CHECK(!take_used(&d, 0, &head, &len), "%s: nor anything after it", name);
    }
    forget_allocations(&d);
    set_up(&d, 0, 8);
    one_good_request();
    driver_free(&d);
}

/* Allowed, if unusual: 2.7.5.3.2. */
static void direct_descriptors_may_lead_to_an_indirect_one(void)
{
    uint16_t head;
    uint32_t len;

    start(10);
    d.low_used = 0x4000;
    set_up(&d, F_INDIRECT, 8);
    put_descriptor(&d, 0x401, 2, 0x300, 5, D_WRITE, 0);
    put_descriptor(&d, 0x401, 0, 0x200, 7, D_WRITE | D_NEXT, 2);
    desc(3, 0x100, 20, D_WRITE | D_NEXT, 6);
    desc(6, 0x401, 3 * 16, D_INDIRECT | D_WRITE, 0); /* WRITE says nothing here */
    d.queue[0].length_of[3] = 1;
    make_available(&d, 0, 3);
    notify(&d, 0);
    CHECK(take_used(&d, 0, &head, &len) && head == 3 && len == 32, "%u bytes", len);
    CHECK(all_random(0x100, 20) && all_random(0x200, 7) && all_random(0x300, 5), "all three");
    driver_free(&d);
}

static void a_chain_may_have_as_many_segments_as_a_queue(void)
{
    struct test_segment segment[VIRTIO_QUEUE_MAX];
    uint16_t head;
    uint32_t len;

    start(11);
    set_up(&d, F_INDIRECT, VIRTIO_QUEUE_MAX);
    for (unsigned indirect = 0; indirect < 2; indirect++) {
        for (unsigned i = 0; i < VIRTIO_QUEUE_MAX; i++)
            segment[i] = (struct test_segment){allocate(&d, 2, 1), 2};
        add_request(&d, 0, segment, 0, VIRTIO_QUEUE_MAX, indirect);
        notify(&d, 0);
        CHECK(take_used(&d, 0, &head, &len) && len == 256, "%u bytes", len);
        for (unsigned i = 0; i < VIRTIO_QUEUE_MAX; i++)
            CHECK(all_random(segment[i].at, 2), "segment %u", i);
    }
    driver_free(&d);
}

/* 2.7.5: a request has 2^32 bytes at most, and here less, so that 32 bits can count them. The same
 * memory may be in it many times. */
static void a_request_has_less_than_4_gib(void)
{
    const uint32_t len = (uint32_t)(GIB(4) / VIRTIO_QUEUE_MAX);
    struct test_segment segment[VIRTIO_QUEUE_MAX];
    uint16_t head;
    uint32_t used;

    start(14);
    free(d.ram.host);
    free(d.shadow);
    d.ram.high = len;
    d.ram.host = calloc(1, RAM_LOW + len); /* little of it is ever touched */
    d.shadow = calloc(1, RAM_LOW + len);
    for (unsigned i = 0; i < VIRTIO_QUEUE_MAX; i++)
        segment[i] = (struct test_segment){HIGH_BASE, len};
    for (unsigned bytes = 0; bytes < 2; bytes++) {
        forget_allocations(&d);
        d.high_used = 4096;
        set_up(&d, F_INDIRECT, 8);
        segment[0].len = len - 1 + bytes;
        add_request(&d, 0, segment, 0, VIRTIO_QUEUE_MAX, true);
        notify(&d, 0);
        CHECK(take_used(&d, 0, &head, &used) == (bytes == 0), "4 GiB, less %u", 1 - bytes);
        CHECK(((reg(&d, R_STATUS) & S_NEEDS_RESET) != 0) == (bytes == 1), "broken or not");
    }
    driver_free(&d);
}

/* 5.4.6.2: fewer bytes than asked for are an answer. */
static void an_answer_is_bounded(void)
{
    uint64_t at;
    uint16_t head;
    uint32_t len;

    start(15);
    set_up(&d, 0, 8);
    ask(1000, &at);
    notify(&d, 0);
    CHECK(take_used(&d, 0, &head, &len) && len == 256, "%u bytes", len);
    CHECK(all_random(at, 256) && !all_random(at, 257), "and no more are written");
    driver_free(&d);
}

/* --- event indices ---------------------------------------------------------------------------- */

/* The driver's side of 2.7.7 to 2.7.10, for any wishes of it; indices wrap around. */
static void event_indices_are_kept(void)
{
    uint64_t at, sent = 0, raised = 0;
    uint16_t head;
    uint32_t len;

    start(12);
    set_up(&d, F_EVENT_IDX, 16);
    for (unsigned n = 0; n < 30000; n++) {
        struct test_queue *q = &d.queue[0];
        unsigned batch = 1 + (unsigned)test_below(&d, 8);
        uint16_t before = q->added;
        uint16_t event = (uint16_t)(before + test_below(&d, 12) - 2);
        bool wanted = false;
        forget_allocations(&d);
        d.low_used = d.high_used = 0x2000; /* behind the rings */
        guest_put16(&d, q->avail + 4 + 2 * q->size, event);
        CHECK(guest_get16(&d, q->used + 4 + 8 * q->size) == before || n == 0,
              "the device asks for a notification of the next request");
        for (unsigned i = 0; i < batch; i++) {
            ask(1, &at);
            wanted |= (uint16_t)(before + i) == event;
        }
        notify(&d, 0);
        CHECK(d.line == wanted, "event %u, %u from %u", event, batch, before);
        raised += d.line;
        set_reg(&d, R_ACK, 1);
        for (unsigned i = 0; i < batch; i++)
            CHECK(take_used(&d, 0, &head, &len) && len == 1, "request %u", i);
        sent += batch;
    }
    CHECK(sent > 65536 * 2 && raised > 1000 && raised < 29000, "%llu interrupts",
          (unsigned long long)raised);
    driver_free(&d);
}

/* --- any driver ------------------------------------------------------------------------------- */

static uint64_t any_address(void)
{
    switch (test_below(&d, 8)) {
    case 0:
        return test_random(&d.random);
    case 1:
        return HIGH_BASE + test_below(&d, RAM_HIGH + 64);
    case 2:
        return RAM_LOW - test_below(&d, 64);
    default:
        return test_below(&d, RAM_LOW);
    }
}

static uint32_t any_length(void)
{
    return test_below(&d, 8) ? (uint32_t)test_below(&d, 600) : (uint32_t)test_random(&d.random);
}

static void write_anything(void)
{
    struct test_queue *q = &d.queue[0];
    unsigned index = (unsigned)test_below(&d, q->size + 1);

    switch (test_below(&d, 6)) {
    case 0:
    case 1:
        put_descriptor(&d, q->desc, index % q->size, any_address(), any_length(),
                       (unsigned)test_below(&d, 8), (unsigned)test_below(&d, q->size + 1));
        return;
    case 2:
        put_descriptor(&d, q->desc, index % q->size, test_below(&d, RAM_LOW),
                       16 * (uint32_t)test_below(&d, 9), D_INDIRECT, 0);
        return;
    case 3:
        make_available(&d, 0, (uint16_t)index);
        return;
    case 4:
        guest_put16(&d, q->avail + 2 * test_below(&d, q->size + 3),
                    (uint16_t)test_random(&d.random));
        return;
    default:
        put_descriptor(&d, test_below(&d, RAM_LOW - 16), 0, any_address(), any_length(),
                       (unsigned)test_below(&d, 4), (unsigned)test_below(&d, 4));
        return;
    }
}

/* Something right, or with a chance of 1 in `rarity` anything. */
static void act(uint64_t rarity)
{
    uint64_t at;

    if (test_below(&d, rarity) == 0)
        write_anything();
    else if (d.queue[0].free_count > 0)
        ask(1 + (uint32_t)test_below(&d, 600), &at);
    if (test_below(&d, 4) == 0)
        notify(&d, 0);
    if (test_below(&d, 16 * rarity) == 0)
        set_reg(&d, (unsigned)test_below(&d, 64) * 4, (uint32_t)test_random(&d.random));
    if (test_below(&d, 16 * rarity) == 0)
        set_reg(&d, (unsigned)test_below(&d, 64) * 4, (uint32_t)test_below(&d, RAM_LOW));
}

/* Nothing that a driver does harms more than its device, which a reset always mends. */
static void any_driver_harms_only_itself(void)
{
    unsigned broken = 0;

    start(13);
    for (unsigned n = 0; n < 60000; n++) {
        uint64_t rarity = 1 + n % 32;
        forget_allocations(&d);
        set_up(&d, test_random(&d.random) & (F_INDIRECT | F_EVENT_IDX), 1u << test_below(&d, 8));
        for (unsigned i = 0; i < 24; i++)
            act(rarity);
        notify(&d, 0);
        for (unsigned i = 0; i < 2000 && virtio_has_work(d.device); i++)
            virtio_work(d.device);
        CHECK(!virtio_has_work(d.device), "work without end");
        CHECK(d.line == (reg(&d, R_INTERRUPT) != 0), "line and status");
        broken += (reg(&d, R_STATUS) & S_NEEDS_RESET) != 0;
        if (n % 64 == 0)
            CHECK(writes_are_told(&d), "a write that nobody was told of");
        forget_allocations(&d);
        set_up(&d, 0, 8);
        one_good_request();
    }
    CHECK(broken > 10000 && broken < 50000, "%u broken", broken);
    driver_free(&d);
}

int main(void)
{
    RUN(registers_are_as_the_standard_has_them);
    RUN(features_are_negotiated);
    RUN(nothing_moves_before_driver_ok);
    RUN(the_line_is_up_until_it_is_acknowledged);
    RUN(a_reset_forgets_everything);
    RUN(a_queue_can_be_stopped_and_started);
    RUN(bad_queues_are_refused);
    RUN(rings_may_end_where_ram_does);
    RUN(broken_rings_need_a_reset);
    RUN(direct_descriptors_may_lead_to_an_indirect_one);
    RUN(a_chain_may_have_as_many_segments_as_a_queue);
    RUN(a_request_has_less_than_4_gib);
    RUN(an_answer_is_bounded);
    RUN(event_indices_are_kept);
    RUN(any_driver_harms_only_itself);
    return test_status();
}
