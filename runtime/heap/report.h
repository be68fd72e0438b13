// Ends the program because of a wrong pointer.
#pragma once

// p was given to `call` ("free"), and is wrong because ... Says what lies there.
// Context: goroutine.
_Noreturn void heap_report_bad(const void *p, const char *call,
                               const char *wrong);
