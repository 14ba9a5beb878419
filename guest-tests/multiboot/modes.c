/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * modes: paging modes other than long mode's, on and off again, several times over: 32-bit paging
 * with 4-MiB and 4-KiB pages, PAE paging with 2-MiB and 4-KiB pages. In each mode a page is reached
 * through a mapping of its own, changed, and reached again after INVLPG and after MOV to CR3; A and
 * D must be set as the access was. Ends with value 0, or 1 after "FAIL ...".
 */
#include "guest-tests/multiboot/lib32.h"

#define ROUNDS 3u

#define CR0_PG  (1u << 31)
#define CR0_WP  (1u << 16)
#define CR4_PSE (1u << 4)
#define CR4_PAE (1u << 5)

#define PTE_P  1u
#define PTE_W  2u
#define PTE_A  (1u << 5)
#define PTE_D  (1u << 6)
#define PTE_PS (1u << 7)

/* Where the page under test is mapped; everything else is one to one. */
#define WINDOW 0x40000000u

#define PAGE     4096u
#define VALUE(i) (0x12340000u + (i))

void main(uint32_t magic, const void *info);

static uint32_t directory[1024] __attribute__((aligned(4096)));
static uint32_t table[1024] __attribute__((aligned(4096)));
static uint64_t pdpt[4] __attribute__((aligned(32)));
static uint64_t pae_directory[2][512] __attribute__((aligned(4096)));
static uint64_t pae_table[512] __attribute__((aligned(4096)));
static uint32_t pages[2][PAGE / 4] __attribute__((aligned(4096)));

static uint32_t read_cr0(void)
{
    uint32_t value;

    __asm__ volatile("mov %%cr0, %0" : "=r"(value));
    return value;
}

static void write_cr0(uint32_t value)
{
    __asm__ volatile("mov %0, %%cr0" : : "r"(value) : "memory");
}

static void write_cr3(uint32_t value)
{
    __asm__ volatile("mov %0, %%cr3" : : "r"(value) : "memory");
}

static void write_cr4(uint32_t value)
{
    __asm__ volatile("mov %0, %%cr4" : : "r"(value) : "memory");
}

static void invlpg(uint32_t at)
{
    __asm__ volatile("invlpg (%0)" : : "r"(at) : "memory");
}

static volatile uint32_t *window(void)
{
    return (volatile uint32_t *)WINDOW;
}

static uint32_t address(const void *at)
{
    return (uint32_t)(uintptr_t)at;
}

/* The page's entry, of 4 or 8 bytes, as a function of the mode. */
static void set_entry(bool pae, uint32_t value)
{
    if (pae)
        *(volatile uint64_t *)&pae_table[0] = value;
    else
        *(volatile uint32_t *)&table[0] = value;
}

static uint32_t entry(bool pae)
{
    return pae ? (uint32_t) * (volatile uint64_t *)&pae_table[0] : *(volatile uint32_t *)&table[0];
}

static void use_window(bool pae, uint32_t cr3)
{
    for (uint32_t n = 0; n < 4; n++) {
        unsigned page = n & 1;
        set_entry(pae, address(pages[page]) | PTE_P | PTE_W);
        if (n & 2)
            write_cr3(cr3);
        else
            invlpg(WINDOW);
        check(*window() == VALUE(page), "the window does not show its page");
        check((entry(pae) & (PTE_A | PTE_D)) == PTE_A, "A alone is due after a read");
        window()[1] = VALUE(n);
        check(pages[page][1] == VALUE(n), "a write did not reach its page");
        check((entry(pae) & (PTE_A | PTE_D)) == (PTE_A | PTE_D), "A and D are due after a write");
    }
}

static void paging_32_bit(void)
{
    for (uint32_t i = 0; i < 1024; i++)
        directory[i] = i << 22 | PTE_P | PTE_W | PTE_PS;
    directory[WINDOW >> 22] = address(table) | PTE_P | PTE_W;
    set_entry(false, address(pages[0]) | PTE_P | PTE_W);
    write_cr4(CR4_PSE);
    write_cr3(address(directory));
    write_cr0(read_cr0() | CR0_PG | CR0_WP);
    use_window(false, address(directory));
    write_cr0(read_cr0() & ~CR0_PG);
    write_cr4(0);
}

static void paging_pae(void)
{
    for (uint32_t i = 0; i < 512; i++)
        pae_directory[0][i] = (uint64_t)i << 21 | PTE_P | PTE_W | PTE_PS;
    pae_directory[1][0] = address(pae_table) | PTE_P | PTE_W;
    pdpt[0] = address(pae_directory[0]) | PTE_P;
    pdpt[1] = address(pae_directory[1]) | PTE_P;
    set_entry(true, address(pages[0]) | PTE_P | PTE_W);
    write_cr4(CR4_PAE);
    write_cr3(address(pdpt));
    write_cr0(read_cr0() | CR0_PG | CR0_WP);
    use_window(true, address(pdpt));
    /* The PDPTEs are in registers: a change in memory counts from the next MOV to CR3 on, SDM
     * 3A 4.4.1. */
    pdpt[1] = 0;
    invlpg(WINDOW);
    check(*window() == VALUE(1), "a PDPTE was read again without MOV to CR3");
    write_cr0(read_cr0() & ~CR0_PG);
    write_cr4(0);
}

void main(uint32_t magic, const void *info)
{
    (void)magic;
    (void)info;
    pages[0][0] = VALUE(0);
    pages[1][0] = VALUE(1);
    for (unsigned round = 0; round < ROUNDS; round++) {
        paging_32_bit();
        put_text("32-bit paging ok\n");
        paging_pae();
        put_text("PAE paging ok\n");
    }
    end(0);
}
