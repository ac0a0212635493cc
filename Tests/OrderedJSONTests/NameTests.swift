import OrderedJSON
import Testing

@Suite struct NameTests {
    /// One letter with so many marks, in an order that is not the canonical one: to compare or hash it by canonical equivalence takes minutes.
    private static let letter = "a" + String(repeating: "\u{315}\u{300}", count: 300_000)

    @Test("Texts that only look the same are two names", .timeLimit(.minutes(5)))
    func bytes() throws {
        let (composed, decomposed) = ("\u{E9}", "e\u{301}")
        #expect(Name(composed) != Name(decomposed) && JSON.string(composed) != JSON.string(decomposed))
        #expect(Set([Name(composed), Name(decomposed), Name(composed)]).count == 2)
        #expect([Name("b"), "\u{E9}", "a", "e\u{301}"].sorted() == ["a", "b", "e\u{301}", "\u{E9}"])
        let text = "{\"\u{E9}\":1,\"e\u{301}\":2,\"a\":{\"\u{E9}\":3,\"e\u{301}\":4}}"
        let json = try JSON(parsing: text)
        #expect(json.text.hasSameBytes(as: text) && json.object?.count == 2 + 1 && json[composed] == 1 && json[decomposed] == 2)
        #expect(json["a"]?.object?.keys.map { Array($0.utf8) } == [Array(composed.utf8), Array(decomposed.utf8)])
        // The last value of the same name, at the first one's place.
        #expect(try JSON(parsing: #"{"a":1,"b":2,"a":3}"#).text == #"{"a":3,"b":2}"#)
    }

    @Test("The cost of a name grows with its length and no faster", .timeLimit(.minutes(5)))
    func cost() throws {
        let (name, other) = (Self.letter, Self.letter + "\u{300}")
        let json = try JSON(parsing: JSON.object([name: 1, other: .string(name), "b": .array([.string(name)])]).encoded())
        #expect(json.object?.count == 3 && json[name] == 1 && json[other] == .string(name) && json[other] != .string(other) && json[other] != "x")
        #expect(json == json && Set([json, json]).count == 1)
        #expect(json.object?.merging([name: 2]) { $1 }[name] == 2)
        #expect(Set([Name(name), Name(other), "a"]).contains(name) && Name(name) < Name(other) && Name(name) != "a")
        #expect(name.excerpt.utf8.count < 210 && name.excerptOfMessage.utf8.count < 210 && (name + " " + name).excerptOfMessage.utf8.count < 4010)
    }

    @Test(
        "Excerpts",
        arguments: [
            ("", ""), ("abc", "abc"), (String(repeating: "x", count: 200), String(repeating: "x", count: 200)),
            (String(repeating: "x", count: 201), String(repeating: "x", count: 197) + "…"),
            (String(repeating: "x", count: 196) + "éaaa", String(repeating: "x", count: 196) + "…"),
            (String(repeating: "x", count: 195) + "\u{1F600}aa", String(repeating: "x", count: 195) + "…"),
        ])
    func excerpts(_ text: String, _ expected: String) {
        #expect(text.excerpt == expected && Substring(text).excerpt == expected && expected.excerpt == expected)
        let message = "Invalid image file: \(text)\nof  node  7."
        #expect(message.excerptOfMessage == "Invalid image file: \(expected)\nof  node  7.")
    }

    @Test("A message is no longer than 4000 bytes, whatever it is made of")
    func messages() {
        let text = String(repeating: "a b\n", count: 10_000)
        #expect(text.excerptOfMessage == String(text.prefix(3997)) + "…" && text.excerptOfMessage.excerptOfMessage == text.excerptOfMessage)
    }
}
