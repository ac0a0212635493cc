import Testing

@testable import Jobs

struct AssetPathTests {
    @Test(arguments: [
        ("photo.png", "photo.png"), ("input/photo.png", "photo.png"), ("faces/photo.png", "faces/photo.png"), ("input/a/b.png", "a/b.png"),
        ("Bild mit Ä und Leerzeichen.png", "Bild mit Ä und Leerzeichen.png"), ("..photo.png", "..photo.png"), ("input", "input"), ("loras.png", "loras.png"),
    ])
    func usable(path: String, expected: String) throws {
        #expect(try AssetPath.checked(path) == expected)
    }

    @Test(arguments: [
        "", "/", "/etc/passwd", "a/", "../photo.png", "a/../b.png", "input/../b.png", "a//b.png", "./a.png", "a\\b.png", "a\u{0}.png", "a\n.png",
        "models/checkpoints/x.safetensors", "checkpoints/x.safetensors", "input/loras/x.safetensors", "custom_nodes/x.py", "photo[output]", "photo.png [input]",
        "../\u{301}photo.png", "/\u{301}tmp/photo.png", "a/\u{301}/../b.png",
        "models/\u{301}x.safetensors", "C:/x.png", "~/x.png", "file:/x.png", "a/.. /x.png", "a\u{85}.png", String(repeating: "a", count: 201), String(repeating: "a/", count: 600) + "b",
    ])
    func unusable(path: String) {
        #expect(throws: AssetPath.Unusable.self) { try AssetPath.checked(path) }
    }
}

struct ContentHashTests {
    private static let digits = String(repeating: "0123456789abcdef", count: 4)

    @Test func readsAndWrites() throws {
        let hash = try #require(ContentHash("blake3:\(Self.digits)"))
        #expect(hash.description == "blake3:\(Self.digits)")
        #expect(ContentHash("blake3:\(Self.digits.uppercased())") == hash)
        #expect(ContentHash(digest: (0..<32).map { UInt8($0) }).description == "blake3:" + (0..<32).map { $0 < 16 ? "0" + String($0, radix: 16) : String($0, radix: 16) }.joined())
    }

    @Test(arguments: ["", "blake3:", "blake3:abc", "sha256:\(digits)", "blake3:\(digits)0", "blake3:\(String(digits.dropLast()))g", digits, "BLAKE3:\(digits)"])
    func refuses(text: String) {
        #expect(ContentHash(text) == nil)
    }
}
