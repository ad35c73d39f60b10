#!/usr/bin/python3
# solicit.py LINK: asks for a router advertisement and prints the first that comes (RFC 4861, 4.2;
# RFC 8106), one line for each thing that it says.
import ipaddress, socket, struct, sys

link = sys.argv[1]
s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link.encode())
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
index = socket.if_nametoindex(link)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP,
             socket.inet_pton(socket.AF_INET6, 'ff02::1') + struct.pack('@I', index))
s.settimeout(1)
while True:
    s.sendto(struct.pack('!BBHI', 133, 0, 0, 0), ('ff02::2', 0, 0, index))
    try:
        data, sender = s.recvfrom(2048)
    except socket.timeout:
        continue
    if data[0] == 134:
        break


def address(b):
    return str(ipaddress.IPv6Address(b))


def names(b):
    out, part = [], []
    while b:
        n, b = b[0], b[1:]
        if n == 0:
            if part:
                out.append('.'.join(part))
            part = []
        else:
            part.append(b[:n].decode())
            b = b[n:]
    return ' '.join(out)


flags, lifetime = data[5], struct.unpack('!H', data[6:8])[0]
print('from', sender[0].split('%')[0])
print('flags', ('M' if flags & 0x80 else '') + ('O' if flags & 0x40 else '') or '-')
print('lifetime', lifetime)
rest = data[16:]
while len(rest) >= 8:
    kind, size = rest[0], rest[1] * 8
    o, rest = rest[:size], rest[size:]
    if kind == 3:
        valid, preferred = struct.unpack('!II', o[4:12])
        print('prefix %s/%d %s valid %d preferred %d' % (
            address(o[16:32]), o[2],
            ('L' if o[3] & 0x80 else '') + ('A' if o[3] & 0x40 else '') or '-', valid, preferred))
    elif kind == 5:
        print('mtu', struct.unpack('!I', o[4:8])[0])
    elif kind == 25:
        print('dns', *[address(o[i:i + 16]) for i in range(8, size, 16)])
    elif kind == 31:
        print('search', names(o[8:]))
