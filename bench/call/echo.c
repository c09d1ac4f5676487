/* A port program that does nothing but answer: the limit of what any program can reach behind the
 * same proxy. It speaks as much of docs/protocol.md as that needs: hello, one process named `echo`,
 * credit, heartbeats, and for each `call` a `reply` with the request.
 */
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { IN = 3, OUT = 4, FRAME = 4194304, STEP = 2097152 };

static uint8_t in[2 * FRAME], out[2 * FRAME];
static size_t have, made;

static uint32_t be32(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void byte(uint8_t b) { out[made++] = b; }
static void bytes(const void *p, size_t n) { memcpy(out + made, p, n); made += n; }
static void u32(uint32_t n) { byte(n >> 24); byte(n >> 16); byte(n >> 8); byte(n); }
static void atom(const char *name) { byte(119); byte((uint8_t)strlen(name)); bytes(name, strlen(name)); }
static void binary(const char *text) { byte(109); u32((uint32_t)strlen(text)); bytes(text, strlen(text)); }
static void integer(uint32_t n) { byte(98); u32(n); }

static size_t begin(void) { size_t at = made; u32(0); byte(131); return at; }
static void end(size_t at) {
    uint32_t n = (uint32_t)(made - at - 4);
    uint8_t head[4] = {n >> 24, n >> 16, n >> 8, n};
    memcpy(out + at, head, 4);
}

static void flush(void) {
    for (size_t done = 0; done < made;) {
        ssize_t n = write(OUT, out + done, made - done);
        if (n <= 0) exit(3);
        done += (size_t)n;
    }
    made = 0;
}

static void greet(void) {
    size_t at = begin();
    byte(104); byte(2); atom("hello"); byte(116); u32(7);
    binary("protocol"); byte(107); byte(0); byte(1); byte(1);
    binary("capabilities"); byte(108); u32(2); binary("calls"); binary("processes"); byte(106);
    binary("max_frame"); integer(FRAME);
    binary("credit"); integer(2 * FRAME);
    binary("version"); binary("0");
    binary("name"); binary("echo");
    binary("os_pid"); integer((uint32_t)getpid());
    end(at);
    at = begin();
    byte(104); byte(5); atom("call"); integer(1); binary("processes");
    byte(104); byte(3); atom("start"); integer(1);
    byte(108); u32(1); byte(104); byte(2); atom("local"); binary("echo"); byte(106);
    integer(5000);
    end(at);
    flush();
}

static void heartbeat(void) {
    static uint32_t seq;
    size_t at = begin();
    byte(104); byte(3); atom("heartbeat"); integer(++seq); integer(0);
    end(at);
}

static void give_back(uint32_t size) {
    size_t at = begin();
    byte(104); byte(2); atom("credit"); integer(size);
    end(at);
}

/* The length of an atom at p. */
static size_t atom_size(const uint8_t *p) {
    return *p == 119 || *p == 115 ? 2u + p[1] : 3u + ((size_t)p[1] << 8) + p[2];
}

static size_t integer_size(const uint8_t *p) {
    return *p == 97 ? 2 : *p == 98 ? 5 : 3u + p[1];
}

/* {signals, [{Process, Kind, Ref, Binary}]}, p behind the atom. */
static void signals(const uint8_t *p) {
    if (*p++ != 108) return;
    uint32_t count = be32(p), replies = 0;
    p += 4;
    size_t at = begin(), place;
    byte(104); byte(2); atom("signals"); byte(108);
    place = made;
    u32(0);
    while (count--) {
        const uint8_t *process = p + 2, *kind = process + integer_size(process);
        const uint8_t *ref = kind + atom_size(kind), *body = ref + integer_size(ref) + 5;
        uint32_t size = be32(body - 4);
        size_t name = atom_size(kind) - (*kind == 119 ? 2 : 3);
        if (name == 4 && memcmp(kind + atom_size(kind) - 4, "call", 4) == 0) {
            /* {Pid, Request, infinity}: version, tuple, pid; the last atom takes what is left. */
            const uint8_t *pid = body + 3, *request = pid + 1 + atom_size(pid + 1) + 12;
            const uint8_t *stop = body + size;
            size_t tail = stop[-10] == 119 ? 10 : 11;
            uint32_t length = (uint32_t)(stop - tail - request);
            byte(104); byte(4);
            bytes(process, integer_size(process));
            atom("reply");
            bytes(ref, integer_size(ref));
            byte(109); u32(length + 1); byte(131); bytes(request, length);
            replies++;
        }
        p = body + size;
    }
    byte(106);
    uint8_t head[4] = {replies >> 24, replies >> 16, replies >> 8, replies};
    memcpy(out + place, head, 4);
    end(at);
    if (replies == 0) made = at;
}

int main(void) {
    time_t beat = time(NULL);
    uint32_t owed = 0;
    int greeted = 0;
    for (;;) {
        struct pollfd in_fd = {IN, POLLIN, 0};
        int ready = poll(&in_fd, 1, 500);
        if (ready > 0) {
            ssize_t n = read(IN, in + have, sizeof in - have);
            if (n <= 0) return 3;
            have += (size_t)n;
        }
        size_t at = 0;
        while (have - at >= 4 && have - at - 4 >= be32(in + at)) {
            uint32_t size = be32(in + at);
            const uint8_t *term = in + at + 7, *name = term + (*term == 100 ? 3 : 2);
            if (!greeted) {
                greet();
                greeted = 1;
            } else if (memcmp(name, "signals", 7) == 0) {
                owed += size + 4;
                signals(term + atom_size(term));
            } else if (memcmp(name, "replies", 7) == 0) {
                owed += size + 4;
            }
            at += size + 4;
            if (made > FRAME / 2) flush();
        }
        memmove(in, in + at, have -= at);
        if (owed >= STEP) { give_back(owed); owed = 0; }
        if (greeted && time(NULL) != beat) { beat = time(NULL); heartbeat(); }
        flush();
    }
}
