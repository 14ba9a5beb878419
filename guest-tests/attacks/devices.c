/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Devices in the hands of a driver that means harm: virtio rings of anything, the local APIC and
 * the I/O APIC programmed at random. Interrupts stay off; what would end the machine (INIT) or take
 * its only processor away is left out. After each a driver that keeps the rules must find a device
 * that works.
 */
#include "guest-tests/attacks/attacks.h"

static volatile uint32_t *register_at(uint64_t at)
{
    return (volatile uint32_t *)at;
}

/* An access of 1, 2, 4 or 8 bytes at any address. */
static void access_any(uint64_t at, uint64_t *random)
{
    uint64_t value = random_next(random);

    switch (random_below(random, 8)) {
    case 0:
        *(volatile uint8_t *)at = (uint8_t)value;
        break;
    case 1:
        *(volatile uint16_t *)at = (uint16_t)value;
        break;
    case 2:
        *(volatile uint32_t *)at = (uint32_t)value;
        break;
    case 3:
        *(volatile uint64_t *)at = value;
        break;
    case 4:
        (void)*(volatile uint8_t *)at;
        break;
    case 5:
        (void)*(volatile uint16_t *)at;
        break;
    case 6:
        (void)*(volatile uint32_t *)at;
        break;
    default:
        (void)*(volatile uint64_t *)at;
        break;
    }
}

/* --- virtio (1.2, 4.2.2) ---------------------------------------------------------------------- */

#define VIRTIO_BASE   0xd0000000ull
#define VIRTIO_STRIDE 0x1000u
#define VIRTIO_MAGIC  0x74726976u

enum {
    MAGIC_VALUE = 0x00,
    DEVICE_ID = 0x08,
    DRIVER_FEATURES = 0x20,
    DRIVER_FEATURES_SEL = 0x24,
    QUEUE_SEL = 0x30,
    QUEUE_NUM = 0x38,
    QUEUE_READY = 0x44,
    QUEUE_NOTIFY = 0x50,
    STATUS = 0x70,
    QUEUE_DESC = 0x80,
    QUEUE_DRIVER = 0x90,
    QUEUE_DEVICE = 0xa0,
};

#define STATUS_ALL_OK      15u /* ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK */
#define STATUS_NEGOTIATED  11u /* without DRIVER_OK */
#define STATUS_NEEDS_RESET 64u
#define FEATURE_VERSION_1  1u /* of the second word */
#define FEATURES_OF_RINGS  (3u << 28)
#define DESC_WRITE         2u

#define ID_BLOCK   2u
#define ID_CONSOLE 3u
#define ID_ENTROPY 4u
#define DEVICES    3u
#define QUEUES     2u
#define QUEUE_MAX  128u

struct descriptor {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};

/* All that a device may be told to read and write: rings and buffers. One page of it is a live page
 * table. */
#define SCRATCH_PAGES  24u
#define SCRATCH_BYTES  (SCRATCH_PAGES * PAGE)
#define SCRATCH_REGION (TEST_BASE + 17 * PAGE_1G)
#define VIRTIO_ROUNDS  50u
#define CONSOLE_LEN    3u /* bytes of a descriptor: what it prints goes to a slow line */

static uint64_t scratch, guard[2];

static uint64_t device_base(unsigned n)
{
    return VIRTIO_BASE + n * VIRTIO_STRIDE;
}

static void set_register(unsigned n, unsigned offset, uint32_t value)
{
    *register_at(device_base(n) + offset) = value;
}

static uint32_t get_register(unsigned n, unsigned offset)
{
    return *register_at(device_base(n) + offset);
}

static void set_address(unsigned n, unsigned offset, uint64_t value)
{
    set_register(n, offset, (uint32_t)value);
    set_register(n, offset + 4, (uint32_t)(value >> 32));
}

/* In the scratch memory mostly; else where no RAM is, in a window, in a device, at a wrap-around.
 */
static uint64_t any_place(uint64_t *random)
{
    static const uint64_t others[] = {
        NO_RAM,          0xd0000000ull,   0xfee00000ull,   0xfffffffffffffff0ull,
        0x8000000000ull, 0x4000000000ull, 0xc000000000ull, 0x7ffffffffffff000ull,
        1ull << 51};

    if (random_below(random, 6) == 0)
        return others[random_below(random, sizeof(others) / sizeof(others[0]))] +
               random_below(random, 3) * 8;
    return scratch + (random_below(random, SCRATCH_BYTES) & ~(random_below(random, 4) ? 15ull : 0));
}

static uint32_t any_length(uint64_t *random, bool console)
{
    static const uint32_t lengths[] = {0, 1, 16, 512, 4096, 0x7fffffff, 0xffffffff, 0xfffffff0};

    if (console)
        return (uint32_t)random_below(random, CONSOLE_LEN + 1u);
    return random_below(random, 2) ? (uint32_t)random_below(random, 2000)
                                   : lengths[random_below(random, 8)];
}

/* Rings of anything: each page of the scratch memory may be part of one. */
static void any_rings(uint64_t *random, bool console)
{
    for (uint64_t at = scratch; at < scratch + SCRATCH_BYTES; at += 3 * sizeof(struct descriptor)) {
        struct descriptor *d = (struct descriptor *)at;
        d->addr = any_place(random);
        d->len = any_length(random, console);
        d->flags = (uint16_t)random_below(random, 8);
        d->next = (uint16_t)random_below(random, random_below(random, 8) ? QUEUE_MAX : 0x10000);
    }
}

/* A driver's steps, most of them right. */
static void any_set_up(unsigned n, uint64_t *random)
{
    set_register(n, STATUS, 0);
    set_register(n, STATUS, 3);
    for (uint32_t word = 0; word < 2; word++) {
        set_register(n, DRIVER_FEATURES_SEL, word);
        uint32_t features = word ? FEATURE_VERSION_1 : FEATURES_OF_RINGS;
        if (random_below(random, 4) == 0)
            features &= (uint32_t)random_next(random);
        set_register(n, DRIVER_FEATURES, features);
    }
    set_register(n, STATUS, STATUS_NEGOTIATED);
    for (uint32_t q = 0; q < QUEUES; q++) {
        set_register(n, QUEUE_SEL, random_below(random, 16) ? q : (uint32_t)random_next(random));
        set_register(n, QUEUE_NUM,
                     random_below(random, 8) ? 1u << random_below(random, 8)
                                             : (uint32_t)random_next(random));
        set_address(n, QUEUE_DESC, any_place(random));
        set_address(n, QUEUE_DRIVER, any_place(random));
        set_address(n, QUEUE_DEVICE, any_place(random));
        set_register(n, QUEUE_READY, 1);
    }
    set_register(n, STATUS, STATUS_ALL_OK);
}

static uint64_t hash_of_guards(void)
{
    uint64_t hash = 0;

    for (unsigned g = 0; g < 2; g++) {
        for (uint64_t w = 0; w < PAGE; w += 8)
            hash = hash * 31 + *word_at(guard[g] + w);
    }
    return hash;
}

/* One request as it should be, to the entropy device: bytes come. */
static void entropy_works(unsigned n)
{
    uint64_t desc = page_alloc(), driver = page_alloc(), device = page_alloc(), to = page_alloc();

    set_register(n, STATUS, 0);
    CHECK_EQ(get_register(n, STATUS), 0, "a virtio device's status after its reset");
    set_register(n, STATUS, 3);
    set_register(n, DRIVER_FEATURES_SEL, 1);
    set_register(n, DRIVER_FEATURES, FEATURE_VERSION_1);
    set_register(n, STATUS, STATUS_NEGOTIATED);
    set_register(n, QUEUE_SEL, 0);
    set_register(n, QUEUE_NUM, 4);
    set_address(n, QUEUE_DESC, desc);
    set_address(n, QUEUE_DRIVER, driver);
    set_address(n, QUEUE_DEVICE, device);
    set_register(n, QUEUE_READY, 1);
    set_register(n, STATUS, STATUS_ALL_OK);
    *(struct descriptor *)desc = (struct descriptor){.addr = to, .len = 64, .flags = DESC_WRITE};
    ((volatile uint16_t *)driver)[1] = 1; /* the ring's first entry is descriptor 0 */
    set_register(n, QUEUE_NOTIFY, 0);
    CHECK_EQ(((volatile uint16_t *)device)[1], 1, "the entropy device's used index");
    CHECK_EQ(*word_at(device + 8) & 0xffffffff, 64, "the bytes that it wrote");
    uint64_t any = 0;
    for (unsigned i = 0; i < 8; i++)
        any |= word_at(to)[i];
    if (any == 0)
        fail("the entropy device gave zeros\n");
    set_register(n, STATUS, 0);
    page_free(desc);
    page_free(driver);
    page_free(device);
    page_free(to);
}

static void scratch_init(void)
{
    uint64_t root = attack_space();

    write_cr3(root);
    guard[0] = run_alloc(SCRATCH_BYTES + 2 * PAGE, PAGE);
    scratch = guard[0] + PAGE;
    guard[1] = scratch + SCRATCH_BYTES;
    for (uint64_t w = 0; w < PAGE; w += 8)
        *word_at(guard[0] + w) = *word_at(guard[1] + w) = value_of(w);
    *space_entry(root, SCRATCH_REGION, 2) = scratch + 5 * PAGE + (PTE_P | PTE_W | PTE_A);
}

static void touch_scratch_region(void)
{
    (void)*word_at(SCRATCH_REGION);
}

uint64_t attack_virtio(void)
{
    uint64_t random = attack_random(40), tries = 0, before;
    bool entropy = false;

    scratch_init();
    before = hash_of_guards();
    for (uint64_t round = 0; round < VIRTIO_ROUNDS * attack_rounds; round++) {
        unsigned n = (unsigned)random_below(&random, DEVICES);
        uint32_t id = get_register(n, DEVICE_ID);
        if (id == ~0u) /* no disk */
            continue;
        any_rings(&random, id == ID_CONSOLE);
        any_set_up(n, &random);
        try_run(touch_scratch_region); /* by the page table that the device may be writing */
        for (unsigned i = 0; i < 8; i++, tries++) {
            set_register(n, QUEUE_NOTIFY, (uint32_t)random_below(&random, QUEUES + 1));
            if (random_below(&random, 4) == 0)
                access_any(device_base(n) + random_below(&random, VIRTIO_STRIDE - 8), &random);
        }
        CHECK_EQ(get_register(n, MAGIC_VALUE), VIRTIO_MAGIC, "a virtio device's magic value");
        if (id == ID_ENTROPY) {
            entropy_works(n);
            entropy = true;
        }
        set_register(n, STATUS, 0);
    }
    CHECK_EQ(hash_of_guards(), before, "the pages beside what the devices were given");
    return entropy ? tries : 0;
}

/* --- the local APIC --------------------------------------------------------------------------- */

#define MSR_APIC_BASE   0x1bu
#define MSR_X2APIC      0x800u
#define X2APIC_MSRS     0x100u
#define BASE_X2APIC     (1ull << 10)
#define BASE_ENABLE     (1ull << 11)
#define APIC_ROUNDS     3000u
#define APIC_VERSION    0x30u
#define APIC_TPR        0x80u
#define APIC_IRR        0x200u
#define APIC_LVT_TIMER  0x320u
#define APIC_LVT_LINT0  0x350u
#define APIC_LVT_LINT1  0x360u
#define APIC_INITIAL    0x380u
#define APIC_DIVIDE     0x3e0u
#define LVT_MASKED      (1u << 16)
#define LVT_PERIODIC    (1u << 17)
#define DIVIDE_BY_1     0xbu
#define SELF            (1u << 18)
#define VECTOR_TEST     0x55u
#define DELIVERY        (7u << 8)
#define DELIVERY_LOWEST (1u << 8)
#define STORM_WORK      20000u

static uint32_t apic_read(unsigned offset)
{
    return *register_at(APIC + offset);
}

/* Values that would be an INIT, a SIPI or an NMI to this processor become fixed ones. */
static uint32_t tame(uint64_t offset, uint32_t value)
{
    bool dangerous = (offset & ~0xfull) == APIC_ICR || (offset & ~0xfull) == APIC_LVT_LINT0 ||
                     (offset & ~0xfull) == APIC_LVT_LINT1;

    return dangerous ? value & ~(DELIVERY & ~DELIVERY_LOWEST) : value;
}

static void apic_access_any(uint64_t *random)
{
    uint64_t offset = random_below(random, 64) * 16;
    uint32_t value = tame(offset, (uint32_t)random_next(random));

    if (random_below(random, 8) == 0)
        offset += random_below(random, 16);
    switch (random_below(random, 6)) {
    case 0:
        (void)*(volatile uint32_t *)(APIC + offset);
        break;
    case 1:
        (void)*(volatile uint8_t *)(APIC + offset);
        break;
    case 2:
        *(volatile uint16_t *)(APIC + offset) = (uint16_t)value;
        break;
    default:
        *(volatile uint32_t *)(APIC + offset) = value;
        break;
    }
}

static uint64_t base_value;

static void do_write_base(void)
{
    wrmsr(MSR_APIC_BASE, base_value);
}

static void write_base(uint64_t value)
{
    base_value = value;
    if (!try_run(do_write_base))
        fail("IA32_APIC_BASE = 0x%x gave exception %u\n", value, caught.vector);
}

/* By way of disabling it, which resets its registers: whatever was there before is gone. */
static void apic_begin_anew(uint64_t base)
{
    write_base(base & ~(BASE_ENABLE | BASE_X2APIC));
    write_base((base & ~BASE_X2APIC) | BASE_ENABLE);
}

static void apic_works(const char *what)
{
    apic_write(APIC_SVR, SVR_ENABLED);
    CHECK_EQ(apic_read(APIC_VERSION) & 0xff, 0x14, "the local APIC's version after %s", what);
    apic_write(APIC_ICR, SELF | VECTOR_TEST);
    CHECK_EQ(apic_read(APIC_IRR + VECTOR_TEST / 32 * 16), 1u << VECTOR_TEST % 32,
             "IRR after an interrupt to itself, after %s", what);
}

/* The registers follow IA32_APIC_BASE anywhere, but not over RAM (docs/guests.md). */
static uint64_t move_apic(uint64_t base, uint64_t *random)
{
    static const uint64_t places[] = {0xe0000000ull, 0xfec00000ull, 0xd0000000ull, 0xfffff000ull,
                                      0x3ffffff000ull};
    uint64_t tries = 0, ram = page_alloc();

    for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++, tries++) {
        uint64_t at = places[i];
        write_base(at | BASE_ENABLE);
        if (at < 4 * PAGE_1G)
            CHECK_EQ(*register_at(at + APIC_VERSION) & 0xff, 0x14, "the local APIC at 0x%x", at);
        write_base(base);
    }
    *word_at(ram + APIC_VERSION) = value_of(1);
    write_base(ram | BASE_ENABLE);
    CHECK_EQ(*word_at(ram + APIC_VERSION), value_of(1), "RAM where the local APIC would be");
    *word_at(ram + APIC_TPR) = value_of(2);
    CHECK_EQ(*word_at(ram + APIC_TPR), value_of(2), "RAM where the local APIC would be");
    for (unsigned i = 0; i < 200; i++, tries++) { /* reserved bits, illegal changes of mode */
        base_value = random_next(random) | 1ull << (52 + random_below(random, 12));
        try_run(do_write_base);
        CHECK_EQ(caught.vector, VECTOR_GP, "IA32_APIC_BASE = 0x%x", base_value);
    }
    write_base(base);
    return tries;
}

static uint32_t x2apic_msr;
static uint64_t x2apic_value;

static void do_x2apic_read(void)
{
    x2apic_value = rdmsr(x2apic_msr);
}

static void do_x2apic_write(void)
{
    wrmsr(x2apic_msr, x2apic_value);
}

/* SDM 3A table 11-6: registers that can be read; all others give #GP. */
static bool x2apic_has(uint32_t n)
{
    return n == 0x02 || n == 0x03 || n == 0x08 || n == 0x0a || n == 0x0d || n == 0x0f ||
           (n >= 0x10 && n <= 0x28) || n == 0x30 || (n >= 0x32 && n <= 0x39) || n == 0x3e;
}

static uint64_t try_x2apic(uint64_t base, uint64_t *random)
{
    uint64_t tries = 0;

    write_base(base | BASE_X2APIC);
    for (uint32_t n = 0; n < X2APIC_MSRS; n++, tries += 2) {
        x2apic_msr = MSR_X2APIC + n;
        bool read = try_run(do_x2apic_read);
        if (!read)
            CHECK_EQ(caught.vector, VECTOR_GP, "RDMSR of 0x%x", (uint64_t)x2apic_msr);
        CHECK_EQ(read, x2apic_has(n), "whether x2APIC register 0x%x can be read", (uint64_t)n);
        if (n == 0x30) /* the ICR's way to oneself is tried above */
            continue;
        x2apic_value = n == 0x35 || n == 0x36 ? LVT_MASKED : random_next(random);
        if (!try_run(do_x2apic_write))
            CHECK_EQ(caught.vector, VECTOR_GP, "WRMSR of 0x%x", (uint64_t)x2apic_msr);
        else if (!x2apic_has(n) && n != 0x0b && n != 0x3f)
            fail("x2APIC register 0x%x takes a value\n", (uint64_t)n);
    }
    apic_begin_anew(base);
    return tries;
}

/* A periodic timer of the shortest period, that nobody serves: the guest must get on all the same.
 */
static void timer_storm(void)
{
    uint64_t sum = 0;

    apic_write(APIC_SVR, SVR_ENABLED);
    apic_write(APIC_DIVIDE, DIVIDE_BY_1);
    apic_write(APIC_LVT_TIMER, LVT_PERIODIC | VECTOR_TEST);
    apic_write(APIC_INITIAL, 1);
    for (uint64_t i = 0; i < STORM_WORK; i++)
        sum += *(volatile uint64_t *)&i;
    CHECK_EQ(sum, (uint64_t)STORM_WORK * (STORM_WORK - 1) / 2, "work under a storm of timers");
    apic_write(APIC_LVT_TIMER, LVT_MASKED);
    apic_write(APIC_INITIAL, 0);
}

uint64_t attack_apic(void)
{
    uint64_t random = attack_random(41), base = rdmsr(MSR_APIC_BASE), tries = 0;

    write_cr3(attack_space());
    for (; tries < APIC_ROUNDS * attack_rounds; tries++)
        apic_access_any(&random);
    apic_begin_anew(base);
    apic_works("anything");
    timer_storm();
    tries += move_apic(base, &random);
    tries += try_x2apic(base, &random);
    apic_works("x2APIC mode");
    apic_begin_anew(base);
    return tries + 3;
}

/* --- the I/O APIC ----------------------------------------------------------------------------- */

#define IOAPIC         0xfec00000ull
#define IOAPIC_WINDOW  (IOAPIC + 0x10)
#define IOAPIC_PINS    24u
#define IOREDTBL       0x10u
#define ENTRY_READ     ((1u << 12) | (1u << 14)) /* read only */
#define ENTRY_WRITABLE 0x1afffu
#define IOAPIC_ROUNDS  800u
#define UART_IER       0x3f9u
#define UART_MCR       0x3fcu
#define IER_EMPTY      2u /* asserts when nothing is to be sent, which is always so */
#define MCR_OUT2       8u

static void ioapic_write(uint32_t index, uint32_t value)
{
    *register_at(IOAPIC) = index;
    *register_at(IOAPIC_WINDOW) = value;
}

static uint32_t ioapic_read(uint32_t index)
{
    *register_at(IOAPIC) = index;
    return *register_at(IOAPIC_WINDOW);
}

static void random_entry(uint64_t *random)
{
    uint32_t pin = (uint32_t)random_below(random, IOAPIC_PINS);
    uint32_t low = (uint32_t)random_next(random) & ~(DELIVERY & ~DELIVERY_LOWEST);

    ioapic_write(IOREDTBL + 2 * pin + 1, (uint32_t)random_next(random));
    ioapic_write(IOREDTBL + 2 * pin, low);
    CHECK_EQ(ioapic_read(IOREDTBL + 2 * pin) & ~ENTRY_READ, low & ENTRY_WRITABLE,
             "the I/O APIC's entry %u", (uint64_t)pin);
}

/* Pin 4 goes up and down. */
static void toggle_uart(bool on)
{
    outb(UART_MCR, on ? MCR_OUT2 : 0);
    outb(UART_IER, on ? IER_EMPTY : 0);
}

uint64_t attack_ioapic(void)
{
    uint64_t random = attack_random(42), base = rdmsr(MSR_APIC_BASE), tries = 0;

    write_cr3(attack_space());
    apic_write(APIC_SVR, SVR_ENABLED);
    for (; tries < IOAPIC_ROUNDS * attack_rounds; tries++) {
        switch (random_below(&random, 8)) {
        case 0:
            toggle_uart(random_below(&random, 2) != 0);
            break;
        case 1:
            *register_at(IOAPIC + 0x40) = (uint32_t)random_below(&random, 256); /* EOI */
            break;
        case 2: /* entries are written whole, above: not their delivery modes by chance */
            *register_at(IOAPIC) = (uint32_t)random_below(&random, IOREDTBL);
            access_any(IOAPIC + random_below(&random, PAGE - 8), &random);
            break;
        case 3:
            (void)ioapic_read((uint32_t)random_below(&random, 256));
            break;
        default:
            random_entry(&random);
            break;
        }
    }
    toggle_uart(false);
    for (uint32_t pin = 0; pin < IOAPIC_PINS; pin++) {
        ioapic_write(IOREDTBL + 2 * pin, LVT_MASKED);
        ioapic_write(IOREDTBL + 2 * pin + 1, 0);
    }
    CHECK_EQ(ioapic_read(1), 0x170020, "the I/O APIC's version");
    apic_begin_anew(base);
    apic_works("interrupts of the I/O APIC");
    apic_begin_anew(base);
    return tries;
}
