// Made by generate.c; see there. Do not edit.
#pragma once

// clang-format off
// size, heap pages of a span, objects in it, worst waste per mille
#define HEAP_CLASS_TABLE(X) \
    X(8, 1) /* 1024 objects, 87.5 % */ \
    X(16, 1) /* 512 objects, 43.8 % */ \
    X(24, 1) /* 341 objects, 29.3 % */ \
    X(32, 1) /* 256 objects, 21.9 % */ \
    X(48, 1) /* 170 objects, 31.6 % */ \
    X(64, 1) /* 128 objects, 23.5 % */ \
    X(80, 1) /* 102 objects, 19.1 % */ \
    X(96, 1) /* 85 objects, 16.0 % */ \
    X(112, 1) /* 73 objects, 13.6 % */ \
    X(128, 1) /* 64 objects, 11.8 % */ \
    X(144, 1) /* 56 objects, 11.9 % */ \
    X(160, 1) /* 51 objects, 9.8 % */ \
    X(176, 1) /* 46 objects, 9.6 % */ \
    X(192, 1) /* 42 objects, 9.3 % */ \
    X(208, 1) /* 39 objects, 8.2 % */ \
    X(224, 1) /* 36 objects, 8.2 % */ \
    X(240, 1) /* 34 objects, 6.7 % */ \
    X(256, 1) /* 32 objects, 5.9 % */ \
    X(288, 1) /* 28 objects, 12.2 % */ \
    X(320, 1) /* 25 objects, 11.9 % */ \
    X(352, 1) /* 23 objects, 9.9 % */ \
    X(384, 1) /* 21 objects, 9.6 % */ \
    X(416, 1) /* 19 objects, 10.8 % */ \
    X(448, 1) /* 18 objects, 8.4 % */ \
    X(480, 1) /* 17 objects, 6.9 % */ \
    X(512, 1) /* 16 objects, 6.1 % */ \
    X(576, 2) /* 28 objects, 12.4 % */ \
    X(640, 2) /* 25 objects, 12.0 % */ \
    X(704, 2) /* 23 objects, 10.1 % */ \
    X(768, 2) /* 21 objects, 9.7 % */ \
    X(848, 2) /* 19 objects, 10.9 % */ \
    X(896, 2) /* 18 objects, 6.8 % */ \
    X(960, 2) /* 17 objects, 7.0 % */ \
    X(1024, 2) /* 16 objects, 6.2 % */ \
    X(1152, 3) /* 21 objects, 12.5 % */ \
    X(1280, 3) /* 19 objects, 10.9 % */ \
    X(1408, 3) /* 17 objects, 11.4 % */ \
    X(1536, 3) /* 16 objects, 8.3 % */ \
    X(1664, 4) /* 19 objects, 10.9 % */ \
    X(1792, 4) /* 18 objects, 8.6 % */ \
    X(1920, 4) /* 17 objects, 7.0 % */ \
    X(2048, 4) /* 16 objects, 6.3 % */ \
    X(2304, 4) /* 14 objects, 12.5 % */ \
    X(2688, 4) /* 12 objects, 15.6 % */ \
    X(2944, 4) /* 11 objects, 9.8 % */ \
    X(3200, 4) /* 10 objects, 10.2 % */ \
    X(3456, 3) /* 7 objects, 8.9 % */ \
    X(3584, 4) /* 9 objects, 5.1 % */ \
    X(4096, 4) /* 8 objects, 12.5 % */ \
    X(4608, 4) /* 7 objects, 12.5 % */ \
    X(5376, 4) /* 6 objects, 15.7 % */ \
    X(6144, 3) /* 4 objects, 12.5 % */ \
    X(6528, 4) /* 5 objects, 6.3 % */ \
    X(6784, 5) /* 6 objects, 4.4 % */ \
    X(6912, 6) /* 7 objects, 3.4 % */ \
    X(8192, 4) /* 4 objects, 15.7 % */ \
    X(9472, 7) /* 6 objects, 14.3 % */ \
    X(9728, 6) /* 5 objects, 3.7 % */ \
    X(10240, 5) /* 4 objects, 5.0 % */ \
    X(10880, 4) /* 3 objects, 6.3 % */ \
    X(12288, 3) /* 2 objects, 11.5 % */ \
    X(13568, 5) /* 3 objects, 10.0 % */ \
    X(14336, 7) /* 4 objects, 5.4 % */ \
    X(16384, 4) /* 2 objects, 12.5 % */ \
    X(18432, 9) /* 4 objects, 11.2 % */ \
    X(19072, 7) /* 3 objects, 3.6 % */ \
    X(20480, 5) /* 2 objects, 6.9 % */ \
    X(21760, 8) /* 3 objects, 6.3 % */ \
    X(24576, 3) /* 1 objects, 11.5 % */ \
    X(27264, 10) /* 3 objects, 10.0 % */ \
    X(28672, 7) /* 2 objects, 5.0 % */ \
    X(32768, 4) /* 1 objects, 12.5 % */

enum { HEAP_CLASSES = 73 }; // class 0 is none
