/// The text with every absolute path (`/srv/comfy/nodes.py`, `C:\comfy\nodes.py`) cut down to its last part: error texts
/// of Python carry the server's folders.
package func withoutPaths(_ text: String) -> String {
    let bytes = Array(text.utf8)
    var told: [UInt8] = []
    told.reserveCapacity(bytes.count)
    var index = 0
    while index < bytes.count {
        // A path begins the text, or stands behind a blank, a quote or such.
        if index == 0 || isBeforePath(bytes[index - 1]), let name = lastPart(ofPathAt: index, in: bytes) {
            told += bytes[name]
            index = name.upperBound
        } else {
            told.append(bytes[index])
            index += 1
        }
    }
    return String(decoding: told, as: UTF8.self)
}

/// Where the last part of the path is that begins here; nil when none does, or one of a single part.
private func lastPart(ofPathAt start: Int, in bytes: [UInt8]) -> Range<Int>? {
    var index = start
    if index + 1 < bytes.count, (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(bytes[index] | 0x20), bytes[index + 1] == UInt8(ascii: ":") { index += 2 }
    var parts = 0
    var last: Range<Int>?
    while index < bytes.count, isSlash(bytes[index]) {
        let begin = index + 1
        let end = bytes[begin...].firstIndex { isSlash($0) || isBlank($0) || "\"'`:".utf8.contains($0) } ?? bytes.count
        guard begin < end else { break }
        parts += 1
        last = begin..<end
        index = end
    }
    return parts > 1 ? last : nil
}

private func isBeforePath(_ byte: UInt8) -> Bool { isBlank(byte) || "\"'`([=,<".utf8.contains(byte) }
private func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || (0x09...0x0D).contains(byte) }
private func isSlash(_ byte: UInt8) -> Bool { byte == UInt8(ascii: "/") || byte == UInt8(ascii: "\\") }
