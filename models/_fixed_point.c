/* The states of a bidirectional GRU over many posts, pooled, with recurrent products in 16-bit integers.
 *
 * A state in [-1, 1] is taken as round(h * state_scale), a weight as an integer of its row's own scale, chosen by the
 * caller so that no sum of products leaves 32 bits. Sums are therefore exact and do not depend on how posts are
 * batched; states, gates and pooling stay fp32. vpmaddwd multiplies twice as many numbers as an fp32 FMA does.
 *
 * Posts come longest first and are computed in blocks whose states stay in the first-level cache; the rows of a block
 * that have ended are left out, so nothing is computed for padding. UNITS hidden units, all three gates of them, make
 * a panel: the weights of a panel (12 KiB for 128 units) are read once for all posts of a block.
 */
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

#if defined(__x86_64__) && defined(__GNUC__)
#define HAS_KERNEL 1
#include <immintrin.h>
#include <stdlib.h>
#include <string.h>

#define TARGET __attribute__((target("avx2,fma")))
#define INLINE static inline __attribute__((always_inline)) TARGET
#define BLOCK 24 /* posts at a time, an even number: with a panel of weights 30 KiB for 128 hidden units */
#define UNITS 16 /* hidden units of a panel: one vector of 16-bit states */
#define GATES 3  /* reset, update, candidate */
#define LANES 8  /* 32-bit numbers in a vector */
#define SUMS 6   /* vectors of sums per post and panel: GATES * UNITS / LANES */

typedef struct { /* one direction; P panels of UNITS, H = P * UNITS, V tokens */
  int hidden;
  const int16_t *table;      /* (V, P, GATES, UNITS): what a token adds to the gates */
  const int16_t *weight;     /* (P, H / 2, GATES, UNITS, 2) */
  const float *table_scale;  /* (P, GATES, UNITS), to the argument of exp2 */
  const float *weight_scale; /* (P, GATES, UNITS), the same */
  const float *bias;         /* (H,): the candidate's recurrent bias, scaled */
  float state_scale;
} Direction;

typedef struct { /* one panel of a block */
  float state[BLOCK][UNITS], total[BLOCK][UNITS], highest[BLOCK][UNITS];
} PanelState;

/* 2^x within 2e-7 for |x| <= 60, the same as at the edge beyond it: Cephes' polynomial on [-1/2, 1/2]. */
INLINE __m256 exp2_of(__m256 x) {
  const __m256 round_off = _mm256_set1_ps(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer */
  x = _mm256_min_ps(_mm256_max_ps(x, _mm256_set1_ps(-60.0f)), _mm256_set1_ps(60.0f));
  __m256 rounded = _mm256_add_ps(x, round_off);
  __m256 rest = _mm256_sub_ps(x, _mm256_sub_ps(rounded, round_off));
  __m256 power = _mm256_set1_ps(1.339887440e-3f);
  power = _mm256_fmadd_ps(power, rest, _mm256_set1_ps(9.618437357e-3f));
  power = _mm256_fmadd_ps(power, rest, _mm256_set1_ps(5.550332548e-2f));
  power = _mm256_fmadd_ps(power, rest, _mm256_set1_ps(2.402264791e-1f));
  power = _mm256_fmadd_ps(power, rest, _mm256_set1_ps(6.931472028e-1f));
  power = _mm256_fmadd_ps(power, rest, _mm256_set1_ps(1.0f));
  __m256i exponent = _mm256_slli_epi32(_mm256_castps_si256(rounded), 23);
  return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(power), exponent));
}

INLINE __m256 widen(const int16_t *at) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i *)at)));
}

/* A step of LANES units from `first` of a panel; the new state in integers.
 * With r = 1 / (1 + er), z = 1 / (1 + ez), candidate = (1 - en) / (1 + en), the state z * h + (1 - z) * candidate is
 * (ez * (1 - en) + h * (1 + en)) / ((1 + ez) * (1 + en)): one division instead of three. The scales carry -log2(e). */
INLINE __m256i step_units(const Direction *d, int panel, int first, const int16_t *token, const __m256i *sums,
                          PanelState *p, int row) {
  const int at = panel * GATES * UNITS + first;
  const __m256 one = _mm256_set1_ps(1.0f);
  const float *token_scale = d->table_scale + at, *sum_scale = d->weight_scale + at;
#define INPUT(gate) _mm256_mul_ps(widen(token + gate * UNITS + first), _mm256_loadu_ps(token_scale + gate * UNITS))
#define RECURRENT(gate, plus) \
  _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[2 * gate]), _mm256_loadu_ps(sum_scale + gate * UNITS), plus)
  __m256 er = exp2_of(RECURRENT(0, INPUT(0)));
  __m256 ez = exp2_of(RECURRENT(1, INPUT(1)));
  __m256 inner = RECURRENT(2, _mm256_loadu_ps(d->bias + panel * UNITS + first));
  __m256 en = exp2_of(_mm256_add_ps(INPUT(2), _mm256_div_ps(inner, _mm256_add_ps(one, er))));
#undef INPUT
#undef RECURRENT
  float *state = p->state[row] + first, *total = p->total[row] + first, *highest = p->highest[row] + first;
  __m256 up = _mm256_add_ps(one, en);
  __m256 top = _mm256_fmadd_ps(ez, _mm256_sub_ps(one, en), _mm256_mul_ps(_mm256_loadu_ps(state), up));
  __m256 next = _mm256_div_ps(top, _mm256_mul_ps(_mm256_add_ps(one, ez), up));
  _mm256_storeu_ps(state, next);
  _mm256_storeu_ps(total, _mm256_add_ps(_mm256_loadu_ps(total), next));
  _mm256_storeu_ps(highest, _mm256_max_ps(_mm256_loadu_ps(highest), next));
  return _mm256_cvtps_epi32(_mm256_mul_ps(next, _mm256_set1_ps(d->state_scale)));
}

/* Sums of a panel's gates for two posts. Never inlined and in single names: else compilers keep sums in memory. */
TARGET __attribute__((noinline)) static void multiply_two(int n_pairs, const int16_t *weight, const int16_t *state_a,
                                                          const int16_t *state_b, __m256i *sums) {
  __m256i a0 = _mm256_setzero_si256(), a1 = a0, a2 = a0, a3 = a0, a4 = a0, a5 = a0;
  __m256i b0 = a0, b1 = a0, b2 = a0, b3 = a0, b4 = a0, b5 = a0;
  const __m256i *w = (const __m256i *)weight;
  for (int k = 0; k < n_pairs; k++, w += SUMS) {
    int32_t pair_a, pair_b;
    memcpy(&pair_a, state_a + 2 * k, sizeof pair_a);
    memcpy(&pair_b, state_b + 2 * k, sizeof pair_b);
    __m256i xa = _mm256_set1_epi32(pair_a), xb = _mm256_set1_epi32(pair_b);
#define ADD(i)                                               \
  {                                                          \
    __m256i v = _mm256_loadu_si256(w + i);                   \
    __asm__("" : "+x"(v)); /* one load for both products */  \
    a##i = _mm256_add_epi32(a##i, _mm256_madd_epi16(v, xa)); \
    b##i = _mm256_add_epi32(b##i, _mm256_madd_epi16(v, xb)); \
  }
    ADD(0) ADD(1) ADD(2) ADD(3) ADD(4) ADD(5)
#undef ADD
  }
  const __m256i all[2 * SUMS] = {a0, a1, a2, a3, a4, a5, b0, b1, b2, b3, b4, b5};
  memcpy(sums, all, sizeof all);
}

TARGET static void multiply(const Direction *d, int panel, int n, const int16_t *states, __m256i *sums) {
  const int hidden = d->hidden;
  const int16_t *weight = d->weight + (size_t)panel * GATES * UNITS * hidden;
  for (int row = 0; row < n; row += 2) /* of an odd number the last is multiplied twice: sums has room for it */
    multiply_two(hidden / 2, weight, states + row * hidden, states + (row + (row + 1 < n)) * hidden, sums + SUMS * row);
}

/* One step of `n` posts: `from` and `to` are their states in integers, `tokens` and `coming` rows of the table. */
TARGET static void step(const Direction *d, int n, int is_first, const int16_t *from, int16_t *to,
                        const int16_t *const *tokens, const int16_t *const *coming, PanelState *panels) {
  __m256i sums[BLOCK * SUMS];
  if (is_first) memset(sums, 0, sizeof sums);
  for (int panel = 0; panel < d->hidden / UNITS; panel++) {
    const int at = panel * GATES * UNITS;
    if (!is_first) multiply(d, panel, n, from, sums);
    for (int row = 0; row < n; row++) {
      _mm_prefetch((const char *)(coming[row] + at), _MM_HINT_T0);
      _mm_prefetch((const char *)(coming[row] + at + 2 * UNITS), _MM_HINT_T0);
      __m256i low = step_units(d, panel, 0, tokens[row] + at, sums + SUMS * row, panels + panel, row);
      __m256i high = step_units(d, panel, LANES, tokens[row] + at, sums + SUMS * row + 1, panels + panel, row);
      __m256i packed = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xD8);
      _mm256_storeu_si256((__m256i *)(to + row * d->hidden + panel * UNITS), packed);
    }
  }
}

static void clear(int n_panels, PanelState *panels) {
  memset(panels, 0, n_panels * sizeof *panels);
  for (int panel = 0; panel < n_panels; panel++)
    for (int row = 0; row < BLOCK; row++)
      for (int unit = 0; unit < UNITS; unit++) panels[panel].highest[row][unit] = -2.0f;
}

/* Means and maxima of one direction into `pooled` (n, 4H): mean forward, mean backward, maximum forward, backward. */
static void write_pooled(int hidden, int side, int n, const int64_t *lengths, const PanelState *panels, float *pooled) {
  for (int row = 0; row < n; row++)
    for (int unit = 0; unit < hidden; unit++) {
      const PanelState *panel = panels + unit / UNITS;
      float *mean = pooled + (size_t)row * 4 * hidden + side * hidden + unit;
      mean[0] = panel->total[row][unit % UNITS] / (float)lengths[row];
      mean[2 * hidden] = panel->highest[row][unit % UNITS];
    }
}

/* At most BLOCK posts in one direction (side 1 reads them backwards). `states`: room for 2 * BLOCK * H integers. */
static void run_block(const Direction *d, int side, int n, const int32_t *ids, const int64_t *starts,
                      const int64_t *lengths, PanelState *panels, int16_t *states) {
  const int hidden = d->hidden;
  const int16_t *tokens[2][BLOCK];
  clear(hidden / UNITS, panels);
#define TOKEN(row, t) \
  (d->table + (size_t)ids[starts[row] + (side ? lengths[row] - 1 - (t) : (t))] * GATES * hidden)
  for (int row = 0; row < n; row++) tokens[0][row] = TOKEN(row, 0);
  for (int64_t t = 0; t < lengths[0]; t++) {
    const int now = (int)(t & 1);
    while (lengths[n - 1] <= t) n--;
    for (int row = 0; row < n; row++) tokens[!now][row] = TOKEN(row, t + 1 < lengths[row] ? t + 1 : t);
    step(d, n, t == 0, states + now * BLOCK * hidden, states + !now * BLOCK * hidden, tokens[now], tokens[!now],
         panels);
  }
#undef TOKEN
}

static int is_available(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

/* All posts in both directions; -1 without memory. */
static int run(const Direction *directions, int64_t n, const int32_t *ids, const int64_t *starts,
               const int64_t *lengths, float *pooled) {
  const int hidden = directions->hidden;
  PanelState *panels = malloc(hidden / UNITS * sizeof *panels);
  int16_t *states = malloc((size_t)2 * BLOCK * hidden * sizeof *states);
  const int has_room = panels && states;
  for (int side = 0; side < 2 && has_room; side++)
    for (int64_t at = 0; at < n; at += BLOCK) {
      const int rows = n - at < BLOCK ? (int)(n - at) : BLOCK;
      run_block(directions + side, side, rows, ids, starts + at, lengths + at, panels, states);
      write_pooled(hidden, side, rows, lengths + at, panels, pooled + at * 4 * hidden);
    }
  free(panels);
  free(states);
  return has_room ? 0 : -1;
}

/* Both directions of what Python keeps one after the other. */
static void split(int hidden, const Py_buffer *parts, float state_scale, Direction *directions) {
  const int64_t n_gates = (int64_t)GATES * hidden;
  for (int side = 0; side < 2; side++)
    directions[side] = (Direction){
        hidden,
        (const int16_t *)parts[0].buf + side * (parts[0].len / 2 / (int64_t)sizeof(int16_t)),
        (const int16_t *)parts[1].buf + side * n_gates * hidden,
        (const float *)parts[2].buf + side * n_gates,
        (const float *)parts[3].buf + side * n_gates,
        (const float *)parts[4].buf + side * hidden,
        state_scale,
    };
}
#else
static int is_available(void) { return 0; }
#endif

static PyObject *py_is_available(PyObject *self, PyObject *unused) {
  (void)self, (void)unused;
  return PyBool_FromLong(is_available());
}

#ifdef HAS_KERNEL
/* What would be read or written outside the buffers is refused; NULL or what is wrong. */
static const char *find_fault(int hidden, const Py_buffer *parts, const Py_buffer *posts) {
  const int64_t n_gates = (int64_t)GATES * hidden, n = posts[1].len / (int64_t)sizeof(int64_t);
  if (hidden <= 0 || hidden % UNITS) return "hidden must be a multiple of 16";
  if (parts[0].len % (2 * n_gates * sizeof(int16_t))) return "table has another size";
  if (parts[1].len != (int64_t)(2 * n_gates * hidden * sizeof(int16_t))) return "weight has another size";
  if (parts[2].len != (int64_t)(2 * n_gates * sizeof(float)) || parts[3].len != parts[2].len)
    return "scales have another size";
  if (parts[4].len != (int64_t)(2 * hidden * sizeof(float))) return "bias has another size";
  if (posts[2].len != posts[1].len) return "starts and lengths differ in size";
  if (posts[3].len != (int64_t)(n * 4 * hidden * sizeof(float))) return "pooled has another size";
  const int64_t n_tokens = parts[0].len / (2 * n_gates * (int64_t)sizeof(int16_t));
  const int64_t n_ids = posts[0].len / (int64_t)sizeof(int32_t);
  const int32_t *ids = posts[0].buf;
  const int64_t *starts = posts[1].buf, *lengths = posts[2].buf;
  for (int64_t i = 0; i < n; i++) {
    if (lengths[i] < 1 || (i && lengths[i] > lengths[i - 1])) return "posts are not in the order of their lengths";
    if (starts[i] < 0 || starts[i] > n_ids - lengths[i]) return "a post lies outside ids";
  }
  for (int64_t i = 0; i < n_ids; i++)
    if (ids[i] < 0 || ids[i] >= n_tokens) return "an id is not in the table";
  return NULL;
}

static PyObject *pool_buffers(int hidden, float state_scale, const Py_buffer *parts, const Py_buffer *posts) {
  const char *fault = find_fault(hidden, parts, posts);
  if (fault) {
    PyErr_SetString(PyExc_ValueError, fault);
    return NULL;
  }
  Direction directions[2];
  int done;
  split(hidden, parts, state_scale, directions);
  Py_BEGIN_ALLOW_THREADS
  done = run(directions, posts[1].len / (int64_t)sizeof(int64_t), posts[0].buf, posts[1].buf, posts[2].buf,
             posts[3].buf);
  Py_END_ALLOW_THREADS
  return done ? PyErr_NoMemory() : Py_NewRef(Py_None);
}
#endif

static PyObject *py_pool(PyObject *self, PyObject *arguments) {
  (void)self;
#ifdef HAS_KERNEL
  int hidden;
  float state_scale;
  Py_buffer parts[5], posts[4];
  if (!PyArg_ParseTuple(arguments, "if(y*y*y*y*y*)y*y*y*w*", &hidden, &state_scale, parts, parts + 1, parts + 2,
                        parts + 3, parts + 4, posts, posts + 1, posts + 2, posts + 3))
    return NULL;
  PyObject *result = pool_buffers(hidden, state_scale, parts, posts);
  for (int i = 0; i < 5; i++) PyBuffer_Release(parts + i);
  for (int i = 0; i < 4; i++) PyBuffer_Release(posts + i);
  return result;
#else
  (void)arguments;
  PyErr_SetString(PyExc_NotImplementedError, "no kernel for this processor");
  return NULL;
#endif
}

static PyMethodDef methods[] = {
    {"is_available", py_is_available, METH_NOARGS, "Whether this processor can run `pool`."},
    {"pool", py_pool, METH_VARARGS, "Pooled states of posts; see the stub beside this file."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_fixed_point", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__fixed_point(void) { return PyModule_Create(&module); }
