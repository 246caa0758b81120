/* Autoencoders without writing C: train one on pictures or tables, then reconstruct, denoise,
   encode, decode, find what is odd, draw samples, all from the command line.

   Shows: a whole program around ae.h. Data of any format becomes an ae_dataset; a line of text
   becomes a network; a model file keeps the network, its weights, the training's state and what
   else the program must know (scaling, threshold) as notes, so that each command needs the file
   and nothing more. All memory is sized from the data's files and from ae_plan.

   cc -O2 -o ae examples/ae.c -lm && ./ae train data && ./ae reconstruct data && ./ae --help
   With -DUSE_PNG -lpng it reads PNG, with -DUSE_JPEG -ljpeg JPEG: `make build/ae` finds out.    */
#define _POSIX_C_SOURCE 200809L
#define AE_IMPLEMENTATION
#include "../ae.h"
#include <dirent.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#ifdef USE_PNG
#include <png.h>
#endif
#ifdef USE_JPEG
#include <setjmp.h>
#include <jpeglib.h>
#endif
#ifdef _WIN32
#include <direct.h>
#define mkdir(path, mode) _mkdir(path)
#endif

enum { LONGEST = 1024, LAYERS = 64, SHOWN = 10, SEPARATE = 1000, BATCH = 64, ROOMS = 40 };

// ---------------------------------------------------------------------------
// Words to the user

static const char *const help[] = {
"ae: autoencoders for pictures and tables, from the command line\n"
"\n"
"  ae train DATA         learns DATA and writes the model\n"
"  ae reconstruct DATA   what the model makes of DATA, beside it\n"
"  ae denoise DATA       the same for noisy data\n"
"  ae encode DATA        each sample as a few numbers, its code\n"
"  ae decode CODES       codes back to samples\n"
"  ae anomaly DATA       how badly the model knows each sample, and which are odd\n"
"  ae sample N           N new samples, from a variational model\n"
"  ae info               what is in the model\n"
"\n"
"An autoencoder squeezes each sample through a few numbers and learns to get it back. What it\n"
"gets back well is like what it learned; what it does not is odd. For a folder of pictures:\n"
"\n"
"  ae train photos\n"
"  ae reconstruct photos         and look at out/side_by_side.png\n"
"\n"
"DATA\n"
"  a folder of PNG, JPEG, PGM or PPM pictures, folders in it being classes; one such picture;\n"
"  a .csv of numbers, a sample a line; a .npy; an IDX file; a folder with MNIST's four IDX files\n"
"  (train takes the training set, everything else the test set).\n"
"  Pictures of several sizes are cut to one shape and resized. Pixels become 0 ... 1, values in\n"
"  0 ... 1 stay, of other tables each column gets mean 0 and deviation 1. The model keeps how.\n"
"\n",
"OPTIONS\n"
"  -m FILE           the model (model.safetensors)\n"
"  -o PATH           results: a folder (out), or a file .npy or .csv\n"
"  --labels WHAT     classes: `first`, the first column of a .csv, or an IDX file\n"
"  --normal CLASS    train: learn this class only; anomaly: all others are odd (AUROC)\n"
"  --threads N       cores to use when compiled with OpenMP (1); never changes a result\n"
" of train\n"
"  --layers TEXT     the network, see LAYERS; without it one is chosen for the data\n"
"  --epochs N        passes over the data (as many as see 200,000 samples, at least 10)\n"
"  --batch N         samples a step (2 % of the data, 8 ... 128)\n"
"  --lr F            learning rate of Adam (0.001)\n"
"  --seed N          of all randomness (42)\n"
"  --validation F    share held out, to choose the threshold and to stop early (0.1)\n"
"  --patience N      stops after N epochs without a better validation loss and keeps the best\n"
"                    (20; 0: never, and the last is kept)\n"
"  --quantile F      share of normal samples below the threshold of `anomaly` (0.99)\n"
"  --resume          goes on with the model, as if it had never stopped. It is saved after each\n"
"                    epoch, so that an interruption loses one at most\n"
"  --size WxH        size to resize pictures to; the shape of the pictures in the rows of a table\n"
"  --gray            colours become grey\n"
"  --scale WHAT      `255`, `none` or `columns` in place of what is chosen (see DATA)\n"
" of others\n"
"  --threshold F     anomaly: this one, not the model's\n"
"  --noise F         denoise: adds noise of this deviation first, and tells what was gained\n"
"\n",
"LAYERS\n"
"  A network in words, blanks or hyphens between: \"784-256r-32 mirror sigmoid bce\".\n"
"  256r              256 units and an activation: r relu, l leaky relu, e elu, g gelu, u silu,\n"
"                    t tanh, s sigmoid, i none; or a word: relu leaky ... sigmoid linear\n"
"  c16k5s2r          a convolution: 16 channels, kernel 5 x 5 (3 x 3), stride 2 (1), activation\n"
"  pool2 up2         the largest of each 2 x 2 pixels; each pixel becomes 2 x 2\n"
"  bn dropout0.2 topk8      batch normalisation; dropout; the 8 largest stay, the others become 0\n"
"  noise0.2 mask0.3 salt0.1 in training: Gaussian noise, pixels that go black, black or white\n"
"  v20, vq64         the code: 20 units, variational; one of 64 vectors for each pixel\n"
"  mirror            the decoder: all layers back in reverse order (without this word, too);\n"
"                    transpose: by transposed convolutions; tied: by the encoder's own weights\n"
"  bce mse l1        the loss (bce behind a sigmoid, else mse); sparse0.01: and so much of |code|\n"
"  beta4             the weight of a variational model's second term (1)\n"
"  A first number that is the size of a sample stands for the input. A last layer of that size is\n"
"  the output: then the decoder is in the words, and the code is the smallest layer. The output\n"
"  is a sigmoid where data lie in 0 ... 1 and no activation is named.\n"
"\n"
"  Examples: \"noise0.3-256r-64 tied\", \"c16r-pool2-c32r-pool2-32\", \"400r-v20\",\n"
"            \"30-8t-3-8t-30 l1\"\n"
};

// All errors: one sentence, status 1.
static int fail(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    fputs("ae: ", stderr);
    vfprintf(stderr, format, list);
    fputc('\n', stderr);
    va_end(list);
    return 1;
}

typedef struct options {
    const char *verb, *data, *model, *out, *layers, *labels, *normal, *scale, *size;
    int epochs, batch, patience, seed, threads, resume, gray, w, h;
    float lr, validation, quantile, threshold, noise;       // below 0, or 0 epochs: not given
} options;

typedef struct option {
    const char *name;
    char kind;                      // 's' text, 'd' whole number, 'f' number, 0 takes no value
    void *value;
    double low, high;               // of numbers
} option;

// One option with its value; the number of arguments it took, or 0 after an error.
static int parse_option(const option *known, size_t count, char **argv, int left)
{
    char rest;
    int read = 0;
    double number = 0;
    size_t k = 0;
    while (k < count && strcmp(argv[0], known[k].name) != 0)
        k++;
    if (k == count)
        return !fail("there is no option %s: see ae --help", argv[0]);
    if (known[k].kind == 0)
        return *(int *)known[k].value = 1;
    if (left < 2)
        return !fail("a value is missing after %s", argv[0]);
    if (known[k].kind == 's')
        return *(const char **)known[k].value = argv[1], 2;
    if (known[k].kind == 'd')
        number = (read = sscanf(argv[1], "%9d%c", (int *)known[k].value, &rest)) == 1
               ? *(int *)known[k].value : 0;
    else
        number = (read = sscanf(argv[1], "%f%c", (float *)known[k].value, &rest)) == 1
               ? (double)*(float *)known[k].value : 0;
    if (read == 1 && number >= known[k].low && number <= known[k].high)
        return 2;
    return !fail("%s takes a %snumber from %g to %g, not '%s'", argv[0],
                 known[k].kind == 'd' ? "whole " : "", known[k].low, known[k].high, argv[1]);
}

// 0 when all is well, 1 after an error, 2 after --help.
static int parse(options *o, int argc, char **argv)
{
    const option known[] = {
        {"-m", 's', &o->model, 0, 0},            {"-o", 's', &o->out, 0, 0},
        {"--model", 's', &o->model, 0, 0},       {"--out", 's', &o->out, 0, 0},
        {"--data", 's', &o->data, 0, 0},         {"--layers", 's', &o->layers, 0, 0},
        {"--labels", 's', &o->labels, 0, 0},     {"--normal", 's', &o->normal, 0, 0},
        {"--scale", 's', &o->scale, 0, 0},       {"--size", 's', &o->size, 0, 0},
        {"--epochs", 'd', &o->epochs, 1, 1e8},   {"--batch", 'd', &o->batch, 1, 1e6},
        {"--seed", 'd', &o->seed, 0, 999999999}, {"--threads", 'd', &o->threads, 1, 1024},
        {"--patience", 'd', &o->patience, 0, 1e8}, {"--lr", 'f', &o->lr, 1e-9, 1000},
        {"--validation", 'f', &o->validation, 0, 0.99}, {"--quantile", 'f', &o->quantile, 0, 1},
        {"--threshold", 'f', &o->threshold, 0, 1e30}, {"--noise", 'f', &o->noise, 0, 1000},
        {"--resume", 0, &o->resume, 0, 0},       {"--gray", 0, &o->gray, 0, 0}
    };
    char rest;
    int used = 1;
    for (int i = 1; i < argc; i += used) {
        used = 1;
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            for (size_t k = 0; k < sizeof help / sizeof help[0]; k++)
                fputs(help[k], stdout);
            return 2;
        }
        if (argv[i][0] != '-' && o->verb == NULL)
            o->verb = argv[i];
        else if (argv[i][0] != '-' && o->data == NULL)
            o->data = argv[i];
        else if (argv[i][0] != '-')
            return fail("'%s' is one argument too many: see ae --help", argv[i]);
        else if (!(used = parse_option(known, sizeof known / sizeof known[0], argv + i, argc - i)))
            return 1;
    }
    if (o->verb == NULL)
        return fail("what shall be done? `ae train DATA` begins; see ae --help");
    if (o->size && (sscanf(o->size, "%4dx%4d%c", &o->w, &o->h, &rest) != 2 || o->w < 1 || o->h < 1))
        return fail("--size is a width and a height, as 64x48, not %s", o->size);
    if (o->scale && strcmp(o->scale, "255") && strcmp(o->scale, "none")
        && strcmp(o->scale, "columns"))
        return fail("--scale is 255, none or columns, not %s", o->scale);
    return 0;
}

// ---------------------------------------------------------------------------
// Memory, paths

static ae_arena *rooms[ROOMS];      // given back at the end of main
static int room_count;

// Memory for one purpose, as much as that needs. NULL after an error.
static ae_arena *room(size_t bytes)
{
    ae_arena *arena = room_count < ROOMS ? ae_arena_new(bytes) : NULL;
    if (arena == NULL)
        fail("there is no memory of %zu bytes", bytes);
    else
        rooms[room_count++] = arena;
    return arena;
}

static void *take(size_t bytes)     // the same as one block of zeros
{
    ae_arena *arena = room(bytes);
    return ae_alloc(arena, arena ? bytes : 0);
}

static float *take_floats(size_t n, size_t size)
{
    return (float *)take(n * size * sizeof(float));
}

static int ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), k = strlen(end);
    return n >= k && strcmp(text + n - k, end) == 0;
}

static int is_table(const char *path)
{
    return ends_with(path, ".csv") || ends_with(path, ".npy");
}

// DIR/NAME, or one of the two when the other is empty.
static int join(char path[LONGEST], const char *dir, const char *name)
{
    const char *slash = *dir && *name && !ends_with(dir, "/") ? "/" : "";
    int n = snprintf(path, LONGEST, "%s%s%s", dir, slash, name);
    return n < 0 || n >= LONGEST ? fail("the path %.200s... is too long", *dir ? dir : name) : 0;
}

static int is_folder(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

static size_t file_bytes(const char *path)      // 0: there is none
{
    struct stat s;
    return stat(path, &s) == 0 && s.st_size > 0 ? (size_t)s.st_size : 0;
}

// Where results go: OUT, or OUT/NAME when OUT is no table but a folder, which is made.
static int result_path(char path[LONGEST], const options *o, const char *name)
{
    if (is_table(o->out))
        return join(path, "", o->out);
    mkdir(o->out, 0777);
    return is_folder(o->out) ? join(path, o->out, name) : fail("cannot make the folder %s", o->out);
}

// ---------------------------------------------------------------------------
// Reading pictures

typedef struct picture {
    int w, h, color;                // color: red, green and blue differ
    unsigned char *rgb;             // (h,w,3)
} picture;

// Checks the size that a header tells and, when there is an arena, takes the memory for it.
static int take_picture(picture *p, ae_arena *arena, const char *path)
{
    if (p->w < 1 || p->h < 1 || p->w > (1 << 28) / p->h)
        return fail("%s: a picture of %d x %d pixels cannot be read", path, p->w, p->h);
    if (arena == NULL)
        return 0;
    p->rgb = (unsigned char *)ae_alloc(arena, (size_t)p->w * (size_t)p->h * 3);
    return p->rgb ? 0 : fail("%s changed while it was read", path);
}

// The next whole number of a PNM file past blanks and comments, and the one blank after it.
// Bitmaps as text may lack the blanks: `digit` nonzero takes one digit. -1: there is none.
static int pnm_number(FILE *f, int digit)
{
    int c = getc(f), v = 0;
    for (; c == ' ' || (c >= '\t' && c <= '\r') || c == '#'; c = getc(f))
        while (c == '#' && (c = getc(f)) != EOF)
            c = c == '\n' ? ' ' : '#';
    if (c < '0' || c > '9')
        return -1;
    for (; c >= '0' && c <= '9'; c = getc(f)) {
        v = v < 100000000 ? v * 10 + (c - '0') : v;
        if (digit)
            return v;
    }
    return v;
}

// One value of a PNM picture: kinds 1 to 3 are text, 4 has eight pixels a byte, the rest bytes.
static int pnm_value(FILE *f, int kind, int most, int x, int *bits)
{
    if (kind <= 3)
        return pnm_number(f, kind == 1);
    if (kind == 4) {
        if (x % 8 == 0)
            *bits = getc(f);
        return *bits == EOF ? -1 : *bits >> (7 - x % 8) & 1;
    }
    int c = getc(f), low = most > 255 ? getc(f) : 0;
    return c == EOF || low == EOF ? -1 : most > 255 ? c * 256 + low : c;
}

static int read_pnm(picture *p, ae_arena *arena, FILE *f, const char *path)
{
    int kind = getc(f) == 'P' ? getc(f) - '0' : 0, bits = 0, v = 0;
    p->w = pnm_number(f, 0);
    p->h = pnm_number(f, 0);
    int most = kind == 1 || kind == 4 ? 1 : pnm_number(f, 0);
    p->color = kind == 3 || kind == 6;
    if (most < 1 || most > 65535)
        return fail("%s: the header is damaged", path);
    int bad = take_picture(p, arena, path);
    if (bad || arena == NULL)
        return bad;
    unsigned char *to = p->rgb;
    for (int i = 0; i < p->h; i++)
        for (int x = 0; x < p->w; x++)
            for (int k = 0; k < 3; k++) {
                if (k == 0 || p->color)
                    v = pnm_value(f, kind, most, x, &bits);
                if (v < 0)
                    return fail("%s is cut", path);
                v = v > most ? most : v;
                int shade = (int)(((long)v * 255 + most / 2) / most);
                *to++ = (unsigned char)(most == 1 && kind % 3 == 1 ? 255 - shade : shade);
            }
    return 0;
}

#ifdef USE_PNG
static int read_png(picture *p, ae_arena *arena, FILE *f, const char *path)
{
    const png_color white = {255, 255, 255};        // what shows through
    png_image image;
    memset(&image, 0, sizeof image);
    image.version = PNG_IMAGE_VERSION;
    if (!png_image_begin_read_from_stdio(&image, f))
        return fail("%s: %s", path, image.message);
    p->w = (int)image.width;
    p->h = (int)image.height;
    p->color = (image.format & PNG_FORMAT_FLAG_COLOR) != 0;
    image.format = PNG_FORMAT_RGB;
    int bad = take_picture(p, arena, path);
    if (!bad && arena && !png_image_finish_read(&image, &white, p->rgb, 0, NULL))
        bad = fail("%s: %s", path, image.message);
    png_image_free(&image);
    return bad;
}
#endif

#ifdef USE_JPEG
typedef struct jpeg_trouble {       // libjpeg's errors come here
    struct jpeg_error_mgr base;
    jmp_buf back;
    char text[JMSG_LENGTH_MAX];
} jpeg_trouble;

static void jpeg_stop(j_common_ptr j)
{
    jpeg_trouble *t = (jpeg_trouble *)(void *)j->err;
    j->err->format_message(j, t->text);
    longjmp(t->back, 1);
}

static void jpeg_quiet(j_common_ptr j)      // warnings are counted, not printed
{
    (void)j;
}

static int read_jpeg(picture *p, ae_arena *arena, FILE *f, const char *path)
{
    struct jpeg_decompress_struct j;
    jpeg_trouble t;
    j.err = jpeg_std_error(&t.base);
    t.base.error_exit = jpeg_stop;
    t.base.output_message = jpeg_quiet;
    if (setjmp(t.back)) {
        jpeg_destroy_decompress(&j);
        return fail("%s: %s", path, t.text);
    }
    jpeg_create_decompress(&j);
    jpeg_stdio_src(&j, f);
    jpeg_read_header(&j, TRUE);
    p->w = (int)j.image_width;
    p->h = (int)j.image_height;
    p->color = j.num_components > 1;
    j.out_color_space = JCS_RGB;
    int bad = take_picture(p, arena, path);
    if (!bad && arena) {
        jpeg_start_decompress(&j);
        while (j.output_scanline < j.output_height) {
            JSAMPROW row = p->rgb + (size_t)j.output_scanline * (size_t)p->w * 3;
            jpeg_read_scanlines(&j, &row, 1);
        }
        if (t.base.num_warnings)
            bad = fail("%s is cut or damaged", path);
    }
    jpeg_destroy_decompress(&j);
    return bad;
}
#endif

// A picture's size, and with an arena its pixels, whatever its name ends in.
static int read_picture(picture *p, ae_arena *arena, const char *path)
{
    unsigned char magic[4] = {0, 0, 0, 0};
    FILE *f = fopen(path, "rb");
    int bad = 1;
    if (f == NULL)
        return fail("cannot open %s", path);
    if (fread(magic, 1, 4, f) < 4)
        magic[0] = 0;
    rewind(f);
    if (magic[0] == 'P' && magic[1] >= '1' && magic[1] <= '6')
        bad = read_pnm(p, arena, f, path);
    else if (memcmp(magic, "\x89PNG", 4) == 0)
#ifdef USE_PNG
        bad = read_png(p, arena, f, path);
#else
        fail("%s: this ae was compiled without libpng: install it and compile again, or convert "
             "the pictures to PPM", path);
#endif
    else if (magic[0] == 0xff && magic[1] == 0xd8)
#ifdef USE_JPEG
        bad = read_jpeg(p, arena, f, path);
#else
        fail("%s: this ae was compiled without libjpeg: install it and compile again, or convert "
             "the pictures to PNG or PPM", path);
#endif
    else
        fail("%s is no PNG, JPEG, PGM or PPM picture", path);
    fclose(f);
    return bad;
}

// The middle of p, cut to the shape of the result, resized to c planes of w x h bytes. Each pixel
// is a mean with weights that fall linearly to 0 one pixel away, a pixel of the coarser of the two
// grids: smooth when the picture grows, without moire when it shrinks.
static void resize(uint8_t *to, int c, int w, int h, const picture *p)
{
    const double across = (double)p->w / w, down = (double)p->h / h;
    const double step = across < down ? across : down, reach = step > 1.0 ? step : 1.0;
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            double cy = (p->h - step * h) / 2 + (y + 0.5) * step - 0.5, sum[3] = {0, 0, 0};
            double cx = (p->w - step * w) / 2 + (x + 0.5) * step - 0.5, all = 0;
            for (int i = (int)ceil(cy - reach); i <= (int)floor(cy + reach); i++)
                for (int j = (int)ceil(cx - reach); j <= (int)floor(cx + reach); j++) {
                    double weight = (1 - fabs(i - cy) / reach) * (1 - fabs(j - cx) / reach);
                    if (i < 0 || j < 0 || i >= p->h || j >= p->w)
                        continue;
                    const unsigned char *from = p->rgb + ((size_t)i * (size_t)p->w + (size_t)j) * 3;
                    for (int k = 0; k < 3; k++)
                        sum[k] += weight * from[k];
                    all += weight;
                }
            if (c == 1)             // brightness as the eye has it
                sum[0] = 0.299 * sum[0] + 0.587 * sum[1] + 0.114 * sum[2];
            for (int k = 0; k < c; k++)
                to[((size_t)k * (size_t)h + (size_t)y) * (size_t)w + (size_t)x] =
                    (uint8_t)(sum[k] / all + 0.5);
        }
}

// ---------------------------------------------------------------------------
// The model with what this program must know about it

enum { SCALE_255, SCALE_NONE, SCALE_COLUMNS };
static const char *const scale_names[] = {"255", "none", "columns"};

typedef struct net {
    ae_arena *arena;
    ae_model *m;
    ae_tensor *x, *code, *y;        // input, code, reconstruction
    int variational;
    int scale, columns;             // (raw - mean[j]) / deviation[j] for column j of `columns`,
    float *mean, *deviation;        // which are 1 when all have the same
} net;

static int note(net *v, const char *key, const char *format, ...)
{
    char text[LONGEST];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    return ae_note(v->m, key, text) ? fail("%s", ae_error(v->m)) : 0;
}

static int note_float(net *v, const char *key, float f)     // in as many digits as it needs
{
    char text[32];
    snprintf(text, sizeof text, "%.6g", (double)f);
    return note(v, key, strtof(text, NULL) == f ? "%.6g" : "%.9g", (double)f);
}

static float note_number(const net *v, const char *key, float otherwise)
{
    const char *text = ae_note_of(v->m, key);
    char *end = NULL;
    float f = text ? strtof(text, &end) : 0.0f;
    return text && end != text ? f : otherwise;
}

static ae_tensor *noted_tensor(const net *v, const char *key)
{
    const char *name = ae_note_of(v->m, key);
    return name ? ae_tensor_find(v->m, name) : NULL;
}

// How raw values become what the network sees: "255", "none", or all means and deviations.
static int note_scale(net *v)
{
    size_t bytes = (size_t)v->columns * 32 + 1, end = 0;
    char *text = (char *)take(bytes);
    for (int i = 0; text && i < v->columns; i++)
        end += (size_t)snprintf(text + end, bytes - end, "%.9g %.9g ", (double)v->mean[i],
                                (double)v->deviation[i]);
    if (text == NULL || ae_note(v->m, "columns", text))
        return fail("%s", ae_error(v->m));
    return note(v, "scale", "%s", scale_names[v->scale]);
}

static int read_scale(net *v)
{
    const char *name = ae_note_of(v->m, "scale"), *text = ae_note_of(v->m, "columns");
    const int most = (int)ae_size(v->x);
    char *end = NULL;
    for (v->scale = 0; name && strcmp(name, scale_names[v->scale]) != 0; v->scale++)
        if (v->scale == SCALE_COLUMNS)
            return 1;
    v->mean = take_floats((size_t)most, 1);
    v->deviation = take_floats((size_t)most, 1);
    if (!name || !text || !v->mean || !v->deviation)
        return 1;
    for (; *text && v->columns < most; v->columns++, text = end + strspn(end, " ")) {
        v->mean[v->columns] = strtof(text, &end);
        v->deviation[v->columns] = strtof(end, &end);
        if (end == text || !(v->deviation[v->columns] > 0.0f))
            return 1;
    }
    return v->scale == SCALE_COLUMNS && v->columns != 1 && v->columns != most;
}

// Opens the model file. How much memory it needs is not known before: more each time.
static int open_model(net *v, const options *o, int batch, ae_mode mode)
{
    const size_t file = file_bytes(o->model);
    memset(v, 0, sizeof *v);
    if (file == 0)
        return fail("there is no model %s: `ae train DATA` makes one, -m names another", o->model);
    for (size_t bytes = 4 * file + ((size_t)16 << 20);; bytes *= 4) {
        if ((v->arena = room(bytes)) == NULL)
            return 1;
        v->m = ae_model_open(v->arena, o->model, batch, mode);
        if (v->m ? ae_arena_left(v->arena) > 2 * file           // what training borrows
                 : !strstr(v->arena->error, "arena"))
            break;
        ae_arena_free(rooms[--room_count]);
    }
    if (v->m == NULL)
        return fail("%s", v->arena->error);
    v->x = noted_tensor(v, "input");
    v->y = noted_tensor(v, "output");
    v->code = noted_tensor(v, "code");
    v->variational = ae_note_of(v->m, "variational") != NULL;
    if (!v->x || !v->y || !v->code || read_scale(v))
        return fail("%s was not made by `ae train`: its notes do not say what is input, code and "
                    "output", o->model);
    ae_set_threads(v->m, o->threads);
    return 0;
}

// ---------------------------------------------------------------------------
// Reading data

typedef struct data {
    ae_dataset set;
    int table;                  // a .csv: results come as .csv too
    const char **names;         // of pictures; NULL: samples are numbered
    const char **classes;       // names of the labels, when folders gave them
    int class_count;
    size_t name_bytes;
    char *next_name;            // where the next one goes; NULL while names are counted
} data;

static size_t sample_size(const ae_dataset *d)
{
    return (size_t)d->c * (size_t)d->h * (size_t)d->w;
}

static int has_picture_name(const char *path)
{
    static const char *const ends[] = {".png", ".jpg", ".jpeg", ".pgm", ".ppm", ".pbm", ".pnm"};
    const char *dot = strrchr(path, '.');
    char lower[8] = "";
    for (size_t i = 0; dot && dot[i] && i < sizeof lower - 1; i++)
        lower[i] = dot[i] >= 'A' && dot[i] <= 'Z' ? (char)(dot[i] + 32) : dot[i];
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
        if (strcmp(lower, ends[i]) == 0)
            return 1;
    return 0;
}

// The pictures of ROOT/SUB, and of the folders in ROOT: counts them, then takes their names.
static int list_folder(data *d, const char *root, const char *sub)
{
    char path[LONGEST], name[LONGEST];
    int bad = join(path, root, sub);
    DIR *folder = bad ? NULL : opendir(path);
    if (folder == NULL)
        return bad ? 1 : fail("cannot read the folder %s", path);
    for (struct dirent *e = readdir(folder); e && !bad; e = readdir(folder)) {
        if (e->d_name[0] == '.')                        // hidden, or the folder itself
            continue;
        bad = join(name, sub, e->d_name) || join(path, root, name);
        if (!bad && *sub == 0 && is_folder(path))
            bad = list_folder(d, root, name);
        else if (!bad && has_picture_name(name)) {
            size_t length = strlen(name) + 1;
            if (d->next_name && length > d->name_bytes)
                continue;                               // came since they were counted
            if (d->next_name) {
                d->names[d->set.n] = strcpy(d->next_name, name);
                d->next_name += length;
            }
            d->name_bytes += d->next_name ? 0 - length : length;
            d->set.n++;
        }
    }
    closedir(folder);
    return bad;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

// Labels from the folders that pictures lie in, unless some lie in none.
static void class_folders(data *d, ae_arena *arena)
{
    int32_t *labels = (int32_t *)ae_alloc(arena, d->set.n * sizeof(int32_t));
    for (size_t i = 0; labels && i < d->set.n; i++) {
        const char *slash = strchr(d->names[i], '/');
        size_t length = slash ? (size_t)(slash - d->names[i]) : 0;
        int k = 0;
        while (k < d->class_count && (strncmp(d->classes[k], d->names[i], length) != 0
                                      || d->classes[k][length]))
            k++;
        if (slash && k == d->class_count) {
            char *copy = (char *)ae_alloc(arena, length + 1);
            d->classes[d->class_count++] = copy ? (char *)memcpy(copy, d->names[i], length) : "";
        }
        labels[i] = k;
        if (slash == NULL)
            labels = NULL;
    }
    d->set.labels = labels;
}

static int list_pictures(data *d, const char *path)
{
    if (list_folder(d, path, ""))
        return 1;
    size_t n = d->set.n, names = n * sizeof(char *);
    if (n == 0)
        return fail("there are no pictures (.png, .jpg, .pgm, .ppm) and no MNIST files in %s",
                    path);
    ae_arena *arena = room(d->name_bytes * 2 + names * 2 + n * 4 + n * AE_ALIGN + 4096);
    if (arena == NULL)
        return 1;
    d->names = (const char **)ae_alloc(arena, names);
    d->classes = (const char **)ae_alloc(arena, names);
    d->next_name = (char *)ae_alloc(arena, d->name_bytes);
    d->set.n = 0;
    if (list_folder(d, path, ""))
        return 1;
    qsort((void *)d->names, d->set.n, sizeof d->names[0], by_name);
    class_folders(d, arena);
    return 0;
}

// Headers first: the shape that all pictures get, and how many bytes the largest has. The shape is
// the model's, or --size, or their own when it is one and not large, or as theirs are on average
// with the longer side 64 at most.
static int choose_shape(data *d, const options *o, const net *v, const char *path, size_t *most)
{
    picture p, first = {0, 0, 0, NULL};
    int same = 1, color = 0, longest = 0;
    double aspect = 0;
    char file[LONGEST];
    for (size_t i = 0; i < d->set.n; i++) {
        if (join(file, path, d->names[i]) || read_picture(&p, NULL, file))
            return 1;
        first = i ? first : p;
        same = same && p.w == first.w && p.h == first.h;
        color = color || p.color;
        longest = p.w > longest ? p.w : longest;
        longest = p.h > longest ? p.h : longest;
        aspect += log((double)p.w / p.h) / (double)d->set.n;
        size_t bytes = (size_t)p.w * (size_t)p.h * 3;
        *most = bytes > *most ? bytes : *most;
    }
    const int side = longest < 64 ? longest : 64, keep = same && longest <= 128;
    const int shorter = (int)(side * exp(-fabs(aspect)) + 1e-9);
    const int large = side < 4 ? 4 : side / 4 * 4, small = shorter < 4 ? 4 : shorter / 4 * 4;
    d->set.c = color && !o->gray ? 3 : 1;
    d->set.w = o->w ? o->w : keep ? first.w : aspect > 0 ? large : small;
    d->set.h = o->h ? o->h : keep ? first.h : aspect > 0 ? small : large;
    if (v->m)
        ae_shape(v->x, &d->set.c, &d->set.h, &d->set.w);
    if (d->set.c != 1 && d->set.c != 3)
        return fail("%s was not trained on pictures", o->model);
    if (!same || d->set.w != first.w || d->set.h != first.h)
        printf("%zu pictures%s, cut and resized to %dx%d\n", d->set.n,
               same ? "" : " of several sizes", d->set.w, d->set.h);
    return 0;
}

static int load_pictures(data *d, const options *o, const net *v, const char *path)
{
    char file[LONGEST];
    size_t most = 0;
    if (choose_shape(d, o, v, path, &most))
        return 1;
    const size_t size = sample_size(&d->set);
    ae_arena *scratch = room(most);
    uint8_t *bytes = (uint8_t *)take(d->set.n * size);
    if (bytes == NULL || scratch == NULL)
        return 1;
    for (size_t i = 0; i < d->set.n; i++) {
        picture p;
        ae_arena_rewind(scratch, 0);
        if (join(file, path, d->names[i]) || read_picture(&p, scratch, file))
            return 1;
        resize(bytes + i * size, d->set.c, d->set.w, d->set.h, &p);
    }
    d->set.bytes = bytes;
    return 0;
}

// One file: a picture, NPY, IDX or else CSV, told apart by what it begins with. The loaders need at
// most 4 bytes of memory for a byte of the files.
static int load_file(data *d, const options *o, const net *v, const char *path)
{
    static const char *one[1];
    unsigned char magic[6] = {0, 0, 0, 0, 0, 0};
    char labels[LONGEST] = "";
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        return fail("there is no %s", path);
    size_t got = fread(magic, 1, sizeof magic, f);
    fclose(f);
    const int npy = memcmp(magic, "\x93NUMPY", 6) == 0, idx = got > 3 && !magic[0] && !magic[1];
    const int first = o->labels && strcmp(o->labels, "first") == 0;
    if (magic[0] == 0xff || (magic[0] == 0x89 && magic[1] == 'P')
        || (magic[0] == 'P' && magic[1] >= '1' && magic[1] <= '6')) {
        d->names = one;
        d->set.n = 1;
        one[0] = path;
        return load_pictures(d, o, v, "");
    }
    if (join(labels, "", o->labels && !first ? o->labels : path))
        return 1;
    char *usual = o->labels ? NULL : strstr(labels, "images-idx3");
    if (usual)                                          // MNIST's own names
        memcpy(usual, "labels-idx1", 11);
    if (!o->labels && (!usual || !idx || file_bytes(labels) == 0))
        labels[0] = 0;
    if (o->labels && first == (npy || idx))
        return fail("--labels %s does not go with %s: `first` is for .csv, a file for .npy and IDX",
                    o->labels, path);
    ae_arena *arena = room(4 * (file_bytes(path) + file_bytes(labels)) + 4096);
    if (arena == NULL)
        return 1;
    d->table = !npy && !idx;
    ae_status status = npy ? ae_npy_load(&d->set, arena, path, labels[0] ? labels : NULL)
                     : idx ? ae_idx_load(&d->set, arena, path, labels[0] ? labels : NULL)
                           : ae_csv_load(&d->set, arena, path, first);
    return status ? fail("%s", arena->error) : 0;
}

static int load_raw(data *d, const options *o, const net *v, const char *path)
{
    char mnist[LONGEST];
    if (!is_folder(path))
        return load_file(d, o, v, path);
    if (join(mnist, path, "train-images-idx3-ubyte"))
        return 1;
    if (file_bytes(mnist) == 0)
        return list_pictures(d, path) || load_pictures(d, o, v, path);
    return (strcmp(o->verb, "train") != 0 && join(mnist, path, "t10k-images-idx3-ubyte"))
        || load_file(d, o, v, mnist);
}

// The label that a class is called: the name of a folder, or a number. Below 0 after an error.
static int32_t label_of(const data *d, const char *name)
{
    int label;
    char rest;
    for (int i = 0; i < d->class_count; i++)
        if (strcmp(d->classes[i], name) == 0)
            return i;
    if (d->set.labels == NULL)
        fail("--normal needs classes: a folder for each, or --labels");
    else if (d->class_count == 0 && sscanf(name, "%9d%c", &label, &rest) == 1 && label >= 0)
        return label;
    else
        fail("there is no class '%s'", name);
    return -1;
}

// Only the samples of one class, for training.
static int only_normal(data *d, const char *name)
{
    const int32_t label = label_of(d, name);
    uint32_t *index = label < 0 ? NULL : (uint32_t *)take(d->set.n * 4);
    size_t n = 0;
    if (index == NULL)
        return 1;
    for (size_t i = 0; i < d->set.n; i++)
        if (d->set.labels[i] == label)
            index[n++] = (uint32_t)i;
    d->set.index = index;
    d->set.labels = NULL;       // they are all the same now
    d->set.n = n;
    return n ? 0 : fail("no sample is of class %s", name);
}

// Mean and deviation of each column, or of all values alike; a column that never changes becomes 0.
static int measure_columns(net *v, const ae_dataset *d)
{
    const size_t size = sample_size(d), columns = d->h * d->w == 1 && size <= 4096 ? size : 1;
    double *sum = (double *)take(columns * sizeof(double));
    float *x = take_floats(size, 1);
    v->columns = (int)columns;
    v->mean = take_floats(columns, 1);
    v->deviation = take_floats(columns, 1);
    if (!sum || !x || !v->mean || !v->deviation)
        return 1;
    for (int pass = 0; pass < 2; pass++) {          // sums, then squares around the mean
        memset(sum, 0, columns * sizeof *sum);
        for (size_t i = 0; i < d->n; i++) {
            ae_dataset_get(d, x, NULL, i, 1);
            for (size_t j = 0; j < size; j++) {
                double off = (double)x[j] - (double)v->mean[j % columns];
                sum[j % columns] += pass ? off * off : off;
            }
        }
        for (size_t j = 0; j < columns; j++) {
            double mean = sum[j] / (double)d->n / (double)(size / columns);
            if (pass)
                v->deviation[j] = mean > 0.0 ? (float)sqrt(mean) : 1.0f;
            else
                v->mean[j] = (float)mean;
        }
    }
    return 0;
}

// The smallest and the largest raw value.
static void extremes(const ae_dataset *d, float *low, float *high)
{
    const size_t size = sample_size(d);
    for (size_t i = 0; i < d->n; i++)
        for (size_t j = (d->index ? d->index[i] : i) * size, k = 0; k < size; k++) {
            float f = d->bytes ? (float)d->bytes[j + k] : d->floats[j + k];
            *low = i + k == 0 || f < *low ? f : *low;
            *high = i + k == 0 || f > *high ? f : *high;
        }
}

// Raw values as the network sees them. A new model sees them as --scale says or as they look.
static int apply_scale(net *v, data *d, const options *o)
{
    ae_dataset *s = &d->set;
    const size_t size = sample_size(s);
    float low = 0, high = 0;
    extremes(s, &low, &high);
    s->scale = 1.0f;
    if (!v->m) {
        int pixels = s->bytes && (d->names || s->h > 1 || high > 200.0f);
        v->scale = pixels ? SCALE_255 : low >= 0.0f && high <= 1.0f ? SCALE_NONE : SCALE_COLUMNS;
        for (int i = 0; o->scale && i < 3; i++)
            v->scale = strcmp(o->scale, scale_names[i]) == 0 ? i : v->scale;
        if (v->scale == SCALE_COLUMNS && measure_columns(v, s))
            return 1;
    }
    if (v->scale != SCALE_COLUMNS) {
        float most = v->scale == SCALE_255 ? 255.0f : 1.0f;
        s->scale = 1.0f / most;
        return v->m && (low < -0.5f * most || high > 1.5f * most)
            ? fail("%s: values are %g ... %g, but the model learned values of 0 ... %g", o->data,
                   (double)low, (double)high, (double)most) : 0;
    }
    float *x = take_floats(s->n, size);
    if (x == NULL)
        return 1;
    ae_dataset_get(s, x, NULL, 0, s->n);
    for (size_t i = 0; i < s->n * size; i++) {
        size_t j = i % size % (size_t)v->columns;
        x[i] = (x[i] - v->mean[j]) / v->deviation[j];
    }
    s->floats = x;
    s->bytes = NULL;
    s->index = NULL;
    return 0;
}

// Data in the shape and the scale of the model, or of one to be made (v->m is NULL).
static int load(data *d, const options *o, net *v, const char *normal)
{
    memset(d, 0, sizeof *d);
    if (o->data == NULL)
        return fail("%s needs data, `ae %s DATA`: see ae --help", o->verb, o->verb);
    if (load_raw(d, o, v, o->data))
        return 1;
    if (o->labels && d->names)
        return fail("--labels is for tables and arrays: the classes of pictures are their folders");
    ae_dataset *s = &d->set;
    const int size = (int)sample_size(s);
    if (v->m && sample_size(s) != ae_size(v->x))
        return fail("%s: samples of %dx%dx%d do not fit the model %s with %zu values", o->data,
                    s->c, s->h, s->w, o->model, ae_size(v->x));
    if (!v->m && o->w && size % (o->w * o->h) != 0)
        return fail("--size %s: samples of %d values have no such shape", o->size, size);
    if (v->m) {
        ae_shape(v->x, &s->c, &s->h, &s->w);
    } else if (o->w) {
        s->c = size / (o->w * o->h);
        s->h = o->h;
        s->w = o->w;
    }
    s->scale = 1.0f;
    return (normal && only_normal(d, normal)) || apply_scale(v, d, o);
}

// ---------------------------------------------------------------------------
// The network: a line of text becomes a graph

typedef struct reader {         // of the line
    const char *text, *word;
    int index;                  // of the word, from 1
    ae_tensor *x, *t;           // input; what the words so far lead to
    ae_tensor *logits;          // t before its sigmoid, when the last word was one
    ae_tensor *code, *mu, *logvar, *vq;
    ae_tensor *layer[LAYERS];   // with weights, and what followed each: for `tied`
    ae_act act[LAYERS];
    float slope[LAYERS];
    int layers, decoded;        // decoded: a word for the decoder was there
    int active;                 // an activation was named for the last layer
    int unit;                   // data lie in 0 ... 1
    int sized, doubt;           // a first number was there; it is not the input's size
    int loss;                   // a word's number; 0: not said
    float sparse, beta;
} reader;

static int bad_word(const reader *r, const char *why)
{
    return fail("--layers \"%s\", word %d, '%s': %s", r->text, r->index, r->word, why);
}

static int add_activation(reader *r, ae_act act, float slope)
{
    r->logits = act == AE_ACT_SIGMOID ? r->t : NULL;
    if (act != AE_ACT_IDENTITY)
        r->t = ae_activation(r->t, act, slope);
    r->active = 1;
    if (r->layers > 0 && !r->decoded) {
        r->act[r->layers - 1] = act;
        r->slope[r->layers - 1] = slope;
    }
    return 0;
}

static const struct { char letter; const char *name; ae_act act; float slope; } activations[] = {
    {'r', "relu", AE_ACT_RELU, 0},  {'l', "leaky", AE_ACT_LEAKY_RELU, 0.01f},
    {'e', "elu", AE_ACT_ELU, 1},    {'g', "gelu", AE_ACT_GELU, 0},
    {'u', "silu", AE_ACT_SILU, 0},  {'t', "tanh", AE_ACT_TANH, 0},
    {'s', "sigmoid", AE_ACT_SIGMOID, 0}, {'i', "linear", AE_ACT_IDENTITY, 0}
};
enum { ACTIVATIONS = sizeof activations / sizeof activations[0] };

// A layer with weights, then what the rest of its word says: a letter or nothing.
static int add_layer(reader *r, ae_tensor *t, const char *rest)
{
    if (r->layers == LAYERS)
        return bad_word(r, "too many layers");
    r->layer[r->layers] = r->t = t;
    r->act[r->layers++] = AE_ACT_IDENTITY;
    r->logits = NULL;
    r->active = 0;
    if (*rest == 0)
        return 0;
    for (int i = 0; rest[1] == 0 && i < ACTIVATIONS; i++)
        if (activations[i].letter == *rest)
            return add_activation(r, activations[i].act, activations[i].slope);
    return bad_word(r, "a letter names the activation: r relu, l leaky relu, e elu, g gelu, "
                       "u silu, t tanh, s sigmoid, i none");
}

static int read_dense(reader *r)
{
    int units = 0, used = 0;
    if (sscanf(r->word, "%9d%n", &units, &used) != 1 || units < 1)
        return bad_word(r, "a layer has at least 1 unit");
    if (r->layers == 0 && !r->sized && r->word[used] == 0) {
        r->sized = 1;
        if ((size_t)units == ae_size(r->x))
            return 0;                           // the input itself
        r->doubt = units;
    }
    return add_layer(r, ae_linear(r->t, units), r->word + used);
}

// c16k5s2r
static int read_conv(reader *r, const char *p)
{
    int out = 0, kernel = 3, stride = 1, used = 0, c, h, w;
    if (sscanf(p, "%9d%n", &out, &used) != 1 || out < 1)
        return bad_word(r, "a convolution is c and its channels, as c16");
    p += used;
    for (used = 0; (*p == 'k' || *p == 's') && p[1] >= '0' && p[1] <= '9'; p += used + 1)
        if (sscanf(p + 1, "%4d%n", *p == 'k' ? &kernel : &stride, &used) != 1)
            break;
    if (kernel < 1 || stride < 1)
        return bad_word(r, "kernel and stride are at least 1");
    ae_shape(r->t, &c, &h, &w);
    if (h * w == 1)
        return bad_word(r, "a convolution needs pictures, but here are rows: say --size WxH or use "
                           "numbers");
    return add_layer(r, ae_conv2d(r->t, out, kernel, stride, (kernel - 1) / 2), p);
}

enum { POOL = 1, UP, NORM, DROPOUT, NOISE, MASK, SALT, TOPK, VAE, VQ, MIRROR, TRANSPOSE, TIED,
       MSE, L1, BCE, SPARSE, BETA };

static const struct { const char *name; int id, number; float usual; } words[] = {
    // number: 0 none, 1 a whole one, 2 any, 3 a share; usual: without it (0: must be there)
    {"pool", POOL, 1, 2},     {"up", UP, 1, 2},          {"bn", NORM, 0, 0},
    {"dropout", DROPOUT, 3, 0.2f}, {"noise", NOISE, 2, 0.2f}, {"mask", MASK, 3, 0.2f},
    {"salt", SALT, 3, 0.1f},  {"topk", TOPK, 1, 0},      {"v", VAE, 1, 0},
    {"vae", VAE, 1, 0},       {"vq", VQ, 1, 0},          {"mirror", MIRROR, 0, 0},
    {"transpose", TRANSPOSE, 0, 0}, {"tied", TIED, 0, 0}, {"mse", MSE, 0, 0},
    {"l1", L1, 0, 0},         {"bce", BCE, 0, 0},        {"sparse", SPARSE, 2, 0},
    {"beta", BETA, 2, 0}
};

// The decoder that mirrors the encoder.
static int decode(reader *r, int how)
{
    if (r->decoded)
        return bad_word(r, "there is a decoder already");
    if (r->layers == 0)
        return bad_word(r, "there are no layers before it");
    if (how == TIED && (r->mu || r->vq))
        return bad_word(r, "a variational or quantised code has no tied decoder");
    r->code = r->code ? r->code : r->t;
    r->decoded = 1;
    r->active = 0;
    r->logits = NULL;
    for (int k = r->layers - 1; how == TIED && k >= 0; k--) {
        r->t = ae_tied(r->t, r->layer[k]);
        if (k > 0)
            r->t = ae_activation(r->t, r->act[k - 1], r->slope[k - 1]);
    }
    if (how != TIED)
        r->t = ae_mirror(r->t, r->x, how == MIRROR ? AE_MIRROR_UPSAMPLE : AE_MIRROR_TRANSPOSE);
    return 0;
}

static int variational(reader *r, int units)
{
    if (r->code)
        return bad_word(r, "there is a code already");
    ae_tensor *h = r->t;
    if (add_layer(r, ae_linear(h, units), ""))
        return 1;
    r->mu = r->t;
    r->logvar = ae_linear(h, units);
    r->code = r->t = ae_gaussian_sample(r->mu, r->logvar);
    return 0;
}

static int quantised(reader *r, int codes)
{
    ae_vq_options o = {0};
    o.codes = codes;
    if (r->code)
        return bad_word(r, "there is a code already");
    r->vq = r->code = r->t = ae_vq(ae_batch_norm(r->t, NULL), &o);
    return 0;
}

static int apply_word(reader *r, int id, float f)
{
    int n = (int)f;
    switch (id) {
    case POOL:    r->t = ae_max_pool2d(r->t, n); break;
    case UP:      r->t = ae_upsample_nearest(r->t, n); break;
    case NORM:    r->t = ae_batch_norm(r->t, NULL); break;
    case DROPOUT: r->t = ae_dropout(r->t, f); break;
    case NOISE:   r->t = ae_gaussian_noise(r->t, f, 0, r->unit && !r->layers ? 1.0f : 0.0f); break;
    case MASK:    r->t = ae_mask_noise(r->t, f); break;
    case SALT:    r->t = ae_salt_pepper(r->t, f, 0, 1); break;
    case TOPK:    r->t = ae_top_k(r->t, n); break;
    case VAE:     return variational(r, n);
    case VQ:      return quantised(r, n);
    case SPARSE:  r->sparse = f; return 0;
    case BETA:    r->beta = f; return 0;
    case MSE: case L1: case BCE:
        if (r->loss && r->loss != id)
            return bad_word(r, "there is a loss already");
        r->loss = id;
        return 0;
    default:      return decode(r, id);
    }
    return 0;
}

static int read_word(reader *r)
{
    const char *w = r->word;
    if (w[0] >= '0' && w[0] <= '9')
        return read_dense(r);
    if (w[0] == 'c' && (strncmp(w, "conv", 4) == 0 || (w[1] >= '0' && w[1] <= '9')))
        return read_conv(r, w + (w[1] == 'o' ? 4 : 1));
    for (int i = 0; i < ACTIVATIONS; i++)
        if (strcmp(w, activations[i].name) == 0)
            return add_activation(r, activations[i].act, activations[i].slope);
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        size_t n = strlen(words[i].name);
        char rest;
        float f = words[i].usual;
        int kind = words[i].number;
        if (strncmp(w, words[i].name, n) != 0 || (w[n] && !strchr("0123456789.", w[n])))
            continue;
        if (w[n] && kind == 0)
            return bad_word(r, "this word takes no number");
        if (w[n] && sscanf(w + n, "%f%c", &f, &rest) != 1)
            return bad_word(r, "its number cannot be read");
        if (kind && !(f > 0.0f && f < (kind == 3 ? 1.0f : 1e6f) && (kind > 1 || f == floorf(f))))
            return bad_word(r, kind == 1 ? "it needs a whole number above 0 behind it"
                             : kind == 3 ? "it needs a share between 0 and 1 behind it"
                                         : "it needs a number above 0 behind it");
        return apply_word(r, words[i].id, f);
    }
    return bad_word(r, "there is no such word: see LAYERS in ae --help");
}

// What the words left open: decoder, output, loss.
static int finish(reader *r, ae_tensor *least)
{
    r->word = r->text;
    if (r->doubt && r->layers > 1)
        return fail("--layers \"%s\": a first number without a letter is the size of a sample, "
                    "which is %zu, not %d (write %di for a layer)", r->text, ae_size(r->x),
                    r->doubt, r->doubt);
    if (r->layers == 0)
        return fail("--layers \"%s\" names no layer", r->text);
    if (r->t && !r->decoded && (r->layers < 2 || ae_size(r->t) != ae_size(r->x)))
        decode(r, MIRROR);
    r->code = r->code ? r->code : least;
    if (r->t && ae_size(r->t) != ae_size(r->x))
        return fail("--layers \"%s\": the last layer has %zu values, a sample %zu", r->text,
                    ae_size(r->t), ae_size(r->x));
    if (!r->active && r->unit)
        add_activation(r, AE_ACT_SIGMOID, 0);
    if (r->loss == BCE && !(r->unit && r->logits))
        return fail("--layers \"%s\": bce needs data in 0 ... 1 and a sigmoid before it", r->text);
    if (r->loss == 0)
        r->loss = r->unit && r->logits ? BCE : MSE;
    // beside a term of the code, which is a sum over its units, the loss is one over all values
    ae_reduction sum = r->mu || r->vq || r->sparse > 0.0f ? AE_BATCH_MEAN : AE_MEAN;
    ae_minimize(r->loss == BCE ? ae_bce_logits(r->logits, r->x, sum)
                : r->loss == L1 ? ae_l1(r->t, r->x, sum) : ae_mse(r->t, r->x, sum));
    if (r->sparse > 0.0f)
        ae_minimize_weighted(ae_l1_penalty(r->code, sum), r->sparse);
    if (r->vq)
        ae_minimize(ae_vq_loss(r->vq, sum));
    if (r->mu) {
        ae_tensor *kl = ae_kl_normal(r->mu, r->logvar, 0, sum);
        ae_minimize_weighted(kl, r->beta > 0.0f ? r->beta : 1.0f);
        ae_warm_up(kl, 5);
    }
    return 0;
}

// The network that `text` describes, for samples of c,h,w, in v->arena.
static int build_graph(net *v, const char *text, int c, int h, int w, uint64_t seed)
{
    reader r;
    char word[32];
    ae_tensor *least = NULL;
    memset(&r, 0, sizeof r);
    r.text = text;
    r.word = word;
    r.unit = v->scale != SCALE_COLUMNS;
    v->m = ae_model_new(v->arena, seed);
    v->x = r.x = r.t = ae_input(v->m, c, h, w);
    for (const char *p = text + strspn(text, " -"); *p && r.t;) {
        size_t n = strcspn(p, " -");
        snprintf(word, sizeof word, "%.*s", n < 31 ? (int)n : 31, p);
        r.index++;
        if (read_word(&r))
            return 1;
        if (r.t && r.layers && !r.decoded && (!least || ae_size(r.t) <= ae_size(least)))
            least = r.t;
        p += n;
        p += strspn(p, " -");
    }
    if (r.t && finish(&r, least))
        return 1;
    v->code = r.code;
    v->y = r.t;
    v->variational = r.mu != NULL;
    return 0;
}

// A network for those who name none: convolutions that halve pictures until they are small, or for
// rows one or two layers.
static void usual_layers(char text[LONGEST], const ae_dataset *d)
{
    int size = (int)sample_size(d), side = d->h < d->w ? d->h : d->w, channels = 16, at = 0;
    int code = size < 128 ? (size + 3) / 4 : 32;
    if (side < 8) {
        snprintf(text, LONGEST, size < 64 ? "%dr-%d" : "%dr-%dr-%d", 8 * code,
                 size < 64 ? code : 4 * code, code);
        return;
    }
    for (; side >= 12; side = (side + 1) / 2, channels *= 2)
        at += snprintf(text + at, LONGEST - (size_t)at, "c%ds2r-", channels < 64 ? channels : 64);
    snprintf(text + at, LONGEST - (size_t)at, "%d", size > 3072 ? 2 * code : code);
}

// ---------------------------------------------------------------------------
// Training

static volatile sig_atomic_t interrupted;   // Ctrl-C

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
    signal(SIGINT, SIG_DFL);                // a second one ends the program at once
}

static double now(void)
{
#ifdef _WIN32
    return (double)clock() / CLOCKS_PER_SEC;    // there it is the wall's time
#else
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
#endif
}

typedef struct run {            // what the callback needs from one call to the next
    net *v;
    const options *o;
    int before, failed;         // epochs of earlier runs; an epoch could not be saved
    double begin, start;        // of this run, of this epoch
} run;

static int save(net *v, const options *o)
{
    return ae_model_save(v->m, o->model, AE_SAVE_TRAINING) ? fail("%s", ae_error(v->m)) : 0;
}

// The line that a terminal shows during an epoch: how far, how fast, how long still.
static void progress_line(const run *r, const ae_progress *p)
{
    double done = p->epoch - 1 + (double)p->batch / (double)p->batches;
    long left = (long)((now() - r->begin) / done * (p->epochs - done) + 0.5);
    fprintf(stderr, "\repoch %d/%d  %3.0f %%  loss %.5f  %.0f img/s  %ld:%02ld left ",
            r->before + p->epoch, r->before + p->epochs,
            100.0 * (double)p->batch / (double)p->batches, (double)p->loss,
            (double)p->samples / (now() - r->start), left / 60, left % 60);
}

// ae_fit calls this after each step and each epoch.
static int progress(void *user, const ae_progress *p)
{
    run *r = (run *)user;
    if (!p->epoch_end) {
        if (isatty(2))
            progress_line(r, p);
        return interrupted;
    }
    double seconds = now() - r->start;
    if (isatty(2))
        fputs("\r\033[K", stderr);      // wipes the progress line
    printf("epoch %d/%d  loss %.5f  %.2f s  %.0f img/s", r->before + p->epoch,
           r->before + p->epochs, (double)p->loss, seconds, (double)p->samples / seconds);
    if (r->o->validation > 0.0f)
        printf("  validation %.5f%s", (double)p->validation, p->improved ? "" : " (not better)");
    putchar('\n');
    fflush(stdout);
    r->failed = note(r->v, "epochs", "%9d", r->before + p->epoch) || save(r->v, r->o);
    r->start = now();
    return r->failed || interrupted;
}

// e[i] = mean squared error of the reconstruction of sample i.
static int errors(net *v, const ae_dataset *d, float *e)
{
    for (size_t at = 0; at < d->n; at += BATCH) {
        int n = d->n - at < BATCH ? (int)(d->n - at) : BATCH;
        if (ae_feed(v->m, d, at, n, 0) || ae_run(v->m, v->y, n))
            return fail("%s", ae_error(v->m));
        ae_mse_per_sample(e + at, ae_get(v->m, v->x), ae_get(v->m, v->y), (size_t)n,
                          (int)ae_size(v->x));
    }
    return 0;
}

// Above this error a sample is odd: most normal samples that the model never saw stay below.
static int choose_threshold(net *v, const options *o, const ae_dataset *d, const char *name)
{
    ae_arena *arena = room(d->n * 16 + 4096);
    float *e = take_floats(d->n, 1), threshold = 0;
    double mean = 0;
    if (!arena || !e || errors(v, d, e))
        return 1;
    if (ae_quantile(&threshold, arena, e, d->n, (double)o->quantile))
        return fail("%s", arena->error);
    for (size_t i = 0; i < d->n; i++)
        mean += (double)e[i] / (double)d->n;
    printf("result %s_mse %.6g\nresult threshold %.6g\n", name, mean, (double)threshold);
    return note_float(v, "threshold", threshold) || note_float(v, "quantile", o->quantile);
}

static int fit(net *v, options *o, const ae_dataset *d, int before)
{
    const int held_out = o->validation > 0.0f;
    run r = {v, o, before, 0, 0, 0};
    ae_dataset rest = *d, held = *d;
    ae_optim adam = {0};
    ae_fit_options f = {0};
    ae_fit_result result;
    ae_arena *index = room(d->n * 4);
    if (index == NULL)
        return 1;
    if (held_out && ae_dataset_split(&rest, &held, d, index, o->validation, 1))
        return fail("--validation: %s", index->error);
    adam.lr = o->lr;
    f.epochs = o->epochs - before;
    f.patience = o->patience;
    f.held_out = held_out ? &held : NULL;
    f.batch = o->batch;
    f.callback = progress;
    f.user = &r;
    r.begin = r.start = now();
    signal(SIGINT, on_interrupt);
    if (ae_fit(v->m, &rest, &adam, &f, &result))
        return fail("%s", ae_error(v->m));
    if (r.failed)
        return 1;
    if (interrupted && isatty(2))
        fputs("\r\033[K", stderr);
    if (interrupted)
        return fail(file_bytes(o->model) ? "stopped: --resume goes on from %s"
                                         : "stopped before %s was first saved", o->model);
    if (o->patience && result.best_epoch < result.epochs) {
        printf("epoch %d was the best and is kept\n", before + result.best_epoch);
        if (note(v, "epochs", "%9d", before + result.best_epoch))
            return 1;
    }
    if (choose_threshold(v, o, &held, held_out ? "validation" : "train") || save(v, o))
        return 1;
    printf("result model %s\n", o->model);
    return 0;
}

// The graph twice: to measure, then in memory for it and for training.
static int make_model(net *v, const options *o, const ae_dataset *d, const char *text)
{
    const int batch = o->batch > BATCH ? o->batch : BATCH;
    size_t bytes = 0, graph = (size_t)4 << 20;
    for (int pass = 0; pass < 2; pass++) {
        v->arena = room(graph + 4 * bytes);         // and what patience and saving borrow
        if (v->arena == NULL || build_graph(v, text, d->c, d->h, d->w, (uint64_t)o->seed))
            return 1;
        bytes = ae_plan(v->m, batch, AE_TRAIN);
        if (bytes == 0)
            return fail("--layers \"%s\": %s", text, ae_error(v->m));
    }
    ae_set_threads(v->m, o->threads);
    if (ae_build(v->m, batch, AE_TRAIN))
        return fail("--layers \"%s\": %s", text, ae_error(v->m));
    return note(v, "layers", "%s", text) || note(v, "input", "%s", ae_tensor_name(v->x))
        || note(v, "code", "%s", ae_tensor_name(v->code))
        || note(v, "output", "%s", ae_tensor_name(v->y))
        || (v->variational && note(v, "variational", "1"))
        || (o->normal && note(v, "normal", "%s", o->normal)) || note_scale(v);
}

// What --resume goes on with, unless it is said anew.
static void resume_options(options *o, const net *v)
{
    o->epochs = o->epochs ? o->epochs : (int)note_number(v, "planned", 0);
    o->batch = o->batch ? o->batch : (int)note_number(v, "batch", BATCH);
    o->patience = o->patience >= 0 ? o->patience : (int)note_number(v, "patience", 0);
    o->lr = o->lr > 0.0f ? o->lr : note_number(v, "lr", 1e-3f);
    o->validation = o->validation >= 0.0f ? o->validation : note_number(v, "validation", 0);
    o->normal = o->normal ? o->normal : ae_note_of(v->m, "normal");
}

static void usual_options(options *o, size_t n)
{
    size_t epochs = (200000 + n - 1) / n, batch = n / 50;
    o->epochs = o->epochs ? o->epochs : epochs < 10 ? 10 : epochs > 1000 ? 1000 : (int)epochs;
    o->batch = o->batch ? o->batch : batch < 8 ? 8 : batch > 128 ? 128 : (int)batch;
    o->patience = o->patience >= 0 ? o->patience : 20;
    o->lr = o->lr > 0.0f ? o->lr : 1e-3f;
    o->validation = o->validation >= 0.0f ? o->validation : n < 20 ? 0.0f : 0.1f;
}

static int train(options *o)
{
    net v;
    data d;
    int before = 0;
    char text[LONGEST];
    memset(&v, 0, sizeof v);
    if (o->resume && o->layers)
        return fail("--resume takes its layers from %s: leave out --layers", o->model);
    if (o->resume) {
        if (open_model(&v, o, 1, AE_INFER))     // what was it trained with?
            return 1;
        resume_options(o, &v);
        before = (int)note_number(&v, "epochs", 0);
        if (before >= o->epochs)
            return fail("%s has learned for %d epochs, as planned: --epochs %d gives it %d more",
                        o->model, before, 2 * before, before);
        if (open_model(&v, o, o->batch > BATCH ? o->batch : BATCH, AE_TRAIN))
            return 1;
    }
    if (load(&d, o, &v, o->normal))
        return 1;
    if (!o->resume) {
        usual_options(o, d.set.n);
        usual_layers(text, &d.set);
        if (make_model(&v, o, &d.set, o->layers ? o->layers : text))
            return 1;
    }
    if (note(&v, "planned", "%d", o->epochs) || note(&v, "batch", "%d", o->batch)
        || note(&v, "patience", "%d", o->patience) || note(&v, "epochs", "%9d", before)
        || note_float(&v, "lr", o->lr) || note(&v, "threshold", "none")
        || note_float(&v, "validation", o->validation)
        || note(&v, "data", d.table ? "table" : d.names ? "pictures" : "array"))
        return 1;
    printf("%zu samples of %dx%dx%d, layers \"%s\", code of %zu, batch %d\n", d.set.n, d.set.c,
           d.set.h, d.set.w, ae_note_of(v.m, "layers"), ae_size(v.code), o->batch);
    return fit(&v, o, &d.set, before);
}

// ---------------------------------------------------------------------------
// Using a model

// n samples of c,h,w (or codes) as a .csv or .npy.
static int write_table(const char *path, const float *x, size_t n, int c, int h, int w)
{
    const size_t size = (size_t)c * (size_t)h * (size_t)w;
    size_t shape[4] = {n, (size_t)(c == 1 ? h : c), (size_t)(c == 1 ? w : h), (size_t)w};
    ae_arena *arena = room(65536);
    if (arena == NULL)
        return 1;
    if (ends_with(path, ".csv") ? ae_csv_write(arena, path, x, n, size)
        : ae_npy_write(arena, path, x, shape, h * w == 1 ? 2 : c == 1 ? 3 : 4))
        return fail("%s", arena->error);
    printf("%s: %zu samples of %zu values\n", path, n, size);
    return 0;
}

static int has_pictures(const net *v, const options *o)     // to write, that is
{
    int c, h, w;
    ae_shape(v->x, &c, &h, &w);
    return (c == 1 || c == 3) && h > 1 && w > 1 && v->scale != SCALE_COLUMNS && !is_table(o->out);
}

static int write_picture(ae_arena *arena, const options *o, const char *name, ae_image image)
{
    char path[LONGEST];
    if (result_path(path, o, name))
        return 1;
    return ae_png_write(arena, path, image) ? fail("%s", arena->error) : 0;
}

// The file of picture i of the results: named as its original, all in one folder, or numbered.
static int picture_name(char name[LONGEST], const data *d, size_t i, const char *what)
{
    char number[64];
    snprintf(number, sizeof number, "%s_%05zu", what, i + 1);
    const char *from = d && d->names ? d->names[i] : number;
    const char *slash = d && d->set.n == 1 ? strrchr(from, '/') : NULL;
    from = slash ? slash + 1 : from;                // a single picture is called by its path
    if (snprintf(name, LONGEST, "%s%s", from, ends_with(from, ".png") ? "" : ".png") >= LONGEST)
        return fail("the path %.200s... is too long", from);
    for (char *p = name; *p; p++)
        *p = *p == '/' ? '_' : *p;
    return 0;
}

// Results y (n samples, changed) as what they are: one PNG each; or a table, in the units of the
// data, when they are no pictures, or too many for a folder, or when -o names one.
static int deliver(const net *v, const options *o, const data *d, float *y, size_t n,
                   const char *what)
{
    char path[LONGEST], name[LONGEST];
    const char *kind = ae_note_of(v->m, "data");
    const size_t size = ae_size(v->x);
    int c, h, w, csv = d ? d->table : kind && strcmp(kind, "table") == 0;
    ae_shape(v->x, &c, &h, &w);
    if (!has_pictures(v, o) || n > SEPARATE) {
        for (size_t i = 0; i < n * size; i++) {
            size_t j = v->columns ? i % size % (size_t)v->columns : 0;
            y[i] = v->columns ? y[i] * v->deviation[j] + v->mean[j]
                              : v->scale == SCALE_255 ? y[i] * 255.0f : y[i];
        }
        snprintf(name, sizeof name, "%s.%s", what, csv ? "csv" : "npy");
        return result_path(path, o, name) || write_table(path, y, n, c, h, w);
    }
    ae_arena *arena = room((size_t)w * (size_t)h * 8 + ((size_t)4 << 20));
    for (size_t i = 0; arena && i < n; i++) {
        ae_arena_rewind(arena, 0);
        ae_image image = ae_image_new(arena, w, h, 0);
        if (image.rgb)
            ae_image_draw(&image, 0, 0, y + i * size, c, h, w, 1, 0, 1, AE_GRAY);
        if (picture_name(name, d, i, what) || write_picture(arena, o, name, image))
            return 1;
    }
    printf("%s: %zu picture%s\n", o->out, n, n == 1 ? "" : "s");
    return arena == NULL;
}

// Side by side, of SHOWN samples evenly spread: x, with `clean` above it unless that is NULL, y
// below it, and then what y still lacks.
static int show(const net *v, const options *o, const float *clean, const float *x, const float *y,
                size_t n, const char *name)
{
    const size_t size = ae_size(v->x), k = n < SHOWN ? n : (size_t)SHOWN;
    const float *from[3] = {clean, x, y};
    float *all = take_floats(4 * k, size), *to = all;
    ae_image_row row[4];
    int c, h, w, rows = 0;
    ae_shape(v->x, &c, &h, &w);
    const int zoom = h < 64 ? 96 / h : 1;
    ae_arena *arena = room((size_t)(w * zoom + 8) * k * (size_t)(h * zoom + 8) * 32
                           + ((size_t)4 << 20));
    if (all == NULL || arena == NULL)
        return 1;
    for (int r = clean ? 0 : 1; r < 4; r++, rows++) {
        row[rows].samples = to;
        row[rows].map = r == 3 && c == 1 ? AE_HOT : AE_GRAY;
        row[rows].low = 0;
        row[rows].high = 1;
        for (size_t i = 0; i < k; i++, to += size) {
            size_t at = i * n / k * size;
            if (r == 3)
                ae_abs_error(to, (clean ? clean : x) + at, y + at, size);
            else
                memcpy(to, from[r] + at, size * sizeof *to);
        }
    }
    if (write_picture(arena, o, name, ae_image_rows(arena, row, rows, (int)k, c, h, w, zoom)))
        return 1;
    printf("%s/%s: %s, below it what the model makes of it, then the difference\n", o->out, name,
           clean ? "data, with noise" : "data");
    return 0;
}

static void print_error(const net *v, const char *name, const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    printf("result %s_mse %.6g\n", name, sum / (double)n);
    if (v->scale != SCALE_COLUMNS && sum > 0)
        printf("result %s_psnr %.2f\n", name, -10 * log10(sum / (double)n));
}

// reconstruct and denoise: what the model makes of the data, or of the data with noise.
static int reconstruct(options *o)
{
    net v;
    data d;
    if (open_model(&v, o, BATCH, AE_INFER) || load(&d, o, &v, NULL))
        return 1;
    const int denoise = o->verb[0] == 'd', noisy = denoise && o->noise > 0.0f;
    const size_t n = d.set.n, all = n * ae_size(v.x);
    float *x = take_floats(all, 1), *y = take_floats(all, 1), *clean = x;
    if (!x || !y || (noisy && (clean = take_floats(all, 1)) == NULL))
        return 1;
    ae_dataset_get(&d.set, clean, NULL, 0, n);
    if (noisy) {
        ae_random r = {0, 0, 1};
        r.seed = (uint64_t)o->seed;
        ae_gaussian_noise_forward(NULL, x, NULL, clean, o->noise, 0,
                                  v.scale == SCALE_COLUMNS ? 0.0f : 1.0f, 0, r, all);
        print_error(&v, "noisy", clean, x, all);
    }
    if (ae_predict(v.m, v.y, y, x, n))
        return fail("%s", ae_error(v.m));
    if (noisy || !denoise)
        print_error(&v, denoise ? "denoised" : "reconstruction", clean, y, all);
    if (has_pictures(&v, o) && show(&v, o, noisy ? clean : NULL, x, y, n, "side_by_side.png"))
        return 1;
    return deliver(&v, o, &d, y, n, denoise ? "denoised" : "reconstructed");
}

static int encode(options *o)
{
    net v;
    data d;
    char path[LONGEST];
    int c, h, w;
    if (open_model(&v, o, BATCH, AE_INFER) || load(&d, o, &v, NULL))
        return 1;
    float *codes = take_floats(d.set.n, ae_size(v.code));
    if (codes == NULL)
        return 1;
    if (ae_predict_dataset(v.m, v.code, codes, &d.set))
        return fail("%s", ae_error(v.m));
    ae_shape(v.code, &c, &h, &w);
    return result_path(path, o, "codes.csv") || write_table(path, codes, d.set.n, c, h, w);
}

static int decode_codes(options *o)
{
    net v;
    data d;
    memset(&d, 0, sizeof d);
    if (open_model(&v, o, BATCH, AE_INFER))
        return 1;
    if (o->data == NULL || is_folder(o->data))
        return fail("decode takes codes, a file .csv or .npy, as out/codes.csv");
    if (load_file(&d, o, &v, o->data))
        return 1;
    if (sample_size(&d.set) != ae_size(v.code))
        return fail("%s: codes of %zu values do not fit the model %s, whose codes have %zu",
                    o->data, sample_size(&d.set), o->model, ae_size(v.code));
    float *codes = take_floats(d.set.n, ae_size(v.code)), *y = take_floats(d.set.n, ae_size(v.x));
    if (!codes || !y)
        return 1;
    d.set.scale = 1.0f;                 // whole numbers of 0 ... 255 were read as bytes
    ae_dataset_get(&d.set, codes, NULL, 0, d.set.n);
    if (ae_predict_from(v.m, v.code, v.y, y, codes, d.set.n))
        return fail("%s", ae_error(v.m));
    return deliver(&v, o, NULL, y, d.set.n, "decoded");
}

static int sample(options *o)
{
    net v;
    int n = 0, c, h, w;
    char rest;
    if (!o->data || sscanf(o->data, "%7d%c", &n, &rest) != 1 || n < 1)
        return fail("sample how many? `ae sample 64`");
    if (open_model(&v, o, BATCH, AE_INFER))
        return 1;
    if (!v.variational)
        return fail("%s is not variational, it cannot make up samples: train with a code like v20",
                    o->model);
    float *y = take_floats((size_t)n, ae_size(v.x));
    if (y == NULL)
        return 1;
    if (ae_sample(v.m, v.code, v.y, y, (size_t)n, (uint64_t)o->seed))
        return fail("%s", ae_error(v.m));
    if (has_pictures(&v, o)) {
        ae_shape(v.x, &c, &h, &w);
        int shown = n < 100 ? n : 100, columns = (int)ceil(sqrt(shown)), zoom = h < 48 ? 64 / h : 1;
        size_t tile = (size_t)(w * zoom + 8) * (size_t)(h * zoom + 8);
        ae_arena *arena = room(tile * (size_t)(columns * columns) * 8 + ((size_t)4 << 20));
        if (arena == NULL || write_picture(arena, o, "samples.png", ae_image_grid(
                                 arena, y, shown, columns, c, h, w, zoom)))
            return 1;
        printf("%s/samples.png: %d samples\n", o->out, shown);
    }
    return deliver(&v, o, NULL, y, (size_t)n, "sample");
}

typedef struct scored {
    float score;
    size_t at;
} scored;

static int by_score(const void *a, const void *b)       // the worst first
{
    const scored *x = (const scored *)a, *y = (const scored *)b;
    return x->score != y->score ? (x->score < y->score) - (x->score > y->score)
                                : (x->at > y->at) - (x->at < y->at);
}

static void print_score(FILE *f, const data *d, const scored *s, double threshold)
{
    char number[24];
    snprintf(number, sizeof number, "%zu", s->at + 1);
    fprintf(f, "%s,%.6g,%d\n", d->names ? d->names[s->at] : number, (double)s->score,
            (double)s->score > threshold);
}

// All scores, in the order of the data.
static int write_scores(const options *o, const data *d, const scored *s, double threshold)
{
    char path[LONGEST];
    FILE *f = result_path(path, o, "scores.csv") ? NULL : fopen(path, "wb");
    if (f == NULL)
        return fail("cannot write the scores to %s", o->out);
    fputs("sample,score,odd\n", f);
    for (size_t i = 0; i < d->set.n; i++)
        print_score(f, d, &s[i], threshold);
    int bad = ferror(f);
    if (fclose(f) || bad)
        return fail("cannot write %s", path);
    printf("%s: the score of each sample, 1 for odd\n", path);
    return 0;
}

// The worst samples: a list, and pictures of what the model made of them.
static int show_worst(net *v, const options *o, const data *d, const scored *s, double threshold)
{
    const size_t k = d->set.n < SHOWN ? d->set.n : (size_t)SHOWN, size = ae_size(v->x);
    float *x = take_floats(k, size), *y = take_floats(k, size);
    if (!x || !y)
        return 1;
    puts("the highest scores:");
    for (size_t i = 0; i < k; i++) {
        print_score(stdout, d, &s[i], threshold);
        ae_dataset_get(&d->set, x + i * size, NULL, s[i].at, 1);
    }
    if (!has_pictures(v, o))
        return 0;
    if (ae_predict(v->m, v->y, y, x, k))
        return fail("%s", ae_error(v->m));
    return show(v, o, NULL, x, y, k, "anomalies.png");
}

static int anomaly(options *o)
{
    net v;
    data d;
    double area, threshold = (double)o->threshold;
    if (open_model(&v, o, BATCH, AE_INFER) || load(&d, o, &v, NULL))
        return 1;
    const size_t n = d.set.n;
    const char *normal = o->normal ? o->normal : d.set.labels ? ae_note_of(v.m, "normal") : NULL;
    const int32_t label = normal ? label_of(&d, normal) : 0;
    threshold = threshold < 0 ? (double)note_number(&v, "threshold", -1) : threshold;
    if (label < 0)
        return 1;
    if (threshold < 0)
        return fail("%s has no threshold, its training was cut off: finish it with --resume, or "
                    "give --threshold", o->model);
    scored *s = (scored *)take(n * sizeof(scored));
    float *e = take_floats(n, 1);
    uint8_t *odd = (uint8_t *)take(n);
    ae_arena *arena = room(n * 16 + 4096);
    size_t count = 0;
    if (!e || !s || !odd || !arena || errors(&v, &d.set, e))
        return 1;
    for (size_t i = 0; i < n; i++) {
        s[i].score = e[i];
        s[i].at = i;
        odd[i] = normal && d.set.labels[i] != label;
        count += (double)e[i] > threshold;
    }
    if (write_scores(o, &d, s, threshold))
        return 1;
    qsort(s, n, sizeof s[0], by_score);
    if (show_worst(&v, o, &d, s, threshold))
        return 1;
    printf("result threshold %.6g\nresult odd %zu of %zu\n", threshold, count, n);
    if (normal && ae_auroc(&area, arena, e, odd, n) == AE_SUCCESS)      // there are both kinds
        printf("result auroc %.4f\n", area);
    return 0;
}

static int info(options *o)
{
    static const char *const keys[] = {
        "layers", "input", "code", "output", "data", "scale", "normal", "epochs", "planned",
        "batch", "lr", "validation", "threshold", "quantile"
    };
    net v;
    int c, h, w;
    o->model = o->data ? o->data : o->model;
    if (open_model(&v, o, 1, AE_INFER))
        return 1;
    ae_shape(v.x, &c, &h, &w);
    printf("%s: %zu bytes\nsample      %dx%dx%d\ncode of     %zu values\n", o->model,
           file_bytes(o->model), c, h, w, ae_size(v.code));
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (ae_note_of(v.m, keys[i]))
            printf("%-11s %s\n", keys[i], ae_note_of(v.m, keys[i]));
    size_t length = ae_summary(v.m, 1, AE_INFER, NULL, 0);
    char *table = (char *)take(length + 1);
    if (table == NULL)
        return 1;
    ae_summary(v.m, 1, AE_INFER, table, length + 1);
    printf("\n%s", table);
    return 0;
}

int main(int argc, char **argv)
{
    static const struct { const char *name; int (*run)(options *); } verbs[] = {
        {"train", train}, {"reconstruct", reconstruct}, {"denoise", reconstruct},
        {"encode", encode}, {"decode", decode_codes}, {"anomaly", anomaly}, {"sample", sample},
        {"info", info}
    };
    const size_t count = sizeof verbs / sizeof verbs[0];
    options o;
    size_t i = 0;
    memset(&o, 0, sizeof o);
    o.model = "model.safetensors";
    o.out = "out";
    o.seed = 42;
    o.threads = 1;
    o.patience = -1;
    o.lr = o.validation = o.threshold = o.noise = -1.0f;
    o.quantile = 0.99f;
    int status = parse(&o, argc, argv);
    if (status)
        return status == 1;
    while (i < count && strcmp(verbs[i].name, o.verb) != 0)
        i++;
    status = i < count ? verbs[i].run(&o)
                       : fail("there is no command '%s': train, reconstruct, denoise, encode, "
                              "decode, anomaly, sample, info; see ae --help", o.verb);
    while (room_count > 0)
        ae_arena_free(rooms[--room_count]);
    return status;
}
