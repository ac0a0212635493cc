import ComfyUI
import Foundation
import NIOHTTP1
import OrderedCollections
import OrderedJSON
import Simulator
import Testing

@testable import API
@testable import Jobs
@testable import TestSupport
@testable import Workers

/// Which results of a run a caller sees, and in which order.
@Suite(.timeLimit(.minutes(5))) struct OutputTests {
    /// Two pictures of different size, the larger one last in the graph; a graph of its own for each `seed`.
    private static func twoSaves(seed: Int, prefixes: [String] = ["a", "b"]) -> JSON {
        [
            "9": ["class_type": "SaveImage", "inputs": ["images": ["1", 0], "filename_prefix": .string(prefixes[0])]],
            "1": ["class_type": "EmptyImage", "inputs": ["width": 16, "height": 16, "batch_size": 2, "color": JSON(seed)]],
            "2": ["class_type": "SaveImage", "inputs": ["images": ["3", 0], "filename_prefix": .string(prefixes[1])]],
            "3": ["class_type": "SimDelay", "inputs": ["image": ["1", 0], "milliseconds": 1, "interruptible": true]],
        ]
    }

    private static func names(_ outputs: JSON?) -> [String] { outputs?.array?.compactMap { $0["name"]?.string } ?? [] }

    /// Where one of them comes from the cache and the other does not, ComfyUI tells of them in another order.
    @Test func theOrderIsThatOfTheGraphAlsoFromTheCache() async throws {
        try await withTemporaryFolder { folder in
            try await withSimulator { _, port in
                var ids: [String] = []
                let expected = [["a_00001_.png", "a_00002_.png", "b_00001_.png", "b_00002_.png"], ["c_00001_.png", "c_00002_.png", "b_00001_.png", "b_00002_.png"]]
                try await withBridge([port], ["--data-dir", folder]) { bridge in
                    for (prefixes, names) in zip([["a", "b"], ["c", "b"]], expected) {
                        let graph = Self.twoSaves(seed: 1, prefixes: prefixes)
                        let job = try await bridge.run(graph, query: "?outputs=base64").json
                        #expect(Self.names(job["outputs"]) == names)
                        let hasData = job["outputs"]?.array?.allSatisfy { $0["data_base64"]?.string != nil }
                        #expect(hasData == true)
                        let id = try #require(job["id"]?.string)
                        ids.append(id)
                        let shown = try await bridge.job(id)["outputs"]
                        #expect(Self.names(shown) == names)
                        // Again, now all of it from the cache, as bytes.
                        let bytes = try await bridge.run(graph, [("Accept", "image/png")])
                        #expect(bytes.headers.first(name: "Content-Disposition")?.contains(names[0]) == true)
                    }
                    let listed = try await bridge.get("/api/v2/jobs").json["jobs"]?.array?.filter { [ids] in $0["id"]?.string == ids[1] }
                    #expect(Self.names(listed?.first?["outputs"]) == expected[1])
                }
                // From the store, by the next bridge.
                try await withBridge([port], ["--data-dir", folder]) { bridge in
                    for (id, names) in zip(ids, expected) {
                        let shown = try await bridge.job(id)["outputs"]
                        #expect(Self.names(shown) == names)
                    }
                }
            }
        }
    }

    /// ComfyUI hands out no file in whose name two dots follow on each other, which an API-format `filename_prefix` can bring about.
    @Test func aNameThatComfyUIRefusesIsAskedForOnce() async throws {
        try await withBridge { bridge, simulator in
            simulator.faults.arm(.delayAnswer(milliseconds: 0), only: "HEAD /view")
            let graph: JSON = [
                "1": ["class_type": "EmptyImage", "inputs": ["width": 16, "height": 16, "batch_size": 1, "color": 3]],
                "2": ["class_type": "SaveImage", "inputs": ["images": ["1", 0], "filename_prefix": "%date:..%"]],
            ]
            let job = try await bridge.run(graph).json
            #expect(job["status"] == "succeeded")
            #expect(Self.names(job["outputs"]) == ["%date:..%_00001_.png"])
            #expect(simulator.statistics.faultsFired == [.delayAnswer: 1])
        }
    }

    @Test func placesSortAndOldOutputsStayAsTheyCame() {
        func output(_ name: String, _ place: Output.Place?) -> Output {
            Output(job: JobID(), node: "1", place: place, name: name, kind: .text, contentType: "text/plain", blob: Blob(text: name))
        }
        let outputs = [
            output("e", .init(node: 3, part: "", index: 0)), output("d", .init(node: 2, part: "5.0.0.10", index: 0)),
            output("c", .init(node: 2, part: "5.0.0.9", index: 1)), output("b", .init(node: 2, part: "5.0.0.9", index: 0)),
            output("a", .init(node: 0, part: "", index: 7)),
        ]
        #expect(outputs.inGraphOrder.map(\.name) == ["a", "b", "c", "d", "e"])
        #expect((outputs + [output("old", nil)]).inGraphOrder.map(\.name) == ["e", "d", "c", "b", "a", "old"])
    }

    /// ComfyUI 0.33 serves SVG as `application/octet-stream`.
    @Test("A drawing is a picture, whatever ComfyUI serves it as", arguments: [ComfySimulator.Compatibility.v0_33_0, .v0_25_0])
    func drawings(_ version: ComfySimulator.Compatibility) async throws {
        try await withBridge(simulator: { $0.compatibility = version }) { bridge, _ in
            let graph = Graph.output(["images": [["filename": "a.svg", "subfolder": "", "type": "output"]]])
            for accept in ["image/svg+xml", "image/*"] {
                let answer = try await bridge.run(graph, [("Accept", accept)])
                #expect(answer.status == 200 && answer.body.count == 10)
            }
            let output = try #require(try await bridge.run(graph).json["outputs"]?[0])
            #expect(output["content_type"] == "image/svg+xml" && output["type"] == "image")
        }
    }

    @Test("Files that a string names are outputs", arguments: [
        (#"{"result": ["3d/out_00001.glb", null, []]}"#, "out_00001.glb", "model/gltf-binary", false),
        (#"{"result": ["preview3d_advanced_ab12.glb", {"position": 1}, []]}"#, "preview3d_advanced_ab12.glb", "model/gltf-binary", true),
        (#"{"result": ["a.ply", null]}"#, "a.ply", "application/octet-stream", false),
    ])
    func paths(_ ui: String, _ name: String, _ type: String, _ isTemporary: Bool) async throws {
        try await withBridge { bridge, _ in
            let job = try await bridge.run(Graph.output(try JSON(parsing: ui), bytes: 321)).json
            let outputs = try #require(job["outputs"]?.array)
            #expect(outputs.count == 1 && outputs[0]["name"]?.string == name && outputs[0]["size_bytes"] == 321)
            #expect(outputs[0]["content_type"]?.string == type && outputs[0]["temporary"]?.bool == isTemporary)
            let list = try JSON(parsing: ui)["result"]
            #expect(job["other_outputs"]?["1"]?["result"] == list)
            let bytes = try await bridge.get(outputs[0]["url"]?.string ?? "")
            #expect(bytes.body.count == 321)
        }
    }

    @Test(arguments: [("a.svg", "application/octet-stream", "image/svg+xml"), ("a.SVG", nil, "image/svg+xml"), ("a.png", "image/x-odd", "image/x-odd"),
        ("a", nil, "application/octet-stream"), ("a.glb", "", "model/gltf-binary"), ("a.svg", "application/octet-stream; charset=binary", "image/svg+xml"),
    ] as [(String, String?, String)])
    func contentTypes(_ name: String, _ said: String?, _ expected: String) {
        #expect(ContentTypes.type(of: name, said: said) == expected)
    }
}
