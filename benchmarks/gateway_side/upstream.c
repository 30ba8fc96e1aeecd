/* A server as fast as one thread gets: a fixed answer to every request, or a stream of chunks on a clock.
 *
 *   upstream PORT burst|uniform CHUNKS INTERVAL_US
 *
 * A body with "stream": true gets CHUNKS server-sent events, one send each, INTERVAL_US apart: all streams at once as an
 * engine's step does (burst), or each at a moment of its own (uniform). Every event carries the moment it was sent.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { CONNS = 4096, ROOM = 1 << 16, BODY = 698, EVENT = 230 };
struct conn { int fd, used, left; int64_t due; char in[ROOM]; };
static struct conn *conns[CONNS];
static char plain[1024];
static int plain_size, chunks, burst, streams;
static int64_t interval;

static int64_t now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1000000000LL + t.tv_nsec; }

static void send_all(struct conn *c, const char *data, int size) {
    while (size > 0) {
        ssize_t n = send(c->fd, data, size, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) continue;
        if (n <= 0) return;
        data += n; size -= n;
    }
}

static void send_event(struct conn *c) {
    char data[EVENT + 32], pad[EVENT];
    int head = snprintf(data, sizeof data, "%x\r\n", EVENT);
    int text = snprintf(data + head, EVENT, "data: {\"id\":\"chatcmpl-0\",\"object\":\"chat.completion.chunk\",\"t\":%019lld,\"x\":\"", (long long)now());
    int fill = EVENT - text - 4;
    memset(pad, 'a', fill);
    memcpy(data + head + text, pad, fill);
    memcpy(data + head + text + fill, "\"}\n\n", 4);
    memcpy(data + head + EVENT, "\r\n", 2);
    send_all(c, data, head + EVENT + 2);
    if (--c->left == 0) { send_all(c, "0\r\n\r\n", 5); streams--; } else c->due += interval;
}

static void answer(struct conn *c, const char *body, int size) {
    if (!memmem(body, size, "\"stream\": true", 14)) { send_all(c, plain, plain_size); return; }
    static const char head[] = "HTTP/1.1 200 OK\r\ndate: Fri, 20 Nov 2026 18:31:21 GMT\r\nserver: uvicorn\r\n"
        "content-type: text/event-stream; charset=utf-8\r\nvary: Origin\r\ntransfer-encoding: chunked\r\n\r\n";
    send_all(c, head, sizeof head - 1);
    int64_t next = (now() / interval + 2) * interval;
    c->left = chunks;
    c->due = burst ? next : next + (streams * 7919LL % 1000) * interval / 1000;
    streams++;
}

static int take(struct conn *c) {
    ssize_t n = recv(c->fd, c->in + c->used, ROOM - c->used, 0);
    if (n <= 0) return n < 0 && errno == EAGAIN;
    c->used += n;
    for (;;) {
        char *end = memmem(c->in, c->used, "\r\n\r\n", 4);
        if (!end) return 1;
        char *length = memmem(c->in, end - c->in, "ontent-", 7);
        while (length && strncasecmp(length, "ontent-length:", 14)) length = memmem(length + 7, end - length - 7, "ontent-", 7);
        int head = end + 4 - c->in, size = length ? atoi(length + 14) : 0;
        if (c->used < head + size) return 1;
        answer(c, c->in + head, size);
        c->used -= head + size;
        memmove(c->in, c->in + head + size, c->used);
    }
}

int main(int argc, char **argv) {
    if (argc != 5) { fprintf(stderr, "wanted PORT burst|uniform CHUNKS INTERVAL_US\n"); return 2; }
    burst = !strcmp(argv[2], "burst"); chunks = atoi(argv[3]); interval = atoll(argv[4]) * 1000;
    char body[BODY + 1];
    memset(body, 'b', BODY); body[BODY] = 0; memcpy(body, "{\"x\":\"", 6); memcpy(body + BODY - 2, "\"}", 2);
    plain_size = snprintf(plain, sizeof plain, "HTTP/1.1 200 OK\r\ndate: Fri, 20 Nov 2026 18:31:21 GMT\r\nserver: uvicorn\r\n"
        "content-length: %d\r\ncontent-type: application/json\r\nvary: Origin\r\n\r\n%s", BODY, body);
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1, poll = epoll_create1(0), timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(listener, (void *)&at, sizeof at) || listen(listener, 1024)) { perror("listen"); return 1; }
    struct epoll_event e = {.events = EPOLLIN, .data.fd = listener}, got[256];
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &e);
    e.data.fd = timer; epoll_ctl(poll, EPOLL_CTL_ADD, timer, &e);
    puts("ready"); fflush(stdout);
    for (;;) {
        if (streams) {
            int64_t first = INT64_MAX, t;
            for (int i = 0; i < CONNS; i++) if (conns[i] && conns[i]->left && conns[i]->due < first) first = conns[i]->due;
            if (first <= (t = now())) {
                for (int i = 0; i < CONNS; i++) if (conns[i] && conns[i]->left && conns[i]->due <= t) send_event(conns[i]);
                continue;
            }
            struct itimerspec when = {.it_value = {first / 1000000000LL, first % 1000000000LL}};
            timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
        }
        int n = epoll_wait(poll, got, 256, -1);
        for (int i = 0; i < n; i++) {
            int fd = got[i].data.fd;
            if (fd == timer) { uint64_t x; if (read(timer, &x, 8) < 0) continue; }
            else if (fd == listener) {
                int c = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
                if (c < 0 || c >= CONNS) { if (c >= 0) close(c); continue; }
                setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                conns[c] = calloc(1, sizeof **conns); conns[c]->fd = c;
                e.data.fd = c; epoll_ctl(poll, EPOLL_CTL_ADD, c, &e);
            } else if (!take(conns[fd])) { if (conns[fd]->left) streams--; free(conns[fd]); conns[fd] = NULL; close(fd); }
        }
    }
}
