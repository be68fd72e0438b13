// What the files of mm/ share about the image.
#pragma once

#include "mm/mm.h"

extern struct mm_image_part mm_image[5]; // [c] after mm_init
extern unsigned mm_nimage;               // [c]
