/* LANES floats are one register. Of vectors that take two or four, compilers make twice the time: they keep them in
   memory. */
#pragma once
#if defined __AVX512F__
enum { LANES = 16 };
#elif defined __AVX__
enum { LANES = 8 };
#else
enum { LANES = 4 };
#endif
