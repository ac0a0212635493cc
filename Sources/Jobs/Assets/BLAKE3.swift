import Wording

/// BLAKE3 (https://github.com/BLAKE3-team/BLAKE3-specs), hash mode with 32 bytes of output, incremental.
///
/// The input is hashed in groups of eight chunks, side by side in the lanes of SIMD vectors. The eight chaining values of a group stay
/// together on their way up the tree: two neighbouring groups make the group of their eight parents, so that no lane is ever idle there.
/// Only `finalize()` takes groups apart. The hasher holds less than one group of input (8 KiB) and 256 bytes for each open level of the tree.
package struct BLAKE3: Sendable {
    /// Groups that wait for a right neighbour, the largest first; one for each bit that is set in `groupCount`.
    private var groups: [ChainingValues] = []
    private var groupCount: UInt64 = 0
    /// Input that does not make a whole group yet.
    private var pending: [UInt8] = []

    package init() {}

    package mutating func update(_ bytes: [UInt8]) {
        bytes.withUnsafeBytes { update($0) }
    }

    package mutating func update(_ bytes: UnsafeRawBufferPointer) {
        var rest = bytes
        func next(_ count: Int) -> UnsafeRawBufferPointer {
            let part = UnsafeRawBufferPointer(rebasing: rest.prefix(count))
            rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(count))
            return part
        }
        if !pending.isEmpty {
            pending.append(contentsOf: next(groupLength - pending.count))
            guard pending.count == groupLength else { return }
            push(pending.withUnsafeBytes { ChainingValues(chunks: $0, first: firstPendingChunk) })
            pending.removeAll(keepingCapacity: true)
        }
        while rest.count >= groupLength {
            push(ChainingValues(chunks: next(groupLength), first: firstPendingChunk))
        }
        pending.append(contentsOf: rest)
    }

    /// The hash of the input so far, 32 bytes; `update` may go on after it.
    func finalize() -> [UInt8] {
        var subtrees = groups[...]
        var root: Compression
        if pending.isEmpty, let last = subtrees.popLast() {
            let lastTwo = last.halved.halved
            root = Compression(parentsOf: lastTwo, lastTwo)
        } else {
            root = pending.withUnsafeBytes { Compression(subtree: $0, first: firstPendingChunk) }
        }
        while let left = subtrees.popLast() {
            root = Compression(left: left.halved.halved.halved, right: root.result)
        }
        root.flags |= Flags.root
        let values = root.result
        return (0..<8).flatMap { word in withUnsafeBytes(of: values[word][0].littleEndian) { Array($0) } }
    }

    /// The hash of the input so far, as the Comfy API v2 writes it.
    package var contentHash: ContentHash { ContentHash(digest: finalize()) }

    private var firstPendingChunk: UInt64 { groupCount &* UInt64(Lanes.scalarCount) }

    private mutating func push(_ group: ChainingValues) {
        var group = group
        for _ in 0..<(~groupCount).trailingZeroBitCount {
            group = Compression(parentsOf: groups.removeLast(), group).result
        }
        groups.append(group)
        groupCount += 1
    }
}

private typealias Lanes = SIMD8<UInt32>
/// The eight words of a chaining value, in each lane for another node of the tree, or the same in all.
private typealias ChainingValues = InlineArray<8, Lanes>

private let blockLength = 64
private let chunkLength = 16 * blockLength
private let groupLength = Lanes.scalarCount * chunkLength

private enum Flags {
    static let chunkStart: UInt32 = 1
    static let chunkEnd: UInt32 = 2
    package static let parent: UInt32 = 4
    static let root: UInt32 = 8
}

extension ChainingValues {
    fileprivate static var initial: Self {
        [
            Lanes(repeating: 0x6A09_E667), Lanes(repeating: 0xBB67_AE85), Lanes(repeating: 0x3C6E_F372), Lanes(repeating: 0xA54F_F53A),
            Lanes(repeating: 0x510E_527F), Lanes(repeating: 0x9B05_688C), Lanes(repeating: 0x1F83_D9AB), Lanes(repeating: 0x5BE0_CD19),
        ]
    }

    /// Of one group of chunks, the first of which has the number `first` in the whole input, a multiple of the lanes.
    fileprivate init(chunks: UnsafeRawBufferPointer, first: UInt64) {
        var compression = Compression()
        compression.counterLow = Lanes(repeating: UInt32(truncatingIfNeeded: first)) &+ Lanes(0, 1, 2, 3, 4, 5, 6, 7)
        compression.counterHigh = Lanes(repeating: UInt32(truncatingIfNeeded: first >> 32))
        for block in stride(from: 0, to: chunkLength, by: blockLength) {
            for word in 0..<16 {
                for lane in 0..<Lanes.scalarCount {
                    let offset = lane * chunkLength + block + word * 4
                    compression.message[word][lane] = UInt32(littleEndian: chunks.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
                }
            }
            compression.flags = block == 0 ? Flags.chunkStart : block == chunkLength - blockLength ? Flags.chunkEnd : 0
            compression.values = compression.result
        }
        self = compression.values
    }

    /// The parents of neighbours, half as many, each of them twice.
    fileprivate var halved: Self { Compression(parentsOf: self, self).result }
}

/// What goes into BLAKE3's compression function, in each lane for another node.
private struct Compression {
    package var values = ChainingValues.initial
    package var message = InlineArray<16, Lanes>(repeating: .zero)
    var counterLow = Lanes.zero
    var counterHigh = Lanes.zero
    package var length = UInt32(blockLength)
    package var flags: UInt32 = 0
}

extension Compression {
    /// Lanes 0 and 1, 2 and 3, … of `left` and then of `right` are children of one parent.
    init(parentsOf left: ChainingValues, _ right: ChainingValues) {
        for word in 0..<8 {
            let children = SIMD16(lowHalf: left[word], highHalf: right[word])
            message[word] = children.evenHalf
            message[word + 8] = children.oddHalf
        }
        flags = Flags.parent
    }
}

/// The same in all lanes: what is not worth hashing side by side.
extension Compression {
    /// The parent of two nodes.
    init(left: ChainingValues, right: ChainingValues) {
        for word in 0..<8 {
            message[word] = left[word]
            message[word + 8] = right[word]
        }
        flags = Flags.parent
    }

    /// The top node over `bytes`, which begin with the chunk number `first`.
    init(subtree bytes: UnsafeRawBufferPointer, first: UInt64) {
        guard bytes.count > chunkLength else {
            self.init(chunk: bytes, number: first)
            return
        }
        // The left side has the most chunks that are a power of two and leave at least one byte to the right side.
        let wholeChunks = (bytes.count - 1) / chunkLength
        let leftChunks = 1 << (Int.bitWidth - 1 - wholeChunks.leadingZeroBitCount)
        let (left, right) = (bytes.prefix(leftChunks * chunkLength), bytes.dropFirst(leftChunks * chunkLength))
        self.init(
            left: Compression(subtree: UnsafeRawBufferPointer(rebasing: left), first: first).result,
            right: Compression(subtree: UnsafeRawBufferPointer(rebasing: right), first: first + UInt64(leftChunks)).result
        )
    }

    /// The last block of a chunk of at most 1024 bytes, after its other blocks.
    private init(chunk bytes: UnsafeRawBufferPointer, number: UInt64) {
        counterLow = Lanes(repeating: UInt32(truncatingIfNeeded: number))
        counterHigh = Lanes(repeating: UInt32(truncatingIfNeeded: number >> 32))
        flags = Flags.chunkStart
        var rest = bytes
        while rest.count > blockLength {
            load(UnsafeRawBufferPointer(rebasing: rest.prefix(blockLength)))
            values = result
            flags = 0
            rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(blockLength))
        }
        load(rest)
        flags |= Flags.chunkEnd
    }

    private mutating func load(_ block: UnsafeRawBufferPointer) {
        var words = InlineArray<16, UInt32>(repeating: 0)
        withUnsafeMutableBytes(of: &words) { $0.copyMemory(from: block) }
        for word in 0..<16 { message[word] = Lanes(repeating: UInt32(littleEndian: words[word])) }
        length = UInt32(block.count)
    }
}

extension Compression {
    /// The compression function, cut off after the chaining value; with the root's flag that is the hash.
    package var result: ChainingValues {
        var v0 = values[0], v1 = values[1], v2 = values[2], v3 = values[3]
        var v4 = values[4], v5 = values[5], v6 = values[6], v7 = values[7]
        let initial = ChainingValues.initial
        var v8 = initial[0], v9 = initial[1], v10 = initial[2], v11 = initial[3]
        var v12 = counterLow, v13 = counterHigh, v14 = Lanes(repeating: length), v15 = Lanes(repeating: flags)

        typealias Order = (Int, Int, Int, Int, Int, Int, Int, Int, Int, Int, Int, Int, Int, Int, Int, Int)
        @inline(__always) func round(_ m: Order) {
            mix(&v0, &v4, &v8, &v12, message[m.0], message[m.1])
            mix(&v1, &v5, &v9, &v13, message[m.2], message[m.3])
            mix(&v2, &v6, &v10, &v14, message[m.4], message[m.5])
            mix(&v3, &v7, &v11, &v15, message[m.6], message[m.7])
            mix(&v0, &v5, &v10, &v15, message[m.8], message[m.9])
            mix(&v1, &v6, &v11, &v12, message[m.10], message[m.11])
            mix(&v2, &v7, &v8, &v13, message[m.12], message[m.13])
            mix(&v3, &v4, &v9, &v14, message[m.14], message[m.15])
        }
        // Each row is the one before it, permuted as the specification says.
        round((0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15))
        round((2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8))
        round((3, 4, 10, 12, 13, 2, 7, 14, 6, 5, 9, 0, 11, 15, 8, 1))
        round((10, 7, 12, 9, 14, 3, 13, 15, 4, 0, 11, 2, 5, 8, 1, 6))
        round((12, 13, 9, 11, 15, 10, 14, 8, 7, 2, 5, 3, 0, 1, 6, 4))
        round((9, 14, 11, 5, 8, 12, 15, 1, 13, 3, 0, 10, 2, 6, 4, 7))
        round((11, 15, 5, 0, 1, 9, 8, 6, 14, 10, 2, 12, 3, 4, 7, 13))
        return [v0 ^ v8, v1 ^ v9, v2 ^ v10, v3 ^ v11, v4 ^ v12, v5 ^ v13, v6 ^ v14, v7 ^ v15]
    }

    @inline(__always)
    private func mix(_ a: inout Lanes, _ b: inout Lanes, _ c: inout Lanes, _ d: inout Lanes, _ first: Lanes, _ second: Lanes) {
        a = a &+ b &+ first
        d = rotated(d ^ a, by: 16)
        c = c &+ d
        b = rotated(b ^ c, by: 12)
        a = a &+ b &+ second
        d = rotated(d ^ a, by: 8)
        c = c &+ d
        b = rotated(b ^ c, by: 7)
    }

    /// To the right. The sum stands for `|`, which the compiler (6.3) takes apart into scalars here, at a quarter of the speed.
    @inline(__always)
    private func rotated(_ words: Lanes, by count: UInt32) -> Lanes {
        (words &>> Lanes(repeating: count)) &+ (words &<< Lanes(repeating: 32 - count))
    }
}
