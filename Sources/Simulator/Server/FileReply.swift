import NIOHTTP1

/// A file as aiohttp serves it: validators, conditions and one range (protocol section 4.1).
enum FileReply {
    static func make(_ file: OpenFile, type: String, disposition: String, headers request: HTTPHeaders) -> Reply {
        let tag = "\"\(String(file.modified, radix: 16))-\(String(file.size, radix: 16))\""
        let seconds = (file.modified + 999_999_999) / 1_000_000_000  // aiohttp rounds up
        var headers: HTTPHeaders = [
            "Content-Disposition": disposition, "Content-Type": type, "Etag": tag, "Last-Modified": HTTPDate.text(seconds),
        ]
        if let match = request.first(name: "if-match"), !matches(match, tag) { return Reply(status: .preconditionFailed) }
        if let none = request.first(name: "if-none-match") {
            if matches(none, tag) { return Reply(status: .notModified, headers: headers) }
        } else if let since = request.first(name: "if-modified-since").flatMap(HTTPDate.seconds), seconds <= since {
            return Reply(status: .notModified, headers: headers)
        }
        headers.add(name: "Accept-Ranges", value: "bytes")
        guard let wanted = request.first(name: "range"), isFresh(request.first(name: "if-range"), seconds) else {
            return Reply(headers: headers, body: .file(file))
        }
        guard let range = range(wanted, size: file.size), let part = file.part(range) else {
            return Reply(
                status: .rangeNotSatisfiable,
                headers: ["Content-Disposition": disposition, "Content-Type": type, "Content-Range": "bytes */\(file.size)"],
                body: .emptyChunked)
        }
        headers.add(name: "Content-Range", value: "bytes \(range.lowerBound)-\(range.upperBound - 1)/\(file.size)")
        return Reply(status: .partialContent, headers: headers, body: .file(part))
    }

    private static func matches(_ list: String, _ tag: String) -> Bool {
        list.split(separator: ",").contains { entry in
            let entry = entry.filter { $0 != " " }
            return entry == "*" || entry == tag || entry == "W/" + tag
        }
    }

    /// Only a date counts; anything else, a tag too, is as good as no header.
    private static func isFresh(_ ifRange: String?, _ modified: Int64) -> Bool {
        ifRange.flatMap(HTTPDate.seconds).map { modified <= $0 } ?? true
    }

    /// Nil when it cannot be satisfied or is no single range of bytes.
    static func range(_ header: String, size: Int64) -> Range<Int64>? {
        guard header.hasPrefix("bytes=") else { return nil }
        let parts = header.dropFirst(6).split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count == 2, parts.joined().utf8.allSatisfy({ $0 >= 48 && $0 <= 57 }) else { return nil }
        let start = Int64(parts[0]), end = Int64(parts[1])
        switch (start, end) {
        case (nil, let suffix?): return suffix > 0 && size > 0 ? max(0, size - suffix)..<size : nil
        case (let start?, nil): return start < size && parts[1].isEmpty ? start..<size : nil
        case (let start?, let end?): return start <= end && start < size ? start..<min(end, size - 1) + 1 : nil
        case (nil, nil): return nil
        }
    }
}
