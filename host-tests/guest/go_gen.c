// Programs generated from a seed, of goroutines that pass values on through channels,
// against a model that does the same one after another.
//
// A program is a network: sources, stages, sinks. Each channel has one that sends and
// closes it and one that receives, in one of several ways: plainly, by a select with
// other channels that are never ready, or by trying until it works. A value is the
// source that it comes from, and its number.
//
//   pass    each value on            drop   every third value
//   split   by turns to two          merge  from two, by select, as they come
//   zip     from two, by turns, until one of them ends
//
// Up to a merge all is determined: such a sink must see just what the model says. Behind
// one, all sinks together must see the same values; so what drops some takes only what is
// determined.
//
// usage: go_gen [FIRST-SEED [PROGRAMS]]

#include "host-tests/guest/tap.h"

#include <gneiss/chan.h>
#include <gneiss/go.h>
#include <gneiss/sync.h>

#include <stdint.h>
#include <string.h>

typedef gn_chan(uint32_t) values;

enum { EDGES = 40, NODES = 60, LONGEST = 60, SOURCES = 16 };

enum kind { SOURCE, PASS, DROP, SPLIT, MERGE, ZIP, SINK, KINDS };
enum way { PLAINLY, BY_SELECT, BY_TRYING, WAYS };

// A channel, and what the model says goes through it.
struct edge {
    values c;
    enum way send, recv;
    bool determined;
    uint32_t v[SOURCES * LONGEST];
    unsigned n;
};

struct node {
    enum kind kind;
    struct edge *in[2], *out[2];
    unsigned length; // SOURCE
    unsigned id;
    unsigned yields; // one turn in so many
    uint32_t seen[SOURCES * LONGEST];
    unsigned n;
};

static struct edge edges[EDGES];
static struct node nodes[NODES];
static unsigned nedges, nnodes, nsources;
static struct gn_wg all;
static uint64_t state;

static unsigned below(unsigned n)
{
    state = state * 6364136223846793005 + 1442695040888963407;
    return (unsigned)((state >> 33) % n);
}

// ---- what runs ----

static void put(struct node *n, struct edge *e, uint32_t v)
{
    values never = {0};
    struct gn_case cases[] = {GN_RECV(never, NULL), GN_SEND(e->c, &v)};

    if (n->yields != 0 && v % n->yields == 0)
        gn_yield();
    if (e->send == PLAINLY)
        gn_send(e->c, v);
    else if (e->send == BY_SELECT)
        gn_select(cases, 2);
    else
        while (!gn_try_send(e->c, v))
            gn_yield();
}

static bool get(struct edge *e, uint32_t *v)
{
    values never = {0};
    struct gn_case cases[] = {GN_RECV(e->c, v), GN_SEND(never, v)};
    bool got;

    if (e->recv == PLAINLY)
        return gn_recv(e->c, v);
    if (e->recv == BY_SELECT) {
        gn_select(cases, 2);
        return cases[0].ok;
    }
    while (!gn_try_recv(e->c, v, &got))
        gn_yield();
    return got;
}

// What is left of an input that nobody wants any more.
static void drain(struct edge *e)
{
    uint32_t v;

    while (get(e, &v))
        ;
}

static void merge(struct node *n)
{
    struct gn_case cases[2];
    uint32_t v[2];

    for (int i = 0; i < 2; i++)
        cases[i] = (struct gn_case)GN_RECV(n->in[i]->c, &v[i]);
    while (cases[0].chan != NULL || cases[1].chan != NULL) {
        size_t i = gn_select(cases, 2);

        if (cases[i].ok)
            put(n, n->out[0], v[i]);
        else
            cases[i].chan = NULL;
    }
}

static void zip(struct node *n)
{
    uint32_t v;
    unsigned i = 0;

    for (; get(n->in[i % 2], &v); i++)
        put(n, n->out[0], v);
    drain(n->in[(i + 1) % 2]);
}

static void run(void *arg)
{
    struct node *n = arg;
    uint32_t v;

    switch (n->kind) {
    case SOURCE:
        for (v = 0; v < n->length; v++)
            put(n, n->out[0], n->id << 16 | v);
        break;
    case PASS:
        while (get(n->in[0], &v))
            put(n, n->out[0], v);
        break;
    case DROP:
        while (get(n->in[0], &v)) {
            if (v % 3 != 0)
                put(n, n->out[0], v);
        }
        break;
    case SPLIT:
        for (unsigned i = 0; get(n->in[0], &v); i++)
            put(n, n->out[i % 2], v);
        break;
    case MERGE:
        merge(n);
        break;
    case ZIP:
        zip(n);
        break;
    default:
        while (get(n->in[0], &v))
            n->seen[n->n++] = v;
    }
    for (int i = 0; i < 2; i++) {
        if (n->out[i] != NULL)
            gn_close(n->out[i]->c);
    }
    gn_wg_done(&all);
}

// ---- the model ----

static void say(struct edge *e, uint32_t v)
{
    e->v[e->n++] = v;
}

static void model(struct node *n)
{
    struct edge *a = n->in[0], *b = n->in[1], *to = n->out[0];
    unsigned i = 0;

    switch (n->kind) {
    case SOURCE:
        for (i = 0; i < n->length; i++)
            say(to, n->id << 16 | i);
        break;
    case DROP:
        for (; i < a->n; i++) {
            if (a->v[i] % 3 != 0)
                say(to, a->v[i]);
        }
        break;
    case SPLIT:
        for (; i < a->n; i++)
            say(n->out[i % 2], a->v[i]);
        break;
    case ZIP:
        for (; i / 2 < n->in[i % 2]->n; i++)
            say(to, n->in[i % 2]->v[i / 2]);
        break;
    case SINK:
        break;
    default:
        for (; i < a->n; i++)
            say(to, a->v[i]);
        for (i = 0; b != NULL && i < b->n; i++)
            say(to, b->v[i]);
    }
}

// ---- making one ----

static struct edge *new_edge(void)
{
    struct edge *e = &edges[nedges++];

    e->c = gn_make_chan(values, below(3) == 0 ? 0 : below(5));
    if (e->c.raw == NULL)
        abort();
    e->send = below(WAYS);
    e->recv = below(WAYS);
    // Unbuffered, one of both has to wait for the other.
    if (gn_cap(e->c) == 0 && e->send == BY_TRYING)
        e->recv = below(BY_TRYING);
    e->n = 0;
    return e;
}

static struct node *new_node(enum kind kind)
{
    struct node *n = &nodes[nnodes++];

    *n = (struct node){.kind = kind, .id = nnodes - 1, .yields = below(7)};
    return n;
}

// Open ends: channels that nobody receives from yet.
static struct edge *open[EDGES];
static unsigned nopen;

static struct edge *take(void)
{
    unsigned i = below(nopen);
    struct edge *e = open[i];

    open[i] = open[--nopen];
    return e;
}

static void give(struct node *n, int i, bool determined)
{
    n->out[i] = open[nopen++] = new_edge();
    n->out[i]->determined = determined;
}

// A zip waits for one input while the other may have to hold all that comes: both may
// come from one split.
static void hold_all(struct edge *e)
{
    gn_chan_free(e->c.raw);
    e->c = gn_make_chan(values, SOURCES * LONGEST);
    if (e->c.raw == NULL)
        abort();
}

static void add_stage(enum kind kind)
{
    struct node *n;
    unsigned inputs = kind == MERGE || kind == ZIP ? 2 : 1;
    bool determined = kind != MERGE;

    if (nopen < inputs)
        return;
    n = new_node(kind);
    for (unsigned i = 0; i < inputs; i++) {
        n->in[i] = take();
        determined &= n->in[i]->determined;
        if (kind == ZIP)
            hold_all(n->in[i]);
    }
    if (kind == ZIP && !determined)
        n->kind = MERGE;
    if (kind == DROP && !determined)
        n->kind = PASS;
    give(n, 0, determined);
    if (kind == SPLIT)
        give(n, 1, determined);
}

static void generate(uint64_t seed)
{
    static const enum kind stages[] = {PASS, DROP, SPLIT, MERGE, ZIP};

    state = seed * 0x9e3779b97f4a7c15;
    nedges = nnodes = nopen = 0;
    nsources = 1 + below(5);
    for (unsigned i = 0; i < nsources; i++) {
        struct node *n = new_node(SOURCE);

        n->length = below(LONGEST);
        give(n, 0, true);
    }
    for (unsigned i = below(20); i > 0 && nedges + 2 <= EDGES; i--)
        add_stage(stages[below(5)]);
    while (nopen > 0)
        new_node(SINK)->in[0] = take();
    for (unsigned i = 0; i < nnodes; i++)
        model(&nodes[i]);
}

// ---- checking ----

static unsigned count[SOURCES][LONGEST];

static const char *check_sink(const struct node *n)
{
    const struct edge *e = n->in[0];

    for (unsigned i = 0; i < e->n; i++)
        count[e->v[i] >> 16][e->v[i] & 0xffff]++;
    for (unsigned i = 0; i < n->n; i++)
        count[n->seen[i] >> 16][n->seen[i] & 0xffff]--;
    if (e->determined &&
        (n->n != e->n || memcmp(n->seen, e->v, n->n * sizeof e->v[0]) != 0))
        return "a sink sees other values";
    return NULL;
}

static const char *check(void)
{
    const char *wrong = NULL;

    memset(count, 0, sizeof count);
    for (unsigned i = 0; i < nnodes && wrong == NULL; i++) {
        if (nodes[i].kind == SINK)
            wrong = check_sink(&nodes[i]);
    }
    for (unsigned s = 0; s < SOURCES && wrong == NULL; s++) {
        for (unsigned k = 0; k < LONGEST; k++) {
            if (count[s][k] != 0)
                wrong = "values are lost or doubled";
        }
    }
    return wrong;
}

static const char *run_one(uint64_t seed)
{
    const char *wrong;

    generate(seed);
    gn_wg_add(&all, nnodes);
    for (unsigned i = 0; i < nnodes; i++) {
        if (gn_go(run, &nodes[i]) != 0)
            abort();
    }
    gn_wg_wait(&all);
    wrong = check();
    for (unsigned i = 0; i < nedges; i++)
        gn_chan_free(edges[i].c.raw);
    return wrong;
}

int main(int argc, char **argv)
{
    unsigned first = argc > 1 ? (unsigned)atoi(argv[1]) : 1;
    unsigned n = argc > 2 ? (unsigned)atoi(argv[2]) : 250, bad = 0;
    unsigned long goroutines = 0, channels = 0;

    for (unsigned seed = first; seed < first + n; seed++) {
        const char *wrong = run_one(seed);

        goroutines += nnodes;
        channels += nedges;
        if (wrong != NULL && bad++ < 5)
            printf("# seed %u: %s\n", seed, wrong);
    }
    ok(bad == 0, "%u programs from seed %u, %lu goroutines, %lu channels", n,
       first, goroutines, channels);
    return tap_end();
}
