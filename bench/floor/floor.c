/* The floor: the least that a chat server on this machine can cost. One thread, epoll, one send(2) of a ready frame for
 * each member. It speaks just enough of Pomelo's hybrid wire that the load generator can drive it, and trusts its
 * clients: it is a yardstick, not a server.
 *
 *   floor -listen 127.0.0.1:0           each message is written to every member at once
 *   floor -listen 127.0.0.1:0 -tick     the messages of one epoll batch are written to each member with one send
 *   floor ... -ws                       clients speak WebSocket, and not TCP
 *   floor ... -announce                 who enters gets the list of members, and the members get onAdd
 *
 * Each message pushes {"msg":content,"from":name,"target":"*"} to the whole room, the same bytes as pomelod, and answers {}.
 * What a conn has to be answered is gathered while its bytes are read, and sent at once: with the room's push, if there is
 * one, so a message to n members costs n sends. Nobody is told of onLeave.
 *
 *   cc -O2 -Wall -o floor floor.c
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "wire.h"

enum {
	MAX_FDS = 1 << 16,
	MAX_ROOMS = 1 << 15,      /* in an open-addressing table, so at most half of it */
	MAX_NAME = 64,
	MAX_PACKAGE = 256 << 10,
	MAX_UNSENT = 512 << 10,   /* of one conn; beyond it is closed, as pomelod does */
	BATCH = 1024,
};

struct room {
	char name[MAX_NAME + 1];
	struct conn **members;
	int n, cap;
	struct bytes users;       /* -announce: "name","name" */
	struct bytes log;         /* -tick: the pushes of this batch */
	bool dirty;
};

struct conn {
	int fd, slot;             /* slot: its place in room->members */
	bool dead, open;          /* open: upgraded, or TCP */
	struct room *room;
	size_t skip;              /* of the room's log: what was said before it came */
	char name[MAX_NAME + 1];
	struct bytes in, unsent;
	struct bytes answer;      /* what goes out behind the next push, or when its bytes are read */
};

static struct conn *dead[MAX_FDS];
static struct room *dirty[MAX_ROOMS], rooms[MAX_ROOMS];
static struct bytes frame;
static int ep, ndead, ndirty, nrooms;
static char entry[64];     /* the gate's answer */
static bool tick, announce;

static void drop(struct conn *c)
{
	if (c->dead) return;
	c->dead = true;
	dead[ndead++] = c;
}

/* reap frees the dead at the end of a batch, so that nobody's member list changes while it is walked. */
static void reap(void)
{
	while (ndead > 0) {
		struct conn *c = dead[--ndead];
		if (c->room) {
			struct room *r = c->room;
			r->members[c->slot] = r->members[--r->n];
			r->members[c->slot]->slot = c->slot;
		}
		close(c->fd);
		free(c->in.p); free(c->unsent.p); free(c->answer.p); free(c);
	}
}

static void watch(struct conn *c, uint32_t events, int op)
{
	struct epoll_event e = { .events = events, .data.ptr = c };
	if (epoll_ctl(ep, op, c->fd, &e) < 0) die("epoll_ctl");
}

/* put writes p and then q with one system call. What the socket does not take waits for EPOLLOUT. */
static void put(struct conn *c, const char *p, size_t np, const char *q, size_t nq)
{
	ssize_t n = 0;
	if (c->dead || np + nq == 0) return;
	if (c->unsent.n == 0) {
		if (nq == 0) {
			n = send(c->fd, p, np, MSG_DONTWAIT | MSG_NOSIGNAL);
		} else {
			struct iovec v[2] = { { (char *)p, np }, { (char *)q, nq } };
			struct msghdr m = { .msg_iov = v, .msg_iovlen = 2 };
			n = sendmsg(c->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
		}
		if (n == (ssize_t)(np + nq)) return;
		if (n < 0 && errno != EAGAIN) { drop(c); return; }
		if (n < 0) n = 0;
		watch(c, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
	}
	if (c->unsent.n + np + nq - n > MAX_UNSENT) { drop(c); return; }
	if ((size_t)n < np) add(&c->unsent, p + n, np - n);
	size_t skip = (size_t)n > np ? n - np : 0;
	if (nq > skip) add(&c->unsent, q + skip, nq - skip);
}

/* spread writes the same bytes to every member, and behind them what answer the member has waiting. */
static void spread(struct room *r, const struct bytes *b)
{
	for (int i = 0; i < r->n; i++) {
		struct conn *c = r->members[i];
		put(c, b->p + c->skip, b->n - c->skip, c->answer.p, c->answer.n);
		c->answer.n = c->skip = 0;
	}
}

/* pushes is where a push for the room is to be written to; said is called when it is there. */
static struct bytes *pushes(struct room *r)
{
	if (!tick) frame.n = 0;
	return tick ? &r->log : &frame;
}

static void said(struct room *r)
{
	if (!tick) {
		spread(r, &frame);
	} else if (!r->dirty) {
		r->dirty = true;
		dirty[ndirty++] = r;
	}
}

static struct room *find_room(const char *name, size_t n)
{
	uint32_t h = 2166136261u;
	for (size_t i = 0; i < n; i++) h = (h ^ (uint8_t)name[i]) * 16777619u;
	for (;; h++) {
		struct room *r = &rooms[h % MAX_ROOMS];
		if (r->name[0] == 0) {
			if (++nrooms > MAX_ROOMS / 2) return NULL;
			memcpy(r->name, name, n);
			return r;
		}
		if (strlen(r->name) == n && memcmp(r->name, name, n) == 0) return r;
	}
}

/* greet tells the members who comes and lists them all. */
static void greet(struct room *r, struct conn *c)
{
	if (r->n > 0) {
		struct bytes *b = pushes(r);
		package(b, 4, 7 + 25 + strlen(c->name) + 2);
		text(b, "\6\5onAdd{\"route\":\"onAdd\",\"user\":\"");
		text(b, c->name);
		text(b, "\"}");
		said(r);
		text(&r->users, ",");
	}
	text(&r->users, "\"");
	text(&r->users, c->name);
	text(&r->users, "\"");
}

static void enter(struct conn *c, const char *id, size_t nid, const char *body, size_t n)
{
	size_t nuser, nrid;
	const char *user = member(body, n, "\"username\":\"", &nuser), *rid = member(body, n, "\"rid\":\"", &nrid);
	if (c->room || !user || !rid || nuser > MAX_NAME || nrid == 0 || nrid > MAX_NAME || !(c->room = find_room(rid, nrid))) {
		drop(c);
		return;
	}
	struct room *r = c->room;
	memcpy(c->name, user, nuser);
	if (announce) greet(r, c);
	if (r->n == r->cap) {
		r->cap = r->cap * 2 + 4;
		if (!(r->members = realloc(r->members, r->cap * sizeof *r->members))) die("memory");
	}
	c->slot = r->n;
	c->skip = r->log.n;
	r->members[r->n++] = c;
	package(&c->answer, 4, 1 + nid + 10 + r->users.n + 2);
	add(&c->answer, "\4", 1);
	add(&c->answer, id, nid);
	text(&c->answer, "{\"users\":[");
	add(&c->answer, r->users.p, r->users.n);
	text(&c->answer, "]}");
}

static void chat(struct conn *c, const char *id, size_t nid, const char *body, size_t n)
{
	size_t nmsg;
	const char *msg = member(body, n, "\"content\":\"", &nmsg);
	if (!c->room || !msg) { drop(c); return; }
	struct bytes *b = pushes(c->room);
	package(b, 4, 8 + 8 + nmsg + 10 + strlen(c->name) + 15);
	text(b, "\6\6onChat{\"msg\":\"");
	add(b, msg, nmsg);
	text(b, "\",\"from\":\"");
	text(b, c->name);
	text(b, "\",\"target\":\"*\"}");
	response(&c->answer, id, nid, "{}", 2);
	said(c->room);
}

static bool is(const char *route, size_t n, const char *name) { return n == strlen(name) && memcmp(route, name, n) == 0; }

/* request takes flag, id, route and body of a message apart. Only requests with a text route are known. */
static void request(struct conn *c, const char *b, size_t n)
{
	size_t nid = 1;
	while (nid < n && nid < 6 && b[nid] & 0x80) nid++;
	if (n < 2 + nid || b[0] != 0 || 2 + nid + (uint8_t)b[1 + nid] > n) { drop(c); return; }
	const char *id = b + 1, *route = b + 2 + nid;
	size_t nroute = (uint8_t)b[1 + nid], nbody = n - 2 - nid - nroute;
	const char *body = route + nroute;
	if (is(route, nroute, "chat.chatHandler.send")) {
		chat(c, id, nid, body, nbody);
	} else if (is(route, nroute, "connector.entryHandler.enter")) {
		enter(c, id, nid, body, nbody);
	} else if (is(route, nroute, "gate.gateHandler.queryEntry")) {
		response(&c->answer, id, nid, entry, strlen(entry));
	} else {
		drop(c);
	}
}

static void take(struct conn *c, char type, const char *body, size_t n)
{
	static const char handshake[] = "{\"code\":200,\"sys\":{\"heartbeat\":15}}";
	switch (type) {
	case 1:
		package(&c->answer, 1, strlen(handshake));
		text(&c->answer, handshake);
		break;
	case 2: /* one heartbeat after the ack, then one for each of the client's */
	case 3:
		package(&c->answer, 3, 0);
		break;
	case 4:
		request(c, body, n);
		break;
	default:
		drop(c);
	}
}

/* packages takes whole packages from the front of b and returns how many bytes that were. */
static size_t packages(struct conn *c, const char *b, size_t n)
{
	size_t at = 0;
	while (!c->dead && n - at >= 4) {
		const uint8_t *h = (const uint8_t *)b + at;
		size_t len = (size_t)h[1] << 16 | h[2] << 8 | h[3];
		if (len > MAX_PACKAGE) { drop(c); break; }
		if (n - at < 4 + len) break;
		take(c, h[0], b + at + 4, len);
		at += 4 + len;
	}
	return at;
}

/* frames is packages for WebSocket: one or more of them in each frame, none in two. */
static size_t frames(struct conn *c, char *b, size_t n)
{
	size_t at = 0, size;
	char *payload;
	if (!c->open) {
		ssize_t head = upgrade(b, n);
		if (head < 0) drop(c);
		if (head <= 0) return 0;
		text(&c->answer, ws_accepted);
		c->open = true;
		at = head;
	}
	while (!c->dead) {
		ssize_t len = frame_at(b + at, n - at, MAX_PACKAGE, &payload, &size);
		if (len < 0 || (len > 0 && packages(c, payload, size) != size)) drop(c);
		if (len <= 0) break;
		at += len;
	}
	return at;
}

static size_t take_all(struct conn *c, char *b, size_t n) { return ws ? frames(c, b, n) : packages(c, b, n); }

static void readable(struct conn *c)
{
	static char buf[64 << 10];
	ssize_t n = recv(c->fd, buf, sizeof buf, MSG_DONTWAIT);
	if (n < 0 && errno == EAGAIN) return;
	if (n <= 0) { drop(c); return; }
	if (c->in.n == 0) {
		size_t taken = take_all(c, buf, n);
		if (taken < (size_t)n) add(&c->in, buf + taken, n - taken);
	} else {
		add(&c->in, buf, n);
		size_t taken = take_all(c, c->in.p, c->in.n);
		memmove(c->in.p, c->in.p + taken, c->in.n -= taken);
	}
	if (c->room && c->room->dirty) return; /* it goes out with the room's log */
	put(c, c->answer.p, c->answer.n, NULL, 0);
	c->answer.n = 0;
}

static void writable(struct conn *c)
{
	ssize_t n = send(c->fd, c->unsent.p, c->unsent.n, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0 && errno != EAGAIN) { drop(c); return; }
	if (n > 0) memmove(c->unsent.p, c->unsent.p + n, c->unsent.n -= n);
	if (c->unsent.n == 0) watch(c, EPOLLIN, EPOLL_CTL_MOD);
}

static void accept_all(int ln)
{
	for (int fd; (fd = accept4(ln, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
		struct conn *c = calloc(1, sizeof *c);
		if (!c || fd >= MAX_FDS) { close(fd); free(c); continue; }
		c->fd = fd;
		watch(c, EPOLLIN, EPOLL_CTL_ADD);
	}
}

static int listen_at(const char *addr)
{
	char host[64] = "";
	int p = 0, one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct sockaddr_in a = { .sin_family = AF_INET };
	socklen_t n = sizeof a;
	if (sscanf(addr, "%63[0-9.]:%d", host, &p) != 2 || inet_pton(AF_INET, host, &a.sin_addr) != 1) {
		fprintf(stderr, "floor: -listen takes a.b.c.d:port\n");
		exit(2);
	}
	a.sin_port = htons(p);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* what it accepts inherits this */
	if (fd < 0 || bind(fd, (void *)&a, sizeof a) < 0 || listen(fd, 4096) < 0 || getsockname(fd, (void *)&a, &n) < 0) die("listen");
	int port = ntohs(a.sin_port);
	snprintf(entry, sizeof entry, "{\"code\":200,\"host\":\"%s\",\"port\":%d}", host, port);
	fprintf(stderr, "{\"msg\":\"listening\",\"server\":\"connector\",\"addr\":\"%s:%d\"}\n", host, port);
	fprintf(stderr, "{\"msg\":\"listening\",\"server\":\"gate\",\"addr\":\"%s:%d\"}\n", host, port);
	fprintf(stderr, "{\"msg\":\"ready\",\"pid\":%d}\n", getpid());
	return fd;
}

int main(int argc, char **argv)
{
	static struct epoll_event events[BATCH];
	const char *addr = "127.0.0.1:0";
	struct rlimit l;
	for (int i = 1; i < argc; i++) { /* other flags are pomelod's, which the load generator gives to all alike */
		if (strcmp(argv[i], "-tick") == 0) tick = true;
		else if (strcmp(argv[i], "-ws") == 0) ws = true;
		else if (strcmp(argv[i], "-announce") == 0) announce = true;
		else if (strcmp(argv[i], "-listen") == 0 && i + 1 < argc) addr = argv[++i];
	}
	if (getrlimit(RLIMIT_NOFILE, &l) == 0) {
		l.rlim_cur = l.rlim_max;
		setrlimit(RLIMIT_NOFILE, &l);
	}
	if ((ep = epoll_create1(EPOLL_CLOEXEC)) < 0) die("epoll_create1");
	struct conn listener = { .fd = listen_at(addr) };
	watch(&listener, EPOLLIN, EPOLL_CTL_ADD);
	for (;;) {
		int n = epoll_wait(ep, events, BATCH, -1);
		if (n < 0 && errno != EINTR) die("epoll_wait");
		for (int i = 0; i < n; i++) {
			struct conn *c = events[i].data.ptr;
			if (c == &listener) { accept_all(c->fd); continue; }
			if (!c->dead && events[i].events & EPOLLOUT) writable(c);
			if (!c->dead && events[i].events & ~EPOLLOUT) readable(c);
		}
		while (ndirty > 0) {
			struct room *r = dirty[--ndirty];
			spread(r, &r->log);
			r->log.n = 0;
			r->dirty = false;
		}
		reap();
	}
}
