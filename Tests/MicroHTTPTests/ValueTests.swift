import Glibc
@testable import MicroHTTP
import Testing

@Suite struct HTTPHeadersTests {
    @Test func namesHaveNoCase() {
        var headers: HTTPHeaders = ["Content-Type": "a", "X": "1"]
        headers.add(name: "x", value: "2")
        #expect(headers["CONTENT-type"] == "a")
        #expect(headers.values("X") == ["1", "2"])
        #expect(headers == ["content-type": "a", "x": "1", "X": "2"])
        #expect(headers != ["content-type": "A", "x": "1", "X": "2"])
        #expect(headers["Y"] == nil)
        #expect(headers.count == 3)
    }

    @Test func setting() {
        var headers: HTTPHeaders = ["A": "1", "B": "2", "a": "3", "C": "4"]
        headers["a"] = "5"
        #expect(headers.map(\.name) == ["a", "B", "C"])
        headers["D"] = "6"
        headers["b"] = nil
        #expect(headers.map(\.value) == ["5", "4", "6"])
        headers["none"] = nil
        #expect(!headers.isEmpty)
    }

    @Test(
        "Only the server frames, and only tokens name",
        arguments: [
            ("X-A", "b", "b"), ("X-A", "a\r\nb", "a  b"), ("X-A", "a\u{0}\u{7F}\u{1B}b", "a   b"), ("X-A", "a\tü", "a\tü"),
            ("content-length", "1", nil), ("TRANSFER-ENCODING", "x", nil), ("a b", "x", nil), ("a:", "x", nil), ("", "x", nil),
            ("ä", "x", nil), ("a\r\nb", "x", nil),
        ])
    func forTheWire(_ name: String, _ value: String, _ expected: String?) {
        var headers = HTTPHeaders()
        headers.add(name: name, value: value)
        #expect(headers.forTheWire[name] == expected)
    }
}

@Suite struct RequestHeadTests {
    @Test(
        "Framing",
        arguments: [
            ([("Host", "a")], .length(0)),
            ([("Host", "a"), ("Content-Length", "12")], .length(12)),
            ([("Host", "a"), ("Content-Length", "12"), ("content-length", "12")], .length(12)),
            ([("Host", "a"), ("Content-Length", "99999999999999999999")], .length(.max)),
            ([("Host", "a"), ("Transfer-Encoding", "Chunked")], .chunked),
            ([("Host", "a"), ("Content-Length", "12"), ("Content-Length", "13")], .malformed("Content-Length is not one number.")),
            ([("Host", "a"), ("Content-Length", "+12")], .malformed("Content-Length is not one number.")),
            ([("Host", "a"), ("Content-Length", "")], .malformed("Content-Length is not one number.")),
            ([("Host", "a"), ("Content-Length", "1, 1")], .malformed("Content-Length is not one number.")),
            ([("Host", "a"), ("Transfer-Encoding", "identity")], .malformed("The only transfer coding understood is \"chunked\".")),
            (
                [("Host", "a"), ("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")],
                .malformed("The only transfer coding understood is \"chunked\".")
            ),
            (
                [("Host", "a"), ("Transfer-Encoding", "chunked"), ("Content-Length", "1")],
                .malformed("Content-Length and Transfer-Encoding contradict each other.")
            ),
            ([], .malformed("There must be one Host header field.")),
            ([("Host", "a"), ("X", "a\rb")], .malformed("There is a control character in the header field X.")),
            ([("Host", "a"), ("Content-Length ", "1")], .malformed("The header field name \"Content-Length \" is not a token.")),
        ] as [([(String, String)], RequestHead.Framing)])
    func framing(_ fields: [(String, String)], _ expected: RequestHead.Framing) {
        var headers = HTTPHeaders()
        for (name, value) in fields { headers.add(name: name, value: value) }
        #expect(RequestHead(method: "POST", path: "/", version: "HTTP/1.1", query: [], headers: headers).framing == expected)
    }

    @Test(
        "Request targets",
        arguments: [
            ("/", "/", [], nil), ("/abc", "/abc", [], nil), ("/%41%62%20", "/Ab ", [], nil), ("/x%2fy%2Fz/%2e", "/x%2fy%2Fz/.", [], nil),
            ("/%2541", "/%41", [], nil), ("/%252f", "/%2f", [], nil), ("/%", "/%", [], nil), ("/%4", "/%4", [], nil), ("/%zz", "/%zz", [], nil), ("/%+1", "/%+1", [], nil),
            ("/a%00b", "/a%00b", [], nil), ("/%C3%bc", "/ü", [], nil), ("/100%", "/100%", [], nil), ("/%%41", "/%A", [], nil), ("/a+b", "/a+b", [], nil),
            ("/a#b?c=d", "/a", [], nil), ("*", "*", [], nil), ("//a//b", "//a//b", [], nil),
            ("/?", "/", [], nil), ("/a?b", "/a", ["b="], nil), ("/a?b=c=d&&e=%2F%26+%2B&=f&g#h", "/a", ["b=c=d", "e=/& +", "=f", "g#h="], nil),
            ("/?a=%00", "/", ["a=%00"], nil), ("/?a?b=c", "/", ["a?b=c"], nil),
            ("http://host/a?b=c", "/a", ["b=c"], "host"), ("HTTPS://host:1", "/", [], "host:1"), ("http://[::1]:80?a=1", "/", ["a=1"], "[::1]:80"),
            ("http://host/http://other/x", "/http://other/x", [], "host"), ("/http://other/", "/http://other/", [], nil),
        ] as [(String, String, [String], String?)])
    func targets(_ text: String, _ path: String, _ query: [String], _ authority: String?) throws {
        let target = try RequestTarget(Array(text.utf8))
        #expect(target.path == path)
        #expect(target.query.map { "\($0.name)=\($0.value)" } == query)
        #expect(target.authority == authority)
    }

    @Test("Request targets that are none", arguments: ["", "a", "host:80", "?a", "*a", "ftp://host/", "http:///a", "http://", "http:/a", "http://u@host/", "/a b", "/a\tb", "/\u{7F}"])
    func noTargets(_ text: String) {
        #expect(throws: RequestTarget.Malformed.self) { try RequestTarget(Array(text.utf8)) }
    }

    @Test func queryValue() {
        let request = Request(query: [("a", "1"), ("b", ""), ("a", "2")])
        #expect(request.queryValue("a") == "1")
        #expect(request.queryValue("b") == "")
        #expect(request.queryValue("A") == nil)
    }
}

@Suite struct RawResponseTests {
    @Test func encoding() {
        let response = Response(
            status: 413, headers: ["Content-Type": "text/plain", "connection": "keep-alive", "Evil": "a\r\nb"], body: .bytes(Array("no".utf8))
        )
        let expected = """
            HTTP/1.1 413 Content Too Large\r
            Date: Thu, 01 Jan 1970 00:00:00 GMT\r
            Connection: close\r
            Content-Type: text/plain\r
            Evil: a  b\r
            Content-Length: 2\r
            \r
            no
            """
        #expect(String(decoding: RawResponse.encode(response, at: 0), as: UTF8.self) == expected)
    }

    @Test(
        "Dates",
        arguments: [
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"), (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_798_761_599, "Thu, 31 Dec 2026 23:59:59 GMT"),
        ])
    func dates(_ time: time_t, _ expected: String) {
        #expect(RawResponse.date(time) == expected)
    }
}
