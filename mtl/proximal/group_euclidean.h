/* The operator in the Euclidean metric: weights are read twice, for the norms and to scale them, and written once. */

#pragma once

#include "group_blocks.h"

/* ||x|| of one group where the squares of float32 would leave its range. */
static double norm_in_double(const struct block *block, int64_t group) {
    const struct layer *layer = block->layer;
    const float *first = layer->x + block->start + group * layer->inner;
    double squares = 0;
    for (int64_t row = 0; row < layer->outer; row++)
        for (int64_t i = 0; i < layer->inner; i++) {
            const double x = first[row * layer->groups * layer->inner + i];
            squares += x * x;
        }
    return sqrt(squares);
}

/* Sums over rows: x^2 into `squares`, and all bits that are set in a column into `more`. */
static void sum_squares(struct block *block) {
    const struct layer *layer = block->layer;
    const int64_t stride = layer->groups * layer->inner, rows = layer->outer;
    const int64_t full = block->columns / LANES, rest = block->columns % LANES;
    /* Narrow rows lie pages apart, where no processor looks ahead by itself. */
    const int is_narrow = block->columns < stride && block->columns < PAGE;
    lanes *squares = block->squares, *some = block->slopes;
    int_lanes *bits = (int_lanes *)block->more;
    memset(squares, 0, block->panels * sizeof *squares);
    memset(bits, 0, block->panels * sizeof *bits);
    for (int64_t start = 0; start < rows; start += ROWS_TO_ADD) {
        /* Short sums first: one long sum in float32 would lose a digit. */
        const int64_t end = start + ROWS_TO_ADD < rows ? start + ROWS_TO_ADD : rows;
        memset(some, 0, block->panels * sizeof *some);
        for (int64_t row = start, count; row < end; row += count) {
            const float *x = layer->x + row * stride + block->start;
            count = end - row < ROWS_AT_ONCE ? 1 : ROWS_AT_ONCE;
            for (int64_t i = 0; is_narrow && i < count && row + i + ROWS_AHEAD < rows; i++)
                for (int64_t column = 0; column < block->columns; column += LINE)
                    __builtin_prefetch(x + (i + ROWS_AHEAD) * stride + column);
            for (int64_t panel = 0; count == ROWS_AT_ONCE && panel < full; panel++) {
                lanes p = some[panel];
                int_lanes set = bits[panel];
                for (int i = 0; i < ROWS_AT_ONCE; i++) {
                    const lanes value = load_some(x + i * stride + panel * LANES, LANES);
                    p += value * value;
                    set |= (int_lanes)value;
                }
                some[panel] = p;
                bits[panel] = set;
            }
            for (int64_t panel = 0; count == 1 && panel < full; panel++) {
                const lanes value = load_some(x + panel * LANES, LANES);
                some[panel] += value * value;
                bits[panel] |= (int_lanes)value;
            }
            for (int64_t i = 0; rest && i < count; i++) {
                const lanes value = load_some(x + i * stride + full * LANES, rest);
                some[full] += value * value;
                bits[full] |= (int_lanes)value;
            }
        }
        for (int64_t panel = 0; panel < block->panels; panel++) squares[panel] += some[panel];
    }
}

/* Multiply some columns of all rows by their `theta`. */
static void scale(const struct block *block, int64_t first_panel, int64_t end_panel) {
    const struct layer *layer = block->layer;
    const int64_t stride = layer->groups * layer->inner, rows = layer->outer;
    const int64_t rest = end_panel * LANES > block->columns ? block->columns % LANES : 0;
    const int64_t full = rest ? end_panel - 1 : end_panel;
    for (int64_t row = 0, count; row < rows; row += count) {
        float *x = layer->x + row * stride + block->start;
        count = rows - row < ROWS_AT_ONCE ? 1 : ROWS_AT_ONCE;
        for (int64_t panel = first_panel; panel < full; panel++) {
            const lanes theta = block->theta[panel];
            if (count == ROWS_AT_ONCE) {
                for (int i = 0; i < ROWS_AT_ONCE; i++) {
                    float *at = x + i * stride + panel * LANES;
                    store_some(at, load_some(at, LANES) * theta, LANES);
                }
            } else {
                float *at = x + panel * LANES;
                store_some(at, load_some(at, LANES) * theta, LANES);
            }
        }
        for (int64_t i = 0; rest && i < count; i++) {
            float *at = x + i * stride + full * LANES;
            store_some(at, load_some(at, rest) * block->theta[full], rest);
        }
    }
}

/* The whole step in the Euclidean metric, z = max(0, 1 - threshold / ||x||) x, in place. */
static void shrink(struct block *block) {
    const struct layer *layer = block->layer;
    sum_squares(block);
    memset(block->unsettled, 0, block->panels);
    for (int64_t group = 0; group < block->groups; group++) {
        const int64_t first = group * layer->inner, end = first + layer->inner;
        int32_t bits = 0;
        for (int64_t i = first; i < end; i++) bits |= ((const int32_t *)block->more)[i];
        float theta = 1; /* of a group that is zero, without a negative zero */
        if (bits) {
            const float squares = group_sum(block, block->squares, group);
            double norm = sqrtf(squares);
            if (!(squares > 1e-24f && squares < 1e30f)) norm = norm_in_double(block, group);
            theta = norm <= layer->threshold ? 0 : (float)(1 - layer->threshold / norm);
        }
        for (int64_t i = first; i < end; i++) ((float *)block->theta)[i] = theta;
        if (theta != 1) memset(block->unsettled + first / LANES, 1, (end - 1) / LANES - first / LANES + 1);
    }
    /* Columns that stay as they are are left out, but not a few of them between others. */
    int64_t first = -1, end = 0;
    for (int64_t panel = 0; panel < block->panels; panel++) {
        if (!block->unsettled[panel]) continue;
        if (first >= 0 && (panel - end) * LANES >= SHORT_GAP) {
            scale(block, first, end);
            first = -1;
        }
        if (first < 0) first = panel;
        end = panel + 1;
    }
    if (first >= 0) scale(block, first, end);
}
