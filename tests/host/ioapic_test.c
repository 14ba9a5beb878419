/* SPDX-License-Identifier: BSD-2-Clause */
/* The I/O APIC alone, by the 82093AA data sheet; the bus says whether anybody accepts. */
#include "hv/dev/ioapic.h"

#include "tests/host/test.h"

static struct ioapic ioapic;
static struct apic_message last;
static unsigned sent;
static bool accepts;

static bool bus(void *context, const struct apic_message *message)
{
    (void)context;
    sent++;
    last = *message;
    return accepts;
}

static void reset(void)
{
    sent = 0;
    accepts = true;
    ioapic_init(&ioapic, bus, NULL);
}

static uint32_t in(uint8_t index)
{
    ioapic_write(&ioapic, 0x00, 4, index);
    return (uint32_t)ioapic_read(&ioapic, 0x10, 4);
}

static void out(uint8_t index, uint32_t value)
{
    ioapic_write(&ioapic, 0x00, 4, index);
    ioapic_write(&ioapic, 0x10, 4, value);
}

static void entry(unsigned pin, uint32_t high, uint32_t low)
{
    out((uint8_t)(0x11 + 2 * pin), high);
    out((uint8_t)(0x10 + 2 * pin), low);
}

static uint32_t low_of(unsigned pin)
{
    return in((uint8_t)(0x10 + 2 * pin));
}

static void pin(unsigned n, bool level)
{
    ioapic_set_pin(&ioapic, n, level);
}

/* So many messages since the last time. */
static void expect(unsigned n, const char *what)
{
    CHECK(sent == n, "%s: %u sent", what, sent);
    sent = 0;
}

static void registers(void)
{
    reset();
    CHECK(in(0) == 0 && in(1) == 0x00170020 && in(2) == 0, "ID, version, arbitration");
    out(0, 0xff123456);
    CHECK(in(0) == 0x0f000000 && in(2) == 0x0f000000, "4 bits of ID");
    out(1, 0), out(2, 0);
    CHECK(in(1) == 0x00170020 && in(2) == 0x0f000000, "read only");
    for (uint8_t i = 0; i < 24; i++) {
        CHECK(low_of(i) == 0x10000 && in((uint8_t)(0x11 + 2 * i)) == 0, "pin %u is masked", i);
        entry(i, 0xffffffff, 0xffffffff);
        CHECK(low_of(i) == 0x1afff && in((uint8_t)(0x11 + 2 * i)) == 0xff000000, "pin %u", i);
    }
    CHECK(in(0x40) == 0 && in(0xff) == 0 && in(3) == 0, "nothing there");
    out(0x40, ~0u), out(0xff, ~0u), out(0x0f, ~0u);
    out(0x10, 0x10031);
    ioapic_write(&ioapic, 0x10, 1, 0x55), ioapic_write(&ioapic, 0x10, 8, 0x55);
    CHECK(low_of(0) == 0x10031, "stores of other sizes are ignored");
    CHECK(ioapic_read(&ioapic, 0x10, 1) == 0x31 && ioapic_read(&ioapic, 0x00, 4) == 0x10 &&
              ioapic_read(&ioapic, 0x20, 4) == 0,
          "loads");
    ioapic_reset(&ioapic);
    CHECK(in(0) == 0 && low_of(5) == 0x10000, "reset");
    expect(0, "none of it sends");
}

static void edges(void)
{
    reset();
    entry(4, 0x07000000, 0x0934);
    expect(0, "an entry");
    pin(4, true), pin(4, true);
    expect(1, "one edge");
    CHECK(last.vector == 0x34 && last.destination == 7 && last.logical && !last.level &&
              last.delivery == APIC_LOWEST,
          "message");
    pin(4, false);
    expect(0, "the other edge");
    pin(4, true);
    expect(1, "another edge, without EOI");
    entry(4, 0xff000000, 0x10034);
    pin(4, false), pin(4, true);
    entry(4, 0xff000000, 0x0034);
    expect(0, "an edge on a masked pin is lost");
    pin(4, false), pin(4, true);
    expect(1, "unmasked");
    CHECK(last.destination == APIC_BROADCAST && !last.logical && last.delivery == APIC_FIXED,
          "broadcast");
}

static void levels(void)
{
    reset();
    entry(10, 0x01000000, 0x8050);
    pin(10, true), pin(10, true);
    expect(1, "asserted");
    CHECK(last.level && (low_of(10) & 0x4000), "remote IRR");
    ioapic_eoi(&ioapic, 0x51);
    expect(0, "another vector's EOI");
    ioapic_eoi(&ioapic, 0x50);
    expect(1, "still asserted: again");
    pin(10, false), pin(10, true), pin(10, false);
    expect(0, "not before EOI");
    ioapic_eoi(&ioapic, 0x50);
    expect(0, "no longer asserted");
    CHECK(!(low_of(10) & 0x4000), "remote IRR is clear");
    entry(10, 0x01000000, 0x18050);
    pin(10, true);
    expect(0, "masked");
    entry(10, 0x01000000, 0x8050);
    expect(1, "unmasked while asserted");
    entry(10, 0x01000000, 0x1c050);
    CHECK(low_of(10) == 0x1c050, "remote IRR stays while masked");
    ioapic_write(&ioapic, 0x40, 4, 0x50);
    CHECK(low_of(10) == 0x18050, "the EOI register");
    expect(0, "masked");
    entry(10, 0x01000000, 0x8050);
    expect(1, "once more");
    entry(10, 0x01000000, 0x10050), entry(10, 0x01000000, 0x18050);
    CHECK(low_of(10) == 0x18050, "edge-triggered for a moment: remote IRR is clear");
}

/* A level-triggered interrupt that nobody accepted is not lost. */
static void refused(void)
{
    reset();
    accepts = false;
    entry(3, 0, 0x8040);
    pin(3, true);
    expect(1, "tried");
    CHECK(!(low_of(3) & 0x4000), "no remote IRR");
    ioapic_retry(&ioapic);
    expect(1, "tried again");
    accepts = true;
    ioapic_retry(&ioapic), ioapic_retry(&ioapic);
    expect(1, "accepted");
    ioapic_eoi(&ioapic, 0x40);
    pin(3, false);
    expect(1, "and again");
    ioapic_eoi(&ioapic, 0x40);
    accepts = false;
    pin(3, true), pin(3, false);
    accepts = true;
    sent = 0;
    ioapic_retry(&ioapic);
    expect(0, "it has gone");
}

static void delivery_modes(void)
{
    struct apic_message message;

    reset();
    entry(5, 0, 0x8400); /* NMI, "level" */
    pin(5, true);
    expect(1, "NMI");
    CHECK(last.delivery == APIC_NMI && !last.level && !(low_of(5) & 0x4000), "is an edge");
    entry(6, 0, 0x0300), entry(7, 0, 0x0600), entry(8, 0, 0x0700);
    pin(6, true), pin(7, true), pin(8, true);
    expect(0, "reserved ones and ExtINT send nothing");
    CHECK(ioapic_extint(&ioapic, 8, &message) && message.destination == 0, "ExtINT");
    CHECK(!ioapic_extint(&ioapic, 5, &message), "NMI is none");
    entry(8, 0, 0x10700);
    CHECK(!ioapic_extint(&ioapic, 8, &message), "masked");
}

int main(void)
{
    RUN(registers);
    RUN(edges);
    RUN(levels);
    RUN(refused);
    RUN(delivery_modes);
    return test_status();
}
