/* Load for one address, and what it saw, as one line of JSON.
 *
 *   load PORT REQUEST_FILE closed CONNECTIONS SECONDS     as fast as it goes, one request a connection at a time
 *   load PORT REQUEST_FILE open CONNECTIONS SECONDS RATE  RATE a second, whether answers come or not
 *   load PORT REQUEST_FILE stream CONNECTIONS             one stream each; latency of every event by the moment it carries
 *   load PORT REQUEST_FILE hold CONNECTIONS               one request each; prints "held" once all are sent, then when
 *                                                         the first and the last were answered (CLOCK_MONOTONIC)
 *
 * Bodies are compared with the first one seen: `different` counts those that differ. `together`: reads with two events.
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

enum { ROOM = 1 << 17, SAMPLES = 1 << 22 };
struct conn { int fd, used, busy; int64_t sent; char in[ROOM]; };
static struct conn *conns; static int count, poll_fd;
static char request[1 << 20], body[ROOM]; static int request_size, body_size = -1;
static int64_t *samples; static int64_t sampled; static long errors, different, together, done;
static int64_t first_at, last_at;

static int64_t now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1000000000LL + t.tv_nsec; }
static void note(int64_t took) { if (sampled < SAMPLES) samples[sampled++] = took; }
static int by_size(const void *a, const void *b) { int64_t x = *(int64_t *)a, y = *(int64_t *)b; return (x > y) - (x < y); }
static double at(double share) { return sampled ? samples[(int64_t)(share * (sampled - 1))] / 1000.0 : 0; }

static void ask(struct conn *c, int64_t t) {
    c->busy = 1; c->sent = t;
    for (int off = 0; off < request_size;) {
        ssize_t n = send(c->fd, request + off, request_size - off, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) continue;
        if (n <= 0) { errors++; return; }
        off += n;
    }
}

/* One whole answer with a length: 1, none yet: 0. */
static int answered(struct conn *c) {
    char *end = memmem(c->in, c->used, "\r\n\r\n", 4);
    if (!end) return 0;
    char *length = NULL;
    for (char *p = c->in; p < end; p++) if (!strncasecmp(p, "\r\ncontent-length:", 17)) { length = p + 17; break; }
    int head = end + 4 - c->in, size = length ? atoi(length) : 0;
    if (c->used < head + size) return 0;
    if (memcmp(c->in + 9, "200", 3)) errors++;
    else if (body_size < 0) { body_size = size; memcpy(body, c->in + head, size); }
    else if (size != body_size || memcmp(body, c->in + head, size)) different++;
    c->used -= head + size;
    memmove(c->in, c->in + head + size, c->used);
    c->busy = 0; done++;
    return 1;
}

static void read_stream(struct conn *c, int64_t t) {
    int events = 0;
    char *p = c->in, *end = c->in + c->used, *found;
    while ((found = memmem(p, end - p, "\"t\":", 4)) && end - found > 24) {
        note(t - atoll(found + 4));
        events++; p = found + 24;
    }
    together += events > 1;
    if (end - c->in >= 7 && !memcmp(end - 7, "\r\n0\r\n\r\n", 7)) { c->busy = 0; done++; }
    int keep = end - p < 256 ? end - p : 256;
    memmove(c->in, end - keep, keep);
    c->used = keep;
}

int main(int argc, char **argv) {
    if (argc < 5) { fprintf(stderr, "see the head of this file\n"); return 2; }
    const char *mode = argv[3]; int open_loop = !strcmp(mode, "open"), streams = !strcmp(mode, "stream"), hold = !strcmp(mode, "hold");
    FILE *file = fopen(argv[2], "rb"); request_size = file ? fread(request, 1, sizeof request, file) : 0;
    count = atoi(argv[4]); conns = calloc(count, sizeof *conns); samples = malloc(SAMPLES * sizeof *samples);
    double seconds = argc > 5 ? atof(argv[5]) : 60; int64_t gap = open_loop ? 1000000000LL / atoll(argv[6]) : 0;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    poll_fd = epoll_create1(0); int one = 1;
    for (int i = 0; i < count; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(fd, (void *)&to, sizeof to)) { perror("connect"); return 1; }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        conns[i].fd = fd;
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = &conns[i]};
        epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &e);
    }
    int64_t begin = now(), stop = begin + seconds * 1e9, due = begin; int next = 0, asking = 1;
    if (!open_loop) for (int i = 0; i < count; i++) ask(&conns[i], now());
    if (hold) { puts("held"); fflush(stdout); }
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK); struct epoll_event got[512], te = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, timer, &te);
    for (;;) {
        int64_t t = now();
        if (open_loop && asking) {
            while (due <= t && due < stop) {
                int tries = count; while (tries-- && conns[next % count].busy) next++;
                if (conns[next % count].busy) break; /* it is late then, and its wait counts */
                ask(&conns[next++ % count], due); due += gap;
            }
            if (due >= stop) asking = 0;
            if (due > t) {
                struct itimerspec when = {.it_value = {due / 1000000000LL, due % 1000000000LL}};
            timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
            }
        }
        int busy = 0;
        if ((!asking || t >= stop) || streams || hold) for (int i = 0; i < count; i++) busy += conns[i].busy;
        if (t >= stop) asking = 0;
        if ((!asking || streams || hold) && !busy) break;
        if (t > stop + 5000000000LL) { errors += busy; break; }
        int n = epoll_wait(poll_fd, got, 512, 100);
        for (int i = 0; i < n; i++) {
            struct conn *c = got[i].data.ptr; uint64_t x;
            if (!c) { if (read(timer, &x, 8) < 0) continue; continue; }
            ssize_t r = recv(c->fd, c->in + c->used, ROOM - c->used, 0);
            if (r <= 0) { errors++; if (c->busy) done++; c->busy = 0; epoll_ctl(poll_fd, EPOLL_CTL_DEL, c->fd, NULL); continue; }
            t = now(); c->used += r;
            if (streams) { read_stream(c, t); continue; }
            while (c->busy && answered(c)) {
                note(t - c->sent);
                if (!first_at) first_at = t;
                last_at = t;
                if (!open_loop && !hold && asking) ask(c, t);
            }
        }
    }
    double took = (now() - begin) / 1e9;
    qsort(samples, sampled, sizeof *samples, by_size);
    printf("{\"done\": %ld, \"samples\": %lld, \"seconds\": %.3f, \"p50_us\": %.1f, \"p99_us\": %.1f, \"errors\": %ld, \"different\": %ld, "
           "\"together\": %ld, \"first_ns\": %lld, \"last_ns\": %lld}\n", done, (long long)sampled, took, at(0.5), at(0.99), errors, different,
           together, (long long)first_at, (long long)last_at);
}
