/* SPDX-License-Identifier: BSD-2-Clause */
/* The list of files in a signed loader: which files it lets pass, and that nothing else does. */
#include <stdlib.h>
#include <string.h>

#include "boot/hash_list.h"
#include "tests/host/test.h"

#define ABC   "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

/* In memory of exactly its length: the sanitizer sees a read behind it. */
static bool has(const char *text, const char *name, const char *content)
{
    uint64_t bytes = strlen(text);
    char *list = malloc(bytes ? bytes : 1);
    uint8_t digest[SHA256_BYTES];

    memcpy(list, text, bytes);
    sha256(content, strlen(content), digest);
    bool found = hash_list_has(list, bytes, name, digest);
    free(list);
    return found;
}

static void a_listed_file_passes(void)
{
    static const char list[] = EMPTY "  empty\n" ABC " *Abc.elf\n";

    CHECK(has(list, "empty", ""), "the first line");
    CHECK(has(list, "aBC.ELF", "abc"), "letters compare without case");
    CHECK(has(ABC "  abc", "abc", "abc"), "a last line without its end");
    CHECK(has(EMPTY "  a\n\nx\n" ABC "  a\n", "a", "abc"), "behind lines of another form");
    CHECK(has("BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD  a", "a", "abc"),
          "capital digits");
}

static void nothing_else_passes(void)
{
    static const struct {
        const char *list, *why;
    } lists[] = {
        {"", "an empty list"},
        {"\n\n", "empty lines"},
        {EMPTY "  a\n", "another content"},
        {ABC "  b\n", "another name"},
        {ABC "  ab\n", "a longer name"},
        {ABC "  \n", "no name"},
        {ABC, "no blanks"},
        {ABC "   a\n", "a blank too many"},
        {ABC " \ta\n", "no mark"},
        {ABC "\n  a\n", "a line in two"},
        {"b" ABC "  a\n", "a digit too many"},
        {"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ag  a\n", "no digit"},
        {"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ac  a\n", "the last digit"},
        {"aa7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  a\n",
         "the first digit"},
    };

    for (unsigned i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
        CHECK(!has(lists[i].list, "a", "abc"), "%s", lists[i].why);
    CHECK(!has(ABC "  a\n", "ab", "abc"), "a shorter name in the list");
    CHECK(!has(ABC "  a\n", "", "abc"), "a file without a name");
}

int main(void)
{
    RUN(a_listed_file_passes);
    RUN(nothing_else_passes);
    return test_status();
}
