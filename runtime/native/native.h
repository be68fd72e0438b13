// The runtime in a Linux process: what its parts tell each other.
#pragma once

#include "arch/arch.h"

// hooks.fault: notes for the report what the address was. Serves nothing.
bool native_fault(uintptr_t va, unsigned access, uintptr_t rsp);

// Dead stacks may have pages, and have not been looked at for a while. The other has
// them give these back. Context: scheduler.
bool native_stacks_noted(void);
void native_stacks_drop(void);
