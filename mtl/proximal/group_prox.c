/* The group lasso's proximal step over all layers of a network, in float32, for any number of threads.

   Only IEEE arithmetic is asked of the compiler, so that NaN stays NaN. */

#include "group_adaptive.h"
#include "group_euclidean.h"

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
