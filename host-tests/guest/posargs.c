// printf with numbered arguments: newlib 3.3 hands its helper the address of a
// parameter of array type, which on x86-64 is not the list of arguments.

#include <stdio.h>
#include <string.h>
#include <wchar.h>

#include "host-tests/guest/tap.h"

int main(void)
{
    char text[64];
    wchar_t wide[64];
    int a = 0, b = 0;

    snprintf(text, sizeof text, "%2$s %1$d %3$.2f", 5, "x", 2.5);
    ok(strcmp(text, "x 5 2.50") == 0, "snprintf");
    swprintf(wide, 64, L"%2$d %1$d", 5, 7);
    ok(wcscmp(wide, L"7 5") == 0, "swprintf");
    ok(sscanf("1 2", "%2$d %1$d", &a, &b) == 2 && a == 2 && b == 1, "sscanf");
    return tap_end();
}
