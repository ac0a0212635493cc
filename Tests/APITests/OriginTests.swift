import ComfyUI
import Testing

@testable import API

@Suite struct OriginTests {
    @Test(
        "Host and port",
        arguments: [
            ("localhost", "localhost", nil), ("LocalHost:8189", "localhost", 8189), ("bridge.example.com.", "bridge.example.com", nil),
            ("bridge.example.com.:80", "bridge.example.com", 80), ("127.0.0.1:1", "127.0.0.1", 1), ("[::1]", "::1", nil), ("[::1]:65535", "::1", 65535),
            ("[0:0:0:0:0:0:0:1]:8189", "::1", 8189), ("[FE80::A]", "fe80::a", nil), ("a_b-c.example", "a_b-c.example", nil), ("name:", "name", nil),
        ] as [(String, String, Int?)])
    func authority(_ text: String, _ host: String, _ port: Int?) throws {
        let authority = try #require(Authority(text))
        #expect(authority.host == host)
        #expect(authority.port == port)
    }

    @Test(
        "What is no host",
        arguments: [
            "", ":80", ".", "a..b", ".a", "a:b", "a:80:80", "a:65536", "a:-1", "a:+1", "::1", "[::1", "[::1]80", "[localhost]", "[127.0.0.1]", "[]", "a b", "a/b", "ä.example",
            "user@host", "a%20b", "a?b", "a#b", "a\u{0}b",
        ])
    func noAuthority(_ text: String) {
        #expect(Authority(text) == nil)
    }

    @Test(
        "One origin in two spellings",
        arguments: [
            ("http://a.example", "HTTP://A.Example:80"), ("https://a.example", "https://a.example.:443"), ("http://[::1]:3000", "http://[0::1]:3000"),
            ("tauri://localhost", "tauri://localhost"), ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ])
    func sameOrigin(_ one: String, _ other: String) throws {
        #expect(try #require(Origin(one)) == #require(Origin(other)))
    }

    @Test(
        "Two origins",
        arguments: [
            ("http://a.example", "https://a.example"), ("http://a.example", "http://a.example:8080"), ("http://a.example", "http://b.example"),
            ("http://a.example", "http://a.example.evil.example"), ("http://localhost", "http://127.0.0.1"),
        ])
    func otherOrigin(_ one: String, _ other: String) throws {
        #expect(try #require(Origin(one)) != #require(Origin(other)))
    }

    @Test(
        "What is no origin",
        arguments: [
            "null", "", "*", "a.example", "http:a.example", "http://", "http:///x", "http://a.example/", "http://a.example/path", "http://a.example?q", "://a.example",
            "1http://a.example", "http ://a.example", "http://user@a.example", "http://a.example http://b.example", "http://a.example:port", "ht\u{301}tp://a.example",
        ])
    func noOrigin(_ text: String) {
        #expect(Origin(text) == nil)
    }

    @Test(
        "The origin of a URL",
        arguments: [
            ("https://a.example/comfy", "https://a.example"), ("http://a.example:8080", "http://a.example:8080"), ("https://a.example?x", "https://a.example"),
        ])
    func ofURL(_ url: String, _ origin: String) throws {
        #expect(try #require(Origin(ofURL: url)) == #require(Origin(origin)))
    }

    @Test("URLs without one", arguments: ["ftp://a.example/", "a.example", "https:///x", "https://user:pass@a.example/"])
    func noURL(_ url: String) {
        #expect(Origin(ofURL: url) == nil)
    }

    @Test(
        "The page's own host",
        arguments: [
            ("http://127.0.0.1:8189", "127.0.0.1:8189", true), ("http://a.example", "a.example", true), ("http://a.example", "A.example.:80", true),
            // A proxy ended TLS, and passed on the host.
            ("https://a.example", "a.example", true), ("https://a.example:8443", "a.example:8443", true), ("http://[::1]:8189", "[::1]:8189", true),
            ("http://127.0.0.1:3000", "127.0.0.1:8189", false), ("http://localhost:8189", "127.0.0.1:8189", false), ("https://a.example", "a.example:80", false),
            ("http://evil.example", "a.example", false), ("http://a.example:8189", "a.example", false), ("app://a.example", "a.example:80", false),
        ])
    func own(_ origin: String, _ host: String, _ isOwn: Bool) throws {
        #expect(try #require(Origin(origin)).isOrigin(ofHost: #require(Authority(host))) == isOwn)
    }
}
