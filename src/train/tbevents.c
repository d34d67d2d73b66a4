/* SPDX-License-Identifier: MIT */
#include "train/tbevents.h"
#include "train/runlog.h"

#include <string.h>

/* Field numbers and wire types of the messages, as tag bytes: number << 3 | type. */
enum {
    VARINT = 0,
    FIXED64 = 1,
    BYTES = 2,
    FIXED32 = 5,
    EVENT_WALL_TIME = 1 << 3 | FIXED64,
    EVENT_STEP = 2 << 3 | VARINT,
    EVENT_FILE_VERSION = 3 << 3 | BYTES,
    EVENT_SUMMARY = 5 << 3 | BYTES,
    SUMMARY_VALUE = 1 << 3 | BYTES,
    VALUE_TAG = 1 << 3 | BYTES,
    VALUE_SIMPLE = 2 << 3 | FIXED32,
    VALUE_IMAGE = 4 << 3 | BYTES,
    IMAGE_HEIGHT = 1 << 3 | VARINT,
    IMAGE_WIDTH = 2 << 3 | VARINT,
    IMAGE_COLORSPACE = 3 << 3 | VARINT,
    IMAGE_ENCODED = 4 << 3 | BYTES
};

uint32_t zs_crc32c(const void *p, size_t n)
{
    const uint8_t *s = p;
    uint32_t crc = 0xFFFFFFFFu;
    for (size_t i = 0; i < n; i++) {
        crc ^= s[i];
        for (int k = 0; k < 8; k++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78u : 0u);
    }
    return ~crc;
}

/* ---- protocol buffers ---- */

static void put_little(zs_strbuf *b, uint64_t v, int bytes)
{
    char s[8];
    for (int i = 0; i < bytes; i++)
        s[i] = (char)(uint8_t)(v >> (8 * i));
    zs_strbuf_append(b, s, (size_t)bytes);
}

static void put_varint(zs_strbuf *b, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        put_little(b, (v & 0x7F) | 0x80, 1);
    put_little(b, v, 1);
}

static void put_bytes(zs_strbuf *b, int tag, const void *p, size_t n)
{
    put_little(b, (uint64_t)tag, 1);
    put_varint(b, n);
    zs_strbuf_append(b, p, n);
}

static void put_int(zs_strbuf *b, int tag, int64_t v)
{
    put_little(b, (uint64_t)tag, 1);
    put_varint(b, (uint64_t)v);
}

/* Appends inner as a field and frees it. */
static void put_message(zs_strbuf *b, int tag, zs_strbuf *inner)
{
    if (inner->failed)
        b->failed = true;
    put_bytes(b, tag, inner->s ? inner->s : "", inner->n);
    zs_strbuf_free(inner);
}

static void put_head(zs_strbuf *event, double wall, int64_t step)
{
    uint64_t bits;
    memcpy(&bits, &wall, sizeof bits);
    put_little(event, EVENT_WALL_TIME, 1);
    put_little(event, bits, 8);
    put_int(event, EVENT_STEP, step);
}

static void put_scalar(zs_strbuf *summary, const char *tag, double v)
{
    zs_strbuf value = {0};
    float f = (float)v;
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    put_bytes(&value, VALUE_TAG, tag, strlen(tag));
    put_little(&value, VALUE_SIMPLE, 1);
    put_little(&value, bits, 4);
    put_message(summary, SUMMARY_VALUE, &value);
}

/* ---- records ---- */

static uint32_t masked_crc(const void *p, size_t n)
{
    uint32_t crc = zs_crc32c(p, n);
    return (crc >> 15 | crc << 17) + 0xA282EAD8u;
}

/* Frees event. */
static void put_record(zs_strbuf *b, zs_strbuf *event)
{
    zs_strbuf length = {0};
    put_little(&length, event->n, 8);
    if (event->failed || length.failed) {
        b->failed = true;
    } else {
        zs_strbuf_append(b, length.s, length.n);
        put_little(b, masked_crc(length.s, length.n), 4);
        zs_strbuf_append(b, event->s, event->n);
        put_little(b, masked_crc(event->s, event->n), 4);
    }
    zs_strbuf_free(&length);
    zs_strbuf_free(event);
}

void zs_tbevents_begin(zs_strbuf *b, double wall)
{
    static const char version[] = "brain.Event:2";
    zs_strbuf event = {0};
    put_head(&event, wall, 0);
    put_bytes(&event, EVENT_FILE_VERSION, version, sizeof version - 1);
    put_record(b, &event);
}

void zs_tbevents_scalars(zs_strbuf *b, double wall, int64_t step, const json_t *line)
{
    zs_strbuf event = {0}, summary = {0};
    /* jansson iterates over objects it may change, so its interface wants no const */
    json_t *object = json_deep_copy(line);
    const char *key;
    json_t *v;
    json_object_foreach(object, key, v) if (json_is_number(v) && !zs_runlog_is_axis(key))
        put_scalar(&summary, key, json_number_value(v));
    if (!object)
        b->failed = true;
    json_decref(object);
    put_head(&event, wall, step);
    put_message(&event, EVENT_SUMMARY, &summary);
    put_record(b, &event);
}

void zs_tbevents_png(zs_strbuf *b, double wall, int64_t step, const char *tag, const void *png,
                     size_t n, const int size[3])
{
    zs_strbuf event = {0}, summary = {0}, value = {0}, image = {0};
    put_int(&image, IMAGE_HEIGHT, size[1]);
    put_int(&image, IMAGE_WIDTH, size[0]);
    put_int(&image, IMAGE_COLORSPACE, size[2]);
    put_bytes(&image, IMAGE_ENCODED, png, n);
    put_bytes(&value, VALUE_TAG, tag, strlen(tag));
    put_message(&value, VALUE_IMAGE, &image);
    put_message(&summary, SUMMARY_VALUE, &value);
    put_head(&event, wall, step);
    put_message(&event, EVENT_SUMMARY, &summary);
    put_record(b, &event);
}
