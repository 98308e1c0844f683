/* group_prox.c as a program: a layer from the standard input, after its proximal step to the standard output. */

#include "group_prox.c"

#include <stdio.h>

int main(void) {
    struct layer layer;
    int64_t sizes[4], with_metric;
    float numbers[3];
    if (fread(sizes, sizeof sizes, 1, stdin) != 1 || fread(&with_metric, sizeof with_metric, 1, stdin) != 1 ||
        fread(numbers, sizeof numbers, 1, stdin) != 1)
        return 1;
    const size_t count = sizes[0] * sizes[1] * sizes[2] * sizes[3];
    float *x = malloc(count * sizeof *x), *second_moment = with_metric ? malloc(count * sizeof *x) : NULL;
    if (fread(x, sizeof *x, count, stdin) != count) return 1;
    if (with_metric && fread(second_moment, sizeof *x, count, stdin) != count) return 1;
    layer = (struct layer){x, second_moment, sizes[0], sizes[1], sizes[2], sizes[3], numbers[0], numbers[1], numbers[2]};
    struct job job = {&layer, 1, 1, 0};
    group_prox(&job);
    return fwrite(x, sizeof *x, count, stdout) != count;
}
