/* The operator in Adam's metric: a block is copied into a core's cache, solved there and written back.

   With b = d / threshold the operator (see mtl/proximal/prox.py) is z = x t, t = b theta / (1 + b theta), where theta = ||z||:

       0                                           iff ||b x|| <= 1
       theta <- theta + P / C (sqrt(P) - theta),   P = sum z^2, C = sum z^2 t,  otherwise

   which is Newton's step on the concave 1 / ||x b / (1 + b theta)||, monotone from its tangent's root at 0. */

#pragma once

#include "group_blocks.h"

/* 1 / a for 1 <= a < 1e37, to the last bits: three Newton steps from a guess in the exponent. */
static inline lanes reciprocal(lanes a) {
    int_lanes bits;
    memcpy(&bits, &a, sizeof a);
    bits = 0x7ef311c7 - bits;
    lanes r = {0};
    memcpy(&r, &bits, sizeof r);
    r = r * (2.0f - a * r);
    r = r * (2.0f - a * r);
    return r * (2.0f - a * r);
}

/* min(a, limit), but NaN where a is. */
static inline lanes at_most(lanes a, float limit) {
    const int_lanes above = a > limit;
    return (lanes)((above & (int_lanes)((lanes){0} + limit)) | (~above & (int_lanes)a));
}

static inline lanes root(lanes a) {
    lanes r = {0};
    for (int i = 0; i < LANES; i++) r[i] = sqrtf(a[i]);
    return r;
}

/* Copy x, and b = d / threshold, row by row; the columns that fill up the last panel are 0 in x. */
static void load(struct block *block) {
    const struct layer *layer = block->layer;
    const int64_t stride = layer->groups * layer->inner, start = block->start, rows = layer->outer;
    const float scale = 1 / layer->bias_correction, one = 1 / layer->threshold, eps = layer->eps;
    for (int64_t row = 0; row < rows; row++) {
        const float *x = layer->x + row * stride + start;
        const float *v = layer->second_moment + row * stride + start;
        lanes *to_x = block->x + row, *to_b = block->b + row;
        /* Rows lie pages apart, where no processor looks ahead by itself. */
        for (int64_t column = 0; column < block->columns && row + ROWS_AHEAD < rows; column += LINE) {
            __builtin_prefetch(x + ROWS_AHEAD * stride + column);
            __builtin_prefetch(v + ROWS_AHEAD * stride + column);
        }
        for (int64_t panel = 0; panel < block->panels; panel++) {
            const int64_t count = block->columns - panel * LANES;
            to_x[panel * block->panel_rows] = load_some(x + panel * LANES, count);
            /* With thresholds from 1e-20 on, the limit is d > 1e5, far from any threshold; b theta stays a float. */
            to_b[panel * block->panel_rows] = at_most((root(load_some(v + panel * LANES, count) * scale) + eps) * one, 1e25f);
        }
    }
}

/* Sums over rows: x^2, (b x)^2 into `more` and (b x)^2 b into `slopes`. */
static void first_sums(struct block *block) {
    const int64_t rows = block->layer->outer;
    for (int64_t panel = 0; panel < block->panels; panel++) {
        const lanes *x = block->x + panel * block->panel_rows, *b = block->b + panel * block->panel_rows;
        lanes squares = {0}, more = {0}, slopes = {0};
        for (int64_t start = 0; start < rows; start += ROWS_TO_ADD) {
            /* Short sums first: one long sum in float32 would lose a digit. */
            const int64_t end = start + ROWS_TO_ADD < rows ? start + ROWS_TO_ADD : rows;
            lanes p = {0}, q = {0}, s = {0};
            for (int64_t row = start; row < end; row++) {
                const lanes y = b[row] * x[row], y2 = y * y;
                p += x[row] * x[row];
                q += y2;
                s += y2 * b[row];
            }
            squares += p;
            more += q;
            slopes += s;
        }
        block->squares[panel] = squares;
        block->more[panel] = more;
        block->slopes[panel] = slopes;
    }
}

/* P into `squares` and C into `slopes` of the panels that are not settled. */
static void sweep(struct block *block) {
    const int64_t rows = block->layer->outer;
    for (int64_t panel = 0; panel < block->panels; panel++) {
        if (!block->unsettled[panel]) continue;
        const lanes *x = block->x + panel * block->panel_rows, *b = block->b + panel * block->panel_rows;
        const lanes theta = block->theta[panel];
        lanes squares = {0}, slopes = {0};
        for (int64_t start = 0; start < rows; start += ROWS_TO_ADD) {
            const int64_t end = start + ROWS_TO_ADD < rows ? start + ROWS_TO_ADD : rows;
            lanes p = {0}, c = {0};
            for (int64_t row = start; row < end; row++) {
                const lanes a = b[row] * theta, t = a * reciprocal(1.0f + a);
                const lanes z = x[row] * t, z2 = z * z;
                p += z2;
                c += z2 * t;
            }
            squares += p;
            slopes += c;
        }
        block->squares[panel] = squares;
        block->slopes[panel] = slopes;
    }
}

/* theta of one group where the squares of float32 would leave its range. */
static float solve_in_double(const struct block *block, int64_t group) {
    const struct layer *layer = block->layer;
    double theta = 0;
    for (int step = 0; step < MAX_STEPS; step++) {
        double squares = 0, slopes = 0;
        for (int64_t i = group * layer->inner; i < (group + 1) * layer->inner; i++) {
            const float *x = (const float *)(block->x + i / LANES * block->panel_rows) + i % LANES;
            const float *b = (const float *)(block->b + i / LANES * block->panel_rows) + i % LANES;
            for (int64_t row = 0; row < layer->outer; row++) {
                const double slope = b[row * LANES], a = slope * theta;
                const double t = step ? a / (1 + a) : slope, z = x[row * LANES] * t;
                squares += z * z;
                slopes += z * z * t;
            }
        }
        const double norm = sqrt(squares);
        if (step == 0) {
            if (squares <= 1) return 0;
            theta = squares / slopes * (norm - 1);
        } else {
            const double increment = squares / slopes * (norm - theta);
            theta += increment;
            if (!(increment > 1e-5 * theta)) break;
        }
    }
    return (float)theta;
}

/* theta of each group. */
static void solve(struct block *block) {
    const int64_t inner = block->layer->inner;
    int64_t open = 0;
    for (int64_t group = 0; group < block->groups; group++) {
        const float squares = group_sum(block, block->squares, group);
        const float dual = group_sum(block, block->more, group), slope = group_sum(block, block->slopes, group);
        /* NaN is not in range either. */
        const int in_range =
            squares > 1e-12f && squares < 1e22f && dual < 1e24f && slope > 1e-24f && slope < 1e30f;
        block->settled[group] = dual <= 1 || !in_range;
        if (dual <= 1) {
            block->group_theta[group] = 0;
        } else if (in_range) {
            block->group_theta[group] = dual / slope * (sqrtf(dual) - 1);
            open++;
        } else {
            block->group_theta[group] = solve_in_double(block, group);
        }
    }
    for (int step = 0;; step++) {
        memset(block->unsettled, 0, block->panels);
        for (int64_t group = 0; group < block->groups; group++)
            for (int64_t column = group * inner; column < (group + 1) * inner; column++) {
                ((float *)block->theta)[column] = block->group_theta[group];
                if (!block->settled[group]) block->unsettled[column / LANES] = 1;
            }
        if (!open || step == MAX_STEPS) return;
        sweep(block);
        for (int64_t group = 0; group < block->groups; group++) {
            if (block->settled[group]) continue;
            const float squares = group_sum(block, block->squares, group);
            const float slope = group_sum(block, block->slopes, group), theta = block->group_theta[group];
            const float increment = squares / slope * (sqrtf(squares) - theta);
            /* The error that is left is about the square of this step. */
            if (!(increment > 1e-4f * theta)) {
                block->settled[group] = 1;
                open--;
            }
            if (increment > 0) block->group_theta[group] = theta + increment;
        }
    }
}

static void store(const struct block *block) {
    const struct layer *layer = block->layer;
    const int64_t stride = layer->groups * layer->inner, start = block->start;
    for (int64_t row = 0; row < layer->outer; row++) {
        float *out = layer->x + row * stride + start;
        /* What was read to be copied may have left the cache. */
        for (int64_t column = 0; column < block->columns && row + ROWS_AHEAD < layer->outer; column += LINE)
            __builtin_prefetch(out + ROWS_AHEAD * stride + column, 1);
        for (int64_t panel = 0; panel < block->panels; panel++) {
            const int64_t at = panel * block->panel_rows + row;
            const lanes a = at_most(block->b[at] * block->theta[panel], 1e30f);
            store_some(out + panel * LANES, block->x[at] * (a / (1.0f + a)), block->columns - panel * LANES);
        }
    }
}
