/// When a preview was sent, and which one it is, inside its JPEG: what the simulator writes and the load generator looks for.
///
/// A comment segment right behind the start of image (`FF D8 FF FE`): `comfy-bridge-load <CLOCK_MONOTONIC in ns, 20 digits> <number, 10 digits>`.
/// More comments bring the file to the wanted size; their bytes follow from their places, so a reader can check every one.
package struct PreviewStamp: Sendable, Hashable {
    package let sentAt: UInt64
    /// Below 10¹⁰.
    package let number: Int

    package init(sentAt: UInt64, number: Int) {
        self.sentAt = sentAt
        self.number = number
    }

    /// Bytes from the start of the file up to the end of the stamp.
    package static let length = 4 + 2 + mark.count + 20 + 1 + 10
    /// Bytes of a stamped file, so that there is room for a small picture.
    package static let minimumSize = 4096
    /// What every stamped file begins with; in base64 it is `/9j//g`, and the stamp is within the first 76 characters.
    package static let start: [UInt8] = [0xFF, 0xD8, 0xFF, 0xFE]

    private static let mark = Array("comfy-bridge-load ".utf8)
    private static let timeOffset = 6 + mark.count
    private static let numberOffset = timeOffset + 21
    /// A comment's payload is at most 65 533 bytes. Less, so that what is left over never is too short for a segment.
    private static let padding = 32 << 10

    // MARK: Writing

    /// A JPEG of exactly `size` bytes with room for a stamp, which reads 0 until it is written. Nil when the picture is too large for that.
    ///
    /// - Parameter picture: a JPEG.
    package static func template(_ picture: [UInt8], size: Int) -> [UInt8]? {
        var missing = size - (picture.count + length - 2)
        guard picture.starts(with: [0xFF, 0xD8]), missing == 0 || missing >= 4 else { return nil }
        var file = start
        file.reserveCapacity(size)
        file.append(length: length - 4)
        file += mark
        file += repeatElement(UInt8(ascii: "0"), count: 20)
        file.append(UInt8(ascii: " "))
        file += repeatElement(UInt8(ascii: "0"), count: 10)
        while missing > 0 {
            let segment = missing < 2 * padding ? min(missing, 65_535) : padding
            file += [0xFF, 0xFE]
            file.append(length: segment - 2)
            for _ in 4..<segment { file.append(paddingByte(at: file.count)) }
            missing -= segment
        }
        return file + picture.dropFirst(2)
    }

    /// Writes the stamp into a template.
    package func write(into file: inout [UInt8]) {
        var time = sentAt, number = number
        for index in stride(from: Self.timeOffset + 19, through: Self.timeOffset, by: -1) {
            file[index] = UInt8(ascii: "0") + UInt8(time % 10)
            time /= 10
        }
        for index in stride(from: Self.numberOffset + 9, through: Self.numberOffset, by: -1) {
            file[index] = UInt8(ascii: "0") + UInt8(number % 10)
            number /= 10
        }
    }

    // MARK: Reading

    /// Nil when the file does not begin with a stamp.
    package init?(_ file: some RandomAccessCollection<UInt8>) {
        guard file.count >= Self.length, file.starts(with: Self.start + [0, UInt8(Self.length - 4)] + Self.mark) else { return nil }
        let digits = file.dropFirst(Self.timeOffset)
        guard let time = UInt64(String(decoding: digits.prefix(20), as: UTF8.self)), digits.dropFirst(20).first == UInt8(ascii: " "),
            let number = Int(String(decoding: digits.dropFirst(21).prefix(10), as: UTF8.self)), number >= 0
        else { return nil }
        self.init(sentAt: time, number: number)
    }

    /// What is wrong with a file that begins with a stamp: its size, its padding or its end. Nil: nothing.
    ///
    /// - Parameter size: what it should have; nil: any.
    package static func flaw(in file: [UInt8], size: Int?) -> String? {
        if let size, file.count != size { return "it has \(file.count) bytes instead of \(size)" }
        guard file.count > length + 4, file.suffix(2) == [0xFF, 0xD9] else { return "its end is missing" }
        var offset = length
        while offset + 4 <= file.count, file[offset] == 0xFF, file[offset + 1] == 0xFE {
            let end = offset + 2 + Int(file[offset + 2]) << 8 + Int(file[offset + 3])
            guard end <= file.count else { return "the comment at byte \(offset) is longer than the file" }
            if let wrong = (offset + 4..<max(offset + 4, end)).first(where: { file[$0] != paddingByte(at: $0) }) {
                return "byte \(wrong) of its padding is wrong"
            }
            offset = end
        }
        return offset + 2 < file.count && file[offset] == 0xFF ? nil : "there is no picture behind its padding"
    }

    /// 251 is prime, so that bytes that slipped are noticed.
    private static func paddingByte(at offset: Int) -> UInt8 { UInt8(offset % 251) }
}

extension [UInt8] {
    /// A segment's length field, which counts itself.
    fileprivate mutating func append(length: Int) {
        append(UInt8(length >> 8))
        append(UInt8(length & 0xFF))
    }
}
