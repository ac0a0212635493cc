import MicroHTTP
import OrderedJSON
import Testing

@testable import API
@testable import Workers

@Suite struct RequestOptionsTests {
    @Test(
        "Accept chooses the form of the answer",
        arguments: [
            (nil, Accept.Answer.json, [], true), ("", .json, [], true), (" ", .json, [], true), ("image/png;x=\"a, video/*;q=1\", */*;q=0.1", .content, ["image/png"], true),
            ("image/png;x=\";q=0\";q=0.5, video/mp4", .content, ["video/mp4", "image/png"], false), ("*/*", .json, [], true), ("application/json", .json, [], true),
            ("image/png", .content, ["image/png"], false), ("image/*", .content, ["image/*"], false),
            ("video/*;q=0.5, image/webp", .content, ["image/webp", "video/*"], false),
            ("image/png, */*;q=0.1", .content, ["image/png"], true), ("application/json, image/png;q=0.5", .json, [], true),
            ("text/event-stream", .events, [], false), ("text/event-stream, */*;q=0.1", .events, [], false),
            ("text/plain", .content, ["text/plain"], false), ("model/gltf-binary", .content, ["model/gltf-binary"], false),
            ("text/html, application/xhtml+xml;q=0, */*;q=0.8", .json, [], true),
        ] as [(String?, Accept.Answer, [String], Bool)])
    func accept(_ header: String?, _ answer: Accept.Answer, _ ranges: [String], _ allowsJSON: Bool) throws {
        let accept = try Accept(Request(headers: header.map { ["Accept": $0] } ?? [:]))
        #expect(accept.answer == answer)
        #expect(accept.ranges.map { "\($0.type)/\($0.subtype)" } == ranges)
        if answer != .events { #expect(accept.allowsJSON == allowsJSON) }
    }

    @Test("What no job can answer with is refused", arguments: ["text/html", "image", "image/png;q=0"])
    func notAcceptable(_ header: String) {
        #expect(throws: APIError.self) { try Accept(Request(headers: ["Accept": header])) }
    }

    @Test(
        "What is no JSON is told by what somebody did",
        arguments: [
            ([0xFF, 0xFE, 0x7B, 0x00, 0x7D, 0x00], nil, "UTF-16"), ([0xFE, 0xFF, 0x00, 0x7B, 0x00, 0x7D], nil, "UTF-16"), ([0x7B, 0x00, 0x7D, 0x00], nil, "-Encoding utf8"),
            ([0x00, 0x7B, 0x00, 0x7D], nil, "UTF-16"), (Array("--x\r\n".utf8), "multipart/form-data; boundary=x", "The body is a form"),
            (Array("--x\r\n".utf8), nil, "The body is not JSON: "), (Array("{".utf8), "multipart/form-data", "The body is a form"),
        ] as [([UInt8], String?, String)])
    func noJSON(_ body: [UInt8], _ contentType: String?, _ words: String) {
        let error = #expect(throws: APIError.self) {
            try Request(headers: contentType.map { ["Content-Type": $0] } ?? [:], body: body).json("Send the workflow.")
        }
        #expect(error?.status == 400 && error?.code == "invalid_json" && error?.message.contains(words) == true, "\(error?.message ?? "")")
    }

    @Test func aByteOrderMarkOfUTF8IsNoFault() throws {
        #expect(try Request(body: [0xEF, 0xBB, 0xBF] + Array("{}".utf8)).json("") == [:])
    }

    @Test(
        "Prefer says how long to block",
        arguments: [
            ("", nil), ("respond-async", .zero), ("wait=5", .seconds(5)), ("wait=0", .zero), ("respond-async, wait=10", .seconds(10)),
            ("return=minimal", nil), ("wait=\"3\"", .seconds(3)), ("Wait=2; foo=bar", .seconds(2)), (";", nil), ("=", nil), (" ;wait=1, =;=", nil),
            ("foo=\"a, wait=7\", wait=8", .seconds(8)), ("foo=\"a\\\", wait=7\"; x=\"y,z\", wait=9", .seconds(9)), ("foo=\"; wait=1, respond-async", nil), (";wait=1", nil), (",,wait=2,", .seconds(2)),
        ] as [(String, Duration?)])
    func prefer(_ header: String, _ expected: Duration?) throws {
        #expect(try Prefer(Request(headers: ["Prefer": header])).wait == expected)
    }

    @Test(
        "Of Prefer is said to be applied what is known",
        arguments: [
            ("", nil), ("return=minimal", nil), ("wait=5", "wait=5"), ("respond-async, wait=10", "respond-async, wait=10"), ("RESPOND-ASYNC;x=1", "respond-async"),
            ("wait=\"03\", return=minimal", "wait=3"),
        ] as [(String, String?)])
    func applied(_ header: String, _ expected: String?) throws {
        #expect(try Prefer(Request(headers: ["Prefer": header])).applied == expected)
    }

    @Test("Whole numbers are checked", arguments: [("7", 7), ("-100", -100), ("100", 100), ("101", nil), ("1.0", nil), ("x", nil), ("", nil), (nil, 50)] as [(String?, Int?)])
    func integer(_ text: String?, _ expected: Int?) {
        let request = Request(query: text.map { [(name: "n", value: $0)] } ?? [])
        let value = try? request.integer("n", default: 50, in: -100...100)
        #expect(value == expected)
    }

    @Test func theFirstWaitCounts() throws {
        #expect(try Prefer(Request(headers: ["Prefer": "wait=1, wait=5"])).wait == .seconds(1))
    }

    @Test func oneKeyIsEnough() throws {
        var headers: HTTPHeaders = ["Idempotency-Key": "a"]
        #expect(try Request(headers: headers).idempotencyKey() == "a")
        headers.add(name: "Idempotency-Key", value: "b")
        #expect(throws: APIError.self) { try Request(headers: headers).idempotencyKey() }
    }

    @Test("A wait that is none is refused", arguments: ["wait", "wait=", "wait=abc", "wait=-1", "wait=1.5", "wait=99999999", "wait=\"1;2\"", "wait=\"1,2\""])
    func badPrefer(_ header: String) {
        #expect(throws: APIError.self) { try Prefer(Request(headers: ["Prefer": header])) }
    }

    @Test(
        "Ranges",
        arguments: [
            (nil, .whole), ("bytes=0-9", .part(0..<10)), ("bytes=5-", .part(5..<100)), ("bytes=-10", .part(90..<100)), ("bytes=90-200", .part(90..<100)),
            ("bytes=-200", .part(0..<100)), ("bytes=0-0", .part(0..<1)), ("bytes=0-1,5-6", .whole), ("items=0-5", .whole), ("Bytes=0-9", .part(0..<10)),
        ] as [(String?, ByteRange)])
    func range(_ header: String?, _ expected: ByteRange) throws {
        #expect(try ByteRange(header, size: 100) == expected)
    }

    @Test(
        "Ranges that cannot be served",
        arguments: [
            ("bytes=100-", 416), ("bytes=200-300", 416), ("bytes=-0", 416), ("bytes=9-5", 400), ("bytes=a-b", 400), ("bytes=", 400), ("bytes=-", 400),
        ])
    func badRange(_ header: String, _ status: Int) {
        #expect {
            _ = try ByteRange(header, size: 100)
        } throws: { ($0 as? APIError)?.status == status }
    }

    @Test("Query values are checked", arguments: ["timeout=abc", "timeout=0", "timeout=-5", "timeout=inf", "timeout=nan", "timeout=0x10", "timeout=1e3"])
    func badSeconds(_ pair: String) {
        let parts = pair.split(separator: "=").map(String.init)
        #expect(throws: APIError.self) { try Request(query: [(name: parts[0], value: parts[1])]).seconds("timeout") }
    }

    @Test("Last-Event-ID: the header wins", arguments: [("7", "3", 7), (nil, "3", 3), (nil, nil, nil), ("", nil, nil)] as [(String?, String?, UInt64?)])
    func lastEventID(_ header: String?, _ query: String?, _ expected: UInt64?) throws {
        let request = Request(query: query.map { [(name: "last_event_id", value: $0)] } ?? [], headers: header.map { ["Last-Event-ID": $0] } ?? [:])
        #expect(try request.lastEventID() == expected)
    }

    @Test("Last-Event-ID must be a number", arguments: ["x", "-1", "1.5", "99999999999999999999999"])
    func badLastEventID(_ value: String) {
        #expect(throws: APIError.self) { try Request(headers: ["Last-Event-ID": value]).lastEventID() }
    }

    @Test(
        "File names survive",
        arguments: [
            ("a.png", #"filename="a.png""#), ("bé \"q\".png", #"filename="b_ _q_.png"; filename*=UTF-8''b%C3%A9%20%22q%22.png"#),
            ("a\r\nb.png", #"filename="a__b.png"; filename*=UTF-8''a%0D%0Ab.png"#),
        ])
    func filename(_ name: String, _ expected: String) {
        #expect(AssetContent.filename(name) == expected)
    }
}
