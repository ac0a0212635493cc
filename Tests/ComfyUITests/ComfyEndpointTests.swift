@testable import ComfyUI
import Testing

@Suite struct ComfyEndpointTests {
    @Test(arguments: [
        ("http://127.0.0.1:8188", "http://127.0.0.1:8188", "127.0.0.1:8188"),
        ("http://127.0.0.1:8188/", "http://127.0.0.1:8188", "127.0.0.1:8188"),
        ("  HTTP://ComfyUI.example  ", "http://comfyui.example", "comfyui.example"),
        ("http://a:80", "http://a", "a"),
        ("https://a:443/", "https://a", "a"),
        ("https://a:80", "https://a:80", "a:80"),
        ("ws://a:1/b", "http://a:1/b", "a:1"),
        ("wss://a", "https://a", "a"),
        ("https://a/one/two//", "https://a/one/two", "a"),
        ("http://[::1]:8188/x", "http://[::1]:8188/x", "[::1]:8188"),
        ("http://[fe80::1]", "http://[fe80::1]", "[fe80::1]"),
        ("http://comfy_ui-1.local", "http://comfy_ui-1.local", "comfy_ui-1.local"),
        ("http://user:pass@a:9", "http://a:9", "a:9"),
        // As they were written, not as hosts are compared: jobs are found again by this text.
        ("http://Comfy.example.:81", "http://comfy.example.:81", "comfy.example.:81"),
        ("http://[0:0::1]:81", "http://[0:0::1]:81", "[0:0::1]:81"),
    ])
    func goodOnes(_ url: String, description: String, host: String) throws {
        let endpoint = try ComfyEndpoint(url)
        #expect(endpoint.description == description)
        #expect(endpoint.hostHeader == host)
    }

    @Test func partsAreKept() throws {
        let endpoint = try ComfyEndpoint("wss://u%20x:p%3Aw%40@[::1]:8443/base/")
        #expect(endpoint.scheme == .https && endpoint.host == "::1" && endpoint.port == 8443 && endpoint.basePath == "/base")
        #expect(endpoint.authorization == "Basic dSB4OnA6d0A=")  // u x:p:w@
        #expect(endpoint.target("/ws", query: [("clientId", "a b&c=ä")]) == "/base/ws?clientId=a%20b%26c%3D%C3%A4")
        #expect(endpoint.url("/queue") == "https://[::1]:8443/base/queue")
        #expect(try ComfyEndpoint("http://a").authorization == nil)
        #expect(try ComfyEndpoint("http://a").port == 80)
        #expect(try ComfyEndpoint("http://u@a").authorization == "Basic dTo=")
    }

    @Test(arguments: [
        ("", "http://"), ("127.0.0.1:8188", "http://"), ("ftp://a", "http or https"), ("http://", "host is missing"), ("http://:80", "host is missing"),
        ("http://a:0", "1 to 65535"), ("http://a:65536", "1 to 65535"), ("http://a:x", "1 to 65535"), ("http://a:", "1 to 65535"),
        ("http://a:+5", "1 to 65535"), ("http://::1", "brackets"), ("http://[::1", "close"), ("http://[::1]x", "only a port"),
        ("http://[example]", "IPv6"), ("http://[::z]", "IPv6"), ("http://[127.0.0.1]", "IPv6"), ("http://a..b", "letters"), ("http://.a", "letters"), ("http://a b", "letters"), ("http://ä", "letters"), ("http://a/ä", "percent-encode"),
        ("http://a/?x=1", "leave out"), ("http://a#x", "leave out"), ("http://a?x", "leave out"), ("http://u%zz@a", "percent-encoded"),
        ("http://u%3Ax:p@a", "colon"),
    ])
    func badOnesSayWhatToWrite(_ url: String, hint: String) {
        let error = #expect(throws: ComfyEndpointError.self) { try ComfyEndpoint(url) }
        #expect(error?.description.contains(hint) == true, "\(error?.description ?? "")")
        #expect(error?.description.contains("http://127.0.0.1:8188") == true)
    }

    @Test func passwordsAreNotShown() {
        let error = #expect(throws: ComfyEndpointError.self) { try ComfyEndpoint("http://user:secret@host:99999") }
        #expect(error?.description.contains("secret") == false)
        let early = #expect(throws: ComfyEndpointError.self) { try ComfyEndpoint("ftp://user:secret@host") }
        #expect(early?.description.contains("secret") == false)
    }
}
