/*
 * What libpomelo2 and libpitaya say over TCP, written anew: neither has a package that could be installed. It is made of what
 * libpomelo2 is made of, libuv and jansson, and of zlib, with which libpitaya compresses. Lines of JSON come in and go out
 * (lib/foreign.js says which); one process plays as many clients as it is asked for.
 *
 * From their sources: the members of the handshake; a heartbeat one interval after the ack, and one interval after each
 * that was waited for, while others are ignored; the end when none comes for two intervals; route codes and protobuf from the handshake
 * (libpomelo2); a body that zlib makes smaller is sent so, with bit 4 of the flag (libpitaya); several messages that are
 * queued go out in one write.
 */

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <uv.h>
#include <zlib.h>

enum { HANDSHAKE = 1, ACK, HEARTBEAT, DATA, KICK };
enum { REQUEST = 0, NOTIFY, RESPONSE, PUSH };
enum { HEAD = 4, ROUTE_CODE = 1, COMPRESSED = 1 << 4 };

typedef struct {
	char *bytes;
	size_t length;
} Buffer;

typedef struct Client {
	uv_tcp_t tcp;
	uv_timer_t beat, patience;
	uv_connect_t connecting;
	json_int_t number;
	int is_pitaya;
	int is_closed, is_frozen, waits_for_heartbeat;
	int open_handles;
	uint64_t interval;
	Buffer in;      /* what came of a package that is not whole */
	Buffer out;     /* what a batch has queued */
	int is_batched;
	unsigned last_id;
	json_t *waiting; /* id: [id of the caller, route] */
	json_t *code_of, *route_of, *protos;
	const char *reason;
	struct Client *next;
} Client;

static uv_loop_t *loop;
static Client *clients;

static void die(const char *what) {
	fprintf(stderr, "%s\n", what);
	exit(1);
}

static void *must(void *memory) {
	if (!memory) die("out of memory");
	return memory;
}

static void append(Buffer *buffer, const void *bytes, size_t length) {
	if (length == 0) return;
	buffer->bytes = must(realloc(buffer->bytes, buffer->length + length));
	memcpy(buffer->bytes + buffer->length, bytes, length);
	buffer->length += length;
}

/* tell takes the event, and adds whose it is. */
static void tell(Client *client, json_t *event) {
	json_object_set_new(event, "client", json_integer(client->number));
	char *line = must(json_dumps(event, JSON_COMPACT | JSON_ENSURE_ASCII));
	puts(line);
	fflush(stdout);
	free(line);
	json_decref(event);
}

static void tell_plain(Client *client, const char *what, const char *reason) {
	tell(client, json_pack("{s:s,s:s*}", "event", what, "reason", reason));
}

/* The end of a client. */

static void handle_closed(uv_handle_t *handle) {
	Client *client = handle->data;
	if (--client->open_handles > 0) return;
	tell_plain(client, "closed", client->reason);
}

static void close_client(Client *client, const char *reason) {
	if (client->is_closed) return;
	client->is_closed = 1;
	client->reason = reason;
	uv_close((uv_handle_t *)&client->beat, handle_closed);
	uv_close((uv_handle_t *)&client->patience, handle_closed);
	if (!uv_is_closing((uv_handle_t *)&client->tcp)) uv_close((uv_handle_t *)&client->tcp, handle_closed);
}

static void reset_client(Client *client) {
	uv_tcp_close_reset(&client->tcp, handle_closed);
	close_client(client, "reset");
}

/* Out: packages and messages. */

static void written(uv_write_t *write, int status) {
	(void)status; /* a read says it as well */
	free(write->data);
	free(write);
}

/* write_bytes takes the bytes. */
static void write_bytes(Client *client, Buffer bytes) {
	uv_write_t *write = must(malloc(sizeof *write));
	write->data = bytes.bytes;
	uv_buf_t buf = uv_buf_init(bytes.bytes, bytes.length);
	if (uv_write(write, (uv_stream_t *)&client->tcp, &buf, 1, written) != 0) written(write, 0);
}

static void send_package(Client *client, int type, const void *body, size_t length) {
	if (client->is_closed) return;
	unsigned char head[HEAD] = {type, length >> 16, length >> 8, length};
	append(&client->out, head, sizeof head);
	append(&client->out, body, length);
	if (client->is_batched) return;
	write_bytes(client, client->out);
	client->out = (Buffer){0};
}

/* deflated says whether zlib made the body smaller; if so it is in the buffer. */
static int deflated(const char *text, size_t length, Buffer *body) {
	uLongf size = compressBound(length);
	body->bytes = must(malloc(size));
	if (compress2((Bytef *)body->bytes, &size, (const Bytef *)text, length, Z_DEFAULT_COMPRESSION) != Z_OK) die("zlib");
	body->length = size;
	return size < length;
}

static void send_message(Client *client, int type, json_t *command) {
	const char *route = json_string_value(json_object_get(command, "route"));
	json_t *body = json_object_get(command, "body");
	char *text = body ? must(json_dumps(body, JSON_COMPACT | JSON_ENCODE_ANY)) : must(strdup(""));
	size_t length = strlen(text);
	Buffer packed = {0}, message = {0};
	unsigned char flag = type << 1;
	int is_packed = client->is_pitaya && deflated(text, length, &packed);
	if (is_packed) flag |= COMPRESSED;
	json_t *code = client->code_of ? json_object_get(client->code_of, route) : NULL;
	if (code) flag |= ROUTE_CODE;
	append(&message, &flag, 1);
	if (type == REQUEST) {
		char key[16];
		unsigned id = ++client->last_id;
		snprintf(key, sizeof key, "%u", id);
		json_object_set_new(client->waiting, key, json_pack("[O,s]", json_object_get(command, "id"), route));
		do {
			unsigned char group = (id & 0x7f) | (id > 0x7f ? 0x80 : 0);
			append(&message, &group, 1);
			id >>= 7;
		} while (id > 0);
	}
	if (code) {
		json_int_t n = json_integer_value(code);
		unsigned char two[] = {n >> 8, n};
		append(&message, two, 2);
	} else {
		unsigned char size = strlen(route);
		append(&message, &size, 1);
		append(&message, route, size);
	}
	append(&message, is_packed ? packed.bytes : text, is_packed ? packed.length : length);
	send_package(client, DATA, message.bytes, message.length);
	free(message.bytes);
	free(packed.bytes);
	free(text);
}

/* Heartbeats. */

static void lost_patience(uv_timer_t *timer) {
	close_client(timer->data, "no heartbeat");
}

static void send_heartbeat(uv_timer_t *timer) {
	Client *client = timer->data;
	send_package(client, HEARTBEAT, NULL, 0);
	client->waits_for_heartbeat = 1;
	uv_timer_start(&client->patience, lost_patience, 2 * client->interval, 0);
}

static void got_heartbeat(Client *client) {
	tell_plain(client, "heartbeat", NULL);
	if (!client->waits_for_heartbeat) return;
	client->waits_for_heartbeat = 0;
	uv_timer_stop(&client->patience);
	if (!client->is_frozen) uv_timer_start(&client->beat, send_heartbeat, client->interval, 0);
}

/* In: packages and messages. */

static void shake_hands(Client *client) {
	json_t *hello = client->is_pitaya
		? json_pack("{s:{s:s,s:s,s:s,s:s},s:{}}", "sys", "platform", "linux", "libVersion", "0.4.0-release",
			"clientBuildNumber", "1", "clientVersion", "1.0", "user")
		: json_pack("{s:{s:s,s:s}}", "sys", "type", "linux", "version", "0.3.4-release");
	char *text = must(json_dumps(must(hello), JSON_COMPACT));
	send_package(client, HANDSHAKE, text, strlen(text));
	free(text);
	json_decref(hello);
}

static void got_handshake(Client *client, const char *body, size_t length) {
	json_t *answer = json_loadb(body, length, JSON_ALLOW_NUL, NULL);
	if (!answer || json_integer_value(json_object_get(answer, "code")) != 200) {
		tell_plain(client, "failed", "the handshake was refused");
		return close_client(client, "handshake");
	}
	json_t *sys = json_object_get(answer, "sys");
	if (json_is_true(json_object_get(sys, "useDict"))) {
		client->code_of = json_incref(json_object_get(sys, "routeToCode"));
		client->route_of = json_incref(json_object_get(sys, "codeToRoute"));
	}
	if (json_is_true(json_object_get(sys, "useProto"))) {
		client->protos = json_incref(json_object_get(json_object_get(sys, "protos"), "server"));
	}
	client->interval = 1000 * json_integer_value(json_object_get(sys, "heartbeat"));
	json_decref(answer);
	send_package(client, ACK, NULL, 0);
	if (client->interval > 0) uv_timer_start(&client->beat, send_heartbeat, client->interval, 0);
	tell_plain(client, "connected", NULL);
}

static size_t varint(const char **at, const char *end) {
	size_t n = 0;
	for (int shift = 0; *at < end && shift < 63; shift += 7) {
		unsigned char group = *(*at)++;
		n |= (size_t)(group & 0x7f) << shift;
		if (group < 0x80) return n;
	}
	die("a varint that does not end");
	return 0;
}

/* decode_strings reads a body by its definition. All that a chat defines are strings. */
static json_t *decode_strings(json_t *proto, const char *at, size_t length) {
	const char *end = at + length;
	json_t *body = json_object(), *tags = json_object_get(proto, "__tags");
	while (at < end) {
		char tag[24];
		snprintf(tag, sizeof tag, "%zu", varint(&at, end) >> 3);
		const char *name = json_string_value(json_object_get(tags, tag));
		const char *type = json_string_value(json_object_get(json_object_get(proto, name ? name : ""), "type"));
		if (!type || strcmp(type, "string") != 0) die("a field that is no string");
		size_t size = varint(&at, end);
		if (size > (size_t)(end - at)) die("a string beyond the body");
		json_t *value = json_stringn(at, size);
		if (!value) die("a string that is not UTF-8");
		json_object_set_new(body, name, value);
		at += size;
	}
	return body;
}

/* decode reads a body as the route has it, and is strict: what jansson does not take fails the test. */
static json_t *decode(Client *client, const char *route, const char *body, size_t length) {
	json_t *proto = client->protos ? json_object_get(client->protos, route) : NULL;
	if (proto) return decode_strings(proto, body, length);
	json_error_t error;
	json_t *value = json_loadb(body, length, JSON_ALLOW_NUL | JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &error);
	if (!value) {
		fprintf(stderr, "%s: %.*s\n", error.text, (int)length, body);
		exit(1);
	}
	return value;
}

static void got_response(Client *client, const char *at, const char *end) {
	char key[24];
	snprintf(key, sizeof key, "%zu", varint(&at, end));
	json_t *waiting = json_incref(json_object_get(client->waiting, key));
	if (!waiting) die("an answer to nothing");
	json_object_del(client->waiting, key);
	json_t *body = decode(client, json_string_value(json_array_get(waiting, 1)), at, end - at);
	tell(client, json_pack("{s:s,s:O,s:o}", "event", "answer", "id", json_array_get(waiting, 0), "body", body));
	json_decref(waiting);
}

static void got_push(Client *client, int has_code, const char *at, const char *end) {
	char route[256] = "";
	if (has_code) {
		snprintf(route, sizeof route, "%u", (unsigned char)at[0] << 8 | (unsigned char)at[1]);
		snprintf(route, sizeof route, "%s", json_string_value(json_object_get(client->route_of, route)));
		at += 2;
	} else {
		size_t size = (unsigned char)*at++;
		memcpy(route, at, size);
		at += size;
	}
	json_t *body = decode(client, route, at, end - at);
	tell(client, json_pack("{s:s,s:s,s:o}", "event", "push", "route", route, "body", body));
}

static void got_data(Client *client, const char *body, size_t length) {
	unsigned char flag = body[0];
	int type = flag >> 1 & 7;
	if (flag & COMPRESSED) die("the server compressed");
	if (type == RESPONSE) got_response(client, body + 1, body + length);
	else if (type == PUSH) got_push(client, flag & ROUTE_CODE, body + 1, body + length);
	else die("a message of a wrong type");
}

static void got_package(Client *client, int type, const char *body, size_t length) {
	switch (type) {
	case HANDSHAKE: return got_handshake(client, body, length);
	case HEARTBEAT: return got_heartbeat(client);
	case DATA: return got_data(client, body, length);
	case KICK: return tell(client, json_pack("{s:s,s:s,s:o}", "event", "push", "route", "onKick", "body", decode(client, "", body, length)));
	}
	die("a package of a wrong type");
}

static void got_bytes(uv_stream_t *stream, ssize_t count, const uv_buf_t *buf) {
	Client *client = stream->data;
	if (count < 0) {
		free(buf->base);
		return close_client(client, uv_err_name(count));
	}
	append(&client->in, buf->base, count);
	free(buf->base);
	size_t at = 0;
	while (client->in.length - at >= HEAD && !client->is_closed) {
		const unsigned char *head = (unsigned char *)client->in.bytes + at;
		size_t length = head[1] << 16 | head[2] << 8 | head[3];
		if (client->in.length - at < HEAD + length) break;
		got_package(client, head[0], (char *)head + HEAD, length);
		at += HEAD + length;
	}
	memmove(client->in.bytes, client->in.bytes + at, client->in.length - at);
	client->in.length -= at;
}

static void allocate(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
	(void)handle;
	*buf = uv_buf_init(must(malloc(suggested)), suggested);
}

static void connected(uv_connect_t *connecting, int status) {
	Client *client = connecting->data;
	if (status < 0) {
		tell_plain(client, "failed", uv_err_name(status));
		return close_client(client, "not connected");
	}
	uv_tcp_nodelay(&client->tcp, 1);
	uv_read_start((uv_stream_t *)&client->tcp, allocate, got_bytes);
	shake_hands(client);
}

/* Commands. */

static void connect_client(json_int_t number, json_t *command) {
	Client *client = must(calloc(1, sizeof *client));
	client->number = number;
	client->is_pitaya = strcmp(json_string_value(json_object_get(command, "kind")), "libpitaya") == 0;
	client->waiting = json_object();
	client->open_handles = 3;
	client->tcp.data = client->beat.data = client->patience.data = client->connecting.data = client;
	client->next = clients;
	clients = client;
	uv_tcp_init(loop, &client->tcp);
	uv_timer_init(loop, &client->beat);
	uv_timer_init(loop, &client->patience);
	struct sockaddr_in address;
	const char *host = json_string_value(json_object_get(command, "host"));
	if (uv_ip4_addr(host, json_integer_value(json_object_get(command, "port")), &address) != 0) die("no such host");
	if (uv_tcp_connect(&client->connecting, &client->tcp, (struct sockaddr *)&address, connected) != 0) die("connect");
}

static void run_batch(Client *client, json_t *messages);

static void run_command(json_t *command) {
	json_int_t number = json_integer_value(json_object_get(command, "client"));
	const char *what = json_string_value(json_object_get(command, "do"));
	if (strcmp(what, "connect") == 0) return connect_client(number, command);
	Client *client = clients;
	while (client && client->number != number) client = client->next;
	if (!client) die("no such client");
	if (client->is_closed) return;
	if (strcmp(what, "request") == 0) send_message(client, REQUEST, command);
	else if (strcmp(what, "notify") == 0) send_message(client, NOTIFY, command);
	else if (strcmp(what, "batch") == 0) run_batch(client, json_object_get(command, "messages"));
	else if (strcmp(what, "leave") == 0 || strcmp(what, "vanish") == 0) close_client(client, "left");
	else if (strcmp(what, "cut") == 0) reset_client(client);
	else if (strcmp(what, "freeze") == 0) {
		client->is_frozen = 1;
		uv_timer_stop(&client->beat);
		uv_timer_stop(&client->patience);
	} else die("no such command");
}

static void run_batch(Client *client, json_t *messages) {
	size_t n;
	json_t *message;
	client->is_batched = 1;
	json_array_foreach(messages, n, message) run_command(message);
	client->is_batched = 0;
	write_bytes(client, client->out);
	client->out = (Buffer){0};
}

static Buffer line;

static void got_commands(uv_stream_t *stream, ssize_t count, const uv_buf_t *buf) {
	(void)stream;
	if (count < 0) exit(0); /* whoever asked is gone */
	append(&line, buf->base, count);
	free(buf->base);
	char *end;
	while (line.length > 0 && (end = memchr(line.bytes, '\n', line.length))) {
		json_error_t error;
		json_t *command = json_loadb(line.bytes, end - line.bytes, JSON_ALLOW_NUL, &error);
		if (!command) die(error.text);
		run_command(command);
		json_decref(command);
		line.length -= end + 1 - line.bytes;
		memmove(line.bytes, end + 1, line.length);
	}
}

int main(void) {
	uv_pipe_t commands;
	loop = uv_default_loop();
	uv_pipe_init(loop, &commands, 0);
	if (uv_pipe_open(&commands, 0) != 0) die("stdin is no pipe");
	uv_read_start((uv_stream_t *)&commands, allocate, got_commands);
	return uv_run(loop, UV_RUN_DEFAULT);
}
