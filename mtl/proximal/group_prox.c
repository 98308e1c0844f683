/* The group lasso's proximal step over all layers of a network, in float32: one read and one write of the weights.

   A layer is one matrix of `outer` rows and groups * inner columns, or as many of them as it has `parts`, one after the
   other; group g of a part has the columns from g * inner on, in every row. A block is some neighbouring groups: it is copied into a core's cache, solved there and written back. Lanes are
   columns, so that nothing is gathered or transposed; what the columns of a group add up to is summed after each sweep.

   With b = d / threshold the operator (see mtl/proximal/prox.py) is z = x t, t = b theta / (1 + b theta), where theta = ||z||:

       0                                           iff ||b x|| <= 1
       theta <- theta + P / C (sqrt(P) - theta),   P = sum z^2, C = sum z^2 t,  otherwise

   which is Newton's step on the concave 1 / ||x b / (1 + b theta)||, monotone from its tangent's root at 0.

   Only IEEE arithmetic is asked of the compiler, so that NaN stays NaN. */

#include <math.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* LANES floats are one register. Of vectors that take two or four, compilers make twice the time: they keep them in memory. */
#if defined __AVX512F__
enum { LANES = 16 };
#elif defined __AVX__
enum { LANES = 8 };
#else
enum { LANES = 4 };
#endif

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

static int64_t panels_in_block(const struct layer *layer, int64_t euclidean_block) {
    const int64_t groups = groups_in_block(layer, euclidean_block);
    return ((groups < layer->groups ? groups : layer->groups) * layer->inner + LANES - 1) / LANES;
}

/* Memory for the largest block of the job, in one piece; null if there is none. */
static void *make_scratch(const struct job *job, int64_t euclidean_block, struct block *block) {
    int64_t most_lanes = 0, most_panels = 0;
    for (int64_t i = 0; i < job->layer_count; i++) {
        const int64_t panels = panels_in_block(&job->layers[i], euclidean_block);
        if (panels > most_panels) most_panels = panels;
        const int64_t copied = job->layers[i].second_moment ? panels * panel_rows(&job->layers[i]) : 0;
        if (copied > most_lanes) most_lanes = copied;
    }
    /* There may be as many groups as columns, LANES to a panel: as floats they take a `lanes` for each panel. */
    const int64_t lines = ((2 * most_lanes + 7 * most_panels) * LANES + LINE - 1) / LINE;
    lanes *scratch = aligned_alloc(LINE * sizeof(float), lines * LINE * sizeof(float));
    if (!scratch) return NULL;
    block->x = scratch;
    block->b = block->x + most_lanes;
    block->squares = block->b + most_lanes;
    block->more = block->squares + most_panels;
    block->slopes = block->more + most_panels;
    block->theta = block->slopes + most_panels;
    block->group_theta = (float *)(block->theta + most_panels);
    block->settled = (char *)(block->theta + 2 * most_panels);
    block->unsettled = (char *)(block->theta + 3 * most_panels);
    return scratch;
}

/* What each of the threads runs: the next block until there are none left. */
void group_prox(struct job *job) {
    struct block block;
    const int64_t most = euclidean_block(job);
    void *scratch = make_scratch(job, most, &block);
    if (!scratch) return;
    const struct layer *layer = job->layers, *end = layer + job->layer_count;
    int64_t before = 0;
    for (;;) {
        const int64_t next = atomic_fetch_add(&job->next_block, 1);
        for (; layer < end; layer++) {
            const int64_t blocks = layer->parts * blocks_in_part(layer, most);
            if (next < before + blocks) break;
            before += blocks;
        }
        if (layer == end) break;
        const int64_t part = (next - before) / blocks_in_part(layer, most);
        const int64_t first_group = (next - before) % blocks_in_part(layer, most) * groups_in_block(layer, most);
        block.layer = layer;
        block.start = (part * layer->outer * layer->groups + first_group) * layer->inner;
        block.groups = groups_in_block(layer, most);
        if (block.groups > layer->groups - first_group) block.groups = layer->groups - first_group;
        block.columns = block.groups * layer->inner;
        block.panels = (block.columns + LANES - 1) / LANES;
        block.panel_rows = panel_rows(layer);
        memset(block.theta, 0, block.panels * sizeof *block.theta);
        if (layer->second_moment) {
            load(&block);
            first_sums(&block);
            solve(&block);
            store(&block);
        } else {
            shrink(&block);
        }
    }
    free(scratch);
}
