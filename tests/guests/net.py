#!/usr/bin/env python3
"""tests/guests/net.py - the far ends that net.sh needs, on the host and (python3-minimal) in the guest.

http DIR PORT ADDRESS...     serves DIR on each address; what is PUT is answered with its SHA-256
sink PORT ADDRESS...         accepts connections and holds them
hold N PORT ADDRESS          opens N connections, prints "held N", holds them until it is ended
ask [-o] [-t SECONDS] ADDRESS PORT TEXT   sends TEXT and a FIN (-o: no FIN), prints what comes back; status 1 if refused or nothing came in time (30 s)
echo-udp PORT                sends each datagram back to its sender (0.0.0.0)
ask-udp PORT ADDRESS         datagrams of 0, 1, 1472, 1473, 9000 and 60000 bytes must come back as they are
pipe PATH                    standard input and output tied to a unix socket (ssh's ProxyCommand)
answer PATH                  a chardev's peer: connects to the unix socket PATH, answers each line in capitals
monitor PATH COMMAND...      gives the monitor behind the unix socket each command, prints its answers
cpu PIDFILE SECONDS P N      per cent of a core that the process used in the best of up to N times SECONDS; the first below P ends it
"""
import os
import select
import socket
import sys
import threading
import time


def each_connection(sock, handle):
    while True:
        try:
            conn, _ = sock.accept()
        except OSError:
            return
        threading.Thread(target=handle, args=(conn,), daemon=True).start()


def listen(address, port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind((address, port))
    sock.listen(256)
    return sock


def serve_file(root, conn):
    with conn:
        request = b""
        while b"\r\n\r\n" not in request:
            piece = conn.recv(4096)
            if not piece:
                return
            request += piece
        if request.startswith(b"PUT "):
            head, body = request.split(b"\r\n\r\n", 1)
            fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
            if b"expect" in fields:
                conn.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            import hashlib  # the host's only
            left, sha = int(fields[b"content-length"]) - len(body), hashlib.sha256(body)
            while left > 0:
                body = conn.recv(1 << 18)
                if not body:
                    return
                left -= len(body)
                sha.update(body)
            text = sha.hexdigest().encode()
            conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(text), text))
            return
        name = os.path.join(root, os.path.basename(request.split()[1].decode()))
        if not os.path.isfile(name):
            conn.sendall(b"HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return
        conn.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % os.path.getsize(name))
        with open(name, "rb") as f:
            while True:
                piece = f.read(1 << 18)
                if not piece:
                    break
                conn.sendall(piece)


def main(what, args):
    if what == "http":
        for address in args[2:]:
            try:
                sock = listen(address, int(args[1]))
            except OSError as why:  # a host without IPv6
                print(address, why)
                continue
            threading.Thread(target=each_connection, args=(sock, lambda conn: serve_file(args[0], conn)), daemon=True).start()
        threading.Event().wait()
    elif what == "sink":
        held = []
        for address in args[1:]:
            threading.Thread(target=each_connection, args=(listen(address, int(args[0])), held.append), daemon=True).start()
        threading.Event().wait()
    elif what == "hold":
        held = [socket.create_connection((args[2], int(args[1])), 30) for _ in range(int(args[0]))]
        print("held", len(held), flush=True)
        threading.Event().wait()
    elif what == "ask":
        got = b""
        leave_open = args[0] == "-o"
        args = args[leave_open:]
        seconds = 30
        if args[0] == "-t":
            seconds, args = float(args[1]), args[2:]
        try:
            with socket.create_connection((args[0], int(args[1])), seconds) as sock:
                sock.settimeout(seconds)
                sock.sendall((args[2] + "\n").encode())
                if not leave_open:
                    sock.shutdown(socket.SHUT_WR)
                while b"\n" not in got:
                    piece = sock.recv(4096)
                    if not piece:
                        break
                    got += piece
        except OSError as why:
            print(why)
            return 1
        print(got.decode().strip())
        return 0 if got else 1
    elif what == "echo-udp":
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("0.0.0.0", int(args[0])))
        while True:
            data, peer = sock.recvfrom(65536)
            sock.sendto(data, peer)
    elif what == "ask-udp":
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.settimeout(3)
        sock.connect((args[1], int(args[0])))
        for size in (1, 0, 1472, 1473, 9000, 60000):
            data = os.urandom(size)
            for _ in range(3):  # datagrams may be lost, not changed
                sock.send(data)
                try:
                    if sock.recv(65536) == data:
                        break
                except OSError:
                    pass
            else:
                print("a datagram of %d bytes did not come back" % size)
                return 1
    elif what == "pipe":
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(args[0])
        while True:
            ready, _, _ = select.select([0, sock], [], [])
            if 0 in ready:
                data = os.read(0, 65536)
                if data:
                    sock.sendall(data)
                else:
                    sock.shutdown(socket.SHUT_WR)
            if sock in ready:
                data = sock.recv(65536)
                if not data:
                    return 0
                while data:
                    data = data[os.write(1, data):]
    elif what == "answer":
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(args[0])
        while True:
            data = sock.recv(65536)
            if not data:
                return 0
            sock.sendall(data.upper())
    elif what == "monitor":
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(args[0])
        sock.settimeout(60)

        def until_prompt():
            got = b""
            while not got.endswith(b") "):
                piece = sock.recv(65536)
                if not piece:
                    break
                got += piece
            return got.decode(errors="replace").replace("\r", "")

        until_prompt()
        for command in args[1:]:
            sock.sendall(command.encode() + b"\n")
            print(until_prompt())
    elif what == "cpu":
        pid = open(args[0]).read().strip()

        def used():
            fields = open("/proc/%s/stat" % pid).read().rsplit(")", 1)[1].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

        # Use at rest is in every window; the guest's housekeeping and the host's other work are in some (expect.c's be_idle()).
        least = None
        for _ in range(int(args[3])):
            start, before = time.monotonic(), used()
            time.sleep(float(args[1]))
            now = 100 * (used() - before) / (time.monotonic() - start)
            least = now if least is None else min(least, now)
            if least < float(args[2]):
                break
        print("%.2f" % least)
    else:
        print(__doc__)
        return 2
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "", sys.argv[2:]))
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(1)
