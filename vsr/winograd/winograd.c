/* Networks of 3x3 convolutions on a CPU, by Winograd's minimal filtering F(6x6, 3x3).

   Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (arXiv 1509.09308): a tile of
   6x6 results of a 3x3 convolution takes 64 multiplications a pair of channels instead of 324. The
   8x8 pixels under a tile are transformed (B' d B), each of the 64 points is multiplied with its own
   matrix of channels, and the products are transformed back (A' m A). Names are those of section 4.

   Feature maps are float32, height x width x channels, with a border of zeros one pixel wide, and
   as large as whole tiles; what lies outside the picture stays zero, which is the padding of the
   next convolution. Channels are a multiple of LANES.

   A program is a list of steps, run by any number of threads. Each takes the next block of tiles
   until there is none; a step begins when the one before it is complete. So a thread that comes
   late, or never, costs time and nothing else. */

#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#include <immintrin.h>
#define LANES 16
#define REGISTERS 32
#elif defined(__AVX__)
#define LANES 8
#define REGISTERS 16
#elif defined(__aarch64__)
#define LANES 4
#define REGISTERS 32
#else
#define LANES 4
#define REGISTERS 16
#endif

#define TILE 6                 /* results of a tile, along a side */
#define SIDE 8                 /* pixels that they depend on */
#define POINTS (SIDE * SIDE)
#define BLOCK 16               /* tiles that a thread takes at a time: 64 points of them fit its L2 */
#define GROUP 8                /* rows that a matrix product is padded to */
#define LINE 16                /* floats of a cache line */
#define SKEW 16                /* keeps the points of a block out of each other's cache sets */
#define MOST_CHANNELS 512      /* of a step's result */

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
#define INLINE static inline __attribute__((always_inline))

enum kind { CONVOLUTION, MIX };
enum epilogue { LINEAR, SILU, ATTENTION, ADD, SHUFFLE };

/* A convolution reads map `in`. A mix is a matrix product of what is at a pixel: the 3x3 samples
   around it of all planes of `picture`, then its channels in `in`, then those in `other`. */
struct step {
    int32_t kind, epilogue;
    int32_t inputs, others;    /* channels of `in` and `other`; 0 if there is none */
    int32_t colours, outputs;  /* planes of `picture`, channels of `out` */
    const float *in, *other;
    const float *picture;      /* planes of a map's size, with its border */
    const float *skip;         /* a map: what ATTENTION and ADD add */
    const float *kernel;       /* points or 1, inputs of the product, outputs */
    const float *bias;         /* outputs */
    float *out;                /* a map; of SHUFFLE, planes of a picture. It may be `skip` */
    int32_t scale, planes;     /* of SHUFFLE */
};

/* What a thread does at a time. */
struct block {
    int first, count;          /* tiles */
    int next;                  /* first tile of the block that the thread does next; < 0: none */
};

struct program {
    const struct step *steps;
    int32_t count;
    int32_t height, width;     /* of the picture, in pixels */
    int32_t rows, columns;     /* of tiles */
    atomic_int *taken, *done;  /* blocks and tiles, for each step */
};

INLINE vec load(const float *p) { return *(const vec *)p; }
INLINE void store(float *p, vec v) { *(vec *)p = v; }
INLINE vec choose(ivec which, vec a, vec b) { return (vec)((which & (ivec)a) | (~which & (ivec)b)); }
INLINE int least(int a, int b) { return a < b ? a : b; }
INLINE int most(int a, int b) { return a > b ? a : b; }

/* Pixels from one row of a map to the next. */
INLINE size_t stride(const struct program *g) { return (size_t)g->columns * TILE + 2; }


/* The transforms, along one axis. */

INLINE void transform_input(const vec d[SIDE], vec o[SIDE]) { /* B' */
    const vec a = d[2] + d[6] - 4.25f * d[4], b = d[1] + d[5] - 4.25f * d[3];
    const vec c = d[6] + 0.25f * d[2] - 1.25f * d[4], e = 0.5f * d[1] - 2.5f * d[3] + 2.0f * d[5];
    const vec f = d[6] + 4.0f * d[2] - 5.0f * d[4], g = 2.0f * d[1] - 2.5f * d[3] + 0.5f * d[5];
    o[0] = d[0] - d[6] + 5.25f * (d[4] - d[2]);
    o[1] = a + b;
    o[2] = a - b;
    o[3] = c + e;
    o[4] = c - e;
    o[5] = f + g;
    o[6] = f - g;
    o[7] = d[7] - d[1] + 5.25f * (d[3] - d[5]);
}

INLINE void transform_output(const vec m[SIDE], vec o[TILE]) { /* A' */
    const vec a = m[1] + m[2], b = m[1] - m[2], c = m[3] + m[4], d = m[3] - m[4];
    const vec e = m[5] + m[6], f = m[5] - m[6];
    o[0] = m[0] + a + c + e;
    o[1] = b + 2.0f * d + 0.5f * f;
    o[2] = a + 4.0f * c + 0.25f * e;
    o[3] = b + 8.0f * d + 0.125f * f;
    o[4] = a + 16.0f * c + 0.0625f * e;
    o[5] = m[7] + b + 32.0f * d + 0.03125f * f;
}


/* The matrix product of one point, in place: rows x inputs times inputs x outputs. */

INLINE void multiply_panel(const float *rows, size_t pitch, const float *kernel, int inputs,
                           int outputs, float *to, size_t to_pitch, const int height,
                           const int width) {
    vec sum[8][4];
#pragma GCC unroll 8
    for (int r = 0; r < height; r++)
#pragma GCC unroll 4
        for (int j = 0; j < width; j++) sum[r][j] = (vec){0};
    for (int k = 0; k < inputs; k++) {
        vec weight[4];
#pragma GCC unroll 4
        for (int j = 0; j < width; j++) weight[j] = load(kernel + (size_t)k * outputs + j * LANES);
#pragma GCC unroll 8
        for (int r = 0; r < height; r++)
#pragma GCC unroll 4
            for (int j = 0; j < width; j++) sum[r][j] += rows[r * pitch + k] * weight[j];
    }
#pragma GCC unroll 8
    for (int r = 0; r < height; r++)
#pragma GCC unroll 4
        for (int j = 0; j < width; j++) store(to + r * to_pitch + j * LANES, sum[r][j]);
}

/* All panels of GROUP rows; their sums are kept in registers, so their size follows from these. */
INLINE void multiply_group(float *rows, size_t pitch, const float *kernel, int inputs, int outputs,
                           const int width) {
    const int height = REGISTERS == 32 && width <= 3 ? 8 : 4;
    for (int r = 0; r < GROUP; r += height) {
        float *at = rows + r * pitch;
        if (outputs == width * LANES) { /* one panel, whose inputs are read before it is stored */
            multiply_panel(at, pitch, kernel, inputs, outputs, at, pitch, height, width);
            continue;
        }
        float products[8 * MOST_CHANNELS];
        for (int j = 0; j < outputs; j += width * LANES)
            multiply_panel(at, pitch, kernel + j, inputs, outputs, products + j, outputs, height,
                           width);
        for (int i = 0; i < height; i++)
            memcpy(at + i * pitch, products + i * outputs, sizeof(float) * outputs);
    }
}

static void multiply(float *rows, int count, size_t pitch, const float *kernel, int inputs,
                     int outputs) {
    const int panels = outputs / LANES;
    for (int r = 0; r < count; r += GROUP, rows += GROUP * pitch) {
        if (panels % 3 == 0) multiply_group(rows, pitch, kernel, inputs, outputs, 3);
        else if (panels % 2 == 0) multiply_group(rows, pitch, kernel, inputs, outputs, 2);
        else multiply_group(rows, pitch, kernel, inputs, outputs, 1);
    }
}


/* What is done to a convolution's result before it is stored. */

/* 2^t for t up to 126: of its whole part by the exponent's bits, of the rest by a polynomial. */
INLINE vec power_of_two(vec t) {
#if defined(__AVX512F__)
    const vec whole = (vec)_mm512_roundscale_ps((__m512)t, 0);
#else
    t = choose(t > -126.0f, t, (vec){0} - 126.0f);
    const vec shift = (vec){0} + 12582912.0f; /* 1.5 * 2^23: adding it rounds to a whole number */
    const vec shifted = t + shift, whole = shifted - shift;
#endif
    const vec f = t - whole;
    vec p = 1.33335581e-3f * f + 9.61812910e-3f;
    p = p * f + 5.55041087e-2f;
    p = p * f + 2.40226507e-1f;
    p = p * f + 6.93147182e-1f;
    p = p * f + 1.0f;
#if defined(__AVX512F__)
    return (vec)_mm512_scalef_ps((__m512)p, (__m512)whole);
#else
    return (vec)((ivec)p + (((ivec)shifted - (ivec)shift) << 23));
#endif
}

INLINE vec sigmoid(vec x) {
    vec t = -1.44269504f * x;
#if defined(__AVX512F__)
    t = (vec)_mm512_min_ps((__m512)t, _mm512_set1_ps(126.0f));
    const vec divisor = 1.0f + power_of_two(t);
    const vec r = (vec)_mm512_rcp14_ps((__m512)divisor); /* and a step of Newton's, for 24 bits */
    return r * (2.0f - divisor * r);
#else
    t = choose(t < 126.0f, t, (vec){0} + 126.0f);
    return 1.0f / (1.0f + power_of_two(t));
#endif
}

INLINE vec finish(const int epilogue, vec x, const float *skip) {
    switch (epilogue) {
    case SILU: return x * sigmoid(x);
    case ATTENTION: return (x + load(skip)) * (sigmoid(x) - 0.5f);
    case ADD: return x + load(skip);
    default: return x;
    }
}

/* LANES channels of a pixel to the pixels that they are in the picture. */
static void shuffle(const struct step *s, const struct program *g, int y, int x, int channel,
                    vec values) {
    const int scale = s->scale, area = scale * scale;
    const size_t width = (size_t)g->width * scale, plane = width * g->height * scale;
    for (int i = 0; i < least(LANES, s->planes * area - channel); i++) {
        const int c = channel + i, within = c % area;
        const size_t row = (size_t)y * scale + within / scale;
        s->out[c / area * plane + row * width + (size_t)x * scale + within % scale] = values[i];
    }
}

/* A row of a tile, LANES channels of it. */
INLINE void deliver(const struct step *s, const struct program *g, int y, int x, int channel,
                    const vec *sums, int count, const int epilogue) {
    const vec bias = load(s->bias + channel);
    size_t at = (((size_t)y + 1) * stride(g) + x + 1) * s->outputs + channel;
    for (int i = 0; i < count; i++, at += s->outputs) {
        if (epilogue == SHUFFLE) shuffle(s, g, y, x + i, channel, sums[i] + bias);
        else store(s->out + at, finish(epilogue, sums[i] + bias, s->skip + at));
    }
}


/* What a block will need, asked for while another is multiplied: memory is idle then, and a thread
   that gathers or delivers would wait for it. Each point of the product asks for a share. */

/* A row of a tile in a map. */
INLINE void fetch(const float *map, const struct program *g, int channels, int y, int x,
                  const int writing) {
    const float *from = map + ((size_t)y * stride(g) + x) * channels;
    if (writing) for (int i = 0; i < TILE * channels; i += LINE) __builtin_prefetch(from + i, 1);
    else for (int i = 0; i < TILE * channels; i += LINE) __builtin_prefetch(from + i, 0, 2);
}

INLINE void fetch_share(const struct step *s, const struct program *g, struct block block,
                        int point, const int epilogue) {
    const int shares = POINTS / BLOCK, tile = point / shares, share = point % shares;
    const int results = block.first + tile, sources = block.next + tile;
    int y = results / g->columns * TILE + 1, x = results % g->columns * TILE + 1;
    for (int i = share; i < TILE && tile < block.count && epilogue != SHUFFLE; i += shares) {
        fetch(s->out, g, s->outputs, y + i, x, 1);
        if (epilogue == ATTENTION || epilogue == ADD) fetch(s->skip, g, s->outputs, y + i, x, 0);
    }
    y = sources / g->columns * TILE, x = sources % g->columns * TILE;
    for (int i = share; i < SIDE && block.next >= 0 && sources < g->rows * g->columns; i += shares)
        fetch(s->in, g, s->inputs, y + i, x, 0);
}


/* A block of tiles in each kind of step: gather, multiply, deliver. */

static void gather_tile(const struct step *s, const struct program *g, int tile, float *to,
                        size_t slot) {
    const int y = tile / g->columns * TILE, x = tile % g->columns * TILE;
    const float *from = s->in + ((size_t)y * stride(g) + x) * s->inputs;
    for (int channel = 0; channel < s->inputs; channel += LANES) {
        vec half[SIDE][SIDE];
        for (int j = 0; j < SIDE; j++) {
            vec d[SIDE], o[SIDE];
            for (int i = 0; i < SIDE; i++)
                d[i] = load(from + (i * stride(g) + j) * s->inputs + channel);
            transform_input(d, o);
            for (int i = 0; i < SIDE; i++) half[i][j] = o[i];
        }
        for (int i = 0; i < SIDE; i++) {
            vec o[SIDE];
            transform_input(half[i], o);
            for (int j = 0; j < SIDE; j++) store(to + (i * SIDE + j) * slot + channel, o[j]);
        }
    }
}

INLINE void deliver_tile(const struct step *s, const struct program *g, int tile,
                         const float *from, size_t slot, const int epilogue) {
    const int y = tile / g->columns * TILE, x = tile % g->columns * TILE;
    const int height = least(TILE, g->height - y), width = least(TILE, g->width - x);
    for (int channel = 0; channel < s->outputs; channel += LANES) {
        vec half[TILE][SIDE];
        for (int j = 0; j < SIDE; j++) {
            vec m[SIDE], o[TILE];
            for (int i = 0; i < SIDE; i++) m[i] = load(from + (i * SIDE + j) * slot + channel);
            transform_output(m, o);
            for (int i = 0; i < TILE; i++) half[i][j] = o[i];
        }
        for (int i = 0; i < height; i++) {
            vec o[TILE];
            transform_output(half[i], o);
            deliver(s, g, y + i, x, channel, o, width, epilogue);
        }
    }
}

INLINE void convolve(const struct step *s, const struct program *g, struct block block,
                     float *scratch, const int epilogue) {
    const size_t pitch = most(s->inputs, s->outputs), slot = BLOCK * pitch + SKEW;
    for (int t = 0; t < block.count; t++)
        gather_tile(s, g, block.first + t, scratch + t * pitch, slot);
    for (int p = 0; p < POINTS; p++) {
        fetch_share(s, g, block, p, epilogue);
        multiply(scratch + p * slot, block.count, pitch,
                 s->kernel + (size_t)p * s->inputs * s->outputs, s->inputs, s->outputs);
    }
    for (int t = 0; t < block.count; t++)
        deliver_tile(s, g, block.first + t, scratch + t * pitch, slot, epilogue);
}

/* What a mix reads at a pixel, in a row. */
INLINE void gather_pixel(const struct step *s, const struct program *g, int y, int x, float *to) {
    const size_t plane = stride(g) * ((size_t)g->rows * TILE + 2);
    const size_t at = ((size_t)y + 1) * stride(g) + x + 1;
    for (int c = 0; c < s->colours; c++)
        for (int i = 0; i < 3; i++)
            for (int j = 0; j < 3; j++)
                *to++ = s->picture[c * plane + ((size_t)y + i) * stride(g) + x + j];
    for (int c = 0; c < s->inputs; c += LANES, to += LANES)
        store(to, load(s->in + at * s->inputs + c));
    for (int c = 0; c < s->others; c += LANES, to += LANES)
        store(to, load(s->other + at * s->others + c));
}

/* A tile of a mix. */
INLINE void mix(const struct step *s, const struct program *g, int tile, float *scratch,
                const int epilogue) {
    const int y = tile / g->columns * TILE, x = tile % g->columns * TILE;
    const int height = least(TILE, g->height - y), width = least(TILE, g->width - x);
    const int inputs = 9 * s->colours + s->inputs + s->others;
    const size_t pitch = most(inputs, s->outputs);
    for (int i = 0; i < height; i++)
        for (int j = 0; j < width; j++)
            gather_pixel(s, g, y + i, x + j, scratch + (i * width + j) * pitch);
    multiply(scratch, height * width, pitch, s->kernel, inputs, s->outputs);
    for (int i = 0; i < height; i++)
        for (int channel = 0; channel < s->outputs; channel += LANES) {
            vec sums[TILE];
            for (int j = 0; j < width; j++)
                sums[j] = load(scratch + (i * width + j) * pitch + channel);
            deliver(s, g, y + i, x, channel, sums, width, epilogue);
        }
}

/* A block of tiles; the compiler makes a version for each epilogue. */
INLINE void run_block(const struct step *s, const struct program *g, struct block block,
                      float *scratch, const int epilogue) {
    if (s->kind == CONVOLUTION) convolve(s, g, block, scratch, epilogue);
    else
        for (int t = 0; t < block.count; t++) mix(s, g, block.first + t, scratch, epilogue);
}

static void run_any_block(const struct step *s, const struct program *g, struct block block,
                          float *scratch) {
    switch (s->epilogue) {
    case SILU: run_block(s, g, block, scratch, SILU); break;
    case ATTENTION: run_block(s, g, block, scratch, ATTENTION); break;
    case ADD: run_block(s, g, block, scratch, ADD); break;
    case SHUFFLE: run_block(s, g, block, scratch, SHUFFLE); break;
    default: run_block(s, g, block, scratch, LINEAR);
    }
}


/* What Python calls. */

int32_t vsr_lanes(void) { return LANES; }

int32_t vsr_most_channels(void) { return MOST_CHANNELS; }

/* Numbers of scratch that a thread needs for channels of a map, and for inputs of a product. */
int64_t vsr_scratch(int32_t channels, int32_t inputs) {
    const int64_t blocks = POINTS * ((int64_t)BLOCK * channels + SKEW);
    const int64_t pixels = (int64_t)(TILE * TILE + GROUP) * most(channels, inputs);
    return blocks > pixels ? blocks : pixels;
}

/* Take the next block of a step: its first tile, or -1 if there is none. Odd steps begin at the end
   of the picture: what the step before wrote last is still in the cache. */
static int take(const struct program *g, int step) {
    const int blocks = (g->rows * g->columns + BLOCK - 1) / BLOCK;
    const int taken = atomic_fetch_add(&g->taken[step], 1);
    if (taken >= blocks) return -1;
    return (step % 2 ? blocks - 1 - taken : taken) * BLOCK;
}

/* Take part in running a program, with scratch of one's own; returns when it is complete. */
void vsr_run(const struct program *g, float *scratch) {
    const int tiles = g->rows * g->columns;
    for (int i = 0; i < g->count; i++) {
        for (int first = take(g, i), next; first >= 0; first = next) {
            next = take(g, i);
            const struct block block = {first, least(BLOCK, tiles - first), next};
            run_any_block(&g->steps[i], g, block, scratch);
            atomic_fetch_add(&g->done[i], block.count);
        }
        for (int spins = 0; atomic_load(&g->done[i]) < tiles; spins++)
            if (spins > 1000) sched_yield();
    }
}
