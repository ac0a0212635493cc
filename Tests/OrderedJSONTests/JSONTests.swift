import OrderedJSON
import Testing

@Suite struct JSONTests {
    @Test("What is not rewritten comes back byte for byte", arguments: [
        #"{"3":{"seed":18446744073709551615,"cfg":8.0,"a":1.50,"e":1e-05},"1":[]}"#,
        #"{"z":1,"a":{"y":null,"b":[true,false,-0,{}]}}"#,
        #""quote \" backslash \\ tab \t newline \n bell \u0007 ü 😀""#,
        "[]", "0", "-12.5E+3", "null",
    ])
    func roundTrip(_ text: String) throws {
        #expect(try JSON(parsing: text).text == text)
    }

    @Test("Escapes are read", arguments: [
        (#""\ud83d\ude00""#, "😀"), (#""\u00fc\/\b\f""#, "ü/\u{8}\u{c}"), ("\"\u{FEFF}x\"", "\u{FEFF}x"),
    ])
    func escapes(_ text: String, _ expected: String) throws {
        #expect(try JSON(parsing: text) == .string(expected))
    }

    @Test("Faults are named with their place", arguments: [
        ("", "there is no JSON value", 1, 1),
        ("{\"a\": 1,\n \"b\" 2}", "expected ':' after a member name", 2, 6),
        ("[1,]", "unexpected character", 1, 4),
        ("[1 2]", "expected ',' or ']' in a list", 1, 4),
        ("{'a': 1}", "expected a member name in double quotes", 1, 2),
        ("01", "a number may not start with 0", 1, 2),
        ("1.", "a digit is missing in a number", 1, 3),
        ("\"a\nb\"", "a control character in a string must be escaped", 1, 3),
        ("\"abc", "a string is not closed", 1, 5),
        (#""\x""#, "an unknown escape in a string", 1, 3),
        (#""\ud800""#, "an unpaired surrogate in a string", 1, 8),
        ("NaN", "unexpected character", 1, 1),
        ("{} {}", "there is more text after the JSON value", 1, 4),
        ("tru", "unexpected character", 1, 1),
    ])
    func faults(_ text: String, _ reason: String, _ line: Int, _ column: Int) {
        #expect {
            _ = try JSON(parsing: text)
        } throws: { error in
            guard let error = error as? JSONSyntaxError else { return false }
            return error.reason == reason && error.line == line && error.column == column
        }
    }

    @Test func depthIsBounded() throws {
        let deep = String(repeating: "[", count: 100_000)
        #expect(throws: JSONSyntaxError.self) { try JSON(parsing: deep) }
        let allowed = String(repeating: "[", count: JSON.maximumDepth) + String(repeating: "]", count: JSON.maximumDepth)
        #expect(try JSON(parsing: allowed).text == allowed)
    }

    @Test func invalidUTF8IsAnError() {
        #expect(throws: JSONSyntaxError.self) { try JSON(parsing: [0x22, 0xFF, 0x22]) }
    }

    @Test func pythonsNumbersAreReadLenientlyAndWrittenAsNull() throws {
        let value = try JSON(parsing: #"{"number": NaN, "x": [Infinity, -Infinity], "s": "\ud800"}"#, lenient: true)
        #expect(value.text == "{\"number\":null,\"x\":[null,null],\"s\":\"\u{FFFD}\"}")
    }

    @Test("The length of the text is known without the text", arguments: [
        "null", "true", "false", "0", "18446744073709551615", #""""#, #""é\"\\\n\r\t\u0007\u001f\u007f😀""#, "[]", "[1]", "[1,[],{}]", "{}", #"{"a":1}"#,
        #"{"a\"\n":[null,true,{"b":"c"}],"d":-1.50e+3,"\u0000":"\u0000"}"#, #"[NaN,{"x":-Infinity}]"#,
    ])
    func length(_ text: String) throws {
        let value = try JSON(parsing: text, lenient: true)
        let length = value.encoded().count
        #expect(!value.isLonger(than: length) && !value.isLonger(than: .max))
        for limit in 0..<length { #expect(value.isLonger(than: limit), "\(limit)") }
    }

    @Test func lastOfEqualNamesWins() throws {
        #expect(try JSON(parsing: #"{"a":1,"b":2,"a":3}"#).text == #"{"a":3,"b":2}"#)
    }

    @Test("Numbers convert when they can", arguments: [("8.0", 8), ("1e3", 1000), ("-7", -7), ("1.5", nil), ("18446744073709551615", nil)])
    func integers(_ literal: String, _ expected: Int?) {
        #expect(JSONNumber(literal: literal).int == expected)
    }

    @Test("Doubles are written as JSON", arguments: [(0.5, "0.5"), (1, "1"), (1e300, "1e+300"), (.nan, "null"), (-.infinity, "null")])
    func doubles(_ value: Double, _ expected: String) {
        #expect(JSON(value).text == expected)
    }
}
