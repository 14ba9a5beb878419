/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * reset: resets the machine by itself. Argument how=cf9 (the reset register, ACPI's and the
 * chipsets'), kbd (the i8042's pulse on the reset line) or triple (a triple fault). Leaves a mark
 * in the CMOS RAM, which a reset does not clear: started again it finds that, says "back after a
 * reset", and ends with value 0.
 */
#include "guest-tests/multiboot/machine32.h"

#define PORT_RESET       0xcf9u
#define RESET_HARD       0x02u
#define RESET_NOW        0x06u
#define PORT_I8042       0x64u
#define I8042_PULSE      0xfeu
#define I8042_INPUT_FULL 0x02u

/* CMOS RAM that no firmware uses. */
#define CMOS_MARK 0x70u
#define MARK      0x5au

void main(uint32_t magic, const void *info);

static void reset_by_register(void)
{
    outb(PORT_RESET, RESET_HARD);
    outb(PORT_RESET, RESET_NOW);
}

static void reset_by_i8042(void)
{
    /* Without a keyboard controller the status reads as all ones, so nobody waits for ever. */
    WAIT_UNTIL(!(inb(PORT_I8042) & I8042_INPUT_FULL), 10000);
    outb(PORT_I8042, I8042_PULSE);
}

static void reset_by_fault(void)
{
    struct {
        uint16_t limit;
        uint32_t base;
    } __attribute__((packed)) none = {0, 0};

    __asm__ volatile("lidt %0; ud2" : : "m"(none));
}

void main(uint32_t magic, const void *info)
{
    char how[8] = "cf9";

    args_init(magic, info);
    arg_word("how", how, sizeof(how));
    args_done();
    machine_init();
    if (cmos_read(CMOS_MARK) == MARK) {
        cmos_write(CMOS_MARK, 0);
        put_text("back after a reset\n");
        end(0);
    }
    cmos_write(CMOS_MARK, MARK);
    put_text("about to reset by ");
    put_text(how);
    put('\n');
    if (text_equal(how, "cf9"))
        reset_by_register();
    else if (text_equal(how, "kbd"))
        reset_by_i8042();
    else if (text_equal(how, "triple"))
        reset_by_fault();
    else
        check(false, "how: cf9, kbd or triple");
    spin_us(BOUND_US);
    cmos_write(CMOS_MARK, 0);
    check(false, "the machine did not reset");
}
