"""Sends the resolver well-formed and malformed packets with dnspython, and says what was not as it should be.

Fails when anything was; else prints how many packets were answered rightly."""

import random
import socket
import struct
import sys

import dns.edns
import dns.flags
import dns.message
import dns.opcode
import dns.query
import dns.rcode
import dns.rdatatype

SERVER, PORT, PATIENCE = sys.argv[1], int(sys.argv[2]), 10
ADDRESS = {"one.svc.mesh.local.": "241.0.0.2", "both.svc.mesh.local.": "241.0.0.4", "upper.case.example.com.": "241.0.0.6"}
failures, checks = [], 0


def check(ok, what, *more):
    global checks
    checks += 1
    if not ok:
        failures.append(" ".join(map(str, (what, *more))))


def udp():
    family = socket.AF_INET6 if ":" in SERVER else socket.AF_INET
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.settimeout(PATIENCE)
    s.connect((SERVER, PORT))
    return s


def tcp():
    s = socket.create_connection((SERVER, PORT), PATIENCE)
    s.settimeout(PATIENCE)
    return s


def framed(wire):
    return struct.pack("!H", len(wire)) + wire


def read_all(s, n):
    data = b""
    while len(data) < n:
        part = s.recv(n - len(data))
        if not part:
            raise EOFError(f"closed after {len(data)} of {n} bytes")
        data += part
    return data


def read_frame(s):
    return read_all(s, struct.unpack("!H", read_all(s, 2))[0])


def closed(s):
    """Whether the other side ends the connection without a word."""
    try:
        return s.recv(1) == b""
    except ConnectionResetError:
        return True


def question_of(wire):
    end = 12
    while wire[end]:
        end += 1 + wire[end]
    return wire[12:end + 5]


def mixed(name):
    return "".join(random.choice((c.lower(), c.upper())) for c in name)


def letter_case():
    """Every spelling comes back as it was sent, over UDP and TCP."""
    seed = random.randrange(1 << 32)
    random.seed(seed)
    u, t = udp(), tcp()
    for i in range(1000):
        name = random.choice(list(ADDRESS))
        q = dns.message.make_query(mixed(name), "A")
        wire = q.to_wire()
        if i % 2:
            u.send(wire)
            answer = u.recv(65535)
        else:
            t.sendall(framed(wire))
            answer = read_frame(t)
        r = dns.message.from_wire(answer)
        owner = r.answer[0].name.to_text() if r.answer else None
        check(q.is_response(r) and question_of(answer) == question_of(wire) and owner == q.question[0].name.to_text()
              and [x.address for x in r.answer[0]] == [ADDRESS[name]], "letter case, seed", seed, q.question[0], r)


def pipelining():
    """Many questions in one write: each gets its answer, whatever the order."""
    names = [random.choice(list(ADDRESS)) for _ in range(500)]
    queries = {}
    for i, n in enumerate(names):
        q = dns.message.make_query(n, "A", use_edns=0 if i % 3 else None)
        q.id = i
        queries[i] = (n, q)
    s = tcp()
    s.sendall(b"".join(framed(q.to_wire()) for _, q in queries.values()))
    for _ in names:
        r = dns.message.from_wire(read_frame(s))
        name, q = queries.pop(r.id)
        check(q.is_response(r) and r.answer[0][0].address == ADDRESS[name], "pipelining", r)
    check(not queries, "pipelining: unanswered", list(queries))
    s.shutdown(socket.SHUT_WR)
    check(closed(s), "the connection outlives its end")


def split():
    """A message that comes byte by byte is one message."""
    q = dns.message.make_query("one.svc.mesh.local", "A")
    s = tcp()
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for b in framed(q.to_wire()):
        s.sendall(bytes([b]))
    check(q.is_response(dns.message.from_wire(read_frame(s))), "byte by byte")


def length_lies():
    good = dns.message.make_query("one.svc.mesh.local", "A")
    wire = good.to_wire()
    for what, data in (("nothing", struct.pack("!H", 0)), ("less than a header", struct.pack("!H", 5) + b"12345"),
                       ("an answer", framed(bytes([wire[0], wire[1], 0x81]) + wire[3:]))):
        s = tcp()
        s.sendall(data)
        check(closed(s), "not closed after", what)
    s = tcp()  # more promised than sent
    s.sendall(struct.pack("!H", len(wire) + 1000) + wire)
    s.shutdown(socket.SHUT_WR)
    check(closed(s), "answers less than was promised")
    s = tcp()  # less promised than sent: the rest is the beginning of another message
    s.sendall(struct.pack("!H", len(wire) - 4) + wire)
    r = dns.message.from_wire(read_frame(s), ignore_trailing=True)
    check(r.rcode() == dns.rcode.FORMERR and r.id == good.id, "cut by its length", r)
    s.close()
    s = tcp()  # the largest message
    s.sendall(framed(wire + b"\0" * (65535 - len(wire))))
    r = dns.message.from_wire(read_frame(s))
    check(r.rcode() == dns.rcode.FORMERR, "65535 bytes", r)
    s.sendall(framed(wire))  # still there
    check(good.is_response(dns.message.from_wire(read_frame(s))), "after 65535 bytes")


def header(qd=1, an=0, ns=0, ar=0, flags=0x0100, id=0x1234):
    return struct.pack("!HHHHHH", id, flags, qd, an, ns, ar)


ONE = b"\3one\3svc\4mesh\5local\0\0\1\0\1"
OPT = b"\0\0\x29\4\xd0\0\0\0\0\0\0"
FORMERR, NOTIMP, REFUSED, NOERROR = dns.rcode.FORMERR, dns.rcode.NOTIMP, dns.rcode.REFUSED, dns.rcode.NOERROR
SILENCE = None
MALFORMED = [
    ("empty packet", b"", SILENCE),
    ("half a header", header()[:11], SILENCE),
    ("header only", header(), FORMERR),
    ("no question", header(0), FORMERR),
    ("two questions", header(2) + ONE + ONE, FORMERR),
    ("65535 questions", header(65535) + ONE, FORMERR),
    ("name points at itself", header() + b"\xc0\x0c\0\1\0\1", FORMERR),
    ("two names point at each other", header() + b"\xc0\x0e\xc0\x0c\0\1\0\1", FORMERR),
    ("name points to the header", header() + b"\xc0\x00\0\1\0\1", FORMERR),
    ("label of 64", header() + b"\x40" + b"a" * 64 + b"\0\0\1\0\1", FORMERR),
    ("label type 0x80", header() + b"\x80a\0\0\1\0\1", FORMERR),
    ("name of 256", header() + (b"\x3f" + b"a" * 63) * 3 + b"\x3e" + b"a" * 62 + b"\1a\0\0\1\0\1", FORMERR),
    ("name of 1000", header() + (b"\x3f" + b"a" * 63) * 16 + b"\0\0\1\0\1", FORMERR),
    ("name without end", header() + b"\3one", FORMERR),
    ("no type", header() + ONE[:-4], FORMERR),
    ("half a class", header() + ONE[:-1], FORMERR),
    ("rest", header() + ONE + b"rest", FORMERR),
    ("record that is not there", header(an=1) + ONE, FORMERR),
    ("65535 records", header(1, 65535, 65535, 65535) + ONE, FORMERR),
    ("additional record that is not there", header(ar=1) + ONE, FORMERR),
    ("record longer than the packet", header(ar=1) + ONE + b"\xc0\x0c\0\1\0\1\0\0\0\0\xff\xff", FORMERR),
    ("owner points forward", header(ar=1) + ONE + b"\xc0\xff\0\1\0\1\0\0\0\0\0\0", FORMERR),
    ("owner points at itself", header(ar=1) + ONE + b"\xc0" + bytes([12 + len(ONE)]) + b"\0\1\0\1\0\0\0\0\0\0", FORMERR),
    ("two OPT", header(ar=2) + ONE + OPT + OPT, FORMERR),
    ("OPT with an owner", header(ar=1) + ONE + b"\1a" + OPT, FORMERR),
    ("option longer than OPT", header(ar=1) + ONE + OPT[:-1] + b"\4\0\3\0\1", FORMERR),
    ("half an option", header(ar=1) + ONE + OPT[:-1] + b"\3\0\3\0", FORMERR),
    ("a response", header(flags=0x8180) + ONE, SILENCE),
    ("a response without question", header(0, flags=0x8180), SILENCE),
    ("opcode IQUERY", header(flags=0x0800) + ONE, NOTIMP),
    ("opcode NOTIFY", header(flags=0x2000) + ONE, NOTIMP),
    ("opcode UPDATE", header(flags=0x2800) + ONE, NOTIMP),
    ("opcode 15", header(flags=0x7800) + ONE, NOTIMP),
    ("class CHAOS", header() + ONE[:-1] + b"\3", REFUSED),
    ("class ANY", header() + ONE[:-1] + b"\xff", REFUSED),
    ("class 0", header() + ONE[:-1] + b"\0", REFUSED),
    ("type OPT as question", header() + ONE[:-4] + b"\0\x29\0\1", FORMERR),
    ("AXFR", header() + b"\4mesh\5local\0\0\xfc\0\1", REFUSED),
    ("IXFR", header() + b"\4mesh\5local\0\0\xfb\0\1", REFUSED),
    ("type 0", header() + ONE[:-4] + b"\0\0\0\1", NOERROR),
    ("type 65535", header() + ONE[:-4] + b"\xff\xff\0\1", NOERROR),
    ("all flags of a query", header(flags=0x07ff & ~0x000f) + ONE, NOERROR),
    ("a response code in the query", header(flags=0x010f) + ONE, NOERROR),
    ("a record in the answer", header(an=1) + ONE + b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4\1\2\3\4", NOERROR),
]


def malformed():
    """The packet and a good one after it: what comes before the answer to the good one is the answer to the packet."""
    fence = dns.message.make_query("one.svc.mesh.local", "A")
    fence.id = 0xfffe
    s = udp()
    for what, packet, want in MALFORMED:
        s.send(packet)
        s.send(fence.to_wire())
        got = []
        while True:
            answer = s.recv(65535)
            if answer[:2] == b"\xff\xfe":
                break
            got.append(answer)
        check(fence.is_response(dns.message.from_wire(answer)), what, "spoils the next query")
        if want is SILENCE:
            check(not got, what, "is answered", got)
            continue
        check(len(got) == 1, what, "has", len(got), "answers")
        for answer in got:
            flags = struct.unpack("!H", answer[2:4])[0]
            check(answer[:2] == packet[:2] and flags & 0x8000 and flags & 15 == want and flags & 0x7800 == struct.unpack("!H", packet[2:4])[0] & 0x7800,
                  what, "has the answer", answer)
            if want not in (NOERROR,):
                check(len(answer) <= len(packet), what, "is amplified:", len(packet), "to", len(answer))
            if len(answer) > 12 and want != NOERROR:
                dns.message.from_wire(answer)


def mutated():
    """Queries with bytes changed at random never take the resolver away, and whatever comes back keeps to the limit."""
    seed = random.randrange(1 << 32)
    random.seed(seed)
    fence = dns.message.make_query("both.svc.mesh.local", "A")
    fence.id = 0xfffe
    s = udp()
    base = [dns.message.make_query("one.svc.mesh.local", "A").to_wire(),
            dns.message.make_query("many.svc.mesh.local", "A", use_edns=0, payload=512).to_wire()]
    for _ in range(2000):
        packet = bytearray(random.choice(base))
        for _ in range(random.randrange(1, 6)):
            packet[random.randrange(len(packet))] = random.randrange(256)
        packet = packet[:random.randrange(len(packet) // 2, len(packet) + 1)]
        packet[:2] = b"\0\1"
        s.send(packet)
        s.send(fence.to_wire())
        while True:
            answer = s.recv(65535)
            if answer[:2] == b"\xff\xfe":
                break
            check(len(answer) <= 4096 and answer[2] & 0x80, "mutated, seed", seed, bytes(packet))
    check(True, "alive")


def reflected():
    """What comes from the port of name servers is an answer or forged. Those that ask later have had theirs before."""
    if ":" in SERVER:
        return
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("127.0.0.2", 53))
    wire = dns.message.make_query("one.svc.mesh.local", "A").to_wire()
    s.sendto(wire, (SERVER, PORT))
    for _ in range(100):
        u = udp()
        u.send(wire)
        u.recv(65535)
        u.close()
    s.setblocking(False)
    try:
        check(False, "port 53 is answered", s.recv(65535))
    except BlockingIOError:
        check(True, "silence")


for test in (letter_case, pipelining, split, length_lies, malformed, mutated, reflected):
    try:
        test()
    except Exception as e:  # any other ends the packets of this kind, not the rest
        failures.append(f"{test.__name__}: {type(e).__name__}: {e}")
for f in failures:
    print(f)
if failures:
    sys.exit(1)
print(checks)
