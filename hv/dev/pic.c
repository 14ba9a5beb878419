/* SPDX-License-Identifier: BSD-2-Clause */
/* See pic.h. Command words and bit names are the 8259A data sheet's. */
#include "hv/dev/pic.h"

enum { MASTER, SLAVE };

#define PORT_MASTER 0x20u /* A0 = 0; the next one has A0 = 1 */
#define PORT_SLAVE  0xa0u
#define PORT_ELCR   0x4d0u

#define INPUTS        8u
#define INPUT_MASK    7u
#define CASCADE       2u /* the master's input for the slave */
#define SPURIOUS      7u
#define BIT8(n)       ((uint8_t)(1u << (n)))
#define NONE          (-1)
#define ICW2_VECTORS  0xf8u
#define POLL_REQUEST  0x80u /* a poll's answer: there is one */
#define FIRST_VECTOR  0x08u /* as firmware sets it up */
#define SECOND_VECTOR 0x70u

#define ICW1            0x10u
#define ICW1_IC4        0x01u
#define ICW1_SNGL       0x02u
#define ICW4_AEOI       0x02u
#define ICW4_SFNM       0x10u
#define OCW3            0x08u
#define OCW3_RIS        0x01u
#define OCW3_RR         0x02u
#define OCW3_POLL       0x04u
#define OCW3_SMM        0x20u
#define OCW3_ESMM       0x40u
#define OCW2_KIND_SHIFT 5

/* OCW2: R, SL, EOI */
enum ocw2 {
    OCW2_ROTATE_AUTO_OFF = 0,
    OCW2_EOI = 1,
    OCW2_SPECIFIC_EOI = 3,
    OCW2_ROTATE_AUTO_ON = 4,
    OCW2_ROTATE_EOI = 5,
    OCW2_SET_PRIORITY = 6,
    OCW2_ROTATE_SPECIFIC_EOI = 7,
};

/* The timer, the keyboard, the cascade, the clock and the coprocessor are edges (82371SB, ELCR). */
static const uint8_t elcr_bits[] = {[MASTER] = 0xf8, [SLAVE] = 0xde};

/* --- priorities ------------------------------------------------------------------------------- */

/* The inputs of `set` by priority: the first one, counted from the highest, or INPUTS. */
static unsigned first_rank(const struct pic *pic, uint8_t set)
{
    unsigned rank = 0;

    while (rank < INPUTS && !(set & BIT8((pic->lowest + 1 + rank) & INPUT_MASK)))
        rank++;
    return rank;
}

static unsigned input_of_rank(const struct pic *pic, unsigned rank)
{
    return (pic->lowest + 1 + rank) & INPUT_MASK;
}

/* What keeps requests of its own priority and below back. In special mask mode those in service
 * that are masked do not. */
static uint8_t inhibiting(const struct pic *pic)
{
    return pic->special_mask ? pic->isr & (uint8_t)~pic->imr : pic->isr;
}

/* The request that is to be told, or NONE. In the special fully nested mode the slave may interrupt
 * itself. */
static int request_of(const struct pic *pic)
{
    unsigned rank = first_rank(pic, pic->irr & (uint8_t)~pic->imr);
    uint8_t in_service = inhibiting(pic);

    if (rank == INPUTS)
        return NONE;
    unsigned input = input_of_rank(pic, rank);
    if (pic->fully_nested && input == CASCADE)
        in_service &= (uint8_t)~BIT8(CASCADE);
    return rank < first_rank(pic, in_service) ? (int)input : NONE;
}

/* The outputs follow from the inputs. The slave's is a level at the master's input. */
static void update(struct pics *pics)
{
    struct pic *master = &pics->chip[MASTER];

    if (request_of(&pics->chip[SLAVE]) != NONE)
        master->irr |= BIT8(CASCADE);
    else
        master->irr &= (uint8_t)~BIT8(CASCADE);
    pics->intr = request_of(master) != NONE;
}

/* --- inputs ----------------------------------------------------------------------------------- */

/* A request must stay until it is acknowledged: when the input falls it is gone, with either kind
 * of trigger (data sheet, "Interrupt sequence"). */
static void set_input(struct pic *pic, unsigned input, bool level)
{
    uint8_t bit = BIT8(input);
    bool rises = level && !(pic->lines & bit);

    if (!level) {
        pic->lines &= (uint8_t)~bit;
        pic->irr &= (uint8_t)~bit;
        return;
    }
    pic->lines |= bit;
    if (rises || (pic->elcr & bit))
        pic->irr |= bit;
}

void pics_set_line(struct pics *pics, unsigned irq, bool level)
{
    if (irq == CASCADE)
        return;
    set_input(&pics->chip[irq / INPUTS], irq % INPUTS, level);
    update(pics);
}

/* --- acknowledging ---------------------------------------------------------------------------- */

static void end_of_interrupt(struct pic *pic, unsigned input, bool rotate)
{
    pic->isr &= (uint8_t)~BIT8(input);
    if (rotate)
        pic->lowest = (uint8_t)input;
}

/* Input `input` is in service. Its request stays if the level does. */
static void take(struct pic *pic, unsigned input)
{
    uint8_t bit = BIT8(input);

    pic->isr |= bit;
    if (!(pic->elcr & bit))
        pic->irr &= (uint8_t)~bit;
    if (pic->auto_eoi)
        end_of_interrupt(pic, input, pic->rotate_in_auto_eoi);
}

static uint8_t vector_of(const struct pic *pic, int input)
{
    return (uint8_t)(pic->vectors | (input == NONE ? SPURIOUS : (unsigned)input));
}

uint8_t pics_vector(const struct pics *pics)
{
    int input = request_of(&pics->chip[MASTER]);

    if (input != (int)CASCADE)
        return vector_of(&pics->chip[MASTER], input);
    return vector_of(&pics->chip[SLAVE], request_of(&pics->chip[SLAVE]));
}

/* An INTA cycle of one chip. What has gone is the spurious input 7, which is not in service. */
static int acknowledge(struct pic *pic)
{
    int input = request_of(pic);

    if (input != NONE)
        take(pic, (unsigned)input);
    return input;
}

uint8_t pics_acknowledge(struct pics *pics)
{
    struct pic *slave = &pics->chip[SLAVE];
    uint8_t vector = pics_vector(pics);

    if (acknowledge(&pics->chip[MASTER]) == (int)CASCADE)
        acknowledge(slave);
    update(pics);
    return vector;
}

/* --- command words ---------------------------------------------------------------------------- */

static void begin_initialisation(struct pic *pic, uint8_t icw1)
{
    /* Edges count from now on; levels are still there. */
    *pic = (struct pic){
        .lines = pic->lines,
        .elcr = pic->elcr,
        .irr = pic->lines & pic->elcr,
        .vectors = pic->vectors,
        .lowest = INPUTS - 1,
        .next_icw = 2,
        .single = (icw1 & ICW1_SNGL) != 0,
        .needs_icw4 = (icw1 & ICW1_IC4) != 0,
    };
}

static void write_icw(struct pic *pic, uint8_t value)
{
    switch (pic->next_icw) {
    case 2:
        pic->vectors = value & ICW2_VECTORS;
        pic->next_icw = !pic->single ? 3 : pic->needs_icw4 ? 4 : 0;
        return;
    case 3: /* the wiring is as it is */
        pic->next_icw = pic->needs_icw4 ? 4 : 0;
        return;
    default:
        pic->auto_eoi = (value & ICW4_AEOI) != 0;
        pic->fully_nested = (value & ICW4_SFNM) != 0;
        pic->next_icw = 0;
        return;
    }
}

/* The one of the highest priority; in special mask mode one that is masked is left alone. */
static void nonspecific_eoi(struct pic *pic, bool rotate)
{
    unsigned rank = first_rank(pic, inhibiting(pic));

    if (rank < INPUTS)
        end_of_interrupt(pic, input_of_rank(pic, rank), rotate);
}

static void write_ocw2(struct pic *pic, uint8_t value)
{
    unsigned input = value & INPUT_MASK;

    switch (value >> OCW2_KIND_SHIFT) {
    case OCW2_ROTATE_AUTO_OFF:
    case OCW2_ROTATE_AUTO_ON:
        pic->rotate_in_auto_eoi = value >> OCW2_KIND_SHIFT == OCW2_ROTATE_AUTO_ON;
        return;
    case OCW2_EOI:
    case OCW2_ROTATE_EOI:
        nonspecific_eoi(pic, value >> OCW2_KIND_SHIFT == OCW2_ROTATE_EOI);
        return;
    case OCW2_SPECIFIC_EOI:
    case OCW2_ROTATE_SPECIFIC_EOI:
        end_of_interrupt(pic, input, value >> OCW2_KIND_SHIFT == OCW2_ROTATE_SPECIFIC_EOI);
        return;
    case OCW2_SET_PRIORITY:
        pic->lowest = (uint8_t)input;
        return;
    default: /* no operation */
        return;
    }
}

static void write_ocw3(struct pic *pic, uint8_t value)
{
    if (value & OCW3_ESMM)
        pic->special_mask = (value & OCW3_SMM) != 0;
    if (value & OCW3_RR)
        pic->read_isr = (value & OCW3_RIS) != 0;
    if (value & OCW3_POLL)
        pic->poll = true;
}

static void write_command(struct pic *pic, uint8_t value)
{
    if (value & ICW1)
        begin_initialisation(pic, value);
    else if (value & OCW3)
        write_ocw3(pic, value);
    else
        write_ocw2(pic, value);
}

static void write_data(struct pic *pic, uint8_t value)
{
    if (pic->next_icw)
        write_icw(pic, value);
    else
        pic->imr = value; /* OCW1 */
}

/* --- ports ------------------------------------------------------------------------------------ */

static void write_elcr(struct pic *pic, uint8_t value)
{
    pic->elcr = value;
    pic->irr |= pic->lines & value;
}

/* The read after a poll command is an INTA cycle, of either port (data sheet, "Poll command"). */
static uint8_t read_chip(struct pic *pic, bool data)
{
    if (pic->poll) {
        int input = acknowledge(pic);
        pic->poll = false;
        return input == NONE ? 0 : (uint8_t)(POLL_REQUEST | (unsigned)input);
    }
    if (data)
        return pic->imr;
    return pic->read_isr ? pic->isr : pic->irr;
}

uint8_t pics_read(struct pics *pics, uint16_t port)
{
    uint8_t value = 0xff;

    if ((port & ~1u) == PORT_ELCR)
        return pics->chip[port & 1].elcr;
    if ((port & ~1u) == PORT_MASTER)
        value = read_chip(&pics->chip[MASTER], port & 1);
    else if ((port & ~1u) == PORT_SLAVE)
        value = read_chip(&pics->chip[SLAVE], port & 1);
    update(pics);
    return value;
}

void pics_write(struct pics *pics, uint16_t port, uint8_t value)
{
    if ((port & ~1u) == PORT_ELCR) {
        write_elcr(&pics->chip[port & 1], value & elcr_bits[port & 1]);
    } else {
        struct pic *pic = &pics->chip[port < PORT_SLAVE ? MASTER : SLAVE];
        if (port & 1)
            write_data(pic, value);
        else
            write_command(pic, value);
    }
    update(pics);
}

static struct pic powered_on(uint8_t lines, uint8_t imr, uint8_t vectors)
{
    return (struct pic){.lines = lines, .imr = imr, .vectors = vectors, .lowest = INPUTS - 1};
}

void pics_reset(struct pics *pics)
{
    struct pic *master = &pics->chip[MASTER], *slave = &pics->chip[SLAVE];

    *master = powered_on(master->lines, (uint8_t)~BIT8(CASCADE), FIRST_VECTOR);
    *slave = powered_on(slave->lines, 0xff, SECOND_VECTOR);
    update(pics);
}
