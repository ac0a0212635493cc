import Glibc
@testable import MicroHTTP
import Testing

/// Heads of requests: folded lines, sizes, targets.
@Suite(.timeLimit(.minutes(5))) struct HeadTests {
    /// Answers what it believes to have seen, so that a folded head that comes through shows.
    private static let echo: @Sendable (Request) async -> Response = { request in
        .text("\(request.method) \(request.path) \(request.headers.map { "\($0.name)=\($0.value)" }) \(request.body.count)")
    }

    // MARK: Folded lines

    private static let folds: [(String, String)] = [
        ("glues an Authorization", "Authoriza: Bearer T\r\n tion\r\n"),
        ("glues a Transfer-Encoding", "Transfer-: chunked\r\n Encoding\r\n"),
        ("of a Transfer-Encoding", "Transfer-Encoding:\r\n chunked\r\n"),
        ("of a Content-Length", "Content-Length: 1\r\n 0\r\n"),
        ("glues a Content-Length", "Content-: 5\r\n Length\r\n"),
        ("of a value", "X: a\r\n b\r\n"),
        ("with a tabulator", "X: a\r\n\tb\r\n"),
        ("of more than one line", "X: a\r\n b\r\n\tc\r\n  d\r\n"),
        ("of a value that is empty", "X:\r\n b\r\n"),
        ("as long as the blanks before the value", "X:   a\r\n bc\r\n"),
        ("longer than the blanks before the value", "X:  a\r\n bcdefg\r\n"),
        ("empty", "X: a\r\n \r\n"),
        ("of blanks and tabulators", "X: a\r\n \t \t\r\n"),
        ("with a colon", "X: a\r\n Authorization: Bearer T\r\n"),
        ("with a colon alone", "X: a\r\n :\r\n"),
        ("behind bare line feeds", "X: a\n b\n"),
        ("behind a carriage return too many", "X: a\r\r\n b\r\n"),
        ("behind trailing blanks", "X: a \t\r\n b\r\n"),
        ("between two of the same name", "X: a\r\n b\r\nX: a\r\n"),
        ("of a duplicated name", "X: a\r\nX: a\r\n b\r\n"),
        ("of a Cookie", "Cookie: a=b;\r\n c=d\r\n"),
        ("glues a Cookie", "Coo: a=b\r\n kie\r\n"),
        ("behind a NUL", "X: a\u{0}\r\n b\r\n"),
        ("before a NUL", "X: a\r\n b\u{0}c\r\n"),
        ("a NUL alone in it", "X: a\r\n \u{0}\r\n"),
        ("a NUL first", "X: a\r\n\u{0} b\r\n"),
        ("behind a name without a value and a NUL", "X:\u{0}\r\n b\r\n"),
        ("of 2000 bytes", "X: a\r\n " + String(repeating: "b", count: 2000) + "\r\n"),
        ("of 100 lines", "X: a\r\n" + String(repeating: " b\r\n", count: 100)),
        ("glued back to itself", "Accep: a\r\n t\r\nAccept: b\r\n"),
    ]

    @Test("A folded line is refused", arguments: folds)
    func fold(_ what: String, _ lines: String) async throws {
        try await withServer(respond: Self.echo) { server in
            try await server.withClient { _ in
                for (before, behind) in [("", ""), ("Accept: */*\r\n", ""), ("", "Accept: */*\r\n"), ("A: b\r\n", "Cookie: a=b; c=d\r\n")] {
                    for kept in [false, true] {
                        let client = try Client(port: server.port)
                        if kept { _ = try client.get("/?a=b") }
                        try client.send("POST /?a=b&c=d HTTP/1.1\r\nHost: a\r\n\(before)\(lines)\(behind)\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n")
                        let reply = try client.reply()
                        #expect(reply.status == 400, "\(what), \(before), \(behind)")
                        #expect(!reply.text.contains("POST"))
                        #expect(try client.rest() == [], "what follows is no request")
                    }
                }
                // As the first line, and byte by byte.
                for message in ["GET / HTTP/1.1\r\n X: a\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\n \r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\n\tHost: a\r\n\r\n"] {
                    let client = try Client(port: server.port)
                    try client.send(message)
                    #expect(try client.reply().status == 400)
                }
                let client = try Client(port: server.port)
                for byte in "GET / HTTP/1.1\r\nHost: a\r\n\(lines.prefix(100))\r\n\r\n".utf8 {
                    guard (try? client.send([byte])) != nil else { break }  // it may be refused before its end
                }
                if let status = try? client.reply().status { #expect(status == 400) }
            }
        }
    }

    /// The library glues in place, rather than moving the name, where a name lies last in its memory: so every size of a head and of a memory.
    @Test("A folded line is refused wherever it lies in the memory", arguments: [1024, 1040, 1100, 2048])
    func foldAtEveryPlace(memory: Int) async throws {
        try await withServer(.init(threads: 1, connectionMemory: memory), respond: Self.echo) { server in
            try await server.withClient { _ in
                let folds = ["A:\n b\n", "A:  \n b\n", "A:   b\n c\n", "Ab:\n c\n d\n", "A:\n \n"]
                for padding in stride(from: 0, to: memory * 3 / 4, by: 1) {
                    let fold = folds[padding % folds.count]
                    let client = try Client(port: server.port)
                    try client.send("GET / HTTP/1.1\nHost: a\nX:" + String(repeating: "x", count: padding) + "\n\(fold)\n")
                    let reply = try client.reply()
                    #expect(reply.status == 400 || reply.status == 431, "\(padding): \(reply.text)")
                }
            }
        }
    }

    @Test("Heads by chance: what has a folded line is refused, what has none is told as it was sent", arguments: 0..<8)
    func fuzz(seed: UInt64) async throws {
        try await withServer(.init(threads: 1, connectionMemory: 4096), respond: Self.echo) { server in
            try await server.withClient { _ in
                var chance = Chance(seed: seed)
                let pieces = [
                    "\r\n", "\n", "\r\n", "\n", " ", "\t", ":", ": ", "a", "b", "Authorization", "tion", "Cookie", "a=b; c=d", "chunked", "\u{0}", "\r", "\r\nX: ", "\r\nX: y",
                    "\nY:", String(repeating: "z", count: 40),
                ]
                for _ in 0..<250 {
                    let end = ["\r\n", "\n"].randomElement(using: &chance)!
                    let lines = "A: b" + (0..<Int.random(in: 1...12, using: &chance)).map { _ in pieces.randomElement(using: &chance)! }.joined()
                    let head = "GET / HTTP/1.1\(end)Host: a\(end)\(lines)\(end)\(end)"
                    let client = try Client(port: server.port)
                    try client.send(head)
                    let reply = try client.reply()
                    let expected = Self.fields(of: head)
                    if reply.status == 200 {
                        let text = "GET / \((expected ?? []).map { "\($0.0)=\($0.1)" }) 0"
                        #expect(expected != nil && reply.text == text, "\(head.debugDescription): \(reply.text)")
                    } else {
                        #expect(reply.status == 400, "\(head.debugDescription): \(reply.text)")
                    }
                }
            }
        }
    }

    /// The fields of a head as RFC 9112 has them; nil if it has to be refused.
    private static func fields(of head: String) -> [(String, String)]? {
        var fields: [(String, String)] = []
        for var line in head.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).dropFirst() {
            // libmicrohttpd makes zeros of both, so that a zero in the place of a CR is one; it can't hide anything.
            while line.last == UInt8(ascii: "\r") || line.last == 0 { line = line.dropLast() }
            if line.isEmpty { return fields }
            guard let colon = line.firstIndex(of: UInt8(ascii: ":")), HTTPHeaders.isToken(line[..<colon]) else { return nil }
            var value = line[colon...].dropFirst().drop { $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\t") }
            while value.last == UInt8(ascii: " ") || value.last == UInt8(ascii: "\t") { value = value.dropLast() }
            fields.append((String(decoding: line[..<colon], as: UTF8.self), String(decoding: value, as: UTF8.self)))
        }
        return nil
    }

    @Test(
        "A line without a name does not end a head, nor the trailers",
        arguments: [
            "GET / HTTP/1.1\r\nHost: a\r\n:\r\n", "GET / HTTP/1.1\r\nHost: a\r\n:\n", "GET / HTTP/1.1\nHost: a\n:\n", "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n",
            "GET / HTTP/1.1\r\n:\r\nHost: a\r\n", "GET / HTTP/1.1\r\nHost: a\r\nX:\r\n:\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: a\r\n:\r\n", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\nX: a\n:\n",
        ])
    func nameless(_ message: String) async throws {
        try await withServer(respond: Self.echo) { server in
            try await server.withClient { client in
                try client.send(message + "GET /second HTTP/1.1\r\nHost: a\r\n\r\n")
                #expect(try client.reply().status == 400)
                #expect(try client.rest() == [])
            }
        }
    }

    @Test(
        "A folded trailer is refused",
        arguments: [
            "X: a\r\n b\r\n", "X: a\r\n\tb\r\n", " X: a\r\n", "\tX: a\r\n", "Authoriza: T\r\n tion\r\n", "X: a\r\n \r\n", "Content-: 5\r\n Length\r\n", "X:\r\n b\r\n", "X: a\n b\n",
            "X:    a\r\n b\r\n", "X: a\r\n b\r\n c\r\n", "X: a\r\n \u{0}\r\n", "A: b\r\nX: a\r\n b\r\n", "X: a\r\n b\r\nA: b\r\n", "X: a\r\n \(String(repeating: "b", count: 2000))\r\n",
        ])
    func foldedTrailer(_ trailers: String) async throws {
        try await withServer(respond: Self.echo) { server in
            try await server.withClient { _ in
                for body in ["", "1\r\nx\r\n", "3e8\r\n\(String(repeating: "x", count: 1000))\r\n"] {
                    let client = try Client(port: server.port)
                    try client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\(body)0\r\n\(trailers)\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n")
                    let reply = try client.reply()
                    #expect(reply.status == 400, "\(trailers.debugDescription): \(reply.text)")
                    #expect(try client.rest() == [])
                }
            }
        }
    }

    @Test(
        "Trailers are dropped, and behind a chunked body comes no other request, whatever its lines end with",
        arguments: [
            "1\r\nx\r\n0\r\n\r\n", "1\r\nx\r\n0\r\nX: a\r\nY:b \r\nZ:\r\n\r\n", "1;a=b\r\nx\r\n0\r\nX: \t a\r\n\r\n",
            "1\nx\n0\n\n", "1;\nx\r\n0\r\n\r\n", "1\r\nx\n0\r\n\r\n", "1\r\nx\r\n0\n\r\n", "1\r\nx\r\n0\r\nX: a\n\n",
        ])
    func chunked(_ body: String) async throws {
        try await withServer(respond: Self.echo) { server in
            try await server.withClient { client in
                try client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\(body)GET /second HTTP/1.1\r\nHost: a\r\n\r\n")
                let reply = try client.reply()
                #expect(reply.text == "POST / [\"Host=a\", \"Transfer-Encoding=chunked\"] 1")
                #expect(reply.headers["Connection"] == "close")
                #expect(try client.rest() == [])
            }
        }
    }

    @Test(
        "Blanks behind a value are no part of it",
        arguments: [
            ("GET / HTTP/1.1\r\nHost: a\t\r\n\r\n", "GET / [\"Host=a\"] 0"), ("GET / HTTP/1.1\r\nHost: \t a b \t \r\nX: \t\r\n\r\n", "GET / [\"Host=a b\", \"X=\"] 0"),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5 \t\r\n\r\nhello", "POST / [\"Host=a\", \"Content-Length=5\"] 5"),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\t\r\n\r\n1\r\nx\r\n0\r\n\r\n", "POST / [\"Host=a\", \"Transfer-Encoding=chunked\"] 1"),
        ])
    func blanksBehind(_ message: String, _ text: String) async throws {
        try await withServer(respond: Self.echo) { server in
            try await server.withClient { client in
                try client.send(message)
                #expect(try client.reply().text == text)
                let waiting = try Client(port: server.port)
                try waiting.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue \r\n\r\n")
                #expect(try waiting.head().status == 100)
            }
        }
    }

    @Test("A later version of HTTP/1 is answered as HTTP/1.1 (RFC 9110 section 2.5)", arguments: ["1.2", "1.9"])
    func laterVersion(_ version: String) async throws {
        try await withServer(respond: Self.echo) { server in
            try await server.withClient { client in
                for _ in 0..<2 {
                    try client.send("GET / HTTP/\(version)\r\nHost: a\r\n\r\n")
                    #expect(try client.reply().text == "GET / [\"Host=a\"] 0")
                }
            }
        }
    }

    @Test("A first line without a blank, or that begins with one, closes the connection", arguments: ["GET\r\n\r\n", " GET / HTTP/1.1\r\nHost: a\r\n\r\n", "\u{16}\u{3}\u{1}\n"])
    func noRequestLine(_ message: String) async throws {
        try await withServer(respond: Self.echo) { server in
            try await server.withClient { client in
                try client.send(message)
                #expect(try client.rest() == [])
            }
        }
    }

    @Test(
        "Heads that look odd and are not folded are told as they are",
        arguments: [
            "GET / HTTP/1.1\nHost: a\n\n", "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost:a\r\n\r\n", "GET / HTTP/1.1\r\nHost: \t  a\r\n\n",
            "GET  / HTTP/1.1\r\nHost: a\n\r\n",
        ])
    func odd(_ message: String) async throws {
        try await withServer(respond: Self.echo) { server in
            let text = try await server.withClient { client in
                try client.send(message)
                return try client.reply().text
            }
            #expect(text == "GET / [\"Host=a\"] 0")
        }
    }

    // MARK: Sizes

    /// All of `count` bytes.
    private static func head(_ kind: String, _ count: Int) -> String {
        func filled(_ head: String, _ piece: (Int) -> String, _ tail: String) -> String {
            var text = head
            var index = 0
            while text.utf8.count + piece(index).utf8.count + tail.utf8.count <= count { (text, index) = (text + piece(index), index + 1) }
            return text + String(repeating: "x", count: count - text.utf8.count - tail.utf8.count) + tail
        }
        return switch kind {
        case "query": filled("GET /?a=b", { "&p\($0)=v" }, " HTTP/1.1\r\nHost: a\r\n\r\n")
        case "tiny query": filled("GET /?a", { _ in "&a" }, " HTTP/1.1\r\nHost: a\r\n\r\n")
        case "path": filled("GET /", { _ in "a/" }, " HTTP/1.1\r\nHost: a\r\n\r\n")
        case "cookies": filled("GET / HTTP/1.1\r\nHost: a\r\nCookie: a=b", { "; n\($0)=v" }, "\r\n\r\n")
        case "tiny cookies": filled("GET / HTTP/1.1\r\nHost: a\r\nCookie: a", { _ in ";a" }, "\r\n\r\n")
        case "cookie fields": filled("GET / HTTP/1.1\r\nHost: a\r\n", { "Cookie: n\($0)=\(String(repeating: "v", count: 150))\r\n" }, "X:\r\n\r\n")
        default: filled("GET / HTTP/1.1\r\nHost: a\r\nX: ", { _ in "y" }, "\r\n\r\n")
        }
    }

    @Test("Heads of up to 16 KiB get an answer, larger ones 431 at once", arguments: ["query", "tiny query", "path", "cookies", "tiny cookies", "cookie fields", "one field"])
    func sizes(_ kind: String) async throws {
        try await withServer(respond: { .text("\($0.query.count)") }) { server in
            try await server.withClient { client in
                for size in [1000, 3900, 8000, 12_000, 16_000, 16_384] {
                    let head = Self.head(kind, size)
                    try client.send(head)
                    let reply = try client.reply()
                    #expect(reply.status == 200, "\(kind), \(size): \(reply.text)")
                    #expect(reply.text == "\(head.utf8.split(separator: UInt8(ascii: " "))[1].count { $0 == UInt8(ascii: "?") || $0 == UInt8(ascii: "&") })")
                }
                for size in [16_385, 20_000, 33_000, 100_000] {
                    let large = try Client(port: server.port)
                    try large.send(Self.head(kind, size))
                    let reply = try large.reply()
                    #expect(reply.status == 431, "\(kind), \(size)")
                    #expect(reply.text == "head too large, at most 16384")
                    #expect(try large.rest() == [])
                }
            }
        }
    }

    @Test("Many fields get an answer, too many 431")
    func fields() async throws {
        try await withServer(respond: { .text("\($0.headers.count)") }) { server in
            try await server.withClient { client in
                for count in [10, 100, 191] {
                    try client.send("GET / HTTP/1.1\r\nHost: a\r\n" + String(repeating: "a: b; c=d; e=f; g=h\r\n", count: count) + "\r\n")
                    #expect(try client.reply().text == "\(count + 1)")
                }
                for count in [192, 250, 500, 1000, 3200] {
                    let many = try Client(port: server.port)
                    try many.send("GET / HTTP/1.1\r\nHost: a\r\n" + String(repeating: "a:b\r\n", count: count) + "\r\n")
                    #expect(try many.reply().status == 431, "\(count)")
                }
            }
        }
    }

    @Test("A head without an end is refused as soon as it is too large")
    func endless() async throws {
        try await withServer(respond: { _ in .text("handled") }) { server in
            try await server.withClient { _ in
                for head in ["GET / HTTP/1.1\r\nHost: a\r\nX: ", "GET /", "", "GET / HTTP/1.1\r\n" + String(repeating: "a:\r\n", count: 1000)] {
                    let client = try Client(port: server.port)
                    try client.send(head + String(repeating: "a", count: 40_000))
                    let reply = try client.reply()
                    #expect(reply.status == 431)
                    #expect(reply.text == "head too large, at most 16384")
                }
            }
        }
    }

    // MARK: Targets

    @Test("An absolute target works, and its host counts")
    func absolute() async throws {
        try await withServer(respond: Self.echo) { server in
            try await server.withClient { client in
                for (head, expected) in [
                    ("GET http://b:1/x?y=z HTTP/1.1\r\nHost: a\r\n\r\n", "GET /x [\"Host=b:1\"] 0"),
                    ("GET http://b HTTP/1.1\r\nHost:\r\n\r\n", "GET / [\"Host=b\"] 0"),
                    ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * [\"Host=a\"] 0"),
                    ("GET /x%2fy HTTP/1.1\r\nHost: a\r\n\r\n", "GET /x%2fy [\"Host=a\"] 0"),
                ] {
                    try client.send(head)
                    #expect(try client.reply().text == expected)
                }
                for head in ["GET http://b/ HTTP/1.1\r\n\r\n", "GET http://b/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "GET x HTTP/1.1\r\nHost: a\r\n\r\n", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"] {
                    let other = try Client(port: server.port)
                    try other.send(head)
                    #expect(try other.reply().status == 400)
                    #expect(other.isClosedByServer())
                }
            }
        }
    }
}

/// Numbers that are the same each time.
struct Chance: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) {
        state = seed &* 0x9E37_79B9_7F4A_7C15 &+ 0x1234_5678_9ABC_DEF1
    }

    /// SplitMix64.
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}
