#!/usr/bin/env python3
"""Verifies an evidence bundle by docs/evidence-format.md, with nothing of DaemonEye.

    verify_evidence.py CASE.ZIP LEDGER.PUB [CHECKPOINT]

LEDGER.PUB holds the log's public keys, got from elsewhere than the bundle; CHECKPOINT is one of the
log that was kept elsewhere. Ends with 0 and says what is proven, or with 1 and says what is not.
Needs Python 3.9 and, from PyPI, `blake3` and `cryptography`.
"""

import base64
import hashlib
import pathlib
import struct
import sys
import zlib

try:
    from blake3 import blake3
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
except ImportError as error:
    sys.exit(f"{error}: python3 -m venv venv && venv/bin/pip install blake3 cryptography")

MAX_BYTES, MAX_LEAVES, MAX_PATH = 64 << 20, 1000, 64
TEXTS = ["summary.txt", "keys.txt", "checkpoint.txt", "proof.txt"]
HASHES = {"blake3": lambda data: blake3(data).digest(), "sha256": lambda data: hashlib.sha256(data).digest()}


class Unproven(Exception):
    """Why the bundle proves nothing."""


def require(holds, why):
    if not holds:
        raise Unproven(why)


def number(text):
    require(text.isascii() and text.isdigit() and str(int(text)) == text, f"{text!r} is no number")
    require(int(text) < 1 << 64, f"{text} is too large")
    return int(text)


def decode(text, length=None):
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise Unproven(f"{text!r} is not base64") from error
    require(base64.b64encode(data).decode() == text, f"{text!r} is not canonical base64")
    require(length in (None, len(data)), f"{text!r} is not of {length} bytes")
    return data


# --- the archive ---


# Not with `zipfile`: it takes archives that other programs read otherwise.
LOCAL, RECORD, END = "<4s2xHH4xIIIHH", "<4s4xHH4xIIIHHH4xII", "<4sIHHIIH"
EXTRA_FIELDS = {0x000A, 0x5455, 0x5855, 0x7855, 0x7875}  # times and owners


def take(data, layout, at, mark):
    require(0 <= at <= len(data) - struct.calcsize(layout), "the archive is cut short")
    fields = struct.unpack_from(layout, data, at)
    require(fields[0] == mark, "it is no ZIP archive of stored files, one behind the other")
    return fields[1:]


def check_extra(extra, name):
    while extra:
        kind, length = struct.unpack("<HH", extra[:4])
        require(kind in EXTRA_FIELDS and length <= len(extra) - 4, f"{name!r} has unknown extra fields")
        extra = extra[4 + length :]


def read_files(data):
    """Files by name: each where the one before ends, the directory behind, nothing else."""
    end = len(data) - struct.calcsize(END)
    disks, here, count, directory_len, record, comment = take(data, END, end, b"PK\5\6")
    require(here == count <= 2 * MAX_LEAVES + 1 + len(TEXTS), "too many files")
    require(disks == 0 and comment == 0 and record + directory_len == end, "bytes belong to no file")
    files, at, directory = {}, 0, record
    for _ in range(count):
        *told, name_len, extra_len, comment, attributes, start = take(data, RECORD, record, b"PK\1\2")
        record += struct.calcsize(RECORD)
        name, extra = data[record : record + name_len], data[record + name_len : record + name_len + extra_len]
        record += name_len + extra_len + comment
        text = name.decode()
        require(start == at and text not in files, f"{text!r} is there twice, or overlaps")
        require(comment == 0, f"{text!r} has a comment")
        require(attributes >> 28 in (0, 8), f"{text!r} is no plain file")
        check_extra(extra, text)
        *before, name_len, extra_len = take(data, LOCAL, at, b"PK\3\4")
        at += struct.calcsize(LOCAL)
        require(data[at : at + name_len] == name, f"{text!r} has another name elsewhere")
        check_extra(data[at + name_len : at + name_len + extra_len], text)
        at += name_len + extra_len
        (flags, method, crc, packed, length) = told
        require(flags & ~0x808 == 0 and method == 0 and packed == length, f"{text!r} is not stored")
        content, at = data[at : at + length], at + length
        require(len(content) == length and zlib.crc32(content) == crc, f"{text!r} is damaged")
        unknown = [flags, method, 0, 0, 0] if flags & 8 else told
        require(before in (told, unknown), f"the two headers of {text!r} differ")
        if flags & 8:
            descriptor = struct.pack("<III", crc, packed, length)
            forms = [form for form in (b"PK\7\x08" + descriptor, descriptor) if data.startswith(form, at)]
            require(forms, f"what follows {text!r} is not as it is")
            at += len(forms[0])
        files[text] = content
    require(at == directory and record == end, "bytes belong to no file")
    return files


def read_archive(path):
    require(pathlib.Path(path).stat().st_size <= MAX_BYTES, "the archive is larger than 64 MiB")
    files = read_files(pathlib.Path(path).read_bytes())
    texts = {name: files.pop(name).decode() for name in TEXTS if name in files}
    for name in TEXTS[1:]:
        require(texts.get(name, "").endswith("\n"), f"{name} is missing or cut short")
    folders = {"leaves": {}, "consistency": {}}
    for name, data in files.items():
        folder, _, rest = name.partition("/")
        require(folder in folders, f"{name!r} is unknown")
        folders[folder][number(rest)] = data
    links = {size: read_consistency(data.decode()) for size, data in folders["consistency"].items()}
    return texts, dict(sorted(folders["leaves"].items())), links


# --- keys and notes ---


def read_note(note):
    """Text and signatures, each a name and the bytes behind it."""
    text, _, lines = note.rpartition("\n\n")
    require(lines.endswith("\n"), "a signed note is cut short")
    signatures = []
    for line in lines[:-1].split("\n"):
        mark, name, signature = line.split(" ")
        signatures.append((name, decode(signature)))
        require(mark == "\u2014" and len(signatures[-1][1]) > 4, "a signed note has a line that is no signature")
    return text + "\n", signatures


class Key:
    """A vkey: name+hex(id)+base64(type, key)."""

    def __init__(self, vkey):
        self.vkey = vkey
        self.name, key_id, data = vkey.split("+", 2)
        data = decode(data, 33)
        self.kind, self.key = data[0], Ed25519PublicKey.from_public_bytes(data[1:])
        self.id = hashlib.sha256(self.name.encode() + b"\n" + data).digest()[:4]
        require(self.id.hex() == key_id, "a key's id is not that of name and key")

    def signed(self, note):
        """Verifies this key's signature; the time, if it is a cosignature."""
        text, signatures = read_note(note)
        for name, data in signatures:
            if (name, data[:4]) == (self.name, self.id):
                return self.verify(text, data[4:])
        raise Unproven(f"not signed by {self.vkey}")

    def verify(self, text, signature):
        time = None
        if self.kind == 4:
            (time,), signature = struct.unpack(">Q", signature[:8]), signature[8:]
            text = f"cosignature/v1\ntime {time}\n{text}"
        try:
            self.key.verify(signature, text.encode())
        except InvalidSignature:
            raise Unproven(f"a signature by {self.vkey} does not verify") from None
        return time


class Epoch:
    """The keys of an epoch, the trees that they sign for, of `begin` leaves and more, and the size and
    root of the tree that they took over."""

    def __init__(self, vkeys, begin, taken_over):
        self.log, self.time = map(Key, vkeys)
        self.begin, self.taken_over = begin, taken_over
        require((self.log.kind, self.time.kind) == (1, 4), "keys are not of the kinds they must be")
        require(self.log.name == self.time.name, "the keys of an epoch differ in name")


def read_keys(text):
    """All epochs; each statement is signed by the keys before it and by its own."""
    require(text.endswith("\n") and not text.endswith("\n\n"), "the keys are cut short, or more follows")
    first, *rest = text[:-1].split("\n\n")
    epochs = [Epoch(first.split("\n"), 0, (0, None))]
    require(len(rest) % 2 == 0, "a rotation statement is cut short")
    for body, signatures in zip(rest[::2], rest[1::2]):
        header, origin, count, size, root, time, *vkeys = body.split("\n")
        last, size = epochs[-1], number(size)
        require(header == "daemoneye ledger rotation v1", "no rotation statement")
        require(number(count) == len(epochs) and size >= last.begin, "a rotation is out of order")
        number(time)
        epoch = Epoch(vkeys, size + 1, (size, decode(root, 32)))
        same = epoch.log.vkey == last.log.vkey or epoch.time.vkey == last.time.vkey
        require(not same, "a key is its own successor")
        require(origin == last.log.name == epoch.log.name, "a rotation is of another log")
        for key in (last.log, epoch.log):
            key.signed(f"{body}\n\n{signatures}\n")
        epochs.append(epoch)
    return epochs


def read_checkpoint(note, epochs):
    """Size, root and time, once both signatures verify."""
    origin, size, root, *_ = note.split("\n")
    size = number(size)
    epoch = [epoch for epoch in epochs if epoch.begin <= size][-1]
    epoch.log.signed(note)
    time = epoch.time.signed(note)
    require(origin == epoch.log.name, "the checkpoint is of another log")
    return size, decode(root, 32), time


# --- the tree ---


def batch_root(digest, leaves, size, path):
    nodes = [(index, digest(b"\0" + data)) for index, data in leaves.items()]
    require(nodes and nodes[-1][0] < size, "a leaf is beyond the tree")
    path, last = list(path), size - 1
    while last > 0:
        parents = []
        while nodes:
            place, node = nodes.pop(0)
            if place % 2 == 1:
                require(path, "the proof is too short")
                node = digest(b"\x01" + path.pop(0) + node)
            elif nodes and nodes[0][0] == place + 1:
                node = digest(b"\x01" + node + nodes.pop(0)[1])
            elif place != last:
                require(path, "the proof is too short")
                node = digest(b"\x01" + node + path.pop(0))
            parents.append((place // 2, node))
        nodes, last = parents, last // 2
    require(not path, "the proof is too long")
    return nodes[0][1]


def check_consistency(digest, old, new, path):
    """RFC 9162, 2.1.4.2."""
    (size1, root1), (size2, root2) = old, new
    if size1 == size2 or size1 == 0:
        same = root1 == root2 if size1 == size2 else root1 == digest(b"")
        require(same and not path, "the two trees are of two histories")
        return
    path = list(path) if size1 & (size1 - 1) else [root1, *path]
    require(path, "the consistency proof is too short")
    place, last = size1 - 1, size2 - 1
    while place % 2 == 1:
        place, last = place // 2, last // 2
    hash1 = hash2 = path.pop(0)
    for sibling in path:
        require(last > 0, "the consistency proof is too long")
        if place % 2 == 1 or place == last:
            hash1, hash2 = digest(b"\x01" + sibling + hash1), digest(b"\x01" + sibling + hash2)
            while place % 2 == 0 and place != 0:
                place, last = place // 2, last // 2
        else:
            hash2 = digest(b"\x01" + hash2 + sibling)
        place, last = place // 2, last // 2
    require(last == 0 and (hash1, hash2) == (root1, root2), "the two trees are of two histories")


# --- the bundle ---


def read_proof(text, leaves):
    header, kind, *lines = text[:-1].split("\n")
    require(header == "daemoneye batch proof v1", "proof.txt is no batch proof")
    require(kind in ("hash blake3", "hash sha256"), "proof.txt names no known hash")
    indexes = [number(line[6:]) for line in lines if line.startswith("index ")]
    require(indexes == list(leaves), "proof.txt is of other leaves than are there")
    path = [decode(line, 32) for line in lines[len(indexes) :]]
    require(len(indexes) <= MAX_LEAVES, "proof.txt is of too many leaves")
    require(len(path) <= MAX_PATH * len(indexes), "proof.txt has too many hashes")
    return HASHES[kind[5:]], path


def read_consistency(text):
    """The sizes of the two trees, and the hashes."""
    header, old, new, *lines = text[:-1].split("\n")
    require(text.endswith("\n") and header == "daemoneye consistency proof v1", "no consistency proof")
    require(old.startswith("from ") and new.startswith("to "), "a consistency proof names no trees")
    require(len(lines) <= MAX_PATH, "a consistency proof has too many hashes")
    return (number(old[5:]), number(new[3:])), [decode(line, 32) for line in lines]


def check_link(digest, own, other, links):
    """That two trees, each a size and a root, are of one history."""
    old, new = sorted([own, other], key=lambda tree: tree[0])
    path = []
    if old[0] not in (0, new[0]):
        require(other[0] in links, f"no consistency proof leads to the tree of {other[0]} leaves")
        sizes, path = links[other[0]]
        require(sizes == (old[0], new[0]), "a consistency proof is of other trees")
    check_consistency(digest, old, new, path)


def check_epochs(digest, own, leaves, epochs, links):
    """Leaves of earlier epochs are in the trees that these handed over."""
    begun = [epoch.taken_over for epoch in epochs if epoch.begin <= own[0]]
    for index in leaves:
        if index < begun[-1][0]:
            check_link(digest, own, next(tree for tree in begun if index < tree[0]), links)


def verify(bundle, trusted, outside=None):
    texts, leaves, links = read_archive(bundle)
    own, trusted = read_keys(texts["keys.txt"]), read_keys(trusted)
    vkeys = [[(e.log.vkey, e.time.vkey, e.taken_over) for e in epochs] for epochs in (own, trusted)]
    common = min(map(len, vkeys))
    require(vkeys[0][:common] == vkeys[1][:common], "the bundle is of another log than the trusted keys")
    epochs = max(own, trusted, key=len)
    size, root, time = read_checkpoint(texts["checkpoint.txt"], epochs)
    digest, path = read_proof(texts["proof.txt"], leaves)
    require(batch_root(digest, leaves, size, path) == root, "the leaves are not those of the signed tree")
    check_epochs(digest, (size, root), leaves, epochs, links)
    if outside is not None:
        other, other_root, _ = read_checkpoint(outside, epochs)
        check_link(digest, (size, root), (other, other_root), links)
    print(f"proven: {len(leaves)} leaves of the log {epochs[0].log.name}")
    print(f"signed for a tree of {size} leaves at {time} (POSIX seconds) by the host's clock")
    if outside is not None:
        print(f"of one history with the outside checkpoint of {other} leaves")
    for index, leaf in leaves.items():
        print(f"leaf {index}: {len(leaf)} bytes, sha256 {hashlib.sha256(leaf).hexdigest()}")


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    try:
        texts = [pathlib.Path(path).read_text(encoding="utf-8") for path in sys.argv[2:]]
        verify(sys.argv[1], *texts)
    except (Unproven, OSError, ValueError, IndexError, struct.error) as error:
        sys.exit(f"NOT PROVEN: {error}")


if __name__ == "__main__":
    main()
