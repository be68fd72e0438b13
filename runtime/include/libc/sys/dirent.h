// What newlib calls <sys/dirent.h> is #error for this target.
#pragma once

#include <dirent.h>
