import OrderedCollections
import OrderedJSON
import Testing

@testable import Simulator

/// Validation beyond the recorded graphs.
@Suite(.timeLimit(.minutes(5)))
struct ValidationTests {
    @Test func aMaskIsNoImage() async throws {
        try await withSimulator { server in
            let answer = try await server.post(
                "/prompt",
                [
                    "prompt": [
                        "1": ["class_type": "LoadImage", "inputs": ["image": "example.png"]],
                        "2": ["class_type": "SaveImage", "inputs": ["images": ["1", 1], "filename_prefix": "x"]],
                    ]
                ])
            #expect(answer.status == 400)
            let error = answer.json["node_errors"]?["2"]?["errors"]?[0]
            #expect(
                error?["type"] == "return_type_mismatch" && error?["details"] == "images, received_type(MASK) mismatch input_type(IMAGE)")
            #expect(error?["extra_info"]?["received_type"] == "MASK" && error?["extra_info"]?["linked_node"] == ["1", 1])
        }
    }

    @Test(
        arguments: [
            ([1, 0], "1", "KeyError"), (["1", "0"], "tuple indices must be integers or slices, not str", "TypeError"),
            ([["1"], 0], "unhashable type: 'list'", "TypeError"), (["1", 7], "tuple index out of range", "IndexError"),
        ] as [(JSON, String, String)])
    func brokenLinksAreExceptions(_ link: JSON, _ details: String, _ type: String) async throws {
        try await withSimulator { server in
            let answer = try await server.post(
                "/prompt",
                [
                    "prompt": [
                        "1": ["class_type": "EmptyImage", "inputs": ["width": 8, "height": 8, "batch_size": 1, "color": 0]],
                        "2": ["class_type": "PreviewImage", "inputs": ["images": link]],
                    ]
                ])
            let error = answer.json["node_errors"]?["2"]?["errors"]?[0]
            #expect(error?["type"] == "exception_during_validation" && error?["details"]?.string == details)
            #expect(error?["extra_info"]?["exception_type"]?.string == type)
        }
    }

    @Test func longChoiceListsAreCounted() async throws {
        try await withSimulator { server in
            var graph = Graphs.textToImage().object ?? [:]
            var inputs = graph["3"]?["inputs"]?.object ?? [:]
            inputs["sampler_name"] = "magic"
            graph["3"] = ["class_type": "KSampler", "inputs": .object(inputs)]
            let error = try await server.post("/prompt", ["prompt": .object(graph)]).json["node_errors"]?["3"]?["errors"]?[0]
            #expect(error?["details"]?.string?.hasSuffix("not in (list of length 42)") == true)
            #expect(error?["extra_info"]?["input_config"] == .null)
        }
    }

    @Test func seedsAreComparedDigitByDigit() async throws {
        try await withSimulator { server in
            let tooLarge = Graphs.textToImage(seed: .number(JSONNumber(literal: "18446744073709551616")))
            let error = try await server.post("/prompt", ["prompt": tooLarge]).json["node_errors"]?["3"]?["errors"]?[0]
            #expect(error?["message"] == "Value 18446744073709551616 bigger than max of 18446744073709551615")
        }
    }

    @Test func coercedValuesAreShown() async throws {
        try await withSimulator { server in
            let id = try await server.submit([
                "1": [
                    "class_type": "EmptyImage",
                    "inputs": ["width": "8", "height": 8.9, "batch_size": true, "color": 0, "unknown": ["a": 1]],
                ],
                "2": ["class_type": "SaveImage", "inputs": ["images": ["1", 0], "filename_prefix": ["__value__": 5]]],
            ])
            var entry: JSON?
            while entry == nil { entry = try await server.history(id) }
            let graph = entry?["prompt"]?[2]
            #expect(graph?["1"]?["inputs"] == ["width": 8, "height": 8, "batch_size": 1, "color": 0, "unknown": ["a": 1]])
            #expect(graph?["2"]?["inputs"]?["filename_prefix"] == "5")
        }
    }

    @Test func aVeryDeepGraphDoesNotExhaustTheStack() async throws {
        try await withSimulator { server in
            var graph: JSONObject = ["0": ["class_type": "EmptyImage", "inputs": ["width": 8, "height": 8, "batch_size": 1, "color": 0]]]
            for index in 1...3000 { graph["\(index)"] = ["class_type": "ImageInvert", "inputs": ["image": [.string("\(index - 1)"), 0]]] }
            graph["last"] = ["class_type": "PreviewImage", "inputs": ["images": ["3000", 0]]]
            let answer = try await server.post("/prompt", ["prompt": .object(graph)])
            #expect(answer.status == 400 && answer.text.contains("RecursionError"))
        }
    }

    @Test(
        arguments: [
            ("INT", "8", "8"), ("INT", 8.9, "8"), ("INT", " -07 ", "-7"), ("INT", true, "1"), ("INT", "+0", "0"), ("INT", "1_000", "1000"),
            ("FLOAT", 7, "7.0"), ("FLOAT", "1e3", "1000.0"), ("FLOAT", 2.5, "2.5"), ("FLOAT", false, "0.0"), ("STRING", 5, "\"5\""),
            ("STRING", nil, "\"None\""), ("STRING", true, "\"True\""), ("STRING", ["a": ["b'", 1.5]], #""{'a': [\"b'\", 1.5]}""#),
            ("BOOLEAN", "", "false"), ("BOOLEAN", [:], "false"), ("BOOLEAN", 0.0, "false"), ("BOOLEAN", "false", "true"), ("IMAGE", 5, "5"),
        ] as [(String, JSON, String)])
    func valuesBecomeTheirType(_ type: String, _ value: JSON, _ expected: String) throws {
        #expect(try Coercion.coerce(value, to: type).text == expected)
    }

    @Test(
        arguments: [
            ("INT", "abc", "invalid literal for int() with base 10: 'abc'"),
            ("INT", "8.9", "invalid literal for int() with base 10: '8.9'"),
            ("INT", nil, "int() argument must be a string, a bytes-like object or a real number, not 'NoneType'"),
            ("FLOAT", "x", "could not convert string to float: 'x'"),
            ("FLOAT", [:], "float() argument must be a string or a real number, not 'dict'"),
            ("INT", .number(JSONNumber(literal: "1e999")), "cannot convert float infinity to integer"),
        ] as [(String, JSON, String)])
    func othersRaise(_ type: String, _ value: JSON, _ message: String) {
        let error = #expect(throws: PythonException.self) { try Coercion.coerce(value, to: type) }
        #expect(error?.message == message)
    }

    @Test(arguments: [
        ("1", "2", true), ("2", "1", false), ("-1", "1", true), ("-2", "-1", true), ("10", "9", false), ("1", "1", false),
        ("1.5", "2", true),
        ("18446744073709551615", "18446744073709551616", true), ("-10", "-9", true), ("0", "-0", false), ("NaN", "1", false),
    ])
    func numbersAreOrdered(_ left: String, _ right: String, _ isLess: Bool) {
        #expect(Coercion.isLess(.number(JSONNumber(literal: left)), .number(JSONNumber(literal: right))) == isLess)
    }
}
