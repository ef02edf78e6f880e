/* net_dns.c - libFuzzer: answers of a resolver. Input: the guest's question (16-bit length before it), then the answer. */
#include "machine.h"
#include "net/net.h"
#include "net/nat.h"

static int sink(struct net_port *p, const struct net_frame *f)
{
    (void)p;
    (void)f;
    return 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct emu *e = emu_new(NULL);
    struct net_port port, *nat;
    struct options o;
    struct err err;
    struct pkt p;
    struct nat *n;
    size_t q = size >= 2 ? EMU_MIN((size_t)ld16be(data), size - 2) : 0, rest;
    uint8_t *answer, *question;
    if (size < 2 || !e || clock_create(e)) {
        emu_destroy(e);
        return 0;
    }
    e->config.icount = true;
    e->config.seed_set = true;
    memset(&port, 0, sizeof port);
    port.receive = sink;
    net_port_register(e, &port);
    if (options_parse(&o, e, "-netdev", "user", "type", &err) || netdev_user_create(e, "n", &o, &nat, &err))
        abort();
    options_free(&o);
    net_port_connect(&port, nat, &err);
    n = e->nats;
    n->resolvers_fixed = true;
    n->resolver_count = 1;
    memset(n->resolvers, 0, sizeof n->resolvers);
    n->resolvers[0].family = HOST_INET;
    st32be(n->resolvers[0].ip, UINT32_C(0x7F000001));
    n->resolvers[0].port = 9;
    memset(&p, 0, sizeof p);
    p.src = nat_v4(UINT32_C(0x0A00020F));
    p.dst = nat_v4(n->dns4);
    question = malloc(q ? q : 1);
    memcpy(question, data + 2, q);
    dns_input(n, &p, 1000, question, q);
    free(question);
    rest = size - 2 - q;
    answer = malloc(rest ? rest : 1);
    memcpy(answer, data + 2 + q, rest);
    if (n->dns_list) {
        if (rest >= 2) { /* the number is known only to us: the first bytes of every question sent */
            uint64_t counter = n->random_state - 1;
            uint8_t c[8];
            st64le(c, counter);
            st16be(answer, (uint16_t)nat_siphash(n->secret, c, 8));
        }
        dns_answer(n, n->dns_list, answer, rest, &n->resolvers[0]);
    }
    free(answer);
    nat->destroy(nat);
    net_port_unregister(e, &port);
    emu_destroy(e);
    return 0;
}
