#!/usr/bin/env python3
"""Computes the whole log in docs/ledger-format.md, and the evidence in docs/evidence-format.md, from
these pages alone, with nothing of the ledger.

Needs no packages: BLAKE3 (inputs up to 1,024 bytes) and Ed25519 (RFC 8032) are below. Prints every
file; `--check` compares them with the pages.
"""

import base64
import hashlib
import pathlib
import re
import struct
import sys

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"
PAGES = [DOCS / "ledger-format.md", DOCS / "evidence-format.md"]

# --- BLAKE3, one chunk ---

IV = [0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19]
ORDER = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8]
CHUNK_START, CHUNK_END, ROOT, KEYED = 1, 2, 8, 16


def rotate(x, n):
    return (x >> n | x << (32 - n)) & 0xFFFFFFFF


def mix(s, a, b, c, d, x, y):
    for value, first, second in ((x, 16, 12), (y, 8, 7)):
        s[a] = (s[a] + s[b] + value) & 0xFFFFFFFF
        s[d] = rotate(s[d] ^ s[a], first)
        s[c] = (s[c] + s[d]) & 0xFFFFFFFF
        s[b] = rotate(s[b] ^ s[c], second)


def compress(chain, block, length, flags):
    s = chain + IV[:4] + [0, 0, length, flags]
    words = list(struct.unpack("<16I", block.ljust(64, b"\0")))
    for _ in range(7):
        for i in range(4):
            mix(s, i, 4 + i, 8 + i, 12 + i, words[2 * i], words[2 * i + 1])
        for i in range(4):
            mix(s, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4, words[8 + 2 * i], words[9 + 2 * i])
        words = [words[i] for i in ORDER]
    return [s[i] ^ s[i + 8] for i in range(8)]


def blake3(data, key=None):
    assert len(data) <= 1024
    blocks = [data[i : i + 64] for i in range(0, len(data), 64)] or [b""]
    chain = list(struct.unpack("<8I", key)) if key else IV
    for number, block in enumerate(blocks):
        last = number == len(blocks) - 1
        flags = CHUNK_START * (number == 0) | (CHUNK_END | ROOT) * last | KEYED * bool(key)
        chain = compress(chain, block, len(block), flags)
    return struct.pack("<8I", *chain)


# --- Ed25519 ---

P = 2**255 - 19
Q = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
BY = 4 * pow(5, -1, P) % P
BX = 15112221349535400772501151409588531511454012693041857206046113283949847762202
BASE = (BX, BY, 1, BX * BY % P)


def add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def times(n, point):
    result = (0, 1, 1, 0)
    while n:
        if n & 1:
            result = add(result, point)
        point, n = add(point, point), n >> 1
    return result


def packed(point):
    inverse = pow(point[2], -1, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def number(data):
    return int.from_bytes(data, "little")


class Key:
    def __init__(self, name, kind, seed):
        self.name, self.kind, self.seed = name, bytes([kind]), seed
        digest = hashlib.sha512(seed).digest()
        self.scalar = number(digest[:32]) & ((1 << 254) - 8) | 1 << 254
        self.prefix = digest[32:]
        self.public = packed(times(self.scalar, BASE))
        self.id = hashlib.sha256(name.encode() + b"\n" + self.kind + self.public).digest()[:4]

    def ed25519(self, message):
        r = number(hashlib.sha512(self.prefix + message).digest()) % Q
        point = packed(times(r, BASE))
        k = number(hashlib.sha512(point + self.public + message).digest()) % Q
        return point + ((r + k * self.scalar) % Q).to_bytes(32, "little")

    def line(self, text, time):
        if self.kind == b"\x04":
            message = f"cosignature/v1\ntime {time}\n{text}".encode()
            signature = struct.pack(">Q", time) + self.ed25519(message)
        else:
            signature = self.ed25519(text.encode())
        return f"\u2014 {self.name} {b64(self.id + signature)}\n"

    def secret(self):
        return f"PRIVATE+KEY+{self.name}+{self.id.hex()}+{b64(self.kind + self.seed)}\n"

    def vkey(self):
        return f"{self.name}+{self.id.hex()}+{b64(self.kind + self.public)}\n"


def b64(data):
    return base64.b64encode(data).decode()


# --- CRC-32C ---


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


# --- the log ---

ORIGIN = "daemoneye/golden"
CHAIN_KEY = b"daemoneye ledger chain, format 1"
NONCE = bytes.fromhex("a0a1a2a3a4a5a6a7")
TIME = 1_700_000_000
KEYS = [Key(ORIGIN, 0x01, bytes(range(32))), Key(ORIGIN, 0x04, bytes(range(32, 64)))]
NEXT = [Key(ORIGIN, 0x01, bytes(range(64, 96))), Key(ORIGIN, 0x04, bytes(range(96, 128)))]
LEAVES = [(b"alpha", True), (b"", False), (b"gamma", True)]


def leaf_hash(leaf):
    return blake3(b"\0" + leaf)


def root(leaves):
    if not leaves:
        return blake3(b"")
    if len(leaves) == 1:
        return leaf_hash(leaves[0])
    split = 1
    while 2 * split < len(leaves):
        split *= 2
    return blake3(b"\x01" + root(leaves[:split]) + root(leaves[split:]))


def chain_start():
    return blake3(b"daemoneye.start1" + b"\x01" + ORIGIN.encode())


def segment():
    chain = chain_start()
    start = b"DEYESEG\n" + struct.pack("<HBB", 1, 1, 0)
    rest = struct.pack("<Q", 0) + NONCE + blake3(ORIGIN.encode()) + chain
    out = start + struct.pack("<I", crc32c(start + rest)) + rest
    for leaf, starts_commit in LEAVES:
        word = struct.pack("<I", len(leaf) | starts_commit << 31)
        chain = blake3(chain + leaf_hash(leaf), CHAIN_KEY)
        out += word + struct.pack("<I", crc32c(NONCE + word + leaf)) + leaf + chain
    return out


def size_and_root(size):
    return f"{size}\n{b64(root([leaf for leaf, _ in LEAVES[:size]]))}\n"


def checkpoint(size, keys):
    text = f"{ORIGIN}\n{size_and_root(size)}"
    return text + "\n" + "".join(key.line(text, TIME) for key in keys)


def vkeys(keys):
    return "".join(key.vkey() for key in keys)


def rotation(size):
    text = f"daemoneye ledger rotation v1\n{ORIGIN}\n1\n{size_and_root(size)}{TIME}\n{vkeys(NEXT)}"
    return text + "\n" + KEYS[0].line(text, TIME) + NEXT[0].line(text, TIME)


def tree_of_empty_leaves():
    """Two blocks, the second of which completes a pair."""
    block = leaf_hash(b"")
    for _ in range(8):
        block = blake3(b"\x01" + block + block)
    out = b""
    for number, offset in enumerate((96, 96 + 256 * 40)):
        place = struct.pack("<Q", offset)
        out += place + struct.pack("<I", crc32c(struct.pack("<Q", number) + place)) + block
    return out + blake3(b"\x01" + block + block)


def gap():
    """Leaves 0 and 1, each commit in a segment of its own: what is left of them, and the statement."""
    kept = root([leaf for leaf, _ in LEAVES[:2]])
    remains = b"DEYETRE\n" + struct.pack("<HBBIQQ", 1, 1, 0, 1, 0, 2) + blake3(ORIGIN.encode())
    remains += struct.pack("<QQ", 1, 0) + kept
    chain, length = chain_start(), 96
    for leaf, _ in LEAVES[:2]:
        chain = blake3(chain + leaf_hash(leaf), CHAIN_KEY)
        length += 40 + len(leaf)
    hashes = lines([kept, chain, blake3(remains)])
    text = f"daemoneye ledger gap v1\n{ORIGIN}\n3\n0\n1\nsize\n{length}\n{hashes}{TIME}\n"
    return text + "\n" + KEYS[0].line(text, TIME), remains


def hexadecimal(data):
    return "".join(data[i : i + 32].hex() + "\n" for i in range(0, len(data), 32))


def files():
    gap_statement, remains = gap()
    statement = rotation(3)
    LEAVES.append((statement.encode(), True))
    data = segment()
    last = checkpoint(4, NEXT)
    # Under the closing checkpoint of the leaf's epoch: its one sibling is the tree of the first two.
    sibling = root([leaf for leaf, _ in LEAVES[:2]])
    head = f"c2sp.org/tlog-proof@v1\nextra {b64(b'blake3')}\nindex 2\n{lines([sibling])}"
    proof = f"{head}\n{checkpoint(3, KEYS)}"
    siblings = [leaf_hash(LEAVES[at][0]) for at in (1, 3)]
    link = [leaf_hash(LEAVES[2][0]), leaf_hash(LEAVES[3][0]), sibling]
    return {
        "ledger.key": "".join(key.secret() for key in NEXT),
        "the secret of epoch 0": "".join(key.secret() for key in KEYS),
        "ledger.pub": vkeys(KEYS),
        "rotations.txt": statement,
        "entries/0000000000000000.seg": hexadecimal(data),
        "tree": hexadecimal(tree_of_empty_leaves()),
        "checkpoints.txt": "\n".join([checkpoint(0, KEYS), checkpoint(3, KEYS), last]),
        "last-checkpoint": last,
        "2.tlog-proof": proof,
        "gaps.txt": gap_statement,
        "entries/0000000000000000.tree": hexadecimal(remains),
        "proof.txt": "daemoneye batch proof v1\nhash blake3\nindex 0\nindex 2\n" + lines(siblings),
        "consistency/3": "daemoneye consistency proof v1\nfrom 3\nto 4\n" + lines(link),
    }


def lines(hashes):
    return "".join(b64(each) + "\n" for each in hashes)


def pattern(name):
    return re.compile(r"(\*\*`" + re.escape(name) + r"`\*\*.*?```text\n)(.*?)```", re.S)


def main():
    page = "".join(each.read_text() for each in PAGES)
    for name, text in files().items():
        if "--check" in sys.argv:
            found = pattern(name).search(page)
            if not found or found.group(2) != text:
                sys.exit(f"{name} is not what the pages say:\n{text}")
        else:
            print(f"**`{name}`**\n\n```text\n{text}```\n")


if __name__ == "__main__":
    main()
