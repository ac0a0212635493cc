/// Lossless WebP (RFC 9649), without any compression: `/view?preview=` answers WebP by default, and no codec for it is among the
/// dependencies.
///
/// Each pixel is written as four literal symbols with flat codes of 8 bits (9 for green, whose alphabet also holds copy lengths).
enum WebP {
    /// - Precondition: at most 16384 pixels on a side, the format's limit.
    static func encode(_ picture: Picture) -> [UInt8] { file([chunk("VP8L", bitstream(picture))]) }

    /// Frames of equal size, shown for the same time each, for ever.
    static func encode(animation pictures: [Picture], milliseconds: Int) throws(PictureError) -> [UInt8] {
        guard let first = pictures.first else { throw .encodingFailed }
        guard pictures.allSatisfy({ $0.width == first.width && $0.height == first.height }) else { throw .encodingFailed }
        let size = little(first.width - 1, 3) + little(first.height - 1, 3)
        let header = chunk("VP8X", [0x02 | (first.channels == 4 ? 0x10 : 0), 0, 0, 0] + size)
        let animation = chunk("ANIM", [0, 0, 0, 0, 0, 0])
        let frames = pictures.map { picture in
            // Offset 0,0; size; duration; neither blend nor dispose.
            chunk("ANMF", [0, 0, 0, 0, 0, 0] + size + little(milliseconds, 3) + [0x02] + chunk("VP8L", bitstream(picture)))
        }
        return file([header, animation] + frames)
    }

    private static func file(_ chunks: [[UInt8]]) -> [UInt8] {
        let body = Array("WEBP".utf8) + chunks.joined()
        return Array("RIFF".utf8) + little(body.count, 4) + body
    }

    private static func chunk(_ name: String, _ data: [UInt8]) -> [UInt8] {
        Array(name.utf8) + little(data.count, 4) + data + (data.count % 2 == 1 ? [0] : [])
    }

    private static func bitstream(_ picture: Picture) -> [UInt8] {
        precondition(picture.width <= 16_384 && picture.height <= 16_384)
        var bits = BitWriter()
        bits.put(0x2F, 8)
        bits.put(picture.width - 1, 14)
        bits.put(picture.height - 1, 14)
        bits.put(picture.channels == 4 ? 1 : 0, 1)
        bits.put(0, 3)  // version
        bits.put(0, 3)  // no transform, no colour cache, one group of codes
        flatCode(&bits, symbols: 256, of: 280)  // green; the rest of the alphabet is unused
        for _ in 0..<3 { flatCode(&bits, symbols: 256, of: 256) }  // red, blue, alpha
        simpleCode(&bits)  // distance
        for index in 0..<picture.width * picture.height {
            let pixel = index * picture.channels
            bits.putReversed(picture.pixels[pixel + 1])
            bits.putReversed(picture.pixels[pixel])
            bits.putReversed(picture.pixels[pixel + 2])
            bits.putReversed(picture.channels == 4 ? picture.pixels[pixel + 3] : 255)
        }
        return bits.finish()
    }

    /// Code lengths of 8 for the first symbols and 0 for the rest, written with a code-length code that knows only 8 and "many zeros".
    private static func flatCode(_ bits: inout BitWriter, symbols: Int, of alphabet: Int) {
        bits.put(0, 1)  // not simple
        // Order of code lengths: 17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8 …
        bits.put(12 - 4, 4)
        for symbol in [17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8] { bits.put(symbol == 8 || symbol == 18 ? 1 : 0, 3) }
        bits.put(0, 1)  // lengths for the whole alphabet
        for _ in 0..<symbols { bits.put(0, 1) }  // canonical: 8 is `0`, 18 is `1`
        var zeros = alphabet - symbols
        while zeros > 0 {
            let run = min(zeros, 138)
            bits.put(1, 1)
            bits.put(run - 11, 7)
            zeros -= run
        }
    }

    /// One symbol, 0, which needs no bits.
    private static func simpleCode(_ bits: inout BitWriter) {
        bits.put(1, 1)
        bits.put(0, 1)
        bits.put(0, 1)
        bits.put(0, 1)
    }

    private static func little(_ value: Int, _ bytes: Int) -> [UInt8] { (0..<bytes).map { UInt8(value >> ($0 * 8) & 0xFF) } }
}

/// Bits from the least significant on.
private struct BitWriter {
    private var bytes: [UInt8] = []
    private var pending: UInt64 = 0
    private var count = 0

    mutating func put(_ value: Int, _ width: Int) {
        pending |= UInt64(value) << UInt64(count)
        count += width
        while count >= 8 {
            bytes.append(UInt8(pending & 0xFF))
            pending >>= 8
            count -= 8
        }
    }

    /// The code of an 8-bit symbol under a flat code: prefix codes go most significant bit first.
    mutating func putReversed(_ symbol: UInt8) {
        var reversed = symbol
        reversed = (reversed & 0xF0) >> 4 | (reversed & 0x0F) << 4
        reversed = (reversed & 0xCC) >> 2 | (reversed & 0x33) << 2
        reversed = (reversed & 0xAA) >> 1 | (reversed & 0x55) << 1
        put(Int(reversed), 8)
    }

    mutating func finish() -> [UInt8] {
        if count > 0 { bytes.append(UInt8(pending & 0xFF)) }
        return bytes
    }
}
