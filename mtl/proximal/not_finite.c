/* Which pieces of memory have a NaN or an infinity: one read of each, by several threads.

   0 x is 0 where x is finite and NaN elsewhere, and a NaN stays in a sum. Only IEEE arithmetic is asked of the compiler. */

#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include "lanes.h"

/* SUMS of registers hide how long an addition takes. */
enum { SUMS = 8, CHUNK = 1 << 16 };

typedef float lanes __attribute__((vector_size(LANES * sizeof(float))));

struct piece {
    const float *x;
    int64_t count;
    _Atomic int64_t is_bad; /* set where it is */
};

struct job {
    struct piece *pieces;
    int64_t piece_count;
    _Atomic int64_t next_chunk;
};

static int is_bad(const float *x, int64_t count) {
    lanes sums[SUMS] = {{0}};
    int64_t i = 0;
    for (; i + SUMS * LANES <= count; i += SUMS * LANES)
        for (int part = 0; part < SUMS; part++) {
            lanes value;
            memcpy(&value, x + i + part * LANES, sizeof value);
            sums[part] += value * 0.0f;
        }
    float sum = 0;
    for (; i < count; i++) sum += x[i] * 0.0f;
    for (int part = 0; part < SUMS; part++)
        for (int lane = 0; lane < LANES; lane++) sum += sums[part][lane];
    return sum != 0;
}

/* What each of the threads runs: the next chunk until there are none left. */
void find_not_finite(struct job *job) {
    struct piece *piece = job->pieces, *end = piece + job->piece_count;
    int64_t before = 0;
    for (;;) {
        const int64_t next = atomic_fetch_add(&job->next_chunk, 1);
        for (; piece < end; piece++) {
            const int64_t chunks = (piece->count + CHUNK - 1) / CHUNK;
            if (next < before + chunks) break;
            before += chunks;
        }
        if (piece == end) break;
        const int64_t start = (next - before) * CHUNK, left = piece->count - start;
        if (is_bad(piece->x + start, left < CHUNK ? left : CHUNK)) atomic_store(&piece->is_bad, 1);
    }
}
