/// How much of a text from outside is told: what is quoted may be a picture in base64, or a secret that got into the wrong place.
extension StringProtocol {
    /// The beginning, 200 bytes at most, for a message that quotes it. Counts bytes: one letter with its marks can have megabytes.
    package var excerpt: String { excerpt(200) }

    package func excerpt(_ limit: Int) -> String {
        let bytes = Substring(self).utf8
        guard bytes.count > limit else { return String(self) }
        var end = bytes.index(bytes.startIndex, offsetBy: Swift.max(0, limit - 3))  // room for the ellipsis: an excerpt of one is itself
        while end > bytes.startIndex, bytes[end] & 0xC0 == 0x80 { end = bytes.index(before: end) }
        return String(Substring(bytes[..<end])) + "…"
    }

    /// A message that quotes values itself, as ComfyUI's do: each word as in `excerpt`, and no more than 4000 bytes in all.
    package var excerptOfMessage: String {
        let text = excerpt(4000)
        guard text.utf8.split(whereSeparator: { $0 == 0x20 || $0 == 0x0A }).contains(where: { $0.count > 200 }) else { return text }
        var told = ""
        for word in text.utf8.split(separator: 0x20, omittingEmptySubsequences: false) {
            if !told.isEmpty { told += " " }
            told += word.split(separator: 0x0A, omittingEmptySubsequences: false).map { Substring($0).excerpt }.joined(separator: "\n")
        }
        return told
    }
}
