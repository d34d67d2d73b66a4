/* SPDX-License-Identifier: MIT */
/* make-emoji FONT EMOJI-TEST OUT SIZE [GROUPS]: every emoji of Unicode's emoji-test.txt that the
 * colour font draws as one glyph, as OUT/<code points>.png (SIZE x SIZE, RGB on white), and
 * OUT/labels.csv with what its name, group and code points say. scripts/make-emoji compiles and
 * runs it.
 *
 * Sequences that look like an earlier one are left out, so that no image is in two parts of a
 * split. The program stops at the first error: it makes data, it is no library. */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <ft2build.h>
#include FT_FREETYPE_H
#include <hb-ft.h>
#include <png.h>

enum { POINTS_MAX = 16, TEXT_MAX = 256, SIZE_MAX_PX = 512, TONES = 5 };

typedef struct emoji {
    uint32_t point[POINTS_MAX];
    int points;
    char name[TEXT_MAX], group[TEXT_MAX], subgroup[TEXT_MAX];
} emoji;

static void die(const char *what, const char *why)
{
    fprintf(stderr, "make-emoji: %s: %s\n", what, why);
    exit(1);
}

static void *must(void *p)
{
    if (!p)
        die("memory", "not enough");
    return p;
}

/* ---- attributes ---- */

/* An attribute is YES when a word of the name or the subgroup is listed, NO elsewhere within its
 * scope, and unknown (an empty cell) outside it or when a word of `unless` occurs too. */
typedef struct rule {
    const char *attribute;
    const char *scope;     /* start of the subgroup, or "*" */
    const char *words;     /* of the name, separated by | */
    const char *subgroups; /* starts of subgroups, separated by | */
    const char *unless;
    int opposed; /* NO only where a word of `unless` occurs; unknown elsewhere */
} rule;

static const rule rules[] = {
    {"face", "*", "", "face-|cat-face|monkey-face", "", 0},
    {"smiling", "face-", "smiling|grinning|beaming|grin|laughing|joy|kissing|hugging|savoring",
     "face-smiling|face-affection", "", 0},
    {"sad", "face-",
     "frowning|sad|crying|disappointed|downcast|weary|tired|worried|pleading|anguished|fearful",
     "face-concerned", "", 0},
    {"angry", "face-", "angry|enraged|pouting|steam|horns", "", "", 0},
    {"tears", "face-", "crying|tear|tears", "", "", 0},
    {"heart_eyes_or_hearts", "face-", "heart|hearts|kiss|kissing", "", "", 0},
    {"tongue", "face-", "tongue|savoring", "face-tongue", "", 0},
    {"glasses", "face-", "glasses|sunglasses|monocle|nerd|disguised", "face-glasses", "", 0},
    {"hat", "face-", "hat|cowboy|partying", "face-hat", "", 0},
    {"cat", "*", "cat", "cat-face", "", 0},
    {"monkey", "*", "monkey|gorilla|orangutan", "monkey-face", "", 0},
    {"heart", "*", "heart|hearts", "heart", "", 0},
    {"hand", "*", "", "hand", "", 0},
    {"person", "*", "", "person", "", 0},
    {"woman", "person", "woman|women|girl|mermaid|princess", "", "man|men|boy", 0},
    {"man", "person", "man|men|boy|merman|prince|beard", "", "woman|women|girl", 0},
    {"woman_not_man", "person", "woman|women|girl|mermaid|princess", "",
     "man|men|boy|merman|prince", 1},
    {"child", "person", "child|boy|girl|baby", "", "", 0},
    {"old", "person", "old|older", "", "", 0},
    {"red_hair", "person", "red hair", "", "", 0},
    {"curly_hair", "person", "curly hair", "", "", 0},
    {"white_hair", "person", "white hair|old|older", "", "", 0},
    {"blond_hair", "person", "blond hair", "", "", 0},
    {"bald", "person", "bald", "", "", 0},
    {"beard", "person", "beard", "", "", 0},
    {"family_or_couple", "*", "", "family", "", 0},
    {"animal", "*", "", "animal-", "", 0},
    {"plant", "*", "", "plant-", "", 0},
    {"food", "*", "", "food-|dishware|drink", "", 0},
    {"vehicle", "*", "", "transport-ground|transport-air|transport-water", "", 0},
    {"building", "*", "", "place-building|place-religious", "", 0},
    {"clock", "*", "clock|oclock|o’clock|thirty|watch", "", "", 0},
    {"arrow", "*", "arrow", "arrow", "", 0},
    {"flag", "*", "", "flag|country-flag|subdivision-flag", "", 0},
    {NULL, NULL, NULL, NULL, NULL, 0}};

static const char *const groups[][2] = {{"group_smileys", "Smileys & Emotion"},
                                        {"group_people", "People & Body"},
                                        {"group_animals", "Animals & Nature"},
                                        {"group_food", "Food & Drink"},
                                        {"group_travel", "Travel & Places"},
                                        {"group_activities", "Activities"},
                                        {"group_objects", "Objects"},
                                        {"group_symbols", "Symbols"},
                                        {"group_flags", "Flags"},
                                        {NULL, NULL}};

static const char *const tones[TONES] = {"skin_light", "skin_medium_light", "skin_medium",
                                         "skin_medium_dark", "skin_dark"};

static int is_word_byte(char c)
{
    return isalnum((unsigned char)c) || (unsigned char)c >= 128;
}

/* Whether words[0..n) occurs in text with no letter before or behind it. */
static int has_words(const char *text, const char *words, size_t n)
{
    for (const char *p = text; *p; p++)
        if (strncmp(p, words, n) == 0 && (p == text || !is_word_byte(p[-1])) && !is_word_byte(p[n]))
            return 1;
    return 0;
}

/* Whether any of the |-separated entries occurs in text: as words, or as its start. */
static int any_of(const char *text, const char *list, int start)
{
    while (*list) {
        size_t n = strcspn(list, "|");
        if (start ? strncmp(text, list, n) == 0 : has_words(text, list, n))
            return 1;
        list += n + (list[n] == '|');
    }
    return 0;
}

static const char *apply(const rule *r, const emoji *e)
{
    if (strcmp(r->scope, "*") != 0 && strncmp(e->subgroup, r->scope, strlen(r->scope)) != 0)
        return "";
    if (any_of(e->name, r->unless, 0))
        return any_of(e->name, r->words, 0) ? "" : "0";
    if (r->opposed)
        return any_of(e->name, r->words, 0) ? "1" : "";
    return any_of(e->name, r->words, 0) || any_of(e->subgroup, r->subgroups, 1) ? "1" : "0";
}

/* Bit k: tone k occurs. */
static unsigned tone_bits(const emoji *e)
{
    unsigned bits = 0;
    for (int i = 0; i < e->points; i++)
        if (e->point[i] >= 0x1F3FB && e->point[i] <= 0x1F3FF)
            bits |= 1u << (e->point[i] - 0x1F3FB);
    return bits;
}

static void write_header(FILE *f)
{
    fprintf(f, "file");
    for (int k = 0; groups[k][0]; k++)
        fprintf(f, ",%s", groups[k][0]);
    for (const rule *r = rules; r->attribute; r++)
        fprintf(f, ",%s", r->attribute);
    for (int k = 0; k < TONES; k++)
        fprintf(f, ",%s", tones[k]);
    fprintf(f, ",skin_tone,dark_skin\n");
}

/* Tones are unknown where nobody has skin; yellow is no tone. dark_skin compares the two dark tones
 * with the two light ones. */
static void write_row(FILE *f, const char *file, const emoji *e)
{
    unsigned bits = tone_bits(e), light = bits & 3u, dark = bits & 24u;
    int people = strcmp(e->group, "People & Body") == 0;
    fprintf(f, "%s", file);
    for (int k = 0; groups[k][0]; k++)
        fprintf(f, ",%d", strcmp(e->group, groups[k][1]) == 0);
    for (const rule *r = rules; r->attribute; r++)
        fprintf(f, ",%s", apply(r, e));
    for (int k = 0; k < TONES; k++)
        fprintf(f, ",%s", !people ? "" : bits >> k & 1u ? "1" : "0");
    fprintf(f, ",%s,%s\n",
            !people ? ""
            : bits  ? "1"
                    : "0",
            dark && !light   ? "1"
            : light && !dark ? "0"
                             : "");
}

/* ---- emoji-test.txt ---- */

static void copy_text(char *to, const char *from)
{
    size_t n = strcspn(from, "\r\n");
    n = n < TEXT_MAX ? n : TEXT_MAX - 1;
    memcpy(to, from, n);
    to[n] = '\0';
}

/* "1F600 ; fully-qualified # X E1.0 grinning face" */
static int parse_line(emoji *e, char *line)
{
    char *semicolon = strchr(line, ';'), *mark = strchr(line, '#'), *name;
    if (!semicolon || !mark || !strstr(semicolon, "fully-qualified") ||
        strstr(semicolon, "minimally-qualified") || strstr(semicolon, "unqualified"))
        return 0;
    e->points = 0;
    for (char *p = line, *end; p < semicolon && e->points < POINTS_MAX; p = end) {
        unsigned long v = strtoul(p, &end, 16);
        if (end == p)
            break;
        e->point[e->points++] = (uint32_t)v;
    }
    name = strstr(mark, " E");
    name = name ? strchr(name + 1, ' ') : NULL;
    if (!name || e->points == 0)
        return 0;
    copy_text(e->name, name + 1);
    return 1;
}

/* ---- drawing ---- */

typedef struct canvas {
    int size;
    uint8_t *rgb; /* [size][size][3] */
} canvas;

/* The glyph of the whole sequence, or 0 when the font draws it as several or not at all. */
static uint32_t glyph_of(hb_font_t *font, const emoji *e)
{
    unsigned n = 0;
    hb_buffer_t *b = hb_buffer_create();
    hb_buffer_add_utf32(b, e->point, e->points, 0, e->points);
    hb_buffer_guess_segment_properties(b);
    hb_shape(font, b, NULL, 0);
    hb_glyph_info_t *g = hb_buffer_get_glyph_infos(b, &n);
    hb_glyph_position_t *at = hb_buffer_get_glyph_positions(b, &n);
    uint32_t found = 0;
    unsigned visible = 0;
    for (unsigned i = 0; i < n; i++)
        if (at[i].x_advance != 0) {
            found = g[i].codepoint;
            visible++;
        }
    hb_buffer_destroy(b);
    return visible == 1 ? found : 0;
}

/* Share of source pixel s that target pixel t covers. */
static double overlap(double scale, int t, int s)
{
    double lo = fmax(t * scale, s), hi = fmin((t + 1) * scale, s + 1.0);
    return hi > lo ? hi - lo : 0.0;
}

/* Premultiplied BGRA on white in the middle of a square, reduced by averaging areas. */
static void draw(canvas *c, const FT_Bitmap *bm)
{
    int w = (int)bm->width, h = (int)bm->rows, side = w > h ? w : h;
    int dx = (side - w) / 2, dy = (side - h) / 2;
    double scale = (double)side / c->size;
    for (int y = 0; y < c->size; y++)
        for (int x = 0; x < c->size; x++) {
            double sum[3] = {0}, area = 0.0;
            for (int sy = (int)(y * scale); sy < side && sy < (y + 1) * scale; sy++)
                for (int sx = (int)(x * scale); sx < side && sx < (x + 1) * scale; sx++) {
                    double a = overlap(scale, y, sy) * overlap(scale, x, sx);
                    int in = sx >= dx && sx < dx + w && sy >= dy && sy < dy + h;
                    const uint8_t *p =
                        in ? bm->buffer + (sy - dy) * bm->pitch + 4 * (sx - dx) : NULL;
                    for (int k = 0; k < 3; k++)
                        sum[k] += a * (p ? p[2 - k] + 255 - p[3] : 255);
                    area += a;
                }
            for (int k = 0; k < 3; k++)
                c->rgb[3 * (y * c->size + x) + k] = (uint8_t)(sum[k] / area + 0.5);
        }
}

static void write_png(const char *path, const canvas *c)
{
    png_image im = {.version = PNG_IMAGE_VERSION,
                    .width = (png_uint_32)c->size,
                    .height = (png_uint_32)c->size,
                    .format = PNG_FORMAT_RGB};
    if (!png_image_write_to_file(&im, path, 0, c->rgb, 0, NULL))
        die(path, im.message);
}

/* ---- the loop ---- */

/* Hashes of all pictures so far. */
typedef struct seen {
    uint64_t *hash;
    size_t n, cap;
} seen;

static int seen_before(seen *s, const canvas *c)
{
    uint64_t h = 0xCBF29CE484222325u;
    for (int i = 0; i < 3 * c->size * c->size; i++)
        h = (h ^ c->rgb[i]) * 0x100000001B3u;
    for (size_t i = 0; i < s->n; i++)
        if (s->hash[i] == h)
            return 1;
    if (s->n == s->cap) {
        s->cap = s->cap ? 2 * s->cap : 1024;
        s->hash = must(realloc(s->hash, s->cap * sizeof *s->hash));
    }
    s->hash[s->n++] = h;
    return 0;
}

static void file_name(char *out, size_t cap, const emoji *e)
{
    size_t n = 0;
    for (int i = 0; i < e->points && n < cap; i++)
        n += (size_t)snprintf(out + n, cap - n, "%s%04x", i ? "-" : "", (unsigned)e->point[i]);
    snprintf(out + n, cap - n, ".png");
}

static void open_font(FT_Library *ft, FT_Face *face, const char *path)
{
    if (FT_Init_FreeType(ft) || FT_New_Face(*ft, path, 0, face))
        die(path, "is no font that FreeType reads");
    if ((*face)->num_fixed_sizes < 1 || FT_Select_Size(*face, 0))
        die(path, "has no colour bitmaps");
}

/* only: group names as in the header of labels.csv, without "group_", separated by |. */
static int wanted(const emoji *e, const char *only)
{
    for (int k = 0; groups[k][0]; k++)
        if (strcmp(e->group, groups[k][1]) == 0)
            return !*only || any_of(only, groups[k][0] + strlen("group_"), 0);
    return !*only;
}

int main(int argc, char **argv)
{
    if (argc != 5 && argc != 6)
        die("usage", "make-emoji FONT EMOJI-TEST OUT SIZE [GROUPS]");
    const char *out = argv[3];
    canvas c = {.size = atoi(argv[4])};
    if (c.size < 8 || c.size > SIZE_MAX_PX)
        die(argv[4], "SIZE must be from 8 to 512");
    c.rgb = must(malloc((size_t)c.size * (size_t)c.size * 3));
    FT_Library ft;
    FT_Face face;
    open_font(&ft, &face, argv[1]);
    hb_font_t *font = hb_ft_font_create(face, NULL);
    FILE *list = fopen(argv[2], "r");
    if (!list)
        die(argv[2], strerror(errno));
    if (mkdir(out, 0777) != 0 && errno != EEXIST)
        die(out, strerror(errno));
    char line[1024], path[4096], file[256];
    snprintf(path, sizeof path, "%s/labels.csv", out);
    FILE *labels = fopen(path, "w");
    if (!labels)
        die(path, strerror(errno));
    write_header(labels);
    emoji e = {0};
    seen s = {0};
    int drawn = 0, missing = 0, twice = 0;
    while (fgets(line, sizeof line, list)) {
        if (strncmp(line, "# group: ", 9) == 0)
            copy_text(e.group, line + 9);
        if (strncmp(line, "# subgroup: ", 12) == 0)
            copy_text(e.subgroup, line + 12);
        if (line[0] == '#' || !wanted(&e, argc > 5 ? argv[5] : "") || !parse_line(&e, line))
            continue;
        uint32_t glyph = glyph_of(font, &e);
        if (glyph == 0 || FT_Load_Glyph(face, glyph, FT_LOAD_COLOR) ||
            face->glyph->bitmap.pixel_mode != FT_PIXEL_MODE_BGRA || !face->glyph->bitmap.width) {
            missing++;
            continue;
        }
        draw(&c, &face->glyph->bitmap);
        if (seen_before(&s, &c)) {
            twice++;
            continue;
        }
        file_name(file, sizeof file, &e);
        snprintf(path, sizeof path, "%s/%s", out, file);
        write_png(path, &c);
        write_row(labels, file, &e);
        drawn++;
    }
    if (fclose(labels) != 0)
        die(out, strerror(errno));
    printf("%s: %d emoji, %d more are not in the font as one glyph, %d look like another\n", out,
           drawn, missing, twice);
    fclose(list);
    hb_font_destroy(font);
    FT_Done_Face(face);
    FT_Done_FreeType(ft);
    free(s.hash);
    free(c.rgb);
    return 0;
}
