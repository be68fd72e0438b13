// How busy the threads of a Linux process are. What a thread runs, or would run if
// Linux had a CPU for it, counts as busy; only that it had nothing to do does not.
#pragma once

// Counts from now on; at first, from the start of the process.
void busy_begin(void);

// In percent of the time of all threads that there are now.
double busy_percent(void);
