@testable import MicroHTTP
import Testing

@Suite struct MultipartParserTests {
    /// Parses `body` in pieces of these sizes, over and over.
    ///
    /// - Returns: each part as `name(file name, type)=content`, and why it ended early.
    private func parse(_ body: [UInt8], boundary: String = "XX", sizes: [Int] = [.max]) -> [String] {
        var parser = MultipartParser(boundary: boundary)
        var seen: [String] = []
        var content: [UInt8] = []
        func endPart() {
            if !seen.isEmpty { seen[seen.count - 1] += "=" + String(decoding: content, as: UTF8.self) }
            content = []
        }
        var rest = body[...]
        var piece = 0
        do throws(FormUploadError) {
            while !rest.isEmpty {
                let bytes = Array(rest.prefix(sizes[piece % sizes.count]))
                rest = rest.dropFirst(bytes.count)
                piece += 1
                try bytes.span.bytes.withUnsafeBytes { bytes throws(FormUploadError) in
                    try parser.parse(bytes) {
                        switch $0 {
                        case .part(let name, let filename, let contentType):
                            endPart()
                            seen.append("\(name)(\(filename ?? "-"), \(contentType ?? "-"))")
                        case .content(let bytes): content += bytes
                        }
                    }
                }
            }
            try parser.finish()
            endPart()
        } catch {
            if case .malformed(let reason) = error { seen.append(reason) }
        }
        return seen
    }

    /// The tables write `<file>` for the headers of the part `file`, since literals without interpolation type-check faster.
    private func bytes(_ body: String) -> [UInt8] {
        Array(body.replacing("<file>", with: "Content-Disposition: form-data; name=\"file\"\r\n\r\n").utf8)
    }

    @Test(
        "Forms, cut anywhere",
        arguments: [
            ("--XX\r\n<file>hello\r\n--XX--\r\n", ["file(-, -)=hello"]),
            ("--XX\r\n<file>hello\r\n--XX--", ["file(-, -)=hello"]),
            ("--XX--\r\n", []),
            // Empty parts, several of one name; an empty line that is the line end of the boundary, too.
            ("--XX\r\n<file>\r\n--XX\r\n<file>a\r\n--XX\r\n<file>\r\n--XX--\r\n", ["file(-, -)=", "file(-, -)=a", "file(-, -)="]),
            ("--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n--XX\r\n<file>b\r\n--XX--", ["a(-, -)=", "file(-, -)=b"]),
            // What stands before the first boundary and behind the last does not count.
            ("preamble --XX\r\nmore\r\n--XX\r\n<file>hello\r\n--XX--\r\n--XX\r\nepilogue", ["file(-, -)=hello"]),
            ("\r\n\r\n--XX\r\n<file>hello\r\n--XX--epilogue", ["file(-, -)=hello"]),
            ("--XX \t \r\n<file>hello\r\n--XX--\r\n", ["file(-, -)=hello"]),
            // Content that is almost a boundary, that ends in line ends, that has other line ends.
            ("--XX\r\n<file>\r\n--X\r\r\n--\r\r\n-XX--\n--XX\n\r\n\r\n--XX--\r\n", ["file(-, -)=\r\n--X\r\r\n--\r\r\n-XX--\n--XX\n\r\n"]),
            ("--XX\r\n<file>--X\r\n--XX--\r\n", ["file(-, -)=--X"]),
            ("--XX\r\n<file>\r\n\r\n\r\n--XX--", ["file(-, -)=\r\n\r\n"]),
            // A form as content.
            (
                "--XX\r\nContent-Type: multipart/mixed; boundary=Y\r\n<file>--Y\r\n\r\na\r\n--Y--\r\n--XX--",
                ["file(-, multipart/mixed; boundary=Y)=--Y\r\n\r\na\r\n--Y--"]
            ),
            // Headers in other orders and cases, folded, with others among them.
            (
                "--XX\r\nX-A: b\r\ncontent-type:\ttext/plain; a=b \r\nCONTENT-DISPOSITION:Form-Data;NAME=a;\r\n filename=\"b c\"\r\n\r\n1\r\n--XX--",
                ["a(b c, text/plain; a=b)=1"]
            ),
            ("--XX\r\nContent-Transfer-Encoding: Binary\r\n<file>1\r\n--XX--", ["file(-, -)=1"]),
        ] as [(String, [String])])
    func forms(_ body: String, _ expected: [String]) {
        let body = bytes(body)
        for sizes in [[.max], [1], [2], [3], [5, 1], [7], [64, 1, 1]] { #expect(parse(body, sizes: sizes) == expected, "\(sizes)") }
        for cut in 1..<body.count { #expect(parse(body, sizes: [cut, .max]) == expected, "cut at \(cut)") }
    }

    @Test(
        "Names of parts and files",
        arguments: [
            (#"name="file"; filename="photo.png""#, "file(photo.png, -)"),
            (#"name="file"; filename="""#, "file(, -)"),
            (#"name=""; filename=photo.png"#, "(photo.png, -)"),
            (#"filename="my name=x.png" ; name="file""#, "file(my name=x.png, -)"),
            (#"name="file"; filename="a; name=\"b\".png""#, #"file(a; name="b".png, -)"#),
            (#"name="file"; filename="we"ird".png""#, #"file(we"ird".png, -)"#),
            (#"name="Bild";filename="Bäume 🌲.png""#, "Bild(Bäume 🌲.png, -)"),
            // Browsers.
            (#"name="a%22b"; filename="%22%0D%0A%0a%25%2.png""#, "a\"b(\"\r\n%0a%25%2.png, -)"),
            (#"name="file"; filename="C:\Users\x\a.png""#, #"file(C:\Users\x\a.png, -)"#),
            // httpx and Go.
            (#"name="file"; filename="a\\b.png""#, #"file(a\b.png, -)"#),
            // Kept as they are: whoever stores the file judges them.
            (#"name="file"; filename="../../etc/passwd""#, "file(../../etc/passwd, -)"),
            (#"name="file"; filename="a.png"; filename="b.png""#, "file(a.png, -)"),
            (#"name="file"; filename*=UTF-8''a.png"#, "file(-, -)"),
        ])
    func names(_ parameters: String, _ expected: String) {
        let body = "--XX\r\nContent-Disposition: form-data; \(parameters)\r\n\r\n\r\n--XX--"
        #expect(parse(Array(body.utf8)) == [expected + "="])
    }

    private static let noDisposition = "A part has no header like Content-Disposition: form-data; name=\"file\"."

    @Test(
        "What is no form",
        arguments: [
            ("", "The body has no part: the boundary of its Content-Type does not occur in it."),
            ("hello", "The body has no part: the boundary of its Content-Type does not occur in it."),
            ("--YY\r\n<file>hello\r\n--YY--", "The body has no part: the boundary of its Content-Type does not occur in it."),
            ("--XX\r\n<file>hello", "The body ends before its last boundary."),
            ("--XX\r\n<file>hello\r\n--XX\r\n", "The body ends before its last boundary."),
            ("--XX\r\n<file>hello\r\n--XX-", "The body ends before its last boundary."),
            ("--XX\r\n<file>hello\n--XX--\n", "The body ends before its last boundary."),
            ("--XX\r\n<file>hello\r\n--XXX\r\n", "A boundary is followed by something else than the end of its line."),
            ("--XX\n<file>hello\r\n--XX--", "A boundary is followed by something else than the end of its line."),
            ("--XX\r\n\r\nhello\r\n--XX--", noDisposition),
            ("--XX\r\nContent-Disposition: attachment; name=\"a\"\r\n\r\nhello\r\n--XX--", noDisposition),
            ("--XX\r\nContent-Disposition: form-data; filename=\"a\"\r\n\r\nhello\r\n--XX--", noDisposition),
            ("--XX\r\nContent-Disposition: form-data; name=\"a\r\n\r\nhello\r\n--XX--", noDisposition),
            ("--XX\r\nContent-Disposition: form-data; name=\"a\\\"\r\n\r\nhello\r\n--XX--", noDisposition),
            ("--XX\r\nContent-Disposition: form-data; name=\"a\"b\r\n\r\nhello\r\n--XX--", noDisposition),
            ("--XX\r\nContent-Disposition: form-data; name\r\n\r\nhello\r\n--XX--", noDisposition),
            ("--XX\r\nno colon\r\n<file>hello\r\n--XX--", "A part has a header without a name."),
            ("--XX\r\nX: a\nY: b\r\n<file>hello\r\n--XX--", "A part has a control character in its headers."),
            ("--XX\r\nX: a\0b\r\n<file>hello\r\n--XX--", "A part has a control character in its headers."),
            (
                "--XX\r\nContent-Transfer-Encoding: base64\r\n<file>aGVsbG8=\r\n--XX--",
                "A part has the Content-Transfer-Encoding base64: send its content as it is."
            ),
        ])
    func malformed(_ body: String, _ reason: String) {
        for sizes in [[.max], [1000], [1]] { #expect(parse(bytes(body), sizes: sizes).last == reason) }
    }

    @Test(
        "Headers without end",
        arguments: [
            ("", " ", "The line of a boundary is too long."), ("\r\nX: ", "x", "The headers of a part are longer than 8192 bytes."),
        ])
    func endless(_ begin: String, _ filling: String, _ reason: String) {
        let body = Array("--XX\(begin)\(String(repeating: filling, count: 17_000))".utf8)
        for sizes in [[.max], [1000], [1]] { #expect(parse(body, sizes: sizes) == [reason]) }
    }

    @Test("What nobody reads has an end", arguments: [("", "before its first"), ("--XX\r\n<file>a\r\n--XX--", "behind its last")])
    func unread(_ begin: String, _ place: String) {
        for (count, isTooLong) in [(16_000, false), (17_000, true)] {
            let body = bytes(begin) + [UInt8](repeating: UInt8(ascii: "x"), count: count) + bytes(begin.isEmpty ? "\r\n--XX\r\n<file>a\r\n--XX--" : "")
            for sizes in [[.max], [1000], [1]] {
                #expect(parse(body, sizes: sizes).last == (isTooLong ? "The body has more than 16384 bytes \(place) boundary." : "file(-, -)=a"))
            }
        }
    }

    @Test("Names of percent signs and quotes, of lines that go on, one byte at a time, are no more work than others")
    func linear() {
        for filling in ["%", "%22", "\"", "\" ", "\\", "\r\n ", ";a=b", "\u{301}"] {
            let name = String(repeating: filling, count: 7500 / filling.utf8.count)
            let part = Array("\r\n--XX\r\nContent-Disposition: form-data; name=\"\(name)\"\r\n\r\n".utf8)
            var parser = MultipartParser(boundary: "XX")
            var parts = 0
            for _ in 0..<20 {
                for byte in part {
                    withUnsafeBytes(of: byte) { byte in try? parser.parse(byte) { if case .part = $0 { parts += 1 } } }
                }
            }
            #expect(parts == 20, "\(filling)")
        }
    }

    @Test func notUTF8() {
        let body = Array("--XX\r\nContent-Disposition: form-data; name=\"".utf8) + [0xE4] + Array("\"\r\n\r\n\r\n--XX--".utf8)
        #expect(parse(body) == ["The headers of a part are not UTF-8."])
    }

    @Test("Content of every byte, with boundaries of every length", arguments: [1, 2, 17, 70, 200])
    func binary(boundaryLength: Int) {
        let boundary = String(repeating: "-", count: boundaryLength)
        let content = pattern(100_000) + Array("\r\n--".utf8) + Array(boundary.utf8.dropLast()) + pattern(3000)
        var parser = MultipartParser(boundary: boundary)
        let body = bytes("--\(boundary)\r\n<file>") + content + Array("\r\n--\(boundary)--".utf8)
        var seen: [UInt8] = []
        #expect(throws: Never.self) {
            for start in stride(from: 0, to: body.count, by: 4099) {
                try Array(body[start..<min(start + 4099, body.count)]).span.bytes.withUnsafeBytes { bytes throws(FormUploadError) in
                    try parser.parse(bytes) { if case .content(let bytes) = $0 { seen += bytes } }
                }
            }
            try parser.finish()
        }
        #expect(isSame(seen, content))
    }
}
