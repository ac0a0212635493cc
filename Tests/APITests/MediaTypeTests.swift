import Testing

@testable import API
@testable import Jobs

@Suite struct MediaTypeTests {
    @Test(
        "How content is delivered",
        arguments: [
            // Shown, under its own name.
            ("image/png", true, "image/png"), ("IMAGE/Png", true, "image/png"), ("image/jpeg", true, "image/jpeg"), ("image/webp", true, "image/webp"),
            ("image/gif", true, "image/gif"), ("image/avif", true, "image/avif"), ("video/mp4", true, "video/mp4"), ("video/webm; codecs=\"vp9\"", true, "video/webm; codecs=\"vp9\""),
            ("audio/flac", true, "audio/flac"), ("audio/ogg;codecs=opus", true, "audio/ogg;codecs=opus"), ("text/plain; charset=utf-8", true, "text/plain; charset=utf-8"),
            ("application/json", true, "application/json"),
            // Saved, under its own name: nothing in it can run where that name counts.
            ("image/svg+xml", false, "image/svg+xml"), ("application/octet-stream", false, "application/octet-stream"), ("application/zip", false, "application/zip"),
            ("model/gltf-binary", false, "model/gltf-binary"), ("model/gltf+json", false, "model/gltf+json"), ("application/pdf", false, "application/pdf"), ("text/csv", false, "text/csv"),
            ("x/y", false, "x/y"), ("image/unheard-of", false, "image/unheard-of"),
            // Saved, as bytes: a document, a script or a style sheet to some browser.
            ("text/html", false, nil), ("text/html; charset=utf-7", false, nil), ("Text/HTML", false, nil), ("application/xhtml+xml", false, nil), ("text/xml", false, nil),
            ("application/xml", false, nil), ("text/xsl", false, nil), ("application/xslt+xml", false, nil), ("image/x+xml", false, nil), ("video/mp4+xml", false, nil),
            ("application/rdf+xml", false, nil), ("application/mathml+xml", false, nil), ("application/vnd.mozilla.xul+xml", false, nil), ("text/css", false, nil),
            ("text/javascript", false, nil), ("application/x-javascript", false, nil), ("text/ecmascript", false, nil), ("text/jscript", false, nil), ("text/livescript", false, nil),
            ("multipart/x-mixed-replace; boundary=a", false, nil), ("multipart/related", false, nil), ("message/rfc822", false, nil),
        ] as [(String, Bool, String?)])
    func delivered(_ text: String, _ isShown: Bool, _ delivered: String?) throws {
        let type = try #require(MediaType(text))
        #expect(type.isShown == isShown)
        #expect(type.delivered.description == delivered ?? "application/octet-stream")
    }

    @Test(
        "What is no media type",
        arguments: [
            "", "image", "image/", "/png", "image/png/x", "image /png", " image/png", "*", "image/png;", "image/png; ", "image/png;a", "image/png;a=", "image/png;=b", "image/png;a=b c",
            // Two values to a browser, of which the last counts.
            "image/png, text/html", "image/png;a=b, text/html", "image/png;a=b,text/html", "image/png;a=\"b, text/html\"",
            // Where a quote ends is not agreed on.
            "image/png;a=\"b", "image/png;a=\"b\\\", text/html\"", "image/png;a=\"b\"c", "image/png;a=\"b\"; text/html",
            "image/png\r\nX: y", "image/png\n", "image/png\u{0}", "image/png;a=\u{1}", "image/png;a=\"\u{7F}\"", "image/pñg", "image/png;a=ä", "image/png\u{301}",
            "image/" + String(repeating: "x", count: 250),
        ])
    func malformed(_ text: String) {
        #expect(MediaType(text) == nil)
    }
}
