/* SPDX-License-Identifier: BSD-2-Clause */
/* The two i8259s, by the 8259A data sheet and the ELCR of the 82371SB. */
#include "hv/dev/pic.h"
#include "tests/host/test.h"

static struct pics pics;

static void out(uint16_t port, uint8_t value)
{
    pics_write(&pics, port, value);
}

static uint8_t in(uint16_t port)
{
    return pics_read(&pics, port);
}

static void initialise(uint8_t icw4)
{
    out(0x20, 0x11), out(0x21, 0x30), out(0x21, 0x04), out(0x21, icw4);
    out(0xa0, 0x11), out(0xa1, 0x38), out(0xa1, 0x02), out(0xa1, icw4 & 0x0f);
}

/* As Linux sets them up: vectors 0x30 and 0x38, all unmasked. */
static void reset(void)
{
    pics = (struct pics){0};
    pics_reset(&pics);
    initialise(0x01);
}

static void up(unsigned irq)
{
    pics_set_line(&pics, irq, true);
}

static void down(unsigned irq)
{
    pics_set_line(&pics, irq, false);
}

static void pulse(unsigned irq)
{
    down(irq), up(irq);
}

static uint8_t irr(uint16_t port)
{
    out(port, 0x0a);
    return in(port);
}

static uint8_t isr(uint16_t port)
{
    out(port, 0x0b);
    return in(port);
}

/* What the processor would be given; the test says what it expects. */
static void expect(uint8_t vector, const char *what)
{
    CHECK(pics.intr, "%s: no INTR", what);
    CHECK(pics_vector(&pics) == vector, "%s: 0x%x waits", what, pics_vector(&pics));
    uint8_t given = pics_acknowledge(&pics);
    CHECK(given == vector, "%s: 0x%x", what, given);
}

static void edges_are_taken_once(void)
{
    reset();
    up(4);
    CHECK(irr(0x20) == 0x10 && isr(0x20) == 0, "requested");
    expect(0x34, "edge");
    CHECK(irr(0x20) == 0 && isr(0x20) == 0x10 && !pics.intr, "in service");
    out(0x20, 0x20);
    CHECK(isr(0x20) == 0 && !pics.intr, "the input is still high: no other edge");
    pulse(4);
    expect(0x34, "another edge");
}

/* "If the IR input goes low before this time a DEFAULT IR7 will occur." */
static void a_request_that_goes_is_spurious(void)
{
    reset();
    up(3);
    down(3);
    CHECK(!pics.intr && irr(0x20) == 0, "gone");
    CHECK(pics_acknowledge(&pics) == 0x37 && isr(0x20) == 0, "input 7, not in service");
    up(7);
    expect(0x37, "a true one");
    CHECK(isr(0x20) == 0x80, "is in service");
}

static void levels_stay(void)
{
    reset();
    out(0x4d0, 0xff), out(0x4d1, 0xff);
    CHECK(in(0x4d0) == 0xf8 && in(0x4d1) == 0xde, "IRQs 0, 1, 2, 8, 13 are edges");
    up(5);
    expect(0x35, "level");
    CHECK(!pics.intr && irr(0x20) == 0x20, "in service, and still there");
    out(0x20, 0x20);
    expect(0x35, "again");
    down(5);
    out(0x20, 0x20);
    CHECK(!pics.intr, "gone");
    out(0x4d0, 0);
    up(5);
    expect(0x35, "an edge again");
    out(0x20, 0x20);
    out(0x4d0, 0x20);
    expect(0x35, "a level that was there");
}

static void higher_ones_interrupt_lower_ones(void)
{
    reset();
    up(4), up(6);
    expect(0x34, "4 before 6");
    CHECK(!pics.intr, "6 waits");
    up(1);
    expect(0x31, "1 within 4");
    CHECK(isr(0x20) == 0x12, "both in service");
    out(0x20, 0x20);
    CHECK(isr(0x20) == 0x10 && !pics.intr, "EOI ends the highest");
    out(0x20, 0x64);
    expect(0x36, "specific EOI");
}

static void masks_hold_requests_back(void)
{
    reset();
    out(0x21, 0x10);
    up(4);
    CHECK(!pics.intr && irr(0x20) == 0x10 && in(0x21) == 0x10, "masked, and kept");
    out(0x21, 0);
    expect(0x34, "unmasked");
}

static void the_slave_is_behind_irq_2(void)
{
    reset();
    up(10), up(8), up(3);
    CHECK(irr(0x20) == 0x0c && irr(0xa0) == 0x05, "the master sees IRQ 2");
    expect(0x38, "8 before 3");
    CHECK(isr(0x20) == 0x04 && isr(0xa0) == 0x01, "both chips are in service");
    out(0xa0, 0x20);
    CHECK(!pics.intr, "the master is not ended yet");
    out(0x20, 0x20);
    expect(0x3a, "10 before 3");
    out(0xa0, 0x20), out(0x20, 0x20);
    expect(0x33, "3");
    pics_set_line(&pics, 2, true);
    CHECK(irr(0x20) == 0, "nothing is wired to IRQ 2");
}

/* Special fully nested mode: the slave's higher requests come through. */
static void special_fully_nested(void)
{
    reset();
    up(12);
    expect(0x3c, "12");
    up(9);
    CHECK(!pics.intr, "the master holds IRQ 2 back");
    out(0xa0, 0x20), out(0x20, 0x20);
    initialise(0x11);
    pulse(12);
    expect(0x3c, "12");
    pulse(9);
    expect(0x39, "9 within 12");
}

static void automatic_eoi(void)
{
    reset();
    initialise(0x03);
    pulse(1), pulse(0);
    expect(0x30, "0");
    CHECK(isr(0x20) == 0, "ended at once");
    expect(0x31, "1");
    out(0x20, 0x80); /* rotate in automatic EOI mode */
    pulse(0), pulse(1);
    expect(0x30, "nothing has rotated yet");
    pulse(0);
    expect(0x31, "0 is the lowest now");
    out(0x20, 0x00);
    expect(0x30, "0");
    pulse(1), pulse(0);
    expect(0x30, "no rotation any more: 1 stays the lowest");
}

static void rotation(void)
{
    reset();
    up(2 + 1), up(5);
    expect(0x33, "3");
    out(0x20, 0xa0); /* rotate on nonspecific EOI: 3 is the lowest */
    pulse(3);
    expect(0x35, "5 before 3");
    out(0x20, 0xe5); /* rotate on specific EOI: 5 is the lowest, 6 the highest */
    pulse(5), pulse(6);
    expect(0x36, "6 first");
    out(0x20, 0x20);
    expect(0x33, "then 3");
    out(0x20, 0x20);
    expect(0x35, "then 5");
    out(0x20, 0x20);
    out(0x20, 0xc0); /* set priority: 0 is the lowest */
    pulse(0), pulse(7);
    expect(0x37, "7 before 0");
}

/* Those in service that are masked hold nothing back, and nonspecific EOI leaves them alone. */
static void special_mask_mode(void)
{
    reset();
    up(3);
    expect(0x33, "3");
    up(6);
    CHECK(!pics.intr, "6 waits");
    out(0x21, 0x08);
    CHECK(!pics.intr, "the mask alone does not help");
    out(0x20, 0x68);
    expect(0x36, "special mask mode");
    out(0x20, 0x20);
    CHECK(isr(0x20) == 0x08, "the masked one is still in service");
    out(0x20, 0x48);
    out(0x20, 0x20);
    CHECK(isr(0x20) == 0, "mode off");
}

static void polling(void)
{
    reset();
    out(0x20, 0x0c);
    CHECK(!(in(0x20) & 0x80), "nothing");
    up(4), up(11);
    out(0x20, 0x0c);
    CHECK(in(0x20) == 0x82, "the cascade");
    out(0xa0, 0x0c);
    CHECK(in(0xa0) == 0x83, "11");
    CHECK(isr(0x20) == 0x04 && isr(0xa0) == 0x08, "in service");
    CHECK(in(0x20) == 0x04, "one read only");
}

/* ICW1 clears the mask and what is in service; high edges count no more, levels do. */
static void initialisation_starts_anew(void)
{
    reset();
    out(0x4d0, 0x20);
    out(0x21, 0xff);
    up(3), up(5);
    out(0x20, 0x11);
    CHECK(in(0x20) == 0x20, "IRR is read after ICW1; the edge is gone, the level there");
    out(0x21, 0x53), out(0x21, 0x04), out(0x21, 0x01);
    CHECK(in(0x21) == 0, "no mask");
    expect(0x55, "the vector's low bits are the input's");
    out(0x20, 0x13); /* single, with ICW4 */
    out(0x21, 0x60), out(0x21, 0x01);
    out(0x21, 0x42);
    CHECK(in(0x21) == 0x42, "no ICW3 for a single one");
    out(0x20, 0x10); /* no ICW4 */
    out(0x21, 0x60), out(0x21, 0x04);
    out(0x21, 0x99);
    CHECK(in(0x21) == 0x99, "no ICW4");
}

int main(void)
{
    RUN(edges_are_taken_once);
    RUN(a_request_that_goes_is_spurious);
    RUN(levels_stay);
    RUN(higher_ones_interrupt_lower_ones);
    RUN(masks_hold_requests_back);
    RUN(the_slave_is_behind_irq_2);
    RUN(special_fully_nested);
    RUN(automatic_eoi);
    RUN(rotation);
    RUN(special_mask_mode);
    RUN(polling);
    RUN(initialisation_starts_anew);
    return test_status();
}
