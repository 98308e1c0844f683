/* Layers of a network, cut into blocks of groups; registers, and what the operators of both metrics need.

   A layer is one matrix of `outer` rows and groups * inner columns, or as many of them as it has `parts`, one after the
   other; group g of a part has the columns from g * inner on, in every row. A block is some neighbouring groups. Lanes
   are columns, so that nothing is gathered or transposed; what the columns of a group add up to is summed after each
   sweep over the rows. */

#pragma once

#include <math.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lanes.h"

/* LINE, PAGE: floats in a line of cache and in a page of memory. BLOCK: elements of x and b that half a megabyte of cache
   holds. */
enum { LINE = 16, PAGE = 1024, BLOCK = 1 << 16, ROWS_AHEAD = 8, ROWS_TO_ADD = 32, MANY_COLUMNS = 64, MAX_STEPS = 40 };

/* In the Euclidean metric nothing is copied, and a block is read in order of memory, with whole rows where it can be:
   processors then fetch ahead by themselves, which is worth more than a cache that holds the block. It is cut only for
   the sake of threads, BLOCKS_FOR_EACH of them, and so that the sums of its columns stay in the innermost cache. */
enum { LEAST_EUCLIDEAN_BLOCK = 1 << 18, BLOCKS_FOR_EACH = 4, MOST_COLUMNS = 8192, ROWS_AT_ONCE = 4, SHORT_GAP = 8 * LINE };

typedef float lanes __attribute__((vector_size(LANES * sizeof(float))));
typedef int32_t int_lanes __attribute__((vector_size(LANES * sizeof(int32_t))));

struct layer {
    float *x;
    const float *second_moment; /* null in the Euclidean metric */
    int64_t parts, outer, groups, inner;
    float threshold, bias_correction, eps;
};

struct job {
    const struct layer *layers;
    int64_t layer_count, threads;
    _Atomic int64_t next_block; /* 0 at the end: there was no memory for any thread, and nothing is done */
};

/* A block in a core's cache: panels of LANES columns, each with all rows. */
struct block {
    const struct layer *layer;
    int64_t start; /* of its part and first group among the layer's elements */
    int64_t groups, columns, panels;
    int64_t panel_rows;    /* of x and b, from one panel to the next */
    lanes *x, *b;          /* [panels][panel_rows] */
    lanes *squares, *more; /* [panels]: sums over rows */
    lanes *slopes, *theta; /* [panels]; theta is what x is multiplied with in the Euclidean metric */
    char *unsettled;       /* [panels] */
    float *group_theta;    /* [groups] */
    char *settled;         /* [groups] */
};

/* How many elements a block of the Euclidean metric may have. */
static int64_t euclidean_block(const struct job *job) {
    int64_t total = 0;
    for (int64_t i = 0; i < job->layer_count; i++) {
        const struct layer *layer = &job->layers[i];
        total += layer->parts * layer->outer * layer->groups * layer->inner;
    }
    const int64_t share = total / (BLOCKS_FOR_EACH * job->threads);
    return share > LEAST_EUCLIDEAN_BLOCK ? share : LEAST_EUCLIDEAN_BLOCK;
}

/* About as many as a block holds. Of small kernels a multiple of LINE, so that no lane is empty and no line of cache
   belongs to two blocks; and rows of two lines at least, as processors fetch lines in pairs. */
static int64_t groups_in_block(const struct layer *layer, int64_t euclidean_block) {
    int64_t groups = (layer->second_moment ? BLOCK : euclidean_block) / (layer->outer * layer->inner);
    if (!layer->second_moment && groups > MOST_COLUMNS / layer->inner) groups = MOST_COLUMNS / layer->inner;
    if (layer->inner >= LINE) return groups > 0 ? groups : 1;
    const int64_t least = layer->inner == 1 ? 2 * LINE : LINE;
    return groups > least ? groups / LINE * LINE : least;
}

/* An odd number of lines of cache: else panels of 2^n rows would be in each other's way, as all have the same sets. */
static int64_t panel_rows(const struct layer *layer) {
    const int64_t lanes_in_line = LINE / LANES, lines = (layer->outer + lanes_in_line - 1) / lanes_in_line;
    return (lines | 1) * lanes_in_line;
}

static int64_t blocks_in_part(const struct layer *layer, int64_t euclidean_block) {
    const int64_t groups = groups_in_block(layer, euclidean_block);
    return (layer->groups + groups - 1) / groups;
}

/* LANES values, or the `count` there are and zeros. */
static inline lanes load_some(const float *from, int64_t count) {
    lanes value = {0};
    if (count >= LANES) {
        memcpy(&value, from, sizeof value);
    } else {
        memcpy(&value, from, count * sizeof *from);
    }
    return value;
}

/* LANES values, or the `count` first of them; no negative zeros. */
static inline void store_some(float *to, lanes value, int64_t count) {
    value += 0.0f;
    if (count >= LANES) {
        memcpy(to, &value, sizeof value);
    } else {
        memcpy(to, &value, count * sizeof *to);
    }
}

static float group_sum(const struct block *block, const lanes *sums, int64_t group) {
    const float *columns = (const float *)sums + group * block->layer->inner;
    const int64_t inner = block->layer->inner;
    float sum = 0;
    if (inner < MANY_COLUMNS) {
        for (int64_t i = 0; i < inner; i++) sum += columns[i];
        return sum;
    }
    /* In short sums, LINE of them at a time whatever LANES is, so that all processors get the same: one long sum would
       be slow, and would lose a digit. */
    float total[LINE] = {0};
    for (int64_t start = 0; start < inner; start += LINE * ROWS_TO_ADD) {
        lanes some[LINE / LANES] = {{0}};
        for (int64_t i = start; i < inner && i < start + LINE * ROWS_TO_ADD; i += LINE)
            for (int part = 0; part < LINE / LANES && i + part * LANES < inner; part++)
                some[part] += load_some(columns + i + part * LANES, inner - i - part * LANES);
        for (int i = 0; i < LINE; i++) total[i] += some[i / LANES][i % LANES];
    }
    for (int i = 0; i < LINE; i++) sum += total[i];
    return sum;
}
