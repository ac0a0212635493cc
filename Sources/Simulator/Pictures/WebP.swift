/// Lossless WebP (RFC 9649), without any compression: `/view?preview=` answers WebP by default, and no codec for it is among the dependencies.
///
/// Each pixel is written as four literal symbols with flat codes of 8 bits (9 for green, whose alphabet also holds copy lengths).
enum WebP {
    /// - Precondition: at most 16384 pixels on a side, the format's limit.
    static func encode(_ picture: Picture) -> [UInt8] {
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
        var data = bits.finish()
        let size = data.count
        if size % 2 == 1 { data.append(0) }
        return Array("RIFF".utf8) + little(12 + data.count) + Array("WEBPVP8L".utf8) + little(size) + data
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

    private static func little(_ value: Int) -> [UInt8] { (0..<4).map { UInt8(value >> ($0 * 8) & 0xFF) } }
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
