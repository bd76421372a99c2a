/* Texts to token ids, for all that needs no regular expression: words seen before, simple words, names and links.
 *
 * An encoder holds what compiled_encoding.py puts in: the tokens of a WordPiece vocabulary, and the ids of words that
 * preparation.py has prepared. A text with a word that is neither known nor simple is left to Python, and its unknown
 * words are told; they are added, and the text comes again. A word that is simple is one that no pattern of
 * preparation.py changes, but for letters in a run and dots. Held equal to the pure path by tests.
 */
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define MAX_CHARS 2000 /* of a text: twice preparation.MAX_CLIP_CHARS, longer ones are clipped there */
#define MAX_SIMPLE 64  /* bytes of a simple word */
#define MAX_DOTS 4     /* ids of an ellipsis */
#define LEFT 0         /* length of a text that is not encoded here: others have a token at least */
#define WHOLE (-1)     /* feelings of a word that the whole text decides about */
#define NAME "models._encoding.Encoder"

typedef struct {
  uint32_t hash, key, n_key, ids; /* where in `keys` and `ids`; an empty slot has n_key 0 */
  uint32_t n_ids;
  int32_t feelings; /* how many of its tokens name one */
} Entry;

typedef struct { /* open addressing, at most half full */
  Entry *slots;
  uint32_t n_slots, n;
  char *keys;
  int32_t *ids;
  size_t n_keys, keys_room, n_ids, ids_room;
} Table;

enum { WORDS, STARTS, FOLLOWERS, N_TABLES };

typedef struct {
  Table tables[N_TABLES];
  uint64_t seed; /* of the hash: nobody outside can choose words that collide */
  int max_tokens, max_run, is_lower;
  PyThread_type_lock lock; /* held while tables are read or changed without the interpreter */
} Encoder;

typedef struct {
  size_t row, at, n;
} Unknown;

typedef struct { /* what one call gives */
  int32_t *ids;
  Unknown *unknown;
  size_t n_ids, ids_room, n_unknown, unknown_room;
} Found;

/* ---- growing arrays and tables ---------------------------------------------------------------------------------- */

/* The array with room for `wanted` things of `size` bytes and perhaps more; NULL without memory, and nothing changed. */
static void *grown(void *array, size_t *room, size_t wanted, size_t size) {
  if (array && wanted <= *room) return array;
  const size_t more = wanted < 64 ? 128 : 2 * wanted;
  void *moved = realloc(array, more * size);
  if (moved) *room = more;
  return moved;
}

#define GROW(array, room, wanted) \
  do {                                                                 \
    void *moved = grown(array, &(room), wanted, sizeof *(array));      \
    if (!moved) return -1;                                             \
    (array) = moved;                                                   \
  } while (0)

static uint32_t hash_of(uint64_t seed, const char *key, size_t n) {
  uint64_t hash = seed ^ n, part;
  for (; n >= 8; key += 8, n -= 8) {
    memcpy(&part, key, 8);
    hash = (hash ^ part) * 0x9E3779B97F4A7C15u;
    hash ^= hash >> 32;
  }
  part = 0;
  memcpy(&part, key, n);
  hash = (hash ^ part ^ seed >> 7) * 0xD6E8FEB86659FD93u;
  return (uint32_t)(hash ^ hash >> 32);
}

static Entry *slot_of(const Table *t, uint32_t hash, const char *key, size_t n) {
  uint32_t at = hash & (t->n_slots - 1);
  for (;; at = (at + 1) & (t->n_slots - 1)) {
    Entry *entry = t->slots + at;
    if (!entry->n_key || (entry->hash == hash && entry->n_key == n && !memcmp(t->keys + entry->key, key, n)))
      return entry;
  }
}

static const Entry *find(const Encoder *e, int which, const char *key, size_t n) {
  const Table *t = e->tables + which;
  if (!t->n) return NULL;
  const Entry *entry = slot_of(t, hash_of(e->seed, key, n), key, n);
  return entry->n_key ? entry : NULL;
}

static int make_room(Table *t, size_t n_key, size_t n_ids) {
  if (t->n_keys + n_key > UINT32_MAX || t->n_ids + n_ids > UINT32_MAX) return -1;
  GROW(t->keys, t->keys_room, t->n_keys + n_key);
  GROW(t->ids, t->ids_room, t->n_ids + n_ids);
  if (2 * (t->n + 1) <= t->n_slots) return 0;
  Table wider = *t;
  wider.n_slots = t->n_slots ? 2 * t->n_slots : 1024;
  wider.slots = calloc(wider.n_slots, sizeof *wider.slots);
  if (!wider.slots) return -1;
  for (uint32_t i = 0; i < t->n_slots; i++) {
    const Entry *entry = t->slots + i;
    if (entry->n_key) *slot_of(&wider, entry->hash, t->keys + entry->key, entry->n_key) = *entry;
  }
  free(t->slots);
  *t = wider;
  return 0;
}

/* The first value stays. -1 without memory. */
static int add(Encoder *e, int which, const char *key, size_t n, const int32_t *ids, size_t n_ids, int feelings) {
  Table *t = e->tables + which;
  if (!n || find(e, which, key, n)) return 0;
  if (make_room(t, n, n_ids)) return -1;
  const uint32_t hash = hash_of(e->seed, key, n);
  *slot_of(t, hash, key, n) =
      (Entry){hash, (uint32_t)t->n_keys, (uint32_t)n, (uint32_t)t->n_ids, (uint32_t)n_ids, feelings};
  memcpy(t->keys + t->n_keys, key, n);
  if (n_ids) memcpy(t->ids + t->n_ids, ids, n_ids * sizeof *ids);
  t->n_keys += n, t->n_ids += n_ids, t->n++;
  return 0;
}

/* ---- words ------------------------------------------------------------------------------------------------------ */

static int is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
static int is_alnum(char c) { return is_letter(c) || (c >= '0' && c <= '9'); }
static char lowered(char c) { return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c; }

static int begins(const char *s, size_t n, const char *lower) {
  const size_t wanted = strlen(lower);
  if (n < wanted) return 0;
  for (size_t i = 0; i < wanted; i++)
    if (lowered(s[i]) != lower[i]) return 0;
  return 1;
}

/* Bytes of the white space that `s` begins with, as str.split has it. */
static size_t n_space(const char *s, size_t n) {
  const unsigned char *c = (const unsigned char *)s;
  if (c[0] < 0x80) return c[0] == ' ' || (c[0] >= 9 && c[0] <= 13) || (c[0] >= 28 && c[0] <= 31);
  if (n >= 2 && c[0] == 0xC2) return c[1] == 0x85 || c[1] == 0xA0 ? 2 : 0;
  if (n < 3) return 0;
  if (c[0] == 0xE1) return c[1] == 0x9A && c[2] == 0x80 ? 3 : 0;
  if (c[0] == 0xE3) return c[1] == 0x80 && c[2] == 0x80 ? 3 : 0;
  if (c[0] != 0xE2) return 0;
  if (c[1] == 0x81) return c[2] == 0x9F ? 3 : 0;
  return c[1] == 0x80 && (c[2] <= 0x8A || c[2] == 0xA8 || c[2] == 0xA9 || c[2] == 0xAF) ? 3 : 0;
}

/* Whether the only patterns of preparation._prepare that could match are runs and dots. */
static int is_simple(const char *s, size_t n) {
  if (n > MAX_SIMPLE) return 0;
  for (size_t i = 0; i < n; i++) {
    const char c = s[i], *rest = s + i;
    const size_t left = n - i;
    if (c <= ' ' || c > '~' || strchr("&/@:=;^_<#`'", c)) return 0; /* entities, links, marks, quotes */
    if ((c | 32) == 'x' && left > 1 && ((s[i + 1] | 32) == 'x' || s[i + 1] == 'D')) return 0; /* xxjoy, xD */
    if ((c | 32) == 'x' && left > 2 && s[i + 1] == '-' && s[i + 2] == 'D') return 0;
    if (begins(rest, left, "http") || begins(rest, left, "www.")) return 0;
    if (begins(rest, left, "nt") && (left == 2 || !is_alnum(s[i + 2]))) return 0; /* cant */
  }
  return 1;
}

/* Longest tokens first, from the left, as wordpiece.py does. Returns how many ids it wrote. */
static size_t ids_of_run(const Encoder *e, const char *run, size_t n, int32_t *ids) {
  size_t count = 0, begin = 0;
  while (begin < n && n <= (size_t)e->max_run) {
    size_t end = n;
    const Entry *token = NULL;
    const int which = begin ? FOLLOWERS : STARTS;
    while (end > begin && !(token = find(e, which, run + begin, end - begin))) end--;
    if (!token) break;
    ids[count++] = e->tables[which].ids[token->ids];
    begin = end;
  }
  if (begin == n) return count;
  const Entry *unknown = find(e, STARTS, " unknown", 8);
  ids[0] = e->tables[STARTS].ids[unknown->ids];
  return 1;
}

static size_t copy_ids(const Table *t, const Entry *entry, int32_t *ids) {
  memcpy(ids, t->ids + entry->ids, entry->n_ids * sizeof *ids);
  return entry->n_ids;
}

/* Ids of a simple word; `ids` has room for MAX_SIMPLE * MAX_DOTS. */
static size_t ids_of_simple(const Encoder *e, const char *s, size_t n, int32_t *ids) {
  char word[MAX_SIMPLE];
  size_t n_word = 0, count = 0;
  for (size_t i = 0; i < n; i++) { /* three or more of a kind to two */
    const int runs = is_letter(s[i]) || strchr("!?*,~-+$", s[i]);
    if (runs && i >= 2 && s[i] == s[i - 1] && s[i] == s[i - 2]) continue;
    word[n_word++] = s[i];
  }
  if (e->is_lower)
    for (size_t i = 0; i < n_word; i++) word[i] = lowered(word[i]);
  for (size_t at = 0, end; at < n_word; at = end) {
    end = at + 1;
    if (is_alnum(word[at])) {
      while (end < n_word && is_alnum(word[end])) end++;
    } else if (word[at] == '.') {
      while (end < n_word && word[end] == '.') end++;
    }
    if (word[at] == '.' && end - at > 1)
      count += copy_ids(e->tables + STARTS, find(e, STARTS, " dots", 5), ids + count);
    else
      count += ids_of_run(e, word + at, end - at, ids + count);
  }
  return count;
}

/* The vocabulary's entry for a mention or a link that is all of a word, as preparation.placeholder_of; or NULL. */
static const Entry *placeholder(const Encoder *e, const char *s, size_t n) {
  if (s[0] == '@') {
    for (size_t i = 1; i < n; i++)
      if (!is_alnum(s[i]) && s[i] != '_') return NULL;
    const int is_http = begins(s + 1, n - 1, "http") && (n == 5 || (n == 6 && lowered(s[5]) == 's'));
    return n < 2 || is_http ? NULL : find(e, STARTS, " user", 5);
  }
  if (n < 4 || memcmp(s, "http", 4)) return NULL;
  size_t at = n > 4 && lowered(s[4]) == 's' ? 5 : 4;
  if (n < at + 4 || memcmp(s + at, "://", 3)) return NULL;
  for (at += 3; at < n; at++)
    if (s[at] <= ' ' || s[at] > '~' || s[at] == '&') return NULL;
  return find(e, STARTS, " link", 5);
}

/* ---- texts ------------------------------------------------------------------------------------------------------ */

/* The entry of a word and the table it is in; simple words become known. NULL: Python must prepare it. */
static const Entry *entry_of(Encoder *e, const char *s, size_t n, int *which, int *failed) {
  *which = WORDS;
  const Entry *entry = find(e, WORDS, s, n);
  if (entry) return entry;
  *which = STARTS;
  if ((entry = placeholder(e, s, n))) return entry;
  if (!is_simple(s, n)) return NULL;
  int32_t ids[MAX_SIMPLE * MAX_DOTS];
  *which = WORDS;
  *failed |= add(e, WORDS, s, n, ids, ids_of_simple(e, s, n, ids), 0);
  return find(e, WORDS, s, n);
}

/* Cut to max_tokens, the middle left out; a text without any has the unknown one. */
static int fit(const Encoder *e, Found *found, size_t begin) {
  const size_t n = found->n_ids - begin, most = (size_t)e->max_tokens, head = most / 2;
  if (!n) {
    GROW(found->ids, found->ids_room, found->n_ids + 1);
    const Entry *unknown = find(e, STARTS, " unknown", 8);
    found->ids[found->n_ids++] = e->tables[STARTS].ids[unknown->ids];
  } else if (n > most) {
    int32_t *ids = found->ids + begin;
    memmove(ids + head, ids + n - (most - head), (most - head) * sizeof *ids);
    found->n_ids = begin + most;
  }
  return 0;
}

static int note_unknown(Found *found, size_t row, size_t at, size_t n) {
  GROW(found->unknown, found->unknown_room, found->n_unknown + 1);
  found->unknown[found->n_unknown++] = (Unknown){row, at, n};
  return 0;
}

/* Append the ids of a text and return 0; 1 where it is left to Python, with its unknown words noted; -1 without memory.
 * Neighbours that together hold three feelings may be a run, of which the third goes: tokenizer._has_run. */
static int encode_text(Encoder *e, size_t row, const char *s, size_t n, Found *found) {
  const size_t begin = found->n_ids;
  int is_left = 0, failed = 0, n_marked = 0, n_feelings = 0, which;
  for (size_t at = 0, end; at < n && !failed; at = end) {
    const size_t blank = n_space(s + at, n - at);
    end = at + blank;
    if (blank) continue;
    while (end < n && !n_space(s + end, n - end)) end++;
    const Entry *entry = entry_of(e, s + at, end - at, &which, &failed);
    if (!entry) {
      is_left = 1;
      failed |= note_unknown(found, row, at, end - at);
      continue;
    }
    if (entry->feelings) {
      n_marked++, n_feelings += entry->feelings;
      is_left |= entry->feelings == WHOLE || (n_marked > 1 && n_feelings > 2);
    } else if (entry->n_ids) {
      n_marked = n_feelings = 0;
    }
    GROW(found->ids, found->ids_room, found->n_ids + entry->n_ids);
    found->n_ids += copy_ids(e->tables + which, entry, found->ids + found->n_ids);
  }
  if (is_left) found->n_ids = begin;
  return failed || (!is_left && fit(e, found, begin)) ? -1 : is_left;
}

/* ---- Python ----------------------------------------------------------------------------------------------------- */

static void free_encoder(Encoder *e) {
  for (int i = 0; i < N_TABLES; i++) {
    free(e->tables[i].slots);
    free(e->tables[i].keys);
    free(e->tables[i].ids);
  }
  if (e->lock) PyThread_free_lock(e->lock);
  free(e);
}

static void forget_capsule(PyObject *capsule) { free_encoder(PyCapsule_GetPointer(capsule, NAME)); }

static PyObject *py_make(PyObject *self, PyObject *arguments) {
  (void)self;
  int max_tokens, max_run, is_lower;
  unsigned long long seed;
  if (!PyArg_ParseTuple(arguments, "iipK", &max_tokens, &max_run, &is_lower, &seed)) return NULL;
  if (max_tokens < 1) return PyErr_SetString(PyExc_ValueError, "max_tokens must be at least 1"), NULL;
  Encoder *e = calloc(1, sizeof *e);
  if (!e || !(e->lock = PyThread_allocate_lock())) return free(e), PyErr_NoMemory();
  e->seed = seed, e->max_tokens = max_tokens, e->max_run = max_run, e->is_lower = is_lower;
  PyObject *capsule = PyCapsule_New(e, NAME, forget_capsule);
  if (!capsule) free_encoder(e);
  return capsule;
}

static PyObject *py_add(PyObject *self, PyObject *arguments) {
  (void)self;
  PyObject *capsule;
  int which, feelings, failed;
  const char *key, *ids;
  Py_ssize_t n_key, n_ids;
  if (!PyArg_ParseTuple(arguments, "Ois#y#i", &capsule, &which, &key, &n_key, &ids, &n_ids, &feelings)) return NULL;
  Encoder *e = PyCapsule_GetPointer(capsule, NAME);
  if (!e) return NULL;
  n_ids /= (Py_ssize_t)sizeof(int32_t);
  if (which < 0 || which >= N_TABLES || (which != WORDS && (n_ids < 1 || n_ids > MAX_DOTS)))
    return PyErr_SetString(PyExc_ValueError, "a token has one id, a mark at most four"), NULL;
  int32_t *copied = malloc((size_t)(n_ids + 1) * sizeof *copied); /* bytes lie anywhere */
  if (!copied) return PyErr_NoMemory();
  memcpy(copied, ids, (size_t)n_ids * sizeof *copied);
  PyThread_acquire_lock(e->lock, 1);
  failed = add(e, which, key, (size_t)n_key, copied, (size_t)n_ids, feelings);
  PyThread_release_lock(e->lock);
  free(copied);
  return failed ? PyErr_NoMemory() : Py_NewRef(Py_None);
}

static PyObject *py_n_bytes(PyObject *self, PyObject *capsule) {
  (void)self;
  Encoder *e = PyCapsule_GetPointer(capsule, NAME);
  if (!e) return NULL;
  PyThread_acquire_lock(e->lock, 1);
  const Table *t = e->tables + WORDS;
  const size_t n = t->n * sizeof(Entry) + t->n_keys + t->n_ids * sizeof(int32_t);
  PyThread_release_lock(e->lock);
  return PyLong_FromSize_t(n);
}

static PyObject *py_forget(PyObject *self, PyObject *capsule) {
  (void)self;
  Encoder *e = PyCapsule_GetPointer(capsule, NAME);
  if (!e) return NULL;
  PyThread_acquire_lock(e->lock, 1);
  Table *t = e->tables + WORDS;
  if (t->slots) memset(t->slots, 0, t->n_slots * sizeof *t->slots);
  t->n = 0, t->n_keys = t->n_ids = 0;
  PyThread_release_lock(e->lock);
  return Py_NewRef(Py_None);
}

/* Every unknown word, and ids; NULL without memory. */
static PyObject *result_of(const Found *found, const char *const *texts) {
  PyObject *words = PyList_New((Py_ssize_t)found->n_unknown);
  for (size_t i = 0; words && i < found->n_unknown; i++) {
    const Unknown *u = found->unknown + i;
    PyObject *word = PyUnicode_DecodeUTF8(texts[u->row] + u->at, (Py_ssize_t)u->n, NULL);
    if (!word || PyList_SetItem(words, (Py_ssize_t)i, word)) return Py_DECREF(words), NULL;
  }
  return words ? Py_BuildValue("(y#N)", found->ids ? (const char *)found->ids : "",
                               (Py_ssize_t)(found->n_ids * sizeof(int32_t)), words)
               : NULL;
}

/* All texts, without the interpreter; `texts[i]` NULL and those too long are left. -1 without memory. */
static int encode_all(Encoder *e, size_t n, const char *const *texts, const size_t *sizes, int64_t *starts,
                      int64_t *lengths, Found *found) {
  int failed = 0;
  for (size_t i = 0; i < n && failed != -1; i++) {
    starts[i] = (int64_t)found->n_ids;
    failed = texts[i] ? encode_text(e, i, texts[i], sizes[i], found) : 1;
    lengths[i] = failed ? LEFT : (int64_t)found->n_ids - starts[i];
  }
  return failed == -1 ? -1 : 0;
}

static PyObject *encode_list(Encoder *e, PyObject *list, size_t n, int64_t *starts, int64_t *lengths) {
  PyObject *result = NULL;
  Found found = {0};
  const char **texts = calloc(n + 1, sizeof *texts);
  size_t *sizes = calloc(n + 1, sizeof *sizes);
  int failed = !texts || !sizes;
  for (size_t i = 0; i < n && !failed; i++) {
    PyObject *text = PyList_GetItem(list, (Py_ssize_t)i);
    Py_ssize_t size = 0;
    const Py_ssize_t n_chars = text ? PyUnicode_GetLength(text) : -1;
    if (n_chars > MAX_CHARS) continue;
    if (n_chars < 0) goto done;
    texts[i] = PyUnicode_AsUTF8AndSize(text, &size);
    if (!texts[i]) PyErr_Clear(); /* a lone surrogate */
    sizes[i] = (size_t)size;
  }
  Py_BEGIN_ALLOW_THREADS
  if (!failed) {
    PyThread_acquire_lock(e->lock, 1);
    failed = encode_all(e, n, texts, sizes, starts, lengths, &found);
    PyThread_release_lock(e->lock);
  }
  Py_END_ALLOW_THREADS
  result = failed ? PyErr_NoMemory() : result_of(&found, texts);
done:
  free(texts);
  free(sizes);
  free(found.ids);
  free(found.unknown);
  return result;
}

static PyObject *py_encode(PyObject *self, PyObject *arguments) {
  (void)self;
  PyObject *capsule, *list, *result = NULL;
  Py_buffer starts, lengths;
  if (!PyArg_ParseTuple(arguments, "OOw*w*", &capsule, &list, &starts, &lengths)) return NULL;
  Encoder *e = PyCapsule_GetPointer(capsule, NAME);
  const Py_ssize_t n = e ? PyList_Size(list) : -1, wanted = n * (Py_ssize_t)sizeof(int64_t);
  if (n >= 0 && (starts.len != wanted || lengths.len != wanted))
    PyErr_SetString(PyExc_ValueError, "starts and lengths need one number per text");
  else if (n >= 0 && !(find(e, STARTS, " user", 5) && find(e, STARTS, " link", 5) && find(e, STARTS, " dots", 5) &&
                       find(e, STARTS, " unknown", 8)))
    PyErr_SetString(PyExc_ValueError, "the encoder lacks its marks");
  else if (n >= 0)
    result = encode_list(e, list, (size_t)n, starts.buf, lengths.buf);
  PyBuffer_Release(&starts);
  PyBuffer_Release(&lengths);
  return result;
}

static PyMethodDef methods[] = {
    {"make", py_make, METH_VARARGS, "An empty encoder; see the stub beside this file."},
    {"add", py_add, METH_VARARGS, "Add a word or a token."},
    {"encode", py_encode, METH_VARARGS, "Ids of texts, and the words that are not known."},
    {"n_bytes", py_n_bytes, METH_O, "What the words take."},
    {"forget", py_forget, METH_O, "Forget all words."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_encoding", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__encoding(void) { return PyModule_Create(&module); }
