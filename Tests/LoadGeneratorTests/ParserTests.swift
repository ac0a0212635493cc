import Foundation
import PreviewStamp
import Testing

@testable import comfy_bridge_load

@Suite struct HTTPResponseParserTests {
    @Test(arguments: [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", ["200", "hello", "end"]),
        ("HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ["204", "end", "200", "end"]),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nA;x=1\r\n, world!!!\r\n0\r\n\r\n", ["200", "hello, world!!!", "end"]),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", ["200", "a", "end"]),
        ("HTTP/1.0 200 OK\r\n\r\nuntil the end", ["200", "until the end", "end"]),
    ])
    func readsAnswersHoweverTheyAreCut(_ text: String, _ expected: [String]) throws {
        for size in 1...text.utf8.count { #expect(try pieces(text, size) == expected, "\(size)") }
    }

    @Test(arguments: [
        "nonsense\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
    ])
    func refusesWhatIsNoAnswer(_ text: String) {
        #expect(throws: ProtocolViolation.self) { try pieces(text, 7) }
    }

    private func pieces(_ text: String, _ size: Int) throws -> [String] {
        var parser = HTTPResponseParser(), pieces: [String] = [], body = ""
        let handle = { (piece: HTTPResponseParser.Piece) in
            switch piece {
            case .head(let head): pieces.append("\(head.status)")
            case .body(let bytes): body += String(decoding: bytes, as: UTF8.self)
            case .end:
                if !body.isEmpty { pieces.append(body) }
                body = ""
                pieces.append("end")
            }
        }
        try text.inPieces(of: size) { try parser.parse($0, handle) }
        try parser.close(handle)
        return pieces
    }
}

@Suite struct EventStreamParserTests {
    @Test(arguments: [
        ("data: a\n\n", ["||a"]),
        ("id: 7\nevent: status\ndata: {}\n\n", ["status|7|{}"]),
        ("event:status\r\ndata:a\r\ndata: b\r\n\r\n", ["status||a\nb"]),
        (": heartbeat\ndata: a\n\n: heartbeat\n", [":", "||a", ":"]), (": heartbeat\n\ndata: a\n\n", [":", "||a"]),
        ("retry: 1000\n\nevent: status\n\ndata: a\n\n", ["||a"]),
        ("data: cut", []),
    ])
    func readsEventsHoweverTheyAreCut(_ text: String, _ expected: [String]) throws {
        for size in 1...text.utf8.count {
            var parser = EventStreamParser()
            #expect(try parser.events(text, size, nil) == expected, "\(size)")
        }
    }

    /// Two viewers, whose bytes come in pieces of other sizes.
    @Test(arguments: [1, 13, 640, 641, 4096, 20_000])
    func previewsAreComparedAndChecked(_ size: Int) throws {
        let library = FrameLibrary(size: 5000, isJSON: true)
        let text = try line(number: 3)
        var one = EventStreamParser(), other = EventStreamParser()
        #expect(try one.events(text, 777, library) == ["preview 3"])
        #expect(try other.events(text, size, library) == ["preview 3"])
        let spoilt = try line(number: 3, spoiltByte: 4000)
        #expect(throws: ProtocolViolation.self) { try other.events(spoilt, size, library) }
    }

    @Test(arguments: [(5000, 0, true), (5001, 0, false), (5000, 2000, false)])
    func aWholePreviewIsChecked(_ wanted: Int, _ spoiltByte: Int, _ isRight: Bool) throws {
        let library = FrameLibrary(size: wanted, isJSON: true)
        let text = try line(number: 0, spoiltByte: spoiltByte)
        var parser = EventStreamParser()
        #expect(((try? parser.events(text, 1000, library)) == ["preview 0"]) == isRight)
    }

    private func line(number: Int, spoiltByte: Int = 0) throws -> String {
        var file = try #require(PreviewStamp.template(PreviewJob.smallPicture, size: 5000))
        PreviewStamp(sentAt: 1, number: number).write(into: &file)
        if spoiltByte > 0 { file[spoiltByte] ^= 1 }
        return "event: preview\ndata: {\"node_id\":\"2\",\"data_base64\":\"\(Data(file).base64EncodedString())\"}\n\n"
    }
}

@Suite struct PreviewStampTests {
    @Test(arguments: [400, 404, 4096, 51_200, 65_900, 65_901, 98_800, 1_000_000])
    func aFileHasTheWantedSizeAndItsStamp(_ size: Int) throws {
        var file = try #require(PreviewStamp.template(PreviewJob.smallPicture, size: size))
        let stamp = PreviewStamp(sentAt: .max, number: 9_999_999_999)
        stamp.write(into: &file)
        #expect(file.count == size)
        #expect(PreviewStamp(file) == stamp)
        #expect(PreviewStamp.flaw(in: file, size: size) == nil)
    }

    @Test func aPictureThatIsTooLargeHasNoRoomForAStamp() {
        #expect(PreviewStamp.template(PreviewJob.smallPicture, size: 350) == nil)
        #expect(PreviewStamp(PreviewJob.smallPicture) == nil)
    }
}

extension EventStreamParser {
    fileprivate mutating func events(_ text: String, _ size: Int, _ library: FrameLibrary?) throws -> [String] {
        var events: [String] = []
        try text.inPieces(of: size) { bytes in
            try parse(bytes, library, previews: "preview") { item in
                switch item {
                case .event(let name, let id, let data): events.append("\(name)|\(id ?? "")|\(String(decoding: data, as: UTF8.self))")
                case .preview(let frame, _): events.append("preview \(frame.stamp.number)")
                case .comment: events.append(":")
                }
            }
        }
        return events
    }
}

extension String {
    fileprivate func inPieces(of size: Int, _ handle: (UnsafeRawBufferPointer) throws -> Void) rethrows {
        let bytes = Array(utf8)
        for start in stride(from: 0, to: bytes.count, by: size) {
            try bytes[start..<min(bytes.count, start + size)].withUnsafeBytes { try handle($0) }
        }
    }
}
